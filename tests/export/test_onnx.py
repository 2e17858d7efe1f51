"""Exported files under ONNX Runtime alone, against the network under torch."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch.nn.functional import cross_entropy

from benchmarks.deploy.compress import measure
from ferlightning import Network, Recognizer, SyntheticFaces, load, weights
from ferlightning.contracts.modules import Stage, Tokens
from ferlightning.emotions import EMOTIONS
from ferlightning.errors import FerlError
from ferlightning.export.commands import export
from ferlightning.export.deployed import Deployed, Member
from ferlightning.export.int8 import quantise, training_inputs
from ferlightning.export.traced import check, write_onnx, write_torch
from ferlightning.parts import (
    CBAM,
    GRU,
    LSTM,
    TCN,
    ConvStack,
    CosineHead,
    DANHead,
    DenoisingAutoencoder,
    DepthwiseStack,
    DotProductAttention,
    LinearHead,
    Patches,
    ProjectionHead,
    ResNet,
    SelfAttention,
    SpatialTemporalAttention,
    SVMHead,
    Timm,
    TransformerEncoder,
)
from tests.conftest import NO_REPORT


def run(path: Path, *outputs: str, **inputs: np.ndarray) -> list[np.ndarray]:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(outputs, inputs)


def metadata(path: Path) -> dict:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return json.loads(session.get_modelmeta().custom_metadata_map["ferlightning"])


@torch.no_grad()
@pytest.mark.parametrize("n", [1, 5])
def test_the_shipped_file_gives_the_probabilities_of_the_network(n: int) -> None:
    path = weights.find_weights("ferl-small.onnx")
    pixels = np.random.default_rng(n).integers(0, 256, (n, 1, 48, 48), np.uint8)
    image = torch.from_numpy(pixels / np.float32(255))[:, None]
    eight, seven = run(path, "probabilities", "fer2013", image=pixels)
    for found, network in ((eight, load("ferl-small")), (seven, load("ferl-small", view="fer2013"))):
        np.testing.assert_allclose(found, network(image).logits.softmax(1).numpy(), atol=1e-5)


def test_the_shipped_file_says_how_to_use_it() -> None:
    path, network = weights.find_weights("ferl-small.onnx"), load("ferl-small")
    known = metadata(path)
    assert known["class_names"] == network.class_names
    assert known["views"] == {"fer2013": load("ferl-small", view="fer2013").class_names}
    assert known["input"] == {"margin": 0.0} | network.input | {"clips": False}
    assert path.stat().st_size + weights.find_weights("ferl-small").stat().st_size < 4e6


def drawn(b: int, t: int) -> np.ndarray:
    """Clips of black and white squares, uint8 (b, t, 1, 24, 24)."""
    return np.random.default_rng(b).integers(0, 2, (b, t, 1, 4, 4), np.uint8).repeat(6, 3).repeat(6, 4) * np.uint8(250)


def small(**parts: Any) -> Network:
    """A network that has learned to tell a few clips apart, so that its probabilities differ."""
    torch.manual_seed(0)
    parts = {"backbone": partial(ConvStack, channels=(8, 16), depth=1), "head": LinearHead} | parts
    network = Network(["anger", "fear", "sadness"], **parts).train()
    images = torch.from_numpy(drawn(16, 4) / np.float32(255))
    optimizer = torch.optim.AdamW(network.parameters(), 0.01)
    for _ in range(20):
        loss = cross_entropy(network(images).logits, torch.arange(16) % 3, label_smoothing=0.2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


@torch.no_grad()
def test_torch_alone_runs_its_own_file(tmp_path: Path) -> None:
    export("ferl-small", str(tmp_path / "small"), format="torch")  # which gets the ending
    code = """
import sys, json, torch
extra = {"ferlightning": ""}
program = torch.export.load("small.pt2", extra_files=extra).module()
torch.save((json.loads(extra["ferlightning"])["class_names"], program(torch.load("images.pt"))), "found.pt")
assert "ferlightning" not in sys.modules
"""
    images = torch.from_numpy(drawn(5, 1)[:, 0].repeat(2, 2).repeat(2, 3))
    torch.save(images, tmp_path / "images.pt")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    names, (eight, _) = torch.load(tmp_path / "found.pt")
    network = load("ferl-small")
    assert names == network.class_names
    torch.testing.assert_close(eight, network(images[:, None] / 255).logits.softmax(1), atol=1e-5, rtol=0)


@torch.no_grad()
def same(network: Network, path: Path, clips: bool, b: int, t: int) -> np.ndarray:
    """Requires that a new file gives what the network does, of clips each one alone; gives the probabilities."""
    draw = np.random.default_rng(b)
    pixels = drawn(b, t)
    lengths = np.r_[t, draw.integers(1, t + 1, b - 1)] if clips else [1] * b
    inputs = {"image": pixels if clips else pixels[:, 0]}
    if clips:
        inputs["mask"] = np.arange(t) < np.array(lengths)[:, None]
    (found,) = run(path, "probabilities", **inputs)
    images = torch.from_numpy(pixels / np.float32(255))
    expected = [network(images[i : i + 1, :n]).logits.softmax(1) for i, n in enumerate(lengths)]
    np.testing.assert_allclose(found, torch.cat(expected).numpy(), atol=1e-5)
    return found


PARTS: dict[str, dict[str, Any]] = {
    "LSTM": {"sequence": partial(LSTM, hidden=8, layers=2), "attention": SpatialTemporalAttention},
    "GRU": {"sequence": partial(GRU, hidden=8, bidirectional=False), "attention": DotProductAttention},
    "frames": {"frame_tokens": True, "sequence": partial(TransformerEncoder, hidden=16), "normalise_each": True},
    "attention": {"sequence": SelfAttention, "head": ProjectionHead},
    "convolution": {"sequence": partial(TCN, hidden=8), "head": CosineHead},
    "DAN": {"backbone": partial(ResNet, channels=(8, 16), blocks=(1, 1), recalibration=CBAM), "head": DANHead},
    "restored": {"restorer": DenoisingAutoencoder, "backbone": partial(DepthwiseStack, channels=(8, 16))},
    "patches": {"backbone": Patches, "head": SVMHead},
    "timm": {"backbone": partial(Timm, name="resnet18")},
}


@pytest.mark.parametrize(
    ("name", "clips"),
    [("LSTM", True), ("GRU", False)]
    + [
        pytest.param(name, clips, marks=pytest.mark.slow)
        for name in PARTS
        for clips in (False, True)
        if (name, clips) not in (("LSTM", True), ("GRU", False))
    ],
)
def test_every_part_exports_with_any_batch_and_length(name: str, clips: bool, tmp_path: Path) -> None:
    network, path = small(**PARTS[name]), tmp_path / "a.onnx"
    write_onnx(Deployed([Member(network, {})], clips).eval(), {"input": {"size": [24, 24], "channels": 1}}, path)
    found = [same(network, path, clips, *shape) for shape in ((1, 1), (6, 5), (3, 8))]
    assert np.concatenate(found).std(0).max() > 1e-3, "images that look alike show nothing"


class _Fixes(Stage):
    def __init__(self, in_features: int) -> None:
        super().__init__()
        self.out_features = in_features

    def forward(self, tokens: Tokens) -> Tokens:
        return tokens._replace(x=tokens.x / len(tokens.x))


class _Branches(_Fixes):
    def forward(self, tokens: Tokens) -> Tokens:
        return tokens if tokens.x.sum() > 0 else tokens._replace(x=-tokens.x)


class _Draws(_Fixes):
    def forward(self, tokens: Tokens) -> Tokens:
        return tokens._replace(x=tokens.x + torch.randn_like(tokens.x))


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (_Fixes, r"batch is taken for a constant, perhaps in model.sequence. Use x.shape\[0\], not len\(x\)"),
        (_Branches, r"model.sequence \(_Branches\) cannot be exported to ONNX: Could not guard on data-dependent"),
        (_Draws, r"differs from torch's by 0\.\d+ on a batch of 1 images"),
    ],
)
def test_a_part_that_cannot_be_exported_is_named_and_leaves_no_file(
    stage: type[Stage], message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = Deployed([Member(small(sequence=stage), {})]).eval()
    with pytest.raises(FerlError, match=message):
        write_onnx(model, {"input": {"size": [24, 24], "channels": 1}}, tmp_path / "a.onnx")
    assert not [*tmp_path.iterdir()] and not "".join(capfd.readouterr())


def test_an_lstm_over_clips_goes_to_onnx_and_its_stills_to_torch_as_well(tmp_path: Path) -> None:
    network, known = small(sequence=partial(LSTM, hidden=8)), {"input": {"size": [24, 24], "channels": 1}}
    with pytest.raises(
        FerlError, match=r"LSTM over clips of any length cannot be exported to torch.*ONNX.*clips=false"
    ):
        write_torch(Deployed([Member(network, {})], clips=True).eval(), known, tmp_path / "a.pt2")
    assert not [*tmp_path.iterdir()]
    write_torch(Deployed([Member(network, {})]).eval(), known, tmp_path / "a.pt2")


def test_rounding_is_no_difference_but_a_ten_thousandth_is() -> None:
    model = Deployed([Member(small(), {})]).eval()
    known = {"input": {"size": [24, 24], "channels": 1}}

    def off_by(gap: float) -> Callable[[dict[str, Any]], list[np.ndarray]]:
        return lambda inputs: [x.numpy() + np.float32(gap) for x in model(*inputs.values())]

    with torch.no_grad():
        assert check(off_by(5e-5), model, known).gap == pytest.approx(5e-5, rel=0.01)
        with pytest.raises(FerlError, match="differs from torch's by 0.0002 on a batch of 1 images"):
            check(off_by(2e-4), model, known)


DATA = ["--data=SyntheticFaces", "--data.size=24", "--data.items_per_class=8"]
TRAINING = ["--trainer.max_steps=1", "--trainer.default_root_dir=run", *NO_REPORT]


@pytest.mark.parametrize("word", ["int8", "fp16"])
def test_a_precision_given_as_the_format_names_its_option(word: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ferlightning", "export", "ferl-nano", "nano.onnx", f"--format={word}"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert said.returncode == 2
    assert f"{word} is an option: --{word}" in said.stderr
    assert not [*tmp_path.iterdir()]


def test_the_command_exports_what_was_trained(ferl: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    model = ["--model.backbone.channels=[4,8]", "--model.sequence=GRU", "--model.frame_tokens=true"]
    ferl("fit", *DATA, "--data.frames=[2,4]", *model, *TRAINING)
    ferl("export", "run")
    path = Path("run/checkpoints/best.onnx")
    known = metadata(path)
    assert known["input"]["clips"] and known["class_names"] == load("run").class_names
    expected = same(load("run"), path, True, 3, 6)

    ferl("export", "run", "--fp16")  # beside the one in single precision
    ferl("export", "run", "half.safetensors", "--fp16", "--format=safetensors")
    whole, half = (load(file).state_dict() for file in ("run", "half.safetensors"))
    for name, x in whole.items():
        torch.testing.assert_close(half[name], x, rtol=2**-11, atol=2**-25)
    found = same(load("half.safetensors"), Path("run/checkpoints/best-fp16.onnx"), True, 3, 6)
    assert 0 < np.abs(found - expected).max() < 0.01
    assert Path("half.safetensors").stat().st_size < 0.7 * Path("run/checkpoints/best.safetensors").stat().st_size
    capsys.readouterr()
    ferl("export", "half.safetensors", "--fp16", "again.onnx")
    assert re.search("^again.onnx: .*its weights were in half precision already", capsys.readouterr().out)
    ferl("export", "--trust", "--format", "safetensors", "half.safetensors", "again.safetensors")
    assert Path("again.safetensors").is_file()


def test_an_export_with_changed_weights_is_refused(tmp_path: Path) -> None:
    export("ferl-nano", str(tmp_path / "mine.onnx"))
    file = bytearray((tmp_path / "mine.onnx").read_bytes())
    face = np.zeros((48, 48), np.uint8)
    assert Recognizer(tmp_path / "mine.onnx", detector="none")(face)
    middle = len(file) // 2  # among the weights: ONNX Runtime itself takes them as they are
    file[middle : middle + 4000] = bytes(4000)
    (tmp_path / "mine.onnx").write_bytes(file)
    onnxruntime.InferenceSession(tmp_path / "mine.onnx", providers=["CPUExecutionProvider"])
    with pytest.raises(FerlError, match=r"mine.onnx is damaged: its checksum is another one. Copy it again"):
        Recognizer(tmp_path / "mine.onnx", detector="none")


@pytest.mark.slow
@pytest.mark.parametrize("clips", [False, True])
def test_int8_keeps_the_probabilities(
    clips: bool, ferl: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*DATA, "--data.frames=[2,4]"] if clips else DATA
    ferl("fit", *words, "--model.backbone.channels=[16,32]", *TRAINING)
    ferl("export", "run", "small.onnx", "--int8")
    said = capsys.readouterr().out
    assert "Training images: those of the run, SyntheticFaces\n" in said
    ferl("export", "run", "given.onnx", "--int8", *words)
    assert Path("given.onnx").read_bytes() == Path("small.onnx").read_bytes()
    assert "those of the run" not in capsys.readouterr().out
    ferl("export", "run", "whole.onnx")
    inputs = {"image": drawn(20, 3)} | ({"mask": np.ones((20, 3), bool)} if clips else {})
    if not clips:
        inputs["image"] = inputs["image"][:, 0]
    (found,), (expected,) = (run(Path(file), "probabilities", **inputs) for file in ("small.onnx", "whole.onnx"))
    assert np.abs(found - expected).mean() < 0.01 and np.abs(found - expected).max() > 0
    kinds = [node.op_type for node in onnx.load("small.onnx").graph.node]
    assert kinds.count("Conv") == 4 and kinds.count("QuantizeLinear") > 3
    assert metadata(Path("small.onnx")) == metadata(Path("whole.onnx")) | {"int8": True}
    assert re.search(r"is \d+\.\d\d times as fast at batch 1, \d+\.\d\d at 64", said)


def test_int8_leaves_masks_and_what_reads_the_image_in_floats(tmp_path: Path) -> None:
    """An attention's mask adds minus infinity to what it hides, which no range of integers holds."""
    parts = {"frame_tokens": True, "sequence": partial(TransformerEncoder, hidden=16)}
    members = [Member(small(**parts), {}), Member(small(**parts, normalise_each=True), {})]
    mask = np.arange(4) < np.arange(1, 5).repeat(4)[:, None]
    inputs = {"image": drawn(16, 4), "mask": mask}
    write_onnx(Deployed(members, clips=True).eval(), {"input": {"size": [24, 24], "channels": 1}}, tmp_path / "a.onnx")
    quantise(tmp_path / "a.onnx", tmp_path / "b.onnx", [inputs])
    (expected,), (found,) = (run(tmp_path / name, "probabilities", **inputs) for name in ("a.onnx", "b.onnx"))
    assert expected.std(0).max() > 0.01
    np.testing.assert_allclose(found, expected, atol=0.02)
    nodes = onnx.load(tmp_path / "b.onnx").graph.node
    made_by = {output: node.op_type for node in nodes for output in node.output}
    reads = [made_by[node.input[0]] == "DequantizeLinear" for node in nodes if node.op_type == "Conv"]
    assert sorted(reads) == [False, False, True, True], "two members, of which each has a first convolution"


@pytest.mark.parametrize("used", [False, True], ids=["new", "used before"])
def test_int8_sees_training_images_and_leaves_the_data_as_they_are(used: bool) -> None:
    faces = SyntheticFaces(items_per_class=10, size=24)
    if used:
        assert len(faces.items["test"])
    batches = training_inputs(faces, {"channels": 1, "size": [24, 24], "clips": False})
    seen = {image.tobytes() for batch in batches for image in batch["image"]}
    train, test = (set(map(bytes, faces.store.images[faces.items[split]])) for split in ("train", "test"))
    assert seen == train and not seen & test


def test_int8_builds_no_data_of_a_stranger(ferl: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    ferl("fit", *DATA, *TRAINING)
    config = Path("run/config.yaml")
    config.write_text(
        re.sub(r"(?m)^  class_path: ferlightning.SyntheticFaces$", "  class_path: evil.Faces", config.read_text())
    )
    Path("evil.py").write_text("open('ran', 'w')")
    with pytest.raises(SystemExit):
        ferl("export", "run", "--int8")
    assert "data names evil.Faces, which is no part of ferlightning" in capsys.readouterr().err
    assert not Path("ran").exists()


def test_int8_needs_the_training_data(ferl: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        ferl("export", "ferl-small", "a.onnx", "--int8")
    assert "int8 needs the images that the network was trained on" in capsys.readouterr().err


def test_what_is_read_is_not_replaced_nor_is_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes(weights.find_weights("ferl-small").read_bytes())
    before = path.read_bytes()
    for out, message in ((path, "is read, and would be replaced"), (tmp_path, "is a folder or device")):
        with pytest.raises(FerlError, match=message):
            export(str(path), str(out))
    with pytest.raises(FerlError, match="whose names end in .onnx"):
        export(str(path), str(tmp_path / "other.safetensors"))
    assert [*tmp_path.iterdir()] == [path] and path.read_bytes() == before
    (tmp_path / "small.pt2.md").write_text("my notes")
    with pytest.raises(FerlError, match="is no model card of an export"):
        export(str(path), str(tmp_path / "small"), "torch")
    (tmp_path / "small.pt2.md").unlink()
    export(str(path), str(tmp_path / "small"), "torch")
    export(str(path), str(tmp_path / "small"))  # whose card is another one
    for file, use in (("small.pt2", 'torch.export.load("small.pt2")'), ("small.onnx", "--model=small.onnx")):
        card = (tmp_path / f"{file}.md").read_text()
        assert (tmp_path / file).is_file() and use in card and str(tmp_path.parent) not in card


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_network_without_numbers_is_told_as_such(mirrored: bool) -> None:
    network = small()
    network.head.classify.weight.data[0, 0] = float("nan")
    model = Deployed([Member(network, {})], mirror=mirrored).eval()
    with pytest.raises(FerlError, match=r"gives no numbers \(NaN\).*choose another checkpoint"):
        check(
            lambda inputs: [x.detach().numpy() for x in model(*inputs.values())],
            model,
            {"input": {"size": [24, 24], "channels": 1}},
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mirror": True, "format": "safetensors"}, "mirror: it changes nothing of a safetensors file"),
        ({"clips": False, "format": "safetensors"}, "clips: it changes nothing of a safetensors file"),
        ({"fp16": True, "format": "torch"}, "fp16: it changes nothing of a torch file"),
        ({"data": SyntheticFaces()}, "data: it changes nothing but --int8"),
        ({"ort_dir": "here"}, "ort_dir: it changes nothing but a page"),
        ({"detector": "none"}, "detector: it changes nothing but a page"),
        ({"model": []}, "name a run folder, a checkpoint or shipped weights"),
        ({"model": "mine.pt2", "format": "web"}, "mine.pt2 is an export already"),
        ({"prune": -0.1, "format": "web"}, "expected the share"),
    ],
)
def test_an_option_without_effect_is_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(FerlError, match=message):
        export(**{"model": "ferl-nano", "out": str(tmp_path / "a")} | options)
    assert not [*tmp_path.iterdir()]


def test_a_file_for_torch_is_no_model_of_the_recogniser(tmp_path: Path) -> None:
    (tmp_path / "a.pt2").write_bytes(b"PK")
    with pytest.raises(
        FerlError, match=r"a.pt2 is an export for torch alone: export its run folder or checkpoint to .onnx"
    ):
        Recognizer(tmp_path / "a.pt2")


@pytest.mark.parametrize(
    "change", [{"class_names": EMOTIONS[::-1]}, {"input": {"clips": True}}, {"input": {"size": [24, 24]}}]
)
def test_files_are_compared_on_the_classes_and_images_that_they_are_for(change: dict[str, Any], tmp_path: Path) -> None:
    known = metadata(weights.find_weights("ferl-nano.onnx"))
    known |= {name: known[name] | new if isinstance(new, dict) else new for name, new in change.items()}
    network = Network(known["class_names"], partial(ConvStack, channels=(8,), depth=1), LinearHead).eval()
    views = {"fer2013": torch.nn.Linear(8, 7)}
    write_onnx(Deployed([Member(network, views)], known["input"]["clips"]).eval(), known, tmp_path / "a.onnx")
    with pytest.raises(FerlError, match="a.onnx is not for grey stills of 48 x 48 pixels and as"):
        measure([tmp_path / "a.onnx"])
    with pytest.raises(FerlError, match="FER2013: where is it"):  # nothing is wrong with this one
        measure([weights.find_weights("ferl-nano.onnx")])

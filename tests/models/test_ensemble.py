"""Ensembles by the command line: the mean of the members' own predictions, and what is refused."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from ferlightning import Recognizer, load
from ferlightning.cli.main import main
from ferlightning.errors import FerlError
from ferlightning.models.ensemble import Ensemble
from tests.conftest import NO_REPORT, SMALL, write_fer2013

Ferl = Callable[..., Path]
CLASSES = ["happiness", "sadness", "surprise"]
TURNED = ["surprise", "happiness", "sadness"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Six test images of each class, which are the same in any order of classes."""
    path = write_fer2013(tmp_path_factory.mktemp("data") / "fer2013.csv", rows_per_class=6)
    return ["--data=FER2013", f"--data.root={path}", "--data.batch_size=8"]


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory, data: list[str]) -> list[Path]:
    """Checkpoints of two models of different make and another order of classes."""
    root, makes = tmp_path_factory.mktemp("members"), {
        "one": [f"--data.classes={CLASSES}", "--model.attention=AdditiveAttention"],
        "two": [f"--data.classes={TURNED}", "--model.sequence=LSTM", "--model.sequence.hidden=8"],
    }  # fmt: skip
    for seed, (name, words) in enumerate(makes.items()):
        rate = ["--model.optimizer=torch.optim.AdamW", "--model.optimizer.lr=0.03"]  # far from 1 / 3 for each class
        where = [f"--trainer.default_root_dir={root / name}", f"--seed_everything={seed}"]
        main(["fit", *data, *SMALL, *NO_REPORT, *words, *rate, *where, "--trainer.max_epochs=2"])
    return [root / name / "checkpoints" / "best.ckpt" for name in makes]


def ensemble(*checkpoints: Path) -> list[str]:
    return ["--model=Ensemble", f"--model.checkpoints=[{','.join(map(str, checkpoints))}]"]


def probabilities(path: Path) -> dict[str, np.ndarray]:
    """Name of an item to its probabilities, in the order of ``CLASSES``."""
    with path.open(newline="") as file:
        return {row["name"]: np.array([float(row[f"p_{k}"]) for k in CLASSES]) for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def alone(members: list[Path]) -> list[dict[str, np.ndarray]]:
    """What each member says of the test images."""
    for checkpoint in members:
        main(["predict", f"--ckpt_path={checkpoint}"])
    return [probabilities(checkpoint.parents[1] / "predictions.csv") for checkpoint in members]


def test_predictions_are_the_mean_of_the_members(members, alone, data, ferl: Ferl) -> None:
    """In the order of classes of the first member, or in another; from any file of a member, or its folder."""
    run = ferl("test", *data, *ensemble(members[0].with_suffix(".safetensors"), members[1].parents[1]))
    together = probabilities(run / "report" / "predictions.csv")
    assert len(together) == 18
    ferl("predict", *data, f"--data.classes={TURNED}", *ensemble(*members), "--trainer.default_root_dir=turned")
    for case in (together, probabilities(Path("turned/predictions.csv"))):
        assert case.keys() == alone[0].keys() == alone[1].keys()
        for name, found in case.items():
            np.testing.assert_allclose(found, (alone[0][name] + alone[1][name]) / 2, atol=2e-6)
    apart = [np.abs(alone[0][name] - alone[1][name]).max() for name in together]
    assert np.median(apart) > 0.01, "members so alike show nothing"


def test_the_report_names_the_members(members, data, ferl: Ferl) -> None:
    run = ferl("validate", *data, *ensemble(*members))
    report = json.loads((run / "report_val" / "metrics.json").read_text())
    (note,) = [note for note in report["notes"] if "nsemble" in note]
    assert "mean of the probabilities of 2" in note
    assert str(members[0]) in note and str(members[1]) in note
    states = [torch.load(path, weights_only=True)["state_dict"] for path in members]
    # Of these models all buffers are normalisation: mean, std, and the running moments of batch norm.
    counted = sum(
        x.numel()
        for state in states
        for name, x in state.items()
        if name not in ("network.mean", "network.std") and "running_" not in name and "num_batches" not in name
    )
    assert report["provenance"]["parameters"] == counted
    assert report["provenance"]["multiply_adds"] > 0


def test_the_configuration_of_a_member_serves_as_that_of_the_data(members, alone, ferl: Ferl) -> None:
    config = members[0].parents[1] / "config.yaml"
    ferl("predict", f"--config={config}", *ensemble(members[0]), "--trainer.default_root_dir=mine")
    for name, found in probabilities(Path("mine/predictions.csv")).items():
        np.testing.assert_allclose(found, alone[0][name], atol=2e-6)


def test_an_ensemble_is_exported_as_one_network(members, data, ferl: Ferl) -> None:
    """A file that load, test with mirror images, and ONNX Runtime take as they take any other."""
    twin = torch.load(members[0], weights_only=True)
    for name, x in twin["state_dict"].items():
        x.mul_(0.5 if name.startswith("network.head") else 1)
    torch.save(twin, "twin.ckpt")
    both = [str(members[0]), "twin.ckpt"]
    ferl("export", f"[{','.join(both)}]", "one.safetensors", "--format=safetensors")
    network, images = load("one.safetensors"), torch.rand(3, 1, 1, 48, 48)
    one, other = (load(path)(images).logits.softmax(1) for path in both)
    torch.testing.assert_close(network(images).logits.softmax(1), (one + other) / 2)

    ferl("predict", *data, "--ckpt_path=one.safetensors", "--model.mirror=true", "--trainer.default_root_dir=1")
    ferl("predict", *data, *ensemble(*map(Path, both)), "--model.mirror=true", "--trainer.default_root_dir=2")
    found, expected = (probabilities(Path(folder, "predictions.csv")) for folder in "12")
    assert len(found) == 18
    for name in found:
        np.testing.assert_allclose(found[name], expected[name], atol=2e-6)

    ferl("export", "one.safetensors", "one.onnx", "--mirror=true")
    pixels = (images * 255).byte()
    mirrored = (network(x / 255).logits.softmax(1) for x in (pixels, pixels.flip(-1)))
    session = onnxruntime.InferenceSession("one.onnx", providers=["CPUExecutionProvider"])
    (made,) = session.run(None, {"image": pixels[:, 0].numpy()})
    np.testing.assert_allclose(made, (sum(mirrored) / 2).detach().numpy(), atol=1e-5)


def test_the_weights_that_ship_are_exported_as_one_network(ferl: Ferl) -> None:
    """Of which one was written before headers told of clips."""
    ferl("export", "[ferl-small,ferl-nano]", "one.onnx")
    faces = np.random.default_rng(0).integers(0, 256, (5, 48, 48), np.uint8)
    for view in (None, "fer2013"):
        one, small, nano = (
            Recognizer(model, view=view, detector="none").predict(faces).probabilities
            for model in ("one.onnx", "ferl-small", "ferl-nano")
        )
        np.testing.assert_allclose(one, (small + nano) / 2, atol=1e-5)


def test_members_of_other_classes_are_not_one_network(members, ferl: Ferl, capsys) -> None:
    with pytest.raises(SystemExit):
        ferl("export", f"[{members[0]},{members[1]}]", "one.onnx")
    assert "cannot be one network: they differ in their classes" in capsys.readouterr().err
    assert not Path("one.onnx").exists()


@torch.no_grad()
def test_the_mean_does_not_round_to_zero(members) -> None:
    """Every member is certain: the probabilities of other classes are too small for float32, their logarithms not."""
    model = Ensemble(CLASSES, [str(path) for path in members]).eval()
    for member in model.network.members:
        linear = member.head.classify
        linear.weight.zero_()
        linear.bias.copy_(torch.tensor([200.0 * (name == "happiness") for name in member.class_names]))
    logits = model(torch.rand(2, 1, 1, 48, 48)).logits
    torch.testing.assert_close(logits, torch.tensor([[0.0, -200.0, -200.0]]).expand(2, 3))


def test_members_of_other_images_are_refused(members, tmp_path: Path) -> None:
    other = torch.load(members[1], weights_only=True)
    other["ferlightning"]["input"]["size"] = [64, 64]
    torch.save(other, tmp_path / "other.ckpt")
    with pytest.raises(FerlError, match=r"other\.ckpt was trained on images of size \[64, 64\], .* of \[48, 48\]"):
        Ensemble(CLASSES, [str(members[0]), str(tmp_path / "other.ckpt")])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["test", "--model=Ensemble"], ["model.checkpoints", "members"]),
        (["test", *ensemble(Path("no.ckpt"))], ["no.ckpt"]),
        (["test", "MEMBERS", "--data.classes=[happy,sad]"], ["happiness, sadness, surprise apart", "--data.classes="]),
        (["fit", "MEMBERS"], ["Ensemble", "fit those"]),
    ],
    ids=["none", "no file", "other classes", "fit"],
)
def test_a_mistake_is_answered_in_words(words, expected, members, data, ferl: Ferl, capsys) -> None:
    capsys.readouterr()
    full = [word for given in words for word in (ensemble(*members) if given == "MEMBERS" else [given])]
    with pytest.raises(SystemExit) as stop:
        ferl(*full, *data)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    for part in expected:
        assert part in error[error.index("ferl: error:") :]
    assert not Path("runs").exists(), "nothing is left behind"

"""Checkpoints carry themselves: from one file the network comes back, and nothing else is needed or run."""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from safetensors import safe_open

import ferlightning
from ferlightning.checkpoint import HEADER, load, read_checkpoint, read_state
from ferlightning.cli.main import main
from ferlightning.data import SyntheticFaces
from ferlightning.described import describe, rebuild
from ferlightning.errors import FerlError
from ferlightning.models.classifier import Classifier
from ferlightning.models.network import Network
from ferlightning.parts import LDA, LSTM, ConvStack, DenoisingAutoencoder, ProjectionHead
from ferlightning.parts.degradation import Degradation
from tests.conftest import NO_REPORT, SMALL, TINY

Ferl = Callable[..., Path]
ONE_EPOCH = [*TINY, *SMALL, "--trainer.max_epochs=1"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small run, to be left as it is."""
    folder = tmp_path_factory.mktemp("run") / "run"
    main(["fit", *ONE_EPOCH, "--model.attention=AdditiveAttention", f"--trainer.default_root_dir={folder}"])
    return folder


def scores(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "report" / "metrics.json").read_text())["metrics"]
    return found


@pytest.fixture(scope="module")
def tested(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a test of its best checkpoint says."""
    folder = tmp_path_factory.mktemp("tested")
    main(["test", f"--ckpt_path={best(trained)}", f"--trainer.default_root_dir={folder}"])
    return scores(folder)


def best(run: Path) -> Path:
    return run / "checkpoints" / "best.ckpt"


def predicted(folder: Path) -> np.ndarray:
    """Probabilities of ``ferl predict``, (N, K)."""
    rows = list(csv.DictReader((folder / "predictions.csv").open()))
    return np.array([[float(value) for name, value in row.items() if name.startswith("p_")] for row in rows])


def own(source: Path, **data: object) -> np.ndarray:
    """Probabilities of the rebuilt network on the test items, (N, K)."""
    module = SyntheticFaces(items_per_class=10, subjects=5, batch_size=16, **data)
    network, parts = load(source), []
    with torch.inference_mode():
        for batch in module.test_dataloader():
            parts.append(network(batch["image"].float() / 255, batch.get("mask")).logits.softmax(1))
    return torch.cat(parts).numpy()


def test_a_network_from_any_of_its_files_predicts_what_the_command_predicts(trained: Path, ferl: Ferl) -> None:
    ferl("predict", f"--ckpt_path={best(trained)}", "--trainer.default_root_dir=out", "--trainer.precision=32-true")
    for source in (trained, best(trained), best(trained).with_suffix(".safetensors")):
        np.testing.assert_allclose(own(source), predicted(Path("out")), atol=1e-5)
    network = load(trained)
    assert isinstance(network, Network) and not network.training
    assert network.input["size"] == [48, 48] and network.input["channels"] == 1


@pytest.mark.slow
def test_it_predicts_what_the_command_predicts_of_clips(ferl: Ferl) -> None:
    run = ferl("fit", *ONE_EPOCH, "--data.frames=[2,5]", "--model.sequence=GRU", "--model.sequence.hidden=8")
    ferl("predict", f"--ckpt_path={best(run)}", "--trainer.precision=32-true")
    np.testing.assert_allclose(own(run, frames=[2, 5]), predicted(run), atol=1e-5)


def test_a_moved_checkpoint_serves_every_command(
    trained: Path, tested: dict[str, Any], ferl: Ferl, tmp_path: Path
) -> None:
    """Without its run folder, and for ``predict`` without the data: both were left on another machine."""
    moved = tmp_path / "alone.ckpt"
    shutil.copy(best(trained), moved)
    ferl("test", f"--ckpt_path={moved}", "--trainer.default_root_dir=moved")
    assert scores(Path("moved")) == tested
    ferl("test", "--model=Ensemble", f"--model.checkpoints=[{moved}]", *TINY, "--trainer.default_root_dir=ensemble")
    assert scores(Path("ensemble"))["accuracy"] == tested["accuracy"]
    teacher = ["--model.losses+=Distillation", f"--model.losses.teacher={moved}"]
    words = ["--model.attention=AdditiveAttention", f"--model.init_from={moved}", *teacher, "--trainer.fast_dev_run=1"]
    ferl("fit", *ONE_EPOCH, *words)


def test_what_serves_training_alone_is_not_needed(ferl: Ferl) -> None:
    """Losses with buffers, learning rates, a starting point and a schedule."""
    first = ferl("fit", *ONE_EPOCH, *NO_REPORT)
    words = [
        "--model.losses+=CenterLoss", f"--model.init_from={best(first)}", "--model.lr_scale={backbone.layers.0: 0}",
        "--model.scheduler=torch.optim.lr_scheduler.StepLR", "--model.scheduler.step_size=1",
    ]  # fmt: skip
    run = ferl("fit", *ONE_EPOCH, *NO_REPORT, *words)
    shutil.rmtree(first)
    ferl("test", f"--ckpt_path={best(run)}")  # needs no starting point either
    assert all(parameter.requires_grad for parameter in load(run).parameters())


def test_the_safetensors_file_has_the_weights_and_the_header(trained: Path) -> None:
    stored = torch.load(best(trained), weights_only=True)
    with safe_open(best(trained).with_suffix(".safetensors"), framework="pt") as file:
        header = json.loads(file.metadata()[HEADER])
        assert {f"network.{name}" for name in file.keys()} <= set(stored["state_dict"])  # noqa: SIM118
        assert all(stored["state_dict"][f"network.{name}"].equal(file.get_tensor(name)) for name in file.keys())  # noqa: SIM118
    assert header["format"] == 1 and header["version"] == ferlightning.__version__
    assert header["network"] == stored[HEADER]["network"]


def test_a_run_goes_on_with_its_own_random_numbers(trained: Path) -> None:
    state = torch.get_rng_state()
    load(trained)
    assert torch.get_rng_state().equal(state)


def test_a_model_built_in_python_is_saved_and_comes_back(tmp_path: Path, ferl: Ferl) -> None:
    """What a notebook does, without YAML; the checkpoint of that training is as good as any other."""
    data = ferlightning.SyntheticFaces(items_per_class=10, subjects=5, batch_size=16)
    model = ferlightning.Classifier(
        data.class_names, data.class_counts, data.pixel_mean, data.pixel_std,
        backbone=partial(ConvStack, channels=(8, 8), depth=1),
        sequence=partial(LSTM, hidden=8),
        head=partial(ProjectionHead, projection=partial(LDA, shrinkage=0.2)),
    )  # fmt: skip
    trainer = Trainer(max_epochs=1, accelerator="cpu", default_root_dir=tmp_path, logger=False)
    trainer.fit(model, data)
    path = next(tmp_path.rglob("*.ckpt"))

    network, again = ferlightning.load(path), Classifier.load_from_checkpoint(path)
    image = torch.rand(2, 1, 1, 48, 48)
    expected = model.eval()(image).logits
    assert network(image).logits.equal(expected) and again.eval()(image).logits.equal(expected)
    assert network.head.projection.shrinkage == 0.2
    ferl("test", f"--ckpt_path={path}", *TINY, "--trainer.default_root_dir=tested")
    assert Path("tested/report/metrics.json").is_file()


def test_options_become_plain_values_and_come_back() -> None:
    degradation = Degradation(p=0.25, quality=30)
    options = {
        "restorer": partial(DenoisingAutoencoder, width=4, corruption=degradation),
        "names": ("a", "b"),
        "n": None,
    }
    plain = describe(options)
    assert json.loads(json.dumps(plain)) == plain
    again = rebuild(plain)
    assert again["restorer"]().corruption == degradation and again["names"] == ["a", "b"] and again["n"] is None
    with pytest.raises(FerlError, match=r"functools\.partial of a class"):
        describe(lambda channels: ConvStack(channels))


# --- what is refused --------------------------------------------------------------------------------------------------


def test_a_file_that_is_no_checkpoint_is_told(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(FerlError, match=r"there is no checkpoint .*other\.ckpt"):
        load(tmp_path / "other.ckpt")
    whole, damaged = best(trained).read_bytes(), tmp_path / "damaged.ckpt"
    for content in (whole[: len(whole) // 2], b"", b"no checkpoint"):
        damaged.write_bytes(content)
        with pytest.raises(FerlError, match=r"damaged\.ckpt is no checkpoint"):
            load(damaged)
    torch.save({"state_dict": {}}, damaged)
    with pytest.raises(FerlError, match=r"damaged\.ckpt does not say how its network was built"):
        load(damaged)
    torch.save({"conv.weight": torch.zeros(3)}, damaged)
    with pytest.raises(FerlError, match="no state_dict. Weights alone are given by --model.init_from"):
        load(damaged)
    (tmp_path / "x.safetensors").write_bytes(b"no tensors")
    with pytest.raises(FerlError, match=r"x\.safetensors is no safetensors file"):
        load(tmp_path / "x.safetensors")


def changed(trained: Path, path: Path, **network: Any) -> Path:
    """A copy of a checkpoint whose header says something else of the network."""
    stored = torch.load(best(trained), weights_only=True)
    stored[HEADER]["network"] |= network
    torch.save(stored, path)
    return path


@pytest.mark.parametrize(
    ("section", "value"),
    [
        ("network", {"class_names": 3}),
        ("network", {"class_names": []}),
        ("network", {"class_names": ["a", "b"], "backbone": [1]}),
        ("network", {"class_names": ["a", "b"], "backbone": {"class_path": 3}, "head": None}),
        ("network", [1]),
        ("input", 3),
        ("training", "x"),
        ("views", 3),
        ("views", {"a": {"class_names": ["x", "y"]}}),
        ("members", [1]),
        ("input", {"size": ["x"]}),
        ("input", {"read_size": None}),
        ("format", "1"),
    ],
)
def test_a_header_of_other_types_is_told(section: str, value: object, trained: Path, tmp_path: Path) -> None:
    stored = torch.load(best(trained), weights_only=True)
    stored[HEADER][section] = value
    torch.save(stored, tmp_path / "odd.ckpt")
    with pytest.raises(FerlError, match=r"odd\.ckpt|given to|cannot be imported|model\.|refused"):
        load(tmp_path / "odd.ckpt")


@pytest.mark.parametrize(
    "change",
    [
        {"callbacks": 3},
        {"training_frames": [1]},
        {"training_frames": torch.ones(2)},
        {"state_dict": {"network.mean": None}},
        {"state_dict": {3: torch.ones(1)}},
    ],
)
def test_a_checkpoint_of_other_types_is_told(change: dict[str, Any], tmp_path: Path) -> None:
    torch.save({"state_dict": {}} | change, tmp_path / "odd.ckpt")
    with pytest.raises(FerlError, match=f"odd.ckpt is damaged.*{next(iter(change))}"):
        read_checkpoint(tmp_path / "odd.ckpt")


def test_a_part_that_no_other_process_can_import_is_told() -> None:
    part = type("Mine", (ConvStack,), {"__module__": "__main__"})
    with pytest.warns(UserWarning, match=r"no other process can import __main__\.Mine"):
        describe({"backbone": part})


@pytest.mark.parametrize(
    "part",
    [
        "os.system",
        "subprocess.Popen",
        "torch.hub.load",
        "ferlightning.cli.main.main",
        "ferlightning.__main__.x",
        "exec",
    ],
)
def test_nothing_that_a_checkpoint_names_is_run(part: str, trained: Path, tmp_path: Path) -> None:
    owned = tmp_path / "owned"
    path = changed(
        trained, tmp_path / "evil.ckpt", backbone={"class_path": part, "init_args": {"command": f"touch {owned}"}}
    )
    with pytest.raises(FerlError, match=f"refused to build {part}"):
        load(path)
    assert not owned.exists()


def test_a_small_file_asks_for_little_memory(trained: Path, tmp_path: Path) -> None:
    huge = {"class_path": f"{ConvStack.__module__}.ConvStack", "init_args": {"channels": [5_000, 5_000]}}
    with pytest.raises(FerlError, match=r"far larger than its [\d,]+ bytes can fill"):
        load(changed(trained, tmp_path / "huge.ckpt", backbone=huge))
    shared: list[Any] = []
    for _ in range(40):
        shared = [shared, shared]
    with pytest.raises(FerlError, match="more than 1,000,000 values"):
        load(changed(trained, tmp_path / "shared.ckpt", backbone=shared))
    torch.save({"state_dict": {"x": torch.zeros(100_000)}}, tmp_path / "whole.ckpt")
    with ZipFile(tmp_path / "whole.ckpt") as whole, ZipFile(tmp_path / "packed.ckpt", "w", ZIP_DEFLATED) as packed:
        for entry in whole.namelist():
            packed.writestr(entry, whole.read(entry))
    with pytest.raises(FerlError, match="is packed"):
        read_state(tmp_path / "packed.ckpt")


def test_other_weights_than_those_of_the_header_are_told(trained: Path, tmp_path: Path) -> None:
    wider = {
        "class_path": "ferlightning.parts.backbones.stacks.ConvStack",
        "init_args": {"channels": [8, 16], "depth": 1},
    }
    with pytest.raises(FerlError, match="weights do not fit"):
        load(changed(trained, tmp_path / "other.ckpt", backbone=wider))


@pytest.mark.parametrize(
    ("section", "option"),
    [
        ("backbone", {"class_path": "os.system", "init_args": {"command": "touch owned"}}),
        ("head", {"class_path": "subprocess.getoutput", "init_args": {"cmd": "touch owned"}}),
        ("optimizer", {"class_path": "os.system", "init_args": {"command": "touch owned"}}),
        ("scheduler", {"class_path": "runpy.run_path", "init_args": {"path_name": "owner.py"}}),
        ("losses", ["os.system"]),
        ("attention", "os.system"),
        ("backbone", '{"class_path": "runpy.run_path", "init_args": {"path_name": "owner.py"}}'),
        ("backbone", "evil.yaml"),
        ("head", {"class_path": "MLPHead", "init_args": {"hidden": "[os.system]"}}),
    ],
    ids=["backbone", "head", "optimizer", "scheduler", "losses", "attention", "json", "file", "nested"],
)
def test_nothing_that_a_run_folder_names_is_run(
    section: str, option: object, trained: Path, tmp_path: Path, ferl: Ferl, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = shutil.copytree(trained, tmp_path / "evil")
    config = yaml.safe_load((evil / "config.yaml").read_text())
    config["model"]["init_args"][section] = option
    (evil / "config.yaml").write_text(yaml.safe_dump(config))
    Path("owner.py").write_text("open('owned', 'w')")
    Path("evil.yaml").write_text("class_path: runpy.run_path\ninit_args: {path_name: owner.py}\n")
    with pytest.raises(SystemExit) as stop:
        ferl("test", f"--ckpt_path={best(evil)}")
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert section in said and "nothing was run" in said and "--trust" in said
    assert not Path("owned").exists()


@pytest.mark.parametrize(
    "callback",
    [
        {"class_path": "lightning.pytorch.callbacks.LambdaCallback", "init_args": {"on_test_start": "builtins.print"}},
        '{"class_path": "lightning.pytorch.callbacks.LambdaCallback"}',
        {"class_path": "this.Callback"},
        {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": {"dirpath": "/elsewhere"}},
        {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": {"filename": "../../elsewhere"}},
        {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": {"dirpath": "file:///elsewhere"}},
        {"class_path": "WandbLogger", "dict_kwargs": {"settings": {"base_url": "http://else.where"}}},  # gets the key
    ],
    ids=["lambda", "json", "any module", "absolute path", "path upwards", "place by url", "server"],
)
def test_a_run_folder_chooses_neither_functions_nor_places(
    callback: object, trained: Path, tmp_path: Path, ferl: Ferl, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = shutil.copytree(trained, tmp_path / "evil")
    config = yaml.safe_load((evil / "config.yaml").read_text())
    config["trainer"]["callbacks"].append(callback)
    (evil / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(SystemExit):
        ferl("fit", f"--ckpt_path={best(evil)}", "--trainer.max_epochs=2")
    assert "trainer.callbacks" in (said := capsys.readouterr().err) and "nothing was run" in said


def test_weights_that_are_no_numbers_predict_nothing(
    trained: Path, tmp_path: Path, ferl: Ferl, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = torch.load(best(trained), weights_only=True)
    state = {name: x * float("nan") if "head" in name else x for name, x in stored["state_dict"].items()}
    torch.save(stored | {"state_dict": state}, tmp_path / "nan.ckpt")
    with pytest.raises(SystemExit):
        ferl("predict", f"--ckpt_path={tmp_path}/nan.ckpt", "--trainer.default_root_dir=out")
    assert "logits are not finite for 14 of 14 images" in capsys.readouterr().err
    assert not Path("out/predictions.csv").exists()
    with pytest.raises(FerlError, match="not finite for 1 of 1 items"):
        ferlightning.predict(tmp_path / "nan.ckpt", np.zeros((48, 48), np.uint8))


def test_a_checkpoint_that_is_a_link_into_a_store_is_of_its_run(trained: Path, tmp_path: Path, ferl: Ferl) -> None:
    """As git-annex and DVC make them."""
    run = shutil.copytree(trained, tmp_path / "run")
    shutil.rmtree(run / "report", ignore_errors=True)
    (tmp_path / "store").mkdir()
    best(run).rename(tmp_path / "store" / "0a1b")
    best(run).symlink_to("../../store/0a1b")
    ferl("test", f"--ckpt_path={best(run)}")
    assert (run / "report" / "metrics.json").is_file() and not Path("runs").exists()


def test_a_report_on_a_part_says_so(trained: Path, ferl: Ferl) -> None:
    words = ["--trainer.limit_test_batches=2", "--data.batch_size=3", "--trainer.default_root_dir=part"]
    ferl("test", f"--ckpt_path={best(trained)}", *words)
    report = json.loads(Path("part/report/metrics.json").read_text())
    assert report["n"] == 6
    assert any("6 of the 14 items: trainer.limit_test_batches" in note for note in report["notes"])


@pytest.mark.skipif(os.name != "posix", reason="limits the size of files")
@pytest.mark.parametrize("format", ["safetensors", "torch"])
def test_an_export_on_a_full_disk_is_told(format: str, trained: Path, ferl: Ferl) -> None:
    end = {"safetensors": ".safetensors", "torch": ".pt2"}[format]
    # torch writes code of its own when it is imported.
    full = "import resource, torch.distributed.nn; resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))"
    words = ["export", str(trained), f"--out=out{end}", f"--format={format}"]
    code = f"{full}; from ferlightning.cli.main import main; main({words})"
    # Without bytecode, which would be cut short, too.
    done = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and f"out{end}: File too large" in done.stderr and "Traceback" not in done.stderr
    assert [*Path().iterdir()] == []


def test_a_checkpoint_without_what_trained_it_serves_the_others(
    trained: Path, tested: dict[str, Any], tmp_path: Path, ferl: Ferl, capsys: pytest.CaptureFixture[str]
) -> None:
    """Some save but the weights and the header, for a smaller file."""
    stored = torch.load(best(trained), weights_only=True)
    slim = {name: stored[name] for name in ("state_dict", HEADER, "config")}
    torch.save(slim, tmp_path / "slim.ckpt")
    ferl("test", f"--ckpt_path={tmp_path}/slim.ckpt", "--trainer.default_root_dir=slim")
    assert scores(Path("slim")) == tested
    torch.save(slim | {"epoch": "one"}, tmp_path / "odd.ckpt")
    with pytest.raises(SystemExit):
        ferl("test", f"--ckpt_path={tmp_path}/odd.ckpt")
    assert "odd.ckpt is damaged, or was written by hand: epoch is of the wrong type" in capsys.readouterr().err


def test_weights_alone_serve_the_commands_that_train_nothing(
    trained: Path, tested: dict[str, Any], ferl: Ferl, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = best(trained).with_suffix(".safetensors")
    ferl("test", f"--ckpt_path={weights}", "--trainer.default_root_dir=weights")
    assert scores(Path("weights")) == tested
    with pytest.raises(SystemExit):
        ferl("fit", f"--ckpt_path={weights}")
    assert "has weights only" in capsys.readouterr().err


def test_a_configuration_that_cannot_be_read_is_told(trained: Path, tmp_path: Path, ferl: Ferl, capsys) -> None:
    run = shutil.copytree(trained, tmp_path / "copy")
    config = (run / "config.yaml").read_text()
    key = "model:\n  2020-01-01: 1"
    texts = [
        "model: [1, 2",
        "model: 3\n",
        "model: null\n",
        config.replace("model:", key, 1),
        config + "x: " + "[" * 5000,
    ]
    for text in [*texts, config.replace("trainer:", f"trainer:\n  x: {'9' * 10000}", 1)]:
        (run / "config.yaml").write_text(text)
        with pytest.raises(SystemExit):
            ferl("test", f"--ckpt_path={best(run)}")
        assert "config.yaml" in (said := capsys.readouterr().err) and "Traceback" not in said

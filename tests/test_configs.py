"""Every shipped configuration goes through fit, test and predict; the trainer's features work by configuration."""

import csv
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import wandb
import yaml

from ferlightning.cli.configs import find
from tests.conftest import NO_REPORT, SMALL, TINY, write_fer2013
from tests.data.ckplus_layouts import write_ck48
from tests.data.fer2013_layouts import draw, write_csv, write_votes

Ferl = Callable[..., Path]
ROOT = Path(__file__).parent.parent
CONFIGS = sorted(set(ROOT.glob("configs/**/*.yaml")) - set(ROOT.glob("configs/sweeps/*")))
TESTED_ALONE = ("wandb", "tensorboard", "early_stopping")
"""Configurations that tests of their own train with, below."""
PAPERS = [ROOT / "configs" / "ck_attn.yaml", *sorted(ROOT.glob("configs/papers/*.yaml"))]
REAL = Path(os.environ["FERL_REAL_DATA"]) if "FERL_REAL_DATA" in os.environ else None


def data_words(config: Path) -> list[str]:
    """What makes the data of a configuration small and local."""
    data = yaml.safe_load(config.read_text()).get("data", {}).get("class_path", "SyntheticFaces")
    if data == "FER2013":
        return [f"--data.root={write_fer2013(Path('fer2013.csv'))}", "--data.batch_size=8"]
    if data == "FERPlus":
        faces, distilled = draw(), config.stem == "nano_distilled"
        if distilled:  # its teacher tells apart all eight, and contempt is not drawn
            faces.votes[::4] = [0] * 7 + [10, 0, 0]
        write_csv(Path(), faces)
        write_votes(Path(), faces)
        drawn = [] if distilled or config.parent.name == "papers" else ["--data.classes=[anger,happy,neutral]"]
        return ["--data.root=.", "--data.batch_size=8", *drawn]
    if data == "CKPlus":
        write_ck48(Path())
        return ["--data.root=.", "--data.batch_size=8"]
    if data == "ImageFolder":
        for name in ("happy", "sad"):
            Path("faces", name).mkdir(parents=True, exist_ok=True)
            for i in range(10):
                image = np.random.default_rng(i).integers(0, 256, (60, 50), dtype=np.uint8)
                cv2.imwrite(f"faces/{name}/{i}.png", image)
        return ["--data.batch_size=4"]
    return [*TINY, "--data.items_per_class=5"] if "frames:" in config.read_text() else TINY


def header(config: Path) -> str:
    """The comment that a configuration opens with, as one line."""
    lines = takewhile(lambda line: line.startswith("#"), config.read_text().splitlines())
    return " ".join(line.lstrip("# ") for line in lines)


def each(config: Path) -> object:
    """Models of the papers and for GPUs are large."""
    marks = [pytest.mark.slow] if config.parent.name == "papers" or config.stem == "large" else []
    return pytest.param(config, id=str(config.relative_to(ROOT / "configs")), marks=marks)


def no_download(config: Path, words: list[str]) -> list[str]:
    asked = "pretrained: true" in config.read_text() or "--model.backbone.pretrained=true" in words
    return [*words, "--model.backbone.pretrained=false"] if asked else words


def fit_test_predict(config: Path, words: list[str], ferl: Ferl) -> dict[str, Any]:
    """The report of the test."""
    run = ferl("fit", f"--config={config}", *words, "--trainer.max_epochs=1", "--trainer.limit_train_batches=2")
    for command in ("test", "predict"):
        ferl(command, f"--ckpt_path={run}/checkpoints/best.ckpt")
    report: dict[str, Any] = json.loads((run / "report" / "metrics.json").read_text())
    assert report["n"] == len(list(csv.DictReader((run / "predictions.csv").open()))) > 0
    return report


@pytest.mark.parametrize("config", [each(path) for path in CONFIGS if path.stem not in TESTED_ALONE])
def test_every_configuration_takes_a_step(config: Path, ferl: Ferl) -> None:
    ferl("fit", f"--config={config}", *no_download(config, data_words(config)), "--trainer.fast_dev_run=1")


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: str(path.relative_to(ROOT / "configs")))
def test_every_configuration_fits_tests_and_predicts(config: Path, ferl: Ferl) -> None:
    facts = fit_test_predict(config, no_download(config, data_words(config)), ferl)["provenance"]
    if config in PAPERS:
        size = f"Size: {facts['parameters'] / 1e6:.2f} M parameters, {facts['multiply_adds'] / 1e6:.0f} M multiply-adds"
        assert size in header(config), f"the header should say {size}"


@pytest.mark.slow
@pytest.mark.parametrize("config", PAPERS, ids=lambda path: path.stem)
def test_every_variant_that_a_header_names_trains(config: Path, ferl: Ferl) -> None:
    run = ferl(
        "fit", f"--config={config}", *data_words(config), "--trainer.max_epochs=1", "--trainer.limit_train_batches=1"
    )
    option = r"--[\w.]+\+?=(?:'[^']*'|\S*[^\s,;.])"
    for variant in re.findall(f"{option}(?: {option})*", header(config)):
        words = [word.replace("RUN", str(run)) for word in shlex.split(variant) if not word.endswith("=FOLDER")]
        data = next((Path(find(word[9:], "configs", "")) for word in words if word.startswith("--config=")), config)
        words += TINY if "--data=SyntheticFaces" in words else data_words(data)
        ferl("fit", f"--config={config}", *no_download(config, words), "--trainer.fast_dev_run=1")


@pytest.fixture(scope="module")
def real_faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 images of each part of FER2013 (the first 200 show no disgust), their FER+ votes, and the whole of CK+48."""
    folder = tmp_path_factory.mktemp("real")
    for layout, limit in (("fer2013-csv", "400"), ("ferplus-csv", "400"), ("ckplus48", "1000")):
        words = ["--layout", layout, "--limit", limit, str(folder)]
        subprocess.run([sys.executable, str(REAL / "export.py"), *words], check=True)
    return folder


@pytest.mark.slow
@pytest.mark.skipif(REAL is None, reason="FER2013 and CK+ are not here")
@pytest.mark.parametrize("config", PAPERS, ids=lambda path: path.stem)
def test_every_paper_fits_tests_and_predicts_on_real_faces(config: Path, real_faces: Path, ferl: Ferl) -> None:
    report = fit_test_predict(config, [f"--data.root={real_faces}"], ferl)
    assert report["provenance"]["data"]


@pytest.mark.parametrize(
    "words",
    [
        ["--trainer.precision=bf16-mixed", "--trainer.accumulate_grad_batches=2", "--trainer.gradient_clip_val=1.0"],
        pytest.param([f"--config={ROOT}/configs/trainer/ema.yaml"], marks=pytest.mark.slow),
        pytest.param(["--model.compile=true"], marks=pytest.mark.slow),
    ],
    ids=lambda words: words[0].rsplit("/")[-1],
)
def test_the_trainers_features_work_by_configuration(words: list[str], ferl: Ferl) -> None:
    lstm = ["--model.sequence=LSTM", "--model.sequence.hidden=8"]
    run = ferl("fit", *words, *TINY, *SMALL, *lstm, "--trainer.max_epochs=1", "--test_after_fit=true")
    inside = json.loads((run / "report" / "metrics.json").read_text())
    ferl("test", f"--ckpt_path={run}/checkpoints/best.ckpt")
    alone = json.loads((run / "report" / "metrics.json").read_text())
    assert alone["metrics"] == inside["metrics"]
    assert alone["provenance"]["precision"] == inside["provenance"]["precision"]


def test_accumulation_halves_the_optimiser_steps(ferl: Ferl) -> None:
    words = ["--trainer.max_epochs=2", "--trainer.limit_train_batches=2", "--trainer.accumulate_grad_batches=2"]
    run = ferl("fit", *TINY, *SMALL, *NO_REPORT, *words)
    assert max(int(row["step"]) for row in csv.DictReader((run / "metrics.csv").open())) + 1 == 2


def test_early_stopping_stops(ferl: Ferl) -> None:
    # With a learning rate of 0 the loss cannot fall after the first epoch.
    run = ferl(
        "fit", f"--config={ROOT}/configs/trainer/early_stopping.yaml", *TINY, *SMALL, "--trainer.max_epochs=9",
        "--trainer.callbacks.patience=2", "--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=0.0",
    )  # fmt: skip
    rows = csv.DictReader((run / "metrics.csv").open())
    assert max(int(row["epoch"]) for row in rows if row["epoch"]) == 2


def test_ema_checkpoint_holds_the_average(ferl: Ferl) -> None:
    """With decay 0 the average is the last weights; with decay 1 those after the first step, where it starts."""

    def weights(*words: str) -> torch.Tensor:
        # Not Adam: its first step takes the sign of a gradient, which for one of 1e-9 is chance.
        sgd = ["--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=0.1"]
        run = ferl("fit", *TINY, *SMALL, *NO_REPORT, *sgd, "--trainer.max_epochs=1", *words)
        state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        return state["network.head.classify.weight"]

    def average(decay: float) -> torch.Tensor:
        ema = yaml.safe_load((ROOT / "configs/trainer/ema.yaml").read_text())["trainer"]["callbacks+"]
        return weights(f"--trainer.callbacks+={json.dumps(ema)}", f"--trainer.callbacks.decay={decay}")

    torch.testing.assert_close(average(0.0), weights())
    torch.testing.assert_close(average(1.0), weights("--trainer.limit_train_batches=1"))


def test_wandb_offline_keeps_the_run_the_configuration_and_the_pictures(ferl: Ferl) -> None:
    run = ferl("fit", f"--config={ROOT}/configs/loggers/wandb.yaml", *TINY, *SMALL, "--trainer.max_epochs=1")
    assert wandb.run and wandb.run.name == "/".join(run.parts[-2:])  # else W&B draws a name, which no folder has
    wandb.finish()  # writes what is still in memory, as the end of the process does
    stored = next((run / "wandb").glob("offline-run-*"))
    keys = (b"items_per_class", b"val/confusion_matrix", b"val/learning_curves", b"batch_size", b"seed_everything")
    until = time.monotonic() + 60  # a process of W&B's own writes the record
    while (missing := [key for key in keys if key not in next(stored.glob("*.wandb")).read_bytes()]) and (
        time.monotonic() < until
    ):
        time.sleep(0.5)
    assert not missing
    assert list(stored.glob("files/media/images/val/confusion_matrix*.png"))
    assert (run / "metrics.csv").is_file(), "the CSV log is there whatever else is"


def test_tensorboard_writes_events(ferl: Ferl) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = ferl("fit", f"--config={ROOT}/configs/loggers/tensorboard.yaml", *TINY, *SMALL, "--trainer.max_epochs=1")
    events = EventAccumulator(str(next((run / "tensorboard").glob("*"))))
    events.Reload()
    assert "val/accuracy" in events.Tags()["scalars"]
    assert "val/confusion_matrix" in events.Tags()["images"]

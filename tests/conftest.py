"""What all tests share: a cache of their own, and the command run in this process."""

import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

# Before anything that imports pandas, as `ferl` does: typing keeps one object for Optional[int | float] and for
# Optional[float | int], the first that was asked for, and with the second jsonargparse reads
# --trainer.limit_train_batches=1 as 1.0, which is all batches.
from lightning.pytorch import Callback, LightningModule, Trainer  # isort: split

import numpy as np
import pytest

from ferlightning.cli.main import main
from ferlightning.evaluation.report import Report as ReportCallback

TINY = ["--data.items_per_class=10", "--data.subjects=5", "--data.batch_size=16"]
"""Drawn faces so few that an epoch takes a moment. 5 subjects: 3 to train, 1 to validate, 1 to test."""

SMALL = ["--model.backbone=ConvStack", "--model.backbone.channels=[8,8]", "--model.backbone.depth=1"]
"""A backbone that costs nothing."""


class NoReportCallback(ReportCallback):
    """Leaves out the report of a validation, which takes longer than the training of a tiny model."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pass


class BrokenCallback(Callback):
    """Fails in a way that nobody foresaw."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        raise RuntimeError("broken")


class SentSIGTERMCallback(Callback):
    """Sends a signal within the first report, as whoever runs the training may."""

    number = signal.SIGTERM

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        mark = Path(trainer.default_root_dir, "sent")
        if trainer.state.fn == "validate" and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), self.number)


class SentSIGHUPCallback(SentSIGTERMCallback):
    """The same of a closed terminal."""

    number = signal.SIGHUP


NO_REPORT = [
    "--trainer.callbacks=["
    "{class_path: ModelCheckpoint, init_args: {filename: best, monitor: val/accuracy, mode: max}}, "
    "{class_path: ModelCheckpoint, init_args: {filename: last}}, tests.conftest.NoReportCallback]"
]
"""For a test that reads checkpoints or logs only."""


def pytest_collection_finish() -> None:
    """Keep the collector from looking through all that was imported, again and again."""
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Stores go to a temporary folder, not to the user's."""
    os.environ["FERL_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    os.environ.pop("FERL_DATA", None)
    os.environ["WANDB_MODE"] = "offline"
    yield


@pytest.fixture(autouse=True)
def as_in_a_new_process() -> None:
    """What a process leaves to the next command in it: Lightning's handlers hold the first test's error stream."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).handlers.clear()
    if "wandb" in sys.modules:  # a run ends with its process, which here goes on
        sys.modules["wandb"].finish()


@pytest.fixture
def ferl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path | None]:
    """Run ``ferl`` with the given words in an empty working folder; the newest run folder comes back."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> Path | None:
        main(words)
        folders = [folder for folder in Path("runs").glob("*/*") if not folder.is_symlink()]  # latest
        runs = sorted(folders, key=lambda folder: folder.stat().st_mtime)
        return runs[-1].resolve() if runs else None

    return run


def write_fer2013(path: Path, rows_per_class: int = 3, seed: int = 0, usages: tuple[str, ...] = ()) -> Path:
    """A small fer2013.csv in Kaggle's layout with drawn noise, every class in every usage."""
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        file.write("emotion,pixels,Usage\n")
        for usage in usages or ("Training", "PublicTest", "PrivateTest"):
            for emotion in list(range(7)) * rows_per_class:
                pixels = rng.integers(0, 256, 48 * 48)
                file.write(f"{emotion},{' '.join(map(str, pixels))},{usage}\n")
    return path

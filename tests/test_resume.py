"""A training that is stopped and resumed ends, to the bit, where one that ran through does."""

import csv
import random
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import Checkpoint, EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, ReduceLROnPlateau

from ferlightning import Classifier, SyntheticFaces
from ferlightning.data.augment import Erase, Warp
from ferlightning.parts import ConvStack, ProjectionHead

EPOCHS = 4


class Killed(Callback):
    """Ends a training in the middle of an epoch, and disturbs the generators as a new process would."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        if trainer.current_epoch == self.epoch:
            raise RuntimeError("killed")


class KilledAfterSaving(Checkpoint):
    """Ends a training when the checkpoint of an epoch is there."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == 1:
            raise RuntimeError("killed")


def train(
    folder: Path, model: dict[str, Any], data: dict[str, Any], *callbacks: Callback, steps: int = -1,
    logger: CSVLogger | None = None, precision: Any = 32, **resume: Any,
) -> None:  # fmt: skip
    seed_everything(7, verbose=False)
    faces = SyntheticFaces(items_per_class=6, subjects=6, size=16, batch_size=8, **data)
    trainer = Trainer(
        max_epochs=EPOCHS, max_steps=steps, accelerator="cpu", precision=precision, logger=logger or False,
        enable_progress_bar=False, enable_model_summary=False,
        callbacks=[ModelCheckpoint(folder, "last", enable_version_counter=False), *callbacks],
    )  # fmt: skip
    classifier = Classifier(
        faces.class_names,
        faces.class_counts,
        backbone=partial(ConvStack, channels=(4, 8), depth=1, dropout=0.2),
        **model,
    )
    trainer.fit(classifier, faces, **resume)


def weights(folder: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(folder / "last.ckpt", weights_only=True)["state_dict"]
    return state


@pytest.mark.parametrize(
    ("model", "data", "ema", "precision"),
    [
        ({"scheduler": partial(CosineAnnealingLR, T_max=EPOCHS)}, {"augment": [Warp(), Erase()]}, False, "64-true"),
        (
            {"scheduler": partial(ReduceLROnPlateau, patience=0, factor=0.1)},
            {"balanced_sampling": True},
            True,
            "32-true",
        ),
        (
            {"scheduler": partial(OneCycleLR, max_lr=0.01, total_steps=20), "scheduler_interval": "step"},
            {"worker_augment": ["RandomBrightnessContrast"], "workers": 1},
            False,
            "32-true",
        ),
        ({"head": partial(ProjectionHead, dropout=0.2)}, {}, False, "32-true"),
    ],
    ids=[
        "augmented on the device, in double precision",
        "balanced, plateau, averaged",
        "augmented in a loader, by steps",
        "fitted part",
    ],
)
def test_a_resumed_training_ends_where_an_uninterrupted_one_does(
    model: dict[str, Any], data: dict[str, Any], ema: bool, precision: str, tmp_path: Path
) -> None:
    def more() -> list[Callback]:
        return [EMAWeightAveraging(decay=0.9)] if ema else []

    steps = 1000 if ema else -1  # with max_steps, Lightning resumes in another way
    run = partial(train, precision=precision)
    run(tmp_path / "whole", model, data, *more())
    with pytest.raises(RuntimeError, match="killed"):
        run(tmp_path / "parts", model, data, *more(), Killed(2), steps=steps)
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    random.seed(99)
    run(tmp_path / "parts", model, data, *more(), steps=steps, ckpt_path=tmp_path / "parts/last.ckpt")
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert [name for name in whole if not whole[name].equal(parts[name])] == []


def test_the_log_has_each_epoch_although_a_kill_came_right_after_its_checkpoint(tmp_path: Path) -> None:
    def log(part: str) -> list[str]:
        rows = list(csv.DictReader((tmp_path / part / "metrics.csv").open()))
        return [f"{row['epoch']} {row['step']} {row['train/loss']}" for row in rows if row["train/loss"]]

    loggers = {part: CSVLogger(tmp_path, "", part) for part in ("whole", "before", "after")}
    train(tmp_path / "whole", {}, {}, logger=loggers["whole"])
    with pytest.raises(RuntimeError, match="killed"):
        train(tmp_path / "parts", {}, {}, KilledAfterSaving(), logger=loggers["before"])
    train(tmp_path / "parts", {}, {}, logger=loggers["after"], ckpt_path=tmp_path / "parts/last.ckpt")
    assert log("before") + log("after") == log("whole") and len(log("whole")) == EPOCHS


def test_loader_processes_do_not_change_a_training(tmp_path: Path) -> None:
    for workers in (0, 2):
        data = {"worker_augment": ["RandomBrightnessContrast"], "augment": [Warp()], "workers": workers}
        train(tmp_path / str(workers), {}, data)
    none, two = weights(tmp_path / "0"), weights(tmp_path / "2")
    assert [name for name in none if not none[name].equal(two[name])] == []

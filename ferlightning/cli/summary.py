"""What a training is about to do, as a short table, and what to type when it is done."""

import math
import os
import shlex
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ferlightning.cli.precision import device
from ferlightning.contracts.modules import not_exported
from ferlightning.data.datamodule import FaceData
from ferlightning.data.sources.files import ImageFiles
from ferlightning.data.store import UNLABELLED
from ferlightning.evaluation.provenance import device_name, multiply_adds, network_name
from ferlightning.images.decode import sizes_of
from ferlightning.models.classifier import Classifier


def print_summary(trainer: Trainer, model: LightningModule, data: FaceData, folder: Path, accelerator: str) -> None:
    """Print data, images, network, device and steps of a training that is about to start."""
    counts = Table(title="Training on", title_justify="left")
    counts.add_column("class")
    splits = ["train", "val", *([] if data.items["test"] is data.items["val"] else ["test"])]
    for split in splits:
        counts.add_column(split, justify="right")
    label = {split: data.label[data.items[split]] for split in splits}  # type: ignore[index]
    k = len(data.class_names)
    by_class = {split: np.bincount(x[x != UNLABELLED], minlength=k).tolist() for split, x in label.items()}
    for k, name in enumerate(data.spelled_names):
        counts.add_row(escape(name), *(f"{by_class[split][k]:,}" for split in splits))
    counts.add_section()
    counts.add_row("all", *(f"{len(label[split]):,}" for split in splits))

    facts = Table(show_header=False, box=None)
    for name, value in _facts(trainer, model, data, accelerator).items():
        facts.add_row(name, value)
    facts.add_row("run folder", shown(folder))
    console = Console()
    console.print(counts, facts, markup=False, soft_wrap=not console.is_terminal)


def _facts(trainer: Trainer, model: LightningModule, data: FaceData, accelerator: str) -> dict[str, str]:
    taken, root = data.input, getattr(data, "place", getattr(data, "root", None))
    (height, width), color = taken["size"], "grey" if taken["channels"] == 1 else "colour"
    used = f"used {width} x {height}, {color}"
    if isinstance(data, ImageFiles) and (stored := sizes_of(data.sources())):
        used = f"stored {stored}; {used}"
    where = "cuda" if device(accelerator) == "cuda" else device(accelerator)
    batches, epochs = _batches(trainer, data), trainer.max_epochs
    steps = f"{batches:,} of up to {data.batch_size} images an epoch"
    if epochs not in (None, -1):
        steps += f", {epochs} epoch{'s' if epochs != 1 else ''}, {steps_of_epoch(trainer, data) * epochs:,} in all"
    return {
        "data": type(data).__name__ + (f", {root}" if root else ""),
        "images": used,
        **(_network(model, data) if isinstance(model, Classifier) else {"model": type(model).__name__}),
        "device": device_name(torch.device(where)) + (f" x {trainer.world_size}" if trainer.world_size > 1 else ""),
        "precision": str(trainer.precision),
        "steps": steps,
    }


def _network(model: Classifier, data: FaceData) -> dict[str, str]:
    total = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    size = f"{total:,} parameters" + (f", {trained:,} of them trained" if trained < total else "")
    try:
        image = torch.zeros(1, 1, data.input["channels"], *data.input["size"])
        size += f", {multiply_adds(model, image) / 1e6:,.1f} M multiply-adds an image"
    except (RuntimeError, ValueError, TypeError, LookupError):  # the training says it better
        pass
    told = model.started_from or getattr(model.network.backbone, "started_from", "")
    start = {"start": told} if told else {}
    losses = [f"{'' if loss.weight == 1 else f'{loss.weight:g} '}{type(loss).__name__}" for loss in model.losses]
    reason = not_exported(model.network)
    export = {"export": f"impossible. {reason}"} if reason else {}
    return {"network": network_name(model), "size": size, **start, "losses": " + ".join(losses), **export}


def steps_of_epoch(trainer: Trainer, data: FaceData) -> int:
    """How often the optimiser steps in an epoch."""
    return math.ceil(_batches(trainer, data) / max(trainer.accumulate_grad_batches, 1))


def _batches(trainer: Trainer, data: FaceData) -> int:
    """Batches of an epoch in each process."""
    own = math.ceil(len(data.items["train"]) / trainer.world_size)
    batches = own // data.batch_size if own > data.batch_size else 1
    limit = trainer.limit_train_batches
    return min(batches, limit) if isinstance(limit, int) else max(int(batches * (limit or 1.0)), 1)


def next_commands(folder: Path, tested: bool, trust: str, whole_model: bool) -> str:
    """What to type when a training is done.

    Args:
        folder: of the run.
        tested: whether the test split was measured.
        trust: `` --trust`` if the run has parts of the folder that one stands in.
        whole_model: whether the model is a module of the user's own, whose predictions may be anything.
    """
    run = shlex.quote(shown(folder)) + trust
    lines = [] if tested else [f"  ferl test {run}  # measure it on the test split"]
    if not whole_model:
        lines.append(f"  ferl predict {run} FACES  # faces that are cut out already; writes predictions.csv")
    return "\n".join(["Next:", *lines]) if lines else ""


def shown(folder: Path) -> str:
    """A folder as it is typed from the working folder."""
    short = os.path.relpath(folder)
    return str(folder) if short.startswith("..") else short

"""Training images per second of our loader and augmentation, and of the usual way; and how long a fit waits for them.

    python benchmarks/data_feed.py [--pairs 5]

The usual way is a data set that augments one image at a time with albumentations, in two loader processes. Ours loads
a batch at a time in the training process and augments it there. Both mirror, rotate, shift, scale, crop, erase and
normalise 48x48 grey images, in batches of 128: on the same two cores, and on one core without loader processes.

Then `ferl fit` on those two cores: which share of a step goes to waiting for the loader, and which to augmentation.

Each figure comes from a process of its own; the two kinds take turns, and the ratio is the median over the pairs.
Start-up and the first epoch, or the first steps of a fit, are not timed. On the CPU, with FER2013 from FERL_DATA or as
many random images. Writes ``runs/data_feed.json``.
"""

import json
import os
import sys
import time
from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np
import torch
from jsonargparse import auto_cli
from lab import ROOT, machine, print_result, result_of, save, spread
from lightning.pytorch import Callback
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ferlightning.data.augment import Erase, Warp
from ferlightning.data.datamodule import FaceData
from ferlightning.data.sources.fer2013 import CLASSES, FER2013
from ferlightning.data.store import Store

BATCH = 128
WARM_UP = 10  # steps of a fit
SECONDS = 4.0  # at least, of whole epochs
# Waiting threads sleep. By default they spin, and on cores shared with other jobs that would be measured.
ENVIRONMENT = {"NO_ALBUMENTATIONS_UPDATE": "1", "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
AREA = (0.7, 1.0)
ERASED = (0.02, 0.2)
DATA = f"--config={ROOT / 'configs/data/fer2013.yaml'}"
MODELS = {
    "fer2013_cnn_bilstm": [f"--config={ROOT / 'configs/fer2013_cnn_bilstm.yaml'}"],
    "cnn": [DATA, f"--config={ROOT / 'configs/models/cnn.yaml'}"],
    # Two convolutions: no useful model has steps as short.
    "tiny": [DATA, "--model.backbone=ConvStack", "--model.backbone.channels=[8,8]", "--model.backbone.depth=1"],
}
AUGMENT = [
    {"class_path": "Warp", "init_args": {"crop": AREA}},
    {"class_path": "Erase", "init_args": {"area": ERASED}},
]


class RandomFaces(FaceData):
    """As many images as FER2013 has, of the same size."""

    label_names = CLASSES

    def read(self) -> Store:
        rng = np.random.default_rng(0)
        split = np.repeat(np.array([0, 1, 2], np.int8), (28709, 3589, 3589))
        images = rng.integers(0, 256, (len(split), 48, 48), np.uint8)
        return Store.of(images, rng.integers(0, len(CLASSES), len(split)), split, np.full(len(split), ""))


def faces(**options: Any) -> FaceData:
    return FER2013(**options) if os.environ.get("FERL_DATA") else RandomFaces(**options)


def rate(epoch: Iterable[Any]) -> float:
    """Images per second, over whole epochs after a first one."""
    for _ in epoch:
        pass
    n, start = 0, time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        for image, _ in epoch:
            assert image.shape[-2:] == (48, 48) and image.dtype == torch.float32
            n += len(image)
    return n / (time.perf_counter() - start)


# --- ours -----------------------------------------------------------------------------------------------------------


class Ours:
    """What a trainer does with the data module, and the normalisation that our models begin with."""

    def __init__(self) -> None:
        self.data = faces(batch_size=BATCH, augment=[Warp(crop=AREA), Erase(area=ERASED)])
        self.loader = self.data.train_dataloader()

    def __iter__(self) -> Any:
        for batch in self.loader:
            batch = self.data.augment_batch(batch | {"image": batch["image"].float() / 255})
            yield (batch["image"] - 0.5) / 0.25, batch["label"]


# --- the usual way --------------------------------------------------------------------------------------------------


class Usual(Dataset[tuple[Tensor, int]]):
    """One image out of an array in memory, augmented by albumentations."""

    def __init__(self) -> None:
        import albumentations as A
        from albumentations.pytorch import ToTensorV2

        data = faces()
        self.images = np.array(data.raw.images[data.items["train"]])
        self.label = data.label[data.items["train"]].tolist()
        side = tuple(area**0.5 for area in ERASED)
        self.transform = A.Compose(
            [
                A.HorizontalFlip(p=0.5),
                A.Affine(rotate=(-10, 10), translate_percent=(-0.1, 0.1), scale=(0.9, 1.1), p=1.0),
                A.RandomResizedCrop((48, 48), scale=AREA, ratio=(3 / 4, 4 / 3), p=1.0),
                A.CoarseDropout(num_holes_range=(1, 1), hole_height_range=side, hole_width_range=side, fill=0, p=0.5),
                A.Normalize(mean=(0.5,), std=(0.25,)),
                ToTensorV2(),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(image=self.images[index])["image"], self.label[index]


def usual(workers: int) -> DataLoader[tuple[Tensor, int]]:
    cv2.setNumThreads(0)  # threads of OpenCV cost more than they gain on images this small
    return DataLoader(
        Usual(), BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0, drop_last=True,
        prefetch_factor=4 if workers else None, worker_init_fn=lambda _: cv2.setNumThreads(0),
    )  # fmt: skip


# --- a fit ----------------------------------------------------------------------------------------------------------


class Waiting(Callback):
    """Prints the seconds that the loader, augmentation and whole steps took, from step ``WARM_UP`` to ``steps``."""

    PARTS = {"loader": "train_dataloader_next", "augmentation": "on_after_batch_transfer"}

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def spent(self, trainer: Any) -> dict[str, float]:
        durations = trainer.profiler.recorded_durations
        found = {part: [x for name, x in durations.items() if name.endswith(end)] for part, end in self.PARTS.items()}
        # The loader is asked for the next batch before the hook augments it: the two do not overlap.
        return {part: sum(map(sum, lists)) for part, lists in found.items()} | {"step": time.perf_counter()}

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx + 1 == WARM_UP:
            self.before = self.spent(trainer)
        if batch_idx + 1 == self.steps:
            after = self.spent(trainer)
            print_result({part: after[part] - self.before[part] for part in after})


def fit(model: str, steps: int) -> None:
    """The command itself, with its loggers, callbacks and progress bar."""
    from ferlightning.cli.main import main

    drawn = [] if os.environ.get("FERL_DATA") else ["--data=data_feed.RandomFaces"]
    main(["fit", *MODELS[model], *drawn, f"--data.batch_size={BATCH}", f"--data.augment={json.dumps(AUGMENT)}",
          "--trainer.accelerator=cpu", "--trainer.max_epochs=1", f"--trainer.limit_train_batches={steps}",
          "--trainer.limit_val_batches=1", "--trainer.profiler=simple",
          "--trainer.callbacks+=data_feed.Waiting", f"--trainer.callbacks.steps={steps}"])  # fmt: skip


# --- turns ----------------------------------------------------------------------------------------------------------


def run_arm(arm: str, cores: int, steps: int) -> None:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    torch.set_num_threads(cores)
    if arm in MODELS:
        fit(arm, steps)
    else:
        print_result(rate(Ours() if arm == "ours" else usual(2 if cores > 1 else 0)))


def measure(arm: str, cores: int, steps: int) -> Any:
    """What an arm prints, in a process of its own."""
    command = [sys.executable, __file__, f"--arm={arm}", f"--cores={cores}", f"--steps={steps}"]
    return result_of(command, env={**os.environ, **ENVIRONMENT, "OMP_NUM_THREADS": str(cores)})


def data_feed(
    pairs: int = 5,
    steps: int = 60,
    output: str = "runs/data_feed.json",
    arm: str | None = None,
    cores: int = 2,
) -> None:
    """Compare our way of feeding a training with the usual one.

    Args:
        pairs: how often the arms take turns.
        steps: steps of each fit, of which the first ten are not timed.
        output: where the results go, from the root of the project.
        arm: run one arm in this process; used by the benchmark itself.
        cores: processor cores of that arm.
    """
    if arm:
        run_arm(arm, cores, steps)
        return
    results: dict[str, Any] = {}
    table = Table("cores", "usual, images/s", "ours, images/s", "ratio", "min", "max")
    for n in (2, 1):
        times = [{kind: measure(kind, n, steps) for kind in ("ours", "usual")} for _ in range(pairs)]
        speed = {kind: spread(x[kind] for x in times) for kind in ("usual", "ours")}
        ratio = spread(x["ours"] / x["usual"] for x in times)
        results[f"cores: {n}"] = {"images_per_second": speed, "ratio": ratio}
        shown = [f"{speed[kind]['median']:,.0f}" for kind in speed] + [
            f"{ratio[x]:.2f}" for x in ("median", "min", "max")
        ]
        table.add_row(str(n), *shown)
    Console().print(table)

    table = Table("ferl fit", "images/s", "loader, % of a step", "and augmentation, %", "min", "max")
    rounds = [{model: measure(model, 2, steps) for model in MODELS} for _ in range(pairs)]
    results["fit"] = {}
    for model in MODELS:
        found = [x[model] for x in rounds]
        loader = spread(100 * x["loader"] / x["step"] for x in found)
        both = spread(100 * (x["loader"] + x["augmentation"]) / x["step"] for x in found)
        fitted = spread(BATCH * (steps - WARM_UP) / x["step"] for x in found)
        results["fit"][model] = {
            "images_per_second": fitted, "percent_loader": loader, "percent_loader_and_augmentation": both
        }  # fmt: skip
        waits = [f"{x:.2f}" for x in (loader["median"], both["median"], both["min"], both["max"])]
        table.add_row(model, f"{fitted['median']:,.0f}", *waits)
    Console().print(table)

    about = {
        "command": " ".join(sys.argv), "machine": machine("torch", "albumentations", "lightning", "ferlightning"),
        "pairs": pairs, "steps": steps, "batch": BATCH,
        "environment": ENVIRONMENT,
        "data": "FER2013" if os.environ.get("FERL_DATA") else "random images",
    }  # fmt: skip
    save(ROOT / output, about | results)


if __name__ == "__main__":
    auto_cli(data_feed)

"""The contract check of data sets."""

from collections.abc import Callable

import numpy as np
import torch

from ferlightning.data.datamodule import FaceData
from ferlightning.data.store import SPLITS, UNDECIDED, UNLABELLED
from ferlightning.testing.common import require


def check_data(build: Callable[[], FaceData]) -> None:
    """Check that a data set reads the same twice, that its labels, splits and names fit, and that it makes batches.

    Args:
        build: makes the data module; ``functools.partial`` gives it its options.
    """
    data, again = build(), build()
    name, store = type(data).__name__, data.raw
    require(isinstance(data, FaceData), f"{name} is no subclass of ferlightning.data.datamodule.FaceData")
    images, n = store.images, len(store)
    found = f"{images.dtype} {images.shape}"
    require(images.dtype == np.uint8 and images.ndim in (3, 4), f"{name}: images must be uint8 (F, H, W[, C]); {found}")
    require(
        n > 0 and store.start[-1] == len(images), f"{name}: {n} items end at frame {store.start[-1]} of {len(images)}"
    )
    require(len(data.label_names) > 1, f"{name}: label_names must be two or more; found {data.label_names}")
    least, most = int(store.label.min()), int(store.label.max())
    bounds = f"{name}: labels must be {UNLABELLED} (none) or index label_names; they span {least} to {most}"
    require(least >= UNLABELLED and most < len(data.label_names), bounds)
    require(
        len(np.unique(store.name)) == n, f"{name}: two items have the same name; a report could not tell them apart"
    )
    known = set(range(len(SPLITS)))
    splits = set(np.unique(store.split).tolist())
    require(splits <= known or splits == {UNDECIDED}, f"{name}: split must index {SPLITS} or be {UNDECIDED} throughout")
    same = np.array_equal(images, again.raw.images) and np.array_equal(store.label, again.raw.label)
    require(same, f"{name}: reading it twice gives other images or labels; a result could not be repeated")

    data.check_training()
    data.setup("fit")
    for split, loader in (("train", data.train_dataloader()), ("val", data.val_dataloader())):
        batch = data.on_after_batch_transfer(next(iter(loader)), 0)
        image, label = batch["image"], batch["label"]
        require(image.ndim == 5 and image.dtype == torch.float32, f"{name}: a {split} batch has images {image.shape}")
        inside = bool(((image >= 0) & (image <= 1)).all())
        require(inside, f"{name}: images of a {split} batch must be in [0, 1]")
        right = len(label) == len(image) and bool((label >= 0).all())
        require(right, f"{name}: labels of a {split} batch are {label.tolist()}")

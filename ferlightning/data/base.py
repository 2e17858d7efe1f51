"""The base of the data modules: splits, loaders, statistics, and augmentation on the device."""

import hashlib
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from kornia.augmentation import AugmentationBase2D, VideoSequential
from lightning.pytorch import LightningDataModule
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from ferlightning.contracts import Batch
from ferlightning.data.images import list_images, read_image
from ferlightning.data.store import SPLITS, UNDECIDED, Store
from ferlightning.errors import FerlError

Split = Literal["train", "val", "test"]
UNLABELLED = -1


class Items(Dataset[Batch]):
    """Some items of a store, fetched a whole batch per call.

    Args:
        store: where the frames and labels are.
        numbers: (n,) numbers of the items within the store.
    """

    def __init__(self, store: Store, numbers: NDArray[np.int64]) -> None:
        self.store = store
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Batch:
        return {key: x[0] for key, x in self.__getitems__([index]).items()}

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """A batch with uint8 images (B, T, C, H, W), short clips padded with black frames, and its mask."""
        store, items = self.store, self.numbers[np.asarray(indices)]
        first, length = store.start[items], store.start[items + 1] - store.start[items]
        steps = np.arange(int(length.max()))
        real = steps < length[:, None]  # (B, T)
        images = torch.from_numpy(store.images[np.where(real, first[:, None] + steps, 0)])
        images = images.unsqueeze(2) if images.ndim == 4 else images.movedim(4, 2)
        batch = {
            "image": images,
            "label": torch.from_numpy(store.label[items]),
            "index": torch.as_tensor(indices),
        }
        if not real.all():
            batch["mask"] = torch.from_numpy(real)
            images[~batch["mask"]] = 0
        return batch


def _collated(batch: Any) -> Any:
    """Items has put the batch together already; the loader need not."""
    return batch


class FaceData(LightningDataModule):
    """What all data sets share. A concrete one sets ``class_names`` and reads its source.

    Args:
        batch_size: items per batch and process.
        workers: loader processes; 0 loads in the training process, which is the faster for memory-mapped arrays.
        augment: kornia augmentations that run on the device, on training batches only: drawn anew for every item,
            held over the frames of a clip.
        val_fraction: share of the training items that becomes validation where the source has none, in (0, 1); by
            subject where subjects are known.
        split_seed: seed of that split, and of the one into 70 / 15 / 15 % of a source that has no splits at all.
        predict_folder: folder of images, at any depth, that ``predict`` reads instead of the test split.
    """

    class_names: list[str]

    def __init__(
        self,
        batch_size: int = 64,
        workers: int = 0,
        augment: Sequence[AugmentationBase2D] = (),
        val_fraction: float = 0.15,
        split_seed: int = 0,
        predict_folder: str | None = None,
    ) -> None:
        super().__init__()
        if not 0 < val_fraction < 1:
            raise FerlError(f"data.val_fraction is {val_fraction}: give a number between 0 and 1")
        self.batch_size = batch_size
        self.workers = workers
        self.augment = VideoSequential(*augment, data_format="BTCHW", same_on_frame=True) if augment else None
        self.val_fraction = val_fraction
        self.split_seed = split_seed
        self.predict_folder = predict_folder

    def read(self) -> Store:
        """Open or parse the source.

        Raises:
            FerlError: the source is absent or damaged.
        """
        raise NotImplementedError

    # --- what the model and the report ask --------------------------------------------------------------------------

    @cached_property
    def store(self) -> Store:
        return self.read()

    @cached_property
    def items(self) -> dict[Split, NDArray[np.int64]]:
        """Numbers of the items of each split. A source without test items is tested on validation; ``notes`` says so.

        Raises:
            FerlError: a class has no training image.
        """
        split = self._split() if (self.store.split == UNDECIDED).all() else self.store.split
        train, val, test = (np.flatnonzero(split == i) for i in range(len(SPLITS)))
        if not len(val):
            chosen = self._choose_validation(train)
            train, val = train[~chosen], train[chosen]
        empty = [name for i, name in enumerate(self.class_names) if not (self.store.label[train] == i).any()]
        if empty:
            raise FerlError(f"{type(self).__name__} has no training image of {', '.join(map(repr, empty))}: add some")
        return {"train": train, "val": val, "test": test if len(test) else val}

    @property
    def class_counts(self) -> list[int]:
        """Training items of each class."""
        counts: list[int] = np.bincount(self.store.label[self.items["train"]], minlength=len(self.class_names)).tolist()
        return counts

    @property
    def pixel_mean(self) -> list[float]:
        """Mean of each channel over the training images, in [0, 1]."""
        return self._pixel_moments[0]

    @property
    def pixel_std(self) -> list[float]:
        """Standard deviation of each channel over the training images."""
        return self._pixel_moments[1]

    def item_names(self, split: Split | Literal["predict"]) -> NDArray[np.str_]:
        """What a person would call each item of a split, or of what ``predict`` reads."""
        store, items = self._select(split)
        return store.name[items]

    def fingerprint(self) -> dict[str, dict[str, object]]:
        """Number of items and a hash of pixels and labels, for each split."""
        found: dict[str, dict[str, object]] = {}
        for split, items in self.items.items():
            digest = hashlib.sha256(self.store.label[items].tobytes())
            digest.update((self.store.start[items + 1] - self.store.start[items]).tobytes())
            for item in items:
                digest.update(self.store.images[self.store.start[item] : self.store.start[item + 1]].tobytes())
            found[split] = {"items": len(items), "sha256": digest.hexdigest()}
        return found

    def notes(self, split: Split) -> list[str]:
        """What a reader of the results on a split must know: departures from the protocol."""
        if split == "test" and self.items["test"] is self.items["val"]:
            return ["The data has no test split: these are the validation images, on which the epoch was chosen."]
        return []

    # --- loaders ----------------------------------------------------------------------------------------------------

    def train_dataloader(self) -> DataLoader[Batch]:
        return self._loader("train")

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        return self._loader("test")

    def predict_dataloader(self) -> DataLoader[Batch]:
        return self._loader("predict")

    def _loader(self, split: Split | Literal["predict"]) -> DataLoader[Batch]:
        data, training = Items(*self._select(split)), split == "train"
        sampler: DistributedSampler[Batch] | None = None
        if self.trainer is not None and self.trainer.world_size > 1:
            # Torch's sampler repeats items to make the ranks even, which would count them twice in an evaluation.
            kind = DistributedSampler if training else UnrepeatedDistributedSampler
            seed = int(os.environ.get("PL_GLOBAL_SEED", 0))  # left by Lightning's seed_everything
            sampler = kind(data, self.trainer.world_size, self.trainer.global_rank, shuffle=training, seed=seed)
        own = len(data) if sampler is None else len(sampler)  # items that this process sees
        return DataLoader(
            data,
            batch_size=self.batch_size,
            shuffle=training and sampler is None,
            sampler=sampler,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            collate_fn=_collated,
            pin_memory=torch.cuda.is_available(),
            # A last batch of one image would stop batch norm.
            drop_last=training and own > self.batch_size,
        )

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """On the device: uint8 to [0, 1], and augmentation while training."""
        if batch["image"].dtype == torch.uint8:
            batch["image"] = batch["image"].float() / 255
        if self.augment is not None and self.trainer is not None and self.trainer.training:
            batch["image"] = self.augment(batch["image"])
            if "mask" in batch:
                batch["image"] = batch["image"] * batch["mask"][:, :, None, None, None]
        return batch

    # --- inside -----------------------------------------------------------------------------------------------------

    def _select(self, split: Split | Literal["predict"]) -> tuple[Store, NDArray[np.int64]]:
        """The store of a split and the numbers of its items there."""
        if split != "predict":
            return self.store, self.items[split]
        if self.predict_folder is None:
            return self.store, self.items["test"]
        return self._unlabelled, np.arange(len(self._unlabelled))

    @cached_property
    def _unlabelled(self) -> Store:
        """The images of ``predict_folder``, as large and as coloured as those of the data set."""
        folder = Path(self.predict_folder or "")
        if not folder.is_dir():
            raise FerlError(f"data.predict_folder: there is no folder {folder}")
        files = list_images(folder)
        if not files:
            raise FerlError(f"data.predict_folder: there are no images in {folder}")
        size, color = self.store.images.shape[1], self.store.images.ndim == 4
        images = np.stack([read_image(path, size, color) for path in files])
        names = np.array([str(path.relative_to(folder)) for path in files])
        return Store.of_stills(images, np.full(len(files), UNLABELLED), np.full(len(files), UNDECIDED, np.int8), names)

    def _split(self) -> NDArray[np.int8]:
        """70 / 15 / 15 % of every class, at least one item each where a class has three. Shape: (N,)."""
        rng = np.random.default_rng(self.split_seed)
        split = np.zeros(len(self.store), np.int8)
        for k in range(len(self.class_names)):
            members = rng.permutation(np.flatnonzero(self.store.label == k))
            n = max(1, round(0.15 * len(members))) if len(members) > 2 else 0
            split[members[:n]], split[members[n : 2 * n]] = SPLITS.index("test"), SPLITS.index("val")
        return split

    def _choose_validation(self, train: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which training items become validation: whole subjects if known, else the same share of every class."""
        rng = np.random.default_rng(self.split_seed)
        chosen = np.zeros(len(train), bool)
        subject, label = self.store.subject[train], self.store.label[train]
        subjects = rng.permutation(np.unique(subject))
        if (subject != "").all() and len(subjects) > 1:
            return np.isin(subject, subjects[: max(1, round(self.val_fraction * len(subjects)))])
        for k in np.unique(label):
            members = rng.permutation(np.flatnonzero(label == k))
            chosen[members[: max(1, round(self.val_fraction * len(members))) if len(members) > 1 else 0]] = True
        return chosen

    @cached_property
    def _pixel_moments(self) -> tuple[list[float], list[float]]:
        starts, ends = self.store.start[self.items["train"]], self.store.start[self.items["train"] + 1]
        channels = self.store.images.shape[3] if self.store.images.ndim == 4 else 1
        histogram = np.zeros((channels, 256))
        block = 4096  # frames at a time, to keep memory flat
        frames = np.concatenate([np.arange(a, b) for a, b in zip(starts, ends, strict=True)])
        for i in range(0, len(frames), block):
            images = self.store.images[frames[i : i + block]].reshape(-1, channels)
            histogram += [np.bincount(channel, minlength=256) for channel in images.T]
        p, level = histogram / histogram.sum(1, keepdims=True), np.arange(256) / 255
        mean = p @ level
        std = np.sqrt((p * (level - mean[:, None]) ** 2).sum(1))
        # Images of one grey level have no spread to divide by.
        return mean.tolist(), np.maximum(std, 1 / 255).tolist()

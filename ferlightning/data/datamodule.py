"""The base of the data modules: classes, splits, loaders, statistics, preprocessing and augmentation."""

import logging
import math
import os
import shutil
import sys
from collections.abc import Sequence
from functools import cached_property
from itertools import combinations
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from ferlightning.captured import Captured, constants
from ferlightning.contracts.images import GradedCorruption, Preprocess
from ferlightning.contracts.modules import Augmentation, Batch
from ferlightning.data.audit.copies import copy_groups
from ferlightning.data.classes import chosen_classes, meaning_of
from ferlightning.data.dataset import StoreDataset
from ferlightning.data.fingerprints import (
    blank_frames,
    content_hash,
    frames_of,
    item_hashes,
    pixel_moments,
    telling_frames,
    told_repeats,
)
from ferlightning.data.photos import read_photos
from ferlightning.data.preprocessed import described, preprocess_store
from ferlightning.data.samplers import ClassBalancedSampler, ShuffledSampler
from ferlightning.data.splits import choose, draw_split
from ferlightning.data.store import SPLITS, UNDECIDED, UNLABELLED, Store
from ferlightning.data.transforms import Spec, build_augment, build_preprocess, build_worker_augment
from ferlightning.emotions import as_written, probably_meant
from ferlightning.errors import FerlError

Split = Literal["train", "val", "test"]
WORKERS = 8
"""Loader processes for each processor, at most: each takes seconds to start, and memory."""
LOADED = 4
"""Batches that a worker may hold ready: two while training, and two for the validation."""
log = logging.getLogger(__name__)


class FaceData(LightningDataModule):
    """What all data sets share. A concrete one sets ``label_names``, what its labels mean, and reads its source.

    Args:
        batch_size: items per batch and process.
        workers: loader processes; 0 loads in the training process, which is the faster for memory-mapped arrays. Their
            number does not change a result. There are none where a GPU holds the images, as it does if they take up to
            a quarter of its free memory and are not changed where they are loaded.
        classes: the classes to tell apart, in this order, by name or alias as ``happiness`` or ``happy``; items of
            others are left out. Or a mapping from the data set's names to others, such as ``{Happy face: happiness, 1:
            surprise, x: null, "*": null}``: two with one name are merged, those of null are left out, and ``*`` stands
            for all that it does not name, which else stay as they are. Null: those of the data set.
        preprocess: parts, or albumentations by name, applied to every image in turn, once, when the data are first
            opened. Albumentations apply to every image, and their draws are seeded by the image.
        worker_augment: albumentations by name, for training items only, applied where items are loaded; the frames of
            a clip are changed alike.
        worker_augment_first: apply ``worker_augment`` before ``preprocess``, which then runs where items are loaded
            instead of once. A change of brightness, for example, has no effect after ``GlobalContrast``.
        augment: changes of training batches on the device, in turn: parts, or augmentations of kornia by name.
        corrupt: spoils the images of validation, test and prediction before ``preprocess``, to measure robustness; all
            that is said of the data (statistics, hashes, copies) is of the clean images. Not for a fit.
        balanced_sampling: draw training items with replacement so that every class is equally likely.
        val_fraction: share of the training items that becomes validation where the source has none, in (0, 1); by
            subject where subjects are known.
        split_seed: seed of that split, and of the one into 70 / 15 / 15 % of a source that has no splits at all.
        tested: the split that ``test`` evaluates; ``train`` tells how well training images are remembered, and ``all``
            is for data that nothing was trained on.
        predict_folder: folder of images, at any depth, or one image, or a list of these; ``predict`` reads them instead
            of the test split.
    """

    label_names: list[str]
    spelling: dict[str, str] = {}
    """How the source writes its classes, by the names in ``label_names``, for whoever reads a result."""

    def __init__(
        self,
        batch_size: int = 64,
        workers: int = 0,
        classes: Sequence[str | int] | dict[str, str | int | None] | None = None,
        preprocess: Sequence[Preprocess | Spec] = (),
        worker_augment: Sequence[Spec] = (),
        worker_augment_first: bool = False,
        augment: Sequence[Augmentation | Spec] = (),
        corrupt: GradedCorruption | None = None,
        balanced_sampling: bool = False,
        val_fraction: float = 0.15,
        split_seed: int = 0,
        tested: Literal["train", "test", "all"] = "test",
        predict_folder: list[str] | str | None = None,
    ) -> None:
        super().__init__()
        if not 0 < val_fraction < 1:
            raise FerlError(f"data.val_fraction is {val_fraction}: give a number between 0 and 1")
        if batch_size < 1:
            raise FerlError(f"data.batch_size is {batch_size}: give a number from 1")
        if workers < 0:
            raise FerlError(f"data.workers is {workers}: give a number from 0")
        if workers > (most := WORKERS * (os.cpu_count() or 1)):
            log.warning("data.workers is %d, and this machine has %s processors: %d are started", workers,
                        os.cpu_count(), most)  # fmt: skip
            workers = most
        self.batch_size = batch_size
        self.workers = workers
        self.classes = classes
        self.preprocess = build_preprocess(preprocess)
        self.worker_augment = build_worker_augment(worker_augment)
        self.worker_augment_first = worker_augment_first
        self.augment = build_augment(augment)
        self.corrupt = corrupt
        self.balanced_sampling = balanced_sampling
        self.val_fraction = val_fraction
        self.split_seed = split_seed
        self.tested = tested
        self.predict_folder = predict_folder
        self.unreadable: list[str] = []
        """What could not be read, a sentence each."""
        self._augmented: Captured | None = None
        self.trained_on: NDArray[np.uint64] | None = None  # set from a checkpoint: its model's ``training_frames``

    # --- what a concrete data set says ------------------------------------------------------------------------------

    def read(self) -> Store:
        """Open or parse the source.

        Raises:
            FerlError: the source is absent or damaged.
        """
        raise NotImplementedError

    def split(self) -> NDArray[np.int8]:
        """Split of every item, an index into ``SPLITS``, (N,): the source's own, or a 70 / 15 / 15 % draw."""
        decided = (self.raw.split != UNDECIDED).any()
        return self.raw.split if decided else draw_split(self.label, *self._groups, self.split_seed)

    def training_label(self) -> Tensor:
        """What training items are trained on, (N,) class index or (N, K) probabilities; evaluation is on ``label``."""
        return torch.from_numpy(self.label)

    def other_labels(self) -> dict[str, NDArray[np.float32]]:
        """More labels of all items by name, each (N, K) probabilities, zeros for none: for ``AuxiliaryHead``."""
        return {}

    # --- what the model and the report ask --------------------------------------------------------------------------

    @cached_property
    def meaning(self) -> dict[str, str | None]:
        """What each of ``label_names`` is called by ``classes``; None if its items are left out.

        Raises:
            FerlError: ``classes`` maps a name that the data set does not have.
        """
        return meaning_of(self.label_names, self.classes)

    @cached_property
    def class_names(self) -> list[str]:
        """The K classes.

        Raises:
            FerlError: a name in ``classes`` is unknown or stands twice, or fewer than two are left.
        """
        return chosen_classes(self.label_names, self.classes, self.meaning)

    @property
    def spelled_names(self) -> list[str]:
        """The K classes as the source writes them."""
        return as_written(self.class_names, self.spelling)

    @cached_property
    def raw(self) -> Store:
        """The source as it was read."""
        return self.read()

    @cached_property
    def store(self) -> Store:
        """The source after preprocessing."""
        return preprocess_store(self.preprocess, self.raw)

    @cached_property
    def label(self) -> NDArray[np.int64]:
        """Class of every item, an index into ``class_names``, (N,); ``UNLABELLED`` for those that are left out."""
        names = self.class_names
        new = [self.meaning[name] for name in self.label_names]
        classes = [names.index(name) if name in names else UNLABELLED for name in new]
        return np.array([*classes, UNLABELLED])[self.raw.label]  # an unlabelled one, -1, takes the last

    @cached_property
    def items(self) -> dict[Split, NDArray[np.int64]]:
        """Numbers of the items of each split. Where there are no test items they are those of validation."""
        split, used = self.split(), self.label != UNLABELLED
        train, val, test = (np.flatnonzero((split == i) & used) for i in range(len(SPLITS)))
        if not len(val) and len(train):
            group, by_group = self._groups
            chosen = choose(self.label[train], group[train], by_group, self.val_fraction, self.split_seed)
            train, val = train[~chosen], train[chosen]
        found: dict[Split, NDArray[np.int64]] = {"train": train, "val": val, "test": test if len(test) else val}
        return found | {"test": np.flatnonzero(used) if self.tested == "all" else found[self.tested]}

    @property
    def _is_drawn(self) -> bool:
        """Whether the splits are drawn here, because the source says nothing of them."""
        return type(self).split is FaceData.split and bool((self.raw.split == UNDECIDED).all())

    @property
    def _is_trained_on(self) -> bool:
        """Whether the model was trained on the training split, as far as its checkpoint tells."""
        return self.trained_on is not None and bool(np.isin(self.training_frames, self.trained_on).all())

    @property
    def class_counts(self) -> list[int]:
        """Training items of each class."""
        counts: list[int] = np.bincount(self.label[self.items["train"]], minlength=len(self.class_names)).tolist()
        return counts

    @property
    def pixel_mean(self) -> list[float]:
        """Mean of each channel over the training images, in [0, 1]."""
        return self._pixel_moments[0]

    @property
    def pixel_std(self) -> list[float]:
        """Standard deviation of each channel over the training images."""
        return self._pixel_moments[1]

    @property
    def input(self) -> dict[str, Any]:
        """What images a model is trained on: how they are read and preprocessed, and their size after that.

        Plain values: ``read_size``, pixels; ``color``; ``preprocess``, class paths with arguments; ``size``, height and
        width; ``channels``; ``clips``, whether items have several frames; ``spelling`` of the classes, if it is another
        one. A checkpoint keeps them.
        """
        shape = self.store.images.shape
        return {
            "read_size": self.raw.images.shape[1],
            "color": self.raw.images.ndim == 4,
            "preprocess": [described(part) for part in self.preprocess],
            "size": list(shape[1:3]),
            "channels": shape[3] if len(shape) == 4 else 1,
            "clips": len(self.store.images) > len(self.store),
        } | ({"spelling": self.spelling} if self.spelling else {})

    def item_names(self, split: Split | Literal["predict"]) -> NDArray[np.str_]:
        """A readable name for each item of a split, or of what ``predict`` reads."""
        store, items, *_ = self._select(split)
        return store.name[items]

    def item_subjects(self, split: Split) -> NDArray[np.str_]:
        """Who each item of a split shows; empty where that is unknown."""
        return self.raw.subject[self.items[split]]

    @cached_property
    def training_frames(self) -> NDArray[np.uint64]:
        """Hashes of the frames that are trained on, sorted; a checkpoint keeps them for ``trained_on``."""
        return np.unique(self.raw.hashes[frames_of(self.raw, self.items["train"])])

    def copied_from_training(self, split: Split) -> NDArray[np.bool_]:
        """Which items of a split, (n,), have a frame identical to one that the model was trained on.

        Blank frames count only in an item that has no other.
        """
        items = self.items[split]
        frames, lengths = frames_of(self.raw, items), self.raw.start[items + 1] - self.raw.start[items]
        owner = np.repeat(np.arange(len(items)), lengths)
        trained_on = self.trained_on
        if trained_on is None:  # as far as is known, nothing was trained on data that is tested as a whole
            trained_on = np.empty(0, np.uint64) if self.tested == "all" else self.training_frames
        seen = np.isin(self.raw.hashes[frames], trained_on) & telling_frames(owner, blank_frames(self.raw, frames))
        copied: NDArray[np.bool_] = np.bincount(owner, seen, len(items)) > 0
        return copied

    def fingerprint(self) -> dict[str, dict[str, object]]:
        """Number of items and a hash of pixels and labels, for each split."""
        return {
            split: {"items": len(items), "sha256": content_hash(self.store, items, self.label[items])}
            for split, items in self.items.items()
        }

    def notes(self, split: Split) -> list[str]:
        """What a reader of the results on a split must know: departures from the protocol."""
        found: list[str] = self.raw.remarks.tolist()
        if self.corrupt is not None and self.corrupt.severity:
            name, severity, most = type(self.corrupt).__name__, self.corrupt.severity, len(self.corrupt.strengths)
            found.append(f"The images were corrupted: {name}, severity {severity} of {most}.")
        if split == "test" and self.tested == "train":
            found.append("These are the training images, which the model has seen.")
        elif split == "test" and self.tested == "all":
            found.append("These are all images of the data, whatever their split.")
        elif split == "test" and self._is_drawn and not self._is_trained_on:
            found.append(
                f"The data has no splits: {len(self.items['test']):,} of its {len(self.raw):,} items were drawn for "
                "the test. --data.tested=all takes all of them."
            )
        elif split == "test" and self.items["test"] is self.items["val"]:
            found.append("The data has no test split: these are the validation images, on which the epoch was chosen.")
        left_out = self.raw.label[(self.label == UNLABELLED) & (self.raw.label != UNLABELLED)]
        if len(left_out):
            counts = np.bincount(left_out, minlength=len(self.label_names))
            listed = ", ".join(f"{n:,} {name}" for n, name in zip(counts, self.label_names, strict=True) if n)
            found.append(f"Items of classes that are not told apart here were left out of all splits: {listed}.")
        absent = [name for name in self.class_names if name not in self.meaning.values()]
        if absent:
            found.append(f"The data has no images of {', '.join(absent)}.")
        if self.trained_on is not None and not np.array_equal(self.trained_on, self.training_frames):
            n = int(self.copied_from_training(split).sum())
            found.append(
                "The model was trained on other images than the training split of this data: it has seen "
                f"{n:,} of these {len(self.items[split]):,} items."
            )
        if split != "train" and (repeats := told_repeats(self.raw, self.items[split])):
            found.append(repeats)
        for one, other in combinations(SPLITS, 2):
            for what, names in (("subject", self.raw.subject), ("recording", self.raw.sequence)):
                shared = {*names[self.items[one]]} & {*names[self.items[other]]} - {""}  # type: ignore[index]
                if shared and self.items[one] is not self.items[other]:  # type: ignore[index]
                    found.append(f"{len(shared)} {what}(s) are in {one} and in {other}: figures on these are too high.")
        return found

    # --- loaders ----------------------------------------------------------------------------------------------------

    def check_training(self) -> None:
        """Refuse data that cannot be learned from; the command line asks before a fit leaves anything on disk.

        Raises:
            FerlError: there are no two classes, one has no training image, or evaluation is on corrupted images.
        """
        if len({*self.class_names}) < max(len(self.class_names), 2):
            raise FerlError(f"data.classes: give at least two names, each once, not {self.class_names}")
        if self.corrupt is not None:
            raise FerlError(
                "data.corrupt is for validate, test and predict: a fit trains on clean images and chooses its epoch on "
                "clean ones. To train on spoiled images, use data.augment or data.worker_augment"
            )
        missing = [name for name, n in zip(self.class_names, self.class_counts, strict=True) if not n]
        if missing:
            meant = [hint for name in missing if (hint := probably_meant(name))]
            left = [name for name in self.class_names if name not in missing]
            raise FerlError(
                f"{type(self).__name__} has no training image of {', '.join(map(repr, missing))}: add some"
                + (f"; did you mean {', '.join(meant)}?" if meant else "")
                + (f"; or tell the others apart by --data.classes='[{', '.join(left)}]'" if len(left) > 1 else "")
            )
        self._check_items("val")

    def _check_items(self, split: Split) -> None:
        if not len(self.items[split]):
            what = {"train": "train", "val": "validate", "test": "test"}[split]
            raise FerlError(
                f"{type(self).__name__} has no image left to {what} on; of each class, one for validation and one for "
                "test are set aside where there are three, or give the split in folders or a column"
            )

    def setup(self, stage: str) -> None:
        self._augmented = None
        if stage == "fit":
            self.check_training()
        elif stage in ("validate", "test"):
            self._check_items("val" if stage == "validate" else "test")

    def train_dataloader(self) -> DataLoader[Batch]:
        return self._loader("train")

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        return self._loader("test")

    def predict_dataloader(self) -> DataLoader[Batch]:
        return self._loader("predict")

    def _loader(self, split: Split | Literal["predict"]) -> DataLoader[Batch]:
        training = split == "train"
        store, items, label, preprocess = self._select(split)
        world, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer is not None else (1, 0)
        seed = int(os.environ.get("PL_GLOBAL_SEED", torch.initial_seed()))  # the first is left by seed_everything
        others = {name: torch.from_numpy(x[items]) for name, x in self.other_labels().items()} if training else {}
        first = training and self.worker_augment_first and self.worker_augment is not None
        if first:
            store, preprocess = self.raw, self.preprocess
        data = StoreDataset(
            store, items, label, others, self.worker_augment if training else None, preprocess, first, seed
        )
        sampler: Sampler[int] | None = None
        if training:
            if self.balanced_sampling:
                sampler = ClassBalancedSampler(data, self.label[items].tolist(), world, rank, seed)
            else:
                sampler = ShuffledSampler(data, world, rank, seed=seed)
            if self.trainer is not None:  # else a resumed run would load the first batches of another epoch
                progress: Any = self.trainer.fit_loop.epoch_progress.current
                sampler.set_epoch(progress.processed)
        elif world > 1:
            # Torch's own repeats items to make the ranks even, which would count them twice in an evaluation.
            sampler = UnrepeatedDistributedSampler(data, world, rank, shuffle=False)
        own = len(data) if sampler is None else len(sampler)  # type: ignore[arg-type]  # what this process sees
        device = torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device
        frame = int(np.prod(store.images.shape[1:]))  # bytes
        if device.type == "cuda" and split in ("train", "val") and data.plain:
            size = len(items) * frame * int(np.diff(store.start)[items[0]])
            if size < torch.cuda.mem_get_info(device)[0] / 4:
                data.keep_on(device)
        workers = 0 if data.resident else self.workers
        if workers:
            longest = int(np.diff(store.start)[items].max(initial=0))
            need = LOADED * workers * self.batch_size * longest * frame
            if need > (room := _shared_memory()):
                log.warning("data.workers: /dev/shm has room for %.0f MB, and the batches of %d workers may need %.0f, "
                            "so the training process loads them itself. In Docker, give --shm-size or --ipc=host",
                            room / 1e6, workers, need / 1e6)  # fmt: skip
                workers = 0
            else:  # the workers outlive an epoch
                data.epoch.share_memory_()  # type: ignore[no-untyped-call]
        return DataLoader(
            data,
            batch_size=self.batch_size,
            sampler=sampler,
            # Of its own: from torch's, a loader draws when it is opened, which a resumed run does at another moment.
            generator=torch.Generator().manual_seed(seed),
            num_workers=workers,
            persistent_workers=workers > 0,
            collate_fn=_as_it_is,
            pin_memory=torch.cuda.is_available() and not data.resident,
            # A last batch of one image would stop batch norm.
            drop_last=training and own > self.batch_size,
        )

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """On the device: uint8 to [0, 1], and augmentation while training."""
        if self.trainer is None or not self.trainer.training:
            return _in_unit_range(batch)
        captured = getattr(self.trainer.lightning_module, "captured", None) is not None
        if self.augment and captured and batch["image"].is_cuda:
            if self._augmented is None:
                self._augmented = Captured("data.augment", self._training_batch, self._constants)
            augmented: Batch = self._augmented(batch)
            return augmented
        return self._training_batch(batch)

    def _training_batch(self, batch: Batch) -> Batch:
        return self.augment_batch(_in_unit_range(batch))

    def _constants(self) -> dict[str, object]:
        return constants({f"data.augment.{i}": part for i, part in enumerate(self.augment)})

    def augment_batch(self, batch: Batch) -> Batch:
        """A training batch after ``augment``; padding stays black."""
        for augmentation in self.augment:
            batch = augmentation(batch, len(self.class_names))
        if self.augment and "mask" in batch:
            batch["image"] = batch["image"] * batch["mask"][:, :, None, None, None]
        return batch

    # --- inside -----------------------------------------------------------------------------------------------------

    def _select(
        self, split: Split | Literal["predict"]
    ) -> tuple[Store, NDArray[np.int64], Tensor, Sequence[Preprocess | GradedCorruption]]:
        """The store of a split, the numbers of its items there, their labels, and what its frames have yet to pass."""
        if split == "train":
            items = self.items["train"]
            return self.store, items, self.training_label()[items], ()
        # Corrupted images are not kept as preprocessed ones are: of forty corruptions each is looked at once.
        yet: list[Preprocess | GradedCorruption] = [*self.preprocess]
        if self.corrupt is not None:
            yet.insert(0, self.corrupt)
        if split == "predict" and self.predict_folder is not None:
            unlabelled = self._unlabelled
            return unlabelled, np.arange(len(unlabelled)), torch.from_numpy(unlabelled.label), yet
        items = self._to_predict if split == "predict" else self.items[split]
        label = torch.from_numpy(self.label[items])
        return (self.store, items, label, ()) if self.corrupt is None else (self.raw, items, label, yet)

    @property
    def _to_predict(self) -> NDArray[np.int64]:
        """Numbers of the test items."""
        # A test split without labels, as that of the challenge, is there to be predicted.
        test = np.flatnonzero(self.split() == SPLITS.index("test"))
        return test if len(test) and (self.raw.label[test] == UNLABELLED).all() else self.items["test"]

    @cached_property
    def _unlabelled(self) -> Store:
        """The images of ``predict_folder``, in the size and colours of the data set."""
        photos, unreadable = read_photos(self.predict_folder or "", self.input["read_size"], self.input["color"])
        self.unreadable.extend(unreadable)
        return photos

    @cached_property
    def _groups(self) -> tuple[NDArray[np.str_], bool]:
        """What a drawn split keeps together, (N,), and whether it is subjects; else copies and frames of recordings.

        Faces of one picture, which are items of one name, stay together either way. Who is unknown is someone else,
        where most are known; where few are, classes are dealt as for items, and those few stay together.
        """
        subject = self.raw.subject
        known = subject != ""
        several = len(np.unique(subject[known])) > 1
        if several and known.all():  # no image has to be read
            return _linked(subject, self.raw.name), True
        content = item_hashes(self.raw, np.arange(len(self.raw))).astype(np.str_)
        if several and known.mean() >= 0.5:
            return _linked(np.where(known, subject, content), self.raw.name), True
        groups = (self.raw.sequence, self.raw.name, *([subject] if several else []))
        return _linked(content, *groups), False

    @cached_property
    def _pixel_moments(self) -> tuple[list[float], list[float]]:
        return pixel_moments(self.store, self.items["train"])


def _linked(group: NDArray[np.str_], *others: NDArray[np.str_]) -> NDArray[np.str_]:
    """Groups, (N,), of items that share their group, or a name in one of the others, directly or by way of others."""
    n = np.arange(len(group))
    for names in others:
        if len(known := names[names != ""]) == len(np.unique(known)):
            continue  # nothing to link; and the draw of before, which goes by the names of groups
        (_, one), (_, other) = (np.unique(values, return_inverse=True) for values in (group, names))
        shared = np.concatenate([one, np.where(names == "", one, len(n) + other)])
        group = copy_groups(np.concatenate([n, n]), shared, len(n)).astype(np.str_)
    return group


def _shared_memory() -> float:
    """Bytes that are left where workers leave batches; torch would wait forever for a batch that found no room."""
    if sys.platform != "linux":
        return math.inf
    return shutil.disk_usage("/dev/shm").free if os.access("/dev/shm", os.W_OK) else 0


def _in_unit_range(batch: Batch) -> Batch:
    """The batch with images in [0, 1]."""
    image = batch["image"]
    return batch | {"image": image.float() / 255} if image.dtype == torch.uint8 else batch


def _as_it_is(batch: Any) -> Any:
    """Return the batch that ``StoreDataset`` has put together already."""
    return batch

"""Batches, splits, statistics and augmentation of the base data module, on small stores made here."""

import json
import os
import shutil
import sys
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import albumentations
import cv2
import numpy as np
import pytest
import torch
from kornia.augmentation import RandomAffine, RandomErasing, RandomHorizontalFlip
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from numpy.typing import NDArray
from torch import Tensor, nn

from ferlightning.contracts.images import Preprocess
from ferlightning.data.datamodule import FaceData
from ferlightning.data.dataset import StoreDataset
from ferlightning.data.photos import read_photos
from ferlightning.data.store import UNDECIDED, Store
from ferlightning.errors import FerlError
from ferlightning.images.preprocess import GlobalContrast, MedianFilter

AFFINE = RandomAffine(degrees=30.0, translate=(0.2, 0.2), scale=(0.7, 1.3), p=1.0)


def clips(lengths: Sequence[int], channels: int = 1, seed: int = 0, subjects: int = 0, **fields: Any) -> Store:
    """Random clips, labels 0 1 2 0 1 2 ..., all in train unless said otherwise."""
    n, rng = len(lengths), np.random.default_rng(seed)
    shape = (sum(lengths), 12, 10) + ((3,) if channels == 3 else ())
    made: dict[str, Any] = {
        "images": rng.integers(1, 256, shape, np.uint8),  # no zeros, which are what padding is made of
        "start": np.cumsum([0, *lengths]),
        "label": np.arange(n) % 3,
        "split": np.zeros(n, np.int8),
        "name": np.array([f"item {i}" for i in range(n)]),
        "subject": np.array([f"s{i % subjects}" if subjects else "" for i in range(n)]),
    }
    return Store.of(**(made | fields))


class Faces(FaceData):
    """A data set made of a store."""

    label_names = ["a", "b", "c"]

    def __init__(self, made: Store, **options: Any) -> None:
        super().__init__(**options)
        self.made = made

    def read(self) -> Store:
        return self.made


def items_of(store: Store, numbers: NDArray[np.int64]) -> StoreDataset:
    return StoreDataset(store, numbers, torch.from_numpy(store.label[numbers]), {})


def split_of(*sizes: int) -> NDArray[np.int8]:
    return np.repeat(np.array([0, 1, 2], np.int8), sizes)


# --- batches --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_clips_of_different_length_are_padded_and_masked(channels: int) -> None:
    lengths = [2, 5, 1, 3, 5]
    store = clips(lengths, channels)
    numbers = np.array([4, 2, 0, 3])
    batch = items_of(store, numbers).__getitems__([1, 0, 3])  # the items 2, 4 and 3
    assert batch["image"].shape == (3, 5, channels, 12, 10) and batch["image"].dtype == torch.uint8
    assert batch["label"].tolist() == [2, 1, 0] and batch["label"].dtype == torch.int64
    assert batch["index"].tolist() == [1, 0, 3] and batch["index"].dtype == torch.int64
    assert batch["mask"].tolist() == [[t < n for t in range(5)] for n in (1, 5, 3)]
    for row, item in enumerate([2, 4, 3]):
        frames = store.images[sum(lengths[:item]) : sum(lengths[: item + 1])].reshape(-1, 12, 10, channels)
        np.testing.assert_array_equal(batch["image"][row, : lengths[item]], frames.transpose(0, 3, 1, 2))
        assert not batch["image"][row, lengths[item] :].any()


def test_without_padding_there_is_no_mask() -> None:
    store = clips([2, 2, 1, 1])
    assert "mask" not in items_of(store, np.arange(4)).__getitems__([0, 1])
    stills = items_of(store, np.arange(4)).__getitems__([2, 3])
    assert "mask" not in stills and stills["image"].shape == (2, 1, 1, 12, 10)
    one = items_of(store, np.arange(4))[1]
    assert one["image"].shape == (2, 1, 12, 10) and one["label"] == 1 and one["index"] == 1


@pytest.mark.parametrize("channels", [0, 3])
def test_a_device_that_holds_the_items_gathers_the_same_batches(channels: int) -> None:
    store = clips([2] * 5, channels=channels)
    others = {"votes": torch.rand(4, 3)}
    read, held = (StoreDataset(store, np.array([4, 1, 0, 3]), torch.arange(4), others) for _ in range(2))
    assert held.plain
    held.keep_on(torch.device("cpu"))
    for indices in ([2, 0, 0], [3]):
        expected, found = read.__getitems__(indices), held.__getitems__(indices)
        assert expected.keys() == found.keys()
        assert all(expected[key].equal(found[key]) and expected[key].dtype == found[key].dtype for key in expected)


def test_a_device_holds_no_clips_that_differ_in_length_and_no_images_that_are_changed_when_loaded() -> None:
    numbers, label = np.arange(3), torch.zeros(3)
    assert not StoreDataset(clips([2, 1, 2]), numbers, label, {}).plain
    assert not StoreDataset(clips([1] * 3), numbers, label, {}, preprocess=[MedianFilter()]).plain


def test_a_batch_does_not_write_into_the_store() -> None:
    store = clips([1, 3])
    before = store.images.copy()
    items_of(store, np.arange(2)).__getitems__([0, 1])["image"].zero_()
    np.testing.assert_array_equal(store.images, before)


# --- on the device --------------------------------------------------------------------------------------------------


class Model(LightningModule):
    """Keeps the batches that a trainer gives it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.seen: dict[str, list[dict[str, Tensor]]] = {"train": [], "val": [], "test": []}

    def keep(self, split: str, batch: dict[str, Tensor]) -> None:
        self.seen[split].append({key: x.clone() for key, x in batch.items()})

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        self.keep("train", batch)
        return self.layer(batch["image"].mean().view(1)).sum()

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.keep("val", batch)

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.keep("test", batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def run(data: FaceData, seed: int = 0, epochs: int = 1, callbacks: Sequence[Callback] = ()) -> Model:
    seed_everything(seed, verbose=False)
    model = Model()
    trainer = Trainer(
        accelerator="cpu", max_epochs=epochs, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, callbacks=list(callbacks),
    )  # fmt: skip
    trainer.fit(model, data)
    trainer.test(model, data, verbose=False)
    return model


def original(store: Store, items: NDArray[np.int64], batch: dict[str, Tensor]) -> NDArray[np.float64]:
    """What a batch of clips of equal length must hold without augmentation."""
    numbers = items[batch["index"].numpy()]
    return np.stack([store.images[store.start[i] : store.start[i + 1], None] for i in numbers]) / 255


@pytest.mark.filterwarnings("ignore")
def test_a_trainer_augments_training_batches_only() -> None:
    store = clips([3] * 24, split=split_of(12, 6, 6))
    data = Faces(store, batch_size=4, augment=[AFFINE])
    model = run(data)
    assert {split: len(seen) for split, seen in model.seen.items()} == {"train": 3, "val": 2, "test": 2}
    for split, batches in model.seen.items():
        for batch in batches:
            expected = original(store, data.items[split], batch)  # type: ignore[index]
            assert batch["image"].dtype == torch.float32
            assert batch["image"].min() >= 0 and batch["image"].max() <= 1
            if split == "train":
                assert (np.abs(batch["image"].numpy() - expected).mean((1, 2, 3, 4)) > 0.01).all()
            else:
                np.testing.assert_allclose(batch["image"], expected, atol=1e-6)
    assert sorted(int(i) for batch in model.seen["train"] for i in batch["index"]) == list(range(12))


@pytest.mark.filterwarnings("ignore")
def test_without_augmentation_training_batches_are_the_images() -> None:
    store = clips([1] * 24, split=split_of(12, 6, 6))
    data = Faces(store, batch_size=4)
    for batch in run(data).seen["train"]:
        np.testing.assert_allclose(batch["image"], original(store, data.items["train"], batch), atol=1e-6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "augment",
    [[AFFINE], [RandomErasing(p=0.5, scale=(0.1, 0.3))], [RandomHorizontalFlip(p=0.5), AFFINE]],
    ids=["affine", "erasing", "flip and affine"],
)
def test_items_differ_in_their_transform_and_frames_of_a_clip_do_not(augment: Sequence[Any]) -> None:
    """All items are one picture repeated, so whatever differs comes from the augmentation."""
    picture = np.random.default_rng(0).integers(1, 256, (12, 10), np.uint8)
    store = clips([4] * 24, images=np.broadcast_to(picture, (96, 12, 10)), split=split_of(16, 4, 4))
    (batch,) = run(Faces(store, batch_size=16, augment=augment)).seen["train"]
    image = batch["image"]
    assert (image == image[:, :1]).all(), "a clip's frames must be transformed alike"
    assert len(torch.unique(image[:, 0].flatten(1), dim=0)) > 4


@pytest.mark.filterwarnings("ignore")
def test_padding_stays_black_under_augmentation() -> None:
    from kornia.augmentation import RandomBrightness, RandomInvert

    store = clips([1, 4, 2, 3] * 6, split=split_of(12, 8, 4))
    data = Faces(store, batch_size=12, augment=[AFFINE, RandomInvert(p=1.0), RandomBrightness((1.2, 1.5), p=1.0)])
    model = run(data)
    for batches in model.seen.values():
        for batch in batches:
            assert not batch["mask"].all() and (batch["image"][~batch["mask"]] == 0).all()
            assert (batch["image"][batch["mask"]].amax((1, 2, 3)) > 0).all()


@pytest.mark.filterwarnings("ignore")
def test_equal_seeds_give_equal_batches() -> None:
    def seen(seed: int) -> list[dict[str, Tensor]]:
        store = clips([2] * 24, split=split_of(16, 4, 4))
        return run(Faces(store, batch_size=4, augment=[AFFINE]), seed, epochs=2).seen["train"]

    one, same, other = seen(1), seen(1), seen(2)
    assert len(one) == 8
    for a, b in zip(one, same, strict=True):
        assert torch.equal(a["image"], b["image"]) and torch.equal(a["index"], b["index"])
    assert any(not torch.equal(a["index"], b["index"]) for a, b in zip(one, other, strict=True))
    first, second = (torch.cat([batch["index"] for batch in one[i : i + 4]]) for i in (0, 4))
    assert not torch.equal(first, second), "each epoch is in an order of its own"


def test_workers_load_the_same_batches() -> None:
    store = clips([1, 2, 3] * 4, split=split_of(6, 3, 3))
    for alone, others in zip(
        Faces(store, batch_size=2).val_dataloader(), Faces(store, batch_size=2, workers=1).val_dataloader(), strict=True
    ):
        assert all(torch.equal(alone[key], others[key]) for key in alone)


def test_a_last_incomplete_batch_is_dropped_in_training_only() -> None:
    data = Faces(clips([1] * 27, split=split_of(9, 9, 9)), batch_size=4)
    assert [len(x["index"]) for x in data.train_dataloader()] == [4, 4]
    assert [len(x["index"]) for x in data.val_dataloader()] == [4, 4, 1]
    small = Faces(clips([1] * 9, split=split_of(3, 3, 3)), batch_size=4)
    assert [len(x["index"]) for x in small.train_dataloader()] == [3], "fewer items than a batch are one batch"


# --- statistics -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_pixel_statistics_are_those_of_the_training_images(channels: int) -> None:
    store = clips([1, 4, 2] * 7, channels, split=split_of(12, 4, 5))
    store.images[store.start[12] :] = 255  # what a leak would show
    data = Faces(store)
    pixels = store.images[: store.start[12]].reshape(-1, channels) / 255
    np.testing.assert_allclose(data.pixel_mean, pixels.mean(0))
    np.testing.assert_allclose(data.pixel_std, pixels.std(0))
    assert len(data.pixel_mean) == channels and isinstance(data.pixel_mean[0], float)


def test_pixel_statistics_of_more_than_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (9000, 4, 4), np.uint8)
    data = Faces(clips([1] * 9000, images=images, split=split_of(8998, 1, 1)))
    np.testing.assert_allclose(data.pixel_mean[0], images[:8998].mean() / 255)
    np.testing.assert_allclose(data.pixel_std[0], images[:8998].std() / 255)


def test_images_of_one_grey_can_be_normalised() -> None:
    data = Faces(clips([1] * 9, images=np.full((9, 12, 10), 51, np.uint8), split=split_of(3, 3, 3)))
    assert data.pixel_mean == pytest.approx([0.2]) and data.pixel_std[0] > 0


def test_class_counts_are_those_of_training() -> None:
    label = np.array([0, 0, 0, 1, 2, 2, 1, 1, 1, 1])
    data = Faces(clips([1] * 10, label=label, split=split_of(6, 2, 2)))
    assert data.class_counts == [3, 1, 2] and all(isinstance(n, int) for n in data.class_counts)


def test_the_fingerprint_tells_pixels_labels_and_splits_apart() -> None:
    def fingerprint(**fields: Any) -> dict[str, Any]:
        return Faces(clips([1] * 12, **({"split": split_of(6, 3, 3)} | fields))).fingerprint()

    base = fingerprint()
    assert json.loads(json.dumps(base)) == base == fingerprint()
    assert {split: entry["items"] for split, entry in base.items()} == {"train": 6, "val": 3, "test": 3}
    images, label = clips([1] * 12).images.copy(), np.arange(12) % 3
    images[7, 3, 3] ^= 1
    label[11] = 0
    for changed, where in ((fingerprint(images=images), "val"), (fingerprint(label=label), "test")):
        assert [split for split in base if changed[split] != base[split]] == [where]
    assert fingerprint(split=split_of(5, 4, 3))["train"] != base["train"]


# --- splits ---------------------------------------------------------------------------------------------------------


def test_validation_is_chosen_by_whole_subjects_where_they_are_known() -> None:
    store = clips([1] * 200, subjects=20)
    chosen = []
    for seed in range(5):
        items = Faces(store, val_fraction=0.25, split_seed=seed).items
        train, val = (set(store.subject[items[split]]) for split in ("train", "val"))  # type: ignore[index]
        assert not train & val and len(val) == 5 and len(items["train"]) + len(items["val"]) == 200
        chosen.append(frozenset(val))
    assert len(set(chosen)) > 1
    again = Faces(store, val_fraction=0.25, split_seed=0).items
    assert set(store.subject[again["val"]]) == chosen[0]


def test_validation_is_chosen_from_every_class_where_subjects_are_unknown() -> None:
    label = np.repeat([0, 1, 2], [100, 40, 2])
    store = clips([1] * 142, label=label)
    items = Faces(store, val_fraction=0.2).items
    assert np.bincount(label[items["val"]]).tolist() == [20, 8, 1]
    assert sorted(np.concatenate([items["train"], items["val"]])) == list(range(142))
    assert items["test"].tolist() == items["val"].tolist()


def test_one_known_subject_is_split_by_item() -> None:
    items = Faces(clips([1] * 30, subjects=1), val_fraction=0.2).items
    assert len(items["val"]) == 6 and len(items["train"]) == 24


def test_test_items_never_become_validation() -> None:
    data = Faces(clips([1] * 30, split=split_of(20, 0, 10)))
    assert data.items["test"].tolist() == list(range(20, 30))
    assert set(data.items["val"]) < set(range(20)) and data.notes("test") == []


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 15.0])
def test_a_share_outside_0_to_1_is_refused(fraction: float) -> None:
    with pytest.raises(FerlError, match="val_fraction"):
        Faces(clips([1] * 9), val_fraction=fraction)


def test_a_class_without_training_images_is_named() -> None:
    with pytest.raises(FerlError, match="Faces.* no training image of 'c'"):
        Faces(clips([1] * 9, label=np.array([0, 1, 0, 1, 0, 1, 2, 2, 2]), split=split_of(6, 2, 1))).setup("fit")


# --- classes --------------------------------------------------------------------------------------------------------


def named(names: list[str], **options: Any) -> FaceData:
    """Nine items of each class; the label names are the data set's own, out of the vocabulary."""
    data = Faces(clips([1] * 27, split=split_of(15, 6, 6)), **options)
    data.label_names = names
    return data


def test_a_subset_of_classes_filters_and_renumbers() -> None:
    data = named(["anger", "happiness", "neutral"], classes=["neutral", "happy"])
    store = data.raw
    assert data.class_names == ["neutral", "happiness"]
    for split, items in data.items.items():
        assert set(store.label[items]) == {1, 2}, split
        for own, label in zip(store.label[items], data.label[items], strict=True):
            assert data.class_names[label] == ["anger", "happiness", "neutral"][own]
    batches = [batch for batch in data.val_dataloader()]
    assert {int(k) for batch in batches for k in batch["label"]} == {0, 1}
    assert data.class_counts == [5, 5]
    assert data.notes("test") == ["Items of classes that are not told apart here were left out of all splits: 9 anger."]
    whole = named(["anger", "happiness", "neutral"])
    assert whole.class_names == ["anger", "happiness", "neutral"] and whole.notes("test") == []


def test_a_subset_in_the_own_order_changes_nothing() -> None:
    data = named(["anger", "happiness", "neutral"], classes=["anger", "happiness", "neutral"])
    assert data.fingerprint() == named(["anger", "happiness", "neutral"]).fingerprint()


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["anger", "hapiness"], "there is no class 'hapiness'; the classes are anger, happiness, neutral, disgust"),
        (["anger"], "at least two"),
        (["anger", "Angry"], "each once"),
    ],
)
def test_classes_that_are_none(classes: list[str], message: str) -> None:
    with pytest.raises(FerlError, match=f"data.classes: .*{message}"):
        _ = named(["anger", "happiness", "neutral"], classes=classes).class_names


def test_classes_the_data_lack_can_be_tested_but_not_learned() -> None:
    data = named(["anger", "happiness", "neutral"], classes=["anger", "fear", "happiness"])
    assert data.class_counts == [5, 0, 5]
    assert "The data has no images of fear." in data.notes("test")
    data.setup("test")
    with pytest.raises(FerlError, match="no training image of 'fear'"):
        data.setup("fit")


def test_items_without_a_label_are_in_no_split() -> None:
    store = clips([1] * 12, label=np.array([0, 1, 2, -1] * 3), split=split_of(4, 4, 4))
    data = Faces(store)
    assert all((store.label[items] >= 0).all() and len(items) == 3 for items in data.items.values())
    assert len(data.fingerprint()) == 3 and data.notes("test") == []


def test_subjects_in_two_splits_are_noted() -> None:
    (note, *_) = Faces(clips([1] * 12, subjects=4, split=split_of(5, 4, 3))).notes("test")
    assert note == "4 subject(s) are in train and in val: figures on these are too high."


def test_training_images_can_be_tested_as_they_are() -> None:
    store = clips([1] * 12, subjects=12, split=split_of(5, 4, 3))
    data = Faces(store, tested="train", augment=[AFFINE], balanced_sampling=True)
    (batch,) = data.test_dataloader()
    assert torch.equal(batch["image"][:, 0, 0], torch.from_numpy(store.images[:5]))
    assert data.item_subjects("test").tolist() == [f"s{i}" for i in range(5)]
    assert data.notes("test") == ["These are the training images, which the model has seen."]


def test_other_data_without_splits_is_tested_in_part_and_says_so_or_as_a_whole() -> None:
    store = clips([1] * 20, split=np.full(20, UNDECIDED))
    data = Faces(store)
    data.trained_on = np.array([1], np.uint64)
    (note,) = [note for note in data.notes("test") if "were drawn for the test" in note]
    assert f"{len(data.items['test'])} of its 20 items" in note
    data.trained_on = data.training_frames
    assert not data.notes("test")
    data = Faces(store, tested="all")
    assert data.items["test"].tolist() == [*range(20)] and "all images" in data.notes("test")[0]
    assert not data.copied_from_training("test").any()


def test_copies_of_training_frames_are_found() -> None:
    store = clips([2] * 9, split=split_of(4, 3, 2))
    store.images[2 * 5 + 1] = store.images[2 * 3]  # one frame of item 5 is one of item 3
    store.images[2 * 8] = store.images[2 * 6]  # validation and test share one: not with training
    data = Faces(store)
    assert data.copied_from_training("val").tolist() == [False, True, False]
    assert data.copied_from_training("test").tolist() == [False, False]
    assert data.copied_from_training("train").all()


# --- balanced sampling ----------------------------------------------------------------------------------------------


def rare(processes: int, batch_size: int = 50, items: int = 1000) -> list[Any]:
    """Training loaders of data with 90 / 9 / 1 % of three classes."""
    label = np.repeat([0, 1, 2], [items * 90 // 100, items * 9 // 100, items // 100])
    loaders = []
    for rank in range(processes):
        store = clips([1] * (items + 6), label=np.concatenate([label, [0, 1, 2] * 2]), split=split_of(items, 3, 3))
        data = Faces(store, batch_size=batch_size, balanced_sampling=True)
        data.trainer = Rank(rank, processes)  # type: ignore[assignment]
        loaders.append(data.train_dataloader())
    return loaders


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_balanced_sampling_draws_every_class_alike(processes: int) -> None:
    loaders = rare(processes)
    drawn = [torch.cat([batch["label"] for batch in loader]) for loader in loaders]
    assert len({len(labels) for labels in drawn}) == 1
    counts = torch.bincount(torch.cat(drawn), minlength=3)
    n = int(counts.sum())
    # Three standard deviations of a binomial draw.
    assert counts.tolist() == pytest.approx([n / 3] * 3, abs=3 * (n * 2 / 9) ** 0.5)


def test_balanced_sampling_of_several_processes_is_one_draw_dealt_out() -> None:
    def order(loader: Any, epoch: int) -> list[int]:
        loader.sampler.set_epoch(epoch)
        return [int(i) for i in loader.sampler]

    (alone,), two = rare(1), rare(2)
    first, second = (order(loader, 0) for loader in two)
    assert order(alone, 0) == [i for pair in zip(first, second, strict=True) for i in pair]
    assert order(alone, 0) == order(alone, 0) != order(alone, 1)


def test_evaluation_is_never_balanced() -> None:
    data = Faces(clips([1] * 12, label=np.array([0] * 9 + [1, 2, 0]), split=split_of(0, 12, 0)), balanced_sampling=True)
    assert torch.cat([batch["index"] for batch in data.val_dataloader()]).tolist() == list(range(12))


# --- preprocessing, and augmentation where items are loaded ---------------------------------------------------------


class Half(Preprocess):
    """Every second pixel, and a second channel."""

    def __init__(self, add: int = 0) -> None:
        self.add = add

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        small = image[::2, ::2]
        return np.concatenate([small, 255 - small + self.add], 2).astype(np.uint8)


def test_preprocessing_is_done_once_in_the_order_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERL_CACHE", str(tmp_path))
    store = clips([2, 3, 1] * 4, split=split_of(6, 3, 3))
    data = Faces(store, preprocess=[Half(), MedianFilter(3)])
    expected = np.stack([MedianFilter(3)(Half()(image[..., None])) for image in store.images])
    np.testing.assert_array_equal(data.store.images, expected)
    assert data.store.images.shape[1:] == (6, 5, 2) and len(data.pixel_mean) == 2
    np.testing.assert_array_equal(data.store.start, store.start)
    assert isinstance(Faces(store, preprocess=[Half(), MedianFilter(3)]).store.images, np.memmap)
    assert len(list(tmp_path.glob("*/manifest.json"))) == 1, "equal parts on equal images are one store"
    for other in ([Half()], [Half(1), MedianFilter(3)], [MedianFilter(3), Half()], [Half(), MedianFilter(5)]):
        assert not np.array_equal(Faces(store, preprocess=other).store.images, expected)
    np.testing.assert_array_equal(data.raw.images, store.images)


def test_images_to_predict_are_preprocessed_too(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (12, 12), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    store = clips([1] * 9, images=np.zeros((9, 12, 12), np.uint8), split=split_of(3, 3, 3))
    (batch,) = Faces(store, preprocess=[Half()], predict_folder=str(tmp_path)).predict_dataloader()
    np.testing.assert_array_equal(batch["image"][0, 0], Half()(image[..., None]).transpose(2, 0, 1))


def test_albumentations_change_training_items_only_and_the_frames_of_one_alike() -> None:
    picture = np.random.default_rng(0).integers(1, 256, (12, 10), np.uint8)
    store = clips([3, 2] * 12, images=np.broadcast_to(picture, (60, 12, 10)), split=split_of(16, 4, 4))
    data = Faces(store, batch_size=16, worker_augment=[albumentations.Affine(rotate=(-40, 40), p=1.0)])
    (batch,) = data.train_dataloader()
    (same,) = data.train_dataloader()
    assert torch.equal(batch["image"], same["image"]) and torch.equal(batch["index"], same["index"])
    later = data.train_dataloader()
    later.sampler.set_epoch(1)
    assert not torch.equal(batch["image"], next(iter(later))["image"])
    image = batch["image"]
    assert (image[:, 1] == image[:, 0]).all() and (image[batch["mask"][:, 2], 2] == image[batch["mask"][:, 2], 0]).all()
    assert (image[~batch["mask"]] == 0).all()
    assert len(torch.unique(image[:, 0].flatten(1), dim=0)) == 16
    assert all((batch["image"][:, 0, 0] == torch.from_numpy(picture)).all() for batch in data.val_dataloader())


def test_albumentations_may_come_before_preprocessing() -> None:
    """Brightness is what global contrast normalisation takes away, so that a change of it shows only after it."""
    store = clips([1] * 24, images=np.random.default_rng(0).integers(60, 180, (24, 12, 12), np.uint8))
    options = {"batch_size": 16, "preprocess": [GlobalContrast()]}
    brighter = albumentations.RandomBrightnessContrast((0.2, 0.2), (0.0, 0.0), p=1.0)

    def images(**more: Any) -> Tensor:
        (batch,) = Faces(store, **options, **more).train_dataloader()
        return batch["image"].float()

    plain = images()
    assert (images(worker_augment=[brighter]) - plain).mean() > 20
    assert (images(worker_augment=[brighter], worker_augment_first=True) - plain).abs().max() <= 2


def test_albumentations_that_do_not_fit_the_images_are_named() -> None:
    data = Faces(clips([1] * 9), preprocess=[Half()], worker_augment=[albumentations.CLAHE(p=1.0)])
    with pytest.raises(FerlError, match=r"data.worker_augment: .* shape \(6, 5, 2\): CLAHE transformation expects"):
        next(iter(data.train_dataloader()))


@pytest.mark.parametrize("workers", [0, 2])
def test_albumentations_follow_the_seed_in_workers_too(workers: int) -> None:
    def batches(seed: int) -> list[Tensor]:
        seed_everything(seed, workers=True, verbose=False)
        flip = [albumentations.RandomBrightnessContrast(p=1.0)]
        data = Faces(clips([1] * 20, split=split_of(14, 3, 3)), batch_size=4, workers=workers, worker_augment=flip)
        return [batch["image"] for batch in data.train_dataloader()]

    one, same, other = batches(1), batches(1), batches(2)
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not torch.equal(one[0], other[0]) and not torch.equal(one[0], one[1])


# --- several processes ----------------------------------------------------------------------------------------------


class Rank:
    """What a data module asks of a trainer that is one of several processes."""

    training = False

    def __init__(self, rank: int, world: int) -> None:
        self.global_rank, self.world_size = rank, world
        trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
        self.fit_loop, self.strategy = trainer.fit_loop, trainer.strategy


def loaders(kind: str, n: int, world: int, batch_size: int = 4) -> list[Any]:
    found = []
    for rank in range(world):
        data = Faces(clips([1] * (n + 6), split=split_of(*((n, 3, 3) if kind == "train" else (3, n, 3)))))
        data.batch_size = batch_size
        data.trainer = Rank(rank, world)  # type: ignore[assignment]
        found.append(getattr(data, f"{kind}_dataloader")())
    return found


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("n", [7, 9, 10, 24])
def test_ranks_evaluate_every_item_once(world: int, n: int) -> None:
    seen = [int(i) for loader in loaders("val", n, world) for batch in loader for i in batch["index"]]
    assert sorted(seen) == list(range(n))


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_train_on_different_items_in_a_new_order_each_epoch(world: int) -> None:
    orders = []
    for epoch in range(2):
        ranks = loaders("train", 24, world)
        for loader in ranks:
            loader.sampler.set_epoch(epoch)
        orders.append([[int(i) for batch in loader for i in batch["index"]] for loader in ranks])
        assert len({len(order) for order in orders[-1]}) == 1
        seen = [item for order in orders[-1] for item in order]
        assert len(seen) == len(set(seen)) and seen != sorted(seen)
    assert orders[0] != orders[1]


def test_ranks_with_fewer_items_than_a_batch_still_train() -> None:
    for loader in loaders("train", 10, 2, batch_size=8):
        assert [len(batch["index"]) for batch in loader] == [5]


def test_the_order_of_ranks_follows_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    orders = []
    for seed in ("1", "1", "2"):
        monkeypatch.setenv("PL_GLOBAL_SEED", seed)
        orders.append([int(i) for loader in loaders("train", 24, 2) for batch in loader for i in batch["index"]])
    assert orders[0] == orders[1] != orders[2]


# --- what a drawn split must not part, and what a model was trained on ----------------------------------------------


def test_copies_are_never_parted_by_a_drawn_split() -> None:
    store = clips([1] * 300, split=np.full(300, -1, np.int8))
    store.images[150:] = store.images[:150]
    for data in (Faces(store), Faces(replace(store, split=np.zeros(300, np.int8)))):
        assert not data.copied_from_training("val").any() and not data.copied_from_training("test").any()
        assert 20 < len(data.items["val"]) < 80


def test_a_class_of_three_has_an_item_in_each_drawn_split() -> None:
    label = np.array([0] * 20 + [1] * 3 + [2] * 2)
    items = Faces(clips([1] * 25, label=label, split=np.full(25, -1, np.int8))).items
    assert {split: np.bincount(label[items[split]], minlength=3).tolist() for split in items} == {
        "train": [14, 1, 2], "val": [3, 1, 0], "test": [3, 1, 0],
    }  # fmt: skip


def test_a_drawn_split_keeps_subjects_whole() -> None:
    store = clips([1] * 300, subjects=20, split=np.full(300, -1, np.int8))
    items = Faces(store).items
    people = [set(store.subject[items[split]]) for split in ("train", "val", "test")]  # type: ignore[index]
    assert [len(who) for who in people] == [14, 3, 3] and len(set.union(*people)) == 20
    assert len(Faces(store).notes("test")) == 1  # that it is drawn


def test_a_share_of_nearly_one_leaves_something_to_train_on() -> None:
    Faces(clips([1] * 9), val_fraction=0.95).setup("fit")


def test_loader_processes_are_as_many_as_a_machine_bears(caplog: pytest.LogCaptureFixture) -> None:
    assert 2 <= Faces(clips([1]), workers=10**6).workers <= 8 * (os.cpu_count() or 1)
    assert "data.workers is 1000000, and this machine has" in caplog.text


def test_blank_frames_make_no_copy_of_a_clip_that_has_others() -> None:
    store = clips([2] * 9, split=split_of(3, 3, 3))
    store.images[0] = store.images[2 * 4] = 0  # the first frames of a training and of a validation clip
    store.images[2:4] = store.images[2 * 5 : 2 * 6] = 7  # a clip of nothing in each
    assert Faces(store).copied_from_training("val").tolist() == [False, False, True]


@pytest.mark.skipif(sys.platform != "linux", reason="batches of workers go through /dev/shm on Linux")
def test_batches_that_find_no_room_between_processes_are_loaded_here(monkeypatch, caplog) -> None:
    """Torch would wait forever; Docker gives 64 MB."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10))
    assert Faces(clips([1]), workers=1).train_dataloader().num_workers == 0
    assert "/dev/shm has room for" in caplog.text and "--shm-size" in caplog.text


@pytest.mark.parametrize(("option", "value"), [("batch_size", 0), ("workers", -1)])
def test_numbers_out_of_range_are_named(option: str, value: int) -> None:
    with pytest.raises(FerlError, match=f"data.{option} is {value}"):
        Faces(clips([1] * 9), **{option: value})


def test_photos_far_from_square_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, shape in (("wide.png", (40, 160)), ("face.png", (50, 48))):
        cv2.imwrite(str(tmp_path / name), np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    photos, _ = read_photos(tmp_path, 48, False)
    assert photos.images.shape == (2, 48, 48)
    assert "1 of 2 images are far from square, such as wide.png (160 x 40), and are squashed" in caplog.text


def test_photos_need_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cv2.imwrite(str(tmp_path / "0.png"), np.full((30, 30), 7, np.uint8))
    monkeypatch.setenv("FERL_CACHE", str(tmp_path / "0.png"))
    assert (read_photos(tmp_path, 8, False)[0].images == 7).all()


def test_memory_does_not_grow_with_the_photos(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "0.png"), np.full((30, 30), 7, np.uint8))
    for n in range(1, 500):
        (tmp_path / f"{n}.png").hardlink_to(tmp_path / "0.png")
    tracemalloc.start()
    photos, _ = read_photos(tmp_path, 224, True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert photos.images.shape == (500, 224, 224, 3) and (photos.images[-1] == 7).all()
    assert peak < photos.images.nbytes / 10


def test_files_that_are_no_photos_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((8, 8), 7, np.uint8))
    (tmp_path / "b.jp2").write_bytes(b"\0\0\0\x0cjP  ")
    assert read_photos(tmp_path, 8, False)[0].name.tolist() == ["a.png"]
    assert "1 files in" in caplog.text and "b.jp2" in caplog.text
    (tmp_path / "list.txt").write_text("a.png\n")
    with pytest.raises(FerlError, match="list.txt is a list, not an image"):
        read_photos(tmp_path / "list.txt", 8, False)

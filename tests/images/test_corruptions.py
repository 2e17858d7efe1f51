"""Graded corruptions, each against the same thing written another way, and what a test under one of them reports."""

import csv
import json
from collections.abc import Callable
from io import BytesIO
from itertools import count
from math import ceil, erf, sqrt
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow
from scipy import ndimage

from ferlightning.checkpoint import load
from ferlightning.contracts.images import GradedCorruption
from ferlightning.data.datamodule import FaceData, Split
from ferlightning.data.sources.synthetic.datamodule import SyntheticFaces, draw_faces
from ferlightning.data.store import Store
from ferlightning.files import cache_dir
from ferlightning.images.corruptions import (
    JPEG,
    EyesOcclusion,
    GaussianBlur,
    GaussianNoise,
    LowLight,
    LowResolution,
    MouthOcclusion,
    Rotation,
)
from ferlightning.images.preprocess import Resize, SobelEdges
from ferlightning.plugins import parts
from ferlightning.testing import check_corruption
from tests.conftest import SMALL, TINY

Image = NDArray[np.uint8]
Ferl = Callable[..., Path]

SHIPPED = [part for part in parts("corrupt") if part.__module__.startswith("ferlightning.")]


@pytest.fixture(scope="module")
def faces() -> Image:
    """(N, 48, 48, 1)"""
    return draw_faces(["happiness", "anger", "surprise"], items_per_class=8, subjects=4).images[..., None]


@pytest.fixture(params=[1, 3], ids=["grey", "colour"])
def image(request: pytest.FixtureRequest) -> Image:
    """A smooth picture, as faces are, (60, 48, C); colours differ."""
    waves = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(60, 48, request.param)), (3, 3, 0))
    picture: Image = np.rint(128 + 110 * waves / np.abs(waves).max()).astype(np.uint8)
    return picture


# --- the contract ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", SHIPPED, ids=lambda part: part.__name__)
def test_shipped_parts_keep_the_contract(part: type[GradedCorruption]) -> None:
    check_corruption(part)


def test_all_parts_are_found() -> None:
    assert {part.__name__ for part in SHIPPED} == {
        "EyesOcclusion", "GaussianBlur", "GaussianNoise", "JPEG", "LowLight", "LowResolution", "MouthOcclusion",
        "Rotation",
    }  # fmt: skip


# --- each against an independent truth ------------------------------------------------------------------------------


def test_gaussian_blur(image: Image) -> None:
    planes = image.transpose(2, 0, 1).astype(float)
    for severity, share in enumerate([0.01, 0.02, 0.03, 0.04, 0.06], 1):
        sigma = share * 48
        blurred = [ndimage.gaussian_filter(x, sigma, mode="nearest", radius=ceil(3 * sigma)) for x in planes]
        np.testing.assert_allclose(GaussianBlur(severity)(image), np.dstack(blurred), atol=0.501)


@pytest.mark.parametrize("channels", [1, 3])
def test_gaussian_noise_has_its_standard_deviation(channels: int) -> None:
    grey = np.full((120, 100, channels), 128, np.uint8)
    for severity, strength in enumerate([0.04, 0.08, 0.12, 0.15, 0.18], 1):
        noise = GaussianNoise(severity)(grey).astype(float) - 128
        std, n = 255 * strength, noise.size
        for level in range(0, min(127, int(2 * std)), 10):  # shares of small values: large ones are clipped
            share = erf((level + 0.5) / (std * sqrt(2)))
            assert np.mean(np.abs(noise) <= level) == pytest.approx(share, abs=4 * sqrt(share * (1 - share) / n))
        assert abs(np.median(noise)) <= 1 + 4 * 1.2533 * std / sqrt(n)
    for axis in range(3 if channels > 1 else 2):
        assert abs(np.corrcoef(noise.ravel(), np.roll(noise, 1, axis).ravel())[0, 1]) < 5 / sqrt(n)


def test_gaussian_noise_is_the_images_own_and_the_same_at_every_severity() -> None:
    one, other = (np.full((80, 80, 1), grey, np.uint8) for grey in (127, 128))
    weak, strong = (GaussianNoise(severity)(one).ravel().astype(float) for severity in (1, 4))
    assert np.corrcoef(weak, strong)[0, 1] > 0.98
    assert abs(np.corrcoef(weak, GaussianNoise(1)(other).ravel())[0, 1]) < 5 / 80


def test_gaussian_noise_is_the_same_in_every_process() -> None:
    """What it was once, in another process."""
    grey = np.arange(100, 108, dtype=np.uint8)[None, :, None]
    assert GaussianNoise(2)(grey).ravel().tolist() == [129, 105, 77, 98, 94, 93, 99, 97]


def test_gaussian_noise_is_cut_and_does_not_wrap_around() -> None:
    for grey in (0, 255):
        noisy = GaussianNoise(5)(np.full((50, 50, 1), grey, np.uint8))
        assert np.mean(noisy == grey) == pytest.approx(0.5, abs=0.05) and np.abs(noisy.astype(int) - grey).max() < 230


def test_jpeg_is_pillows(image: Image) -> None:
    for severity, quality in enumerate([65, 50, 25, 15, 7], 1):
        file = BytesIO()
        Pillow.fromarray(image.squeeze()).save(file, "JPEG", quality=quality)
        expected = np.asarray(Pillow.open(file)).reshape(image.shape).astype(float)
        found = JPEG(severity)(image)
        # Two libraries round in their own ways.
        assert np.abs(found - expected).mean() < 0.5 < np.abs(image - expected).mean()


def test_low_light(image: Image) -> None:
    for severity, exponent in enumerate([1.5, 2, 3, 4, 5], 1):
        expected = [round(255 * (grey / 255) ** exponent) for grey in image.ravel().tolist()]
        np.testing.assert_array_equal(LowLight(severity)(image).ravel(), expected)


@pytest.mark.parametrize(("part", "centre"), [(EyesOcclusion, 0.38), (MouthOcclusion, 0.78)])
def test_occlusion_is_a_black_rectangle(part: type[GradedCorruption], centre: float) -> None:
    for height in (48, 60, 101):
        image = np.random.default_rng(0).integers(1, 256, (height, 37, 3), np.uint8)
        middle = (np.arange(height) + 0.5) / height  # of each row
        for severity, half in enumerate([0.04, 0.08, 0.12, 0.16, 0.2], 1):
            band = (middle > centre - half) & (middle < centre + half)
            result = part(severity)(image)
            assert not result[band].any()
            np.testing.assert_array_equal(result[~band], image[~band])


@pytest.mark.parametrize(("part", "feature"), [(EyesOcclusion, "eyes"), (MouthOcclusion, "mouth")])
def test_occlusion_hides_what_it_is_named_for(part: type[GradedCorruption], feature: str, faces: Image) -> None:
    """The darkest row of the upper and of the lower face, in the mean of drawn faces, has the pupils and the mouth."""
    row = faces[:, :, 12:36].mean((0, 2, 3))
    rows = {"eyes": 14 + int(row[14:26].argmin()), "mouth": 31 + int(row[31:43].argmin())}
    hidden = (part(3)(np.full((48, 48, 1), 255, np.uint8)) == 0).all((1, 2))
    assert {name for name in rows if hidden[rows[name]]} == {feature}


def test_rotation(image: Image) -> None:
    for severity, angle in enumerate([5, 10, 20, 30, 45], 1):
        expected, wrong = (
            ndimage.rotate(image.astype(float), x, reshape=False, order=1, mode="nearest") for x in (angle, -angle)
        )
        found = Rotation(severity)(image)
        error = np.abs(found - expected)
        assert error.max() < 6 and error.mean() < 1  # OpenCV rounds places to 1 / 32
        assert np.abs(found - wrong).mean() > 5


def test_low_resolution(image: Image) -> None:
    for severity, width in ((2, 24), (3, 16), (4, 12), (5, 8)):
        step = 48 // width
        expected = image.reshape(60 // step, step, width, step, -1).astype(float).mean((1, 3))
        for axis, size in ((0, 60), (1, 48)):
            places = (np.arange(size) + 0.5) / step - 0.5
            expected = np.apply_along_axis(lambda x, at: np.interp(at, np.arange(len(x)), x), axis, expected, places)
        np.testing.assert_allclose(LowResolution(severity)(image), expected, atol=1.25)  # rounded twice


def test_low_resolution_leaves_images_that_are_no_wider() -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 16, 1), np.uint8)
    np.testing.assert_array_equal(LowResolution(3)(image), image)
    assert (LowResolution(4)(image) != image).any()


@pytest.mark.parametrize("part", [GaussianBlur, EyesOcclusion, MouthOcclusion, Rotation])
def test_a_severity_means_the_same_at_every_size(part: type[GradedCorruption]) -> None:
    """Corrupted and then made smaller is about what it is the other way round."""
    large = draw_faces(["happiness"], items_per_class=3, subjects=3, size=144).images[0][..., None]
    small = cv2.resize(large, (48, 48), interpolation=cv2.INTER_AREA)[..., None]
    for severity in (1, 3, 5):
        shrunk = cv2.resize(part(severity)(large), (48, 48), interpolation=cv2.INTER_AREA)[..., None]
        done = part(severity)(small).astype(float)
        assert np.abs(done - shrunk).mean() < 0.2 * np.abs(done - small).mean() + 1


# --- in a data set --------------------------------------------------------------------------------------------------


class Clips(FaceData):
    """Six clips, two of them to train on; no pixel is black, as padding is."""

    label_names = ["a", "b"]

    def read(self) -> Store:
        start = np.cumsum([0, 1, 2, 3, 1, 2, 3])
        images = np.random.default_rng(0).integers(60, 200, (start[-1], 32, 32), np.uint8)
        names = np.array([f"item {n}" for n in range(6)])
        return Store.of(images, np.arange(6) % 2, np.array([0, 0, 1, 1, 2, 2], np.int8), names, start=start)


CHAIN = [Resize(24), SobelEdges()]


def batches(data: FaceData, split: str) -> list[dict[str, Any]]:
    return list(getattr(data, f"{split}_dataloader")())


@pytest.mark.parametrize("split", ["val", "test", "predict"])
def test_frames_are_corrupted_before_they_are_preprocessed(split: str) -> None:
    data = Clips(corrupt=GaussianNoise(3), preprocess=CHAIN)
    (batch,) = batches(data, split)
    store, items = data.raw, data.items["val" if split == "val" else "test"]
    assert batch["image"].shape == (2, 3, 2, 24, 24)
    for row, item in enumerate(items):
        frames = store.images[store.start[item] : store.start[item + 1]]
        for n, frame in enumerate(frames):
            expected = SobelEdges()(Resize(24)(GaussianNoise(3)(frame[:, :, None])))
            np.testing.assert_array_equal(batch["image"][row, n], expected.transpose(2, 0, 1))
        assert not batch["image"][row, len(frames) :].any(), "padding stays black"


def test_order_batch_size_and_workers_change_nothing() -> None:
    data = Clips(corrupt=GaussianNoise(5))
    (batch,) = batches(data, "test")
    last, first = data.test_dataloader().dataset.__getitems__([1, 0])["image"]  # type: ignore[attr-defined]
    assert batch["image"][0].equal(first) and batch["image"][1].equal(last)
    one_by_one = batches(Clips(corrupt=GaussianNoise(5), batch_size=1, workers=1), "test")
    for expected, single in zip(batch["image"], one_by_one, strict=True):
        assert expected[: single["image"].shape[1]].equal(single["image"][0])


def test_training_images_and_what_is_said_of_the_data_are_of_clean_images() -> None:
    clean, corrupted = Clips(preprocess=CHAIN), Clips(corrupt=LowLight(5), preprocess=CHAIN)
    torch.manual_seed(0)
    (one,) = batches(clean, "train")
    stores = set(cache_dir().iterdir())
    torch.manual_seed(0)
    (other,) = batches(corrupted, "train")
    assert one["image"].equal(other["image"])
    for name in ("class_counts", "pixel_mean", "pixel_std", "class_names"):
        assert getattr(clean, name) == getattr(corrupted, name)
    assert clean.fingerprint() == corrupted.fingerprint()
    np.testing.assert_array_equal(clean.training_frames, corrupted.training_frames)
    assert not batches(corrupted, "test")[0]["image"].equal(batches(clean, "test")[0]["image"])
    assert set(cache_dir().iterdir()) == stores, "no store is written for a corruption"


def test_copies_of_training_images_are_found_though_they_are_corrupted_when_tested() -> None:
    class Copied(Clips):
        def read(self) -> Store:
            store = super().read()
            store.images[store.start[4]] = store.images[0]
            return store

    assert Copied(corrupt=JPEG(5)).copied_from_training("test").tolist() == [True, False]


@pytest.mark.parametrize("preprocess", [[], CHAIN])
def test_images_of_a_folder_are_corrupted_too(tmp_path: Path, preprocess: list[Any]) -> None:
    data = Clips(corrupt=Rotation(3), predict_folder=str(tmp_path), preprocess=preprocess)
    for n, frame in enumerate(data.raw.images[:3]):
        cv2.imwrite(str(tmp_path / f"{n}.png"), frame)
    (batch,) = batches(data, "predict")
    for n, frame in enumerate(data.raw.images[:3]):
        expected = Rotation(3)(frame[:, :, None])
        for part in preprocess:
            expected = part(expected)
        np.testing.assert_array_equal(batch["image"][n, 0], expected.transpose(2, 0, 1))


def test_notes_say_which_corruption_unless_the_images_are_clean() -> None:
    splits: tuple[Split, ...] = ("val", "test")
    assert batches(Clips(corrupt=JPEG(0)), "test")[0]["image"].equal(batches(Clips(), "test")[0]["image"])
    for split in splits:
        assert "The images were corrupted: JPEG, severity 3 of 5." in Clips(corrupt=JPEG(3)).notes(split)
        assert Clips(corrupt=JPEG(0)).notes(split) == Clips().notes(split)


# --- the command line -----------------------------------------------------------------------------------------------


def report(folder: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(folder, "metrics.json").read_text())
    with Path(folder, "predictions.csv").open() as file:
        return found | {"rows": list(csv.DictReader(file))}


def test_a_validation_under_a_corruption(ferl: Ferl) -> None:
    run = ferl("fit", "--data=SyntheticFaces", *TINY, *SMALL, "--trainer.max_epochs=1")
    words = [f"--ckpt_path={run}/checkpoints/best.ckpt", "--data.corrupt=LowLight", "--data.corrupt.severity=5"]
    words += ["--trainer.precision=32-true"]  # that of load, below
    ferl("validate", *words, "--trainer.default_root_dir=dark")
    clean, dark = report(f"{run}/report_val"), report("dark/report_val")
    note = "The images were corrupted: LowLight, severity 5 of 5."
    assert (
        note not in clean["notes"] and note in dark["notes"] and note in Path("dark/report_val/report.html").read_text()
    )
    assert [row["name"] for row in dark["rows"]] == [row["name"] for row in clean["rows"]]
    assert dark["metrics"]["nll"]["value"] != clean["metrics"]["nll"]["value"]
    assert dark["provenance"]["data"] == clean["provenance"]["data"]
    assert "LowLight" not in (run / "config.yaml").read_text()

    # The model's own answer to the same images, corrupted here.
    data = SyntheticFaces(items_per_class=10, subjects=5)
    images = np.stack([LowLight(5)(image[:, :, None]) for image in data.raw.images[data.items["val"]]])
    with torch.inference_mode():
        logits = load(run / "checkpoints" / "best.ckpt")(torch.from_numpy(images).movedim(3, 1)[:, None] / 255).logits
    confidence = [float(row["confidence"]) for row in dark["rows"]]
    np.testing.assert_allclose(logits.softmax(1).amax(1), confidence, atol=1e-4)


def test_a_fit_refuses_corrupted_images(ferl: Ferl, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        ferl("fit", "--data=SyntheticFaces", *TINY, *SMALL, "--data.corrupt=JPEG", "--data.corrupt.severity=3")
    assert "data.corrupt is for validate, test and predict" in capsys.readouterr().err
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--data.corrupt=JPEG", "--data.corrupt.severity=9"], "JPEG: severity is 9, expected a number from 1 to 5"),
        (["--data.corrupt=JPG"], "data.corrupt: there is no part called 'JPG' (did you mean JPEG?)"),
    ],
)
def test_mistakes_are_named(ferl: Ferl, capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    with pytest.raises(SystemExit):
        ferl("fit", "--data=SyntheticFaces", *TINY, *SMALL, *words)
    shown = capsys.readouterr().err
    assert said in shown and "Traceback" not in shown and shown.count("\n") <= 2, shown


# --- broken parts; a leading underscore keeps them out of the table of parts ------------------------------------------


class _Dims(GradedCorruption):
    """Sound."""

    strengths = (0.9, 0.8, 0.7, 0.6, 0.5)

    def corrupt(self, image: Image, strength: float) -> Image:
        return (image * strength).astype(np.uint8)


class _NoSlot:
    strengths = _Dims.strengths

    def __init__(self, severity: int) -> None:
        pass


def broken(**changes: Any) -> type[_Dims]:
    return type("_Broken", (_Dims,), changes)


def corrupting(change: Callable[[Image, float], Any]) -> type[_Dims]:
    return broken(corrupt=lambda self, image, strength: change(image, strength))


CALLS = count()
GREY_ONLY = corrupting(lambda image, strength: (image.reshape(*image.shape[:2], 1) * strength).astype(np.uint8))


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (_NoSlot, "is no subclass of ferlightning.contracts.GradedCorruption"),
        (
            broken(strengths=(0.9, 0.8, 0.7, 0.6), __init__=lambda self, severity: None),
            "must have 5 strengths; found 4",
        ),
        (broken(__init__=lambda self, severity: setattr(self, "severity", severity)), "must refuse severity -1"),
        (broken(__call__=lambda self, image: self.corrupt(image, 0.5)), "severity 0 must leave the image as it is"),
        (
            corrupting(lambda image, _: np.random.default_rng().integers(0, 256, image.shape, np.uint8)),
            "a second part in another order gives another result",
        ),
        (
            corrupting(lambda image, strength: (image * strength).astype(np.uint8) + np.uint8(next(CALLS) % 2)),
            "a second part in another order gives another result",
        ),
        (corrupting(lambda image, _: image[1:].copy()), "must keep the shape of"),
        (corrupting(lambda image, _: image.fill(0)), "fails on"),
        (broken(strengths=_Dims.strengths[::-1]), "a higher severity must spoil more"),
        (GREY_ONLY, r"fails on \(48, 48, 3\)"),
    ],
)
def test_broken_parts(part: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=message) as caught:
        check_corruption(part)
    assert str(caught.value).startswith(part.__name__)


def test_the_sound_part_that_the_broken_ones_derive_from_passes() -> None:
    check_corruption(_Dims)
    check_corruption(GREY_ONLY, channels=(1,))

"""Preprocessing parts, each against the same thing written another way, and their contract check."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from jsonargparse import ArgumentParser, Namespace
from numpy.typing import NDArray
from scipy import ndimage

from ferlightning.contracts.images import Preprocess
from ferlightning.errors import FerlError
from ferlightning.images.preprocess import (
    CLAHE,
    CannyEdges,
    GaussianFilter,
    GlobalContrast,
    HistogramEqualization,
    KernelFilter,
    LocalBinaryPattern,
    MedianFilter,
    Resize,
    SobelEdges,
)
from ferlightning.plugins import parts
from ferlightning.testing import check_preprocess

Image = NDArray[np.uint8]

REQUIRED: dict[str, dict[str, Any]] = {
    "Resize": {"size": 32},
    "CannyEdges": {"low": 100.0, "high": 300.0},
    "AlignEyes": {"detector": "mtcnn"},  # yunet's file is not everywhere
}
"""Options without a default."""

SHIPPED = [part for part in parts("preprocess") if part.__module__.startswith("ferlightning.")]


def noise(channels: int = 1, height: int = 24, width: int = 19, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def smooth(channels: int = 1, height: int = 48, width: int = 40) -> Image:
    """Low in contrast, and smooth, as faces are."""
    waves = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(height, width, channels)), (4, 4, 0))
    return np.rint(120 + 30 * waves / np.abs(waves).max()).astype(np.uint8)


def luma(image: Image) -> NDArray[np.float64]:
    """Rec. 601, that of JPEG. (H, W, 3) -> (H, W)."""
    return image[..., :3] @ np.array([0.299, 0.587, 0.114])


@pytest.fixture(params=[1, 3, 5])
def channels(request: pytest.FixtureRequest) -> int:
    return int(request.param)


# --- the contract ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", SHIPPED, ids=lambda part: part.__name__)
def test_shipped_parts_keep_the_contract(part: type[Preprocess]) -> None:
    check_preprocess(partial(part, **REQUIRED.get(part.__name__, {})))


def test_all_parts_are_found() -> None:
    found = {part.__name__ for part in SHIPPED if part.__module__ == "ferlightning.images.preprocess"}
    assert found == {
        "CLAHE", "CannyEdges", "GaussianFilter", "GlobalContrast", "HistogramEqualization", "KernelFilter",
        "LocalBinaryPattern", "MedianFilter", "Resize", "SobelEdges",
    }  # fmt: skip


def test_added_channels_come_last(channels: int) -> None:
    image = noise(channels)
    for part in (SobelEdges(5), CannyEdges(50, 200), LocalBinaryPattern(append=True)):
        result = part(image)
        assert result.shape == (24, 19, channels + 1)
        np.testing.assert_array_equal(result[:, :, :channels], image)


def test_transposed_and_memory_mapped_images(tmp_path: Path) -> None:
    image = noise(3)
    np.save(tmp_path / "image.npy", image)
    mapped = np.load(tmp_path / "image.npy", mmap_mode="r")
    turned = np.asfortranarray(image)
    for kind in SHIPPED:
        part = kind(**REQUIRED.get(kind.__name__, {}))
        for other in (mapped, turned):
            result = part(other)
            assert type(result) is np.ndarray and result.flags.c_contiguous
            np.testing.assert_array_equal(result, part(image))


def test_images_smaller_than_a_kernel() -> None:
    for kind in (*SHIPPED, partial(MedianFilter, 9), partial(GaussianFilter, 3.0), partial(SobelEdges, 7)):
        part = kind(**REQUIRED.get(getattr(kind, "__name__", ""), {}))
        for size in ((1, 1), (1, 5), (4, 3)):
            assert part(noise(1, *size)).ndim == 3


# --- size -----------------------------------------------------------------------------------------------------------


def test_resize_makes_squares_and_leaves_its_own_size_alone(channels: int) -> None:
    for size in (12, 24, 31, 48):
        assert Resize(size)(noise(channels, 24, 36)).shape == (size, size, channels)
    image = noise(channels, 20, 20)
    np.testing.assert_array_equal(Resize(20)(image), image)


def test_shrinking_takes_the_mean_of_each_area(channels: int) -> None:
    image = noise(channels, 24, 36)
    expected = image.reshape(12, 2, 12, 3, channels).mean((1, 3))
    np.testing.assert_allclose(Resize(12)(image), expected, atol=0.5 + 1e-6)


def test_an_axis_that_shrinks_does_not_alias_where_the_other_grows() -> None:
    stripes = np.zeros((8, 64, 1), np.uint8)
    stripes[:, ::2] = 200
    assert (Resize(16)(stripes) == 100).all()


def test_growing_interpolates_linearly() -> None:
    ramp = np.arange(0, 200, 20, dtype=np.uint8)
    image = np.broadcast_to(ramp[None, :, None], (10, 10, 1))
    centres = (np.arange(40) + 0.5) / 4 - 0.5  # of the new pixels, in old pixels
    expected = np.interp(centres, np.arange(10), ramp)
    np.testing.assert_allclose(Resize(40)(image)[7, :, 0], expected, atol=0.51)
    step = np.repeat(np.array([50, 180], np.uint8), 5)[None, :, None].repeat(10, 0)
    assert Resize(64)(step).min() == 50 and Resize(64)(step).max() == 180, "no rims beside an edge"


# --- filters --------------------------------------------------------------------------------------------------------


def test_median(channels: int) -> None:
    image = noise(channels)
    for size in (3, 5, 11):
        expected = ndimage.median_filter(image, (size, size, 1), mode="nearest")
        np.testing.assert_array_equal(MedianFilter(size)(image), expected)


def test_gaussian(channels: int) -> None:
    image = noise(channels)
    for sigma, size, radius in ((0.7, None, 3), (2.5, None, 8), (1.5, 5, 2)):
        x = np.arange(-radius, radius + 1)
        kernel = np.exp(-(x[:, None] ** 2 + x**2) / (2 * sigma**2))
        expected = ndimage.correlate(image.astype(float), (kernel / kernel.sum())[:, :, None], mode="nearest")
        np.testing.assert_allclose(GaussianFilter(sigma, size)(image), expected, atol=0.501)


@pytest.mark.parametrize(
    "kernel",
    [
        None,
        [[0.0, 0.0, 0.0], [0.0, 0.0, 2.0], [0.0, -1.0, 0.0]],  # would differ turned around, as in a convolution
        [[0.25, 0.5, 0.25]],
        [[0.5], [0.0], [-0.25], [0.0], [0.5]],
        np.random.default_rng(0).normal(size=(13, 11)).round(3).tolist(),
    ],
    ids=["default", "askew", "row", "column", "large"],
)
def test_kernel(kernel: list[list[float]] | None) -> None:
    image = noise(3)
    weights = np.array(kernel or [[0, -1, 0], [-1, 5, -1], [0, -1, 0]], float)
    expected = ndimage.correlate(image.astype(float), weights[:, :, None], mode="nearest").clip(0, 255)
    assert (expected == 255).any() or (expected == 0).any() or kernel == [[0.25, 0.5, 0.25]]
    result = (KernelFilter() if kernel is None else KernelFilter(kernel))(image)
    np.testing.assert_allclose(result, expected, atol=0.501)


# --- contrast -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("regularizer", [0.0, 400.0])
def test_global_contrast(regularizer: float, channels: int) -> None:
    image = smooth(channels)
    image[0, 0] = 255  # beyond three standard deviations
    x = image.astype(np.float64)
    z = (x - x.mean()) / np.sqrt(regularizer + ((x - x.mean()) ** 2).mean())
    expected = ((z + 3) / 6 * 255).clip(0, 255)
    result = GlobalContrast(regularizer)(image)
    np.testing.assert_allclose(result, expected, atol=0.5 + 1e-9)
    assert regularizer or result.max() == 255


@pytest.mark.parametrize("regularizer", [0.0, 10.0])
def test_one_grey_becomes_mid_grey(regularizer: float) -> None:
    for grey in (0, 77, 255):
        assert (GlobalContrast(regularizer)(np.full((7, 9, 3), grey, np.uint8)) == 128).all()


def equalised(plane: Image) -> NDArray[np.float64]:
    """By the cumulative histogram: the lowest level that occurs becomes 0, the highest 255."""
    levels = sorted(set(plane.ravel().tolist()))
    at_most = {level: int((plane <= level).sum()) for level in levels}
    first = at_most[levels[0]]
    table = {level: 255 * (at_most[level] - first) / (plane.size - first) for level in levels}
    return np.array([[table[level] for level in row] for row in plane.tolist()])


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_histogram_equalization_of_each_channel(channels: int) -> None:
    image = smooth(channels)
    result = HistogramEqualization()(image)
    for c in range(channels):
        np.testing.assert_allclose(result[:, :, c], equalised(image[:, :, c]), atol=0.5 + 1e-4)


def test_histogram_equalization_of_rgb_is_that_of_its_luminance() -> None:
    grey = smooth()
    result = HistogramEqualization()(grey.repeat(3, axis=2))
    np.testing.assert_allclose(result, equalised(grey[:, :, 0])[:, :, None].repeat(3, axis=2), atol=1)

    image = noise(3, 96, 80) // 2 + 60
    y = np.rint(luma(image))
    # Equal differences from the luminance are equal hues. A luminance that rounds the other way is a step further.
    expected = (equalised(y.astype(np.uint8))[:, :, None] + image - y[:, :, None]).clip(0, 255)
    np.testing.assert_allclose(HistogramEqualization()(image), expected, atol=6)
    assert np.abs(HistogramEqualization()(image) - expected).mean() < 0.5
    channel_by_channel = np.dstack([equalised(image[:, :, c]) for c in range(3)])
    assert np.abs(HistogramEqualization()(image) - channel_by_channel).mean() > 10


def test_histogram_equalization_keeps_one_grey(channels: int) -> None:
    image = np.full((9, 9, channels), 90, np.uint8)
    np.testing.assert_allclose(HistogramEqualization()(image), image, atol=1)


def local_contrast(image: Image) -> float:
    """Mean standard deviation within 8 x 8 blocks."""
    h, w, c = image.shape
    return float(image.reshape(h // 8, 8, w // 8, 8, c).std((1, 3)).mean())


def test_clahe_raises_local_contrast_up_to_its_clip(channels: int) -> None:
    image = smooth(channels)
    contrasts = [local_contrast(image), *(local_contrast(CLAHE(clip, 4)(image)) for clip in (2.0, 4.0, 40.0))]
    assert contrasts == sorted(contrasts) and contrasts[1] > 1.2 * contrasts[0] and contrasts[3] > 1.2 * contrasts[1]


def test_clahe_keeps_one_grey_even(channels: int) -> None:
    result = CLAHE()(np.full((48, 48, channels), 90, np.uint8))
    assert (result == result[0, 0]).all()


def test_clahe_of_one_tile_without_clipping_is_histogram_equalization_from_the_first_pixel() -> None:
    image = smooth()
    plane = image[:, :, 0]
    expected = [[255 * (plane <= level).sum() / plane.size for level in row] for row in plane]
    np.testing.assert_allclose(CLAHE(256.0, 1)(image)[:, :, 0], expected, atol=0.5 + 1e-3)


def test_clahe_of_rgb_keeps_hues() -> None:
    grey = smooth()
    result = CLAHE(2.0, 4)(grey.repeat(3, axis=2))
    np.testing.assert_allclose(result, CLAHE(2.0, 4)(grey).repeat(3, axis=2), atol=1)


# --- edges and texture ----------------------------------------------------------------------------------------------

SOBEL = {3: ([-1, 0, 1], [1, 2, 1]), 5: ([-1, -2, 0, 2, 1], [1, 4, 6, 4, 1])}


def grey_of(image: Image) -> NDArray[np.float64]:
    return np.rint(luma(image)) if image.shape[2] >= 3 else image[:, :, 0].astype(float)


def test_sobel(channels: int) -> None:
    image = noise(channels) // 128 * 255
    for size, masks in SOBEL.items():
        slope, weight = (np.array(x, float) for x in masks)
        across = ndimage.correlate(grey_of(image), np.outer(weight, slope), mode="nearest")
        down = ndimage.correlate(grey_of(image), np.outer(slope, weight), mode="nearest")
        expected = np.hypot(across, down) / (weight.sum() * slope[slope > 0].sum())
        assert (expected > 120).any()
        # The luminance itself may round the other way.
        tolerance = 0.5 + 1e-4 if channels < 3 else 1.5
        np.testing.assert_allclose(SobelEdges(size)(image)[:, :, -1], expected.clip(0, 255), atol=tolerance)


@pytest.mark.parametrize("size", [3, 5, 7])
def test_sobel_of_a_step(size: int) -> None:
    image = np.zeros((20, 20, 1), np.uint8)
    image[:, 10:] = 255
    for step in (image, image.transpose(1, 0, 2), 255 - image):
        edges = SobelEdges(size)(step)[:, :, 1]
        assert edges.max() == 255 and edges[0, 0] == edges[-1, -1] == 0
    assert (SobelEdges(size)(image)[:, 9:11, 1] == 255).all()
    corner = np.minimum(image, image.transpose(1, 0, 2))
    assert SobelEdges(size)(corner)[:, :, 1].max() == 255, "what is beyond 255 is clipped, not wrapped around"


def test_canny_is_opencvs(channels: int) -> None:
    image = smooth(channels)
    grey = cv2.cvtColor(np.ascontiguousarray(image[:, :, :3]), cv2.COLOR_RGB2GRAY) if channels >= 3 else image[:, :, 0]
    expected = cv2.Canny(np.ascontiguousarray(grey), 5, 10, L2gradient=True)
    assert 0.01 < (expected > 0).mean() < 0.5
    assert (expected != cv2.Canny(np.ascontiguousarray(grey), 5, 10)).any()
    np.testing.assert_array_equal(CannyEdges(5, 10)(image)[:, :, -1], expected)


def lbp(grey: NDArray[np.float64]) -> Image:
    height, width = grey.shape
    codes = np.zeros((height, width), np.uint8)
    for row in range(height):
        for column in range(width):
            code = 0
            for value, down, right in (
                (1, 0, 1), (2, -1, 1), (4, -1, 0), (8, -1, -1), (16, 0, -1), (32, 1, -1), (64, 1, 0), (128, 1, 1),
            ):  # fmt: skip
                y, x = min(max(row + down, 0), height - 1), min(max(column + right, 0), width - 1)
                code += value * int(grey[y, x] >= grey[row, column])
            codes[row, column] = code
    return codes


def test_local_binary_pattern(channels: int) -> None:
    # Few levels, so that equal neighbours occur; equal in all channels, so that the luminance is exact.
    image = (noise() // 40 * 40).repeat(channels, axis=2)
    codes = lbp(image[:, :, 0].astype(float))
    assert len(np.unique(codes)) > 100
    for append in (False, True):
        result = LocalBinaryPattern(append)(image)
        np.testing.assert_array_equal(result[:, :, -1], codes)
        assert result.shape[2] == (channels + 1 if append else 1)


def test_local_binary_pattern_of_rgb_reads_its_luminance() -> None:
    image = noise(3)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    assert np.abs(grey - luma(image)).max() <= 0.51
    np.testing.assert_array_equal(LocalBinaryPattern()(image)[:, :, 0], lbp(grey.astype(float)))


def test_the_luminance_is_that_of_rgb_not_bgr() -> None:
    """Red and blue of one value differ in luminance: an edge between them has its height."""
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, :4, 0] = image[:, 4:, 2] = 200
    step = abs(0.299 - 0.114) * 200
    assert abs(float(SobelEdges()(image)[4, 4, 3]) - step) <= 1
    green = np.zeros((8, 8, 3), np.uint8)
    green[:, :4, 0], green[:, 4:, 1] = 200, 102  # 0.299 * 200 = 0.587 * 102
    assert SobelEdges()(green)[:, :, 3].max() <= 1


# --- options --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Resize(0), "Resize: size is 0, expected a number from 1"),
        (lambda: Resize(100_000), "Resize: size is 100000, expected a number from 1 to 8192"),
        (lambda: MedianFilter(4), "MedianFilter: size is 4, expected an odd number from 3"),
        (lambda: MedianFilter(1), "MedianFilter: size is 1, expected an odd number from 3"),
        (lambda: GaussianFilter(0.0), "GaussianFilter: sigma is 0.0, expected a number above 0"),
        (lambda: GaussianFilter(float("nan")), "GaussianFilter: sigma is nan"),
        (lambda: GaussianFilter(1.0, 6), "GaussianFilter: size is 6, expected an odd number from 3"),
        (lambda: KernelFilter([]), r"KernelFilter: kernel has rows of \[\] weights, expected an odd number"),
        (lambda: KernelFilter([[1.0], [1.0]]), r"KernelFilter: kernel has rows of \[1, 1\] weights"),
        (lambda: KernelFilter([[1.0], [1.0, 2.0, 3.0], [1.0]]), r"KernelFilter: kernel has rows of \[1, 3, 1\]"),
        (lambda: KernelFilter([[float("inf")]]), r"KernelFilter: kernel has the weights \[inf\]"),
        (lambda: GlobalContrast(-1.0), "GlobalContrast: regularizer is -1.0, expected a number from 0"),
        (lambda: CLAHE(0.0), "CLAHE: clip is 0.0, expected a number above 0"),
        (lambda: CLAHE(tiles=0), "CLAHE: tiles is 0, expected a number from 1"),
        (lambda: SobelEdges(4), "SobelEdges: size is 4, expected 3, 5 or 7"),
        (lambda: CannyEdges(-1, 3), "CannyEdges: low is -1, expected a number from 0"),
        (lambda: CannyEdges(30, 3), "CannyEdges: high is 3, expected a number from low, 30"),
    ],
)
def test_bad_options_are_named(build: Any, message: str) -> None:
    with pytest.raises(FerlError, match=f"^{message}"):
        build()


def parse(text: str, *words: str) -> tuple[list[Preprocess], Namespace]:
    parser = ArgumentParser()
    parser.add_argument("--config", action="config")
    parser.add_argument("--preprocess", type=Sequence[Preprocess], default=())
    config = parser.parse_args([f"--config={text}", *words])
    assert yaml.safe_load(parser.dump(config)), "the resolved configuration can be written"
    return list(parser.instantiate_classes(config).preprocess), config


def test_parts_are_written_in_yaml_by_short_name() -> None:
    made, _ = parse(
        """
        preprocess:
          - {class_path: Resize, init_args: {size: 128}}
          - MedianFilter
          - GlobalContrast
          - class_path: KernelFilter
            init_args: {kernel: [[0, 0, 0], [0, 2, 0], [0, 0, -0.5]]}
          - {class_path: GaussianFilter, init_args: {sigma: 2, size: null}}
          - {class_path: CannyEdges, init_args: {low: 50, high: 150}}
        """
    )
    kernel = [[0.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, -0.5]]
    filters = [MedianFilter(3), GlobalContrast(), KernelFilter(kernel), GaussianFilter(2.0)]
    expected = [Resize(128), *filters, CannyEdges(50.0, 150.0)]
    assert [(type(part), vars(part)) for part in made] == [(type(part), vars(part)) for part in expected]


def test_parts_are_added_on_the_command_line() -> None:
    made, _ = parse("{preprocess: [MedianFilter]}", "--preprocess+=CLAHE", "--preprocess.clip=3")
    assert [(type(part), vars(part)) for part in made] == [
        (MedianFilter, {"size": 3}),
        (CLAHE, {"clip": 3.0, "tiles": 8}),
    ]


def test_the_image_room_imports_opencv_and_numpy_only() -> None:
    """A recogniser in use prepares images too, and has no torch."""
    code = """
import sys, numpy, cv2
before = set(sys.modules)
import ferlightning.images
print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)))
print(*sorted(name for name in set(sys.modules) - before if name.startswith("ferlightning.")))
"""
    libraries, own = subprocess.check_output([sys.executable, "-c", code], text=True).splitlines()
    assert set(libraries.split()) <= {"ferlightning", "numpy", "cv2"}, "numpy loads some of its modules late"
    rooms = {name.split(".")[1] for name in own.split()}
    assert (
        rooms == {"contracts", "errors", "files", "images", "plugins", "runtime", "weights"}
        and "ferlightning.contracts.modules" not in own
    )


# --- broken parts; a leading underscore keeps them out of the table of parts ------------------------------------------


class _Inverts(Preprocess):
    """Sound."""

    def __init__(self, level: int = 255) -> None:
        self.level = level

    def __call__(self, image: Image) -> Image:
        return self.level - image


class _NoSlot:
    def __call__(self, image: Image) -> Image:
        return image


class _Forgets(_Inverts):
    def __init__(self, level: int = 255) -> None:
        self.brightest = level


class _KeepsAnArray(_Inverts):
    def __init__(self, level: int = 255) -> None:
        self.level = level
        self.table = np.arange(256)


class _WritesInto(_Inverts):
    def __call__(self, image: Image) -> Image:
        image += 1
        return image.copy()


class _Remembers(_Inverts):
    def __call__(self, image: Image) -> Image:
        self.level = int(image[0, 0, 0])
        return image.copy()


def giving(change: Callable[[Image], Any]) -> type[_Inverts]:
    return type("_Broken", (_Inverts,), {"__call__": lambda self, image: change(image)})


def trimmed(image: Image) -> Image:
    """Cut black rows away, so that the shape depends on the picture."""
    return image[image.mean((1, 2)) > 100].copy() if (image != 77).any() else image.copy()


GREY_ONLY = giving(lambda image: image.reshape(*image.shape[:2], 1).copy())


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (_NoSlot, "is no subclass of ferlightning.contracts.Preprocess"),
        (_Forgets, "must keep the option level"),
        (_KeepsAnArray, "attributes must be plain values"),
        (_WritesInto, "writes into the image"),
        (
            giving(lambda image: image[:, :, 0]),
            r"must make uint8 \(H, W, C\) of \(48, 40, 1\); found uint8 \(48, 40\)",
        ),
        (giving(lambda image: image / 255), r"must make uint8 .*; found float64 \(48, 40, 1\)"),
        (giving(lambda image: image.transpose(1, 0, 2)), "must be contiguous"),
        (GREY_ONLY, r"fails on \(48, 40, 2\)"),
        (
            giving(lambda image: image ^ np.random.default_rng().integers(0, 256, image.shape, np.uint8)),
            "a second run gives another result",
        ),
        (_Remembers, "changes its attributes when called"),
        (giving(trimmed), "images of one shape must keep one shape"),
    ],
)
def test_broken_parts(part: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=message) as caught:
        check_preprocess(part)
    assert str(caught.value).startswith(part.__name__)


def test_the_sound_part_that_the_broken_ones_derive_from_passes() -> None:
    check_preprocess(_Inverts)
    check_preprocess(GREY_ONLY, channels=(1,))

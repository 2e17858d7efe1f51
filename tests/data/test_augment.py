"""Augmentations against scipy, OpenCV and formulas written out; what they drew is read off pictures of coordinates."""

import copy
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage, stats
from torch import Tensor

from ferlightning.contracts.modules import Augmentation, Batch
from ferlightning.data import augment
from ferlightning.data.augment import CutMix, Erase, Light, MixUp, Warp
from ferlightning.errors import FerlError
from ferlightning.testing import check_augmentation

Array = NDArray[Any]
STILL: dict[str, Any] = {"flip": 0.0, "degrees": 0.0, "translate": 0.0, "scale": (1.0, 1.0)}
ALL: list[Callable[[], Augmentation]] = [
    Warp,
    lambda: Warp(crop=(0.5, 1.0), shear=10.0, padding="border"),
    Erase,
    lambda: Erase(value="noise"),
    Light,
    MixUp,
    CutMix,
]


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def applied(part: Augmentation, image: Tensor, **fields: Tensor) -> Batch:
    """Shape of image: (B, C, H, W) or (B, T, C, H, W)."""
    image = image if image.ndim == 5 else image.unsqueeze(1)
    return part({"image": image.clone(), "label": torch.arange(len(image)) % 3, **fields}, 3)


def assert_uniform(x: Array, low: float, high: float) -> None:
    assert x.min() >= low - 1e-3 * (high - low) and x.max() <= high + 1e-3 * (high - low)
    assert stats.kstest(x, stats.uniform(low, high - low).cdf).pvalue > 1e-3


def assert_share(chosen: Array, p: float) -> None:
    assert stats.binomtest(int(chosen.sum()), len(chosen), p).pvalue > 1e-3


# --- every part -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", ALL)
def test_every_part_keeps_the_contract(build: Callable[[], Augmentation]) -> None:
    check_augmentation(build)


def test_every_part_is_tested() -> None:
    shipped = {x for x in vars(augment).values() if isinstance(x, type) and issubclass(x, Augmentation)}
    assert shipped - {Augmentation} == {type(build()) for build in ALL}


@pytest.mark.parametrize("build", ALL)
def test_nothing_waits_for_the_device(build: Callable[[], Augmentation]) -> None:
    """A meta tensor has no values: whatever asks for one, or mixes in a tensor of another device, fails."""
    library = torch.library.Library("aten", "IMPL", "Meta")  # kept: the kernel goes when it does
    library.impl("_sample_dirichlet", lambda x, generator=None: torch.empty_like(x))  # which torch has left out
    with torch.device("meta"):
        image, label, mask = torch.rand(4, 3, 1, 12, 10), torch.zeros(4, dtype=torch.long), torch.ones(4, 3).bool()
    result = build()({"image": image, "label": label, "mask": mask}, 3)
    assert all(x.device.type == "meta" for x in result.values()) and result["image"].shape == image.shape


@pytest.mark.parametrize("build", ALL)
def test_images_with_channels_last_in_memory(build: Callable[[], Augmentation]) -> None:
    """As they come from a store of RGB images."""
    image = torch.rand(6, 2, 16, 12, 3)
    results = []
    for x in (image.movedim(4, 2), image.movedim(4, 2).contiguous()):
        torch.manual_seed(1)
        results.append(build()({"image": x.clone(), "label": torch.zeros(6, dtype=torch.long)}, 3)["image"])
    torch.testing.assert_close(*results)


@pytest.mark.parametrize(
    ("part", "option"),
    [
        (Warp, {"flip": 1.5}),
        (Warp, {"degrees": -10.0}),
        (Warp, {"scale": (0.0, 1.0)}),
        (Warp, {"scale": (1.2, 0.8)}),
        (Warp, {"crop": (0.5, 1.2)}),
        (Erase, {"area": (0.1, 2.0)}),
        (Erase, {"ratio": (0.0, 1.0)}),
        (Erase, {"value": 128.0}),
        (Light, {"contrast": -0.1}),
        (MixUp, {"alpha": 0.0}),
        (CutMix, {"p": -1.0}),
    ],
)
def test_an_option_out_of_range_is_named(part: Callable[..., Augmentation], option: dict[str, Any]) -> None:
    with pytest.raises(FerlError, match=rf"{part.__name__}\.{next(iter(option))}"):  # type: ignore[attr-defined]
        part(**option)


# --- warp -----------------------------------------------------------------------------------------------------------


def warped(part: Warp, image: Tensor) -> tuple[Array, Array]:
    """The result (B, H, W) of grey images (B, H, W), and the matrices (B, 2, 3) in pixels from it to the image."""
    n, height, width = image.shape
    torch.manual_seed(0)
    result = applied(part, image.unsqueeze(1))["image"][:, 0, 0].double().numpy()
    # The same draws on a picture of places, which says where each pixel of the result came from.
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack((x / (width - 1), y / (height - 1), torch.ones(height, width))).expand(n, -1, -1, -1)
    black = copy.copy(part)
    black.padding = "zeros"
    torch.manual_seed(0)
    source = applied(black, places)["image"][:, 0].double().numpy().reshape(n, 3, -1)
    known = (source[:, 2] > 1 - 1e-6).astype(float)  # nothing from outside the image is in it
    design = np.stack((x.ravel(), y.ravel(), np.ones(height * width)))  # (3, P)
    left = np.einsum("ip,bp,jp->bij", design, known, design, optimize=True)
    right = np.einsum(
        "bcp,jp->bjc", source[:, :2] * [[width - 1], [height - 1]] * known[:, None], design, optimize=True
    )
    return result, np.linalg.solve(left, right).transpose(0, 2, 1)


def centred(matrix: Array, height: int, width: int) -> Array:
    """Where the middle of the result came from, in pixels from the middle of the image. Shape: (B, 2)."""
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    return matrix[:, :, :2] @ middle + matrix[:, :, 2] - middle


@pytest.mark.parametrize("shape", [(48, 48), (20, 31)])
def test_warp_mirrors_exactly(shape: tuple[int, int]) -> None:
    image = torch.rand(8, 2, 3, *shape)
    for flip, expected in ((1.0, image.flip(-1)), (0.0, image)):
        result = applied(Warp(**STILL | {"flip": flip}), image)["image"]
        torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)


def test_warp_mirrors_as_many_items_as_it_should() -> None:
    image = torch.rand(1, 1, 6, 5).expand(1000, -1, -1, -1)
    result = applied(Warp(**STILL | {"flip": 0.3}), image)["image"][:, 0]
    mirrored = (result - image.flip(-1)).abs().amax((1, 2, 3)) < 1e-5
    assert ((result - image).abs().amax((1, 2, 3)) < 1e-5).logical_xor(mirrored).all()
    assert_share(mirrored.numpy(), 0.3)


@pytest.mark.parametrize(
    ("padding", "mode"), [("zeros", "grid-constant"), ("border", "nearest"), ("reflection", "reflect")]
)
def test_warp_samples_as_scipy_does(padding: Any, mode: str) -> None:
    """Everything at once, on images that are not square."""
    image = torch.rand(40, 26, 33)
    part = Warp(0.5, 40.0, 0.15, (0.6, 1.4), 15.0, (0.5, 1.0), padding=padding)
    result, matrix = warped(part, image)
    for i in range(len(image)):
        m = matrix[i][::-1, [1, 0, 2]]  # scipy counts rows first
        expected = ndimage.affine_transform(image[i].numpy(), m[:, :2], m[:, 2], order=1, mode=mode)
        np.testing.assert_allclose(result[i], expected, atol=2e-3)


def test_warp_rotates_and_scales_about_the_middle_as_opencv_does() -> None:
    image = torch.rand(1500, 22, 28)
    _, matrix = warped(Warp(**STILL | {"degrees": 25.0, "scale": (0.7, 1.5)}), image)
    zoom = np.linalg.det(matrix[:, :, :2]) ** -0.5
    angle = np.degrees(np.arctan2(matrix[:, 0, 1], matrix[:, 0, 0]))
    assert_uniform(zoom, 0.7, 1.5)
    assert_uniform(angle, -25, 25)
    assert abs(np.corrcoef(zoom, angle)[0, 1]) < 0.1
    for i in range(0, 1500, 50):
        forward = cv2.getRotationMatrix2D((13.5, 10.5), -angle[i], zoom[i])
        np.testing.assert_allclose(matrix[i], cv2.invertAffineTransform(forward), atol=1e-3)


def test_warp_shifts_by_shares_of_the_sides_after_it_has_rotated() -> None:
    image = torch.rand(1500, 20, 40)
    _, matrix = warped(Warp(**STILL | {"degrees": 30.0, "translate": 0.1}), image)
    middle = np.array([19.5, 9.5])
    # Where the middle of the image went to.
    shift = np.stack([np.linalg.solve(m[:, :2], middle - m[:, 2]) for m in matrix]) - middle
    assert_uniform(shift[:, 0], -4, 4)
    assert_uniform(shift[:, 1], -2, 2)
    assert abs(np.corrcoef(shift.T)[0, 1]) < 0.1


def test_warp_shears_rows() -> None:
    _, matrix = warped(Warp(**STILL | {"shear": 20.0}), torch.rand(1000, 20, 20))
    np.testing.assert_allclose(matrix[:, 0, 0], 1, atol=1e-4)
    np.testing.assert_allclose(matrix[:, 1, :2], [[0, 1]] * 1000, atol=1e-4)
    np.testing.assert_allclose(centred(matrix, 20, 20), 0, atol=1e-3)
    assert_uniform(np.degrees(np.arctan(matrix[:, 0, 1])), -20, 20)


def test_warp_crops_boxes_of_uniform_area_shape_and_place() -> None:
    height, width = 24, 30
    _, matrix = warped(Warp(**STILL, crop=(0.2, 0.5), padding="border"), torch.rand(2000, height, width))
    np.testing.assert_allclose(matrix[:, [0, 1], [1, 0]], 0, atol=1e-4)
    w, h = width * matrix[:, 0, 0], height * matrix[:, 1, 1]
    assert_uniform(w * h / (width * height), 0.2, 0.5)
    assert_uniform(np.log(w / h), np.log(3 / 4), np.log(4 / 3))
    # The edge of the box is half of its own pixel before the middle of its first pixel.
    left, top = (matrix[:, i, 2] + 0.5 - matrix[:, i, i] / 2 for i in range(2))
    assert_uniform(left / (width - w), 0, 1)
    assert_uniform(top / (height - h), 0, 1)
    assert abs(np.corrcoef(left / (width - w), top / (height - h))[0, 1]) < 0.1


def test_warp_crops_keep_their_area_where_few_shapes_fit() -> None:
    height, width = 16, 40
    _, matrix = warped(Warp(**STILL, crop=(0.3, 1.0), padding="border"), torch.rand(1500, height, width))
    w, h = matrix[:, 0, 0], matrix[:, 1, 1]
    assert_uniform(w * h, 0.3, 1.0)
    assert w.max() <= 1 + 1e-4 and h.max() <= 1 + 1e-4
    wide = w * width / (h * height)
    assert ((wide < 4 / 3 + 1e-3) | (h > 1 - 1e-3)).all(), "wider than allowed only where the box is as high as can be"


def test_warp_mirrors_and_rotates_the_crop() -> None:
    part = Warp(1.0, 20.0, 0.0, (1.0, 1.0), crop=(0.25, 0.25), ratio=(1.0, 1.0))
    _, matrix = warped(part, torch.rand(800, 24, 24))
    linear = 2 * matrix[:, :, :2]
    np.testing.assert_allclose(linear @ linear.transpose(0, 2, 1), [np.eye(2)] * 800, atol=1e-3)
    assert (np.linalg.det(linear) < 0).all(), "mirrored"
    place = centred(matrix, 24, 24)
    for i in range(2):
        assert_uniform(place[:, i], -6, 6)


def test_warp_cuts_a_clip_alike_and_clips_apart() -> None:
    image = torch.rand(1, 1, 1, 14, 12).expand(32, 5, 2, -1, -1)
    result = applied(Warp(crop=(0.5, 1.0)), image)["image"]
    assert (result == result[:, :1, :1]).all()
    assert len(torch.unique(result[:, 0, 0].flatten(1), dim=0)) == 32


# --- light ----------------------------------------------------------------------------------------------------------


def test_light_follows_its_formula() -> None:
    b, t = 1500, 3
    mask = torch.arange(t) < (torch.arange(b) % t + 1)[:, None]
    part = Light(0.1, 0.3)
    grey = 0.5 + 0.1 * (torch.rand(b, t, 2, 6, 5) - 0.5)  # so that nothing is cut
    torch.manual_seed(0)
    result = applied(part, grey, mask=mask)["image"].double().numpy()
    x = grey.double().numpy()
    contrast, shift = np.empty(b), np.empty(b)
    for i in range(b):
        real = x[i, : i % t + 1], result[i, : i % t + 1]
        contrast[i] = np.polyfit(real[0].ravel(), real[1].ravel(), 1)[0]
        shift[i] = real[1].mean() - real[0].mean()
    assert_uniform(contrast, 0.7, 1.3)
    assert_uniform(shift, -0.1, 0.1)
    full = torch.rand(b, t, 2, 6, 5)
    torch.manual_seed(0)  # the same draws
    result = applied(part, full, mask=mask)["image"].double().numpy()
    for i in range(50):
        real = full[i, : i % t + 1].double().numpy()
        expected = np.clip(contrast[i] * (real - real.mean()) + real.mean() + shift[i], 0, 1)
        np.testing.assert_allclose(result[i, : i % t + 1], expected, atol=1e-4)


# --- erase ----------------------------------------------------------------------------------------------------------


def erased(part: Erase, n: int, height: int, width: int) -> Array:
    """Left, top, width and height of the rectangles in pixels, found in white images. Shape: (n, 4)."""
    gone = applied(part, torch.ones(n, 1, height, width))["image"][:, 0, 0].numpy() == 0
    boxes = []
    for item in gone:
        rows, columns = np.flatnonzero(item.any(1)), np.flatnonzero(item.any(0))
        if len(rows):
            left, top, w, h = columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1
            assert item.sum() == w * h, "what is gone must be a rectangle"
            boxes.append((left, top, w, h))
    return np.array(boxes, float)


def test_erase_takes_rectangles_of_uniform_area_shape_and_place() -> None:
    height, width = 120, 150
    left, top, w, h = erased(Erase(1.0, (0.05, 0.15), (0.5, 2.0)), 1000, height, width).T
    jitter = np.random.default_rng(0).uniform(-0.5, 0.5, (4, 1000))  # undoes the rounding to pixels
    area = (w + jitter[0]) * (h + jitter[1]) / (height * width)
    assert area.min() > 0.046 and area.max() < 0.155
    assert stats.kstest(area, stats.uniform(0.05, 0.1).cdf).pvalue > 1e-3
    shape = np.log((w + jitter[0]) / (h + jitter[1]))
    assert stats.kstest(shape, stats.uniform(np.log(0.5), 2 * np.log(2)).cdf).pvalue > 1e-3
    for start, length, side in ((left, w, width), (top, h, height)):
        assert stats.kstest((start + jitter[2] + 0.5) / (side - length + 1), stats.uniform().cdf).pvalue > 1e-3


def test_erase_chooses_as_many_items_as_it_should() -> None:
    found = len(erased(Erase(0.3), 1000, 48, 48))
    assert_share(np.arange(1000) < found, 0.3)


@pytest.mark.parametrize("value", [0.0, 0.25, "noise", "mean"])
def test_erase_paints_inside_only(value: Any) -> None:
    image = torch.rand(64, 3, 2, 48, 48)
    torch.manual_seed(0)
    result = applied(Erase(1.0, (0.1, 0.2), value=value), image)["image"]
    torch.manual_seed(0)
    white = applied(Erase(1.0, (0.1, 0.2)), torch.ones_like(image))["image"]  # the same draws
    inside = white == 0
    assert torch.equal(result[~inside], image[~inside])
    painted = result[inside]
    if value == "noise":
        first = result[:, :1].expand_as(result)
        assert torch.equal(painted, first[inside]), "the same in all frames"
        assert_uniform(result[:, 0][inside[:, 0]].numpy()[::7], 0, 1)
    elif value == "mean":
        mean = torch.from_numpy(image.numpy().mean((3, 4)))[..., None, None].expand_as(image)
        torch.testing.assert_close(painted, mean[inside])
    else:
        assert (painted == value).all()


# --- mixtures -------------------------------------------------------------------------------------------------------


def points(n: int, side: int) -> Tensor:
    """Image i has its i-th pixel white, so that a mixture says what it is made of. Shape: (n, 1, side, side)."""
    return torch.eye(side * side)[:n].view(n, 1, side, side)


@pytest.mark.parametrize(("alpha", "p"), [(0.4, 1.0), (2.0, 0.5)])
def test_mixup_adds_images_and_labels_alike(alpha: float, p: float) -> None:
    n, k = 400, 3
    own, mixed = [], []
    for _ in range(3):
        result = applied(MixUp(alpha, p), points(n, 20))
        weight = result["image"].view(n, -1)[:, :n].double().numpy()  # (item, what it is made of)
        np.testing.assert_allclose(weight.sum(1), 1, atol=1e-6)
        assert ((weight > 0).sum(1) <= 2).all()
        expected = weight @ np.eye(k)[np.arange(n) % k]
        assert result["label"].shape == (n, k) and result["label"].dtype == torch.float32
        np.testing.assert_allclose(result["label"], expected, atol=1e-6)
        partners = weight - np.diag(np.diag(weight))
        assert ((partners > 0).sum(0) <= 1).all(), "every item is partner once at most"
        own.append(np.diag(weight))
        mixed.append(np.diag(weight) < 1)
    chosen = np.concatenate(mixed)
    if p < 1:
        assert abs(chosen.mean() - p) < 0.05
    else:
        assert chosen.mean() > 0.9  # of a Beta(0.4, 0.4) some round to 1
    draws = np.concatenate(own)[chosen]
    assert stats.kstest(draws, stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_mixup_of_soft_labels_and_clips_of_different_length() -> None:
    lengths = np.array([1, 4, 2, 3] * 8)
    b, t = len(lengths), 4
    mask = torch.arange(t) < torch.from_numpy(lengths)[:, None]
    soft = torch.rand(b, 5).softmax(1)
    image = points(b, 6).unsqueeze(1).expand(-1, t, -1, -1, -1)
    batch = {"image": image.clone(), "label": soft, "mask": mask}  # padding is not black, as after other augmentations
    result = MixUp(1.0, 0.7)(batch, 5)
    weight = result["image"].view(b, t, -1)[:, :, :b]
    lengthened = 0
    for i in range(b):
        share = weight[i, 0]  # every item has a first frame
        parts = [j for j in range(b) if share[j] > 0]
        np.testing.assert_allclose(result["label"][i], share @ soft, atol=1e-6)
        longest = max(lengths[j] for j in parts)
        lengthened += longest > lengths[i]
        assert result["mask"][i].tolist() == [step < longest for step in range(t)]
        for step in range(t):
            for j in parts:
                assert weight[i, step, j] == (share[j] if step < lengths[j] else 0)
    assert lengthened > 3


def test_cutmix_pastes_boxes_and_shares_labels_by_pixels() -> None:
    n, side, k = 1500, 64, 3
    level = torch.arange(n) / n
    result = applied(CutMix(), level.view(n, 1, 1, 1).expand(-1, 2, side, side))
    pictures = (result["image"][:, 0, 0] * n).round().long().numpy()
    assert torch.equal(result["image"][:, :, 0], result["image"][:, :, 1])
    shares, places = [], []
    for i, picture in enumerate(pictures):
        foreign = picture != i
        if not foreign.any():
            assert result["label"][i].tolist() == np.eye(k)[i % k].tolist()
            shares.append(0.0)
            continue
        (partner,) = np.unique(picture[foreign])
        rows, columns = np.flatnonzero(foreign.any(1)), np.flatnonzero(foreign.any(0))
        assert foreign.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1), "the box must be a rectangle"
        share = foreign.mean()
        expected = (1 - share) * np.eye(k)[i % k] + share * np.eye(k)[partner % k]
        np.testing.assert_allclose(result["label"][i], expected, atol=1e-6)
        shares.append(share)
        places.append((rows.mean(), columns.mean()))
    # Algorithm 1 of the paper, one by one.
    rng = np.random.default_rng(0)
    expected_shares = []
    for _ in range(n):
        cut = side * np.sqrt(1 - rng.beta(1, 1))
        x, y = rng.uniform(0, side, 2)
        sides = [min(c + cut / 2, side) - max(c - cut / 2, 0) for c in (x, y)]
        expected_shares.append(sides[0] * sides[1] / side**2)
    assert stats.ks_2samp(shares, expected_shares).pvalue > 1e-3
    assert np.abs(np.mean(places, 0) - (side - 1) / 2).max() < 1.5


def test_cutmix_leaves_items_alone_by_its_probability() -> None:
    image = (torch.arange(800) / 800).view(-1, 1, 1, 1).expand(-1, 1, 40, 40)
    same = (applied(CutMix(p=0.4), image)["image"][:, 0] == image).all(3).all(2).all(1)
    assert 0.54 < same.float().mean() < 0.68


def test_cutmix_lengthens_masks_of_items_with_a_box_only() -> None:
    mask = torch.arange(3) < torch.tensor([1, 3] * 50)[:, None]
    image = (1 + torch.arange(100.0)).view(-1, 1, 1, 1, 1).expand(-1, 3, 1, 30, 30) / 100
    result = CutMix(p=0.5)({"image": image.clone(), "label": torch.arange(100) % 3, "mask": mask}, 3)
    lengthened = 0
    for i in range(100):
        made_of = np.unique((result["image"][i, 0] * 100).round().long().numpy()) - 1
        expected = mask[made_of].any(0) | mask[i]
        assert torch.equal(result["mask"][i], expected)
        lengthened += int(expected.sum() > mask[i].sum())
        for step in np.flatnonzero(~mask[i]):
            frame = result["image"][i, step]
            partner = [j for j in made_of if j != i]
            assert set(torch.unique(frame).tolist()) <= {0.0, *(image[j, 0, 0, 0, 0].item() for j in partner)}
    assert lengthened > 5


# --- the check itself -------------------------------------------------------------------------------------------------


class _Broken(Augmentation):
    """Changes the image by a function; a leading underscore keeps it out of the table of parts."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        self.change = change

    def __call__(self, batch: Batch, num_classes: int) -> Batch:
        return batch | {"image": self.change(batch["image"])}


class _Rewrites(Augmentation):
    def __init__(self, **fields: Callable[[Tensor], Tensor]) -> None:
        self.fields = fields

    def __call__(self, batch: Batch, num_classes: int) -> Batch:
        return batch | {key: change(batch[key]) for key, change in self.fields.items() if key in batch}


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (_Broken(lambda x: x if torch.rand(()) < 0.5 else x.flip(-1)), "draws once for a batch"),
        (_Broken(lambda x: x * torch.rand(*x.shape[:2], 1, 1, 1)), "equal frames of a clip must stay equal"),
        (_Broken(lambda x: x * 1.5), r"in \[0, 1\] must stay there"),
        (_Broken(lambda x: x * float(np.random.default_rng().random())), "equal seeds"),
        (_Broken(lambda x: (x - x.mean((1, 2, 3, 4), True)).abs()), "what padding holds"),
        (_Broken(lambda x: x[..., :-1]), "became"),
        (_Broken(lambda x: x.double()), "float64"),
        (_Broken(lambda x: x / 0), "finite"),
        (_Rewrites(label=lambda x: x + 9), "labels must be"),
        (_Rewrites(label=lambda x: torch.ones(len(x), 5)), "labels must be"),
        (_Rewrites(mask=torch.zeros_like), "real frames stay real"),
        (_Rewrites(index=lambda x: x.flip(0)), "index"),
        (_Rewrites(image=lambda x: x.view(-1)[:, None, None]), "fails on images|became"),
    ],
)
def test_a_broken_part_is_told_what_is_wrong(part: Augmentation, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_augmentation(lambda: part)


def test_a_part_without_chance_passes() -> None:
    check_augmentation(lambda: _Broken(lambda x: x.flip(-1)))

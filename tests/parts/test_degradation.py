"""What spoils images, against formulas, least squares and OpenCV's JPEG."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from ferlightning.data.sources.synthetic.datamodule import draw_faces
from ferlightning.errors import FerlError
from ferlightning.parts.degradation import Degradation, add_noise, compress, illuminate

FACES = torch.from_numpy(draw_faces(["happiness", "fear"], 8, 4).images / np.float32(255)).unsqueeze(1)  # (16, 1, H, W)
ALWAYS = {"light": 0.0, "noise": 0.0, "shot_noise": 0.0, "quality": 100, "p": 1.0}


def grey(level: float, n: int = 1, size: int = 64) -> Tensor:
    return torch.full((n, 1, size, size), level)


# --- the kinds -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0.0, 0.2, 0.7])
def test_noise_has_the_variance_of_foi_et_al(level: float) -> None:
    torch.manual_seed(0)
    noise, shot = torch.tensor([0.1, 0.0, 0.1, 0.02]), torch.tensor([0.0, 0.2, 0.2, 0.05])
    residue = (add_noise(grey(level, 4, 300), noise, shot) - level).flatten(1).double()
    torch.testing.assert_close(residue.var(1), (noise**2 + shot**2 * level).double(), rtol=0.03, atol=1e-12)
    assert (residue.mean(1).abs() < 0.003).all()


def test_compression_is_in_single_precision_whatever_the_default_is() -> None:
    """The trainer's bf16-true changes the default; in a process of its own, since tables are made once."""
    code = (
        "import torch; torch.set_default_dtype(torch.bfloat16); from ferlightning.parts.degradation import compress;"
        "print(compress(torch.full((1, 1, 8, 8), 0.5, dtype=torch.float32), torch.tensor([50.0])).dtype)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "torch.float32\n"


def test_compression_of_double_precision_is_that_of_single() -> None:
    """As of trainer.precision=64-true."""
    qualities = torch.full((len(FACES),), 30.0)
    found = compress(FACES.double(), qualities.double())
    torch.testing.assert_close(found, compress(FACES, qualities).double())


@pytest.mark.parametrize(
    ("height", "width", "quality"), [(48, 48, 5), (48, 48, 50), (48, 48, 95), (45, 37, 30), (8, 3, 75)]
)
def test_compression_is_that_of_opencv(height: int, width: int, quality: int) -> None:
    """Its cosine transform is of integers, so a coefficient between two steps may go to the other one."""
    images = FACES[:, :, :height, :width]
    clean = (255 * images[:, 0]).round().numpy()
    found = (255 * compress(images, torch.full((len(images),), float(quality)))).numpy()[:, 0]
    theirs = np.empty_like(clean)
    for i, image in enumerate(clean.astype(np.uint8)):
        _, file = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        theirs[i] = cv2.imdecode(file, cv2.IMREAD_GRAYSCALE)
    assert np.mean(np.abs(found - theirs) < 1.5) > 0.95
    assert np.abs(found - theirs).mean() < 0.3 * np.abs(theirs - clean).mean()


def test_compression_has_a_quality_of_each_image_and_treats_channels_alike() -> None:
    pair = torch.cat([FACES[:2], FACES[:2].flip(3)], 1)  # (2, 2, H, W)
    both = compress(pair, torch.tensor([10.0, 90.0]))
    for i, quality in enumerate((10.0, 90.0)):
        for c in range(2):
            alone = compress(pair[i : i + 1, c : c + 1], torch.tensor([quality]))
            torch.testing.assert_close(both[i, c], alone[0, 0])


def test_light_is_a_plane_or_a_round_spot_of_the_strength_asked_for() -> None:
    """The gain of each image is fitted by least squares: exactly linear, or exactly linear plus a multiple of r^2."""
    torch.manual_seed(0)
    n, h, w, strength = 64, 20, 30, 0.4
    gain = (illuminate(torch.full((n, 1, h, w), 0.5), torch.full((n,), strength)) / 0.5).double()[:, 0]
    x, y = np.meshgrid(np.linspace(-1, 1, w), np.linspace(-1, 1, h))
    terms = np.stack([np.ones(h * w), x.ravel(), y.ravel(), (x**2 + y**2).ravel()], 1)
    curved = []
    for field in gain.flatten(1).numpy():
        weights, *_ = np.linalg.lstsq(terms, field, rcond=None)
        np.testing.assert_allclose(terms @ weights, field, atol=1e-5)
        curved.append(abs(weights[3]) > 1e-3)
        if curved[-1]:
            assert weights[3] < 0, "brightest in the middle"
            assert field.min() == pytest.approx(1 - strength, abs=1e-5)
            centre = weights[1:3] / (-2 * weights[3])
            assert (np.abs(centre) <= 1 + 1e-4).all(), "the middle lies in the image"
        else:
            assert (field.min(), field.max()) == pytest.approx((1 - strength, 1 + strength), abs=1e-5)
    assert 16 < sum(curved) < 48, "both kinds occur"
    directions = gain[~torch.tensor(curved)].flatten(1).argmax(1)
    assert len(directions.unique()) == 4, "a plane is brightest in any corner"


# --- what is drawn ---------------------------------------------------------------------------------------------------


def test_nothing_is_changed_without_strength_or_chance() -> None:
    torch.manual_seed(0)
    assert Degradation(p=0)(FACES).equal(FACES)
    assert Degradation(**ALWAYS | {"quality": 100, "p": 0.0})(FACES).equal(FACES)
    torch.testing.assert_close(Degradation(**ALWAYS)(FACES), FACES, rtol=0, atol=2.1 / 255)  # quality 100 rounds


def test_an_eighth_of_the_images_stays_clean() -> None:
    torch.manual_seed(0)
    images = FACES[:1].expand(1000, -1, -1, -1)
    clean = (Degradation()(images) == images).flatten(1).all(1).double().mean().item()
    assert clean == pytest.approx(0.125, abs=0.04)  # four standard deviations
    clean = (Degradation(p=0.2)(images) == images).flatten(1).all(1).double().mean().item()
    assert clean == pytest.approx(0.8**3, abs=0.064)


def test_strengths_are_drawn_evenly_for_each_image() -> None:
    torch.manual_seed(0)
    corrupted = Degradation(**ALWAYS | {"noise": 0.1, "p": 0.999})(grey(0.5, 500, 32))
    deviation = (corrupted - 0.5).flatten(1).std(1)
    quartiles = torch.quantile(deviation, torch.tensor([0.25, 0.5, 0.75]))
    assert quartiles.tolist() == pytest.approx([0.025, 0.05, 0.075], abs=0.012)


@pytest.mark.parametrize(
    "kind", [{"light": 0.5}, {"noise": 0.1}, {"shot_noise": 0.1}, {"quality": 10}], ids=lambda kind: next(iter(kind))
)
def test_every_kind_changes_images_within_their_range(kind: dict[str, float]) -> None:
    before = FACES.clone()
    corrupt = Degradation(**ALWAYS | kind)
    torch.manual_seed(0)
    one = corrupt(FACES)
    assert FACES.equal(before), "writes into its input"
    assert one.shape == FACES.shape and one.dtype == FACES.dtype
    assert one.min() >= 0 and one.max() <= 1
    assert (one - FACES).abs().mean() > 0.003
    twins = corrupt(FACES[:1].expand(8, -1, -1, -1))
    assert len({twin.numpy().tobytes() for twin in twins}) == 8, "each image has a draw of its own"


def test_equal_seeds_give_equal_corruptions() -> None:
    torch.manual_seed(3)
    one = Degradation()(FACES)
    torch.manual_seed(3)
    assert Degradation()(FACES).equal(one)
    assert not Degradation()(FACES).equal(one)
    state = torch.get_rng_state()
    own = [Degradation()(FACES, torch.Generator().manual_seed(3)) for _ in range(2)]
    assert own[0].equal(own[1]) and own[0].equal(one)
    assert torch.get_rng_state().equal(state), "a generator leaves torch's own alone"


def test_half_precision_corrupts_as_single_does() -> None:
    torch.manual_seed(0)
    single = Degradation()(FACES)
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        assert Degradation()(FACES).equal(single)
    torch.manual_seed(0)
    half = Degradation()(FACES.bfloat16())
    assert half.dtype == torch.bfloat16
    assert (half - single).abs().mean() < 0.01


def test_images_of_any_size_and_number_of_channels() -> None:
    for shape in [(2, 3, 48, 40), (1, 1, 5, 7), (3, 2, 1, 1)]:
        assert Degradation(p=1)(torch.rand(shape)).shape == shape


@pytest.mark.parametrize("wrong", [{"p": 1.5}, {"light": -0.1}, {"quality": 0}])
def test_impossible_strengths_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(FerlError, match=f"corruption: .*{next(iter(wrong))}"):
        Degradation(**wrong)

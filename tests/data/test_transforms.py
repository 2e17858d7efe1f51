"""Albumentations and kornia by name: in YAML and from Python, and in words where a name or an option is wrong."""

from typing import Any

import albumentations
import cv2
import numpy as np
import pytest
import torch
import yaml
from jsonargparse import ArgumentParser
from kornia.augmentation import RandomBrightness, RandomHorizontalFlip
from scipy import stats

from ferlightning.contracts.modules import Augmentation
from ferlightning.data import SyntheticFaces, Warp
from ferlightning.data.datamodule import FaceData
from ferlightning.data.transforms import build_augment, build_preprocess, build_worker_augment
from ferlightning.errors import FerlError
from ferlightning.images import CLAHE, MedianFilter
from ferlightning.testing import check_augmentation


def noise(seed: int = 0, channels: int = 1) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (20, 16, channels), np.uint8)


# --- in a configuration ---------------------------------------------------------------------------------------------


def parse(text: str) -> tuple[Any, str]:
    """The data module of some YAML, and its resolved configuration."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_subclass_arguments(FaceData, "data")
    config = parser.parse_args([f"--config={text}"])
    return parser.instantiate_classes(config).data, parser.dump(config)


def test_a_saved_configuration_has_plain_values_and_makes_the_same_again() -> None:
    given = """
        data:
          class_path: SyntheticFaces
          init_args:
            preprocess:
              [MedianFilter, CLAHE, {class_path: GaussianBlur, init_args: {sigma_limit: [1, 1]}}, albumentations.CLAHE]
            worker_augment: [{class_path: Sharpen, init_args: {p: 0.3}}, albumentations.Affine]
            augment: [Warp, {class_path: RandomBrightness, init_args: {brightness: [0.8, 1.2]}}, RandomInvert]
        """
    data, saved = parse(given)
    again, saved_again = parse(saved)
    assert saved == saved_again
    options = yaml.safe_load(saved)["data"]["init_args"]
    assert options["worker_augment"] == [{"class_path": "Sharpen", "init_args": {"p": 0.3}}, "albumentations.Affine"]
    for made in (data, again):
        assert [type(part) for part in made.preprocess[:2]] == [MedianFilter, CLAHE], "ours win on a name clash"
        assert "GaussianBlur(p=1.0" in repr(made.preprocess[2].transform)
        assert "CLAHE(p=1.0, clip_limit" in repr(made.preprocess[3].transform), "unless the path says otherwise"
        assert "Sharpen(p=0.3, alpha=(0.2, 0.5)" in repr(made.worker_augment)
        assert type(made.augment[0]) is Warp
        batch = {"image": torch.rand(4, 2, 1, 16, 16), "label": torch.arange(4)}
        for part in made.augment:
            batch = part(batch, 4)
        assert batch["image"].shape == (4, 2, 1, 16, 16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("preprocess: [Sharpn]", "data.preprocess: there is no transform 'Sharpn'; did you mean Sharpen?"),
        ("preprocess: [MedianFiltr]", "there is no transform 'MedianFiltr'; did you mean MedianFilter"),
        ("preprocess: [{class_path: Resize, init_args: {siez: 9}}]", "Resize has no option 'siez'; did you mean size?"),
        ("preprocess: [{class_path: os.system, init_args: {command: 'exit'}}]", "there is no transform 'os.system'"),
        ("preprocess: [mine.Sharpen]", "there is no transform 'mine.Sharpen'"),
        ("preprocess: [{p: 0.5}]", "{'p': 0.5} names no transform: give its name, or its class_path"),
        ("preprocess: [{class_path: Sharpen, init_args: {p: 0.3}}]", "Sharpen has p 0.3, but preprocessing applies to"),
        (
            "augment: [{class_path: kornia.augmentation.Normalize, init_args: {mean: 0.5, std: 0.5}}]",
            "data.augment: remove Normalize",
        ),
        ("worker_augment: [Normalize]", "data.worker_augment: remove Normalize.* the model normalises them itself"),
        ("worker_augment: [albumentations.pytorch.ToTensorV2]", "data.worker_augment: remove ToTensorV2"),
        ("worker_augment: [{class_path: Sharpen, init_args: {alfa: 1}}]", "no option 'alfa'; did you mean alpha?"),
        ("worker_augment: [{class_path: Sharpen, init_args: {p: 2}}]", "Sharpen cannot be built: .* less than or"),
        ("augment: [RandomGausianBlur]", "data.augment: there is no transform 'RandomGausianBlur'; did you mean"),
        ("augment: [{class_path: Erase, init_args: {q: 1}}]", "data.augment: Erase has no option 'q'; it has p, area"),
        ("augment: [RandomGaussianBlur]", "RandomGaussianBlur cannot be built: .* 'kernel_size' and 'sigma'"),
        ("augment: [ferlightning.data.augment.Noise]", "there is no Noise any more; use kornia's RandomGaussian"),
    ],
)
def test_a_wrong_name_or_option_is_answered_in_words(options: str, message: str) -> None:
    with pytest.raises(FerlError, match=message):
        SyntheticFaces(**yaml.safe_load(options))


def test_the_command_says_no_more_than_that(ferl: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        ferl("fit", "--data=SyntheticFaces", "--data.preprocess=[{class_path: MedianFilter, init_args: {siez: 3}}]")
    said = capsys.readouterr().err.strip()
    assert said == "ferl: error: data.preprocess has no option 'siez' (did you mean size?)"


@pytest.mark.parametrize("build", [build_preprocess, build_worker_augment, build_augment])
def test_an_instance_of_something_else_is_refused(build: Any) -> None:
    with pytest.raises(FerlError, match="is no (transform|augmentation) of"):
        build([np.array(3)])


# --- albumentations as preprocessing --------------------------------------------------------------------------------


def test_albumentations_preprocess_every_image() -> None:
    """By themselves they flip one of two images."""
    (flip,) = build_preprocess(["HorizontalFlip"])
    for seed in range(12):
        np.testing.assert_array_equal(flip(noise(seed)), noise(seed)[:, ::-1])
    with pytest.raises(FerlError, match="HorizontalFlip has p 0.5"):
        build_preprocess([albumentations.HorizontalFlip()])


@pytest.mark.parametrize("channels", [1, 3])
def test_albumentations_preprocess_as_opencv_does(channels: int) -> None:
    (blur,) = build_preprocess([{"class_path": "MedianBlur", "init_args": {"blur_limit": [5, 5]}}])
    expected = cv2.medianBlur(noise(channels=channels), 5).reshape(20, 16, channels)
    np.testing.assert_array_equal(blur(noise(channels=channels)), expected)


def test_what_a_preprocessing_transform_draws_is_the_images_own() -> None:
    spec = {"class_path": "RandomBrightnessContrast", "init_args": {"brightness_limit": [-0.4, 0.4]}}
    (one,), (other,) = build_preprocess([spec]), build_preprocess([spec])
    images = [noise(seed) // 4 + 96 for seed in range(8)]
    forwards = [one(image) for image in images]
    backwards = [other(image) for image in reversed(images)][::-1]
    np.testing.assert_array_equal(forwards, backwards)
    assert len({round(float(x.mean() - image.mean())) for x, image in zip(forwards, images, strict=True)}) > 4


def test_a_preprocessed_store_is_kept_for_the_options_of_a_transform() -> None:
    def images(*preprocess: Any) -> Any:
        return SyntheticFaces(items_per_class=4, subjects=4, preprocess=preprocess).store.images

    def blur(sigma: float) -> Any:
        return {"class_path": "GaussianBlur", "init_args": {"sigma_limit": [sigma, sigma]}}

    assert images(blur(1.0)).filename == images(blur(1.0)).filename != images(blur(2.0)).filename
    assert images("Sharpen").filename != images("Sharpen", "MedianFilter").filename


def test_a_transform_that_leaves_no_uint8_is_named() -> None:
    def scaled(image: Any, **_: Any) -> Any:
        return image / np.float32(255)

    floats = albumentations.Lambda(image=scaled, p=1.0)
    (part,) = build_preprocess([floats])
    with pytest.raises(FerlError, match="data.preprocess: Lambda does not return uint8"):
        part(noise())
    data = SyntheticFaces(items_per_class=4, subjects=4, worker_augment=[floats])
    with pytest.raises(FerlError, match="data.worker_augment: Lambda does not return uint8"):
        next(iter(data.train_dataloader()))


# --- kornia on the device -------------------------------------------------------------------------------------------


def applied(part: Augmentation, image: torch.Tensor) -> torch.Tensor:
    return part({"image": image.clone(), "label": torch.zeros(len(image), dtype=torch.long)}, 3)["image"]


@pytest.mark.parametrize(
    "spec", ["RandomHorizontalFlip", {"class_path": "RandomGaussianNoise", "init_args": {"std": 0.05, "p": 1.0}}]
)
def test_kornia_keeps_the_contract(spec: Any) -> None:
    check_augmentation(lambda: build_augment([spec])[0])


def test_kornia_draws_for_clips_and_stays_in_range() -> None:
    torch.manual_seed(0)
    image = torch.rand(200, 3, 1, 8, 8)
    flip, brightness = build_augment(
        [RandomHorizontalFlip(p=0.5), RandomBrightness((1.5, 1.5), clip_output=False, p=1.0)]
    )
    result = applied(flip, image)
    flipped = (result == image.flip(-1)).flatten(1).all(1)
    assert ((result == image).flatten(1).all(1) ^ flipped).all()
    assert stats.binomtest(int(flipped.sum()), 200, 0.5).pvalue > 1e-3
    torch.testing.assert_close(applied(brightness, image), (image + 0.5).clamp(0, 1))


def test_kornia_that_does_not_fit_the_images_is_named() -> None:
    (part,) = build_augment(["RandomJPEG"])
    with pytest.raises(FerlError, match=r"data.augment: RandomJPEG fails on images of shape \(1, 8, 8\): .*expected 3"):
        applied(part, torch.rand(2, 1, 1, 8, 8))

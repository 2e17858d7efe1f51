"""The contract check of augmentations."""

from collections.abc import Callable, Sequence

import torch

from ferlightning.contracts.modules import Augmentation, Batch
from ferlightning.testing.common import require, require_close, seeded, shape


@seeded()
def check_augmentation(build: Callable[[], Augmentation], channels: Sequence[int] = (1, 3)) -> None:
    """Check that an augmentation returns a valid batch, repeats with torch's seed, and reads no padding.

    Also check that its random draws differ between the items of a batch and are the same for all frames of a clip.

    Args:
        build: makes the augmentation, like an entry of ``augment``.
        channels: C of the images.
    """
    part = build()
    name = type(part).__name__
    require(isinstance(part, Augmentation), f"{name} is no subclass of ferlightning.contracts.Augmentation")
    b, t, k = 16, 4, 5
    index, soft = torch.arange(b) % k, torch.rand(b, k).softmax(1)
    mask = torch.arange(t) < (torch.arange(b) % t + 1)[:, None]
    for c in channels:
        clips, other = torch.rand(2, b, t, c, 24, 20)
        padding = ~mask[:, :, None, None, None]
        padded, garbage = clips.masked_fill(padding, 0), torch.where(padding, other, clips)
        alike = clips[:1, :1].expand(b, t, -1, -1, -1)
        drawn = []
        for seed in range(8):
            for label in (index, soft):
                one, same = (_augmented(part, {"image": clips[:, :1], "label": label}, k, seed) for _ in range(2))
                for key in ("image", "label"):
                    require_close(one[key], same[key], f"{name}: equal seeds of torch must give equal batches", 0)
            blank, dirty = (
                _augmented(part, {"image": x, "label": index, "mask": mask}, k, seed) for x in (padded, garbage)
            )
            real = blank["mask"]
            read = f"{name}: what padding holds changes the real frames"
            require_close(blank["image"][real], dirty["image"][real], read, 1e-5)
            image = _augmented(part, {"image": alike, "label": index}, k, seed)["image"]
            held = f"{name}: equal frames of a clip must stay equal: draw once for all of them"
            require_close(image, image[:, :1].expand_as(image), held, 1e-5)
            drawn.append(image)
        varies = any(not torch.equal(image, drawn[0]) for image in drawn)
        each = any(not torch.equal(image, image[:1].expand_as(image)) for image in drawn)
        require(each or not varies, f"{name}: draws once for a batch; it must draw anew for every item")


def _augmented(part: Augmentation, batch: Batch, k: int, seed: int) -> Batch:
    """Augment a copy of the batch, and check that the result is valid."""
    name, mask, label = type(part).__name__, batch.get("mask"), batch["label"]
    given = {"index": torch.arange(len(label))} | {key: x.clone() for key, x in batch.items()}
    torch.manual_seed(seed)
    try:
        made = part(given, k)
    except Exception as error:
        what = f"{name}: fails on images {shape(batch['image'])} with labels {shape(label)}"
        raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
    lost = ({"index"} | batch.keys()) - made.keys()
    require(not lost, f"{name}: the batch has lost {', '.join(sorted(lost))}")
    image = made["image"]
    kept = f"{name}: images {shape(batch['image'])} float32 became {shape(image)} {image.dtype}"
    require(image.shape == batch["image"].shape and image.dtype == torch.float32, kept)
    require(bool(image.isfinite().all()), f"{name}: images are not finite")
    low, high = float(image.min()), float(image.max())
    span = f"{name}: images in [0, 1] must stay there; they span [{low:.3g}, {high:.3g}]"
    require(low >= -1e-5 and high <= 1 + 1e-5, span)
    require(torch.equal(made["index"], torch.arange(len(label))), f"{name}: changes the index of items")
    found = made["label"]
    if found.ndim == 1 and label.ndim == 1:
        sound = found.shape == label.shape and bool(((found >= 0) & (found < k)).all()) and found.dtype == torch.int64
    else:
        sound = found.shape == (len(label), k) and bool((found >= 0).all()) and found.is_floating_point()
        sound = sound and bool(((found.sum(1) - 1).abs() < 1e-4).all())
    require(sound, f"{name}: labels must be class indices (B,) or class probabilities (B, K); they are {found}")
    if mask is None:
        require("mask" not in made or bool(made["mask"].all()), f"{name}: masks frames of clips that are all real")
    else:
        sound = made["mask"].dtype == torch.bool and made["mask"].shape == mask.shape
        require(
            sound and bool((made["mask"] | ~mask).all()), f"{name}: mask must be bool (B, T), real frames stay real"
        )
    return made

"""The contract checks of parts that work on single images: preprocessing and graded corruptions."""

import copy
import inspect
import json
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ferlightning.contracts.images import GradedCorruption, Preprocess
from ferlightning.data.sources.synthetic.datamodule import draw_faces
from ferlightning.errors import FerlError
from ferlightning.testing.common import require


def check_preprocess(
    build: Callable[[], Preprocess],
    channels: Sequence[int] = (1, 2, 3, 5),
    sizes: Sequence[tuple[int, int]] = ((48, 40), (64, 64)),
) -> None:
    """Check that a preprocessing part makes uint8 images, equal ones of equal images, and is known by its attributes.

    Args:
        build: makes the part, like an entry of ``preprocess``.
        channels: C of the images; earlier parts may have added channels to grey or RGB.
        sizes: heights and widths of the images; give your own for a part for one fixed size.
    """
    part = build()
    name = type(part).__name__
    require(isinstance(part, Preprocess), f"{name} is no subclass of ferlightning.contracts.Preprocess")
    kept = copy.deepcopy(vars(part))
    for option in inspect.signature(type(part)).parameters.values():
        several = option.kind in (option.VAR_POSITIONAL, option.VAR_KEYWORD)
        message = f"{name}: must keep the option {option.name} in an attribute of that name, which tells copies apart"
        require(several or option.name in kept, message)
    try:
        json.dumps(kept)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"{name}: its attributes must be plain values, but: {error}") from error

    rng = np.random.default_rng(0)
    for c in channels:
        for height, width in sizes:
            large = rng.integers(0, 256, (height + 2, width + 2, c), np.uint8)
            crop = large[1:-1, 1:-1]
            crop.flags.writeable = False  # like the images of a store
            image = crop.copy()
            result = _preprocessed(part, image)
            require(bool((image == crop).all()), f"{name}: writes into the image it is given")
            flat = _preprocessed(part, np.full_like(image, 77)).shape
            alike = f"{name}: images of one shape must keep one shape; {image.shape} became {result.shape} and {flat}"
            require(flat == result.shape, alike)
            for how, found in {
                "a second run": _preprocessed(part, image),
                "a second part with the same options": _preprocessed(build(), image),
                "a read-only crop of a larger image": _preprocessed(part, crop),
            }.items():
                same = found.shape == result.shape and bool((found == result).all())
                require(same, f"{name}: {how} gives another result on {image.shape}")
    require(vars(part) == kept, f"{name}: changes its attributes when called, from {kept} to {vars(part)}")


def check_corruption(
    build: Callable[[int], GradedCorruption],
    channels: Sequence[int] = (1, 3),
    sizes: Sequence[tuple[int, int]] = ((48, 48), (64, 56)),
) -> None:
    """Check that a corruption spoils equal images equally, keeps their shape, and spoils drawn faces by degrees.

    Args:
        build: makes the corruption from its severity, like the slot ``corrupt``.
        channels: C of the images.
        sizes: heights and widths of the images.
    """
    clean, *graded = (build(severity) for severity in range(6))
    name = type(clean).__name__
    require(isinstance(clean, GradedCorruption), f"{name} is no subclass of ferlightning.contracts.GradedCorruption")
    require(len(clean.strengths) == 5, f"{name}: must have 5 strengths; found {len(clean.strengths)}")
    for severity in (-1, 6):
        try:
            build(severity)
        except FerlError:
            continue
        raise AssertionError(f"{name}: must refuse severity {severity} with a FerlError")

    faces = draw_faces(["happiness", "anger"], items_per_class=3, subjects=3, size=64).images
    for c in channels:
        for height, width in sizes:
            images = [np.stack([face[:height, :width] // (1 + n) for n in range(c)], axis=2) for face in faces]
            for image in images:
                image.flags.writeable = False  # like the images of a store
            require(bool((clean(images[0]) == images[0]).all()), f"{name}: severity 0 must leave the image as it is")
            errors = [0.0]
            for severity, part in enumerate(graded, 1):
                case = f"{images[0].shape} at severity {severity}"
                spoiled = [_preprocessed(part, image) for image in images]
                kept = spoiled[0].shape == images[0].shape
                require(kept, f"{name}: must keep the shape of {case}; found {spoiled[0].shape}")
                again = [_preprocessed(build(severity), image) for image in reversed(images)][::-1]
                same = all(bool((one == other).all()) for one, other in zip(spoiled, again, strict=True))
                require(same, f"{name}: a second part in another order gives another result on {case}")
                difference = np.stack(spoiled) - np.stack(images).astype(np.float64)
                errors.append(float((difference**2).mean()))
            rises = all(low < high for low, high in pairwise(errors))
            require(rises, f"{name}: a higher severity must spoil more; the squared errors are {np.round(errors, 1)}")


def _preprocessed(part: Preprocess | GradedCorruption, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    name = type(part).__name__
    try:
        result = part(image)
    except Exception as error:
        raise AssertionError(f"{name}: fails on {image.shape}: {type(error).__name__}: {error}") from error
    kind = f"{result.dtype} {result.shape}" if isinstance(result, np.ndarray) else type(result).__name__
    kept = isinstance(result, np.ndarray) and result.dtype == np.uint8 and result.ndim == 3 and result.size > 0
    require(kept, f"{name}: must make uint8 (H, W, C) of {image.shape}; found {kind}")
    require(result.flags.c_contiguous, f"{name}: the result on {image.shape} must be contiguous in memory")
    return result

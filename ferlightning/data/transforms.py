"""Transforms of albumentations and kornia by name, and the adapters that make them parts of ours.

A configuration names a transform as it names a part: by its class name, or by ``class_path`` and ``init_args``. The
libraries are imported here, when a transform of theirs is named, and not by the types of the options: a command reads
the types of all options before it does anything, and most commands use neither library.
"""

import inspect
import os
import warnings
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from ferlightning.contracts.images import Preprocess
from ferlightning.contracts.modules import Augmentation, Batch
from ferlightning.errors import FerlError

Spec = str | dict[str, Any]
"""A transform in a configuration: its class name, or ``{class_path: ..., init_args: {...}}``."""

NOT_UINT8 = ("Denormalize", "FromFloat", "Normalize", "ToFloat", "ToTensor3D", "ToTensorV2")
"""Transforms of albumentations and kornia that belong after ours: images stay uint8 until they are on the device."""

REPLACED = {
    "Noise": "kornia's RandomGaussianNoise",
    "Blur": "kornia's RandomGaussianBlur",
    "Kornia": "the kornia class itself, listed by name",
}
"""Augmentations of earlier versions, and what to write in their place."""


def build_preprocess(specs: Sequence[Preprocess | Spec]) -> list[Preprocess]:
    """Build the parts of ``data.preprocess``: ours, and albumentations; ours win where both have a name.

    Preprocessing leaves nothing to chance. A transform of albumentations applies to every image (``p`` is 1), and what
    it draws is seeded by the image's own bytes, so that an image has one result in every run, order and process.

    Raises:
        FerlError: a name or an option is wrong, a transform has a ``p`` below 1, or it does not return uint8 images.
    """
    parts: list[Preprocess] = []
    for spec in specs:
        if isinstance(spec, Preprocess):
            parts.append(spec)
            continue
        path, options = _read("data.preprocess", spec) if isinstance(spec, str | dict) else ("", {})
        if _find(path, Preprocess):
            parts.append(_build("data.preprocess", path, options, Preprocess))
            continue
        built = _albumentation("data.preprocess", spec, {"p": 1.0}, Preprocess)
        if getattr(built, "p", 1.0) < 1:
            raise FerlError(
                f"data.preprocess: {type(built).__name__} has p {built.p}, but preprocessing applies to every image: "
                "give p 1.0, or move it to data.worker_augment"
            )
        parts.append(_Albumentations(built))
    return parts


def build_worker_augment(specs: Sequence[Spec]) -> Any | None:
    """Build the transforms of ``data.worker_augment``, as one ``albumentations.Compose``; None without any.

    Args:
        specs: albumentations by name; from Python, instances too.

    Raises:
        FerlError: a name or an option is wrong, or a transform does not return uint8 images.
    """
    if not specs:
        return None
    built = [_albumentation("data.worker_augment", spec) for spec in specs]
    return _import_albumentations().Compose(built)


def build_augment(specs: Sequence[Augmentation | Spec]) -> list[Augmentation]:
    """Build the parts of ``data.augment``: ours, and augmentations of kornia; from Python, instances of either.

    Raises:
        FerlError: a name or an option is wrong.
    """
    parts: list[Augmentation] = []
    for spec in specs:
        if isinstance(spec, Augmentation):
            parts.append(spec)
            continue
        path, options = _read("data.augment", spec) if isinstance(spec, str | dict) else ("", {})
        if _find(path, Augmentation):
            parts.append(_build("data.augment", path, options, Augmentation))
            continue
        if (name := path.rpartition(".")[2]) in REPLACED:
            raise FerlError(f"data.augment: there is no {name} any more; use {REPLACED[name]}")
        from kornia.augmentation import AugmentationBase2D  # late: only if one is named

        if path:
            spec = _build("data.augment", path, options, AugmentationBase2D, Augmentation)
        elif not isinstance(spec, AugmentationBase2D):
            raise FerlError(f"data.augment: {spec!r} is no augmentation of ours or of kornia")
        _refuse_floats("data.augment", type(spec).__name__)
        parts.append(_Kornia(spec))
    return parts


# --- adapters; a leading underscore keeps them out of the table of parts ----------------------------------------------


class _Albumentations(Preprocess):
    """A transform of albumentations as preprocessing, seeded by each image."""

    def __init__(self, transform: Any) -> None:
        library = _import_albumentations()
        # Both tell one preprocessed copy from another: the text of a Compose has all options of its transforms.
        self.transform, self.version = library.Compose([transform]), library.__version__

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        self.transform.set_random_seed(crc32(image.tobytes()))
        changed: NDArray[np.uint8] = apply_albumentations("data.preprocess", self.transform, image[None])[0]
        return changed


class _Kornia(Augmentation):
    """An augmentation of kornia, which draws for every clip and holds the draw over its frames."""

    def __init__(self, transform: Any) -> None:
        from kornia.augmentation import VideoSequential

        self.name = type(transform).__name__
        self.transform = VideoSequential(transform, data_format="BTCHW", same_on_frame=True)

    def __call__(self, batch: Batch, num_classes: int) -> Batch:
        try:
            image = self.transform(batch["image"])
        except Exception as error:  # of many kinds, such as a transform for three channels given one
            shape = tuple(batch["image"].shape[2:])
            raise FerlError(f"data.augment: {self.name} fails on images of shape {shape}: {_line(error)}") from error
        return batch | {"image": image.clamp(0, 1)}


def apply_albumentations(option: str, transform: Any, clip: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Apply an ``albumentations.Compose`` to the frames of a clip alike, uint8 (T, H, W, C) to uint8 (T, H', W', C').

    Args:
        option: names the transform in a message.
        transform: an ``albumentations.Compose``.
        clip: the frames.

    Raises:
        FerlError: the transform fails on images of this shape, or returns something else than uint8 images.
    """
    try:
        changed = transform(images=clip)["images"]
    except Exception as error:  # of many kinds: one for grey or RGB only given edges too, a crop larger than the image
        fails = f"fails on an image of shape {clip.shape[1:]}: {_line(error)}"
        raise FerlError(f"{option}: {_names(transform)} {fails}") from error
    if getattr(changed, "dtype", None) != np.uint8 or changed.ndim != 4:
        raise FerlError(f"{option}: {_names(transform)} does not return uint8 images (H, W, C); remove it")
    result: NDArray[np.uint8] = changed
    return result


def _names(transform: Any) -> str:
    return ", ".join(type(one).__name__ for one in transform.transforms)


# --- from names to instances ------------------------------------------------------------------------------------------


def _import_albumentations() -> Any:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else its import asks a server for its newest version
    import albumentations

    return albumentations


def _albumentation(option: str, spec: Any, defaults: dict[str, Any] | None = None, *others: type) -> Any:
    """Build a transform of albumentations; an instance stays as it is. A wrong name may mean a class of ``others``."""
    library = _import_albumentations()
    if isinstance(spec, str | dict):
        path, options = _read(option, spec)
        _refuse_floats(option, path.rpartition(".")[2])
        return _build(option, path, (defaults or {}) | options, library.BasicTransform, *others)
    if not isinstance(spec, library.BasicTransform | library.BaseCompose):
        raise FerlError(f"{option}: {spec!r} is no transform of albumentations")
    _refuse_floats(option, type(spec).__name__)
    return spec


def _refuse_floats(option: str, name: str) -> None:
    if name in NOT_UINT8:
        raise FerlError(
            f"{option}: remove {name}. Images stay uint8 until they are on the device, where they become [0, 1], and "
            "the model normalises them itself"
        )


def _read(option: str, spec: Any) -> tuple[str, dict[str, Any]]:
    """Read the class path and the options of a specification."""
    if isinstance(spec, str):
        return spec, {}
    if isinstance(spec, dict) and set(spec) <= {"class_path", "init_args"}:
        path, options = spec.get("class_path"), spec.get("init_args") or {}
        if isinstance(path, str) and isinstance(options, dict):
            return path, options
    raise FerlError(f"{option}: {spec!r} names no transform: give its name, or its class_path and init_args")


def _by_name(base: type) -> dict[str, type]:
    """Collect the imported subclasses of a class."""

    def below(kind: type) -> Iterator[type]:
        subclasses: list[type] = kind.__subclasses__()
        for subclass in subclasses:
            yield subclass
            yield from below(subclass)

    return {kind.__name__: kind for kind in below(base) if kind.__name__[0] != "_"}


def _find(path: str, base: type) -> type | None:
    """Find the subclass that is named, alone or after a module path that begins with its own package.

    Nothing is imported by a path, so that a configuration can run nothing.
    """
    package, _, name = path.rpartition(".")
    kind = _by_name(base).get(name)
    return kind if kind and package.partition(".")[0] in ("", kind.__module__.partition(".")[0]) else None


def _build(option: str, path: str, init: dict[str, Any], *bases: type) -> Any:
    """Build a subclass of the first base that has one of this name.

    Args:
        option: where it is named, for a message.
        path: its name, or its full path.
        init: its arguments.
        bases: what may be named.
    """
    name = path.rpartition(".")[2]
    kind = next((kind for base in bases if (kind := _find(path, base))), None)
    if kind is None:
        known = [known for base in bases for known in _by_name(base)]
        raise FerlError(f"{option}: there is no transform {path!r}{_hint(name, known)}")
    parameters = inspect.signature(kind).parameters
    anything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for key in init:
        if key not in parameters and not anything:
            raise FerlError(f"{option}: {name} has no option {key!r}{_hint(key, list(parameters), show_all=True)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # albumentations warns of a bad value and takes the default
            return kind(**{key: _as_tuple(value) for key, value in init.items()})
    except FerlError:
        raise
    except Exception as error:  # each class has its own kinds
        raise FerlError(f"{option}: {name} cannot be built: {_line(error)}") from error


def _as_tuple(value: Any) -> Any:
    """Make tuples of the lists of a configuration: both libraries ask for tuples."""
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value


def _hint(name: str, known: list[str], show_all: bool = False) -> str:
    short = {other.lower(): other for other in known}
    if close := [short[other] for other in get_close_matches(name.lower(), short, 3)]:
        return f"; did you mean {' or '.join(close)}?"
    return f"; it has {', '.join(known)}" if show_all else ""


def _line(error: Exception) -> str:
    """Put a message on one line, without pydantic's address of a help page."""
    return " ".join(str(error).partition("For further information")[0].split())

"""Preprocessed images and stores."""

import hashlib
import inspect
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferlightning.contracts.images import GradedCorruption, Preprocess
from ferlightning.data.store import Store, open_store, room


def preprocess_image(parts: Sequence[Preprocess | GradedCorruption], image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Apply each part in turn: (H, W) or (H, W, C) to (H', W') or (H', W', C')."""
    if not parts:
        return image
    image = image[..., None] if image.ndim == 2 else image
    for part in parts:
        image = part(image)
    return image[..., 0] if image.shape[2] == 1 else image


def preprocess_store(parts: Sequence[Preprocess], raw: Store) -> Store:
    """Preprocess every frame of a store, once: the result is kept in the cache."""
    if not parts:
        return raw
    # A part whose code or arguments changed is another part, and makes another store.
    described = [(type(part).__name__, vars(part), _source_hash(type(part))) for part in parts]

    def parse() -> Store:
        images = room((len(raw.images), *preprocess_image(parts, raw.images[0]).shape))
        for n, image in enumerate(raw.images):
            images[n] = preprocess_image(parts, image)
        return replace(raw, images=images)

    return open_store({"preprocess": described, "of": _identity(raw)}, parse)


def described(part: Preprocess) -> dict[str, Any]:
    """A part as plain values: its class path, and the arguments that its attributes of the same name hold."""
    options = {name: value for name, value in vars(part).items() if name in inspect.signature(type(part)).parameters}
    return {"class_path": f"{type(part).__module__}.{type(part).__qualname__}", "init_args": options}


def _identity(store: Store) -> str:
    """What tells one store from another: the file it is mapped from, wherever the cache is, or a hash of its pixels."""
    if isinstance(store.images, np.memmap) and store.images.filename:
        return "/".join(Path(str(store.images.filename)).parts[-2:])
    return hashlib.sha256(store.images.tobytes()).hexdigest()


def _source_hash(part: type) -> str:
    """Hash the modules that a part and its bases are written in, helper functions included."""
    modules = {inspect.getmodule(base) for base in part.__mro__[:-1]}
    code = sorted(inspect.getsource(module) for module in modules if module is not None)
    return hashlib.sha256("".join(code).encode()).hexdigest()

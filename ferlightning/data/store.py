"""What parsing leaves behind: arrays on disk, memory-mapped, parsed once for each state of the source."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

SPLITS = ("train", "val", "test")
UNDECIDED = -1


@dataclass(frozen=True)
class Store:
    """All items (stills or clips) of a data set. An item n has the frames ``images[start[n]:start[n + 1]]``.

    Attributes:
        images: uint8 (F, H, W) grey or (F, H, W, 3) RGB, the frames of all items, one after another.
        start: int64 (N + 1,), first frame of each item, then F.
        label: int64 (N,), index into the data module's ``class_names``.
        split: int8 (N,), index into ``SPLITS``; ``UNDECIDED`` throughout where the data module is to split.
        name: str (N,), what a person would call the item: a path or a row of the source.
        subject: str (N,), who is shown; empty strings where unknown.
    """

    images: NDArray[np.uint8]
    start: NDArray[np.int64]
    label: NDArray[np.int64]
    split: NDArray[np.int8]
    name: NDArray[np.str_]
    subject: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.label)

    @classmethod
    def of_stills(
        cls,
        images: NDArray[np.uint8],
        label: NDArray[np.int64],
        split: NDArray[np.int8],
        name: NDArray[np.str_],
        subject: NDArray[np.str_] | None = None,
    ) -> "Store":
        """A store whose every item has one frame."""
        start = np.arange(len(label) + 1, dtype=np.int64)
        return cls(images, start, label, split, name, np.full(len(label), "") if subject is None else subject)


def cache_dir() -> Path:
    """Where stores are kept: ``$FERL_CACHE``, or ``~/.cache/ferlightning``."""
    return Path(os.environ.get("FERL_CACHE") or Path.home() / ".cache" / "ferlightning")


def open_store(key: dict[str, object], parse: Callable[[], Store]) -> Store:
    """The store for a key, memory-mapped; parsed and written first if it is not there or is damaged.

    Several processes may open one key at the same time: one parses, the others wait. The folder appears by rename, so
    a killed parse leaves nothing that could be taken for a store.

    Args:
        key: everything that the content depends on (reader and its version, paths, sizes, times, options).
        parse: reads the source.
    """
    text = json.dumps(key, sort_keys=True, default=str)
    folder = cache_dir() / hashlib.sha256(text.encode()).hexdigest()[:24]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        store = _load(folder)
        if store is None:
            parsed = parse()
            temporary = Path(tempfile.mkdtemp(dir=folder.parent))
            try:
                for field in fields(Store):
                    np.save(temporary / f"{field.name}.npy", getattr(parsed, field.name))
                (temporary / "key.json").write_text(text)
                shutil.rmtree(folder, ignore_errors=True)
                temporary.rename(folder)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
            store = _load(folder)
            assert store is not None
        return store


def _load(folder: Path) -> Store | None:
    """The store in a folder, or None if a file is absent, cut short, or of a length that does not fit the others."""
    try:
        store = Store(**{field.name: np.load(folder / f"{field.name}.npy", mmap_mode="r") for field in fields(Store)})
        n = len(store)
        fits = len(store.start) == n + 1 and len(store.split) == len(store.name) == len(store.subject) == n
        return store if fits and store.start[-1] == len(store.images) else None
    except Exception:  # NumPy raises a dozen kinds on bytes that are no array; all mean that the file is damaged
        return None

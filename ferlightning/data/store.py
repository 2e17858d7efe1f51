"""The store: the arrays that parsing leaves on disk, memory-mapped, parsed once for each state of the source."""

import errno
import hashlib
import json
import math
import mmap
import os
import re
import shutil
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from ferlightning.data.measures import frame_hashes, frame_sums
from ferlightning.errors import FerlError
from ferlightning.files import cache_dir, replacing

SPLITS = ("train", "val", "test")
UNDECIDED = -1
UNLABELLED = -1
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Store:
    """All items (stills or clips) of a data set. An item n has the frames ``images[start[n]:start[n + 1]]``.

    Attributes:
        images: uint8 (F, H, W) grey or (F, H, W, C), the frames of all items, one after another.
        start: int64 (N + 1,), first frame of each item, then F.
        label: int64 (N,), index into the data module's ``label_names``; ``UNLABELLED`` if there is none.
        split: int8 (N,), index into ``SPLITS``; ``UNDECIDED`` throughout if the data module is to split.
        name: str (N,), the item's name for a person: a path or a row of the source.
        subject: str (N,), who is shown; empty if unknown.
        sequence: str (N,), the recording that the item is from; empty if unknown, or for stills.
        votes: uint8 (N, 10), FER+ votes; (N, 0) elsewhere.
        remarks: str (M,), what the reader found missing or odd, one sentence each.
    """

    images: NDArray[np.uint8]
    start: NDArray[np.int64]
    label: NDArray[np.int64]
    split: NDArray[np.int8]
    name: NDArray[np.str_]
    subject: NDArray[np.str_]
    sequence: NDArray[np.str_]
    votes: NDArray[np.uint8]
    remarks: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.label)

    @classmethod
    def of(
        cls,
        images: NDArray[np.uint8],
        label: NDArray[np.int64],
        split: NDArray[np.int8],
        name: NDArray[np.str_],
        *,
        start: NDArray[np.int64] | None = None,
        subject: NDArray[np.str_] | None = None,
        sequence: NDArray[np.str_] | None = None,
        votes: NDArray[np.uint8] | None = None,
        remarks: list[str] | None = None,
    ) -> "Store":
        """Make a store of what is given; the rest is unknown. Items are stills unless ``start`` says otherwise."""
        n = len(label)
        return cls(
            images=images,
            start=np.arange(n + 1, dtype=np.int64) if start is None else start,
            label=label,
            split=split,
            name=name,
            subject=np.full(n, "") if subject is None else subject,
            sequence=np.full(n, "") if sequence is None else sequence,
            votes=np.zeros((n, 0), np.uint8) if votes is None else votes,
            remarks=np.array(remarks or [], np.str_),
        )

    @cached_property
    def hashes(self) -> NDArray[np.uint64]:
        """Hash of the pixels of each frame, (F,)."""
        return self._measured("hashes", frame_hashes)

    @cached_property
    def sums(self) -> NDArray[np.uint64]:
        """Sum of each channel of each frame, and of its squares, (F, C, 2)."""
        return self._measured("sums", frame_sums)

    def _measured(self, name: str, measure: Callable[[NDArray[np.uint8]], NDArray[np.uint64]]) -> NDArray[np.uint64]:
        """What was measured when the images were written; else measure it now."""
        if self._folder and (path := self._folder / f"{name}.npy").exists():
            kept: NDArray[np.uint64] = np.load(path, mmap_mode="r")
            if len(kept) == len(self.images):
                return kept
        return measure(self.images)

    @property
    def _folder(self) -> Path | None:
        """Where the images are on the disk, if a store that was written has them."""
        folder = Path(str(self.images.filename)).parent if isinstance(self.images, np.memmap) else None
        return folder if folder and (folder / MANIFEST).exists() else None

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker process that shares no memory opens the files itself: a pickle would be a copy of all images.
        if self._folder:
            return _map, (self._folder,)
        return Store, tuple(getattr(self, field.name) for field in fields(self))


def room(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Make room for the images of a store on the disk, whose file ``open_store`` moves into the store.

    Memory holds none of them for good: the images of AffectNet at 224 x 224 pixels are 44 GB.
    """
    path, size = cache_dir() / f".{uuid4().hex}.npy", math.prod(shape)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear_rooms(path.parent)
        free = shutil.disk_usage(path.parent).free
        if size > free:  # before anything is taken, which others need, too
            raise FerlError(
                f"the images take {size >> 20:,} MiB, and the cache {path.parent} has {free >> 20:,} MiB free. Make "
                "room, set the environment variable FERL_CACHE to another folder, or give a smaller data.size"
            )
        images: NDArray[np.uint8] = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
        file = path.open("r+b")
    except OSError as error:
        raise _unwritable(error) from None
    weakref.finalize(images, _remove, path, file)
    _lock(file)
    # Else a full disk would kill the process while pages are written.
    if hasattr(os, "posix_fallocate") and images.size:
        os.posix_fallocate(file.fileno(), 0, size)
    return images


def _lock(file: IO[bytes]) -> bool:
    """Own a file of ``room`` until the process ends, however it does; False if another one owns it, or none can."""
    try:
        from fcntl import LOCK_EX, LOCK_NB, flock  # which Windows lacks

        flock(file, LOCK_EX | LOCK_NB)
    except (ImportError, OSError):
        return False
    return True


def _clear_rooms(cache: Path) -> None:
    """Remove the files of ``room`` of processes that were killed, which may be many gigabytes.

    Where locks do not reach over machines, the hour is what keeps those that are being written.
    """
    for path in cache.glob(f".{'[0-9a-f]' * 32}.npy"):
        with suppress(OSError), path.open("r+b") as file:
            if time.time() - path.stat().st_mtime > 3600 and _lock(file):
                path.unlink()


def _unwritable(error: OSError) -> FerlError:
    return FerlError(
        f"cannot write to the cache {cache_dir()}: {error.strerror}. Set the environment variable FERL_CACHE to a "
        "folder that can be written"
    )


def _remove(path: Path, file: IO[bytes]) -> None:
    file.close()
    with suppress(OSError):
        path.unlink()


def _save(path: Path, array: NDArray[Any]) -> None:
    """Save an array; move one that fills a file of ``room``."""
    if isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap):
        file = Path(str(array.filename))
        if file.parent == cache_dir():  # not that of another store
            array.flush()
            with suppress(OSError):  # as of Windows, where a mapped file stays
                file.rename(path)
                return
    np.save(path, array)


def open_store(key: dict[str, object], parse: Callable[[], Store]) -> Store:
    """Open the store for a key, memory-mapped; parse and write it first if it is missing or damaged.

    Several processes may open one key at the same time: one parses, the others wait. The folder appears by rename, so
    a killed parse leaves nothing that looks like a store.

    Args:
        key: everything the content depends on (reader and its version, paths, sizes, times, options).
        parse: reads the source.

    Raises:
        FerlError: the cache cannot be written.
    """
    text = json.dumps(key, sort_keys=True, default=str)
    folder = cache_dir() / hashlib.sha256(text.encode()).hexdigest()[:24]
    if (complete := _load(folder)) is not None:  # nothing to write: the cache may be read-only
        return complete
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{folder}.lock").acquire()
    except OSError as error:
        raise _unwritable(error) from None
    with lock:
        store = _load(folder)
        if store is None:
            for left in folder.parent.glob(f".{folder.name}.*.tmp"):  # by parses that were killed
                shutil.rmtree(left, ignore_errors=True)
            try:
                with replacing(folder) as temporary:
                    temporary.mkdir()
                    parsed = parse()
                    for field in fields(Store):
                        _save(temporary / f"{field.name}.npy", getattr(parsed, field.name))
                    for name in ("hashes", "sums"):
                        np.save(temporary / f"{name}.npy", getattr(parsed, name))
                    files = {path.name: _facts(path) | {"sha256": _digest(path)} for path in temporary.iterdir()}
                    shown = {name: value for name, value in key.items() if name != "files"}  # of them there are many
                    (temporary / MANIFEST).write_text(json.dumps({"key": shown, "files": files}, default=str))
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, None):
                    raise
                free = shutil.disk_usage(folder.parent).free >> 20
                raise FerlError(
                    f"cannot write the parsed data to the cache {folder.parent}, where {free:,} MiB are free: {error}. "
                    "Make room, or set the environment variable FERL_CACHE to another folder"
                ) from error
            store = _map(folder)
        return store


def stores(cache: Path) -> list[Path]:
    """The folders of all stores in a cache, whole or not."""
    return sorted(path for path in cache.iterdir() if path.is_dir() and re.fullmatch(r"[0-9a-f]{24}", path.name))


def damage(folder: Path) -> str | None:
    """Read a store whole, and tell which of its files is not what was written; None if all are."""
    try:
        written = json.loads((folder / MANIFEST).read_text("utf-8"))["files"]
        for name in dict.fromkeys([*(f"{field.name}.npy" for field in fields(Store)), *written]):
            path, expected = folder / name, written[name]
            if not path.is_file():
                return f"{path} is missing"
            if path.stat().st_size != expected["size"] or _digest(path) != expected["sha256"]:
                return f"{path} is not what was written"
    except OSError as error:
        return f"{error.filename} cannot be read: {error.strerror}"
    except (ValueError, KeyError, TypeError):
        return f"{folder / MANIFEST} is not what was written"
    return None


def _facts(path: Path) -> dict[str, Any]:
    stat = path.stat()
    return {"size": stat.st_size, "time": stat.st_mtime_ns}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _load(folder: Path) -> Store | None:
    """Map the store in a folder; None if anything about it is not as it was written.

    A file with the size and time of its writing is trusted at once. One that was touched or copied since is read whole,
    and trusted only if its hash is right.
    """
    try:
        written = json.loads((folder / MANIFEST).read_text())["files"]
        for name, expected in written.items():
            path = folder / name
            facts = _facts(path)
            if facts["size"] != expected["size"]:
                return None
            if facts["time"] != expected["time"] and _digest(path) != expected["sha256"]:
                return None
        return _map(folder)
    except Exception:  # a dozen kinds, of the file system, JSON and NumPy; all mean that the store is damaged
        return None


def _map(folder: Path) -> Store:
    return Store(**{field.name: np.load(folder / f"{field.name}.npy", mmap_mode="r") for field in fields(Store)})

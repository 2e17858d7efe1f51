"""Measurements over items of a store: moments of the pixels, and hashes that tell images and data apart."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from ferlightning.data.store import Store

Ints = NDArray[np.int64]


def frames_of(store: Store, items: Ints) -> Ints:
    """List the frames of some items, one item after another, by their numbers in the store. Shape: (n,) -> (F,)."""
    lengths = store.start[items + 1] - store.start[items]
    before = np.cumsum(lengths) - lengths
    frames: Ints = np.arange(lengths.sum()) + np.repeat(store.start[items] - before, lengths)
    return frames


def pixel_moments(store: Store, items: Ints) -> tuple[list[float], list[float]]:
    """Compute mean and standard deviation of each channel, with pixels in [0, 1]; 0 and 1 if there are no items."""
    frames = frames_of(store, items)
    if not len(frames):  # data for a test only; the checkpoint has its own statistics
        channels = store.sums.shape[1]
        return [0.0] * channels, [1.0] * channels
    pixels = len(frames) * int(np.prod(store.images.shape[1:3]))
    total, squares = store.sums[frames].sum(0).T
    # In whole numbers of any length, since the difference is small.
    variance = [pixels * int(q) - int(s) ** 2 for s, q in zip(total, squares, strict=True)]
    std = np.sqrt(np.array(variance, float)) / pixels
    # Images of one grey level have no spread to divide by.
    return (total / pixels / 255).tolist(), np.maximum(std / 255, 1 / 255).tolist()


def blank_frames(store: Store, frames: Ints) -> NDArray[np.bool_]:
    """Tell which of some frames have one grey value throughout, (F,)."""
    total, squares = store.sums[frames].sum(1).T
    blank: NDArray[np.bool_] = np.uint64(np.prod(store.images.shape[1:])) * squares == total**2
    return blank


def telling_frames(owner: Ints, blank: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tell which frames can make their item a copy, (F,): a blank one cannot, unless the whole clip is blank.

    Args:
        owner: (F,) item of each frame, counted from 0.
        blank: (F,) from ``blank_frames``.
    """
    all_blank: NDArray[np.bool_] = np.bincount(owner, ~blank) == 0
    return ~blank | all_blank[owner]


def item_hashes(store: Store, items: Ints) -> NDArray[np.uint64]:
    """Hash the pixels of each item; that of a still is the hash of its frame. Shape: (n,) -> (n,)."""
    frames = store.hashes[frames_of(store, items)]
    starts = np.cumsum([0, *(store.start[items + 1] - store.start[items])[:-1]])
    return np.bitwise_xor.reduceat(frames, starts)


MANY = 0.01
"""Share of a split above which items that repeat another are worth a note; in FER2013's PublicTest it is 0.7 %."""


def told_repeats(store: Store, items: Ints) -> str:
    """Say how many of some stills repeat the pixels of another, where that is many; empty otherwise, and for clips."""
    if not len(items) or (store.start[items + 1] - store.start[items] > 1).any():
        return ""
    frames = store.start[items]
    hashes = store.hashes[frames][~blank_frames(store, frames)]
    repeated = len(hashes) - len(np.unique(hashes))
    if repeated <= MANY * len(items):
        return ""
    return f"{repeated:,} of {len(items):,} items repeat the image of another, and count once more."


def content_hash(store: Store, items: Ints, label: Ints) -> str:
    """Hash pixels, lengths and labels of some items together.

    Args:
        store: where the frames are.
        items: (n,) numbers of the items in the store.
        label: (n,) class index.
    """
    digest = hashlib.sha256(label.tobytes())
    digest.update((store.start[items + 1] - store.start[items]).tobytes())
    for n in frames_of(store, items):
        digest.update(store.images[n].tobytes())
    return digest.hexdigest()

"""Measurements over items of a store: moments of the pixels, and hashes that tell images and data apart."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from ferlightning.data.store import Store

Ints = NDArray[np.int64]
BLOCK = 1 << 22  # pixels at a time, to keep memory flat


def frames_of(store: Store, items: Ints) -> Ints:
    """List the frames of some items, one item after another, by their numbers in the store. Shape: (n,) -> (F,)."""
    lengths = store.start[items + 1] - store.start[items]
    before = np.cumsum(lengths) - lengths
    frames: Ints = np.arange(lengths.sum()) + np.repeat(store.start[items] - before, lengths)
    return frames


def pixel_moments(store: Store, items: Ints) -> tuple[list[float], list[float]]:
    """Compute mean and standard deviation of each channel, with pixels in [0, 1]; 0 and 1 if there are no items."""
    channels = store.images.shape[3] if store.images.ndim == 4 else 1
    frames = frames_of(store, items)
    if not len(frames):  # data for a test only; the checkpoint has its own statistics
        return [0.0] * channels, [1.0] * channels
    histogram = np.zeros((channels, 256))
    block = max(1, BLOCK // int(np.prod(store.images.shape[1:3])))
    for i in range(0, len(frames), block):
        images = store.images[frames[i : i + block]].reshape(-1, channels)
        histogram += [np.bincount(channel, minlength=256) for channel in images.T]
    p, level = histogram / histogram.sum(1, keepdims=True), np.arange(256) / 255
    mean = p @ level
    std = np.sqrt((p * (level - mean[:, None]) ** 2).sum(1))
    # Images of one grey level have no spread to divide by.
    return mean.tolist(), np.maximum(std, 1 / 255).tolist()


def frame_hashes(images: NDArray[np.uint8], frames: Ints) -> NDArray[np.uint64]:
    """Hash the pixels of each of some frames, (F,).

    Args:
        images: uint8 (N, H, W) or (N, H, W, C).
        frames: (F,) numbers of the frames.
    """
    digests = b"".join(hashlib.blake2b(images[n].tobytes(), digest_size=8).digest() for n in frames)
    return np.frombuffer(digests, np.uint64)


def blank_frames(images: NDArray[np.uint8], frames: Ints) -> NDArray[np.bool_]:
    """Tell which frames have one grey value throughout, (F,); the arguments are those of ``frame_hashes``."""
    return np.array([images[n].min() == images[n].max() for n in frames], bool)


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
    frames = frame_hashes(store.images, frames_of(store, items))
    starts = np.cumsum([0, *(store.start[items + 1] - store.start[items])[:-1]])
    return np.bitwise_xor.reduceat(frames, starts)


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

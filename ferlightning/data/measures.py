"""What is measured of each frame once, when a store is written: a hash of its pixels, and their sums."""

import hashlib

import numpy as np
from numpy.typing import NDArray

BLOCK = 1 << 18  # pixels at a time, to keep memory flat


def frame_hashes(images: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Hash the pixels of each frame: (F, H, W[, C]) to (F,)."""
    digests = b"".join(hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in images)
    return np.frombuffer(digests, np.uint64)


def frame_sums(images: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Sum the pixels of each channel of each frame, and their squares: (F, H, W[, C]) to (F, C, 2)."""
    images = images[..., None] if images.ndim == 3 else images
    frames, height, width, channels = images.shape
    sums = np.empty((frames, channels, 2), np.uint64)
    block = max(1, BLOCK // (height * width))
    for i in range(0, frames, block):
        for c in range(channels):
            x = images[i : i + block, ..., c].astype(np.uint32)
            sums[i : i + block, c] = np.stack([x.sum((1, 2)), (x * x).sum((1, 2), dtype=np.uint64)], 1)
    return sums

"""Copies of images: pixel for pixel, re-encoded or relit, mirrored or turned.

An image is compared as 32 x 32 grey pixels. Two are near copies if their perceptual hashes (Zauner 2010,
"Implementation and Benchmarking of Perceptual Image Hash Functions") differ in at most ``DISTANCE`` of 64 bits, which
is quick to compute for all pairs, and if their detail (the image less its Gaussian blur) correlates by at least
``CORRELATION``. Neither depends on brightness or contrast. Detail is used because whole images of any two faces in the
same light correlate by up to 0.95.

The thresholds were chosen by inspecting pairs among the 30,765 different images of FER2013's Training and PublicTest,
473 million pairs. 13,270 are at most 10 bits apart; 1,060 of these correlate by 0.85 or more. Of those from 0.80 to
0.85 (413) and from 0.70 to 0.75 (329), 180 each were inspected, and nearly all show one photograph too, shifted by a
pixel or less. But two people of CK+48 (291,249 pairs) reach 0.79, and of drawn faces, which differ less than people,
one pair in a million is above 0.85. Two more bits would add 46,856 candidates and 2 copies.

Of copies made from 1,500 images, it finds all JPEGs of quality 20; all with another brightness and contrast, if nothing
clips; 99.9 % with noise of 8 grey levels and 87 % with 20; at least 97 % of those turned by up to 12 degrees; 48 % of
those cropped to 46 of 48 pixels; and 2 % of those shifted by a pixel.

Shapes: F frames, P pairs.
"""

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

SIDE = 32
DISTANCE = 10
CORRELATION = 0.85
BLUR = 2.0  # standard deviation of the Gaussian that is subtracted, in pixels of 32
CENTRE = 0.8  # of the side: what remains when an image is turned by 15 degrees and back
BLOCK = 256, 2048  # hashes compared at a time: few enough for the CPU's cache
FRAMES = 2048  # images held as floats at a time


class View(NamedTuple):
    """A way to look at the middle of an image: mirrored, turned, or as it is."""

    degrees: int
    """Anticlockwise."""
    mirrored: bool
    """Before it is turned."""


STRAIGHT = View(0, False)
AUGMENTED = [View(degrees, mirrored) for mirrored in (False, True) for degrees in (-10, -5, 0, 5, 10)]
AUGMENTED.remove(STRAIGHT)


class Descriptors(NamedTuple):
    """What is compared of F images."""

    code: NDArray[np.uint64]
    """(F,) perceptual hash."""
    detail: NDArray[np.float16]
    """(F, 32 * 32) grey less its blur, with mean 0 and norm 1."""


class Pairs(NamedTuple):
    """P pairs of near copies."""

    first: Ints
    """(P,) index of a frame."""
    second: Ints
    """(P,) index of a frame."""
    similarity: NDArray[np.float32]
    """(P,) correlation of their detail, up to 1."""


def copy_groups(owner: Ints, content: Ints, n: int) -> Ints:
    """Group n items, (n,): those that share a content are in one group, and so are all that they share others with.

    Args:
        owner: (F,) item of each frame.
        content: (F,) numbers from 0, equal where the pixels are equal.
        n: number of items.
    """
    from scipy.sparse import coo_array  # late, as everywhere: SciPy is slow to import
    from scipy.sparse.csgraph import connected_components

    size = n + int(content.max(initial=-1)) + 1
    links = coo_array((np.ones(len(owner), bool), (owner, n + content)), shape=(size, size))
    found: Ints = connected_components(links, directed=False)[1][:n].astype(np.int64)
    return found


def descriptors_of(images: NDArray[np.uint8], frames: Ints, view: View | None = None) -> Descriptors:
    """Compute the descriptors of some images.

    Args:
        images: uint8 (N, H, W) or (N, H, W, C).
        frames: (F,) numbers of the images.
        view: how to look at the middle of each; None for the whole image as it is.
    """
    from scipy.fft import dctn
    from scipy.ndimage import gaussian_filter

    code, detail = np.empty(len(frames), np.uint64), np.empty((len(frames), SIDE * SIDE), np.float16)
    for i in range(0, len(frames), FRAMES):
        small = np.stack([_shrink(images[frame], view) for frame in frames[i : i + FRAMES]]).astype(np.float32)
        low = dctn(small, axes=(1, 2))[:, :8, :8].reshape(-1, 64)
        bits = low > np.median(low, 1, keepdims=True)
        code[i : i + FRAMES] = np.packbits(bits, 1).view(np.uint64)[:, 0]
        fine = (small - gaussian_filter(small, (0, BLUR, BLUR))).reshape(-1, SIDE * SIDE)
        fine -= fine.mean(1, keepdims=True)
        detail[i : i + FRAMES] = fine / np.maximum(np.linalg.norm(fine, axis=1, keepdims=True), 1)
    return Descriptors(code, detail)


def _shrink(image: NDArray[np.uint8], view: View | None) -> NDArray[np.uint8]:
    """(H, W) or (H, W, C) to (32, 32) grey."""
    seen: Any = image
    if view is not None:
        height, width = image.shape[:2]
        seen = cv2.flip(seen, 1) if view.mirrored else seen
        if view.degrees:
            turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), view.degrees, 1)
            seen = cv2.warpAffine(seen, turn, (width, height))
        top, left = round((1 - CENTRE) / 2 * height), round((1 - CENTRE) / 2 * width)
        seen = seen[top : height - top, left : width - left]
    shrunk = cv2.resize(seen, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    grey: NDArray[np.uint8] = (shrunk if shrunk.ndim == 2 else shrunk.mean(2)).astype(np.uint8, copy=False)
    return grey


def near_copies(a: Descriptors, b: Descriptors | None = None, kin: Ints | None = None) -> Pairs:
    """Find all pairs of an image of ``a`` and one of ``b`` that are near or exact copies.

    Memory grows with the pairs found, not with those compared.

    Args:
        a: F images.
        b: others; None compares each pair of ``a`` once.
        kin: (F,) numbers, without ``b``: two images with the same number are skipped.
    """
    found: list[Pairs] = []
    other = a if b is None else b
    rows, columns = BLOCK
    for i in range(0, len(a.code), rows):
        for j in range(i if b is None else 0, len(other.code), columns):
            distance = np.bitwise_count(a.code[i : i + rows, None] ^ other.code[None, j : j + columns])
            first, second = np.divmod(np.flatnonzero(distance <= DISTANCE), distance.shape[1])
            first, second = first + i, second + j
            if b is None:
                wanted = first < second if kin is None else (first < second) & (kin[first] != kin[second])
                first, second = first[wanted], second[wanted]
            for k in range(0, len(first), FRAMES):
                f, s = first[k : k + FRAMES], second[k : k + FRAMES]
                similarity = np.einsum("pd,pd->p", a.detail[f].astype(np.float32), other.detail[s].astype(np.float32))
                close = similarity >= CORRELATION
                found.append(Pairs(f[close], s[close], similarity[close]))
    if not found:
        return Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
    return Pairs(*(np.concatenate(arrays) for arrays in zip(*found, strict=True)))

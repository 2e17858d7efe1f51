"""Faces cut out of pictures as data sets have them: a square of a share of the detector's box."""

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

MOST_SIDE = 8192
"""Of the square that is cut out, in pixels; a larger one is cut out of a smaller picture."""


def crop_face(image: NDArray[np.uint8], box: Sequence[float], share: float, size: int) -> NDArray[np.uint8]:
    """Cut out the square around a box's centre; beyond the border, its pixels are repeated.

    Args:
        image: (H, W) or (H, W, C).
        box: left, top, right and bottom in pixels.
        share: side of the square, as a share of the box's height.
        size: of the result. Where the picture shrinks, a pixel is the mean over its area.

    Returns:
        (size, size) or (size, size, C).
    """
    left, top, right, bottom = box
    side = max(1, round(share * (bottom - top)))
    x, y = round((left + right - side) / 2), round((top + bottom - side) / 2)
    height, width = image.shape[:2]
    if side > MOST_SIDE:  # of a picture that is hardly wider than a line, the square would be of gigabytes
        scale = MOST_SIDE / 2 / side
        smaller: Any = cv2.resize(
            image, [max(1, round(scale * length)) for length in (width, height)], interpolation=cv2.INTER_AREA
        )
        return crop_face(smaller, [scale * end for end in box], share, size)
    # A square that misses the picture altogether shows the border's pixels.
    x, y = min(max(x, 1 - side), width - 1), min(max(y, 1 - side), height - 1)
    cut: Any = image[max(y, 0) : y + side, max(x, 0) : x + side]
    pads = max(-y, 0), max(y + side - height, 0), max(-x, 0), max(x + side - width, 0)
    if any(pads):
        cut = cv2.copyMakeBorder(cut, *pads, cv2.BORDER_REPLICATE)
    how = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    resized: NDArray[np.uint8] = cv2.resize(cut, (size, size), interpolation=how)
    return resized


def level(
    image: NDArray[np.uint8], box: Sequence[float], landmarks: NDArray[np.float32]
) -> tuple[NDArray[np.uint8], tuple[float, float, float, float]]:
    """Turn the surroundings of a face about the box's centre so that the eyes are level.

    Args:
        image: (H, W) or (H, W, C).
        box: left, top, right and bottom in pixels.
        landmarks: the first two rows are the eyes, the left of the picture first.

    Returns:
        A picture of twice the box's height, and the box in it.
    """
    left, top, right, bottom = box
    reach = math.ceil(2 * max(bottom - top, right - left))  # OpenCV turns no picture of more than 32,767 pixels a side
    height, width = image.shape[:2]
    x, y = (min(max(0, math.floor(v) - reach), side - 1) for v, side in ((left, width), (top, height)))
    image = image[y : max(y + 1, math.ceil(bottom) + reach), x : max(x + 1, math.ceil(right) + reach)]
    left, top, right, bottom = left - x, top - y, right - x, bottom - y
    landmarks = landmarks - np.array([x, y], np.float32)
    (x0, y0), (x1, y1) = landmarks[:2].tolist()
    angle = math.degrees(math.atan2(y1 - y0, x1 - x0))
    half = max(1, math.ceil(bottom - top))
    centre = (left + right) / 2, (top + bottom) / 2
    turn = cv2.getRotationMatrix2D(centre, angle, 1)
    turn[:, 2] += np.array([half - centre[0], half - centre[1]])
    turned = cv2.warpAffine(image, turn, (2 * half, 2 * half), borderMode=cv2.BORDER_REPLICATE)
    width, height = (right - left) / 2, (bottom - top) / 2
    return turned.astype(np.uint8, copy=False), (half - width, half - height, half + width, half + height)

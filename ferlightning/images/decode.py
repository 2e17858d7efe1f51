"""Image files: listed, decoded, cut out and resized."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ferlightning.errors import FerlError

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".tif", ".tiff", ".webp"}


def list_images(folder: Path) -> list[Path]:
    """List the image files of a folder at any depth, by their suffix, sorted; hidden files and folders are left out."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return sorted(path for path in found if not any(part[0] == "." for part in path.relative_to(folder).parts))


Box = tuple[int, int, int, int]
"""Left, top, right and bottom of a part of an image in pixels; right and bottom are the first outside."""


def decode_image(path: Path, color: bool) -> NDArray[np.uint8]:
    """Decode an image in its own size. Shape: (H, W), or (H, W, 3) RGB.

    Raises:
        FerlError: the file is not an image that OpenCV reads, or has more pixels than it takes (2 ** 30).
    """
    # Not cv2.imread: it fills a file that is cut short with grey, and on Windows takes ASCII paths only.
    data = np.frombuffer(path.read_bytes(), np.uint8)
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB if color else cv2.IMREAD_GRAYSCALE) if len(data) else None
    except cv2.error:  # a header that claims too many pixels
        image = None
    if image is None:
        raise FerlError(f"{path}: cannot be read as an image; replace or remove it")
    return image.astype(np.uint8, copy=False)


def read_image(path: Path, size: int, color: bool, box: Box | None = None) -> NDArray[np.uint8]:
    """Decode an image, cut a part out, and resize it to a square. Shape: (size, size), or (size, size, 3) RGB.

    Raises:
        FerlError: the file is not an image that OpenCV reads, or the box is not inside it.
    """
    image = decode_image(path, color)
    if box is not None:
        left, top, right, bottom = box
        if not (0 <= left < right <= image.shape[1] and 0 <= top < bottom <= image.shape[0]):
            raise FerlError(
                f"{path}: the box {box} is not inside the image of {image.shape[1]} x {image.shape[0]} pixels"
            )
        image = image[top:bottom, left:right]
    shrinks = max(image.shape[:2]) > size
    resized = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return resized.astype(np.uint8, copy=False)

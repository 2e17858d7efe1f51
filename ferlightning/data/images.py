"""Image files of a folder."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ferlightning.errors import FerlError

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".tif", ".tiff", ".webp"}


def list_images(folder: Path) -> list[Path]:
    """The image files of a folder at any depth, by their suffix, sorted; hidden files are not images."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.name[0] != ".")
    return sorted(path for path in found if path.is_file())


def read_image(path: Path, size: int, color: bool) -> NDArray[np.uint8]:
    """Decode an image and resize it to a square. Shape: (size, size), or (size, size, 3) RGB.

    Raises:
        FerlError: the file is not an image that OpenCV reads.
    """
    # Not cv2.imread: it fills a file that is cut short with grey, and on Windows takes ASCII paths only.
    data = np.frombuffer(path.read_bytes(), np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB if color else cv2.IMREAD_GRAYSCALE) if len(data) else None
    if image is None:
        raise FerlError(f"{path}: cannot be read as an image; replace or remove it")
    shrinks = max(image.shape[:2]) > size
    resized = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return resized.astype(np.uint8, copy=False)

"""What these tests share: YuNet's file where there is one, a photograph, and a model of a few lines."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib.cbook import get_sample_data
from numpy.typing import NDArray

from ferlightning.contracts import Detection, FaceDetector

Image = NDArray[np.uint8]
MODELS = Path(os.environ.get("FERL_WEIGHTS") or Path(__file__).parents[3] / "shared/models")
YUNET = MODELS / "face_detection_yunet_2026may.onnx"
needs_yunet = pytest.mark.skipif(not YUNET.is_file(), reason="YuNet's file is not here")

HOPPER = (170, 105, 360, 335)
"""Grace Hopper's face in matplotlib's photograph, from chin to hair and ear to ear, marked by hand."""


def hopper() -> Image:
    """A real photograph with one face, RGB."""
    image = cv2.imread(get_sample_data("grace_hopper.jpg", asfileobj=False), cv2.IMREAD_COLOR_RGB)
    assert image is not None
    return image.astype(np.uint8)


def overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Intersection over union of two boxes."""
    w = min(one[2], other[2]) - max(one[0], other[0])
    h = min(one[3], other[3]) - max(one[1], other[1])
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    shared = max(w, 0) * max(h, 0)
    return shared / (sum(areas) - shared)


class Brightness:
    """A model of one's own: bright faces are happy, as far as they are bright."""

    class_names = ["sadness", "happiness"]
    read_size = 8
    margin = 0.0
    clips = False

    def __call__(self, faces: list[list[Image]]) -> NDArray[np.float32]:
        bright = np.array([clip[-1].mean() / 255 for clip in faces])
        return np.stack([1 - bright, bright], 1).astype(np.float32)


class Blobs(FaceDetector):
    """A detector of one's own: every separate area that is not black is a face."""

    def __call__(self, image: Image, size: int, min_score: float) -> list[Detection]:
        _, _, stats, _ = cv2.connectedComponentsWithStats((image.max(2) > 0).astype(np.uint8))
        return [Detection((float(x), float(y), float(x + w), float(y + h)), 1.0) for x, y, w, h, _ in stats[1:]]


def dots(*places: tuple[int, int], grey: int = 255) -> Image:
    """A black picture with a square of 20 pixels at each place, of its centre."""
    image = np.zeros((100, 200, 3), np.uint8)
    for x, y in places:
        image[y - 10 : y + 10, x - 10 : x + 10] = grey
    return image

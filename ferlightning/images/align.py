"""Alignment of faces: a similarity transform that puts the eyes in fixed places.

Points of a picture are complex numbers, x + iy in pixels, y down, 0 in the middle of the first pixel. A similarity
(rotation, scale and shift) is then z -> a z + b, and two points and their images determine a and b.
"""

import cmath
import math
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from cv2.data import haarcascades
from numpy.typing import NDArray

from ferlightning.contracts.images import FaceDetector, Preprocess
from ferlightning.errors import FerlError
from ferlightning.images.detectors import build_detector

Eyes = tuple[complex, complex]
"""The centres of the eyes, the one further left in the picture first."""

PLACES = (0.35 + 0.3j, 0.65 + 0.3j)
"""Where the eyes are put, as shares of the square: at 35 and 65 % of its width, as usual, and at 30 % of its height, a
little above the usual 35 %. This leaves 2.3 eye distances below them: a chin is about 1.8 below, and the rest is for an
open mouth."""

LANDMARKS = 68
CORNERS = ((36, 39), (42, 45))
"""Landmarks at the corners of each eye, counted from 0; unlike the lids, they do not move when the eye closes."""

SEEN = 240
"""Side of the face in pixels when eyes are searched: the cascade finds eyes from 20 pixels up."""

AGREE = 0.05
"""How far an eye may be from where it is found in the mirrored picture, as a share of the width."""

LOOKED_AT = 240, 960
"""Least and most pixels of a picture's longer side when a detector looks at it: YuNet turns small faces too little."""
AROUND = 0.15
"""Width of the repeated border around a picture, as a share of its side: a detector wants more than a tight crop."""


class AlignEyes(Preprocess):
    """Turn, scale and shift a face so that the eyes are at ``PLACES``, found by the landmarks of a face detector.

    The largest face is taken, and looked for a second time once its eyes are level: detectors turn their landmarks too
    little. In CK+48 rotated by known angles, YuNet finds all faces so, half of them to 0.9 degrees and none wrong by
    more than 5. A picture without a face stays as it is. It belongs before parts that append channels.

    Args:
        detector: yunet, mtcnn, or a plug-in's class with landmarks.
        size: height and width of the result in pixels; null for the height of the picture.
    """

    def __init__(self, detector: str = "yunet", size: int | None = None) -> None:
        if size is not None and size < 1:
            raise FerlError(f"AlignEyes: size is {size}, expected a number from 1")
        if detector in ("haar", "none"):
            raise FerlError(f"AlignEyes: the detector {detector} finds no landmarks: take yunet or mtcnn")
        self.detector = detector
        self.size = size

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        rgb = image[..., :3] if image.shape[2] >= 3 else np.repeat(image[..., :1], 3, 2)
        find = _detector(self.detector)
        eyes = _eyes_of_largest(rgb, find, 0.0)
        if eyes is not None:
            eyes = _eyes_of_largest(rgb, find, cmath.phase(eyes[1] - eyes[0])) or eyes
        size = self.size or len(image)
        planes: list[Any] = list(cv2.split(image))
        if eyes is None:
            planes = [cv2.resize(plane, (size, size), interpolation=cv2.INTER_AREA) for plane in planes]
        else:
            planes = [align_eyes(plane, eyes, size) for plane in planes]
        return np.stack(planes, 2).astype(np.uint8, copy=False)


@cache
def _detector(name: str) -> FaceDetector:
    return build_detector(name)


def _eyes_of_largest(image: NDArray[np.uint8], find: FaceDetector, turn: float) -> Eyes | None:
    """Find the eyes of the largest face in a picture (H, W, 3), looked at turned by an angle in radians."""
    least, most = LOOKED_AT
    scale = min(max(1.0, least / max(image.shape[:2])), most / max(image.shape[:2]))
    how = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    seen: Any = cv2.resize(image, None, fx=scale, fy=scale, interpolation=how)
    border = round(AROUND * max(seen.shape[:2]))
    seen = cv2.copyMakeBorder(seen, border, border, border, border, cv2.BORDER_REPLICATE)
    middle = complex(seen.shape[1] - 1, seen.shape[0] - 1) / 2
    if turn:
        matrix = cv2.getRotationMatrix2D((middle.real, middle.imag), math.degrees(turn), 1)
        seen = cv2.warpAffine(seen, matrix, seen.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
    faces = [face for face in find(seen, max(seen.shape), find.min_score) if face.landmarks is not None]
    if not faces:
        return None
    marks = max(faces, key=lambda face: face.box[3] - face.box[1]).landmarks
    assert marks is not None
    back = cmath.exp(1j * turn)
    first, second = (
        ((complex(*mark) - middle) * back + middle - border * (1 + 1j) + (0.5 + 0.5j)) / scale - (0.5 + 0.5j)
        for mark in marks[:2].tolist()
    )
    return None if first == second else (first, second)


def align_eyes(image: NDArray[np.uint8], eyes: Eyes, size: int) -> NDArray[np.uint8]:
    """Cut out a square in which the eyes are at ``PLACES``; beyond the border, its pixels are repeated.

    Where the picture shrinks, a pixel is the mean over its area.

    Shape: (H, W) or (H, W, 3) -> (size, size) or (size, size, 3).
    """
    apart = (PLACES[1] - PLACES[0]) / (eyes[1] - eyes[0])  # of shares, by pixels of the picture
    # At least as fine as the picture, and a multiple of the size, since warpAffine itself does not average.
    side = size * max(1, math.ceil(1 / (size * abs(apart))))
    a = side * apart
    b = side * PLACES[0] - (0.5 + 0.5j) - a * eyes[0]
    matrix = np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])
    fine = cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return cv2.resize(fine, (size, size), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def read_eyes(path: Path, height: int, width: int) -> Eyes:
    """Read the eyes from a file of 68 landmarks in the order of Multi-PIE and iBUG; CK+ has one for each frame.

    Args:
        path: a file of 68 lines, x and y in pixels.
        height: of the picture, in pixels.
        width: of the picture, in pixels.

    Raises:
        FerlError: the file is missing or is not of this kind, or the eyes are not inside the picture.
    """
    expected = f"expected {LANDMARKS} lines of two numbers, x and y. Unpack Landmarks.zip again"
    try:
        lines = path.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        raise FerlError(f"{path}: this landmark file is missing, {expected}") from None
    try:
        points = np.array([line.split() for line in lines if line.strip()], np.float64)
    except ValueError:  # a word that is no number, or lines of different length
        raise FerlError(f"{path}: has {lines[0][:40]!r} in the first of {len(lines)} lines, {expected}") from None
    if points.shape != (LANDMARKS, 2):
        raise FerlError(f"{path}: has {' x '.join(map(str, points.shape))} numbers, {expected}")
    left, right = (complex(*points[list(corners)].mean(0)) for corners in CORNERS)
    # Written so that it is false for NaN too.
    if not (0 <= left.real < right.real < width and 0 <= left.imag < height and 0 <= right.imag < height):
        raise FerlError(
            f"{path}: the eyes are at {left.real:.0f}, {left.imag:.0f} and {right.real:.0f}, {right.imag:.0f}, "
            f"expected one left of the other inside the picture of {width} x {height} pixels. Unpack Landmarks.zip "
            "again, and keep the pictures in their own size"
        )
    return left, right


def find_eyes(face: NDArray[np.uint8]) -> Eyes | None:
    """Find the eyes by OpenCV's cascade in a grey picture of a face and little else, (S, S).

    The eyes are searched in the picture and in its mirror image. The result is the mean of both if they agree to
    ``AGREE``, else None: a wrong pair would tilt the face. In CK+48 rotated by known angles, one search finds the eyes
    in 95 % of the pictures and is wrong by more than 5 degrees in 3 %; two that agree find them in 89 %, none of them
    wrong by that much.
    """
    how = cv2.INTER_AREA if len(face) > SEEN else cv2.INTER_CUBIC
    seen = cv2.resize(face, (SEEN, SEEN), interpolation=how)
    pair, mirrored = _likely_pair(seen), _likely_pair(cv2.flip(seen, 1))
    if pair is None or mirrored is None:
        return None
    again = 1 - mirrored[1].conjugate(), 1 - mirrored[0].conjugate()
    if max(abs(pair[0] - again[0]), abs(pair[1] - again[1])) > AGREE:
        return None
    left, right = (len(face) * (one + two) / 2 - (0.5 + 0.5j) for one, two in zip(pair, again, strict=True))
    return left, right


def _likely_pair(face: Any) -> Eyes | None:
    """Find two eyes, as shares of the picture: left and right of the middle, 20 to 50 % apart, level to 20 degrees.

    Of several pairs, the one centred best is taken.
    """
    least, most = SEEN // 10, SEEN // 2
    upper = face[: round(0.6 * SEEN)]
    boxes = _cascade().detectMultiScale(upper, 1.05, 1, minSize=(least, least), maxSize=(most, most))
    centres = [complex(x + w / 2, y + h / 2) / SEEN for x, y, w, h in boxes]
    pairs = [
        (left, right)
        for left in centres
        for right in centres
        if left.real < 0.5 < right.real
        and 0.2 <= abs(right - left) <= 0.5
        and abs(cmath.phase(right - left)) <= math.radians(20)
    ]
    return min(pairs, key=lambda pair: abs((pair[0] + pair[1]).real - 1), default=None)


@cache
def _cascade() -> Any:
    """Load the cascade for eyes that is trained with glasses too."""
    return cv2.CascadeClassifier(f"{haarcascades}haarcascade_eye_tree_eyeglasses.xml")

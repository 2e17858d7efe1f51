"""The recogniser: faces of pictures and streams, with what they express."""

import logging
import math
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferlightning.contracts.images import Detection, FaceDetector
from ferlightning.deploy.classifier import FaceModel, OnnxModel
from ferlightning.deploy.pictures import Order, as_faces, as_list, as_rgb, looks_bgr
from ferlightning.deploy.sources import Frame, Video, require, require_frame
from ferlightning.deploy.tracking import Tracker
from ferlightning.errors import FerlError
from ferlightning.images.crop import crop_face, level
from ferlightning.images.decode import resize_to_square
from ferlightning.images.detectors import WholePicture, build_detector
from ferlightning.images.detectors.haar import Haar
from ferlightning.predictions import Predictions

Image = NDArray[np.uint8]
SMOOTHED = 0.3
"""Time constant, in seconds, of the exponential mean of a followed face's probabilities."""
STEADY = 0.3
"""Seconds that another class must be ahead by 1 before it becomes the label; twice as long if ahead by a half."""
RARELY = 0.125
"""Seconds after which faces are searched for again, however few frames have passed."""
CLOSER = 8
"""One of so many searches of a stream is at twice the size, for faces that are small or hard to see."""
UNSURE = 0.5
"""Score at which a followed face is still found, as a share of the least score of a new one."""
CLIP = 16
"""Frames of a followed face that a model of clips sees."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Face(Detection):
    """A face and what it expresses.

    Attributes:
        label: the class; of a followed face the one that was ahead for a while.
        probabilities: of each class; of a followed face smoothed over time.
        track: the number of a followed face, which stays its own; None in single pictures.
        found: whether a search found it in this frame; a followed face that was not found is where it is expected.
    """

    label: str = ""
    probabilities: dict[str, float] = field(default_factory=dict)
    track: int | None = None
    found: bool = True


@dataclass
class _Expression:
    """The state of a followed face."""

    clip: deque[Image]
    probabilities: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    time: float = 0.0
    label: int = 0
    ahead: NDArray[np.float64] = field(default_factory=lambda: np.zeros(1))
    """How far each class has been ahead of the label, times the seconds: the cumulative sum of Page 1954."""

    def add(self, new: NDArray[np.float64], time: float) -> None:
        if not self.probabilities.size:
            self.probabilities, self.label = new, int(new.argmax())
        else:
            seconds = max(time - self.time, 0.0)
            self.probabilities = new + math.exp(-seconds / SMOOTHED) * (self.probabilities - new)
            self.ahead = np.maximum(self.ahead + seconds * (new - new[self.label]), 0)
            if self.ahead.max() >= STEADY:
                self.label, self.ahead = int(self.ahead.argmax()), np.zeros(1)
        self.time = time


class Recognizer:
    """Finds faces and tells what they express. Needs NumPy, OpenCV and ONNX Runtime, no torch.

    >>> recognizer = Recognizer("ferl-small")  # doctest: +SKIP
    >>> [face.label for face in recognizer("photo.jpg")]  # doctest: +SKIP
    ['happiness']

    Args:
        model: a name of shipped weights, a file that ``ferl export`` wrote, or a model of your own.
        view: take these classes instead of the model's own, such as ``fer2013`` of ``ferl-small``.
        detector: ``yunet``, ``mtcnn``, ``haar``, ``none`` (pictures are faces that were cut out), the class of a
            plug-in by name, or a detector of your own. None is yunet, or haar where yunet's file cannot be had.
        detector_path: yunet's file.
        size: longer side, in pixels, to which a single picture is reduced to find faces.
        min_score: how sure the detector must be, from 0 to 1; None for its own choice.
        align: turn each face so that its eyes are level; needs a detector with landmarks.
        threads: how many threads each network may use.
        batch: most faces that are classified at once.

    Raises:
        FerlError: a file is missing or is not what it should be.
    """

    def __init__(
        self,
        model: str | Path | FaceModel = "ferl-small",
        *,
        view: str | None = None,
        detector: str | FaceDetector | None = None,
        detector_path: str | Path | None = None,
        size: int = 1280,
        min_score: float | None = None,
        align: bool = False,
        threads: int = 1,
        batch: int = 64,
    ) -> None:
        require(size=size, threads=threads, batch=batch)
        if hasattr(model, "folder"):  # a run
            model = str(model.folder)
        lacks = [name for name in ("class_names", "read_size", "margin", "clips") if not hasattr(model, name)]
        if not isinstance(model, str | Path) and (lacks or not callable(model)):
            raise FerlError(
                f"model is {model!r:.80}, expected a name, a file, or a model as of FaceModel"
                + (f", with {', '.join(lacks)}" if callable(model) else "")
            )
        if min_score is not None and not (isinstance(min_score, Real) and 0 <= min_score <= 1):
            raise FerlError(f"min_score is {min_score!r}, expected a number from 0 to 1")
        threads = min(threads, os.cpu_count() or 1)  # ONNX Runtime starts any number, and may never end
        self.model = OnnxModel(model, view, threads) if isinstance(model, str | Path) else model
        self.detector = (
            detector if isinstance(detector, FaceDetector) else build_detector(detector, detector_path, threads)
        )
        self.size = size
        if align and isinstance(self.detector, Haar | WholePicture):
            raise FerlError("align: this detector finds no eyes: take yunet or mtcnn, or leave align out")
        self.min_score = self.detector.min_score if min_score is None else min_score
        self.align = align
        self.batch_size = batch
        self._order_told = False

    @property
    def class_names(self) -> list[str]:
        """The classes, in the model's order."""
        return self.model.class_names

    def __call__(self, picture: Any, order: Order = "rgb") -> list[Face]:
        """The faces of one picture, from left to right.

        Args:
            picture: a path, the bytes of an image file, a Pillow image, or an array (H, W[, C]) of uint8, uint16 or
                floats in [0, 1], where C is 1, 3 or 4.
            order: of an array's colours; OpenCV's are ``bgr``.

        Raises:
            FerlError: the picture cannot be read, is empty, too large, or no such array.
        """
        return self.batch([picture], order)[0]

    def batch(self, pictures: Any, order: Order = "rgb") -> list[list[Face]]:
        """The faces of several pictures, as of ``__call__`` or an array (N, H, W[, C]), classified together."""
        images = [as_rgb(picture, order) for picture in as_list(pictures)]
        found = [sorted(self.detect(image), key=lambda face: face.box[0]) for image in images]
        crops = [self._crop(image, face) for image, faces in zip(images, found, strict=True) for face in faces]
        self._tell_order(crops, "the pictures come from OpenCV, say order='bgr'")
        rows = iter(self._classify([[crop] for crop in crops]))
        return [[self._face(face, row := next(rows), int(row.argmax())) for face in faces] for faces in found]

    def predict(self, crops: Any, order: Order = "rgb") -> Predictions:
        """Classify faces that are already cut out, as ``ferl predict`` does with files.

        Args:
            crops: a picture as of ``__call__``, a folder, or several in a list or an array (N, H, W[, C]); of any size.
            order: of the colours of arrays; OpenCV's are ``bgr``.

        Raises:
            FerlError: one cannot be read, is empty, too large, or no such array.
        """
        names, faces = as_faces(crops, getattr(self.model, "color", True), order)
        clips = [[resize_to_square(face, self.model.read_size)] for face in faces]
        return Predictions(names, self.class_names, self._classify(clips))

    def detect(self, image: Image, size: int | None = None, min_score: float | None = None) -> list[Detection]:
        """The faces of an RGB image, (H, W, 3), not yet classified; size and least score in place of one's own."""
        found = self.detector(image, size or self.size, self.min_score if min_score is None else min_score)
        if not isinstance(found, Iterable):
            raise FerlError(f"the detector gave {found!r:.80}, expected a list of Detection")
        found = list(found)  # one that yields them would be used up by what follows
        for face in found:
            if not isinstance(face, Detection):
                raise FerlError(f"the detector gave {face!r:.80} as a face, expected a Detection")
            if len(face.box) != 4 or not all(map(math.isfinite, face.box)):
                raise FerlError(f"the detector found a face at {face.box}, expected left, top, right, bottom in pixels")
            if face.box[2] < face.box[0] or face.box[3] < face.box[1]:
                raise FerlError(
                    f"the detector found a face at {face.box}, whose right or bottom is before its left or top: is it "
                    "a width and height? Expected left, top, right, bottom in pixels"
                )
            if face.landmarks is not None and not (
                np.shape(face.landmarks) == (5, 2) and np.isfinite(face.landmarks).all()
            ):
                raise FerlError(
                    f"the detector gave landmarks of the shape {np.shape(face.landmarks)}, or that are no numbers: "
                    "expected five rows x, y"
                )
            if not math.isfinite(face.score):
                raise FerlError(f"the detector gave a face the score {face.score}, expected one from 0 to 1")
        return found

    def stream(
        self,
        source: Any,
        *,
        detect_every: int = 3,
        size: int = 320,
        every_face: int = 1,
        min_score: float | None = None,
    ) -> Iterator[tuple[Frame, list[Face]]]:
        """Follow the faces of a video, a camera or a stream; each frame with its faces, from left to right.

        Between two searches, faces are where their movement takes them. Probabilities are an exponential mean over
        0.3 s; a label changes once another class has been ahead for 0.3 s or more, the longer the less it is ahead.

        Args:
            source: a video file, the number of a camera, a URL, a ``sources.Video`` of one of these, or any other
                ``sources.Frame`` in order, whose images are RGB: OpenCV's as ``image[..., ::-1]``.
            detect_every: search for faces in every nth frame, but at least every 0.125 s.
            size: longer side, in pixels, to which a frame is reduced to find faces.
            every_face: classify each face in every nth frame only, which makes its label late by up to that.
            min_score: how sure the detector must be of a new face, from 0 to 1; None for the recogniser's own.

        Raises:
            FerlError: the source cannot be opened, or gives what is no frame.
        """
        require(detect_every=detect_every, size=size, every_face=every_face)
        least = self.min_score if min_score is None else min_score
        tracker = Tracker(least)
        searched = 0.0
        known: dict[int, _Expression] = {}
        if not isinstance(source, Iterable) or isinstance(source, str | bytes):
            source = Video(source)
        before = -math.inf
        for n, given in enumerate(source):
            frame = require_frame(given, n, before)
            before = frame.time
            if n % detect_every == 0 or frame.time - searched > RARELY:
                searched = frame.time
                closer = 2 if n % (detect_every * CLOSER) == 0 else 1
                tracker.update(self.detect(frame.image, closer * size, UNSURE * least), frame.time)
            shown = tracker.shown(frame.time)
            numbers = {track.number for track in tracker.tracks}
            known = {number: expression for number, expression in known.items() if number in numbers}
            due, first = [], []
            for track, face in shown:
                new = track.number not in known
                expression = known.setdefault(track.number, _Expression(deque(maxlen=CLIP if self.model.clips else 1)))
                if new or (n + track.number) % every_face == 0:
                    expression.clip.append(self._crop(frame.image, face))
                    due.append(expression)
                first += [expression.clip[-1]] if new else []
            if not isinstance(source, Video):
                self._tell_order(first, "the frames come from OpenCV, turn them: image[..., ::-1]")
            for expression, row in zip(due, self._classify([list(e.clip) for e in due]), strict=True):
                expression.add(row.astype(np.float64), frame.time)
            faces = []
            for track, face in shown:
                e = known[track.number]
                faces.append(self._face(face, e.probabilities, e.label, track.number, track.time == frame.time))
            yield frame, sorted(faces, key=lambda face: face.box[0])

    def _crop(self, image: Image, face: Detection) -> Image:
        """A face as the model's training images show it, RGB."""
        box: Sequence[float] = face.box
        if self.align and face.landmarks is not None:
            image, box = level(image, box, face.landmarks)
        return crop_face(image, box, self.detector.crop * (1 + self.model.margin), self.model.read_size)

    def _tell_order(self, crops: list[Image], what: str) -> None:
        """Warn once if the colours of faces are probably in the wrong order."""
        if not self._order_told and looks_bgr(crops):
            self._order_told = True
            log.warning("Skin looks blue: if %s", what)

    def _classify(self, clips: list[list[Image]]) -> NDArray[np.float32]:
        """Shape: N clips -> (N, K)."""
        found = np.zeros((len(clips), len(self.class_names)), np.float32)
        for i in range(0, len(clips), self.batch_size):
            batch = clips[i : i + self.batch_size]
            rows = np.asarray(self.model(batch))
            if rows.shape != (len(batch), len(self.class_names)):
                raise FerlError(
                    f"the model gave the shape {rows.shape}, expected one row for each of the {len(batch)} faces and "
                    f"{len(self.class_names)} classes in it"
                )
            if not np.isfinite(rows).all():
                raise FerlError("the model gave probabilities that are no numbers: its weights are damaged")
            found[i : i + len(batch)] = rows
        return found

    def _face(
        self, face: Detection, row: NDArray[Any], label: int, track: int | None = None, found: bool = True
    ) -> Face:
        probabilities = dict(zip(self.class_names, map(float, row), strict=True))
        return Face(face.box, face.score, face.landmarks, self.class_names[label], probabilities, track, found)

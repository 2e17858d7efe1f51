"""Pictures and videos with the faces drawn into them, written to files that appear whole."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from ferlightning.deploy.recognizer import Face
from ferlightning.deploy.sources import partial_name, refuse_name
from ferlightning.errors import FerlError
from ferlightning.files import replacing

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]

COLORS = [(230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (213, 94, 0), (204, 121, 167)]
"""Colours of boxes, RGB, which colour-blind people can tell apart too: Okabe and Ito 2008."""
LEAST_RATE = 0.002
"""Frames a second below which OpenCV writes no video, as of every hundred-thousandth frame."""
MOST_COPIES = 250
"""The most copies of a frame that fill the time for which a camera sent none."""


def draw(image: NDArray[np.uint8], faces: list[Face]) -> NDArray[np.uint8]:
    """A copy of an RGB image, (H, W, 3), with a box, label and confidence for each face."""
    drawn, (height, width) = image.copy(), image.shape[:2]
    scale = max(0.4, min(height, width) / 900)
    thick = max(1, round(2 * scale))
    colors = [COLORS[(i if face.track is None else face.track - 1) % len(COLORS)] for i, face in enumerate(faces)]
    names = [f"{face.label} {100 * face.probabilities[face.label]:.0f} %" for face in faces]
    texts = [name if face.track is None else f"{face.track}: {name}" for name, face in zip(names, faces, strict=True)]
    sizes = [cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thick) for text in texts]
    line = max((text_height + 2 * base for (_, text_height), base in sizes), default=0)
    boxes = [tuple(round(v) for v in face.box) for face in faces]
    for (left, top, right, bottom), color in zip(boxes, colors, strict=True):
        cv2.rectangle(drawn, (left, top), (right, bottom), color, thick)
    places = place_labels(boxes, [text_width for (text_width, _), _ in sizes], line, width, height)
    for (x, y), text, ((text_width, _), base), color in zip(places, texts, sizes, colors, strict=True):
        cv2.rectangle(drawn, (x, y), (x + text_width - 1, y + line - 1), color, cv2.FILLED)
        cv2.putText(drawn, text, (x, y + line - base), cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), thick, cv2.LINE_AA)
    return drawn


def place_labels(
    boxes: Sequence[Sequence[int]], widths: Sequence[int], line: int, width: int, height: int
) -> list[tuple[int, int]]:
    """Where labels go: above their boxes, else below, else as near as no other label is in the way.

    Args:
        boxes: left, top, right and bottom of each.
        widths: of the labels, in pixels.
        line: their height.
        width: of the picture.
        height: of the picture.

    Returns:
        The left upper corners, x and y.
    """
    places: list[tuple[int, int]] = []
    for (left, top, right, bottom), w in zip(boxes, widths, strict=True):
        columns = [min(max(x, 0), max(0, width - w)) for x in (left, right - w)]
        below = min(bottom, height - line)
        above, quarter = top - line if top > line else below, max(1, line // 4)
        # Made as they are looked at, since the first is free most often, in every frame; those on the face are last.
        nearby = (y for step in range(quarter, height, quarter) for y in (above - step, below + step))
        inside = (y for y in chain(nearby, range(above, below, quarter)) if 0 <= y <= height - line)
        taken = list(zip(places, widths, strict=False))
        free = (
            (x, y)
            for y in chain((above, below), inside)
            for x in columns
            if all(x + w <= a or a + wide <= x or abs(y - b) >= line for (a, b), wide in taken)
        )
        places.append(next(free, (columns[0], above)))
    return places


def write_picture(path: Path, image: NDArray[np.uint8]) -> None:
    """Write an RGB image, (H, W, 3), as the suffix says.

    Raises:
        FerlError: it is too large for its format, or the file cannot be written.
    """
    fits, code = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not fits:
        size = f"{image.shape[1]} x {image.shape[0]}"
        raise FerlError(
            f"{path}: {path.suffix} takes no picture of {size} pixels: save its source as .png, then try again"
        )
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(code.tobytes())
    except OSError as error:
        raise FerlError(f"{path}: cannot be written: {error.strerror}") from None


class VideoFile:
    """A video that is written frame by frame: Matroska with Motion JPEG, which can be read up to where it was cut off.

    It is called ``NAME.partial.mkv`` until it is closed.

    Args:
        path: of the file, ``NAME.mkv``.
        rate: frames a second.
        live: write each frame as often as time has passed, since cameras do not keep to their rate.
    """

    def __init__(self, path: Path, rate: float, live: bool = False) -> None:
        self.path, self.rate, self.live = path, max(rate, LEAST_RATE), live
        self.partial = partial_name(path)
        self.writer: cv2.VideoWriter | None = None
        self.lock: BinaryIO | None = None
        self.size = (0, 0)
        self.written = 0

    def add(self, image: NDArray[np.uint8], time: float) -> None:
        """Append an RGB image, (H, W, 3); one of another size than the first is resized.

        Raises:
            FerlError: the file cannot be written.
        """
        if self.writer is None:
            refuse_name(self.partial)
            self._reserve()
            self.size = image.shape[1], image.shape[0]
            code = cv2.VideoWriter.fourcc(*"MJPG")
            # The whole name, since FFmpeg takes what is before a colon for a protocol.
            writer = cv2.VideoWriter(str(self.partial.absolute()), code, self.rate, self.size)
            if not writer.isOpened():
                self.partial.unlink(missing_ok=True)
                raise FerlError(
                    f"{self.partial}: a video of {self.size[0]} x {self.size[1]} pixels cannot be written here"
                )
            self.writer = writer
        if (image.shape[1], image.shape[0]) != self.size:
            image = cv2.resize(image, self.size).astype(np.uint8, copy=False)
        copies = min(MOST_COPIES, round(time * self.rate) + 1 - self.written) if self.live else 1
        for _ in range(copies):
            self.writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
            self.written += 1

    def close(self) -> None:
        """End the file and give it its name.

        Raises:
            FerlError: its end is missing, because the disk is full, or the file was deleted.
        """
        if self.writer is not None:
            self.writer.release()
            self.writer = None
            written = cv2.VideoCapture(str(self.partial.absolute()))  # OpenCV's writer does not tell that it failed
            written.set(cv2.CAP_PROP_POS_FRAMES, self.written - 1)
            whole = written.grab() and written.get(cv2.CAP_PROP_POS_FRAMES) >= self.written
            written.release()
            if self.lock:
                self.lock.close()
            if not whole:
                full = "the end could not be written: is the disk full?"
                raise FerlError(f"{self.partial}: {full if self.partial.exists() else 'was deleted meanwhile'}")
            self.partial.replace(self.path)

    def _reserve(self) -> None:
        """Keep other processes from writing this file, where the system has locks for that."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.lock = self.partial.open("ab")
        except OSError as error:
            raise FerlError(f"{self.partial}: cannot be written: {error.strerror}") from None
        if fcntl is not None:
            try:
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise FerlError(f"{self.partial}: another process writes it: give another folder") from None

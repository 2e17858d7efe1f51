"""Where pictures come from: video files, cameras and streams, frame by frame."""

import logging
import math
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import BufferedReader
from numbers import Real
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from ferlightning.errors import FerlError

VIDEOS = {
    ".3gp",
    ".avi",
    ".flv",
    ".m4v",
    ".mjpeg",
    ".mkv",
    ".mov",
    ".mp4",
    ".mpeg",
    ".mpg",
    ".mts",
    ".ts",
    ".webm",
    ".wmv",
}
LEAST_SHARE = 0.9
"""Least share of the frames that a whole file has of those it declares, which it computes from its length and rate."""
PARTS = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
"""What an MP4 or MOV file may begin with, after four bytes."""
TEXT = cv2.VideoWriter.fourcc(*"ansi")
"""What FFmpeg calls a text, which it draws."""
REOPENED = 30.0
"""Seconds for which a camera or stream that stopped is opened again and again before it is given up."""
PATIENCE = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 10_000, cv2.CAP_PROP_READ_TIMEOUT_MSEC, 5_000]
"""How long a stream may be silent before it counts as stopped; OpenCV itself waits for 30 seconds."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Frame:
    """A picture of a stream.

    Attributes:
        image: RGB, (H, W, 3), uint8.
        index: of the frame in its source, from 0.
        time: seconds since the beginning of the file, or since a camera was opened.
    """

    image: NDArray[np.uint8]
    index: int
    time: float


def is_live(source: Any) -> bool:
    """Tell whether a source is a camera (a number) or a URL."""
    text = str(source)
    return (text.isdecimal() and len(text) < 10 and not Path(text).exists()) or bool(
        re.match(r"[a-z][a-z0-9+.-]+://", text, re.IGNORECASE)
    )


def shown(source: Any) -> str:
    """A source as it may be told: without the passwords that a URL may have, before its host or after a ``?``."""
    text = re.sub(r"(?<=://)([^/?@:]*):[^/?]*@", r"\1:***@", str(source))  # a password may have an @, too
    told = r"(?<=[?&/_])((?:pass|pwd|token|key|auth|secret)\w*=)[^&/]*"
    return re.sub(told, r"\1***", text, flags=re.IGNORECASE) if "://" in text else text


def require(**numbers: Any) -> None:
    """Refuse anything but whole numbers from 1."""
    for name, number in numbers.items():
        if not isinstance(number, int) or number < 1:
            raise FerlError(f"{name} is {number!r}, expected a whole number from 1")


def partial_name(path: Path) -> Path:
    """What a video is called until it is whole."""
    return path.with_name(f"{path.stem}.partial.mkv")


def require_frame(frame: Any, n: int, before: float) -> Frame:
    """The frame, its time as a float; refuse what is none, or is earlier than the one before it.

    An image of another kind finds no face, and where the time goes back, a face that left would be shown on and on. Two
    frames of one time are usual in films and of cameras.
    """
    if not isinstance(frame, Frame):
        raise FerlError(f"frame {n} is a {type(frame).__name__}, expected sources.Frame(image, index, time)")
    image = frame.image
    if not (isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3):
        kind = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else f"a {type(image).__name__}"
        raise FerlError(f"the image of frame {n} is {kind}, expected an array (H, W, 3) of uint8, RGB")
    if not image.size:
        raise FerlError(f"the image of frame {n} has no pixels: its shape is {image.shape}")
    if not (isinstance(frame.time, Real) and math.isfinite(frame.time)):
        raise FerlError(f"the time of frame {n} is {frame.time!r}, expected seconds")
    if frame.time < before:
        raise FerlError(
            f"the time of frame {n} is {float(frame.time):g} s, and that of the frame before {before:g} s: expected "
            "none earlier than the one before"
        )
    return frame if type(frame.time) is float else replace(frame, time=float(frame.time))  # PyAV's are fractions


def refuse_name(path: Any) -> None:
    """Refuse a name of a video that crashes OpenCV."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise FerlError(f"{path}: OpenCV takes no video whose name is not UTF-8: rename it") from None


class Video:
    """The frames of a video file, camera or stream; iterate over it, and close it.

    A camera or stream that stops is opened again for half a minute. Of one that is faster than its reader, the newest
    frame counts, so that nothing lags behind.

    Args:
        source: a file, the number of a camera, or a URL.
        every: take every nth frame.
        start: seconds to skip, from 0.
        end: seconds after which to stop, after ``start``; None for the end of the source.
        name: what it is called in messages; None for the source itself.

    Attributes:
        live: whether the source has no end of its own.
        frames: how many a file tells it has; 0 if it tells none.
        rate: frames a second.

    Raises:
        FerlError: the source cannot be opened.
    """

    def __init__(
        self, source: Any, every: int = 1, start: float = 0.0, end: float | None = None, name: str | None = None
    ) -> None:
        self.source, self.every, self.start, self.end = source, every, start, end
        self.name = name or shown(source)
        require(every=every)
        for option, seconds in (("start", start), ("end", math.inf if end is None else end)):
            if not isinstance(seconds, Real) or not seconds >= 0:
                raise FerlError(f"{option} is {seconds!r}, expected seconds from 0")
        if end is not None and end <= start:
            raise FerlError(f"end is {end:g}, expected a time after start, {start:g}")
        if not isinstance(source, str | os.PathLike) and (not isinstance(source, int) or not is_live(source)):
            raise FerlError(
                f"there is {source!r:.80} in place of a video: give a file, the number of a camera or a URL; or frames,"
                " each a ferlightning.deploy.sources.Frame(image, index, time)"
            )
        if not is_live(source) and not os.path.exists(source):  # noqa: PTH110 - Path's own raises where none may look
            raise FerlError(f"there is no file {source}")
        refuse_name(source)
        self.capture = self._open()
        self._over = threading.Event()
        if self.capture is None:
            text = str(source)
            if not is_live(source):
                allowed = os.access(source, os.R_OK)
                raise FerlError(
                    f"{self.name}: cannot be read{' as a picture or video' if allowed else ': Permission denied'}"
                )
            if text.isdecimal():
                raise FerlError(f"camera {text}: cannot be opened: is it connected, and not used by another program?")
            raise FerlError(f"{self.name}: cannot be opened: does it send, and are its path and password right?")
        self.frames = max(0, int(self.capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        self.live = is_live(source) and not self.frames
        rate = float(self.capture.get(cv2.CAP_PROP_FPS))
        self.rate = rate if 0 < rate < 1000 else 25.0
        if start and not self.live:
            self.capture.set(cv2.CAP_PROP_POS_MSEC, start * 1000)

    def __iter__(self) -> Iterator[Frame]:
        if self.capture is None:
            raise FerlError(f"{self.name}: was closed, open another Video")
        try:
            yield from self._newest() if self.live else self._all()
        finally:
            self.close()

    def close(self) -> None:
        """Release the source; one that is read in a thread is released there, once what it is asked for has come."""
        self._over.set()
        if self.capture is not None:
            self.capture.release()
            self.capture = None

    def _open(self) -> Any:
        text = re.sub(r"^[^:/]+(?=://)", lambda scheme: scheme[0].lower(), str(self.source))
        if text.isdecimal() and is_live(text):
            capture = cv2.VideoCapture(int(text))
        elif is_live(text) and cv2.videoio_registry.hasBackend(cv2.CAP_FFMPEG):
            capture = cv2.VideoCapture(text, cv2.CAP_FFMPEG, PATIENCE)
        else:  # the whole name, since FFmpeg takes what is before a colon for a protocol
            capture = cv2.VideoCapture(text if is_live(text) else str(Path(text).absolute()))
        return capture if capture.isOpened() and capture.get(cv2.CAP_PROP_FOURCC) != TEXT else None

    def _all(self) -> Iterator[Frame]:
        """The frames of a file, each later than the one before, whatever times the file tells.

        Raw video tells none, and in recordings that were joined they begin anew.
        """
        index = round(float(self.capture.get(cv2.CAP_PROP_POS_FRAMES))) if self.start else 0
        first = True
        seconds, before, ahead = -math.inf, -math.inf, 0.0
        while self.capture.grab():
            told = float(self.capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000
            following = index / self.rate if before == -math.inf else seconds + 1 / self.rate
            if told < before or (index and not told):
                ahead = following - told
            before = told
            seconds = told + ahead if told + ahead > seconds else following
            if self.end is not None and seconds > self.end:
                return
            if index % self.every == 0 and seconds >= self.start - 1e-6:
                read, image = self.capture.retrieve()
                if read:
                    first = False
                    yield Frame(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), index, seconds)
            index += 1
        if first:
            later = f" from {self.start:g} s on" if self.start else ""
            raise FerlError(f"{self.name}: has no frame that can be read{later}")
        cut, duration = (None, 0.0) if is_live(self.source) else _told_end(Path(self.source))
        early = cut is None or seconds + 1 / self.rate < LEAST_SHARE * duration
        if cut or (early and index < LEAST_SHARE * self.frames):
            of = f" of {self.frames}" if index < self.frames else ""
            log.warning("%s: ends after %d%s frames: is it cut off or damaged?", self.name, index, of)

    def _newest(self) -> Iterator[Frame]:
        """The newest frame of a camera, read in a separate thread.

        To that thread the capture belongs: OpenCV crashes where another one releases it during a read.
        """
        ready = threading.Condition()
        box: list[tuple[int, float, Any]] = []
        over = self._over
        taken, self.capture = self.capture, None

        def read() -> None:
            capture, began, index, stopped = taken, time.perf_counter(), 0, 0.0
            while not over.is_set():
                got, image = capture.read() if capture is not None else (False, None)
                if got:
                    with ready:
                        box[:] = [(index, time.perf_counter() - began, image)]
                        ready.notify()
                    index, stopped = index + 1, 0.0
                    continue
                now = time.monotonic()
                stopped = stopped or now
                if now - stopped > REOPENED:
                    break
                if capture is not None:
                    capture.release()
                    capture = None
                if not over.wait(min(2.0, 0.2 + (now - stopped) / 4)):
                    capture = self._open()
            if capture is not None:
                capture.release()
            over.set()
            with ready:
                ready.notify()

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            while True:
                with ready:
                    ready.wait_for(lambda: box or over.is_set(), 1.0)
                    found = box.pop() if box else None
                if found is None:
                    if over.is_set():
                        raise FerlError(f"{self.name}: has sent nothing for {REOPENED:.0f} seconds")
                    continue
                index, seconds, image = found
                if self.end is not None and seconds > self.end:
                    return
                if index % self.every == 0 and seconds >= self.start:
                    yield Frame(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), index, seconds)
        finally:
            over.set()
            reader.join(5)


def _told_end(path: Path) -> tuple[bool | None, float]:
    """Tell whether the end of an MP4, MOV or GIF file is missing, and how many seconds it says that it lasts.

    None of another format, or of what is no file. An edit list may hide most frames of a film, but not of its seconds.
    """
    if not path.is_file():
        return None, 0.0
    with path.open("rb") as file:
        beginning, place, end = file.read(8), 0, path.stat().st_size
        if beginning.startswith(b"GIF8"):
            file.seek(end - 1)
            return file.read() != b";", 0.0
        if beginning[4:] not in PARTS:
            return None, 0.0
        duration = 0.0
        while place < end:
            file.seek(place)
            head = file.read(16)
            size = int.from_bytes(head[:4])
            place += max(8, int.from_bytes(head[8:]) if size == 1 else size or end - place)
            if head[4:8] == b"moov" and head[12:] == b"mvhd":  # which is the first part of it
                version, *_ = file.read(4)
                file.seek(16 if version else 8, os.SEEK_CUR)  # over when it was made and changed
                scale, length = int.from_bytes(file.read(4)), int.from_bytes(file.read(8 if version else 4))
                duration = length / max(1, scale)
        return place > end, duration


def open_pipe(beginning: bytes) -> str:
    """A name under which OpenCV reads standard input, of which the beginning was read already."""
    read, write = os.pipe()

    def feed() -> None:
        with os.fdopen(write, "wb") as pipe:
            try:
                pipe.write(beginning)
                while block := cast(BufferedReader, sys.stdin.buffer).read1(1 << 16):
                    pipe.write(block)
                    pipe.flush()
            except BrokenPipeError:
                pass

    threading.Thread(target=feed, daemon=True).start()
    return f"/dev/fd/{read}"

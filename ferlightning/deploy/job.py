"""Pictures, folders, videos and cameras, processed one after the other: what ``ferl recognize`` does."""

import math
import os
import re
import shutil
import sys
import tempfile
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ferlightning.deploy.annotate import VideoFile, draw, write_picture
from ferlightning.deploy.anonymise import DELAY, How, hide, hide_stream
from ferlightning.deploy.output import Output
from ferlightning.deploy.pictures import as_rgb
from ferlightning.deploy.places import Source, real
from ferlightning.deploy.recognizer import Recognizer
from ferlightning.deploy.sources import Video, is_live, open_pipe, shown
from ferlightning.deploy.tracking import KEPT
from ferlightning.deploy.window import Window
from ferlightning.errors import FerlError
from ferlightning.images.decode import FIRST_BYTES

MOST_AT_ONCE = 16_000_000
"""Pixels of the pictures that are held at the same time, unless a single one has more."""
ANOTHER = re.compile(rb"(\xff\xd9|IEND.{4})(\xff\xd8\xff|\x89PNG)", re.DOTALL)
"""The end of a JPEG or PNG image before the beginning of another one."""
HIDING_SIZE = 640
"""Longer side to which frames are reduced where faces must not be missed."""
HIDING_RATE = 16
"""Frames a second above which every eighth search at twice the size is enough for small faces; else all are so."""
HIDING_SCORE = 0.4
"""How sure a detector must be where faces must not be missed."""


def _one_picture(beginning: bytes) -> bytes:
    """The rest of the picture on standard input."""
    content = bytearray(beginning)
    while block := cast(BufferedReader, sys.stdin.buffer).read1(1 << 20):
        looked = max(0, len(content) - 16)
        content += block
        # Of two pictures in one file, as phones write them, the second is not meant for the eye.
        if ANOTHER.search(content, looked) and b"MPF\0" not in content[: 1 << 16]:
            raise FerlError(
                "standard input: has several pictures, one after the other: give their files, or a video in a "
                "container, as `ffmpeg -i ... -f matroska - | ferl recognize -` does"
            )
    return bytes(content)


@dataclass
class Job:
    """Processes sources.

    Attributes:
        recognizer: finds and classifies the faces.
        output: gets them.
        save: folder of annotated pictures and videos; None for none.
        anonymize: how faces are hidden in these; None leaves them.
        batch: pictures whose faces are classified together.
        every: take every nth frame of a video.
        start: seconds of a video to skip.
        end: seconds after which to stop a video.
        every_face: classify a followed face in every nth frame.
        show: open a window.
        progress: tell on the terminal how far it is.
        unreadable: a sentence for each source that could not be read.
    """

    recognizer: Recognizer
    output: Output
    save: Path | None = None
    anonymize: How | None = None
    batch: int = 16
    every: int = 1
    start: float = 0.0
    end: float | None = None
    every_face: int = 1
    show: bool = False
    progress: bool = False
    unreadable: list[str] = field(default_factory=list)
    done: int = 0
    """Pictures and frames so far."""
    began: float = field(default_factory=time.monotonic)
    saved: int = 0
    """Pictures and videos written."""
    _told: float = 0.0

    def run(self, sources: list[Source]) -> None:
        """Process the sources, and note those that cannot be read."""
        self._refuse_overwriting(sources)
        if self.show and not any(source.video for source in sources):
            raise FerlError("--show is for videos, cameras and streams: give --save=DIR to see pictures")
        pictures: list[tuple[Source, NDArray[np.uint8]]] = []
        for n, source in enumerate(sources):
            try:
                if source.place == "-":
                    self._standard_input(source)
                elif source.video:
                    self._flush(pictures)
                    self._video(source, source.place)
                else:
                    image = as_rgb(source.place)
                    if sum(held.size for _, held in pictures) + image.size > 3 * MOST_AT_ONCE:
                        self._flush(pictures)
                    pictures.append((source, image))
                    if len(pictures) == self.batch:
                        self._flush(pictures)
            except FerlError as error:
                self.unreadable.append(str(error))
                if isinstance(error.__context__, KeyboardInterrupt | BrokenPipeError):  # and then a file was not ended
                    raise error.__context__ from None
            self._tell(n + 1, len(sources), "picture")
        self._flush(pictures)

    def _refuse_overwriting(self, sources: list[Source]) -> None:
        places = [self.save, *self.save.parents] if self.save else []
        above = next(filter(os.path.lexists, places), None)
        if above is not None and not (above.is_dir() and os.access(above, os.W_OK)):
            raise FerlError(f"--save={self.save}: {above} is no folder that can be written to")
        read = {real(Path(source.place)) for source in sources if not is_live(source.place)}
        for source in sources:
            if self.save and (real(path := self.save / source.saved) in read or path.is_dir()):
                raise FerlError(f"--save={self.save} would replace {path}: choose another folder")

    def _flush(self, pictures: list[tuple[Source, NDArray[np.uint8]]]) -> None:
        """Recognise the pictures that are held."""
        held = pictures.copy()
        pictures.clear()
        try:
            expressions = self.recognizer.batch([image for _, image in held])
        except FerlError as error:
            if len(held) == 1:
                self.unreadable.append(f"{held[0][0].place}: {error}")
            else:  # what a detector or model refuses of one picture is no reason to leave out the others
                for one in held:
                    self._flush([one])
            return
        for (source, image), faces in zip(held, expressions, strict=True):
            self.output.add(source.place, faces)
            self.done += 1
            if self.save:
                try:
                    if self.anonymize:
                        found = self.recognizer.detect(image, min_score=min(self.recognizer.min_score, HIDING_SCORE))
                        image = hide(image, [face.box for face in found], self.anonymize)
                    write_picture(self.save / source.saved, draw(image, faces))
                    self.saved += 1
                except FerlError as error:
                    self.unreadable.append(str(error))

    def _standard_input(self, source: Source) -> None:
        if sys.stdin is None:
            raise FerlError("standard input is closed")
        beginning = sys.stdin.buffer.read(16)
        if FIRST_BYTES.match(beginning) or beginning[:2] in (b"BM", b"P5", b"P6"):
            image = as_rgb(_one_picture(beginning), name="standard input")
            self._flush([(Source("-", str(Path(source.saved).with_suffix(".png")), False), image)])
        elif not beginning:
            raise FerlError("standard input is empty")
        elif beginning[4:8] == b"ftyp":  # MP4, whose table of contents may be at its end
            with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
                try:
                    file.write(beginning)
                    shutil.copyfileobj(sys.stdin.buffer, file)
                    file.flush()
                except OSError as error:
                    folder = tempfile.gettempdir()
                    raise FerlError(f"standard input: cannot be kept in {folder}: {error.strerror}") from None
                self._video(source, file.name)
        else:
            self._video(source, open_pipe(beginning))

    def _video(self, source: Source, place: str) -> None:
        start, end = self.start, math.inf if self.end is None else self.end
        # Where a face is just before and after a part of a video tells where it must be hidden in it.
        before, after = (KEPT, DELAY) if self.anonymize else (0.0, 0.0)
        name = "standard input" if source.place == "-" else shown(source.place)
        video = Video(place, self.every, max(0.0, start - before), end + after, name)
        rate = video.rate / self.every
        options: dict[str, Any] = {"every_face": self.every_face}
        if self.anonymize:
            options |= {"detect_every": 1, "size": HIDING_SIZE * (1 if rate > HIDING_RATE else 2)}
            options["min_score"] = min(self.recognizer.min_score, HIDING_SCORE)
        stream = self.recognizer.stream(video, **options)
        if self.anonymize:
            stream = hide_stream(stream, self.anonymize)
        path = None if self.save is None else self.save / source.saved
        with Window(shown(source.place)) if self.show else nullcontext() as window:
            file = VideoFile(path, rate, video.live) if path else None
            taken, empty = False, True
            try:
                for frame, faces in stream:
                    if not start - 1e-6 <= frame.time <= end:
                        continue
                    taken = True
                    self.output.add(shown(source.place), faces, frame.index, frame.time)
                    self.done += 1
                    empty = empty and not faces
                    drawn = draw(frame.image, faces) if file or window else frame.image
                    if file:
                        file.add(drawn, frame.time)
                    if window and not window.show(drawn):
                        break
                    self._tell(frame.index + 1, video.frames, "frame")
                if not taken:
                    raise FerlError(f"{name}: has no frame that can be read from {start:g} s on")
                if empty and self.output.format == "table":
                    self.output.add(shown(source.place), [])
            finally:
                video.close()
                if file:
                    file.close()
                    self.saved += file.written > 0

    def _tell(self, n: int, total: int, what: str) -> None:
        """Say on the terminal, twice a second, how far it is."""
        now = time.monotonic()
        if not self.progress or now - self._told < 0.5:
            return
        self._told = now
        rate = self.done / max(now - self.began, 1e-9)
        left = f" of {total}, {(total - n) / max(rate * self.every, 1e-9):.0f} s left" if total else ""
        print(f"\r{what} {n}{left}, {rate:.1f} a second \033[K", end="", file=sys.stderr, flush=True)

"""Pictures, folders, videos and cameras worked off one after the other: what ``ferl recognize`` does."""

import glob
import os
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ferlightning.deploy.annotate import VideoFile, draw, write_picture
from ferlightning.deploy.anonymise import How, hide, hide_stream
from ferlightning.deploy.output import Output
from ferlightning.deploy.pictures import as_rgb
from ferlightning.deploy.recognizer import Recognizer
from ferlightning.deploy.sources import VIDEOS, Video, is_live, open_pipe, open_video
from ferlightning.errors import FerlError
from ferlightning.images.decode import FIRST_BYTES, is_image, is_leftover, list_images

MOST_AT_ONCE = 16_000_000
"""Pixels of the pictures that are held at the same time, unless a single one has more."""
HIDING_SIZE = 640
"""Longer side to which frames are reduced where faces must not be missed."""
HIDING_SCORE = 0.4
"""How sure a detector must be where faces must not be missed."""


@dataclass(frozen=True)
class Source:
    """A picture, video, camera or stream.

    Attributes:
        place: a file, the number of a camera, a URL, or ``-`` for standard input.
        saved: name of its annotated copy, below the folder for these, without a suffix of ours.
        video: whether it has frames.
    """

    place: str
    saved: str
    video: bool


def find_sources(words: list[str]) -> list[Source]:
    """What files, folders, patterns, camera numbers and URLs stand for.

    Raises:
        FerlError: there is nothing of that name, or no picture or video in it.
    """
    found: list[Source] = []
    for word in words:
        path = Path(word).expanduser()
        if word == "-":
            found.append(Source("-", "stdin", True))
        elif is_live(word):
            name = f"camera-{word}" if word.isdecimal() else Path(word.partition("?")[0]).stem or "stream"
            found.append(Source(word, name, True))
        elif path.is_dir():
            files = [*list_images(path), *_videos(path)]
            if not files:
                raise FerlError(f"there is no picture or video in {word}")
            found += [_file(file, str(file.relative_to(path))) for file in sorted(files)]
        elif path.exists():
            found.append(_file(path, path.name))
        else:
            matched = sorted(glob.glob(str(path), recursive=True)) if glob.has_magic(word) else []
            files = [Path(name) for name in matched if Path(name).is_file() and not is_leftover(Path(name).name)]
            if not files:
                raise FerlError(f"there is no file, folder or camera {word}")
            found += [_file(file, file.name) for file in files]
    taken: set[str] = set()
    for i, source in enumerate(found):
        name, n = source.saved, 2
        while name.lower() in taken:
            stem, suffix = os.path.splitext(source.saved)
            name, n = f"{stem}-{n}{suffix}", n + 1
        taken.add(name.lower())
        found[i] = Source(source.place, name, source.video)
    return found


def _videos(folder: Path) -> list[Path]:
    return [
        Path(here, name)
        for here, folders, files in os.walk(folder)
        if not any(map(is_leftover, Path(here).relative_to(folder).parts))
        for name in files
        if Path(name).suffix.lower() in VIDEOS and not is_leftover(name)
    ]


def _file(path: Path, saved: str) -> Source:
    return Source(str(path), saved, path.suffix.lower() in VIDEOS or not is_image(path))


@dataclass
class Job:
    """Works off sources.

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
    _told: float = 0.0

    def run(self, sources: list[Source]) -> None:
        """Work off the sources; those that cannot be read are noted."""
        self._refuse_overwriting(sources)
        pictures: list[tuple[Source, NDArray[np.uint8]]] = []
        held = 0
        for n, source in enumerate(sources):
            try:
                if source.place == "-":
                    self._standard_input(source)
                elif source.video:
                    self._flush(pictures)
                    held = 0
                    self._video(source, source.place)
                else:
                    image = as_rgb(source.place)
                    if pictures and held + image.size // 3 > MOST_AT_ONCE:
                        self._flush(pictures)
                        held = 0
                    held += image.size // 3
                    pictures.append((source, image))
                    if len(pictures) == self.batch:
                        self._flush(pictures)
                        held = 0
            except FerlError as error:
                self.unreadable.append(str(error))
            self._tell(n + 1, len(sources), "picture")
        self._flush(pictures)

    def _refuse_overwriting(self, sources: list[Source]) -> None:
        for source in sources:
            if self.save is None or source.place == "-" or is_live(source.place):
                continue
            if (self.save / source.saved).resolve() == Path(source.place).resolve():
                raise FerlError(f"--save={self.save} would replace {source.place}: choose another folder")

    def _flush(self, pictures: list[tuple[Source, NDArray[np.uint8]]]) -> None:
        """Recognise the pictures that are held."""
        found = self.recognizer.batch([image for _, image in pictures])
        for (source, image), faces in zip(pictures, found, strict=True):
            self.output.add(source.place, faces)
            self.done += 1
            if self.save:
                if self.anonymize:
                    sure = self.recognizer.min_score
                    self.recognizer.min_score = min(sure, HIDING_SCORE)
                    image = hide(image, [face.box for face in self.recognizer.detect(image)], self.anonymize)
                    self.recognizer.min_score = sure
                write_picture(self.save / source.saved, draw(image, faces))
        pictures.clear()

    def _standard_input(self, source: Source) -> None:
        beginning = sys.stdin.buffer.read(16)
        if FIRST_BYTES.match(beginning) or beginning[:2] in (b"BM", b"P5", b"P6"):
            image = as_rgb(beginning + sys.stdin.buffer.read(), name="standard input")
            self._flush([(Source("-", "stdin.png", False), image)])
        elif not beginning:
            raise FerlError("standard input is empty")
        else:
            self._video(source, open_pipe(beginning))

    def _video(self, source: Source, place: Any) -> None:
        video = open_video(place, self.every, self.start, self.end)
        rate = video.rate / self.every
        options: dict[str, Any] = {"every_face": self.every_face}
        sure = self.recognizer.min_score
        if self.anonymize:
            options |= {"detect_every": 1, "size": HIDING_SIZE}
            self.recognizer.min_score = min(sure, HIDING_SCORE)
        stream = self.recognizer.stream(video, **options)
        if self.anonymize:
            stream = hide_stream(stream, self.anonymize)
        path = None if self.save is None else self.save / Path(source.saved).with_suffix(".mkv")
        with _Window(source.place) if self.show else nullcontext() as window:
            file = VideoFile(path, rate, video.live) if path else None
            try:
                for frame, faces in stream:
                    self.output.add(source.place, faces, frame.index, frame.time)
                    self.done += 1
                    drawn = draw(frame.image, faces) if file or window else frame.image
                    if file:
                        file.add(drawn, frame.time)
                    if window and not window.show(drawn):
                        break
                    self._tell(frame.index + 1, video.frames, "frame")
            finally:
                self.recognizer.min_score = sure
                video.close()
                if file:
                    file.close()

    def _tell(self, n: int, total: int, what: str) -> None:
        """Say on the terminal, twice a second, how far it is."""
        now = time.monotonic()
        if not self.progress or now - self._told < 0.5:
            return
        self._told = now
        rate = self.done / max(now - self.began, 1e-9)
        left = f" of {total}, {(total - n) / max(rate * self.every, 1e-9):.0f} s left" if total else ""
        print(f"\r{what} {n}{left}, {rate:.1f} a second \033[K", end="", file=sys.stderr, flush=True)


class _Window:
    """A window on the screen; q, Escape or its close button ends it."""

    def __init__(self, title: str) -> None:
        self.title = title

    def __enter__(self) -> "_Window":
        screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        if sys.platform.startswith("linux") and not screen:
            raise FerlError("--show: there is no display here")
        try:
            cv2.namedWindow(self.title, cv2.WINDOW_NORMAL)
        except cv2.error:
            raise FerlError(
                "--show: this OpenCV has no windows. pip uninstall opencv-python-headless, pip install 'opencv-python<5'"
            ) from None
        return self

    def show(self, image: NDArray[np.uint8]) -> bool:
        """Show an RGB image; False once the user has had enough."""
        cv2.imshow(self.title, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        key = cv2.waitKey(1) & 0xFF
        return key not in (27, ord("q")) and cv2.getWindowProperty(self.title, cv2.WND_PROP_VISIBLE) >= 1

    def __exit__(self, *_: object) -> None:
        cv2.destroyWindow(self.title)

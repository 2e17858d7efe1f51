"""What the words of a command stand for: pictures, videos, cameras and streams."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

import cv2

from ferlightning.deploy.sources import VIDEOS, is_live
from ferlightning.files import at_home
from ferlightning.images.decode import is_image, is_leftover, is_pipe, list_images


@dataclass(frozen=True)
class Source:
    """A picture, video, camera or stream.

    Attributes:
        place: a file, the number of a camera, a URL, or ``-`` for standard input.
        saved: name of its annotated copy, below the folder for these; no two sources have the same.
        video: whether it has frames.
    """

    place: str
    saved: str
    video: bool


def find_sources(words: list[str]) -> tuple[list[Source], list[str]]:
    """What files, folders, patterns, camera numbers and URLs stand for, and a sentence for each that is nothing."""
    found: list[Source] = []
    missing: list[str] = []
    for word in words:
        path = at_home(word)
        if not word:
            missing.append("'': a source without a name")
        elif word == "-":
            found.append(Source("-", "stdin.mkv", True))
        elif is_live(word):
            found.append(Source(word, f"{_stream_name(word)}.mkv", True))
        elif path.is_dir():
            files = [*list_images(path), *_videos(path)]
            if not files:
                missing.append(f"{word}: there is no picture or video in this folder")
            found += [_file(file, str(file.relative_to(path))) for file in sorted(files)]
        elif is_pipe(path):
            missing.append(f"{word}: is a pipe or device: give what it sends to `ferl recognize -`")
        elif path.exists():
            found.append(_file(path, path.name))
        else:
            matched = Path(path.anchor).glob(str(path.relative_to(path.anchor)))
            files = sorted(file for file in matched if file.is_file() and not is_leftover(file.name))
            if not files:
                missing.append(f"{word}: there is no such file, folder or camera")
            found += [_file(file, file.name) for file in files]
    taken: set[str] = set()
    for i, source in enumerate(found):
        name, n = source.saved, 2
        while not taken.isdisjoint(_copies(source, name)):
            name, n = str(Path(source.saved).with_stem(f"{Path(source.saved).stem}-{n}")), n + 1
        taken |= _copies(source, name)
        found[i] = Source(source.place, name, source.video)
    return found, missing


def _copies(source: Source, name: str) -> set[str]:
    """What an annotated copy may be called: a video until it is whole, and standard input if it is a picture, too."""
    path = Path(name)
    names = [path, path.with_name(f"{path.stem}.partial.mkv")] if source.video else [path]
    names += [path.with_suffix(".png")] if source.place == "-" else []
    return {str(one).lower() for one in names}


def _stream_name(source: str) -> str:
    """A name for what a camera or stream shows: of its path, or of its host, never with a password."""
    if source.isdecimal():
        return f"camera-{source}"
    host, _, path = re.sub(r"^[^:]+://([^/@]*@)?", "", source).partition("?")[0].partition("/")
    return Path(path).stem or re.sub(r"[^\w.-]", "-", host) or "stream"


def _videos(folder: Path) -> list[Path]:
    return [
        Path(here, name)
        for here, folders, files in os.walk(folder)
        if not any(map(is_leftover, Path(here).relative_to(folder).parts))
        for name in files
        if Path(name).suffix.lower() in VIDEOS and not is_leftover(name) and not is_pipe(Path(here, name))
    ]


def _is_animation(path: Path) -> bool:
    """Tell whether a file is a GIF of several frames; before each there is a control block, which begins alike."""
    if path.suffix.lower() != ".gif" or not os.access(path, os.R_OK):
        return False
    return len(re.findall(rb"!\xf9\x04.{4}\0", path.read_bytes(), re.DOTALL)) > 1


def _file(path: Path, saved: str) -> Source:
    video = path.suffix.lower() in VIDEOS or not is_image(path) or _is_animation(path)
    if video:
        saved = str(Path(saved).with_suffix(".mkv"))
    elif not cv2.haveImageWriter(f"_{Path(saved).suffix}"):
        saved += ".png"
    return Source(str(path), saved, video)

"""What the words of a command stand for: pictures, videos, cameras and streams."""

import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path

import cv2

from ferlightning.deploy.sources import VIDEOS, is_live, partial_name
from ferlightning.files import at_home
from ferlightning.images.decode import is_image, is_leftover, is_pipe, list_images

log = logging.getLogger(__name__)
COLOURLESS = (".pbm", ".pgm")
"""Endings of formats that have no colours, in which faces are marked."""


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


def find_sources(words: list[str], save: Path | None = None) -> tuple[list[Source], list[str]]:
    """What files, folders, patterns, camera numbers and URLs stand for, and a sentence for each that is nothing.

    Args:
        words: of a command.
        save: where copies go: what is there already is left out of a folder around it, since it may be copies.
    """
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
        elif os.path.isdir(path):  # noqa: PTH112 - Path's own raise for what is too long, or where none may look
            files = _inside(path, save)
            if not files:
                missing.append(f"{word}: there is no picture or video in this folder")
            found += [_file(file, str(file.relative_to(path))) for file in files]
        elif is_pipe(path):
            missing.append(f"{word}: is a pipe or device: give what it sends to `ferl recognize -`")
        elif os.path.exists(path):  # noqa: PTH110
            found.append(_file(path, path.name))
        else:
            matched = _matched(path, save)
            if not matched:
                missing.append(f"{word}: there is no such file, folder or camera")
            found += matched
    taken: set[str] = set()
    following: dict[str, int] = {}  # of a name that many have, so that not all numbers are tried for each
    for i, source in enumerate(found):
        name, n = source.saved, following.get(source.saved, 2)
        while not taken.isdisjoint(_copies(source, name)):
            name, n = str(Path(source.saved).with_stem(f"{Path(source.saved).stem}-{n}")), n + 1
        taken |= _copies(source, name)
        following[source.saved] = n
        found[i] = Source(source.place, name, source.video)
    return found, missing


def _copies(source: Source, name: str) -> set[str]:
    """What an annotated copy may be called: a video until it is whole, and standard input if it is a picture, too."""
    path = Path(name)
    names = [path, partial_name(path)] if source.video else [path]
    names += [path.with_suffix(".png")] if source.place == "-" else []
    return {str(one).lower() for one in names}


def _matched(pattern: Path, save: Path | None) -> list[Source]:
    """The files that a pattern stands for, and those in the folders that it stands for, each once."""
    try:
        matched = sorted(Path(pattern.anchor).glob(str(pattern.relative_to(pattern.anchor))))
    except (OSError, ValueError):  # a name that is too long, or a pattern that is none
        return []
    matched = [path for path in matched if not is_leftover(path.name)]
    files = {path: path.name for path in matched if path.is_file() or not path.exists()}  # also a link to nothing
    for folder in matched:
        if folder.is_dir():
            files = {file: str(file.relative_to(folder.parent)) for file in _inside(folder, save)} | files
    return [_file(file, files[file]) for file in sorted(files)]


def real(path: Path) -> Path:
    """Where links lead; those in a circle, at which ``Path.resolve`` raises, lead nowhere."""
    return Path(os.path.realpath(path))


def _inside(folder: Path, save: Path | None) -> list[Path]:
    files = sorted([*list_images(folder), *_videos(folder)])
    home = save and real(save)
    if home is None or real(folder) not in home.parents:
        return files
    read = [file for file in files if home not in real(file).parents]
    if len(read) < len(files):
        log.warning(
            "%d files in %s are left out of %s, since copies are saved there", len(files) - len(read), save, folder
        )
    return read


def _stream_name(source: str) -> str:
    """A name for what a camera or stream shows: of its path, or of its host, never with a password."""
    if source.isdecimal():
        return f"camera-{source}"
    host, _, path = re.sub(r"^[^:]+://([^/?]*@)?", "", source).partition("?")[0].partition("/")
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
    elif Path(saved).suffix.lower() in COLOURLESS or not cv2.haveImageWriter(f"_{Path(saved).suffix}"):
        saved += ".png"
    return Source(str(path), saved, video)

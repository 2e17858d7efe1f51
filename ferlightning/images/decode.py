"""Image files: listed, decoded, cut out and resized."""

import io
import logging
import math
import os
import re
import struct
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ferlightning.errors import FerlError

SUFFIXES = {
    ".bmp",
    ".gif",
    ".jfif",
    ".jpe",
    ".jpeg",
    ".jpg",
    ".pbm",
    ".pfm",
    ".pgm",
    ".png",
    ".pnm",
    ".ppm",
    ".tif",
    ".tiff",
    ".webp",
}
ENDINGS = tuple(SUFFIXES)
FIRST_BYTES = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF....WEBP|II\*\0|MM\0\*|....ftyp(avif|avis|heic|heix|mif1)",
    re.DOTALL,
)
"""How JPEG, PNG, GIF, WebP, TIFF, AVIF and HEIC begin."""
HEIC = re.compile(rb"....ftyp(hei[cxms]|hev[cx]|mif1|msf1)", re.DOTALL)
MOST_PIXELS = 64_000_000
"""Pixels of an image that is read, unless FERL_MAX_PIXELS says more: a file of a few bytes may claim any number."""
LEFTOVERS = {
    "thumbs.db",
    "desktop.ini",
    "__macosx",
    "__pycache__",
    "@eadir",
    "$recycle.bin",
    "system volume information",
    "lost+found",
    "runs",
}
"""In small letters. ``runs`` has the pictures of our reports, where ``ferl fit .`` was typed among photos."""


log = logging.getLogger(__name__)
_told = set[str]()  # what was said of one image, and holds for others like it
PILLOWS = re.compile(rb"\x89PNG|\xff\xd8|BM|II\*\0|MM\0\*|RIFF|P[1-6]\s")
"""First bytes of formats that Pillow reads whole: PNG, JPEG, BMP, TIFF, WebP and PNM."""
EXIF_ORIENTATION = 0x0112
INSIDE = 0.75
"""Share of the width, and of the height, of a box that must be inside its image."""
AHEAD = 8
"""How many images ``read_all`` holds at most."""
_one_at_a_time = Lock()


def is_leftover(name: str) -> bool:
    """Tell whether a file or folder is not data: hidden, or left by an operating system or a program."""
    return name.startswith(".") or name.lower() in LEFTOVERS


def is_pipe(path: Path) -> bool:
    """Tell whether a path is a pipe or device, on which a reader may wait forever."""
    # Not Path.exists and is_file, which raise in a folder that may not be entered.
    return os.path.exists(path) and not os.path.isfile(path)  # noqa: PTH110, PTH113


def list_images(folder: Path) -> list[Path]:
    """List the image files of a folder at any depth, by suffix or first bytes, sorted; leftovers are left out.

    Links are followed; a folder that is reached in two ways is listed once.

    Raises:
        FerlError: a link leads to a folder around this one, whose other images are not meant.
    """
    return [Path(name) for name in image_names(folder)]


def image_names(folder: Path, others: list[str] | None = None) -> list[str]:
    """List the same files by their names, which is several times faster; ``others`` gets those that are no images."""
    home = os.path.realpath(folder)
    return list(_walk(str(folder), home, {home}, [] if others is None else others))


def _walk(folder: str, home: str, seen: set[str], others: list[str]) -> Iterator[str]:
    # As few calls of the system as there are files: a folder of 20,000 is listed each time that it is opened.
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if is_leftover(entry.name):
            continue
        path = entry.path
        if entry.is_file(follow_symlinks=False) and entry.name.lower().endswith(ENDINGS):
            yield path
        elif os.path.isdir(path):  # noqa: PTH112
            real = os.path.realpath(path)
            if real != home and home.startswith(f"{real.rstrip(os.sep)}{os.sep}"):
                raise FerlError(f"{path}: this link leads to a folder that {home} itself is in. Remove the link")
            if real not in seen:
                seen.add(real)
                yield from _walk(path, home, seen, others)
        elif not is_pipe(Path(path)) and (is_image(Path(path)) or not os.path.exists(path)):  # noqa: PTH110
            yield path  # also a link that leads nowhere, which may have been a folder: reading it tells
        else:
            others.append(path)


def is_image(path: Path) -> bool:
    """Tell whether a file is an image, by suffix or first bytes."""
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            return FIRST_BYTES.match(file.read(16)) is not None
    except OSError:
        return False


Box = tuple[int, int, int, int]
"""Left, top, right and bottom of a part of an image in pixels; right and bottom are the first outside."""


def decode_image(path: Path, color: bool) -> NDArray[np.uint8]:
    """Decode an image in its own size, of an animation the first frame. Shape: (H, W), or (H, W, 3) RGB.

    Raises:
        FerlError: the file is not an image that OpenCV or Pillow reads, or has more than ``MOST_PIXELS``.
    """
    # Not cv2.imread: it fills a file that is cut short with grey, and on Windows takes ASCII paths only.
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FerlError(f"{path}: cannot be read: {error.strerror}; replace or remove it") from None
    return decode_bytes(content, color, str(path))


def read_all(read: Callable[[int], NDArray[np.uint8]], n: int) -> Iterator[NDArray[np.uint8] | FerlError | OSError]:
    """Call a reader with 0, ..., n - 1 by a thread for each core, up to four; yield what it returns or raises."""

    def attempt(number: int) -> NDArray[np.uint8] | FerlError | OSError:
        try:
            return read(number)
        except (FerlError, OSError) as error:
            return error

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        waiting = deque[Future[NDArray[np.uint8] | FerlError | OSError]]()
        for number in range(n):
            waiting.append(pool.submit(attempt, number))
            if len(waiting) == AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def most_pixels() -> int:
    """How many pixels an image that is read may have."""
    allowed = os.environ.get("FERL_MAX_PIXELS", "")
    return int(allowed) if allowed.isdecimal() else MOST_PIXELS


def decode_bytes(content: bytes, color: bool, name: str) -> NDArray[np.uint8]:
    """Decode the content of an image file, turned as its EXIF entry says. Shape: (H, W), or (H, W, 3) RGB.

    Args:
        content: the file.
        color: RGB instead of grey.
        name: what the image is called in a message.

    Raises:
        FerlError: the same as of ``decode_image``.
    """
    most = most_pixels()
    pixels, mode, several = _header(content)
    # OpenCV would take the size from a damaged header, and reserve as much as a part of a PNG claims.
    if (pixels is None and PILLOWS.match(content)) or (content.startswith(b"\x89PNG") and _is_cut(content)):
        raise FerlError(f"{name}: cannot be read as an image; replace or remove it")
    if pixels is not None and pixels > most:
        raise FerlError(
            f"{name}: has {pixels / 1e6:,.1f} megapixels, more than {most / 1e6:,.1f}; replace or remove it, or "
            "set the environment variable FERL_MAX_PIXELS to a larger number"
        )
    if several:
        tell_once("frames", "%s has several frames or pages: of it, and of others like it, the first is read", name)
    if mode == "F" or (mode == "I" and content.startswith((b"II*", b"MM"))):  # 32 bits, of which OpenCV makes black
        return _of_32_bits(content, color, name)
    data = np.frombuffer(content, np.uint8)
    image: NDArray[Any] | None = None
    if HEIC.match(content) and not _opens_heic():
        raise FerlError(f"{name}: is a HEIC image, as iPhones write them: pip install pillow-heif")
    if re.match(rb"GIF8|....ftyp", content, re.DOTALL):  # OpenCV lacks these in some of its builds
        image = _decode_by_pillow(content, color, name)
    elif len(data):
        try:
            image = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB if color else cv2.IMREAD_GRAYSCALE)
        except cv2.error:  # a header that claims too many pixels
            image = None
    if image is None:
        raise FerlError(f"{name}: cannot be read as an image; replace or remove it")
    if image.size and image.max() <= 16:  # which 4,095 of 65,535 may be rounded to
        image = _of_fewer_bits(data, color, name, image)
    return image.astype(np.uint8, copy=False)


def _of_fewer_bits(data: NDArray[np.uint8], color: bool, name: str, dark: NDArray[Any]) -> NDArray[Any]:
    """An image of 16 bits that has values of 12 or 8, as cameras and scripts write them; any other as it was read."""
    deep = cv2.imdecode(data, (cv2.IMREAD_COLOR if color else cv2.IMREAD_GRAYSCALE) | cv2.IMREAD_ANYDEPTH)
    if deep is None or deep.dtype != np.uint16 or not 0 < deep.max() < 4096:
        return dark
    bits = 8 if deep.max() < 256 else 12
    said = "%s is of 16 bits, and its values are below %d: it, and others like it, are read as of %d bits"
    tell_once(str(bits), said, name, 1 << bits, bits)
    image: NDArray[Any] = np.right_shift(deep, bits - 8)
    return image[..., ::-1] if color else image


def _of_32_bits(content: bytes, color: bool, name: str) -> NDArray[np.uint8]:
    """A grey image of floats or of integers of 32 bits, from 0 to 255, or floats from 0 to 1."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as image:
            values = np.asarray(image)
    except (OSError, ValueError, SyntaxError, EOFError, struct.error):
        raise FerlError(f"{name}: cannot be read as an image; replace or remove it") from None
    low, high = float(values.min()), float(values.max())
    if not 0 <= low <= high <= 255:  # nor is nan
        raise FerlError(
            f"{name}: has values from {low:g} to {high:g}, in 32 bits a pixel: write it with 8 bits, or from 0 to 255"
        )
    if image.mode == "F" and high <= 1:
        tell_once("floats", "%s has floats up to 1: in it, and in others like it, 1 is read as white", name)
        values = values * 255
    grey: NDArray[np.uint8] = values.round().astype(np.uint8)
    return np.repeat(grey[..., None], 3, 2) if color else grey


def tell_once(key: str, message: str, *values: object) -> None:
    """Warn, unless there was a warning of this key before."""
    if key not in _told:
        _told.add(key)
        log.warning(message, *values)


def _header(content: bytes) -> tuple[float | None, str, bool]:
    """The number of pixels that the header of an image claims, Pillow's mode, and whether it has several frames.

    The number is None if Pillow cannot tell, 0 if it is not here.
    """
    try:
        from PIL import Image
    except ModuleNotFoundError:  # a lean install
        return 0, "", False

    try:
        with (
            _one_at_a_time,  # the filter of warnings is that of all threads
            warnings.catch_warnings(action="ignore"),
            Image.open(io.BytesIO(content)) as image,
        ):
            return image.width * image.height, image.mode, getattr(image, "is_animated", False)
    except Image.DecompressionBombError as error:  # its own limit; the message has the number
        return float(re.findall(r"\d+", str(error))[0]), "", False
    except (OSError, ValueError, SyntaxError, EOFError, OverflowError, TypeError, KeyError, struct.error):
        return None, "", False


def _is_cut(png: bytes) -> bool:
    """Whether a part of a PNG reaches beyond its end."""
    place = 8
    while place < len(png) and png[place + 4 : place + 8] != b"IEND":  # after which programs may append anything
        place += 12 + int.from_bytes(png[place : place + 4])
    return place > len(png)


def sizes_of(paths: Sequence[Path | str], most: int = 20) -> str:
    """The sizes and colours of image files, of which a few are looked at, such as ``48 x 48 to 640 x 480, grey``.

    Empty where none can be opened.
    """
    from PIL import Image

    sizes, modes = [], set()
    for path in paths[:: max(1, len(paths) // most)]:
        try:
            with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
                sizes.append((image.width, image.height))
                modes.add("grey" if image.mode in ("1", "L", "LA", "I", "I;16", "F") else "colour")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            continue
    if not sizes:
        return ""
    ends = [min(sizes, key=math.prod), max(sizes, key=math.prod)]
    return " to ".join(f"{w} x {h}" for w, h in dict.fromkeys(ends)) + f", {' and '.join(sorted(modes))}"


def image_size(path: Path | str) -> tuple[int, int]:
    """Width and height of an image file in pixels, turned as its EXIF entry says, from its header alone.

    Raises:
        FerlError: it cannot be opened.
    """
    from PIL import Image

    _opens_heic()
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            turned = image.getexif().get(EXIF_ORIENTATION, 1) > 4
            return (image.height, image.width) if turned else (image.width, image.height)
    except (OSError, ValueError, SyntaxError, EOFError, TypeError, struct.error, Image.DecompressionBombError):
        raise FerlError(f"{path}: cannot be read as an image; replace or remove it") from None


@lru_cache
def _opens_heic() -> bool:
    """Let Pillow open HEIC images, if it can be."""
    try:
        from pillow_heif import register_heif_opener
    except ModuleNotFoundError:
        return False
    register_heif_opener()
    return True


def _decode_by_pillow(content: bytes, color: bool, name: str) -> NDArray[np.uint8] | None:
    try:
        from PIL import Image, ImageOps
    except ModuleNotFoundError:
        if not FIRST_BYTES.match(content):  # a film, which may begin alike
            return None
        raise FerlError(f"{name}: GIF and AVIF images need Pillow: pip install pillow") from None
    try:
        with Image.open(io.BytesIO(content)) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB" if color else "L"))
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError):
        return None


def read_image(
    path: Path, size: int, color: bool, box: Box | None = None, content: Callable[[], bytes] | None = None
) -> NDArray[np.uint8]:
    """Decode an image, cut a part out, and resize it to a square. Shape: (size, size), or (size, size, 3) RGB.

    ``content`` reads its file where that lies inside another one, and ``path`` is a name for messages.

    Raises:
        FerlError: the file is not an image that OpenCV reads, or the box is not inside it.
    """
    image = decode_image(path, color) if content is None else decode_bytes(content(), color, str(path))
    if box is not None:
        (left, top), (right, bottom) = np.maximum(box[:2], 0), np.minimum(box[2:], image.shape[1::-1])
        wide, high = box[2] - box[0], box[3] - box[1]
        # A detector's may go a little beyond the edges.
        if not (wide > 0 and high > 0 and right - left >= INSIDE * wide and bottom - top >= INSIDE * high):
            raise FerlError(
                f"{path}: the box {box} is not inside the image of {image.shape[1]} x {image.shape[0]} pixels"
            )
        image = image[top:bottom, left:right]
    return resize_to_square(image, size)


def reduced(image: NDArray[np.uint8], size: float) -> tuple[NDArray[np.uint8], float]:
    """Shrink (H, W[, C]) until its longer side is at most ``size`` pixels; also the scale, at most 1."""
    scale = min(1.0, size / max(image.shape[:2]))
    if scale < 1:
        width, height = (max(1, round(scale * side)) for side in image.shape[1::-1])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    return image, scale


def resize_to_square(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize (H, W[, C]) to (size, size[, C]), whatever its shape."""
    shrinks = max(image.shape[:2]) > size
    resized = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return resized.astype(np.uint8, copy=False)

"""Faces in a csv with one image a row, its pixels as numbers in one column: layouts of FER2013, and one of CK+."""

import codecs
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ferlightning.data.store import UNDECIDED, UNLABELLED
from ferlightning.errors import FerlError

HEADERS = ("emotion,pixels,Usage", "emotion, Usage, pixels", "emotion,pixels", "pixels")
USAGES = {b"Training": 0, b"PublicTest": 1, b"PrivateTest": 2}  # train, val, test in SPLITS
SIDE = 48
PIXELS = SIDE * SIDE
BLOCK = 1 << 18  # bytes parsed at a time: fits the processor's cache with its temporaries


class PixelCsv(NamedTuple):
    """The content of a csv of N rows."""

    images: NDArray[np.uint8]
    """(N, 48, 48) grey."""
    label: NDArray[np.int64]
    """(N,) the emotion column; -1 throughout if there is none."""
    split: NDArray[np.int8]
    """(N,) the Usage column as an index into ``SPLITS``; ``UNDECIDED`` throughout if there is none."""


def read_pixel_csv(path: Path, num_classes: int = 7) -> PixelCsv:
    """Parse a csv with NumPy, many lines at a time; lines with anything unusual are read again word by word.

    The columns are those of Kaggle's ``fer2013.csv`` (emotion,pixels,Usage; also ``ckextended.csv`` with 8 classes),
    ``icml_face_data.csv`` (emotion, Usage, pixels), ``train.csv`` (emotion,pixels) or ``test.csv`` (pixels). Columns
    may be quoted, lines may end with a carriage return, and blank lines may follow the last row.

    Args:
        path: the file.
        num_classes: emotions go from 0 to ``num_classes`` - 1.

    Raises:
        FerlError: a row is wrong; the message says which (1 is the line after the header) and why.
    """
    # A pixel takes at least two bytes, so this is enough; memory that no row is written to costs nothing.
    images = np.empty((path.stat().st_size // (2 * PIXELS), SIDE, SIDE), np.uint8)
    labels, splits = [], []
    n = 0
    with path.open("rb", buffering=4 * BLOCK) as file:
        names = _column_names(file.readline(), path)
        for lines in _line_blocks(file):
            part = _parse(lines, names, num_classes) or _parse_word_by_word(lines, names, num_classes, path, n + 1)
            images[n : n + len(lines)] = part.images
            labels.append(part.label)
            splits.append(part.split)
            n += len(lines)
    if not n:
        raise FerlError(f"{path}: no rows after the header. Fetch the file again")
    return PixelCsv(images[:n], np.concatenate(labels), np.concatenate(splits))


def _column_names(header: bytes, path: Path) -> list[str]:
    """Read the names of the columns, in the order of the file."""
    names = [name.strip().decode(errors="replace") for name in _columns(header.removeprefix(codecs.BOM_UTF8))]
    if names not in [[name.strip() for name in known.split(",")] for known in HEADERS]:
        raise FerlError(
            f"{path}: the first line is {header.strip()[:80].decode(errors='replace')!r}, expected "
            f"{', '.join(map(repr, HEADERS[:-1]))} or {HEADERS[-1]!r}. Fetch the file again"
        )
    return names


def _line_blocks(file: BinaryIO) -> Iterator[list[bytes]]:
    """Read the lines of a file, many at a time, without blank lines at its end."""
    blank: list[bytes] = []
    while lines := file.readlines(BLOCK):
        lines = blank[:1] + lines  # the blank lines were not at the end: the first of them is an error in its place
        blank = []
        while lines and not lines[-1].strip(b" \r\n"):
            blank.append(lines.pop())
        if lines:
            yield lines


def _columns(line: bytes, before: int = -1, after: int = 0) -> list[bytes]:
    """Split a line into columns, without the quotes around whole columns.

    Args:
        line: with or without its line end.
        before: columns before the pixels; -1 if unknown.
        after: columns after the pixels. Knowing both saves a search for commas among the pixels.
    """
    *columns, rest = line.rstrip(b"\r\n").split(b",", before)
    columns += rest.rsplit(b",", after)
    if b'"' in line:
        return [x[1:-1] if len(x) > 1 and x[:1] == x[-1:] == b'"' else x for x in columns]
    return columns


# --- many lines at a time -------------------------------------------------------------------------------------------


def _parse(lines: Sequence[bytes], names: Sequence[str], num_classes: int) -> PixelCsv | None:
    """Parse usual lines; None if one of them has anything unusual, right or wrong."""
    at = names.index("pixels")
    rows = [_columns(line, at, len(names) - 1 - at) for line in lines]
    if any(len(row) != len(names) for row in rows):
        return None
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    emotions = {b"%d" % k: k for k in range(num_classes)}
    label = [emotions.get(word.strip(b" ")) for word in columns["emotion"]] if "emotion" in names else [UNLABELLED]
    split = [USAGES.get(word.strip(b" ")) for word in columns["Usage"]] if "Usage" in names else [UNDECIDED]
    images = _parse_pixels(columns["pixels"])
    if images is None or None in label or None in split:
        return None
    n = len(rows)
    return PixelCsv(images, np.resize(np.array(label, np.int64), n), np.resize(np.array(split, np.int8), n))


def _parse_pixels(texts: Sequence[bytes]) -> NDArray[np.uint8] | None:
    """Parse texts of 2304 numbers to images (n, 48, 48); None if one has more or fewer, or another character.

    Every character is taken as the last digit of a number, with the two before it; those that are not last digits are
    dropped at the end. Arithmetic on whole arrays of bytes is cheap, and finding the numbers first is not.
    """
    text = np.frombuffer(b" ".join([b"", b"", *texts, b""]), np.uint8)  # two spaces before, one after
    digit = text - ord("0")
    is_digit = digit < 10  # what comes before "0" has wrapped to the top
    if np.count_nonzero(is_digit) + np.count_nonzero(text == ord(" ")) != len(text):
        return None
    digit &= 15  # a space, 240 by now, becomes 0
    here = is_digit.view(np.uint8)
    last_two = digit[1:] + 10 * digit[:-1] * here[1:]
    leading = last_two[:-1] * here[2:]  # the number without its last digit
    value = digit[2:] + 10 * leading
    pair = here[1:] & here[:-1]
    four_digits = pair[2:] & pair[:-2]
    if four_digits.any() or leading.max() > 25 or (value < leading).any():  # 256 to 259 have wrapped to 0 to 3
        return None
    ends = np.flatnonzero(is_digit[2:-1] > is_digit[3:])
    stops = np.cumsum([len(text) + 1 for text in texts])
    if (np.searchsorted(ends, stops) != PIXELS * np.arange(1, len(texts) + 1)).any():
        return None
    return value[ends].reshape(-1, SIDE, SIDE)


# --- word by word ---------------------------------------------------------------------------------------------------


def _parse_word_by_word(
    lines: Sequence[bytes], names: Sequence[str], num_classes: int, path: Path, first_row: int
) -> PixelCsv:
    """Parse lines of which one is unusual, or raise the error in the first that is wrong."""
    parts = []
    for row, line in enumerate(lines, first_row):
        try:
            parts.append(_parse_row(_columns(line), names, num_classes))
        except ValueError as error:
            cut = "" if line.endswith(b"\n") else " The file ends inside this row: is it cut short?"
            raise FerlError(f"{path}, row {row}: {error}.{cut} Fetch the file again or fix the row") from None
    images, label, split = zip(*parts, strict=True)
    return PixelCsv(np.stack(images), np.array(label, np.int64), np.array(split, np.int8))


def _parse_row(columns: Sequence[bytes], names: Sequence[str], num_classes: int) -> tuple[NDArray[np.uint8], int, int]:
    """Parse a row: its image (48, 48), label and split.

    Raises:
        ValueError: what is wrong with it.
    """
    if len(columns) != len(names) or columns == [b""]:
        found = "an empty line" if columns == [b""] else f"{len(columns)} column(s)"
        expected = "1 column" if len(names) == 1 else f"{len(names)} columns"
        raise ValueError(f"{found}, expected {expected} ({','.join(names)})")
    row = dict(zip(names, columns, strict=True))
    label, split = UNLABELLED, UNDECIDED
    if "Usage" in row:
        usage = row.pop("Usage").strip(b" ")
        if usage not in USAGES:
            known = ", ".join(name.decode() for name in USAGES)
            raise ValueError(f"Usage is {usage[:80].decode(errors='replace')!r}, expected one of {known}")
        split = USAGES[usage]
    for column in row.values():
        if odd := re.search(rb"[^0-9 ]", column):
            raise ValueError(f"unexpected character {odd[0].decode('latin-1')!r} among the numbers")
    if "emotion" in row:
        words = row["emotion"].split()
        if len(words) != 1:
            text = row["emotion"].decode()
            raise ValueError(f"emotion is {text[:80]!r}, expected one number from 0 to {num_classes - 1}")
        label = _number(words[0], num_classes - 1, "emotion is")
    words = row["pixels"].split()
    if len(words) != PIXELS:
        raise ValueError(f"{len(words)} pixels, expected {PIXELS} ({SIDE}x{SIDE})")
    values = [_number(word, 255, "a pixel of") for word in words]
    return np.array(values, np.uint8).reshape(SIDE, SIDE), label, split


def _number(word: bytes, most: int, what: str) -> int:
    """Convert digits; raise ``ValueError`` if there are more than three or the number is above ``most``."""
    if len(word) > 3 or int(word) > most:
        raise ValueError(f"{what} {word[:80].decode()}, expected 0 to {most}")
    return int(word)

"""Faces in a csv with one image a row, its pixels as numbers in one column: layouts of FER2013, and one of CK+."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ferlightning.data.sources.names import SPLIT_NAMES, refuse_unread_split, split_of
from ferlightning.data.sources.text_lines import DELIMITERS, decode, first_line, line_blocks, split_cells
from ferlightning.data.store import UNDECIDED, UNLABELLED
from ferlightning.emotions import canonical
from ferlightning.errors import FerlError

COLUMNS = {
    "emotion": {"emotion", "emotions", "label", "labels", "expression", "class"},
    "pixels": {"pixels", "pixel", "pixelvalues", "imagepixels"},
    "usage": {"usage", "split", "set", "subset", "partition"},
}
"""Names of the columns that are read, in lower case, without spaces and other signs."""
USAGES = {name: number for number, names in enumerate(SPLIT_NAMES.values()) for name in names}
INDEX = {"", "index", "id", "unnamed0"}  # columns that pandas and people number rows with
BRACKETS = bytes.maketrans(b"[]", b"  ")
LEAST = 16  # pixels of the lowest side; numbers of a text that is taken for pixels where the header is missing
Columns = tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]
"""Images, labels and splits of some rows."""


class PixelCsv(NamedTuple):
    """The content of a csv of N rows."""

    images: NDArray[np.uint8]
    """(N, S, S) grey."""
    label: NDArray[np.int64]
    """(N,) the emotion column; -1 throughout if there is none."""
    split: NDArray[np.int8]
    """(N,) the Usage column as an index into ``SPLITS``; ``UNDECIDED`` throughout if there is none."""
    remarks: list[str]
    """What was not read, one sentence each."""


class Form(NamedTuple):
    """How a csv is written."""

    names: list[str]
    """Name of each column; those that are read have their key in ``COLUMNS``."""
    delimiter: str
    header: bool
    one_pixel_a_column: bool
    """The one column ``pixels`` stands for all of them then."""


def find_form(path: Path) -> Form:
    """Tell how a csv is written from its first line.

    Raises:
        FerlError: it has no column of pixels, or a column twice.
    """
    line = first_line(path)
    if form := _without_header(line):
        return form
    tables = [_header_cells(line, delimiter) for delimiter in DELIMITERS]
    delimiter, cells = max(zip(DELIMITERS, tables, strict=True), key=lambda pair: len(pair[1]))
    plain = [*map(_plain, cells)]
    names = [
        next((key for key, known in COLUMNS.items() if name in known), name if name in INDEX else cell)
        for name, cell in zip(plain, cells, strict=True)
    ]
    run = [i for i, name in enumerate(plain) if re.fullmatch(r"(pixel|px|p)?[0-9]+", name)]
    wide = "pixels" not in names and len(run) >= LEAST**2 and run[-1] - run[0] + 1 == len(run)
    if wide:
        names[run[0] : run[-1] + 1] = ["pixels"]
    said = f"{path}, line 1: {line[:80]!r} "
    expected = "a header such as emotion,pixels,Usage, without Usage, or of pixels alone"
    if "pixels" not in names:
        raise FerlError(
            f"{said}is no header with a column of pixels; expected {expected}. Write it as the first line; "
            "a table of image files has the columns path and label"
        )
    if twice := [
        f"{name} ({', '.join(COLUMNS[name])})" for name, n in Counter(names).items() if n > 1 and name in COLUMNS
    ]:
        raise FerlError(f"{said}has several columns for {twice[0]}: rename or remove all but one of them")
    others = [name for name in names if name not in COLUMNS and name not in INDEX]
    missing = [name for key in COLUMNS if key not in names for name in COLUMNS[key]]
    if unclear := [name for name in others if get_close_matches(_plain(name), missing, cutoff=0.75)]:
        raise FerlError(f"{said}has the column {unclear[0]!r}: is it misspelt? Rename it; expected {expected}")
    if "emotion" not in names and others:
        raise FerlError(
            f"{said}has no column emotion, but others, such as {others[0]!r}; expected {expected}. Rename it"
        )
    return Form(names, delimiter, header=True, one_pixel_a_column=wide)


def _plain(cell: str) -> str:
    return re.sub(r"[\W_]", "", cell).lower()


def _header_cells(line: str, delimiter: str) -> list[str]:
    try:
        return split_cells(line, delimiter)
    except ValueError:
        return []


def _without_header(line: str) -> Form | None:
    """Tell the columns of a csv that begins with a row, by what they hold; None if it is not clear."""
    for delimiter in DELIMITERS:
        names = []
        for cell in _header_cells(line, delimiter):
            if len(re.findall("[0-9]+", cell)) >= LEAST**2 and not re.search(r"[^0-9 \[\](),;]", cell):
                names.append("pixels")
            elif re.sub("[ _-]", "", cell).lower() in USAGES:
                names.append("usage")
            elif re.fullmatch("[0-9]{1,2}|[A-Za-z]+", cell):
                names.append("emotion")
            else:
                names.append("")
        if "pixels" in names and len(set(names)) == len(names) and "" not in names:
            return Form(names, delimiter, header=False, one_pixel_a_column=False)
    return None


def read_pixel_csv(path: Path, classes: Sequence[str]) -> PixelCsv:
    """Parse a csv with NumPy, many lines at a time; lines with anything unusual are read again cell by cell.

    The usual columns are those of Kaggle's ``fer2013.csv`` (emotion,pixels,Usage; also ``ckextended.csv`` with 8
    classes), ``icml_face_data.csv`` (emotion, Usage, pixels), ``train.csv`` (emotion,pixels) or ``test.csv`` (pixels).
    They are found by name (see ``COLUMNS``), in any order and case, also with semicolons or tabs between them, or in
    UTF-16. Other columns are left out, which is remarked. Images are square, all of one size. Columns may be quoted,
    and blank lines may follow the last row.

    Args:
        path: the file.
        classes: an emotion is a number from 0, or the name of one of them.

    Raises:
        FerlError: a line is wrong; the message says which (the header is line 1) and why.
    """
    form = find_form(path)
    reader = _Reader(form, classes)
    others = [name for name in form.names if name not in COLUMNS and name not in INDEX]
    images: NDArray[np.uint8] | None = None
    labels, splits = [], []
    n = 0
    blocks = _rows(path, form.header)
    for lines in blocks:
        try:
            if images is None:
                reader.side = reader.first_side(lines[0])
                images = _room(path, reader.side)
                cells = _header_cells(decode(lines[0]), form.delimiter) if others and "usage" not in form.names else []
                if len(cells) >= len(form.names):  # else there is nothing to look for, or the row is refused below
                    ends = [*range(at := form.names.index("pixels") + 1), *range(at - len(form.names), 0)]
                    first = [(name, cells[n]) for name, n in zip(form.names, ends, strict=True) if name in others]
                    refuse_unread_split(path, first, decided=split_of(path.stem) is not None)
            part = reader.parse(lines) or reader.parse_each(lines)
        except _LineError as error:
            last = error.row == len(lines) - 1 and next(blocks, None) is None
            cut = last and not lines[-1].endswith((b"\n", b"\r"))
            raise FerlError(
                f"{path}, line {n + error.row + 1 + form.header}{', the last' if last else ''}: {error}."
                f"{' The file ends inside this line: is it cut short?' if cut else ''} Fetch the file again, or fix or "
                "remove the line"
            ) from None
        images[n : n + len(lines)], label, split = part
        labels.append(label)
        splits.append(split)
        n += len(lines)
    if images is None:
        raise FerlError(f"{path}: no rows after the header. Fetch the file again")
    remarks = [] if form.header else [f"{path.name} has no header: its columns were taken for {','.join(form.names)}."]
    if others:
        remarks.append(f"{path.name} has columns that are not read: {', '.join(others)}.")
    return PixelCsv(images[:n], np.concatenate(labels), np.concatenate(splits).astype(np.int8), remarks)


def _room(path: Path, side: int) -> NDArray[np.uint8]:
    """Make room for all images: a pixel takes two bytes or more; memory that no row is written to costs nothing."""
    rows = path.stat().st_size // (2 * side * side) + 1
    try:
        return np.empty((rows, side, side), np.uint8)
    except MemoryError:
        raise FerlError(
            f"{path}: its {path.stat().st_size >> 20:,} MiB may hold {rows:,} images, more than fit in memory. Is it "
            "damaged? Fetch the file again"
        ) from None


def _rows(path: Path, header: bool) -> Iterator[list[bytes]]:
    """Read the lines of a file, many at a time, without the header and the blank lines at its end."""
    blank: list[bytes] = []
    skip = int(header)
    for lines in line_blocks(path):
        lines, skip = lines[skip:], 0
        lines, blank = blank[:1] + lines, []  # the blank lines were not at the end: the first is an error in its place
        while lines and not lines[-1].strip():
            blank.append(lines.pop())
        if lines:
            yield lines


class _LineError(Exception):
    """A line that cannot be read, ``row`` lines after the first of its block; the message says why."""

    def __init__(self, row: int, why: object) -> None:
        super().__init__(str(why))
        self.row = row


class _Reader:
    """Parses lines of one form."""

    def __init__(self, form: Form, classes: Sequence[str]) -> None:
        self.form = form
        self.classes = list(classes)
        self.delimiter = form.delimiter.encode()
        self.before = form.names.index("pixels")
        self.after = len(form.names) - 1 - self.before
        self.side = 0

    def first_side(self, line: bytes) -> int:
        """Tell the side of all images from the first row."""
        try:
            n = len(_pixel_text(self._cells(line)[self.before].encode()).split())
        except (ValueError, IndexError):
            return 48  # what is wrong with the row is said when it is parsed
        side = math.isqrt(n)
        return side if side >= LEAST and side * side == n else 48

    # --- many lines at a time ---------------------------------------------------------------------------------------

    def parse(self, lines: Sequence[bytes]) -> Columns | None:
        """Parse lines without commas, brackets and quotes of their own in columns; None if one has them or is wrong."""
        return self._parse(lines, clean=False) or self._parse(lines, clean=True)

    def _parse(self, lines: Sequence[bytes], clean: bool) -> Columns | None:
        names = self.form.names
        rows = [self._usual_cells(line, clean) for line in lines]
        if any(len(row) != len(names) for row in rows):
            return None
        columns = dict(zip(names, zip(*rows, strict=True), strict=True))
        images = _parse_pixels(columns["pixels"], self.side)
        if images is None:
            return None
        try:
            return images, self._values(columns, "emotion", len(rows)), self._values(columns, "usage", len(rows))
        except ValueError:
            return None

    def _usual_cells(self, line: bytes, clean: bool) -> list[bytes]:
        """Split a line without a search for delimiters among the pixels; ``clean`` leaves only spaces between those."""
        *cells, rest = line.rstrip(b"\r\n").split(self.delimiter, self.before)
        cells += rest.rsplit(self.delimiter, self.after)
        plain = [_unquoted(cell) for cell in cells] if b'"' in line else cells
        if not clean or len(plain) != len(self.form.names):
            return plain
        text, at = plain[self.before], self.before
        if self.form.one_pixel_a_column:
            text = text.replace(self.delimiter, b" ")
        elif self.delimiter in text and not cells[at].strip(b" ").startswith(b'"'):
            return []  # an unquoted delimiter: a column too many
        return [*plain[:at], _pixel_text(text), *plain[at + 1 :]]

    def _values(self, columns: Mapping[str, Sequence[bytes]], name: str, n: int) -> NDArray[np.int64]:
        """Labels or splits of all rows, (n,)."""
        if name not in columns:
            return np.full(n, UNLABELLED if name == "emotion" else UNDECIDED)
        parse = self._label if name == "emotion" else _split
        known = {cell: parse(decode(cell).strip(" ")) for cell in set(columns[name])}
        return np.array([known[cell] for cell in columns[name]], np.int64)

    # --- cell by cell -----------------------------------------------------------------------------------------------

    def parse_each(self, lines: Sequence[bytes]) -> Columns:
        """Parse lines of which one is unusual, or raise the error in the first that is wrong."""
        rows = []
        for i, line in enumerate(lines):
            try:
                rows.append(self._parse_row(line))
            except ValueError as error:
                raise _LineError(i, error) from None
        images, label, split = zip(*rows, strict=True)
        return np.stack(images), np.array(label, np.int64), np.array(split, np.int64)

    def _cells(self, line: bytes) -> list[str]:
        """Split a line by the rules of csv, with the pixels in one cell."""
        cells = split_cells(decode(line), self.form.delimiter)
        if self.form.one_pixel_a_column and len(cells) > len(self.form.names):
            end = len(cells) - self.after
            cells[self.before : end] = [" ".join(cells[self.before : end])]
        return cells

    def _parse_row(self, line: bytes) -> tuple[NDArray[np.uint8], int, int]:
        """Parse a row: its image (side, side), label and split.

        Raises:
            ValueError: what is wrong with it.
        """
        names = self.form.names
        if not line.strip():
            raise ValueError(f"an empty line, expected {_columns(len(names))} ({','.join(names)})")
        cells = self._cells(line)
        if len(cells) != len(names):
            raise ValueError(f"{_columns(len(cells))}, expected {_columns(len(names))} ({','.join(names)})")
        row = dict(zip(names, cells, strict=True))
        split = _split(row["usage"]) if "usage" in row else UNDECIDED
        label = self._label(row["emotion"]) if "emotion" in row else UNLABELLED
        text = _pixel_text(row["pixels"].encode()).decode()
        if odd := re.search("[^0-9 ]", text):
            raise ValueError(f"unexpected character {odd[0]!r} among the pixels, which are whole numbers from 0 to 255")
        words, side = text.split(), self.side
        if len(words) != side * side:
            raise ValueError(f"{len(words)} pixels, expected {side * side} ({side}x{side})")
        values = [_number(word, 255) for word in words]
        if None in values:
            wrong = words[values.index(None)]
            raise ValueError(f"a pixel of {wrong[:80]}, expected 0 to 255")
        return np.array(values, np.uint8).reshape(side, side), label, split

    def _label(self, cell: str) -> int:
        most = len(self.classes) - 1
        cell = re.sub(r"^([0-9]+)\.0*$", r"\1", cell)  # a spreadsheet or pandas makes 3 a 3.0
        if (label := _number(cell, most)) is not None:
            return label
        if (name := canonical(cell)) in self.classes:
            return self.classes.index(name)
        raise ValueError(
            f"emotion is {cell[:80]!r}, expected a number from 0 to {most}, or one of {', '.join(self.classes)}"
        )


def _columns(n: int) -> str:
    return f"{n} column{'s' * (n != 1)}"


def _split(cell: str) -> int:
    if (split := USAGES.get(re.sub("[ _-]", "", cell).lower())) is None:
        raise ValueError(f"Usage is {cell[:80]!r}, expected one such as Training, PublicTest or PrivateTest")
    return split


def _number(word: str, most: int) -> int | None:
    """Convert up to three ASCII digits; None if there is anything else, or the number is above ``most``."""
    return int(word) if re.fullmatch("[0-9]{1,3}", word) and int(word) <= most else None


def _unquoted(cell: bytes) -> bytes:
    cell = cell.strip(b" ")
    return cell[1:-1] if len(cell) > 1 and cell[:1] == cell[-1:] == b'"' else cell


def _pixel_text(text: bytes) -> bytes:
    """Take brackets away, and put spaces in the place of commas and the like if one stands between all numbers."""
    rows = text.startswith(b"[[")  # a list of them
    text = text.translate(BRACKETS).strip(b" ") if rows else text.strip(b" []()")
    for sign in (b",", b";", b"\t"):
        if sign in text and text.count(sign) + 1 == len((spaced := text.replace(sign, b" ")).split()):
            return spaced
    return text


def _parse_pixels(texts: Sequence[bytes], side: int) -> NDArray[np.uint8] | None:
    """Parse texts of side * side numbers to images (n, side, side); None if one has more, fewer or another character.

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
    if (np.searchsorted(ends, stops) != side * side * np.arange(1, len(texts) + 1)).any():
        return None
    return value[ends].reshape(-1, side, side)

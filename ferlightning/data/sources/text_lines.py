"""Lines of text files in any encoding, in bounded memory: what the readers of csv files share."""

import codecs
import csv
from collections.abc import Iterator
from io import BytesIO
from itertools import chain, islice
from pathlib import Path

from ferlightning.errors import FerlError

BLOCK = 1 << 18  # bytes read at a time: fits the processor's cache with what the parser makes of them
LONGEST = 1 << 24  # bytes of a line; an image of 2048 x 2048 pixels has fewer
LINES = 100  # of a cell in quotes
DELIMITERS = ",;\t|"
BOMS = {
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark is the beginning of this one
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8-sig",
}
NULL = "{}, line {}: a null byte: the file is damaged, or its download was cut short. Fetch the file again"
NO_TEXT = {
    b"PK": "is a zip archive, or a sheet of Excel: unpack it, or save it as csv",
    b"\x1f\x8b": "is packed by gzip: unpack it",
    b"PAR1": "is a parquet file: write the table as csv, as by pandas.read_parquet(FILE).to_csv(FILE, index=False)",
    b"\x93NUMPY": "is one array: save images and labels as a .npz file",
    b"\x89HDF": "is an HDF5 file: write a csv of paths and labels, or a .npz file of images and labels",
    b"\x80": "is a pickle, which may run commands when it is opened: save images and labels as a .npz file",
    b"<": "is a web page: the download failed. Fetch it again",
    b"version https://git-lfs": "is a pointer of Git LFS: fetch the file itself with git lfs pull",
}


def first_line(path: Path) -> str:
    """Read the first line of a text file, without its end.

    Raises:
        FerlError: the file is no text; the message says what it is instead.
    """
    with path.open("rb") as file:
        line = file.readline(LONGEST)
    for start, what in NO_TEXT.items():
        if line.startswith(start):
            raise FerlError(f"{path}: {what}")
    if encoding := _encoding(line[:64]):
        line = line.decode(encoding, "ignore").encode()
    if b"\0" in line:
        raise FerlError(NULL.format(path, 1))
    return decode((line.splitlines() or [b""])[0])


def decode(line: bytes) -> str:
    """Decode as UTF-8, or as Latin-1 where that fails."""
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("latin-1")


def is_utf8(path: Path) -> bool:
    """Whether all lines of a file are UTF-8, or of another encoding that its first bytes tell."""
    try:
        for line in chain.from_iterable(line_blocks(path)):
            line.decode()
    except (UnicodeDecodeError, FerlError):
        return False
    return True


def _encoding(start: bytes) -> str | None:
    """Tell the encoding that the bytes of a file must be decoded by; None where they can be read as they are."""
    for mark, name in BOMS.items():
        if start.startswith(mark):
            return name
    even, odd = start[: len(start) // 2 * 2 : 2], start[1::2]
    if odd and not any(odd) and all(even):
        return "utf-16-le"
    return "utf-16-be" if odd and not any(even) and all(odd) else None


def line_blocks(path: Path) -> Iterator[list[bytes]]:
    """Read the lines of a file, many at a time, with their ends, as UTF-8 if they were in UTF-16 or UTF-32.

    Raises:
        FerlError: there is a null byte or a line of more than ``LONGEST`` bytes; the message names the line.
    """
    rest, n = b"", 0
    with path.open("rb") as file:
        encoding = _encoding(file.peek(64)[:64])
        decoder = codecs.getincrementaldecoder(encoding)("replace") if encoding else None
        while chunk := file.read(BLOCK):
            if decoder:
                chunk = decoder.decode(chunk).encode()
            if b"\0" in chunk:
                line = n + len((rest + chunk[: chunk.index(b"\0")] + b".").splitlines())
                raise FerlError(NULL.format(path, line))
            chunk = rest + chunk
            lines = BytesIO(chunk).readlines() if b"\n" in chunk else chunk.splitlines(keepends=True)
            # A line without \n may go on: one that ends with \r may be about to end with \r\n.
            rest = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
            if len(rest) > LONGEST:
                raise FerlError(
                    f"{path}, line {n + len(lines) + 1}: longer than {LONGEST:,} bytes; is this the right file?"
                )
            n += len(lines)
            if lines:
                yield lines
        if decoder:
            rest += decoder.decode(b"", True).encode()
        if rest:
            yield rest.splitlines(keepends=True)


def split_cells(line: str, delimiter: str) -> list[str]:
    """Split a line by Python's csv module, into cells without quotes and spaces around them.

    Raises:
        ValueError: the quotes are wrong, or a cell is larger than ``LONGEST``.
    """
    line = line.rstrip("\r\n")
    if delimiter == " " and '"' not in line:  # of which there may be several
        return line.split()
    # As nearly all are; a reader of csv for each takes ten times as long.
    if 0 < len(line) < LONGEST and '"' not in line and "\r" not in line:
        cells = line.split(delimiter)
        return [cell.strip(" ") for cell in cells] if " " in line else cells
    csv.field_size_limit(LONGEST)  # of all readers of the process; 131,072 by default, too few for a large image
    try:
        cells = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True, strict=True), [])
    except csv.Error as error:
        large = "field limit" in str(error)
        raise ValueError(str(error) if large else "a quote is not closed, or closed amid a column") from None
    return [cell.strip(" \r\n") for cell in cells]


def _splits(line: bytes, delimiter: str) -> bool:
    try:
        return bool(split_cells(decode(line), delimiter))
    except ValueError:
        return False


def read_cells(path: Path, delimiter: str, only_utf8: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Read the cells of every row that is not blank, with the number of its first line.

    Args:
        path: the file.
        delimiter: stands between cells.
        only_utf8: refuse lines in another encoding, where names must be exact.

    Raises:
        FerlError: a line cannot be read; the message names it.
    """
    lines = enumerate(chain.from_iterable(line_blocks(path)), 1)
    for number, line in lines:
        if not line.strip():
            continue
        if line.count(b'"') % 2 and not _splits(line, delimiter):  # a cell of several lines, such as a note
            for _, more in islice(lines, LINES):
                line += more
                if more.count(b'"') % 2:
                    break
        try:
            yield number, split_cells(line.decode() if only_utf8 else decode(line), delimiter)
        except UnicodeDecodeError:
            raise FerlError(f"{path}, line {number}: {line[:80]!r} is not in UTF-8. Save the file as UTF-8") from None
        except ValueError as error:
            raise FerlError(f"{path}, line {number}: {error}. Fetch the file again, or fix the line") from None

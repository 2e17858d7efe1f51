"""Rows of tables of images, by the names of their columns: csv, tsv, text of paths and labels, JSON lines, parquet."""

import json
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from ferlightning.data.sources.text_lines import DELIMITERS, decode, first_line, line_blocks, read_cells, split_cells
from ferlightning.errors import FerlError
from ferlightning.images.decode import SUFFIXES

COLUMNS = {
    "path": ("path", "file", "filename", "filepath", "image", "imagename", "imagepath", "imagefile", "img", "imgname",
             "imgpath", "pth", "subdirectoryfilepath", "picture", "photo"),
    "label": ("label", "labels", "emotion", "expression", "class", "classname", "category", "target", "y"),
    "split": ("split", "usage", "set", "subset", "partition", "phase"),
    "subject": ("subject", "subjectid", "person", "personid", "identity", "actor", "user", "userid", "participant"),
    "sequence": ("sequence", "sequenceid", "seq", "seqid", "clip", "clipid", "clipname", "video", "videoid",
                 "videoname", "recording"),
    "frame": ("frame", "frameid", "frameno", "framenumber", "frameindex", "framenum"),
    "left": ("facex",), "top": ("facey",), "width": ("facewidth",), "height": ("faceheight",),
}  # fmt: skip
"""How columns are called, in lower case and without anything but letters."""
TEXT = (".csv", ".tsv", ".txt")
JSON = (".jsonl", ".ndjson", ".json")
PARQUET = ".parquet"
SUFFIX = (*TEXT, *JSON, PARQUET)


class Row(NamedTuple):
    """A row of a table, by the names of ``COLUMNS``."""

    where: str
    """Its file and line, for a message."""
    cells: dict[str, str]


class Form(NamedTuple):
    """How a text is written."""

    delimiter: str
    columns: dict[str, int]
    """Numbers of the columns of ``COLUMNS``."""
    header: bool


def has_images(path: Path) -> bool:
    """Tell whether a file lists images with labels, by its first line. A parquet file is taken for one without pyarrow.

    Raises:
        FerlError: it cannot be read.
    """
    kind = path.suffix.lower()
    if kind in TEXT:
        return _form(path) is not None
    if kind in JSON:
        first = next((row for row in _objects(path, strict=False)), {})
        return {"path", "label"} <= set(_kinds([*first]))
    if kind != PARQUET:
        return False
    try:
        return {"path", "label"} <= set(_kinds(_parquet(path).schema_arrow.names))
    except ImportError:
        return True


def read_rows(path: Path) -> Iterator[Row]:
    """Read a table for which ``has_images`` is true.

    Raises:
        FerlError: a line cannot be read, or has no path.
    """
    kind = path.suffix.lower()
    rows = _text_rows(path) if kind in TEXT else _json_rows(path) if kind in JSON else _parquet_rows(path)
    for row in rows:
        if not row.cells.get("path"):
            raise FerlError(f"{row.where}: expected a path and a label, found {[*row.cells.values()]!r}")
        yield row


def _kinds(names: list[str]) -> dict[str, int]:
    """The numbers of the columns that are read, by the names of ``COLUMNS``."""
    found: dict[str, int] = {}
    for number, name in enumerate(names):
        word = re.sub(r"[\W\d_]", "", name).lower()
        kind = next((kind for kind, known in COLUMNS.items() if word in known), None)
        if kind is not None:
            found.setdefault(kind, number)
    return found


def _form(path: Path) -> Form | None:
    """Tell the form of a text from its first line; None if it lists no images."""
    first_line(path)  # says what the file is if it is no text
    line = next((text for block in line_blocks(path) for line in block if (text := decode(line).strip("\r\n "))), "")
    delimiter = max(_delimiters(path), key=line.count)
    try:
        cells = split_cells(line, delimiter)
    except ValueError:
        return None
    columns = _kinds(cells)
    if "path" in columns:
        return Form(delimiter, columns, header=True) if "label" in columns else None
    if len(cells) == 2 and Path(cells[0]).suffix.lower() in SUFFIXES:
        return Form(delimiter, {"path": 0, "label": 1}, header=False)
    return None


def _delimiters(path: Path) -> str:
    return f"{DELIMITERS} " if path.suffix.lower() == ".txt" else DELIMITERS


def _text_rows(path: Path) -> Iterator[Row]:
    form = _form(path)
    assert form is not None
    columns, header = form.columns, form.header
    for line, cells in read_cells(path, form.delimiter):
        where = f"{path}, line {line}"
        if header:
            header = False
        elif len(cells) <= max(columns["path"], columns["label"]):
            raise FerlError(f"{where}: expected a path and a label, found {cells!r}")
        else:
            yield Row(where, {kind: cells[n] for kind, n in columns.items() if n < len(cells)})


def _objects(path: Path, strict: bool = True) -> Iterator[dict[str, Any]]:
    """The objects of JSON lines; where not strict, none from the first line that is no object."""
    for number, line in enumerate(chain.from_iterable(line_blocks(path)), 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            if not strict:
                return
            raise FerlError(f"{path}, line {number}: {decode(line)[:80]!r} is no JSON object. Write one a line")
        yield found


def _json_rows(path: Path) -> Iterator[Row]:
    for number, found in enumerate(_objects(path), 1):
        names, values = [*found], [*found.values()]
        yield Row(f"{path}, row {number}", {kind: _text(values[n]) for kind, n in _kinds(names).items()})


def _parquet(path: Path) -> Any:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        return ParquetFile(path)
    except (ArrowException, OSError) as error:
        raise FerlError(f"{path}: is no parquet file, or damaged: {error}. Fetch the file again") from None


def _parquet_rows(path: Path) -> Iterator[Row]:
    try:
        file = _parquet(path)
    except ImportError:
        raise FerlError(
            f"{path}: parquet is read by pyarrow, which is not installed: pip install 'ferlightning[parquet]'"
        ) from None
    names, number = file.schema_arrow.names, 0
    columns = _kinds(names)
    for batch in file.iter_batches(columns=[names[n] for n in columns.values()]):
        for found in batch.to_pylist():
            number += 1
            yield Row(f"{path}, row {number}", {kind: _text(found[names[n]]) for kind, n in columns.items()})


def _text(value: object) -> str:
    """A value as a csv would have it; nothing and not-a-number are empty."""
    return "" if value is None or value != value else str(value).strip()

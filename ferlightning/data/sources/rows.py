"""Rows of tables of images, by the names of their columns: csv, tsv, text of paths and labels, JSON lines, shards."""

import json
import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from ferlightning.data.sources.columns import Row, kinds, text
from ferlightning.data.sources.names import split_of, strict_number
from ferlightning.data.sources.shards import SHARDS, shard_columns, shard_has_images, shard_rows
from ferlightning.data.sources.text_lines import (
    DELIMITERS,
    LONGEST,
    decode,
    first_line,
    line_blocks,
    read_cells,
    split_cells,
)
from ferlightning.emotions import EMOTIONS, canonical
from ferlightning.errors import FerlError
from ferlightning.images.decode import ENDINGS, SUFFIXES

TEXT = (".csv", ".tsv", ".txt", ".lst")
JSON = (".jsonl", ".ndjson", ".json")
SUFFIX = (*TEXT, *JSON, *SHARDS)
SWITCH = {"0": 0, "0.0": 0, "false": 0, "1": 1, "1.0": 1, "true": 1}
NO_CLASS = ("unlabeled", "unlabelled", "unknown", "none", "nf")
"""What a column for images without a class is called among those for classes."""
ONE_HOT = 1000
"""Lines by which it is told whether columns are one-hot."""
EXPW = ("path", "", "top", "left", "right", "bottom", "", "label")
"""The columns of ExpW's label.lst, which has no header."""


class Form(NamedTuple):
    """How a text is written."""

    delimiter: str
    columns: dict[str, int]
    """Numbers of the columns of ``COLUMNS``."""
    votes: dict[str, int]
    """Those of the columns named after emotions, or one-hot, where there is none with the label; else none."""
    names: list[str]
    """The header; empty without one."""


def has_images(path: Path) -> bool:
    """Tell whether a file lists images with labels, by its first line or sample.

    Raises:
        FerlError: it cannot be read.
    """
    kind = path.suffix.lower()
    if kind in TEXT:
        return _form(path) is not None
    if kind in JSON:
        first = next((row for row in _objects(path, strict=False)), {})
        return {"path", "label"} <= set(kinds([*first]))
    return kind in SHARDS and shard_has_images(path)


def unread_columns(path: Path) -> list[tuple[str, str]]:
    """The columns that ``read_rows`` leaves out, with their values in the first row; of shards without these."""
    kind = path.suffix.lower()
    if kind in TEXT:
        form = _form(path)
        assert form is not None
        rows = (cells for _, cells in read_cells(path, form.delimiter) if any(cells) and cells != form.names)
        found = list(zip_longest(form.names, next(rows, [])[: len(form.names)], fillvalue=""))
        found = [(name, value) for name, value in found if name not in form.votes]
    elif kind in JSON:
        found = [(name, str(value)) for name, value in next(_objects(path), {}).items()]
    else:
        found = [(name, "") for name in shard_columns(path)]
    read = kinds([name for name, _ in found]).values()
    return [
        (name, value)
        for n, (name, value) in enumerate(found)
        if n not in read and name and not name.startswith("Unnamed:")
    ]


def vote_columns(path: Path) -> list[str]:
    """The columns of a csv or tsv, of which the label of a row is the one with the largest number."""
    form = _form(path) if path.suffix.lower() in TEXT else None
    return [*form.votes] if form else []


def read_rows(path: Path) -> Iterator[Row]:
    """Read a table for which ``has_images`` is true.

    Raises:
        FerlError: a line cannot be read, or has no path.
    """
    kind = path.suffix.lower()
    rows = _text_rows(path) if kind in TEXT else _json_rows(path) if kind in JSON else shard_rows(path)
    for row in rows:
        if not row.cells.get("path"):
            raise FerlError(f"{row.where}: expected a path and a label, found {[*row.cells.values()]!r}")
        yield row


def _form(path: Path) -> Form | None:
    """Tell the form of a text from its first line; None if it lists no images."""
    first_line(path)  # says what the file is if it is no text
    line = next((text for block in line_blocks(path) for line in block if (text := decode(line).strip("\r\n "))), "")
    delimiter = max(_delimiters(path), key=line.count)
    try:
        cells = split_cells(line, delimiter)
    except ValueError:
        return None
    columns = kinds(cells)
    if "path" in columns:
        if "label" in columns:
            return Form(delimiter, columns, {}, cells)
        votes = {name: n for n, name in enumerate(cells) if canonical(name) in EMOTIONS}
        votes |= _one_hot(path, delimiter, {name: n for n, name in enumerate(cells) if n not in columns.values()})
        return Form(delimiter, columns, votes, cells) if len(votes) > 1 else None
    found = _without_header(cells)
    return Form(delimiter, found, {}, []) if found else None


def _one_hot(path: Path, delimiter: str, names: dict[str, int]) -> dict[str, int]:
    """The columns of which just one is 1 in each row, and the others 0, without those for no class; else none."""
    rows = [cells for _, cells in islice(read_cells(path, delimiter), 1, ONE_HOT)]
    if not rows or min(map(len, rows)) <= max(names.values(), default=0):
        return {}
    binary = {name: n for name, n in names.items() if all(cells[n].lower() in SWITCH for cells in rows)}
    if any(sum(SWITCH[cells[n].lower()] for n in binary.values()) != 1 for cells in rows) or any(map(split_of, binary)):
        return {}
    return {name: n for name, n in binary.items() if name.lower() not in NO_CLASS}


def _without_header(cells: list[str]) -> dict[str, int]:
    """Tell columns by their first row: the one name of an image, a split, if there is one, and what is left, the label.

    Of more columns only those of ExpW are known; empty if it is not clear.
    """
    paths = [n for n, cell in enumerate(cells) if Path(cell).suffix.lower() in SUFFIXES]
    if paths == [0] and len(cells) == len(EXPW) and all(re.fullmatch(r"[0-9.]+", cell) for cell in cells[1:]):
        return {name: n for n, name in enumerate(EXPW) if name}
    splits = [n for n, cell in enumerate(cells) if cell and n not in paths and split_of(cell)]
    labels = [n for n, cell in enumerate(cells) if cell and n not in (*paths, *splits)]
    if len(paths) != 1 or len(labels) != 1 or len(splits) > 1 or len(cells) != 2 + len(splits):
        return {}
    return {"path": paths[0], "label": labels[0]} | ({"split": splits[0]} if splits else {})


def _delimiters(path: Path) -> str:
    return f"{DELIMITERS} " if path.suffix.lower() in (".txt", ".lst") else DELIMITERS


def _text_rows(path: Path) -> Iterator[Row]:
    form = _form(path)
    assert form is not None
    columns, needed, file = (
        [*form.columns.items()],
        max(form.columns["path"], form.columns.get("label", 0), *form.votes.values()),
        str(path),
    )
    for line, cells in read_cells(path, form.delimiter):
        where = f"{file}, line {line}"
        if cells == form.names or not any(cells):  # a header, also of another file put after it; an empty row
            continue
        if len(cells) <= needed:
            raise FerlError(f"{where}: expected a path and a label, found {cells!r}")
        if form.names and len(cells) > len(form.names) and any(cells[len(form.names) :]):
            raise FerlError(
                f"{where}: has {len(cells)} cells, and the header {len(form.names)}: {cells!r}. Put a cell that has "
                f"{form.delimiter!r} in it into quotes"
            )
        row = {kind: cells[n] for kind, n in columns if n < len(cells)}
        if form.votes:
            row["label"] = _most_voted({name: cells[n] for name, n in form.votes.items()}, where)
        yield Row(where, row)


def _most_voted(votes: dict[str, str], where: str) -> str:
    """The name with the largest number; empty if two have it, or none is above 0."""
    try:
        numbers = {name: _share(cell) for name, cell in votes.items()}
    except ValueError as error:
        raise FerlError(f"{where}: {error}, in one of the columns {', '.join(votes)}") from None
    most = max(numbers.values())
    names = [name for name, number in numbers.items() if number == most]
    return names[0] if len(names) == 1 and most > 0 else ""


def _share(cell: str) -> float:
    """A vote: a number, also with a decimal comma or in percent, or whether it is the one."""
    if (word := cell.lower()) in ("", "true", "false", "yes", "no"):
        return float(word in ("true", "yes"))
    return strict_number(cell.removesuffix("%").rstrip().replace(",", "."))


def _objects(path: Path, strict: bool = True) -> Iterator[dict[str, Any]]:
    """The objects of JSON lines, or of a whole file; where not strict, none from the first line that is no object."""
    lines = ((n, line) for n, line in enumerate(chain.from_iterable(line_blocks(path)), 1) if line.strip())
    for row, (number, line) in enumerate(lines):
        found = _json(line)
        values = [*found.values()] if isinstance(found, dict) else []
        if row == 0 and not any(isinstance(values[n], str) for n in kinds([*found] if values else []).values()):
            whole = path.read_bytes() if path.stat().st_size <= LONGEST else b""
            if records := _records(_json(whole)):
                yield from records
                return
        if not isinstance(found, dict):
            if not strict:
                return
            raise FerlError(
                f"{path}, line {number}: {decode(line)[:80]!r} is no JSON object. Write one a line, or a list of them"
            )
        yield found


def _json(content: bytes) -> Any:
    try:
        return json.loads(content.removeprefix(BOM_UTF8))
    except (ValueError, RecursionError):
        return None


def _records(found: Any) -> list[dict[str, Any]]:
    """The rows in a whole JSON file; none if it is of no form that is known.

    It has a list of objects, perhaps under one name; columns by name; labels or objects by path; or paths by label. Or
    it is of COCO, with the images, the names of categories and the boxes in three lists.
    """
    if isinstance(found, dict) and all(_all(found.get(name), dict) for name in ("images", "categories", "annotations")):
        return _coco(found)
    if isinstance(found, dict) and len(tables := [x for x in found.values() if x and _all(x, dict)]) == 1:
        found = tables[0]
    elif isinstance(found, dict) and all(_all(x, str) and x[0].lower().endswith(ENDINGS) for x in found.values() if x):
        found = [{"path": path, "label": label} for label, paths in found.items() for path in paths]
    if isinstance(found, dict) and "path" in kinds([*found]):  # columns, each a list, or values by row
        columns = {key: [*x.values()] if isinstance(x, dict) else x for key, x in found.items()}
        if any(not isinstance(x, list) for x in columns.values()) or len({*map(len, columns.values())}) > 1:
            return []
        found = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    elif isinstance(found, dict):
        found = [
            ({"path": key} if key.lower().endswith(ENDINGS) else {}) | (x if isinstance(x, dict) else {"label": x})
            for key, x in found.items()
        ]
    return found if isinstance(found, list) and all(isinstance(row, dict) for row in found) else []


def _coco(found: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """A row for each annotation, and for each image that has none."""
    paths = {image.get("id"): image.get("file_name") for image in found["images"]}
    names = {category.get("id"): category.get("name") for category in found["categories"]}
    rows, left = [], dict(paths)
    for one in found["annotations"]:
        left.pop(image := one.get("image_id"), None)
        box = one.get("bbox") or []
        sides = dict(zip(("left", "top", "width", "height"), box, strict=True)) if len(box) == 4 else {}
        rows.append({"path": paths.get(image), "label": names.get(one.get("category_id")), **sides})
    return rows + [{"path": path, "label": None} for path in left.values()]


def _all(found: Any, kind: type) -> bool:
    return isinstance(found, list) and all(isinstance(x, kind) for x in found)


def _json_rows(path: Path) -> Iterator[Row]:
    for number, found in enumerate(_objects(path), 1):
        where, values = f"{path}, row {number}", [*found.values()]
        yield Row(where, {kind: text(values[n], where) for kind, n in kinds([*found]).items()})

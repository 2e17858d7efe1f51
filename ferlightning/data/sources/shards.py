"""Rows of files that may have the images inside: parquet and arrow as ``datasets`` writes them, tar as ``webdataset``.

Neither library is needed: pyarrow reads the first two with the names of the classes in their schema, and Python's
tarfile the last. Images are read where they lie, a row group at a time.
"""

import json
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Any

from ferlightning.data.sources.columns import Row, kinds, text
from ferlightning.data.sources.text_lines import decode
from ferlightning.errors import FerlError
from ferlightning.images.decode import SUFFIXES, is_leftover

PARQUET, ARROW, TAR = ".parquet", ".arrow", ".tar"
SHARDS = (PARQUET, ARROW, TAR)
LABELS = ("cls", "txt", "class", "label")
"""What a file with the label of a sample of webdataset is called."""
_one_group = Lock()
"""Held while a row group is read, so that only one thread reads it."""


def shard_has_images(path: Path) -> bool:
    """Tell whether a shard has or lists images with labels. One of arrow's kinds is taken for one without pyarrow.

    Raises:
        FerlError: it cannot be read.
    """
    if path.suffix.lower() == TAR:
        first = [*islice(_members(path), 50)]
        return any(
            _image(names) and any(_last(name) in (*LABELS, "json") for name in names) for _, names in _samples(first)
        )
    try:
        schema = _schema(path)
    except ImportError:
        return True
    return (_inside(schema) is not None or "path" in kinds(schema.names)) and "label" in kinds(schema.names)


def shard_columns(path: Path) -> list[str]:
    """The columns of a shard beside that of its images; none of a tar, whose samples may differ."""
    if path.suffix.lower() == TAR:
        return []
    schema = _schema(path)
    return [str(name) for name in schema.names if name != _inside(schema)]


def shard_rows(path: Path) -> Iterator[Row]:
    """Read the rows of a shard.

    Raises:
        FerlError: it cannot be read, or pyarrow is not installed.
    """
    if path.suffix.lower() == TAR:
        return _tar_rows(path)
    try:
        return _arrow_rows(path, _schema(path))
    except ImportError:
        raise FerlError(
            f"{path}: parquet and arrow files are read by pyarrow, which is not installed: "
            "pip install 'ferlightning[parquet]'"
        ) from None


# --- parquet and arrow ----------------------------------------------------------------------------------------------


def _open(path: Path) -> Any:
    """A ``ParquetFile``, or a mapped ``Table`` of a stream of arrow."""
    from pyarrow import ipc, memory_map
    from pyarrow.parquet import ParquetFile

    with _readable(path):
        if path.suffix.lower() == PARQUET:
            return ParquetFile(path)
        with path.open("rb") as file:
            is_file = file.read(6) == b"ARROW1"  # else a stream, as ``datasets`` writes it
        return (ipc.open_file if is_file else ipc.open_stream)(memory_map(str(path))).read_all()


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Report a damaged file, which may be noticed late."""
    from pyarrow import ArrowException

    try:
        yield
    except (ArrowException, OSError) as error:
        raise FerlError(f"{path}: is no {path.suffix[1:]} file, or damaged: {error}. Fetch the file again") from None


def _schema(path: Path) -> Any:
    file = _open(path)
    return file.schema_arrow if path.suffix.lower() == PARQUET else file.schema


def _inside(schema: Any) -> str | None:
    """The column that has images: pairs of bytes and path, or bytes."""
    found = []
    for field in schema:
        inner, pair = field.type, str(field.type).startswith("struct<")
        if pair:
            inner = inner.field("bytes").type if inner.get_field_index("bytes") >= 0 else ""
        if str(inner) in ("binary", "large_binary"):
            found.append((not pair, str(field.name)))
    return min(found, key=lambda kind: kind[0])[1] if found else None


def _class_names(schema: Any) -> dict[str, list[str]]:
    """Names of the classes of each column of labels, as ``datasets`` keeps them."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: feature["names"] for name, feature in features.items() if "names" in feature}
    except (KeyError, TypeError, ValueError):
        return {}


def _arrow_rows(path: Path, schema: Any) -> Iterator[Row]:
    inside, class_names = _inside(schema), _class_names(schema)
    names = [name for name in schema.names if name != inside]
    columns = {kind: names[n] for kind, n in kinds(names).items()}
    time, number = path.stat().st_mtime_ns, 0
    for group, batch in _batches(path, list(columns.values())):
        for row, found in enumerate(batch):
            number += 1
            where = f"{path}, row {number}"
            cells = {kind: text(_path_of(found[name]), where) for kind, name in columns.items()}
            if (known := class_names.get(columns["label"])) and cells["label"]:
                k = int(cells["label"]) if cells["label"].isdecimal() else -1
                cells["label"] = known[k] if 0 <= k < len(known) else ""  # -1 stands for none
            if inside is None:
                yield Row(where, cells)
            else:
                content = partial(_bytes, path, time, inside, group, row if group is not None else number - 1, where)
                yield Row(where, cells | {"path": str(number)}, content)


def _path_of(value: Any) -> Any:
    """The path in an image that ``datasets`` keeps as a file of its own; any other value as it is."""
    return value["path"] if isinstance(value, dict) and value.keys() == {"bytes", "path"} else value


def _batches(path: Path, columns: list[str]) -> Iterator[tuple[int | None, list[dict[str, Any]]]]:
    """Some columns of all rows, a row group at a time, with its number; None in arrow, which is mapped as a whole."""
    file = _open(path)
    if path.suffix.lower() == PARQUET:
        for group in range(file.num_row_groups):
            with _readable(path):
                found = file.read_row_group(group, columns=columns).to_pylist()
            yield group, found
    else:
        for batch in file.select(columns).to_batches():
            yield None, batch.to_pylist()


@lru_cache(maxsize=2)
def _images(path: Path, time: int, column: str, group: int | None) -> Any:
    """The images of a row group; ``time`` is that of the file, which may change."""
    file = _open(path)
    with _readable(path):
        return (file if group is None else file.read_row_group(group, columns=[column])).column(column)


def _bytes(path: Path, time: int, column: str, group: int | None, row: int, where: str) -> bytes:
    with _one_group:
        images = _images(path, time, column, group)
    value = images[row].as_py()
    content = value["bytes"] if isinstance(value, dict) else value
    if content is None:
        beside = value.get("path") if value else None
        raise FerlError(f"{where}: has no image" + (f" but a path, {beside}" if beside else ""))
    return bytes(content)


# --- tar ------------------------------------------------------------------------------------------------------------


def _members(path: Path) -> Iterator[tarfile.TarInfo]:
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if member.isreg() and not is_leftover(PurePosixPath(member.name).name):
                    yield member
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise FerlError(f"{path}: is no tar file, or packed or cut short: {error}. Unpack or fetch it again") from None


def _samples(members: list[tarfile.TarInfo]) -> list[tuple[str, dict[str, tarfile.TarInfo]]]:
    """Files of one name up to the first dot, by what comes after it, in lower case."""
    found: dict[str, dict[str, tarfile.TarInfo]] = {}
    for member in members:
        folder, _, name = member.name.rpartition("/")
        stem, _, ending = name.partition(".")
        found.setdefault(f"{folder}/{stem}".strip("/"), {})[ending.lower()] = member
    return [*found.items()]


def _image(names: dict[str, tarfile.TarInfo]) -> str | None:
    return next((name for name in names if f".{_last(name)}" in SUFFIXES), None)


def _last(ending: str) -> str:
    """What counts of an ending such as input.png."""
    return ending.rpartition(".")[2]


def _tar_rows(path: Path) -> Iterator[Row]:
    for key, names in _samples([*_members(path)]):
        where, image = f"{path}, sample {key}", _image(names)
        if image is None:
            raise FerlError(f"{where}: has no image, only {', '.join(names)}. Write it again")
        cells = {}
        if "json" in names:
            try:
                found = json.loads(_slice(path, names["json"]))
            except (ValueError, RecursionError):
                found = None
            if not isinstance(found, dict):
                raise FerlError(f"{where}: its json is no object. Write it again")
            values = [*found.values()]
            cells = {kind: text(values[n], where) for kind, n in kinds([*found]).items()}
        for name in names:
            if _last(name) in LABELS:
                cells.setdefault("label", decode(_slice(path, names[name])).strip())
        yield Row(where, cells | {"path": f"{key}.{image}"}, partial(_slice, path, names[image]))


def _slice(path: Path, member: tarfile.TarInfo) -> bytes:
    with path.open("rb") as file:
        file.seek(member.offset_data)
        return file.read(member.size)

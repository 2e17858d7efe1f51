"""Layouts of data sets on disk, and how to find the one at hand."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ferlightning.data.sources.names import readable, some, split_of
from ferlightning.data.sources.text_lines import first_line
from ferlightning.data.store import Store, open_store
from ferlightning.emotions import EMOTIONS, canonical
from ferlightning.errors import FerlError
from ferlightning.files import at_home
from ferlightning.images.decode import is_leftover


@dataclass(frozen=True)
class Layout:
    """A layout of a data set, found at one place.

    Attributes:
        name: what ``--data.layout`` calls it.
        path: the folder or file that was recognised.
        files: lists everything that is read; another size or time means a new store.
        parse: reads the files.
        version: of the reader; raise it when the reader changes what it makes of the same files.
    """

    name: str
    path: Path
    files: Callable[[], Sequence[Path | str]]
    parse: Callable[[], Store]
    version: int = 1
    claims: frozenset[str] = frozenset()
    """Folders right below ``path`` that belong to it, in which no other data set is searched for."""
    unread: tuple[str, ...] = ()
    """Folders beside it that look like data, for a remark."""

    def open(self, data_set: str, **options: object) -> Store:
        """Open the store of this layout.

        Args:
            data_set: name of the reader.
            options: of the parser; other options mean another store.
        """
        try:
            here = f"{Path.cwd()}/"  # abspath of each takes longer than to look at it
            listing = [_facts(str(name) if os.path.isabs(name) else f"{here}{name}") for name in self.files()]  # noqa: PTH117
        except OSError as error:
            raise FerlError(f"{error.filename}: {error.strerror}; see who may read it") from None
        key: dict[str, object] = {
            "reader": f"{data_set} {self.name} {self.version}",
            "files": listing,
            "options": options,
        }
        if not self.unread:
            return open_store(key, self.parse)
        remark = f"Folders beside it that look like data and were not read: {some([*self.unread])}."

        def parse() -> Store:
            store = self.parse()
            return replace(store, remarks=np.append(store.remarks, remark))

        return open_store(key | {"remark": remark}, parse)


def _facts(name: str) -> tuple[str, int, int]:
    """A file with its size and time; the parser says what one that is missing means."""
    try:
        stat = os.stat(name)  # noqa: PTH116
    except FileNotFoundError:
        return name, -1, -1
    return name, stat.st_size, stat.st_mtime_ns


PACKED = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
DRAWN = "Without the data, --data=SyntheticFaces tries the same model on drawn faces"

Find = Callable[[Path], list[Layout]]
"""Finds all layouts of a data set in one folder, or that of one file, the preferred first. Looks at names only."""


def find_layouts(find: Find, root: Path) -> list[Layout]:
    """Find all layouts at a place and in the folders directly below it, the preferred first."""
    if not root.is_dir():
        return find(root) if root.exists() else []
    here = find(root)
    claimed = frozenset[str]().union(*(layout.claims for layout in here))
    below = sorted(path for path in root.iterdir() if path.is_dir() and not is_leftover(path.name))
    return here + [layout for folder in below if folder.name not in claimed for layout in find(folder)]


def unread_folders(root: Path, layout: Layout) -> tuple[str, ...]:
    """Folders directly below a root that are named after a class or split and that a layout does not claim."""
    if not root.is_dir():
        return ()
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not is_leftover(path.name))
    other = [readable(path.name) for path in folders if path != layout.path and path.name not in layout.claims]
    return tuple(name for name in other if split_of(name) or canonical(name) in EMOTIONS)


def place(path: Path) -> str:
    """A path for a message that it is not there: what it is relative to, and what it goes before."""
    where = str(path) if path.is_absolute() else f"{path}, relative to the working folder {Path.cwd()}"
    other = os.environ.get("FERL_DATA")
    if not other or at_home(other) == path:
        return where
    return f"{where} (data.root goes before FERL_DATA, so {other} is not used: give it by --data.root)"


def unpack(root: Path) -> str:
    """Say which archives in a folder may hold its data."""
    names = [path.name for path in sorted(root.iterdir()) if path.suffix.lower() in PACKED] if root.is_dir() else []
    return f" Unpack {some(names)} first." if names else ""


def choose_layout(data_set: str, find: Find, known: dict[str, str], root: str | None, name: str | None) -> Layout:
    """Choose the layout to read a data set from.

    Args:
        data_set: its name, for a message.
        find: finds its layouts in one folder.
        known: its layouts and how each looks, for a message.
        root: where to look; None for the environment variable FERL_DATA.
        name: the layout wanted; None for the first that is found.

    Raises:
        FerlError: there is none; the message says where it was searched and for what.
    """
    shown = "; ".join(f"{key}: {looks}" for key, looks in known.items())
    if name is not None and name not in known:
        raise FerlError(f"--data.layout is {name!r}; {data_set} has these: {shown}")
    given = root or os.environ.get("FERL_DATA")
    if not given:
        raise FerlError(
            f"{data_set}: where is it? Set the environment variable FERL_DATA or --data.root to its folder. Known "
            f"layouts: {shown}. {DRAWN}"
        )
    path = at_home(given)
    found = find_layouts(find, path)
    for layout in found:
        if name in (None, layout.name):
            unread = unread_folders(path, layout)
            if layout.path.parent == path and split_of(layout.path.name) and any(map(split_of, unread)):
                raise FerlError(
                    f"{data_set}: {layout.path} is one split, and {some([*unread])} beside it would not be read. Name "
                    "the tables of all train.csv, val.csv and test.csv, or give one by --data.root"
                )
            return replace(layout, unread=unread)
    others = f" Found there: {', '.join(layout.name for layout in found)}." if found else ""
    what = "and the folders directly below it" if path.is_dir() else "which is neither a file of it nor a folder"
    if path.is_file():  # a text, or it says what else it is, such as a zip
        what = f"a file that begins with {first_line(path)[:80]!r}"
    raise FerlError(
        f"{data_set}: not found; looked in {place(path)}, {what}, for {shown if name is None else known[name]}."
        f"{others}{unpack(path)} Set the environment variable FERL_DATA or --data.root to its folder. {DRAWN}"
    )

"""The ways in which a data set lies on users' disks, and how the one at hand is found."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ferlightning.data.store import Store, open_store
from ferlightning.errors import FerlError


@dataclass(frozen=True)
class Layout:
    """One way of a data set to lie on disk, found at a place.

    Attributes:
        name: what ``--data.layout`` calls it.
        path: the folder or file that was recognised.
        files: lists everything that is read; a change of a size or time means a new store.
        parse: reads the files.
        version: of the reader, to be raised when it comes to read the same files otherwise.
    """

    name: str
    path: Path
    files: Callable[[], Sequence[Path]]
    parse: Callable[[], Store]
    version: int = 1

    def open(self, data_set: str, **options: object) -> Store:
        """The store of this layout.

        Args:
            data_set: what reads it.
            options: what its parser has been told, since another choice is another store.
        """
        listing = [(str(path.absolute()), (stat := path.stat()).st_size, stat.st_mtime_ns) for path in self.files()]
        key: dict[str, object] = {
            "reader": f"{data_set} {self.name} {self.version}",
            "files": listing,
            "options": options,
        }
        return open_store(key, self.parse)


DRAWN = "Without the data, --data=SyntheticFaces tries the same model on drawn faces"

Find = Callable[[Path], list[Layout]]
"""All layouts of a data set in one folder, or that one file is of, the preferred first. Looks at names only."""


def find_layouts(find: Find, root: Path) -> list[Layout]:
    """All layouts at a place and in the folders right below it, the preferred first."""
    if not root.is_dir():
        return find(root) if root.exists() else []
    below = sorted(path for path in root.iterdir() if path.is_dir())
    return [layout for folder in (root, *below) for layout in find(folder)]


def choose_layout(data_set: str, find: Find, known: dict[str, str], root: str | None, name: str | None) -> Layout:
    """The layout that a data set is read from.

    Args:
        data_set: what to call it in a message.
        find: of the data set.
        known: its layouts and how each looks, for a message.
        root: where to look; None for the environment variable FERL_DATA.
        name: of the layout wanted; None for the first that is found.

    Raises:
        FerlError: it is nowhere; the message says where was looked and for what.
    """
    shown = "; ".join(f"{key}: {looks}" for key, looks in known.items())
    if name is not None and name not in known:
        raise FerlError(f"--data.layout is {name!r}; {data_set} has these: {shown}")
    given = root or os.environ.get("FERL_DATA")
    if not given:
        raise FerlError(
            f"{data_set}: where is it? Set the environment variable FERL_DATA or --data.root to its folder. Layouts "
            f"that are recognised: {shown}. {DRAWN}"
        )
    place = Path(given).expanduser()
    found = find_layouts(find, place)
    for layout in found:
        if name in (None, layout.name):
            return layout
    others = f" Found there: {', '.join(layout.name for layout in found)}." if found else ""
    what = "and the folders right below it" if place.is_dir() else "which is neither a file of it nor a folder"
    raise FerlError(
        f"{data_set}: not found; looked in {place}, {what}, for {shown if name is None else known[name]}.{others} Set "
        f"the environment variable FERL_DATA or --data.root to its folder. {DRAWN}"
    )

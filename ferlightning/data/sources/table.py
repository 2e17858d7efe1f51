"""Image files that a table lists with their labels: csv, tsv, text of paths and labels, JSON lines, or parquet."""

import os
import re
import shlex
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path, PureWindowsPath
from typing import Any

from ferlightning.data.sources.clips import OwnImages
from ferlightning.data.sources.columns import Row
from ferlightning.data.sources.files import Listed
from ferlightning.data.sources.folder import odd_names
from ferlightning.data.sources.layouts import Layout, choose_layout, place
from ferlightning.data.sources.names import Names, no_such, refuse_unread_split, some, split_of, strict_number
from ferlightning.data.sources.rows import SUFFIX, has_images, read_rows, unread_columns, vote_columns
from ferlightning.data.sources.shards import SHARDS
from ferlightning.data.sources.text_lines import is_utf8
from ferlightning.emotions import EMOTIONS, NUMBERINGS, canonical, spelled
from ferlightning.errors import FerlError
from ferlightning.files import at_home
from ferlightning.images.decode import ENDINGS, SUFFIXES, Box, image_names, is_leftover, list_images

NO_TABLES = re.compile(
    r"readme\.|fer2013new|list_par?tition_label|(state|dataset_infos?|dataset_dict)\.json$|cache-", re.IGNORECASE
)
"""What ``datasets`` writes beside its data, FER+'s votes, which name rows of FER2013, and RAF-DB's list."""
METADATA = ("metadata", "labels")
"""Tables in the folder of a split, as ``datasets`` has them; so is one that has no other beside it there."""
NO_LABEL = ("", "nan", "na", "n/a", "#n/a", "<na>", "null", "none", "?", "-", "--")
"""How pandas, spreadsheets, databases and people write that there is nothing."""
LIST_OF_ONE = re.compile(r"""\[\s*(["']?)([^\[\]"',]+)\1\s*\]""")
"""A label as pandas writes a list of one."""
NUMBER = re.compile(r"(-?[0-9]+)([.,]0*)?")
"""A whole number, as a table of floats writes it, too."""
OUTSIDE = re.compile(r"[/\\]|[A-Za-z]+:|(.*[/\\])?\.\.([/\\]|$)")
"""Paths that are absolute, on any system, or go up."""
UNUSUAL = re.compile(r"\\|//|(^|/)\.{0,2}(/|$)")
"""Paths that are not normal, as others nearly all are."""
ABSOLUTE = re.compile(r"[/\\]|[A-Za-z]:|[a-z0-9]+://")
LAYOUTS = {
    "table": "a table (csv, tsv, JSON lines or parquet) with the columns path and label, perhaps split, subject, "
    "sequence, in any order, beside the images; or parquet, arrow or webdataset's tar with the images inside"
}


class Table(OwnImages):
    """Images that a table lists with their labels; perhaps with a split and a subject, too.

    The table is a csv, tsv, JSON (lines, a list of objects, or columns), or parquet, which needs
    ``ferlightning[parquet]``. Or the images are inside: parquet or arrow files of Hugging Face's ``datasets`` (a folder
    of ``save_to_disk``, or of shards), or tar files of webdataset with ``KEY.jpg`` and ``KEY.cls`` or ``KEY.json``.

    Columns are found by name, whatever their order and case: path (file, image, ...), label (emotion, expression, ...),
    split (usage, set, ...), subject (person, identity, ...), sequence (clip, video, ...), and a face box in pixels
    (face_x, face_y, face_width, face_height; x1, y1, x2, y2; left, top, right, bottom; ...). Rows of one subject and
    sequence are the frames of one clip, by a column frame or as they stand.
    In place of a label, csv and tsv may have a column for each of several emotions with its votes, or one of them 1.
    Without a header, the first column is the path and the second the label. Cells are parted by comma, semicolon, tab
    or, in a .txt or .lst file, a space. Without a column split, files named train.csv, val.csv and test.csv are the
    splits.

    Args:
        root: the table, or a folder that has it, or one for each split; null: the environment variable FERL_DATA.
        layout: ``table``, the only one.
        images: the folder that paths are relative to; null: that of the table, or the one folder in it where they are.
        numbers: what numbers mean as labels: the names from 0 on, or ``FER2013``, ``RAF-DB`` or ``AffectNet`` for those
            of a data set, and -1 none; null: a number is a class of its own.
        split: the tables of each split, or the values of a column split, where they do not say it themselves, as
            ``{train: 0, val: 1, test: [2, 3]}``.
        options: those of every data set of a user's own images.
    """

    def __init__(
        self,
        root: str | None = None,
        layout: str | None = None,
        images: str | None = None,
        numbers: str | Sequence[str] | None = None,
        split: dict[str, Names] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(root, split, **options)
        if isinstance(numbers, str) and numbers not in NUMBERINGS:
            raise FerlError(f"data.numbers is {numbers!r}: give {', '.join(NUMBERINGS)}, or the names from 0 on")
        first, names = NUMBERINGS[numbers] if isinstance(numbers, str) else (0, tuple(numbers or ()))
        self.numbers = {str(n): canonical(name) for n, name in enumerate(names, first)}
        self.affectnet = numbers == "AffectNet"
        self.told |= {"images": images, "numbers": self.numbers, "affectnet": self.affectnet}
        self.place = choose_layout("Table", find, LAYOUTS, root, layout).path
        self.root = self.place if self.place.is_dir() else self.place.parent
        self.images = self.root if images is None else at_home(images)
        if not self.images.is_dir():
            raise FerlError(f"data.images: there is no folder {place(self.images)}")
        self.left_out: set[str] = set()  # by the option split
        self.values: dict[str, str | None] = {}  # of a column split, and which split each is
        self.named: dict[str, str] = {}  # classes by label
        self.folders: set[Path] = set()  # where the images of rows are
        self.spelling = {}
        self.label_names = sorted({file.name for file in self.files if file.name is not None}, key=_natural)
        if len(self.label_names) < 2:
            folders = sum(
                canonical(path.name) in EMOTIONS or bool(split_of(path.name)) for path in self.root.glob("*/")
            )
            hint = ". The folders beside it are read by --data=ImageFolder" if folders > 1 else ""
            notes = "".join(f". {remark.removesuffix('.')}" for remark in self.remarks)
            raise FerlError(f"{self.place}: the labels are {self.label_names}, need at least 2 classes{hint}{notes}")
        self.remarks += odd_names(self)

    @cached_property
    def tables(self) -> list[Path]:
        """The files that are read: one, or one for each split.

        Raises:
            FerlError: there are several, of which it is not known what each is.
        """
        found = _tables(self.place)
        if self.tables_by_hand:
            for name in self.by_hand:
                if not any(name in (path.name, path.stem) for path in found):
                    raise FerlError(no_such(name, f"table in {self.place} called", [path.name for path in found]))
            left = [path.name for path in found if self._own_split(path) is None]
            if left:
                self.remarks.append(f"Tables that data.split does not name were not read: {some(left)}.")
            return [path for path in found if path.name not in left]
        splits = [self._own_split(path) for path in found]
        series = {(split, _series(path)) for split, path in zip(splits, found, strict=True)}
        if len(series) > 1 and (None in splits or len(set(splits)) < len(series)):
            raise FerlError(
                f"{self.place}: several tables list images: {some([path.name for path in found])}. Name them "
                "train.csv, val.csv and test.csv if they are the splits, or say it by --data.split='{train: NAME, "
                f"...}}', or give one by --data.root={found[0]}"
            )
        if self.place.is_dir():
            read = {path.parent for path in found}
            for folder in sorted(self.place.glob("*/")) if read != {self.place} else ():
                if split_of(folder.name) and folder not in read and folder.name != "data":
                    raise FerlError(
                        f"{folder}: looks like a split, and no table in it is read, as in "
                        f"{some(sorted(path.name for path in read))}. Call its table metadata.csv, or move it; images "
                        "without labels are for predict, by --data.predict_folder"
                    )
            others = [path for path in _texts(self.place) if path not in found]
            for path in others:
                if (split := split_of(path.stem)) and split not in splits:
                    raise FerlError(
                        f"{path}: looks like the {split} split and has no columns path and label. Move it; images "
                        "without labels are for predict, by --data.predict_folder"
                    )
            if others:
                self.remarks.append(f"Files beside the table were not read: {some([path.name for path in others])}.")
        return found

    @cached_property
    def tables_by_hand(self) -> bool:
        """Whether the option ``split`` names tables; else it names values of a column."""
        return any(self._own_split(path) for path in _tables(self.place)) if self.by_hand else False

    @cached_property
    def by_value(self) -> dict[str, str]:
        """The splits of the values of a column, by the option ``split``."""
        return {} if self.tables_by_hand else self.by_hand

    def _own_split(self, table: Path) -> str | None:
        if self.by_hand:
            return self.by_hand.get(table.name) or self.by_hand.get(table.stem)
        above = split_of(table.parent.name) if table.parent != self.place and table != self.place else None
        return split_of(table.stem) or above

    def sources(self) -> list[Path | str]:
        return [*self.tables, *(file.path for file in self.files if file.content is None)]

    def listed(self) -> list[Listed]:
        beside = {Path(path).resolve() for folder in self.folders for path in image_names(folder)}
        read = {Path(path).resolve() for path in (*self.left_out, *(file.path for file in self.files))}
        if left := sorted(beside - read):
            names = some([os.path.relpath(path, self.root.resolve()) for path in left])
            self.remarks.append(f"{len(left):,} images are in no row and were left out: {names}.")
        return self.files

    @cached_property
    def files(self) -> list[Listed]:
        """The images of all rows.

        Raises:
            FerlError: a row is wrong, or an image has two labels.
        """
        _links.cache_clear()
        found: dict[tuple[str, Box | None], tuple[Listed, str]] = {}  # a picture may have several faces
        twice = unlabelled = 0
        for table in self.tables:
            own = self._own_split(table) if len(self.tables) > 1 or not self.place.is_file() else None
            rows = self._rows(table, own)
            folder, by_name = self._home(table, rows, own)
            by_row = bool(self.by_value) or (not self.by_hand and any(row.cells.get("split") for row in rows))
            for row in rows:
                cells, where = row.cells, row.where
                split = self._split(row) if by_row else own
                name = self._class(cells.get("label", ""), where)
                path = f"{table}/{cells['path']}" if row.content is not None else _path(row, folder, by_name)
                if self.by_value and split is None:
                    self.left_out.add(path)
                    continue
                unlabelled += not name
                box = _box(row, where) if "left" in cells else None
                frame = _frame(row, where) if "frame" in cells else 0
                file = Listed(
                    path, name or None, split, cells.get("subject", ""), box, cells.get("sequence", ""), frame,
                    row.content,
                )  # fmt: skip
                before, there = found.setdefault((path, box), (file, where))
                if there != where:
                    twice += 1
                    if before != file:
                        raise FerlError(f"{where}: {cells['path']} is also in {there}, otherwise. Remove one")
        self._check_values()
        if len({file.split is None for file, _ in found.values()}) > 1:
            raise FerlError(
                f"{self.place}: {', '.join(path.name for path in self.tables)}: some are splits and some are not. Name "
                "each after a split, or give one by --data.root"
            )
        if twice:
            self.remarks.append(f"{twice:,} rows are there twice, and count once.")
        if unlabelled:
            self.remarks.append(f"{unlabelled:,} rows have no label.")
        return self.in_order(
            [file for file, _ in found.values()], {path: where for (path, _), (_, where) in found.items()}
        )

    def _rows(self, table: Path, own: str | None) -> list[Row]:
        """The rows of a table, their paths without what they begin with on another machine; what is odd is remarked."""
        rows = list(read_rows(table))
        if not rows:
            raise FerlError(f"{table}: no rows. Write the table again")
        first = rows[0]
        if any(not row.cells.get("label", "").isascii() for row in rows) and not (
            table.suffix.lower() in SHARDS or is_utf8(table)
        ):
            self.remarks.append(f"{table.name} is not in UTF-8 and was read as Latin-1: save it as UTF-8.")
        if voted := vote_columns(table):
            self.remarks.append(
                f"The label of a row of {table.name} is the one of {', '.join(voted)} with the largest number; "
                "where two have it, there is none."
            )
        self._remark_unread(table, "split" in first.cells or bool(self.by_hand), own)
        if "left" in first.cells:
            self.remarks.append(f"Of the images of {table.name}, the part in the box of their row is read.")
        if first.content is None and (elsewhere := _elsewhere(self.images, first.cells["path"])):
            self.remarks.append(f"Of paths in {table.name}, {elsewhere!r} is left out, a folder of another place.")
            return [row.below(elsewhere) for row in rows]
        return rows

    def _home(self, table: Path, rows: list[Row], own: str | None) -> tuple[Path, dict[str, str]]:
        """The folder that paths of a table are relative to, and its images by name where only their names are right."""
        names = [row.cells["path"] for row in rows[:50] if row.content is None]
        if not names:
            return self.images, {}
        by_hand = self.told["images"] is not None
        folder: Path | None = None
        by_name: dict[str, str] = {}
        for home in dict.fromkeys([self.images] if by_hand else [table.parent, self.images]):
            folder, by_name = _images_folder(home, names, own, by_hand)
            if folder or by_name:
                break
        if not (folder or by_name or any(_is_file(_find(self.images, row.cells["path"])) for row in rows)):
            raise FerlError(
                f"{table}: none of its {len(rows):,} images, such as {names[0][:200]}, is in "
                f"{self.images.absolute()} or in a folder there. Name the folder that has them by --data.images=FOLDER"
            )
        if folder != self.root.parent:
            self.folders.add(folder or self.images)
        if by_name:
            self.remarks.append(
                f"Paths of {table.name}, such as {names[0][:200]}, lead nowhere: images were found by name."
            )
        return folder or self.images, by_name

    def _split(self, row: Row) -> str | None:
        """The split of a row by its column, None for a value that the option ``split`` leaves out."""
        value = row.cells.get("split", "")
        if value not in self.values:
            split = self.by_value.get(value) if self.by_value else split_of(value)
            if split is None and not self.by_value:
                if not value:
                    raise FerlError(f"{row.where}: the split is empty, but not in all rows. Write train, val or test")
                raise FerlError(
                    f"{row.where}: the split is {value!r}, expected train, validation or test; or say what it means by "
                    f"--data.split='{{test: {value}, ...}}'"
                )
            self.values[value] = split
        return self.values[value]

    def _check_values(self) -> None:
        """Refuse values of the option ``split`` that no row has."""
        for name in self.by_value:
            if name in self.values:
                continue
            tables = ", ".join(path.name for path in self.tables)
            if set(self.values) <= {""}:
                raise FerlError(
                    f"data.split: there is no table {name!r}, and no column split in {tables}. Rename the column that "
                    "is meant to split"
                )
            what = f"value in a column split of {tables}, and no table,"
            raise FerlError(no_such(name, what, sorted(filter(None, self.values))))
        if left := len(self.left_out):
            self.remarks.append(f"{left:,} images of splits that data.split does not name were left out.")

    def _remark_unread(self, table: Path, split: bool, own: str | None) -> None:
        unread = unread_columns(table)
        if not split:
            refuse_unread_split(table, unread, decided=own is not None)
        if unread:
            self.remarks.append(f"Columns of {table.name} that were not read: {some([name for name, _ in unread])}.")

    def _class(self, label: str, where: str) -> str:
        """The class of a label, empty for none; how the label spells it is kept."""
        if label not in self.named:
            self.named[label] = name = self._class_of(label, where)
            if name and spelled(label) != name and not NUMBER.fullmatch(label):
                self.spelling.setdefault(name, spelled(label))
        return self.named[label]

    def _class_of(self, label: str, where: str) -> str:
        if only := LIST_OF_ONE.fullmatch(label):
            label = only[2].strip()
        if label.lower() in NO_LABEL:
            return ""
        if number := NUMBER.fullmatch(label):
            label = number[1]
        if self.affectnet and label in ("8", "9", "10"):  # none, uncertain, no face
            return ""
        if self.numbers and label == "-1":  # as datasets and many others say that there is none
            return ""
        if not _is_number(label):
            return canonical(label)
        label = str(int(label))
        if self.numbers and label not in self.numbers:
            raise FerlError(f"{where}: the label is {label}, data.numbers has {', '.join(self.numbers)}")
        return self.numbers.get(label, label)


def find(path: Path) -> list[Layout]:
    """Find tables of images in a folder, or that of one file."""
    if not _tables(path):
        return []
    claims = frozenset(entry.name for entry in path.iterdir()) if path.is_dir() else frozenset[str]()
    root = str(path)
    return [Layout("table", path, lambda: Table(root).sources(), lambda: Table(root).read(), claims=claims)]


def _tables(place: Path) -> list[Path]:
    """The tables of images at a place.

    Raises:
        FerlError: a shard is damaged, and others are not, or there is nothing else; other files are left alone.
    """
    if place.is_file():
        return [place] if has_images(place) else []
    found, damaged = [], {}
    for path in _texts(place):
        try:
            if has_images(path):
                found.append(path)
        except FerlError as error:
            damaged[path] = error
    kinds = {path.suffix.lower() for path in found or place.iterdir() if not is_leftover(path.name)}
    for path, damage in damaged.items():
        if path.suffix.lower() in SHARDS and (path.suffix.lower() in kinds if found else kinds <= {*SHARDS}):
            raise damage
    return found


def _texts(folder: Path) -> list[Path]:
    """The tables of a folder, the shards in its folders that are splits or called data, and the metadata of splits."""
    files = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIX and not is_leftover(path.name)]
    for below in folder.glob("*/"):
        if below.is_dir() and (below.name == "data" or split_of(below.name)):
            kept = [path for path in below.iterdir() if path.suffix.lower() in SUFFIX]
            alone = len(kept) == 1 and below.name != "data"  # else they may be many, one for each image
            files += [x for x in kept if alone or x.suffix.lower() in SHARDS or x.stem.lower() in METADATA]
    return sorted(path for path in files if path.is_file() and not NO_TABLES.match(path.name))


def _series(table: Path) -> Path:
    """A table without its number among the shards of one."""
    if table.suffix.lower() not in SHARDS:
        return table
    return table.with_name(re.sub(r"[-_.]?\d+([-_]of[-_]\d+([-_][0-9a-f]+)?)?$", "", table.stem) + table.suffix)


def _images_folder(
    root: Path, names: list[str], split: str | None, by_hand: bool
) -> tuple[Path | None, dict[str, str]]:
    """The folder that paths are relative to: a root, a folder in it, or one beside it that has them all.

    What is said by hand is that folder or one in it.

    None if only the last parts of paths are right; then the images below the root, by these.

    Raises:
        FerlError: several folders in the root have such images, and not just one is called after the split of a table.
    """
    below = sorted(path for path in root.glob("*/") if path.is_dir() and not is_leftover(path.name))
    if any(_is_file(_find(root, name)) for name in names):
        return root, {}
    have = [folder for folder in below if any(_is_file(_find(folder, name)) for name in names)]
    if len(own := [folder for folder in have if split and split_of(folder.name) == split]) == 1:
        have = own
    if len(have) > 1:
        raise FerlError(
            f"{root}: images such as {names[0]} are in {' and in '.join(path.name for path in have[:5])}. Write the "
            "folder before the names in the table, say which one is meant by "
            f"--data.images={shlex.quote(str(have[0]))}, or read the folders, not the table, by --data=ImageFolder"
        )
    if have:
        return have[0], {}
    by_name = _by_name(root)
    if any(_named(name, by_name) for name in names):
        return None, by_name
    beside = sorted(path for path in root.absolute().parent.glob("*/") if path.is_dir() and not is_leftover(path.name))
    for folder in () if by_hand else (root.parent, *beside):  # all: another data set there may have a 0.png, too
        if all(_is_file(_find(folder, name)) for name in names):
            return folder, {}
    return None, {}


# Paths of rows are text: they are looked at each time that a table is opened, and Path takes several times as long.


def _path(row: Row, folder: Path, by_name: dict[str, str]) -> str:
    """The image file of a row.

    Raises:
        FerlError: it is outside of its folder.
    """
    name = row.cells["path"]
    path = _find(folder, name)
    if by_name:
        path = _named(path, by_name) or path
    if not _is_inside(path, folder, name):
        raise FerlError(
            f"{row.where}: the image {name[:200]!r} is outside of {folder}: paths in a table are below its folder. "
            "Name the folder that has all images by --data.images=FOLDER"
        )
    return path


def _find(folder: Path, name: str) -> str:
    """The image of a row; its suffix may be left out."""
    path = f"{folder}/{name}"
    if UNUSUAL.search(name):
        path = os.path.normpath(path.replace("\\", "/")).replace(os.sep, "/")
    if not path.lower().endswith(ENDINGS) and not _is_file(path):
        return next((other for suffix in sorted(SUFFIXES) if _is_file(other := f"{path}{suffix}")), path)
    return path


def _is_file(path: str) -> bool:
    return os.path.isfile(path)  # noqa: PTH113


def _is_inside(path: str, folder: Path, name: str) -> bool:
    """Whether a path of a table stays in its folder, links followed."""
    if OUTSIDE.match(name):
        return False
    above, _, last = path.rpartition("/")
    below, links = _links(above, str(folder))
    return _is_below(path, str(folder)) if last in links else below


@lru_cache(maxsize=1024)
def _links(above: str, folder: str) -> tuple[bool, frozenset[str]]:
    """Whether a folder is below another, and the links in it; found in one look, not one for each of its files."""
    try:
        with os.scandir(above) as entries:
            links = frozenset(entry.name for entry in entries if entry.is_symlink())
    except OSError:
        links = frozenset()
    return _is_below(above, folder), links


def _is_below(path: str, folder: str) -> bool:
    return f"{os.path.realpath(path)}/".startswith(f"{os.path.realpath(folder).rstrip(os.sep)}/")


def _by_name(folder: Path) -> dict[str, str]:
    """The images of a folder, at any depth, by names that only one of them has, whatever their case and suffix."""
    found: dict[str, str] = {}
    for path in list_images(folder):
        for name in {path.name.casefold(), path.stem.casefold()}:
            found[name] = "" if name in found else str(path)
    return found


def _named(name: str, by_name: dict[str, str]) -> str:
    path = PureWindowsPath(name)  # which takes both kinds of slash
    return by_name.get(path.name.casefold()) or by_name.get(path.stem.casefold(), "")


def _elsewhere(root: Path, name: str) -> str:
    """What an absolute path begins with before a part that is below a root, if it is of another machine; else empty."""
    if not ABSOLUTE.match(name):
        return ""
    first = name.replace("\\", "/")
    if _is_file(first) and not _is_inside(first, root, first.rpartition("/")[2]):
        return ""  # there is such a file here, and it is another
    for match in re.finditer("/", first):
        if _is_file(_find(root, rest := first[match.end() :])) and not OUTSIDE.match(rest):
            return first[: match.end()]
    return ""


def _box(row: Row, where: str) -> tuple[int, int, int, int] | None:
    corners = "right" in row.cells
    sides = [
        row.cells.get(name, "") for name in ("left", "top", *(("right", "bottom") if corners else ("width", "height")))
    ]
    if not all(sides):
        return None
    try:
        numbers = [strict_number(side) for side in sides]
    except ValueError:
        numbers = []
    if not numbers or max(numbers) <= 1:
        raise FerlError(f"{where}: the face box is {sides}, expected pixels, as whole numbers")
    left, top, right, bottom = map(round, numbers)
    return (left, top, right, bottom) if corners else (left, top, left + right, top + bottom)


def _frame(row: Row, where: str) -> float:
    try:
        return strict_number(row.cells["frame"]) if row.cells.get("sequence") else 0
    except ValueError as error:
        raise FerlError(f"{where}: the frame: {error}. Number the frames of each sequence") from None


def _is_number(text: str) -> bool:
    """Whether a label is a number; what Python also takes for one, such as Arabic digits, is a name."""
    return text.isascii() and text.isdecimal()


def _natural(name: str) -> tuple[int, str]:
    """Sort numbers by value, then names."""
    return (int(name), "") if _is_number(name.removeprefix("-")) else (1 << 62, name)

"""Image files that a table lists with their labels: csv, tsv, or a text file of paths and labels."""

import csv
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from ferlightning.data.sources.files import ImageFiles, Listed, OnBadImage
from ferlightning.data.sources.folder import odd_names
from ferlightning.data.sources.layouts import Layout, choose_layout
from ferlightning.data.sources.names import some, split_of
from ferlightning.emotions import NUMBERINGS, canonical
from ferlightning.errors import FerlError
from ferlightning.images.decode import SUFFIXES, is_leftover, list_images

COLUMNS = {
    "path": ("path", "file", "filename", "filepath", "image", "imagename", "imagepath", "imagefile", "img", "imgname",
             "imgpath", "pth", "subdirectoryfilepath", "picture", "photo"),
    "label": ("label", "labels", "emotion", "expression", "class", "classname", "category", "target", "y"),
    "split": ("split", "usage", "set", "subset", "partition", "phase"),
    "subject": ("subject", "subjectid", "person", "personid", "identity", "actor", "user", "userid", "participant"),
    "left": ("facex",), "top": ("facey",), "width": ("facewidth",), "height": ("faceheight",),
}  # fmt: skip
"""How columns are called, in lower case and without anything but letters."""
SUFFIX = (".csv", ".tsv", ".txt")
LAYOUTS = {"table": "a csv with the columns path and label, perhaps split, subject, in any order, beside the images"}


class Row(NamedTuple):
    """A line of a table, by the names of ``COLUMNS``."""

    line: int
    cells: dict[str, str]


class Table(ImageFiles):
    """Images that a csv lists with their labels; perhaps with a split and a subject, too.

    Columns are found by name, whatever their order and case: path (file, image, ...), label (emotion, expression, ...),
    split (usage, set, ...), subject (person, identity, ...), and AffectNet's face_x, face_y, face_width, face_height.
    Without a header, the first column is the path and the second the label. Cells are parted by comma, semicolon, tab
    or, in a .txt file, a space. Without a column split, files named train.csv, val.csv and test.csv are the splits.

    Args:
        root: the csv, or a folder that has it, or one for each split; null: the environment variable FERL_DATA.
        layout: ``table``, the only one.
        images: the folder that paths are relative to; null: that of the csv, or the one folder in it where they are.
        numbers: what numbers mean as labels: the names from 0 on, or ``FER2013``, ``RAF-DB`` or ``AffectNet`` for those
            of a data set; null: a number is a class of its own.
        size: height and width to which images are resized, pixels.
        color: read RGB instead of grey.
        on_bad_image: what to do with images that are missing or cannot be read: ``raise`` an error that names them, or
            ``skip`` them with a remark in the report.
        options: those of every data set.
    """

    def __init__(
        self,
        root: str | None = None,
        layout: str | None = None,
        images: str | None = None,
        numbers: str | Sequence[str] | None = None,
        size: int = 48,
        color: bool = False,
        on_bad_image: OnBadImage = "raise",
        **options: Any,
    ) -> None:
        super().__init__(root, size, color, on_bad_image, **options)
        if isinstance(numbers, str) and numbers not in NUMBERINGS:
            raise FerlError(f"data.numbers is {numbers!r}: give {', '.join(NUMBERINGS)}, or the names from 0 on")
        first, names = NUMBERINGS[numbers] if isinstance(numbers, str) else (0, tuple(numbers or ()))
        self.numbers = {str(n): canonical(name) for n, name in enumerate(names, first)}
        self.affectnet = numbers == "AffectNet"
        self.place = choose_layout("Table", find, LAYOUTS, root, layout).path
        self.root = self.place if self.place.is_dir() else self.place.parent
        self.images = self.root if images is None else Path(images).expanduser()
        self.folders: set[Path] = set()  # where the images of rows are
        self.label_names = sorted({file.name for file in self.files if file.name is not None}, key=_natural)
        if len(self.label_names) < 2:
            raise FerlError(f"{self.place}: the labels are {self.label_names}, need at least 2 classes")
        self.remarks += odd_names(self.label_names)

    @cached_property
    def tables(self) -> list[Path]:
        """The files that are read: one, or one for each split.

        Raises:
            FerlError: there are several, of which it is not known what each is.
        """
        found = _tables(self.place)
        splits = [split_of(path.stem) for path in found]
        if len(found) > 1 and (None in splits or len(set(splits)) < len(splits)):
            raise FerlError(
                f"{self.place}: several tables list images: {some([path.name for path in found])}. Name them "
                f"train.csv, val.csv and test.csv if they are the splits, or give one by --data.root={found[0]}"
            )
        if self.place.is_dir():
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

    def sources(self) -> list[Path]:
        return [*self.tables, *(file.path for file in self.files if file.path.is_file())]

    def listed(self) -> list[Listed]:
        beside = {path.resolve() for folder in self.folders for path in list_images(folder)}
        if left := sorted(beside - {file.path.resolve() for file in self.files}):
            names = some([os.path.relpath(path, self.root.resolve()) for path in left])
            self.remarks.append(f"{len(left):,} images are in no row and were left out: {names}.")
        return self.files

    @cached_property
    def files(self) -> list[Listed]:
        """The images of all rows.

        Raises:
            FerlError: a row is wrong, or an image has two labels.
        """
        found: dict[Path, tuple[Listed, str]] = {}
        twice = unlabelled = 0
        for table in self.tables:
            own = split_of(table.stem) if len(self.tables) > 1 or not self.place.is_file() else None
            rows = list(read_rows(table))
            if not rows:
                raise FerlError(f"{table}: no rows. Write the table again")
            folder = _images_folder(self.images, [row.cells["path"] for row in rows[:50]])
            if folder != self.root.parent:
                self.folders.add(folder or self.images)
            by_name = _by_name(self.images) if folder is None else {}
            decided = any(row.cells.get("split") for row in rows)
            for row in rows:
                where = f"{table}, line {row.line}"
                split = split_of(row.cells.get("split", "")) if decided else own
                if decided and split is None:
                    raise FerlError(
                        f"{where}: the split is {row.cells.get('split', '')!r}, expected train, validation or test"
                    )
                label = row.cells.get("label", "")
                if re.fullmatch(r"\d+\.0*", label):
                    label = label.partition(".")[0]
                if self.affectnet and label in ("8", "9", "10"):  # none, uncertain, no face
                    label = ""
                if self.numbers and label.isdecimal() and str(int(label)) not in self.numbers:
                    raise FerlError(f"{where}: the label is {label}, data.numbers has {', '.join(self.numbers)}")
                name = self.numbers.get(str(int(label)), label) if label.isdecimal() else canonical(label)
                unlabelled += not name
                path = by_name.get(Path(row.cells["path"]).name) or _find(folder or self.images, row.cells["path"])
                file = Listed(path, name or None, split, row.cells.get("subject", ""), _box(row, where))
                before, there = found.setdefault(path, (file, where))
                if there != where:
                    twice += 1
                    if before != file:
                        raise FerlError(f"{where}: {row.cells['path']} is also in {there}, otherwise. Remove one")
        splits = Counter(file.split is None for file, _ in found.values())
        if len(splits) > 1:
            raise FerlError(
                f"{self.place}: {', '.join(path.name for path in self.tables)}: some are splits and some are not. Name "
                "each after a split, or give one by --data.root"
            )
        if twice:
            self.remarks.append(f"{twice:,} rows are there twice, and count once.")
        if unlabelled:
            self.remarks.append(f"{unlabelled:,} rows have no label.")
        return [file for file, _ in found.values()]


def find(path: Path) -> list[Layout]:
    """Find tables of images in a folder, or that of one file."""
    if not _tables(path):
        return []
    claims = frozenset(entry.name for entry in path.iterdir()) if path.is_dir() else frozenset[str]()
    root = str(path)
    return [Layout("table", path, lambda: Table(root).sources(), lambda: Table(root).read(), claims=claims)]


def _tables(place: Path) -> list[Path]:
    """The tables of images at a place."""
    if place.is_file():
        return [place] if place.suffix.lower() in SUFFIX and _header(place) else []
    return [path for path in _texts(place) if _header(path)]


def _texts(folder: Path) -> list[Path]:
    files = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIX and not is_leftover(path.name)]
    return sorted(path for path in files if path.is_file() and path.stem.lower() != "readme")


def _lines(path: Path, most: int | None = None) -> list[str]:
    """The lines of a text file in UTF-8, UTF-16 or Latin-1."""
    with path.open("rb") as file:
        content = file.read() if most is None else file.read(most)
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:  # at the end of what was read, a letter may be cut
        cut = most is not None and error.start > len(content) - 4
        text = content.decode(encoding, "ignore") if cut else content.decode("latin-1")
    return text.splitlines()


def _header(path: Path) -> tuple[str, dict[str, int], bool] | None:
    """The delimiter, the number of each column of ``COLUMNS``, and whether the first line names them; None if none."""
    lines = [line for line in _lines(path, 10_000) if line.strip()]
    if not lines:
        return None
    delimiters = ",;\t| " if path.suffix.lower() == ".txt" else ",;\t|"
    delimiter = max(delimiters, key=lines[0].count)
    cells = next(csv.reader(lines[:1], delimiter=delimiter))
    columns: dict[str, int] = {}
    for number, cell in enumerate(cells):
        word = re.sub(r"[\W\d_]", "", cell).lower()
        kind = next((kind for kind, names in COLUMNS.items() if word in names), None)
        if kind is not None:
            columns.setdefault(kind, number)
    if "path" in columns:
        return (delimiter, columns, True) if "label" in columns else None
    if Path(cells[0]).suffix.lower() in SUFFIXES and len(cells) == 2:
        return delimiter, {"path": 0, "label": 1}, False
    return None


def read_rows(path: Path) -> Iterator[Row]:
    """Read a table of images.

    Raises:
        FerlError: a line has too few cells.
    """
    form = _header(path)
    assert form is not None
    delimiter, columns, named = form
    reader = csv.reader(_lines(path), delimiter=delimiter, skipinitialspace=True)
    for cells in islice(reader, int(named), None):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) <= max(columns["path"], columns["label"]) or not cells[columns["path"]].strip():
            raise FerlError(f"{path}, line {reader.line_num}: expected a path and a label, found {cells!r}")
        yield Row(reader.line_num, {kind: cells[n].strip() for kind, n in columns.items() if n < len(cells)})


def _images_folder(root: Path, names: list[str]) -> Path | None:
    """The folder that paths are relative to: a root, or the first folder in it, or beside it, that has one of them."""
    below = sorted(path for path in root.glob("*/") if path.is_dir() and not is_leftover(path.name))
    beside = sorted(path for path in root.absolute().parent.glob("*/") if path.is_dir() and not is_leftover(path.name))
    folders = (root, *below, root.parent, *beside)
    return next((folder for folder in folders if any(_find(folder, name).is_file() for name in names)), None)


def _find(folder: Path, name: str) -> Path:
    """The image of a row; its suffix may be left out."""
    path = folder / name.replace("\\", "/")
    if path.suffix.lower() not in SUFFIXES and not path.is_file():
        return next((other for suffix in sorted(SUFFIXES) if (other := Path(f"{path}{suffix}")).is_file()), path)
    return path


def _by_name(folder: Path) -> dict[str, Path]:
    """The images of a folder, at any depth, by names that only one of them has."""
    images = list_images(folder)
    counts = Counter(path.name for path in images)
    return {path.name: path for path in images if counts[path.name] == 1}


def _box(row: Row, where: str) -> tuple[int, int, int, int] | None:
    sides = [row.cells.get(name, "") for name in ("left", "top", "width", "height")]
    if not all(sides):
        return None
    try:
        left, top, width, height = (round(float(side)) for side in sides)
    except ValueError:
        raise FerlError(f"{where}: the face box is {sides}, expected numbers") from None
    return left, top, left + width, top + height


def _natural(name: str) -> tuple[int, str]:
    """Sort numbers by value, then names."""
    return (int(name), "") if name.isdecimal() else (1 << 62, name)

"""Faces in boxes, as YOLO has them: a text beside each image, with a class and a box a line."""

import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ferlightning import bounded_yaml
from ferlightning.data.sources.files import ImageFiles, Listed
from ferlightning.data.sources.folder import odd_names
from ferlightning.data.sources.layouts import Layout, choose_layout
from ferlightning.data.sources.names import some, split_of, strict_number
from ferlightning.emotions import canonical, spelled
from ferlightning.errors import FerlError
from ferlightning.images.decode import Box, image_names, image_size, is_leftover

LAYOUTS = {
    "yolo": "data.yaml with names, and images/train/a.jpg with labels/train/a.txt, or train/images/a.jpg with "
    "train/labels/a.txt; each line of a text is a class and a box: its centre, width and height as shares"
}
NAMES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
CLASSES = "classes.txt"
"""The names one a line, as labelImg and Label Studio write them; labelImg puts it among the labels."""
ROUNDED = 1.01
"""The most that a share may be: programs round."""


class YOLO(ImageFiles):
    """Faces in boxes with YOLO's texts: ``class x y width height`` a line, the box as shares of the image.

    Splits are folders, in ``images`` and ``labels`` or above them; without any, they are drawn. The names of the
    classes are those of ``names`` in ``data.yaml``, or of ``classes.txt``. An image may have several faces; one without
    a text, or with an empty one, has none and is left out.

    Args:
        root: the folder that has ``images`` and ``labels``, or the splits; null: the environment variable FERL_DATA.
        layout: ``yolo``, the only one.
        options: those of every data set of image files.
    """

    def __init__(self, root: str | None = None, layout: str | None = None, **options: Any) -> None:
        super().__init__(root, **options)
        self.root = choose_layout("YOLO", find, LAYOUTS, root, layout).path
        self.parts = _parts(self.root)
        _refuse_odd(self.parts)
        self.file = _names_file(self.root)
        if self.file is None:
            raise FerlError(
                f"{self.root}: the texts have numbers, and no file says what they mean. Write {self.root / NAMES[0]} "
                "with the line names: [anger, disgust, ...], in the order of the numbers"
            )
        self.numbers = _read_names(self.file)
        """The class of each number, as written."""
        self.label_names = list(dict.fromkeys(map(canonical, self.numbers.values())))
        self.spelling = {canonical(name): spelled(name) for name in self.numbers.values() if canonical(name) != name}
        if len(self.label_names) < 2:
            raise FerlError(
                f"{self.file}: the only class is {self.label_names[0]}: the boxes say where faces are, and not what "
                "they express. Need at least 2 classes"
            )
        self.remarks += odd_names(self)

    def sources(self) -> list[Path | str]:
        assert self.file is not None
        return [self.file, *(path for part in self.parts for path in (*part.images(), *part.texts()))]

    def listed(self) -> list[Listed]:
        return self.files

    @cached_property
    def files(self) -> list[Listed]:
        """The faces of all images.

        Raises:
            FerlError: a line is wrong, or a box has two classes.
        """
        files: list[Listed] = []
        without, twice = [], 0
        for part in self.parts:
            texts = part.texts()
            names = {os.path.splitext(path)[0] for path in texts}  # noqa: PTH122 - of many files
            for path in part.images():
                text = part.text_of(path)
                faces: dict[Box, tuple[str, int]] = {}
                size = None
                names.discard(os.path.splitext(text)[0])  # noqa: PTH122
                for line, number, shares in _read_text(text) if os.path.isfile(text) else ():  # noqa: PTH113
                    if number not in self.numbers:
                        raise FerlError(
                            f"{text}, line {line}: the class is {number}; {self.file} has names for "
                            f"{', '.join(map(str, self.numbers))}"
                        )
                    size = size or _size(path)
                    box = _pixels(shares, *size)
                    name, first = faces.setdefault(box, (canonical(self.numbers[number]), line))
                    if name != canonical(self.numbers[number]):
                        raise FerlError(
                            f"{text}, line {line}: the box is that of line {first}, otherwise {name}. Remove one"
                        )
                    twice += first != line
                files += [Listed(path, name, part.split, box=box) for box, (name, _) in faces.items()]
                if not faces:
                    without.append(os.path.relpath(path, self.root))
            # Reading them says that they are missing.
            files += [Listed(f"{part.image_of(name)}.jpg", None, part.split) for name in sorted(names)]
        if without:
            self.remarks.append(
                f"{len(without):,} images have no box, by an empty text or none, and were left out: {some(without)}."
            )
        if twice:
            self.remarks.append(f"{twice:,} lines are there twice, and count once.")
        self.remarks.append("Of each image, the part in a box is read.")
        return files


class Part(NamedTuple):
    """The images and texts of one split."""

    split: str | None
    image_folder: Path
    text_folder: Path

    def images(self) -> list[str]:
        return image_names(self.image_folder)

    def texts(self) -> list[str]:
        others: list[str] = []
        image_names(self.text_folder, others)
        return [path for path in others if path.endswith(".txt") and os.path.basename(path) != CLASSES]  # noqa: PTH119

    def text_of(self, image: str) -> str:
        """The text of an image."""
        return f"{self.text_folder}{os.path.splitext(image)[0].removeprefix(str(self.image_folder))}.txt"  # noqa: PTH122

    def image_of(self, text: str) -> str:
        """The image of a text, both without suffix."""
        return f"{self.image_folder}{text.removeprefix(str(self.text_folder))}"


def find(path: Path) -> list[Layout]:
    """Find YOLO's folders: images, and beside them labels, of which one is a text called like an image."""
    parts = _parts(path) if path.is_dir() else []
    if not any(os.path.isfile(part.text_of(image)) for part in parts for image in part.images()):  # noqa: PTH113
        return []
    if parts[0].image_folder.parent != path and not any(part.split for part in parts) and _names_file(path) is None:
        return []  # several data sets, each in a folder
    claims = frozenset(entry.name for entry in path.iterdir())
    root = str(path)
    return [Layout("yolo", path, lambda: YOLO(root).sources(), lambda: YOLO(root).read(), claims=claims)]


def _parts(root: Path) -> list[Part]:
    """The images with their texts, by split: in ``images`` and ``labels``, or above them."""
    images, labels = root / "images", root / "labels"
    if not (images.is_dir() and labels.is_dir()):
        folders = [folder for folder in _folders(root) if (folder / "images").is_dir()]
        return [Part(split_of(folder.name), folder / "images", folder / "labels") for folder in folders]
    folders = _folders(images)
    if not any(split_of(folder.name) for folder in folders):
        return [Part(None, images, labels)]
    return [Part(split_of(folder.name), folder, labels / folder.name) for folder in folders]


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not is_leftover(path.name))


def _refuse_odd(parts: list[Part]) -> None:
    """Refuse folders of images that are the same split, or none beside others that are."""
    splits: dict[str | None, Path] = {}
    for part in parts if any(part.split for part in parts) else ():
        if part.split is None:
            raise FerlError(f"{part.image_folder}: is named after no split, as others beside it are. Move or rename it")
        if (other := splits.setdefault(part.split, part.image_folder)) != part.image_folder:
            raise FerlError(f"{part.image_folder} and {other} are both named after {part.split}. Merge or move one")


def _names_file(root: Path) -> Path | None:
    """The file that has the names of the classes; in the folder above, where a root is one split."""
    for folder in (root, root.parent):
        for path in [*(folder / name for name in NAMES), *sorted(folder.glob("*.y*ml"))]:
            if path.is_file() and "names" in _yaml(path):
                return path
        for path in (folder / CLASSES, folder / "labels" / CLASSES):
            if path.is_file():
                return path
    return None


def _yaml(path: Path) -> dict[str, Any]:
    try:
        found = bounded_yaml.load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, OverflowError, UnicodeDecodeError) as error:
        raise FerlError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    return found if isinstance(found, dict) else {}


def _read_names(path: Path) -> dict[int, str]:
    if path.name == CLASSES:
        lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
        names: Any = [line for line in lines if line.strip()]
    else:
        names = _yaml(path)["names"]
    found = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(found, dict) or not found or not all(isinstance(n, int) for n in found):
        raise FerlError(f"{path}: names is {str(names)[:80]}, expected a list of the classes, or {{0: anger, ...}}")
    return {number: str(name) for number, name in found.items()}


def _read_text(path: str) -> Iterator[tuple[int, int, list[float]]]:
    """Line, number of the class, and centre, width and height as shares, of each box.

    Raises:
        FerlError: a line is none of a box.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise FerlError(f"{path}: cannot be read: {error.strerror}; replace or remove it") from None
    for line, words in enumerate(map(str.split, text.splitlines()), 1):
        if not words:
            continue
        where = f"{path}, line {line}"
        if len(words) > 5:
            raise FerlError(
                f"{where}: has {len(words)} numbers, as of a segmentation, a pose or a prediction; expected 5: class, "
                "and x, y, width and height of a box. Export the annotations as boxes"
            )
        try:
            number, *shares = [strict_number(word) for word in words]
        except ValueError as error:
            raise FerlError(f"{where}: {error}; expected class, x, y, width and height") from None
        if (
            len(shares) != 4
            or number != int(number)
            or not (min(shares) >= 0 and min(shares[2:]) > 0 and max(shares) <= ROUNDED)
        ):
            raise FerlError(
                f"{where}: found {' '.join(words)[:80]!r}, expected a whole number and a box as shares from 0 to 1, "
                "such as '3 0.5 0.5 0.2 0.3'"
            )
        yield line, int(number), shares


def _pixels(shares: list[float], width: int, height: int) -> Box:
    """The box in pixels, at least one wide and high."""
    x, y, w, h = shares
    left, top, right, bottom = (
        round(edge) for edge in ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
    )
    return left, top, max(right, left + 1), max(bottom, top + 1)


def _size(path: str) -> tuple[int, int]:
    """Width and height of an image; any of one that cannot be read, which reading it tells."""
    try:
        return image_size(path)
    except FerlError:
        return 1, 1

"""RAF-DB (Li et al. 2017, https://doi.org/10.1109/CVPR.2017.277) as it is delivered."""

import re
from pathlib import Path
from typing import Any

from ferlightning.data.sources.files import ImageFiles, Listed
from ferlightning.data.sources.layouts import Layout, choose_layout
from ferlightning.data.sources.names import split_of
from ferlightning.emotions import NUMBERINGS, canonical
from ferlightning.errors import FerlError
from ferlightning.images.decode import list_images

LISTS = ("list_patition_label.txt", "list_partition_label.txt")
"""The first is how its authors spell it."""
CLASSES = {
    "basic": list(NUMBERINGS["RAF-DB"][1]),
    "compound": [
        "happily surprised", "happily disgusted", "sadly fearful", "sadly angry", "sadly surprised", "sadly disgusted",
        "fearfully angry", "fearfully surprised", "angrily surprised", "angrily disgusted", "disgustedly surprised",
    ],
}  # fmt: skip
LAYOUTS = {
    name: f"{name}/EmoLabel/{LISTS[0]} and {name}/Image/aligned/train_00001_aligned.jpg"
    for name in ("basic", "compound")
}


class RAFDB(ImageFiles):
    """RAF-DB, aligned faces of 100x100 in colour: 7 basic expressions, 12,271 for training and 3,068 for test.

    It has no validation split of its own: a part of training becomes one.

    Args:
        root: the folder that has ``basic``, or this folder itself; null: the environment variable FERL_DATA.
        layout: ``basic``, or ``compound`` for the 11 compound expressions; null: the first of these that is there.
        size: height and width to which images are resized, pixels.
        color: read RGB instead of grey.
        options: those of every data set of image files.
    """

    def __init__(
        self,
        root: str | None = None,
        layout: str | None = None,
        size: int = 100,
        color: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(root, size, color, **options)
        self.layout = choose_layout("RAF-DB", find, LAYOUTS, root, layout)
        self.root = self.layout.path
        self.label_names = CLASSES[self.layout.name]

    def sources(self) -> list[Path]:
        return [_labels(self.root), *_images(self.root).values()]  # type: ignore[list-item]

    def listed(self) -> list[Listed]:
        labels, images = _labels(self.root), _images(self.root)
        assert labels is not None
        files: list[Listed] = []
        first: dict[str, int] = {}  # lines by image
        for line, text in enumerate(labels.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1):
            if not (words := text.replace(",", " ").split()):
                continue
            number = int(words[-1]) if re.fullmatch("[0-9]{1,2}", words[-1]) else 0
            split = split_of(words[0].partition("_")[0])
            if len(words) != 2 or split is None or not 1 <= number <= len(self.label_names):
                raise FerlError(
                    f"{labels}, line {line}: found {text[:80]!r}, expected a file and a number from 1 to "
                    f"{len(self.label_names)}, such as 'train_00001.jpg 5'. Fetch the file again"
                )
            stem = Path(words[0]).stem.removesuffix("_aligned")
            if first.setdefault(stem, line) != line:
                raise FerlError(f"{labels}, line {line}: {words[0]} is also in line {first[stem]}. Remove one")
            path = images.pop(stem, self.root / "Image" / "aligned" / f"{stem}_aligned.jpg")
            files.append(Listed(str(path), self.label_names[number - 1], split))
        if images:
            self.remarks.append(f"{len(images):,} images are not in {labels.name} and were left out.")
        return files


def find(path: Path) -> list[Layout]:
    """Find RAF-DB in a folder: the folder of its expressions, or the one above."""
    if not path.is_dir():
        return []
    found = []
    for name, folder in [("basic", path / "basic"), ("compound", path / "compound"), (_kind(path), path)]:
        if _labels(folder) is not None:
            claims = frozenset([name]) if folder != path else frozenset(entry.name for entry in path.iterdir())
            found.append(Layout(name, folder, *_open(folder, name), claims=claims))
    return found


def _open(folder: Path, name: str) -> tuple[Any, Any]:
    return (lambda: RAFDB(str(folder), name).sources()), (lambda: RAFDB(str(folder), name).read())


def _kind(folder: Path) -> str:
    """Which expressions a folder with a list has, by its name."""
    return "compound" if "compound" in canonical(folder.name) else "basic"


def _labels(folder: Path) -> Path | None:
    """The list of labels in a folder."""
    places = [folder / below / name for below in ("EmoLabel", ".") for name in LISTS]
    return next((path for path in places if path.is_file()), None)


def _images(folder: Path) -> dict[str, Path]:
    """The images by their names in the list; aligned ones where there are any.

    Raises:
        FerlError: there are none.
    """
    for below in ("Image/aligned", "aligned", "Image/original", "original", "Image", "."):
        if (folder / below).is_dir() and (images := list_images(folder / below)):
            return {path.stem.removesuffix("_aligned"): path for path in images}
    raise FerlError(f"{folder}: no images in Image/aligned. Unpack Image/aligned.zip of RAF-DB there")

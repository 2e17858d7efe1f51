"""A user's own faces: a folder of images, one sub-folder a class."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ferlightning.data.datamodule import FaceData
from ferlightning.data.sources.layouts import Layout
from ferlightning.data.store import SPLITS, UNDECIDED, Store
from ferlightning.emotions import canonical
from ferlightning.errors import FerlError
from ferlightning.images.decode import SUFFIXES, list_images, read_image

SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}


class Listed(NamedTuple):
    """An image file with its class and split."""

    path: Path
    name: str
    """Canonical name of its class."""
    split: str | None


class ImageFolder(FaceData):
    """Images in ``<root>/<class>/`` or ``<root>/<train|val|test>/<class>/``; folder names are the class names.

    Known aliases become the names of the vocabulary (``happy`` becomes ``happiness``). Without split folders, items are
    split 70 / 15 / 15 %; without a validation folder, a part of train becomes validation.

    Args:
        root: the folder.
        size: height and width to which images are resized, pixels.
        color: read RGB instead of grey.
        options: those of every data set.
    """

    def __init__(self, root: str, size: int = 48, color: bool = False, **options: Any) -> None:
        super().__init__(**options)
        if size < 1:
            raise FerlError(f"data.size is {size}: give a number of pixels from 1")
        self.root = Path(root).expanduser()
        self.size = size
        self.color = color
        self.files = list_classes(self.root)
        self.label_names = sorted({file.name for file in self.files})

    def read(self) -> Store:
        layout = Layout("folder", self.root, lambda: [file.path for file in self.files], self._parse, 3)
        return layout.open("ImageFolder", size=self.size, color=self.color)

    def _parse(self) -> Store:
        return read_listed(self.root, self.files, self.label_names, self.size, self.color)


def list_classes(root: Path) -> list[Listed]:
    """List the images in a folder of classes, or of split folders with classes.

    Raises:
        FerlError: there is no such folder, there are fewer than two classes, a class is empty, or there are other
            folders beside the splits.
    """
    if not root.is_dir():
        raise FerlError(f"data.root: there is no folder {root}")
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    splits = {path: SPLIT_FOLDERS.get(path.name.lower()) for path in folders}
    if any(splits.values()) and not all(splits.values()):
        other = [path.name for path, split in splits.items() if split is None]
        raise FerlError(
            f"{root}: has split folders (train, val, test) and others beside them: {other}. Move the others"
        )
    if not any(splits.values()):
        return _list_images(root, dict.fromkeys(folders))
    inside = {path: split for folder, split in splits.items() for path in sorted(folder.iterdir())}
    classes = {path: split for path, split in inside.items() if path.is_dir() and not path.name.startswith(".")}
    return _list_images(root, classes)


def _list_images(root: Path, classes: dict[Path, str | None]) -> list[Listed]:
    names = {canonical(path.name) for path in classes}
    if len(names) < 2:
        raise FerlError(
            f"{root}: found {len(names)} class folders, need at least 2, such as {root}/happiness/*.png or "
            f"{root}/train/happiness/*.png"
        )
    files = []
    for folder, split in classes.items():
        images = list_images(folder)
        if not images:
            raise FerlError(
                f"{folder}: no images in this class folder; add some ({', '.join(sorted(SUFFIXES))}), or remove it"
            )
        files += [Listed(path, canonical(folder.name), split) for path in images]
    return files


def read_listed(root: Path, files: list[Listed], label_names: list[str], size: int, color: bool) -> Store:
    """Decode the images that ``list_classes`` found.

    Args:
        root: the folder that the names of items are relative to.
        files: the images.
        label_names: the classes; a label is an index into them.
        size: height and width to which images are resized, pixels.
        color: read RGB instead of grey.
    """
    return Store.of(
        images=np.stack([read_image(file.path, size, color) for file in files]),
        label=np.array([label_names.index(file.name) for file in files], np.int64),
        split=np.array([SPLITS.index(file.split) if file.split else UNDECIDED for file in files], np.int8),
        name=np.array([str(file.path.relative_to(root)) for file in files]),
    )

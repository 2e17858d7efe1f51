"""A user's own faces: a folder of images, one sub-folder a class."""

from pathlib import Path
from typing import Any

import numpy as np

from ferlightning.data.base import FaceData
from ferlightning.data.images import SUFFIXES, list_images, read_image
from ferlightning.data.store import SPLITS, UNDECIDED, Store, open_store
from ferlightning.emotions import canonical
from ferlightning.errors import FerlError

SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}


class ImageFolder(FaceData):
    """Images in ``<root>/<class>/`` or ``<root>/<train|val|test>/<class>/``; folder names are the class names.

    Known aliases are turned into the vocabulary's names (``happy`` into ``happiness``). Without split folders the items
    are split 70 / 15 / 15 %; without a validation folder a part of train becomes validation.

    Args:
        root: the folder.
        size: height and width to which images are resized, pixels.
        color: read RGB instead of grey.
        options: those of every data set.
    """

    def __init__(self, root: str, size: int = 48, color: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.root = Path(root)
        self.size = size
        self.color = color
        self.files, self.class_names = self._list()

    def _list(self) -> tuple[list[tuple[Path, str, str | None]], list[str]]:
        """(file, class, split) of every image, and the sorted class names."""
        if not self.root.is_dir():
            raise FerlError(f"data.root: there is no folder {self.root}")
        folders = sorted(path for path in self.root.iterdir() if path.is_dir() and not path.name.startswith("."))
        splits = {path: SPLIT_FOLDERS.get(path.name.lower()) for path in folders}
        if any(splits.values()) and not all(splits.values()):
            other = [path.name for path, split in splits.items() if split is None]
            raise FerlError(
                f"{self.root}: has split folders (train, val, test) and others beside them: {other}. Move these"
            )
        classes: dict[Path, str | None] = {path: None for path in folders}
        if any(splits.values()):
            classes = {
                path: split
                for folder, split in splits.items()
                for path in sorted(folder.iterdir())
                if path.is_dir() and not path.name.startswith(".")
            }
        names = sorted({canonical(path.name) for path in classes})
        if len(names) < 2:
            raise FerlError(
                f"{self.root}: found {len(names)} class folders, need at least 2, as {self.root}/happiness/*.png or "
                f"{self.root}/train/happiness/*.png"
            )
        files = []
        for folder, split in classes.items():
            images = list_images(folder)
            if not images:
                raise FerlError(
                    f"{folder}: no images in this class folder; add some ({', '.join(sorted(SUFFIXES))}), or remove it"
                )
            files += [(path, canonical(folder.name), split) for path in images]
        return files, names

    def read(self) -> Store:
        listing = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path, _, _ in self.files]
        key = {"reader": "folder 2", "size": self.size, "color": self.color, "files": listing}
        return open_store(key, self._parse)

    def _parse(self) -> Store:
        images = np.stack([read_image(path, self.size, self.color) for path, _, _ in self.files])
        label = np.array([self.class_names.index(name) for _, name, _ in self.files], np.int64)
        split = np.array([SPLITS.index(split) if split else UNDECIDED for _, _, split in self.files], np.int8)
        names = np.array([str(path.relative_to(self.root)) for path, _, _ in self.files])
        return Store.of_stills(images, label, split, names)

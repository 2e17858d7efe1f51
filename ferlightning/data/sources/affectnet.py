"""AffectNet (Mollahosseini et al. 2017, https://arxiv.org/abs/1708.03985) as it is delivered."""

from pathlib import Path
from typing import Any

import numpy as np

from ferlightning.data.sources.files import ImageFiles, Listed
from ferlightning.data.sources.folder import Folders
from ferlightning.data.sources.layouts import Layout, choose_layout
from ferlightning.data.sources.names import some, strict_number
from ferlightning.emotions import NUMBERINGS
from ferlightning.errors import FerlError
from ferlightning.images.decode import list_images

CLASSES = list(NUMBERINGS["AffectNet"][1])
WITHOUT = ("none", "uncertain", "no face")  # 8 to 10
LAYOUTS = {"annotations": "train_set/images/0.jpg and train_set/annotations/0_exp.npy, and val_set/ alike"}


class AffectNet(ImageFiles):
    """AffectNet's train_set and val_set, 8 classes; for 7, leave contempt out by ``classes``.

    Its test set is not public: results are on val_set, which is also validated on.

    Args:
        root: the folder that has ``train_set`` and ``val_set``; null: the environment variable FERL_DATA.
        layout: ``annotations``, the only one.
        size: height and width to which images are resized, pixels; they are 224 as delivered.
        color: read RGB instead of grey.
        options: those of every data set of image files.
    """

    label_names = CLASSES

    def __init__(
        self,
        root: str | None = None,
        layout: str | None = None,
        size: int = 112,
        color: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(root, size, color, **options)
        self.layout = choose_layout("AffectNet", find, LAYOUTS, root, layout)
        self.root = self.layout.path

    def sources(self) -> list[Path]:
        return [
            path
            for folder in Folders.of(self.root).splits
            for path in (*list_images(folder / "images"), *sorted((folder / "annotations").glob("*_exp.npy")))
        ]

    def listed(self) -> list[Listed]:
        inside = Folders.of(self.root)
        self.remarks += inside.remarks
        files, without, other = [], [], 0
        for folder, split in inside.splits.items():
            images = list_images(folder / "images")
            if not images:
                raise FerlError(f"{folder / 'images'}: no images there. Unpack {folder.name} of AffectNet again")
            annotated = {*(folder / "annotations").glob("*_exp.npy")}
            for path in images:
                labels = folder / "annotations" / f"{path.stem}_exp.npy"
                if labels not in annotated:
                    without.append(str(path.relative_to(self.root)))
                    continue
                annotated.remove(labels)
                number = _read_number(labels)
                other += number >= len(CLASSES)
                files.append(Listed(str(path), CLASSES[number] if number < len(CLASSES) else None, split))
            for labels in sorted(annotated):  # reading them says that they are missing
                missing = folder / "images" / f"{labels.name.removesuffix('_exp.npy')}.jpg"
                files.append(Listed(str(missing), None, split))
        if without:
            self.remarks.append(f"{len(without):,} images have no *_exp.npy and were left out: {some(without)}.")
        if other:
            self.remarks.append(f"{other:,} images are labelled {', '.join(WITHOUT)}, and have no class.")
        return files


def _read_number(path: Path) -> int:
    try:
        label = int(strict_number(np.load(path, allow_pickle=False).astype(str).item()))
    except (ValueError, OSError, EOFError, MemoryError):  # the last: of a shape that no memory has
        label = -1
    if not 0 <= label < len(CLASSES) + len(WITHOUT):
        raise FerlError(f"{path}: no number from 0 to {len(CLASSES) + len(WITHOUT) - 1}. Fetch the file again")
    return label


def find(path: Path) -> list[Layout]:
    """Find AffectNet in a folder: split folders that have images and annotations."""
    if not path.is_dir() or next(path.glob("*/annotations/*_exp.npy"), None) is None:
        return []
    claims = frozenset(folder.name for folder in path.iterdir())
    root = str(path)
    return [
        Layout("annotations", path, lambda: AffectNet(root).sources(), lambda: AffectNet(root).read(), claims=claims)
    ]

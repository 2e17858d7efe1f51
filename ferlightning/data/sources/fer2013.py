"""FER2013 (Goodfellow et al. 2013, https://arxiv.org/abs/1307.0414), in every layout in use."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from ferlightning.data.datamodule import FaceData, Split
from ferlightning.data.sources import pixel_csv
from ferlightning.data.sources.folder import SPLIT_FOLDERS, Listed, read_listed
from ferlightning.data.sources.layouts import Layout, choose_layout
from ferlightning.data.sources.pixel_csv import read_pixel_csv
from ferlightning.data.store import SPLITS, UNLABELLED, Store
from ferlightning.emotions import canonical
from ferlightning.errors import FerlError
from ferlightning.images.decode import list_images

CLASSES = ["anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"]
SIDE = 48
LAYOUTS = {
    "csv": "fer2013.csv with the columns emotion,pixels,Usage",
    "icml": "icml_face_data.csv with the columns emotion, Usage, pixels",
    "challenge": "train.csv with the columns emotion,pixels, and test.csv with pixels",
    "folders": "train/<emotion>/ and test/<emotion>/, perhaps validation/<emotion>/",
}
USAGES = {name.decode(): SPLITS[split] for name, split in pixel_csv.USAGES.items()}
NAMED_BY_USAGE = re.compile(r"(Training|PublicTest|PrivateTest)_(\d+)")


class FER2013(FaceData):
    """FER2013, 48x48 grey, 7 classes: Training / PublicTest / PrivateTest as train / validation / test.

    Folders whose files are named by usage (``PublicTest_123.jpg``), such as Kaggle's, have the official splits too.

    Args:
        root: a folder with the data, or the folder above it, or the csv itself; null: the environment variable
            FERL_DATA.
        layout: ``csv``, ``icml``, ``challenge`` or ``folders``; null: the first of these that is there.
        options: those of every data set.
    """

    label_names = CLASSES

    def __init__(self, root: str | None = None, layout: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.root = root
        self.layout = layout

    def read(self) -> Store:
        return choose_layout("FER2013", find, LAYOUTS, self.root, self.layout).open("FER2013")

    def notes(self, split: Split) -> list[str]:
        found = super().notes(split)
        if split == "test" and self.items["test"] is self.items["val"]:
            official = (self.raw.split == SPLITS.index("val")).any()
            what = "no PrivateTest images" if official else "no labelled test images"
            source = "PublicTest" if official else "a part of Training"
            found.append(f"The data has {what}: the results on test are those on {source}.")
        return found


def find(path: Path) -> list[Layout]:
    """Find the layouts of FER2013 in a folder, or that of a csv."""
    if path.is_file():
        return [_csv("icml" if path.name == "icml_face_data.csv" else "csv", path)] if path.suffix == ".csv" else []
    found = []
    for name, file in (("csv", path / "fer2013.csv"), ("icml", path / "icml_face_data.csv")):
        if file.is_file():
            found.append(_csv(name, file))
    if (path / "train.csv").is_file() and _first_line(path / "train.csv") == "emotion,pixels":
        files = [file for file in (path / "train.csv", path / "test.csv") if file.is_file()]
        found.append(Layout("challenge", path, lambda: files, lambda: _read_challenge(files)))
    classes = _class_folders(path)
    if all({canonical(part.name) for part in parts} == set(CLASSES) for parts in classes.values()) and classes:
        found.append(Layout("folders", path, lambda: [x.path for x in _list(path)], lambda: _read_folders(path)))
    return found


def _csv(name: str, path: Path) -> Layout:
    return Layout(name, path, lambda: [path], lambda: _read_csv(path), 2)


def _first_line(path: Path) -> str:
    with path.open("rb") as file:
        return file.readline(200).decode(errors="replace").strip().replace('"', "")


def _read_csv(path: Path) -> Store:
    table = read_pixel_csv(path)
    names = np.array([f"row {i}" for i in range(1, len(table.label) + 1)])
    return Store.of(table.images, table.label, table.split, names)


def _read_challenge(files: list[Path]) -> Store:
    """Read ``train.csv``, and ``test.csv`` if it is there, whose images have no labels."""
    stores = [_read_csv(path) for path in files]
    remarks = [
        f"The {len(store):,} images of {path.name} have no labels: they can be predicted, not tested on."
        for path, store in zip(files, stores, strict=True)
        if (store.label == UNLABELLED).all()
    ]
    return Store.of(
        np.concatenate([store.images for store in stores]),
        np.concatenate([store.label for store in stores]),
        np.repeat(np.array([SPLITS.index("train"), SPLITS.index("test")], np.int8)[: len(stores)], [*map(len, stores)]),
        np.array([f"{path.name} {name}" for path, store in zip(files, stores, strict=True) for name in store.name]),
        remarks=remarks,
    )


def _class_folders(root: Path) -> dict[str, list[Path]]:
    """Map each split to its class folders, for the split folders in a folder."""
    found: dict[str, list[Path]] = {}
    for path in sorted(path for path in root.iterdir() if path.is_dir() and path.name.lower() in SPLIT_FOLDERS):
        parts = sorted(part for part in path.iterdir() if part.is_dir() and part.name[0] != ".")
        found.setdefault(SPLIT_FOLDERS[path.name.lower()], []).extend(parts)
    return found


def _list(root: Path) -> list[Listed]:
    return [
        Listed(path, canonical(part.name), split)
        for split, parts in _class_folders(root).items()
        for part in parts
        for path in list_images(part)
    ]


def _read_folders(root: Path) -> Store:
    listed = _list(root)
    there = {(file.split, file.name) for file in listed}
    empty = [(split, name) for split in _class_folders(root) for name in CLASSES if (split, name) not in there]
    if missing := [name for split, name in empty if split == "train"]:
        raise FerlError(f"{root}: there is no training image of {', '.join(missing)}. Unpack the data again")
    remarks = [f"There is no image of {name} in {split}." for split, name in empty]
    usages = [match and USAGES[match[1]] for match in (NAMED_BY_USAGE.match(file.path.name) for file in listed)]
    if all(usages):
        moved = Counter((file.split, usage) for file, usage in zip(listed, usages, strict=True) if file.split != usage)
        remarks += [
            f"{n:,} images in the folder {split} are of {usage} by their file names, which take precedence."
            for (split, usage), n in sorted(moved.items(), key=str)
        ]
        listed = [file._replace(split=usage) for file, usage in zip(listed, usages, strict=True)]
    elif any(usages):
        odd = next(file.path for file, usage in zip(listed, usages, strict=True) if not usage)
        raise FerlError(
            f"{odd}: other files are named by usage, such as PublicTest_123.jpg, but this one is not. Rename or move it"
        )
    return Store(**(vars(read_listed(root, listed, CLASSES, SIDE, False)) | {"remarks": np.array(remarks, np.str_)}))

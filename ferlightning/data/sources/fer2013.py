"""FER2013 (Goodfellow et al. 2013, https://arxiv.org/abs/1307.0414), in every layout in use."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ferlightning.data.datamodule import FaceData, Split
from ferlightning.data.sources.files import Listed, OnBadImage, read_listed
from ferlightning.data.sources.folder import Folders, class_name
from ferlightning.data.sources.layouts import Layout, choose_layout
from ferlightning.data.sources.names import split_of
from ferlightning.data.sources.pixel_csv import find_form, read_pixel_csv
from ferlightning.data.store import SPLITS, UNDECIDED, UNLABELLED, Store
from ferlightning.emotions import EMOTIONS, numbering, probably_meant
from ferlightning.errors import FerlError
from ferlightning.files import at_home
from ferlightning.images.decode import image_names, is_leftover, list_images

CLASSES = ["anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"]
SIDE = 48
LAYOUTS = {
    "csv": "fer2013.csv with the columns emotion,pixels,Usage, also under another name",
    "icml": "icml_face_data.csv with the columns emotion, Usage, pixels",
    "challenge": "train.csv with the columns emotion,pixels, perhaps val.csv, and test.csv, perhaps of pixels alone",
    "folders": "train/<emotion>/ and test/<emotion>/, perhaps validation/<emotion>/",
}
USAGES = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}
CSV_SUFFIXES = (".csv", ".tsv")
CSV_VERSION = 3
STANDARD_NAMES = ("fer2013.csv", "icml_face_data.csv")
NAMED_BY_USAGE = re.compile(r"(Training|PublicTest|PrivateTest)_(\d+)")


class FER2013(FaceData):
    """FER2013, 48x48 grey, 7 classes: Training / PublicTest / PrivateTest as train / validation / test.

    Folders whose files are named by usage (``PublicTest_123.jpg``), such as Kaggle's, have the official splits too.

    Args:
        root: a folder with the data, or the folder above it, or the csv itself; null: the environment variable
            FERL_DATA.
        layout: ``csv``, ``icml``, ``challenge`` or ``folders``; null: the first of these that is there.
        on_bad_image: what to do with image files that are missing or cannot be read: ``raise`` an error that counts and
            names them, or ``skip`` them with a remark in the report.
        options: those of every data set.
    """

    label_names = CLASSES

    def __init__(
        self,
        root: str | None = None,
        layout: str | None = None,
        on_bad_image: OnBadImage = "raise",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.root = root
        self.layout = layout
        self.on_bad_image = on_bad_image

    def read(self) -> Store:
        try:
            own = partial(find, on_bad_image=self.on_bad_image)
            layout = choose_layout("FER2013", own, LAYOUTS, self.root, self.layout)
        except FerlError as error:
            raise FerlError(f"{error}{_why_not_folders(self.root or os.environ.get('FERL_DATA'))}") from None
        return layout.open("FER2013", on_bad_image=self.on_bad_image)

    def notes(self, split: Split) -> list[str]:
        found = super().notes(split)
        if split == "test" and self.items["test"] is self.items["val"]:
            official = (self.raw.split == SPLITS.index("val")).any()
            what = "no PrivateTest images" if official else "no labelled test images"
            source = "PublicTest" if official else "a part of Training"
            found.append(f"The data has {what}: the results on test are those on {source}.")
        return found


def find(path: Path, on_bad_image: OnBadImage = "raise") -> list[Layout]:
    """Find the layouts of FER2013 in a folder, or that of a csv."""
    if path.is_file():
        name = "icml" if path.name == "icml_face_data.csv" else "csv"
        return [_csv(name, path)] if path.suffix.lower() in CSV_SUFFIXES or _has_pixels(path) else []
    listed = [x for x in path.iterdir() if x.suffix.lower() in CSV_SUFFIXES and x.name[0] != "." and x.is_file()]
    listed = sorted(listed, key=lambda file: ([*SPLITS, None].index(split_of(file.stem)), file.name))
    files = [file for file in listed if file.name != "ckextended.csv" and _has_pixels(file)]
    found = []
    for name, file in (("csv", path / "fer2013.csv"), ("icml", path / "icml_face_data.csv")):
        if file.is_file():
            found.append(_csv(name, file, files))
    if any(split_of(file.stem) == "train" for file in files):
        parts = [file for file in listed if split_of(file.stem)]  # one without pixels is refused when it is read
        found.append(Layout("challenge", path, lambda: parts, lambda: _read_challenge(parts, files), CSV_VERSION))
    files = files or [file for file in listed if re.match("fer2013(?!new)|icml", file.name.lower())]
    if not found and files:
        found.append(_csv("csv", files[0], files))
    if {class_name(part.name) for parts in _class_folders(path).values() for part in parts} == set(CLASSES):
        claims = frozenset(folder.name for folder in split_folders(path))
        found.append(
            Layout(
                "folders", path, lambda: [x.path for x in listed_images(path)],
                lambda: _read_folders(path, on_bad_image), 2, claims,
            )
        )  # fmt: skip
    return found


def _why_not_folders(root: str | None) -> str:
    """Say how split folders differ from those of FER2013, for a message that it was not found."""
    path = at_home(root or ".")
    if not root or not path.is_dir():
        return ""
    parts = [part for parts in _class_folders(path).values() for part in parts]
    names = {class_name(part.name) for part in parts}
    odd = [part for part in parts if class_name(part.name) not in CLASSES]
    if names and all(name.isdecimal() for name in names):
        return f". The class folders {', '.join(sorted(names))} are numbers; name them, as in {numbering('FER2013')}"
    if not names & set(CLASSES):
        return ""
    if odd:
        meant = probably_meant(odd[0].name)
        hint = f"did you mean {meant}?" if meant else "for classes of your own, use --data=ImageFolder"
        return f". The folder {odd[0]} is no class of FER2013: {hint}"
    return f". The split folders have no class {', '.join(sorted(set(CLASSES) - names))}: use --data=ImageFolder"


def _has_pixels(file: Path) -> bool:
    try:
        find_form(file)
    except (FerlError, OSError):
        return False
    return True


def _csv(name: str, path: Path, beside: Sequence[Path] = ()) -> Layout:
    return Layout(name, path, lambda: [path], lambda: _read_csv(path, beside), CSV_VERSION)


def _read_csv(path: Path, beside: Sequence[Path] = ()) -> Store:
    others = [file.name for file in beside if file != path]
    if others and path.name not in STANDARD_NAMES:
        raise FerlError(
            f"{path.parent}: several files have a column of pixels: {', '.join([path.name, *others])}. Name them "
            f"train.csv, val.csv and test.csv if they are the splits, or give one by --data.root={path}"
        )
    table = read_pixel_csv(path, CLASSES)
    names = np.array([f"row {i}" for i in range(1, len(table.label) + 1)])
    return Store.of(table.images, table.label, table.split, names, remarks=[*table.remarks, *_not_read(others)])


def _not_read(files: Sequence[str]) -> list[str]:
    return [f"Files beside it that are not read, though they have pixels: {', '.join(files)}."] if files else []


def _read_challenge(files: list[Path], beside: list[Path]) -> Store:
    """Read one csv for each split, such as ``train.csv``, ``val.csv`` and ``test.csv``; the last may have no labels.

    A column Usage counts more than the name of the file.
    """
    splits = [SPLITS.index(split_of(path.stem) or "") for path in files]
    if len(set(splits)) < len(splits):
        twice = [path.name for path, split in zip(files, splits, strict=True) if splits.count(split) > 1]
        raise FerlError(
            f"{files[0].parent}: {' and '.join(twice)} are named after one split. Keep one, or give it by --data.root="
            f"{files[0].parent / twice[0]}"
        )
    stores = [_read_csv(path) for path in files]
    remarks = [str(remark) for store in stores for remark in store.remarks]
    for path, split, store in zip(files, splits, stores, strict=True):
        if store.images.shape[1:] != stores[0].images.shape[1:]:
            sizes = " and ".join(f"{'x'.join(map(str, x.images.shape[1:]))}" for x in (store, stores[0]))
            raise FerlError(f"{path}: its images and those of {files[0].name} are {sizes}. Make them of one size")
        if (store.label == UNLABELLED).all():
            remarks.append(
                f"The {len(store):,} images of {path.name} have no labels: they can be predicted, not tested on."
            )
        if n := int(((store.split != UNDECIDED) & (store.split != split)).sum()):
            remarks.append(f"{n:,} images of {path.name} are of other splits by their Usage, which takes precedence.")
    remarks += _not_read([path.name for path in beside if path not in files])
    own = [np.where(x.split == UNDECIDED, split, x.split) for split, x in zip(splits, stores, strict=True)]
    return Store.of(
        np.concatenate([store.images for store in stores]),
        np.concatenate([store.label for store in stores]),
        np.concatenate(own).astype(np.int8),
        np.array([f"{path.name} {name}" for path, store in zip(files, stores, strict=True) for name in store.name]),
        remarks=remarks,
    )


def split_folders(root: Path) -> dict[Path, str]:
    """The folders in a folder that are named after a split and have folders in them."""
    folders = [path for path in root.iterdir() if path.is_dir() and not is_leftover(path.name)]
    named = {path: split for path in sorted(folders) if (split := split_of(path.name))}
    return {path: split for path, split in named.items() if any(part.is_dir() for part in path.iterdir())}


def _class_folders(root: Path) -> dict[str, list[Path]]:
    """Map each split to its class folders, for the split folders in a folder."""
    found: dict[str, list[Path]] = {}
    for path, split in split_folders(root).items():
        parts = sorted(part for part in path.iterdir() if part.is_dir() and not is_leftover(part.name))
        found.setdefault(split, []).extend(parts)
    return found


def listed_images(root: Path) -> list[Listed]:
    """The images of split folders."""
    return [
        Listed(path, class_name(part.name), split)
        for split, parts in _class_folders(root).items()
        for part in parts
        for path in image_names(part)
    ]


def _read_folders(root: Path, on_bad_image: OnBadImage) -> Store:
    beside = Folders.of(root)  # refuses two folders of one split, and those of splits that are not unpacked
    if odd := [path for path in beside.folders if path not in beside.splits and class_name(path.name) in EMOTIONS]:
        raise FerlError(
            f"{odd[0]}: looks like a class, but lies beside {', '.join(path.name for path in beside.splits)}. Move it"
        )
    for path in beside.folders:
        inner = {class_name(part.name) for part in Folders.of(path).folders} if path not in beside.splits else set()
        if len(inner) > 1 and inner <= set(CLASSES):
            raise FerlError(
                f"{path}: has classes of FER2013 and is not read, since its name is no split, such as train, val or "
                "test. Rename or move it"
            )
        if inner & set(CLASSES):
            beside.remarks.append(f"The folder {path.name}, which has class folders, too, was not read.")
    if flat := [path for path in beside.splits if path not in split_folders(root) and list_images(path)]:
        raise FerlError(
            f"{flat[0]}: is named after a split and has no class folders. Images without labels are for predict, by "
            "--data.predict_folder: move them"
        )
    listed = listed_images(root)
    there = {(file.split, file.name) for file in listed}
    empty = [(split, name) for split in _class_folders(root) for name in CLASSES if (split, name) not in there]
    if missing := [name for split, name in empty if split == "train"]:
        raise FerlError(f"{root}: there is no training image of {', '.join(missing)}. Unpack the data again")
    remarks = [*beside.remarks, *(remark for path in split_folders(root) for remark in Folders.of(path).remarks)]
    remarks += [f"There is no image of {name} in {split}." for split, name in empty]
    usages = [match and USAGES[match[1]] for match in (NAMED_BY_USAGE.match(Path(file.path).name) for file in listed)]
    if all(usages):
        moved = Counter((file.split, usage) for file, usage in zip(listed, usages, strict=True) if file.split != usage)
        remarks += [
            f"{n:,} images in the folder {split} are of {usage} by their file names, which take precedence."
            for (split, usage), n in sorted(moved.items(), key=str)
        ]
        listed = [file._replace(split=usage) for file, usage in zip(listed, usages, strict=True)]
    elif any(usages):
        other = next(file.path for file, usage in zip(listed, usages, strict=True) if not usage)
        raise FerlError(
            f"{other}: other files are named by usage, such as PublicTest_123.jpg, but this one is not. Rename or move "
            "it"
        )
    return read_listed(root, listed, CLASSES, SIDE, False, on_bad_image, remarks)

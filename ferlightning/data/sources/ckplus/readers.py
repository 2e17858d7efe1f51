"""The layouts of CK+ and their readers."""

import os
import re
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ferlightning.data.sources.ckplus.recordings import CLASSES, STILLS, Content, Recording, read_recordings
from ferlightning.data.sources.folder import class_name
from ferlightning.data.sources.layouts import Layout
from ferlightning.data.sources.names import some, split_of, strict_number
from ferlightning.data.sources.pixel_csv import read_pixel_csv
from ferlightning.data.store import UNLABELLED, Store
from ferlightning.emotions import probably_meant
from ferlightning.errors import FerlError
from ferlightning.images.decode import is_leftover, list_images

CSV_CLASSES = ["anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral", "contempt"]
CSV = "ckextended.csv"
LAYOUTS = {
    "original": "cohn-kanade-images/S010/004/*.png and Emotion/S010/004/*_emotion.txt",
    "ck48": "CK+48/<emotion>/S010_004_00000017.png",
    "ckextended": f"{CSV} with the columns emotion,pixels,Usage",
}
# Each also in a folder that is named after its archive.
IMAGE_FOLDERS = ("cohn-kanade-images", "extended-cohn-kanade-images/cohn-kanade-images", "extended-cohn-kanade-images")
EMOTION_FOLDERS = ("Emotion", "Emotion_labels/Emotion", "Emotion_labels")
LANDMARK_FOLDERS = ("Landmarks", "Landmarks/Landmarks")
FRAME = re.compile(r"(S\d+)_(\d+)_(\d+)")  # subject, sequence, frame


def find(path: Path, content: Content = STILLS) -> list[Layout]:
    """Find the layouts of CK+ in a folder, or that of a csv."""
    if path.is_file():
        return [_csv(path, content)] if path.name == CSV else []
    found = []
    images = _with_subjects(path, IMAGE_FOLDERS)
    if images is not None:
        found.append(_original(path, images, content))
    if parts := _ck48_parts(path):
        claims = frozenset(part.name for part in (path.iterdir() if parts == [path] else parts))
        found.append(
            Layout(
                "ck48", path, lambda: [x for part in parts for x in list_images(part)],
                lambda: _read_ck48(parts, content), 2, claims,
            )
        )  # fmt: skip
    if (path / CSV).is_file():
        found.append(_csv(path / CSV, content))
    return found


# --- cohn-kanade-images and Emotion ---------------------------------------------------------------------------------


def _original(root: Path, images: Path, content: Content) -> Layout:
    return Layout(
        "original",
        root,
        lambda: [*list_images(images), *_emotion_files(root), *_landmark_files(root, content)],
        lambda: _read_original(root, images, content),
        claims=frozenset(name.partition("/")[0] for name in (*IMAGE_FOLDERS, *EMOTION_FOLDERS, *LANDMARK_FOLDERS)),
    )


def _with_subjects(root: Path, names: tuple[str, ...]) -> Path | None:
    """The first of some folders that has a folder for each subject, such as S010; else the first that is there."""
    there = [root / name for name in names if (root / name).is_dir()]
    return next((path for path in there if any(path.glob("S[0-9]*"))), there[0] if there else None)


def _emotion_files(root: Path) -> list[Path]:
    folder = _with_subjects(root, EMOTION_FOLDERS)
    if folder is None:
        raise FerlError(
            f"{root}: has the images of CK+ and no folder Emotion beside them. Unpack Emotion_labels.zip there, or "
            "choose another layout with --data.layout"
        )
    files = sorted(path for path in folder.glob("S*/*/*_emotion.txt") if path.name[0] != ".")
    if not files:
        raise FerlError(f"{folder}: no file S*/*/*_emotion.txt in this folder. Unpack Emotion_labels.zip again")
    return files


def _landmark_files(root: Path, content: Content) -> list[Path]:
    """List the landmark files to align by; none if that is not asked for, or if they were not unpacked."""
    folder = _with_subjects(root, LANDMARK_FOLDERS)
    if content.crop != "eyes" or folder is None:
        return []
    files = sorted(path for path in folder.glob("S*/*/*_landmarks.txt") if path.name[0] != ".")
    if not files:
        raise FerlError(
            f"{folder}: no file S*/*/*_landmarks.txt in this folder. Unpack Landmarks.zip again, or remove the folder "
            "to find the eyes by OpenCV's cascade"
        )
    return files


def _read_original(root: Path, images: Path, content: Content) -> Store:
    emotions: dict[str, Path] = {}
    for path in _emotion_files(root):
        name = _folder_name(path.parent)
        if not path.name.startswith(f"{name}_"):
            raise FerlError(
                f"{path}: this is no emotion file of {name}, although it is in its folder. Move or remove it"
            )
        if name in emotions:
            raise FerlError(f"{path}: a second emotion file of {name}, beside {emotions[name].name}. Remove one")
        emotions[name] = path
    recordings, aligned = [], _with_subjects(root, LANDMARK_FOLDERS) if _landmark_files(root, content) else None
    for folder in sorted(path for path in images.glob("S*/*") if path.is_dir() and path.name[0] != "."):
        frames, name = list_images(folder), _folder_name(folder)
        if not frames and content.on_bad_image == "skip":
            continue
        if not frames:
            raise FerlError(
                f"{folder}: no frames in this folder, expected {name}_00000001.png and so on. Unpack "
                "extended-cohn-kanade-images.zip again, remove the folder, or skip it by --data.on_bad_image=skip"
            )
        label = _read_emotion(emotions.pop(name)) if name in emotions else UNLABELLED
        landmarks = aligned / folder.parent.name / folder.name if aligned else None
        recordings.append(Recording(folder.parent.name, name, label, _in_order(frames, name), landmarks))
    remarks = []
    if emotions and content.on_bad_image == "skip":
        remarks.append(
            f"{len(emotions):,} sequences have an emotion and no images, and were left out: {some([*emotions])}."
        )
    elif emotions:
        path = next(iter(emotions.values()))
        raise FerlError(
            f"{path}: the images of this sequence are missing, expected them in "
            f"{images / path.parent.parent.name / path.parent.name}. Unpack extended-cohn-kanade-images.zip again, or "
            "leave it out with --data.on_bad_image=skip"
        )
    return read_recordings(root, recordings, content, content.crop, remarks)


def _folder_name(folder: Path) -> str:
    """Name the sequence in a folder such as S010/004: S010_004."""
    return f"{folder.parent.name}_{folder.name}"


def _read_emotion(path: Path) -> int:
    text = path.read_text(errors="replace").strip()
    codes = {float(code): code for code in range(len(CLASSES))}
    try:
        return codes[strict_number(text)]
    except (ValueError, KeyError):
        raise FerlError(
            f"{path}: says {text[:40]!r}, expected a code from 0 to {len(CLASSES) - 1}, such as 3.0000000e+00. "
            "Unpack Emotion_labels.zip again"
        ) from None


def _in_order(frames: list[Path], name: str) -> list[Path]:
    """Sort the frames of one sequence by number."""
    numbers: dict[int, Path] = {}
    for path in frames:
        match = FRAME.fullmatch(path.stem)
        if match is None or f"{match[1]}_{match[2]}" != name:
            raise FerlError(
                f"{path}: expected a frame of the sequence {name}, such as {name}_00000001.png. Move or remove it"
            )
        if (number := int(match[3])) in numbers:
            raise FerlError(f"{path}: the same frame as {numbers[number]}. Remove one")
        numbers[number] = path
    return [numbers[number] for number in sorted(numbers)]


# --- CK+48 ----------------------------------------------------------------------------------------------------------


def _class_folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not is_leftover(path.name))


def _has_frames(root: Path) -> bool:
    """Tell whether a folder has class folders with a frame of CK+ among the first files of one."""
    for folder in _class_folders(root):
        if class_name(folder.name) in CLASSES:
            with os.scandir(folder) as entries:  # unlike Path.iterdir, does not read on to the last of thousands
                if any(FRAME.fullmatch(Path(entry.name).stem) for entry in islice(entries, 10)):
                    return True
    return False


def _ck48_parts(root: Path) -> list[Path]:
    """The folders that have the class folders of CK+: this one, or the split folders in it."""
    if _has_frames(root):
        return [root]
    return [path for path in _class_folders(root) if split_of(path.name) and _has_frames(path)]


def _read_ck48(parts: list[Path], content: Content) -> Store:
    frames: dict[str, list[Path]] = {}
    labels: dict[str, str] = {}
    for folder in (folder for part in parts for folder in _class_folders(part)):
        if (emotion := class_name(folder.name)) not in CLASSES:
            meant = probably_meant(folder.name)
            what = f"Did you mean {meant}? Then rename it" if meant else "Move it"
            raise FerlError(f"{folder}: {folder.name} is no emotion of CK+ ({', '.join(CLASSES)}). {what}")
        for path in list_images(folder):
            match = FRAME.fullmatch(path.stem)
            if match is None:
                raise FerlError(f"{path}: expected a name such as S010_004_00000017.png. Rename or remove it")
            name = f"{match[1]}_{match[2]}"
            if labels.setdefault(name, emotion) != emotion:
                raise FerlError(
                    f"{path}: the sequence {name} is in two folders, also as {frames[name][0]}. Remove it from one"
                )
            frames.setdefault(name, []).append(path)
    recordings = [
        Recording(name.partition("_")[0], name, CLASSES.index(labels[name]), _in_order(frames[name], name))
        for name in sorted(frames)
    ]
    root = parts[0] if len(parts) == 1 else parts[0].parent
    named = [part.name for part in parts]
    remark = (
        f"The folders {', '.join(named)} were read together, since CK+ is split by data.fold. To train and test on "
        "these folders as they are, use --data=ImageFolder."
    )
    return read_recordings(root, recordings, content, False, [remark] if len(parts) > 1 else [])


# --- ckextended.csv -------------------------------------------------------------------------------------------------


def _csv(path: Path, content: Content) -> Layout:
    return Layout("ckextended", path, lambda: [path], lambda: _read_csv(path, content))


def _read_csv(path: Path, content: Content) -> Store:
    table = read_pixel_csv(path, CSV_CLASSES)
    if (table.label < 0).any() or (table.split < 0).any():
        raise FerlError(f"{path}: the first line must be emotion,pixels,Usage. Fetch the file again")
    images: NDArray[np.uint8] = table.images
    if content.size != images.shape[1]:
        how = cv2.INTER_AREA if content.size < images.shape[1] else cv2.INTER_LINEAR
        images = np.stack([cv2.resize(image, (content.size, content.size), interpolation=how) for image in images])
    if content.color:
        images = np.repeat(images[..., None], 3, axis=3)
    label = np.array([CLASSES.index(name) for name in CSV_CLASSES])[table.label]
    return Store.of(images, label, table.split, np.array([f"row {i}" for i in range(1, len(label) + 1)]))

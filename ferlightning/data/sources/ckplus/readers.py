"""The layouts of CK+ and their readers."""

import os
import re
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ferlightning.data.sources.ckplus.recordings import CLASSES, STILLS, Content, Recording, read_recordings
from ferlightning.data.sources.layouts import Layout
from ferlightning.data.sources.pixel_csv import read_pixel_csv
from ferlightning.data.store import UNLABELLED, Store
from ferlightning.emotions import canonical
from ferlightning.errors import FerlError
from ferlightning.images.decode import list_images

CSV_CLASSES = ["anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral", "contempt"]
CSV = "ckextended.csv"
LAYOUTS = {
    "original": "cohn-kanade-images/S010/004/*.png and Emotion/S010/004/*_emotion.txt",
    "ck48": "CK+48/<emotion>/S010_004_00000017.png",
    "ckextended": f"{CSV} with the columns emotion,pixels,Usage",
}
IMAGE_FOLDERS = ("cohn-kanade-images", "extended-cohn-kanade-images/cohn-kanade-images")
EMOTION_FOLDERS = ("Emotion", "Emotion_labels/Emotion", "Emotion_labels")
LANDMARKS = "Landmarks"
FRAME = re.compile(r"(S\d+)_(\d+)_(\d+)")  # subject, sequence, frame


def find(path: Path, content: Content = STILLS) -> list[Layout]:
    """Find the layouts of CK+ in a folder, or that of a csv."""
    if path.is_file():
        return [_csv(path, content)] if path.name == CSV else []
    found = []
    images = next((path / name for name in IMAGE_FOLDERS if (path / name).is_dir()), None)
    if images is not None:
        found.append(_original(path, images, content))
    if _is_ck48(path):
        found.append(Layout("ck48", path, lambda: list_images(path), lambda: _read_ck48(path, content)))
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
    )


def _emotion_files(root: Path) -> list[Path]:
    folder = next((root / name for name in EMOTION_FOLDERS if (root / name).is_dir()), None)
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
    folder = root / LANDMARKS
    if content.crop != "eyes" or not folder.is_dir():
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
    recordings, aligned = [], bool(_landmark_files(root, content))
    for folder in sorted(path for path in images.glob("S*/*") if path.is_dir() and path.name[0] != "."):
        frames, name = list_images(folder), _folder_name(folder)
        if not frames:
            raise FerlError(
                f"{folder}: no frames in this folder, expected {name}_00000001.png and so on. Unpack "
                "extended-cohn-kanade-images.zip again, or remove the folder"
            )
        label = _read_emotion(emotions.pop(name)) if name in emotions else UNLABELLED
        landmarks = root / LANDMARKS / folder.parent.name / folder.name if aligned else None
        recordings.append(Recording(folder.parent.name, name, label, _in_order(frames, name), landmarks))
    if emotions:
        path = next(iter(emotions.values()))
        raise FerlError(
            f"{path}: the images of this sequence are missing, expected them in "
            f"{images / path.parent.parent.name / path.parent.name}. Unpack extended-cohn-kanade-images.zip again"
        )
    return read_recordings(recordings, content, content.crop)


def _folder_name(folder: Path) -> str:
    """Name the sequence in a folder such as S010/004: S010_004."""
    return f"{folder.parent.name}_{folder.name}"


def _read_emotion(path: Path) -> int:
    text = path.read_text(errors="replace").strip()
    codes = {float(code): code for code in range(len(CLASSES))}
    try:
        return codes[float(text)]
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
    return sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] != ".")


def _is_ck48(root: Path) -> bool:
    """Tell whether a folder has class folders with a frame of CK+ among the first files of one."""
    for folder in _class_folders(root):
        if canonical(folder.name) in CLASSES:
            with os.scandir(folder) as entries:  # unlike Path.iterdir, does not read on to the last of thousands
                if any(FRAME.fullmatch(Path(entry.name).stem) for entry in islice(entries, 10)):
                    return True
    return False


def _read_ck48(root: Path, content: Content) -> Store:
    frames: dict[str, list[Path]] = {}
    labels: dict[str, str] = {}
    for folder in _class_folders(root):
        if (emotion := canonical(folder.name)) not in CLASSES:
            raise FerlError(f"{folder}: {folder.name} is no emotion of CK+ ({', '.join(CLASSES)}). Move it")
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
    return read_recordings(recordings, content, crop=False)


# --- ckextended.csv -------------------------------------------------------------------------------------------------


def _csv(path: Path, content: Content) -> Layout:
    return Layout("ckextended", path, lambda: [path], lambda: _read_csv(path, content))


def _read_csv(path: Path, content: Content) -> Store:
    table = read_pixel_csv(path, len(CSV_CLASSES))
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

"""Drawn faces written as FER2013 and FER+ lie on users' disks."""

import csv
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ferlightning.data.sources.synthetic.datamodule import draw_faces

USAGES = ["Training", "PublicTest", "PrivateTest"]
FER2013_CLASSES = ["anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"]
FOLDER_NAMES = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]
VOTES = ["neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF"]


class Drawn(NamedTuple):
    """Faces in the order of rows: all of Training, then PublicTest, then PrivateTest."""

    images: NDArray[np.uint8]
    emotion: NDArray[np.int64]
    usage: NDArray[np.int64]
    votes: NDArray[np.int64]


def draw(usages: int = 3) -> Drawn:
    """7 classes, 6 subjects each once: 28 / 7 / 7 images. Most votes are for the emotion; a row of each usage is NF."""
    store = draw_faces(FER2013_CLASSES, items_per_class=6, subjects=6)
    order = np.argsort(store.split, kind="stable")
    order = order[store.split[order] < usages]
    images, emotion, usage = store.images[order], store.label[order], store.split[order].astype(np.int64)
    rng = np.random.default_rng(0)
    votes = np.stack([rng.multinomial(3, np.full(10, 0.1)) for _ in order])
    column = [VOTES.index(FER2013_CLASSES[k]) for k in emotion]
    votes[np.arange(len(order)), column] += 7
    for u in range(usages):
        votes[np.flatnonzero(usage == u)[2]] = [0] * 9 + [10]
    return Drawn(images, emotion, usage, votes)


def _text(image: NDArray[np.uint8]) -> str:
    return " ".join(map(str, image.ravel()))


def write_csv(folder: Path, drawn: Drawn) -> None:
    rows = zip(drawn.emotion, drawn.images, drawn.usage, strict=True)
    lines = [f"{emotion},{_text(image)},{USAGES[usage]}\n" for emotion, image, usage in rows]
    (folder / "fer2013.csv").write_text("".join(["emotion,pixels,Usage\n", *lines]))


def write_icml(folder: Path, drawn: Drawn) -> None:
    rows = zip(drawn.emotion, drawn.images, drawn.usage, strict=True)
    lines = [f"{emotion},{USAGES[usage]},{_text(image)}\n" for emotion, image, usage in rows]
    (folder / "icml_face_data.csv").write_text("".join(["emotion, Usage, pixels\n", *lines]))


def write_challenge(folder: Path, drawn: Drawn) -> None:
    train = drawn.usage == 0
    rows = zip(drawn.emotion[train], drawn.images[train], strict=True)
    lines = [f'{emotion},"{_text(image)}"\n' for emotion, image in rows]
    (folder / "train.csv").write_text("".join(["emotion,pixels\n", *lines]))
    lines = [f'"{_text(image)}"\n' for image in drawn.images[~train]]
    (folder / "test.csv").write_text("".join(["pixels\n", *lines]))


def write_folders(folder: Path, drawn: Drawn, splits: tuple[str, str, str], by_usage: bool) -> None:
    """One folder a usage, and in it one a class; files are named by usage and row, or by a bare number."""
    for row, (image, emotion, usage) in enumerate(zip(drawn.images, drawn.emotion, drawn.usage, strict=True)):
        path = (
            folder
            / splits[usage]
            / FOLDER_NAMES[emotion]
            / (f"{USAGES[usage]}_{row}.png" if by_usage else f"{row}.png")
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image)


def write_votes(folder: Path, drawn: Drawn) -> None:
    with (folder / "fer2013new.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["Usage", "Image name", *VOTES])
        for row, (usage, votes) in enumerate(zip(drawn.usage, drawn.votes, strict=True)):
            table.writerow([USAGES[usage], f"fer{row:07}.png" if votes[9] < 10 else "", *votes])


def write_png(folder: Path, drawn: Drawn) -> None:
    """As FER+'s own script: images that are no face have no name, and no file."""
    for usage, name in enumerate(["FER2013Train", "FER2013Valid", "FER2013Test"]):
        rows = [row for row in np.flatnonzero(drawn.usage == usage) if drawn.votes[row, 9] < 10]
        if not rows:
            continue
        (folder / name).mkdir()
        with (folder / name / "label.csv").open("w", newline="") as file:
            table = csv.writer(file)
            for row in rows:
                cv2.imwrite(str(folder / name / f"fer{row:07}.png"), drawn.images[row])
                table.writerow([f"fer{row:07}.png", "(0, 0, 48, 48)", *drawn.votes[row]])

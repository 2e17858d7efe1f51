"""Sequences of CK+ on disk to the stills or clips of a store."""

from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from cv2.data import haarcascades

from ferlightning.data.images import Box, decode_image, read_image
from ferlightning.data.store import UNDECIDED, UNLABELLED, Store
from ferlightning.errors import FerlError

CLASSES = ["neutral", "anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise"]
"""In the order of the codes in ``*_emotion.txt``."""

MARGIN = 0.1
"""What a face box is grown by on each side, as share of its own side: room for the chin of an open mouth."""


class Content(NamedTuple):
    """What becomes an item, and how; the arguments of ``CKPlus`` that its store depends on."""

    clips: bool = False
    last: int | None = 3
    neutral_first: bool = False
    size: int = 48
    color: bool = False
    crop: bool = True


STILLS = Content()


class Recording(NamedTuple):
    """A sequence of one subject, from onset, which is neutral, to apex."""

    subject: str
    name: str
    """Subject and number, as S010_004."""
    label: int
    """Index into ``CLASSES``, or ``UNLABELLED``."""
    frames: list[Path]


class Item(NamedTuple):
    """A still or a clip of a recording."""

    name: str
    label: int
    frames: list[Path]
    recording: Recording
    box: Box | None


def read_recordings(recordings: list[Recording], content: Content, crop: bool) -> Store:
    """Choose the items, cut out the faces, and decode.

    Args:
        recordings: in the order in which their items come to stand.
        content: what becomes an item.
        crop: whether there is more in the pictures than a face.

    Raises:
        FerlError: an image is damaged, or there are fewer frames than ``content`` needs.
    """
    remarks, items = [], []
    unlabelled = sum(recording.label == UNLABELLED for recording in recordings)
    if unlabelled:
        remarks.append(f"{unlabelled:,} of {len(recordings):,} sequences have no emotion label and are in no split.")
    without_face = []
    cascade = cv2.CascadeClassifier(f"{haarcascades}haarcascade_frontalface_default.xml") if crop else None
    for recording in recordings:
        box = None
        if cascade is not None:
            box, found = _face_box(recording.frames[0], cascade)
            without_face += [] if found else [recording.name]
        items += _items(recording, content, box)
    if without_face:
        remarks.append(
            f"In {len(without_face):,} of {len(recordings):,} sequences no face was found, and the centre of the "
            f"picture was taken: {', '.join(without_face[:5])}{' and others' if len(without_face) > 5 else ''}."
        )
    lengths = [len(item.frames) for item in items]
    images = np.empty((sum(lengths), content.size, content.size) + (3,) * content.color, np.uint8)
    boxed = ((path, item.box) for item in items for path in item.frames)
    for n, (path, box) in enumerate(boxed):
        images[n] = read_image(path, content.size, content.color, box)
    return Store.of(
        images,
        label=np.array([item.label for item in items], np.int64),
        split=np.full(len(items), UNDECIDED, np.int8),
        name=np.array([item.name for item in items]),
        start=np.cumsum([0, *lengths], dtype=np.int64),
        subject=np.array([item.recording.subject for item in items]),
        sequence=np.array([item.recording.name for item in items]),
        remarks=remarks,
    )


def _items(recording: Recording, content: Content, box: Box | None) -> list[Item]:
    """The items of a recording, the apex last."""
    frames, label, items = recording.frames, recording.label, []
    if content.neutral_first and label != UNLABELLED:
        if len(frames) == 1:
            raise FerlError(
                f"{frames[0]}: the only frame of its sequence, which data.neutral_first would take for neutral"
            )
        items.append(Item(frames[0].stem, CLASSES.index("neutral"), frames[:1], recording, box))
        frames = frames[1:]
    frames = frames[-content.last :] if content.last else frames
    if content.clips:
        return [Item(recording.name, label, frames, recording, box)]
    return items + [Item(path.stem, label, [path], recording, box) for path in frames]


def _face_box(path: Path, cascade: Any) -> tuple[Box, bool]:
    """The square around the largest face of a picture with its margin, and True; else the centre square, and False."""
    image = decode_image(path, color=False)
    height, width = image.shape
    least = min(height, width) // 4  # a face fills most of a picture of CK+; what is smaller is none
    faces = cascade.detectMultiScale(image, scaleFactor=1.1, minNeighbors=5, minSize=(least, least))
    x, y, side = width / 2, height / 2, float(min(height, width))
    if len(faces):
        left, top, found, _ = max(faces.tolist(), key=lambda face: face[2])
        x, y, side = left + found / 2, top + found / 2, min((1 + 2 * MARGIN) * found, side)
    left = round(min(max(x - side / 2, 0), width - side))
    top = round(min(max(y - side / 2, 0), height - side))
    return (left, top, left + int(side), top + int(side)), len(faces) > 0

"""From sequences of CK+ on disk to the stills or clips of a store."""

from itertools import compress
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from cv2.data import haarcascades
from numpy.typing import NDArray

from ferlightning.data.sources.files import OnBadImage, decode_all
from ferlightning.data.store import UNDECIDED, UNLABELLED, Store
from ferlightning.errors import FerlError
from ferlightning.images.align import Eyes, align_eyes, find_eyes, read_eyes
from ferlightning.images.decode import Box, decode_image, read_image

CLASSES = ["neutral", "anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise"]
"""In the order of the codes in ``*_emotion.txt``."""

MARGIN = 0.1
"""How much a face box grows on each side, as a share of its own side: room for the chin of an open mouth."""


class Content(NamedTuple):
    """What becomes an item, and how: the arguments of ``CKPlus`` that its store depends on."""

    clips: bool = False
    last: int | None = 3
    neutral_first: bool = False
    size: int = 48
    color: bool = False
    crop: bool | Literal["eyes"] = True
    on_bad_image: OnBadImage = "raise"


STILLS = Content()


class Recording(NamedTuple):
    """A sequence of one subject, from onset, which is neutral, to apex."""

    subject: str
    name: str
    """Subject and number, such as S010_004."""
    label: int
    """Index into ``CLASSES``, or ``UNLABELLED``."""
    frames: list[Path]
    landmarks: Path | None = None
    """A folder with a file for each frame to align by, such as S010_004_00000001_landmarks.txt; None without any."""


class Item(NamedTuple):
    """A still or a clip of a recording."""

    name: str
    label: int
    frames: list[Path]
    recording: Recording


def read_recordings(
    root: Path, recordings: list[Recording], content: Content, crop: bool | Literal["eyes"], remarks: list[str]
) -> Store:
    """Choose the items, cut out the faces, and decode.

    Args:
        root: the folder of the data, for messages.
        recordings: in the order of the items.
        content: what becomes an item.
        crop: how to cut out faces; False if the pictures show nothing else.
        remarks: on the recordings; more are added.

    Raises:
        FerlError: an image or a landmark file is damaged and ``content`` does not skip it, or there are fewer frames
            than it needs.
    """
    unlabelled = sum(recording.label == UNLABELLED for recording in recordings)
    if unlabelled:
        remarks = [
            *remarks,
            f"{unlabelled:,} of {len(recordings):,} sequences have no emotion label and are in no split.",
        ]
    places: dict[str, Box | Eyes] = {}
    bad: list[str] = []
    if crop:
        searched = [recording for recording in recordings if recording.landmarks is None]
        places, found = _find_faces(searched, crop == "eyes", bad)
        remarks = [*remarks, *found]
    items = [item for recording in recordings for item in _items(recording, content)]
    frames = [(path, item.recording) for item in items for path in item.frames]
    images, good, more = decode_all(
        [path for path, _ in frames],
        lambda n: _read_frame(*frames[n], places.get(frames[n][1].name), content),
        content.size, content.color, content.on_bad_image, root,
    )  # fmt: skip
    if bad and content.on_bad_image == "raise":
        raise FerlError(
            f"{root}: {len(bad):,} frames cannot be read in which the face is searched for. First: {bad[0]}, or search "
            "in the frames after them with --data.on_bad_image=skip"
        )
    if bad:
        more.append(f"{len(bad):,} frames cannot be read, so the face was searched for in the ones after them.")
    owner = np.repeat(np.arange(len(items)), [len(item.frames) for item in items])
    counts = np.bincount(owner[good], minlength=len(items))
    items, lengths = list(compress(items, counts)), counts[counts > 0]
    return Store.of(
        images,
        label=np.array([item.label for item in items], np.int64),
        split=np.full(len(items), UNDECIDED, np.int8),
        name=np.array([item.name for item in items]),
        start=np.cumsum([0, *lengths], dtype=np.int64),
        subject=np.array([item.recording.subject for item in items]),
        sequence=np.array([item.recording.name for item in items]),
        remarks=[*remarks, *more],
    )


def _items(recording: Recording, content: Content) -> list[Item]:
    """Choose the items of a recording, the apex last."""
    frames, label, items = recording.frames, recording.label, []
    if content.neutral_first and label != UNLABELLED:
        if len(frames) == 1:
            raise FerlError(f"{frames[0]}: the only frame of its sequence, which data.neutral_first would make neutral")
        items.append(Item(frames[0].stem, CLASSES.index("neutral"), frames[:1], recording))
        frames = frames[1:]
    frames = frames[-content.last :] if content.last else frames
    if content.clips:
        return [Item(recording.name, label, frames, recording)]
    return items + [Item(path.stem, label, [path], recording) for path in frames]


def _read_frame(path: Path, recording: Recording, place: Box | Eyes | None, content: Content) -> NDArray[np.uint8]:
    """Read a frame, cut by its own landmarks if there are any, else by the place of the face in its sequence."""
    if recording.landmarks is not None:
        image = decode_image(path, content.color)
        eyes = read_eyes(recording.landmarks / f"{path.stem}_landmarks.txt", *image.shape[:2])
        return align_eyes(image, eyes, content.size)
    if place is not None and len(place) == 2:  # eyes; a box has four sides
        return align_eyes(decode_image(path, content.color), place, content.size)
    return read_image(path, content.size, content.color, place)


def _first_image(recording: Recording, bad: list[str]) -> NDArray[np.uint8] | None:
    """The first frame of a sequence that can be read, or None; errors on those before are added to ``bad``."""
    for path in recording.frames:
        try:
            return decode_image(path, color=False)
        except FerlError as error:
            bad.append(str(error))
    return None


def _find_faces(recordings: list[Recording], eyes: bool, bad: list[str]) -> tuple[dict[str, Box | Eyes], list[str]]:
    """Find the face box, or the eyes, in the first frame of each sequence, by its name; and remark what is missing.

    Errors in frames that cannot be read are added to ``bad``; the next frame takes their place.
    """
    cascade = cv2.CascadeClassifier(f"{haarcascades}haarcascade_frontalface_default.xml")
    places: dict[str, Box | Eyes] = {}
    without_face, without_eyes = [], []
    for recording in recordings:
        image = _first_image(recording, bad)
        if image is None:
            continue
        box, found = _face_box(image, cascade)
        places[recording.name] = box
        if not found:
            without_face.append(recording.name)
        elif eyes:
            left, top, right, bottom = box
            pair = find_eyes(image[top:bottom, left:right])
            if pair is None:
                without_eyes.append(recording.name)
            else:
                places[recording.name] = (pair[0] + complex(left, top), pair[1] + complex(left, top))
    remarks = []
    if eyes and recordings:
        remarks.append(
            "There is no folder Landmarks beside the images, so OpenCV's cascade searched for the eyes, in the first "
            "frame of each sequence."
        )
    if without_face:
        remarks.append(
            f"In {len(without_face):,} of {len(recordings):,} sequences no face was found, so the centre of the "
            f"picture was taken: {_some(without_face)}."
        )
    if without_eyes:
        remarks.append(
            f"In {len(without_eyes):,} of {len(recordings):,} sequences a face but no pair of eyes was found, so the "
            f"face box was taken, which is not aligned: {_some(without_eyes)}."
        )
    return places, remarks


def _some(names: list[str]) -> str:
    return f"{', '.join(names[:5])}{' and others' if len(names) > 5 else ''}"


def _face_box(image: NDArray[np.uint8], cascade: Any) -> tuple[Box, bool]:
    """Find the square around the largest face with its margin, and True; else the centre square, and False."""
    height, width = image.shape
    least = min(height, width) // 4  # a face fills most of a CK+ picture; anything smaller is not one
    faces = cascade.detectMultiScale(image, scaleFactor=1.1, minNeighbors=5, minSize=(least, least))
    x, y, side = width / 2, height / 2, float(min(height, width))
    if len(faces):
        left, top, found, _ = max(faces.tolist(), key=lambda face: face[2])
        x, y, side = left + found / 2, top + found / 2, min((1 + 2 * MARGIN) * found, side)
    left = round(min(max(x - side / 2, 0), width - side))
    top = round(min(max(y - side / 2, 0), height - side))
    return (left, top, left + int(side), top + int(side)), len(faces) > 0

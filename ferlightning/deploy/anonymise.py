"""Faces made anonymous, in pictures and over the whole time that a face is in a stream."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from ferlightning.deploy.recognizer import Face
from ferlightning.deploy.sources import Frame
from ferlightning.deploy.tracking import KEPT, SHOWN
from ferlightning.errors import FerlError

How = Literal["box", "blur", "pixelate"]
Box = Sequence[float]
GROWN = 0.15
"""How much larger than the face a box is on each side, as a share of its width and height."""
SIGMA = 0.2
"""Standard deviation of the blur, as a share of the face's width."""
CELLS = 8
"""Cells across a pixelated face."""
DELAY = 0.5
"""Seconds for which a face is hidden before it is first found; the stream is late by as much."""
SPREAD = 0.5
"""How much more is hidden on each side for each second that a face is lost, as a share of its width and height."""
NEAR = 3.0
"""Widths and heights within which a face that appears may be one that was lost."""


def hide(image: NDArray[np.uint8], boxes: Iterable[Box], how: How) -> NDArray[np.uint8]:
    """A copy of an RGB image, (H, W, 3), without its faces.

    Args:
        image: with the faces.
        boxes: of the faces: left, top, right, bottom in pixels.
        how: ``box`` paints them black. ``blur`` and ``pixelate`` leave something, by which those who have other
            pictures of the same people can tell them apart better than by chance.

    Raises:
        FerlError: there is no such way.
    """
    if how not in get_args(How):
        raise FerlError(f"faces are hidden by {' or '.join(get_args(How))}, not by {how!r}")
    hidden = image.copy()
    for left, top, right, bottom in boxes:
        x, y = GROWN * (right - left), GROWN * (bottom - top)
        rows = slice(max(0, int(top - y)), max(0, int(np.ceil(bottom + y))))
        columns = slice(max(0, int(left - x)), max(0, int(np.ceil(right + x))))
        part = hidden[rows, columns]
        if part.size:
            part[:] = 0 if how == "box" else _weakened(part, how, max(1.0, right - left))
    return hidden


def _weakened(part: Any, how: How, width: float) -> Any:
    if how == "blur":
        # Blurring a picture reduced to 16 pixels a face is as strong, and takes no kernel of hundreds of pixels.
        scale = min(1.0, 32 / width)
        small = _resized(part, scale)
        soft = cv2.GaussianBlur(small, (0, 0), SIGMA * width * scale, borderType=cv2.BORDER_REPLICATE)
        return cv2.resize(soft, part.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return cv2.resize(_resized(part, CELLS / part.shape[1]), part.shape[1::-1], interpolation=cv2.INTER_NEAREST)


def _resized(part: Any, scale: float) -> Any:
    size = [max(1, round(scale * side)) for side in part.shape[1::-1]]
    return cv2.resize(part, size, interpolation=cv2.INTER_AREA)


Sighting = tuple[float, NDArray[np.float64]]
"""The time at which a face was found, and its box."""


def hide_stream(stream: Iterable[tuple[Frame, list[Face]]], how: How) -> Iterator[tuple[Frame, list[Face]]]:
    """A stream of frames without their faces, half a second late.

    A face is hidden from half a second before it is first found to a second after it is last found, and at least in the
    frame before and the frame after. While it is lost in between, all is hidden that lies between the last place where
    it was found, the next one, and those to which its movement takes it from both; the longer it is lost, the more.

    Args:
        stream: what ``Recognizer.stream`` yields, best with a search in every frame.
        how: see ``hide``.
    """
    waiting: deque[tuple[Frame, list[Face]]] = deque()
    seen: dict[int, list[Sighting]] = {}

    def oldest() -> tuple[Frame, list[Face]]:
        nonlocal seen
        frame, faces = waiting.popleft()
        boxes = [*(face.box for face in faces), *_places(seen.values(), frame.time)]
        recent = {number: found for number, found in seen.items() if found[-1][0] >= frame.time - KEPT}
        seen = {n: [one for one in found if one[0] >= frame.time - 2 * KEPT] for n, found in recent.items()}
        return replace(frame, image=hide(frame.image, boxes, how)), faces

    for frame, faces in stream:
        waiting.append((frame, faces))
        for face in faces:
            assert face.track is not None
            if face.found:
                seen.setdefault(face.track, []).append((frame.time, np.array(face.box)))
        while frame.time - waiting[0][0].time > DELAY:
            yield oldest()
    while waiting:
        yield oldest()


def _places(seen: Iterable[list[Sighting]], time: float) -> Iterator[Box]:
    """Where faces may be that are found before or after a time, but not at it."""
    lost, new = [], []
    for found in seen:
        before, after = [one for one in found if one[0] <= time], [one for one in reversed(found) if one[0] > time]
        if before and before[-1][0] == time:
            continue
        ends = [side[-1] for side in (before, after) if side]
        boxes = [box for _, box in ends] + [_expected(side, time) for side in (before, after) if side]
        nearest, box = min(ends, key=lambda end: abs(end[0] - time))
        yield _around(boxes, SPREAD * abs(nearest - time) * (box[2:] - box[:2]))
        if not after:
            lost.append(box)
        if not before:
            new.append(box)
    for one in lost:  # a face that moved too far to be known again
        for other in new:
            far = np.abs(other[:2] + other[2:] - one[:2] - one[2:]) / 2
            if (far <= NEAR * np.maximum(one[2:] - one[:2], other[2:] - other[:2])).all():
                yield _around([one, other], np.zeros(2))


def _expected(found: list[Sighting], time: float) -> NDArray[np.float64]:
    """Where a face is if it moves as it did when it was last, or first, found."""
    end, box = found[-1]
    other, there = next(one for one in found if abs(end - one[0]) <= SHOWN)
    return box if other == end else box + (box - there) / (end - other) * (time - end)


def _around(boxes: list[NDArray[np.float64]], more: NDArray[np.float64]) -> Box:
    """What is around all of the boxes, and more on each side: x, y."""
    return [*(np.min(boxes, 0)[:2] - more).tolist(), *(np.max(boxes, 0)[2:] + more).tolist()]

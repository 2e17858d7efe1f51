"""Faces made anonymous, in pictures and over the whole time that a face is in a stream."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from ferlightning.deploy.recognizer import Face
from ferlightning.deploy.sources import Frame
from ferlightning.errors import FerlError

How = Literal["box", "blur", "pixelate"]
Box = Sequence[float]
GROWN = 0.15
"""How much a box is larger than the face, as a share of its width and height, on each side."""
SIGMA = 0.2
"""Standard deviation of the blur, as a share of the face's width."""
CELLS = 8
"""Cells across a pixelated face."""
DELAY = 0.5
"""Seconds for which a face is hidden before it is found first and after it is found last."""


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
            part[:] = 0 if how == "box" else _weakened(part, how, right - left)
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


@dataclass
class _Waiting:
    frame: Frame
    faces: list[Face]
    boxes: list[Box]


def hide_stream(stream: Iterable[tuple[Frame, list[Face]]], how: How) -> Iterator[tuple[Frame, list[Face]]]:
    """A stream of frames without their faces, half a second late.

    A face is hidden from half a second before it is found first to half a second after it is found last, and wherever
    it is lost in between.

    Args:
        stream: what ``Recognizer.stream`` yields, best with a search in every frame.
        how: see ``hide``.
    """
    waiting: deque[_Waiting] = deque()
    last: dict[int, tuple[float, Box]] = {}
    for frame, faces in stream:
        now = _Waiting(frame, faces, [face.box for face in faces])
        for face in faces:
            assert face.track is not None
            before = last.get(face.track)
            for old in waiting:
                if before is None or old.frame.time > before[0]:
                    old.boxes.append(
                        face.box if before is None else _between(before, (frame.time, face.box), old.frame)
                    )
            last[face.track] = frame.time, face.box
        now.boxes += [box for time, box in last.values() if 0 < frame.time - time <= DELAY]
        last = {number: seen for number, seen in last.items() if frame.time - seen[0] <= 4 * DELAY}
        waiting.append(now)
        while frame.time - waiting[0].frame.time > DELAY:
            yield _hidden(waiting.popleft(), how)
    for left in waiting:
        yield _hidden(left, how)


def _between(one: tuple[float, Box], other: tuple[float, Box], frame: Frame) -> Box:
    """Where a face was between two times at which it was found."""
    share = (frame.time - one[0]) / (other[0] - one[0])
    return [a + share * (b - a) for a, b in zip(one[1], other[1], strict=True)]


def _hidden(item: _Waiting, how: How) -> tuple[Frame, list[Face]]:
    return replace(item.frame, image=hide(item.frame.image, item.boxes, how)), item.faces

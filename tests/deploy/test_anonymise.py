"""Faces are hidden for as long as they are there, and nothing of them is left that should not be."""

import cv2
import numpy as np
import pytest

from ferlightning.deploy.anonymise import hide, hide_stream
from ferlightning.deploy.recognizer import Face
from ferlightning.deploy.sources import Frame


def test_a_face_is_hidden_before_in_between_and_after() -> None:
    """Found from 1.0 s to 2.0 s, but not from 1.3 s to 1.7 s, in which it moves by 80 pixels."""

    def place(time: float) -> float:
        return 100 + 200 * (time - 1.0)

    stream = []
    for n in range(100):
        time = n / 30
        found = 1.0 <= time <= 2.0 and not 1.3 < time < 1.7
        box = (place(time) - 20, 80.0, place(time) + 20, 120.0)
        stream.append(
            (Frame(np.full((200, 500, 3), 200, np.uint8), n, time), [Face(box, 1.0, track=7)] if found else [])
        )
    hidden = list(hide_stream(stream, "box"))
    assert [frame.index for frame, _ in hidden] == list(range(100))
    for frame, _ in hidden:
        # Where it was found first and last, it is hidden for half a second more.
        where = place(min(max(frame.time, 1.0), 2.0))
        face = frame.image[80:120, round(where - 18) : round(where + 18)]
        if 0.55 < frame.time < 2.45:
            assert face.max() == 0, frame.time
        if not 0.45 < frame.time < 2.55:
            assert frame.image.min() == 200, frame.time


def test_the_box_is_larger_than_the_face_by_15_percent_on_each_side() -> None:
    image = np.full((300, 300, 3), 255, np.uint8)
    rows, columns = np.nonzero(hide(image, [(100, 100, 200, 180)], "box")[:, :, 0] == 0)
    assert (columns.min(), columns.max() + 1, rows.min(), rows.max() + 1) == (85, 215, 88, 192)
    assert image.min() == 255
    assert hide(image, [(-50, -50, 20, 20), (400, 400, 500, 500)], "box")[:30, :30].max() == 0  # beyond the border


def test_pixels_are_few() -> None:
    image = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    part = hide(image, [(30, 30, 130, 130)], "pixelate")[15:145, 15:145]
    assert len(np.unique(part[0], axis=0)) <= 8 and len(np.unique(part[:, 0], axis=0)) <= 9


@pytest.mark.parametrize("width", [24, 80, 160])
def test_the_blur_is_as_strong_as_a_fifth_of_the_width(width: int) -> None:
    """A bright line, blurred, is as wide as the Gaussian of that standard deviation is."""
    image = np.zeros((5 * width, 5 * width, 3), np.uint8)
    middle = 5 * width // 2
    image[:, middle - 1 : middle + 1] = 255
    box = (2 * width, 2 * width, 3 * width, 3 * width)
    soft = hide(image, [box], "blur")[middle, round(1.9 * width) : round(3.1 * width), 0].astype(float)
    x = np.arange(len(soft)) - (soft * np.arange(len(soft))).sum() / soft.sum()
    spread = np.sqrt((soft * x**2).sum() / soft.sum())
    exact = cv2.GaussianBlur(image, (0, 0), 0.2 * width)[middle, round(1.9 * width) : round(3.1 * width), 0].astype(
        float
    )
    x = np.arange(len(exact)) - (exact * np.arange(len(exact))).sum() / exact.sum()
    assert spread > 0.9 * np.sqrt((exact * x**2).sum() / exact.sum())

"""Labels that are drawn into pictures, and the videos of these."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from ferlightning.deploy.annotate import COLORS, VideoFile, draw, place_labels
from ferlightning.deploy.recognizer import Face
from ferlightning.errors import FerlError


def test_a_label_is_above_its_face_else_below() -> None:
    boxes = [(100, 80, 150, 140), (100, 5, 150, 60), (340, 80, 400, 140)]
    assert [place_labels([box], [100], 22, 358, 268) for box in boxes] == [[(100, 58)], [(100, 60)], [(258, 58)]]


def test_labels_of_neighbours_are_beside_each_other() -> None:
    """Labels are wider than faces on a small picture; each is whole, so none hides another."""
    draw_from, (width, height) = np.random.default_rng(0), (358, 268)
    groups = [[(60 * n, 40, 60 * n + 50, 100) for n in range(6)]]  # a row of people
    for _ in range(50):
        corner, side = draw_from.integers(0, (300, 220), (8, 2)), draw_from.integers(20, 120, (8, 1))
        groups.append(np.hstack([corner, corner + side]).tolist())
    for boxes in groups:
        widths = [100, 130, 110, 90, 120, 105, 95, 115][: len(boxes)]
        covered = np.zeros((height, width), int)
        for (x, y), w in zip(place_labels(boxes, widths, 22, width, height), widths, strict=True):
            assert x >= 0 and y >= 0 and x + w <= width and y + 22 <= height
            covered[y : y + 22, x : x + w] += 1
        assert covered.max() == 1


def test_two_faces_beside_each_other_have_whole_labels_in_a_picture() -> None:
    """The labels have the colours of their boxes: one that lay under the other would have less of its own."""
    faces = [
        Face(box=(x, 60.0, x + 30, 90.0), score=1.0, label="surprise", probabilities={"surprise": 1.0}, track=track)
        for track, x in ((1, 20.0), (2, 55.0))
    ]
    blank = np.zeros((200, 320, 3), np.uint8)

    def of(color: int, faces: list[Face]) -> int:
        return int((draw(blank, faces) == COLORS[color]).all(axis=2).sum())

    for n in (0, 1):
        assert abs(of(n, faces) - of(n, [faces[n]])) <= 31  # a side of a box may lie under its own label


@pytest.mark.parametrize("shape", [(8, 70_000, 3), (1, 1, 3)])
def test_a_video_of_a_size_that_cannot_be_written_says_so(shape: tuple[int, ...], tmp_path: Path) -> None:
    file = VideoFile(tmp_path / "film.mkv", 25.0)
    with pytest.raises(FerlError, match=f"{shape[1]} x {shape[0]} pixels cannot be written"):
        try:
            file.add(np.zeros(shape, np.uint8), 0.0)
        finally:
            file.close()
    assert not [*tmp_path.iterdir()]


def test_a_video_that_is_deleted_while_it_is_written_says_so(tmp_path: Path) -> None:
    file = VideoFile(tmp_path / "film.mkv", 25.0)
    file.add(np.zeros((48, 64, 3), np.uint8), 0.0)
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(FerlError, match=r"film.*: was deleted meanwhile"):
        file.close()


def test_a_video_may_have_a_frame_a_day(tmp_path: Path) -> None:
    file = VideoFile(tmp_path / "a.mkv", 1 / 86400)
    for _ in range(3):
        file.add(np.zeros((64, 64, 3), np.uint8), 0.0)
    file.close()
    assert cv2.VideoCapture(str(tmp_path / "a.mkv")).get(cv2.CAP_PROP_FRAME_COUNT) == 3

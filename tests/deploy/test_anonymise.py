"""Faces are hidden for as long as they are there, and nothing of them is left that should not be."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL.Image import fromarray

from ferlightning import FerlError
from ferlightning.cli.main import main
from ferlightning.contracts import Detection, FaceDetector
from ferlightning.deploy.anonymise import hide, hide_stream
from ferlightning.deploy.recognizer import Face
from ferlightning.deploy.sources import Frame
from tests.deploy.common import Image

RED, BLUE = (255, 0, 0), (0, 0, 255)
"""Of the two faces of a film: nothing else in it has these colours, nor has a label."""
SEEN = np.random.default_rng(0).random((2, 300)) > 0.4
"""Whether a face is found in a frame by a detector that flickers."""
EVEN = np.arange(100) / 25
UNEVEN = np.cumsum(np.random.default_rng(1).choice([0.02, 0.04, 0.1, 0.2], 60))
Way = Callable[[float], tuple[float, float] | None]


def visible(image: Image, color: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which pixels of an RGB image have the colour of a face."""
    return np.abs(image.astype(int) - color).max(2) < 50


def write_film(path: str, times: NDArray[np.float64], ways: list[Way]) -> None:
    """A film whose faces are checkered squares of 32 pixels; each frame has twice its number in a corner."""
    frames = []
    for n, time in enumerate(times.tolist()):
        image = np.full((180, 320, 3), 130, np.uint8)
        cells = np.add.outer(np.arange(32) // 4, np.arange(32) // 4) % 2
        for color, way in zip((RED, BLUE), ways, strict=False):
            if (where := way(time)) is not None:
                x, y = (round(v) - 16 for v in where)
                image[y : y + 32, x : x + 32] = cells[..., None] * np.array(color)
        image[:8, :8] = 2 * n
        frames.append(fromarray(image))
    durations = [*np.rint(1000 * np.diff(times)).astype(int).tolist(), 40]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=durations)


class Flickering(FaceDetector):
    """Knows faces by their colours, and misses them where the test says so."""

    misses: ClassVar[Callable[[int, int], bool]]
    least_size: ClassVar[int]

    def __call__(self, image: Image, size: int, min_score: float) -> list[Detection]:
        found = []
        for face, color in enumerate((RED, BLUE)):
            rows, columns = np.nonzero(visible(image, color))
            if len(rows) and size >= self.least_size and not type(self).misses(int(image[2, 2, 0]) // 2, face):
                box = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
                found.append(Detection((float(box[0]), float(box[1]), float(box[2]), float(box[3])), 0.9))
        return found


def sways(t: float) -> tuple[float, float]:
    return 160 + 60 * np.sin(2 * t), 90 + 20 * np.cos(2 * t)


def passes(t: float) -> tuple[float, float] | None:
    return (30 + 100 * (t - 1), 90) if 1 <= t <= 3 else None


def meets(t: float) -> tuple[float, float]:
    return 150 - 60 * abs(t - 2), 85


def is_met(t: float) -> tuple[float, float]:
    return 170 + 60 * abs(t - 2), 95


def jumps(t: float) -> tuple[float, float]:
    return (100, 80) if t < 2 else (114, 90)


def runs(t: float) -> tuple[float, float]:
    return 20 + 140 * t, 90


@pytest.mark.parametrize(
    ("how", "ways", "times", "misses", "options", "least_size"),
    [
        pytest.param("blur", [sways], EVEN, lambda n, face: not SEEN[face, n], [], 0, id="flickers"),
        pytest.param("pixelate", [sways], EVEN, lambda n, face: 54 <= n < 66, [], 0, id="turns back while lost"),
        pytest.param("box", [passes], EVEN, lambda n, face: not 35 <= n <= 65, [], 0, id="comes and goes unseen"),
        pytest.param("box", [meets, is_met], EVEN, lambda n, face: not SEEN[face, n] or 40 + 4 * face <= n < 60, [], 0,
                     id="two meet"),
        pytest.param("box", [jumps], EVEN, lambda n, face: 44 <= n < 54, [], 0, id="scene is cut"),
        pytest.param("box", [sways], UNEVEN, lambda n, face: not SEEN[face, n], [], 0, id="uneven times"),
        pytest.param("box", [runs], EVEN[:50], lambda n, face: n in (15, 30), ["--every=5"], 0, id="leaps"),
        pytest.param("box", [sways], EVEN, lambda n, face: 0 < n % 8 < 4, ["--every=5"], 1280, id="is small"),
        pytest.param("box", [passes], EVEN, lambda n, face: 30 <= n < 40 or 60 < n < 70, ["--start=1.2", "--end=2.4"],
                     0, id="part"),
    ],
)  # fmt: skip
def test_no_frame_that_is_written_shows_a_face(
    how: str, ways: list[Way], times: NDArray[np.float64], misses: Callable[[int, int], bool], options: list[str],
    least_size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Flickering, "misses", misses, raising=False)
    monkeypatch.setattr(Flickering, "least_size", least_size, raising=False)
    write_film("film.gif", times, ways)
    main(["recognize", "film.gif", "--detector=Flickering", "--save=out", f"--anonymize={how}", *options])
    given = {name: float(value) for name, value in (option.split("=") for option in options)}
    part = [n for n, time in enumerate(times) if given.get("--start", 0) <= time <= given.get("--end", 99)]
    written = cv2.VideoCapture("out/film.mkv")
    for n in [n for n in part if n % given.get("--every", 1) == 0]:
        read, image = written.read()
        assert read and abs(int(image[2, 2, 0]) - 2 * n) < 4, n
        for color in (RED, BLUE):
            assert visible(image[:, :, ::-1], color).sum() < 5, (n, times[n])
    assert not written.read()[0]


def test_a_face_is_hidden_before_in_between_and_after() -> None:
    """Found from 1.0 s to 2.0 s, but not from 1.3 s to 1.7 s, in which it moves by 80 pixels."""

    def place(time: float) -> float:
        return 100 + 200 * (time - 1.0)

    stream = []
    for n in range(120):
        time = n / 30
        found = 1.0 <= time <= 2.0 and not 1.3 < time < 1.7
        box = (place(time) - 20, 80.0, place(time) + 20, 120.0)
        stream.append(
            (Frame(np.full((200, 500, 3), 200, np.uint8), n, time), [Face(box, 1.0, track=7)] if found else [])
        )
    hidden = list(hide_stream(stream, "box"))
    assert [frame.index for frame, _ in hidden] == list(range(120))
    for frame, _ in hidden:
        if 0.55 < frame.time < 2.95:  # it may have stood still before and after, or moved on
            for where in (place(min(max(frame.time, 1.0), 2.0)), place(frame.time)):
                assert frame.image[80:120, max(0, round(where - 18)) : round(where + 18)].max() == 0, frame.time
        if not 0.45 < frame.time < 3.05:
            assert frame.image.min() == 200, frame.time


def test_the_box_is_larger_than_the_face_by_15_percent_on_each_side() -> None:
    image = np.full((300, 300, 3), 255, np.uint8)
    rows, columns = np.nonzero(hide(image, [(100, 100, 200, 180)], "box")[:, :, 0] == 0)
    assert (columns.min(), columns.max() + 1, rows.min(), rows.max() + 1) == (85, 215, 88, 192)
    assert image.min() == 255
    assert hide(image, [(-50, -50, 20, 20), (400, 400, 500, 500)], "box")[:30, :30].max() == 0  # beyond the border


class Faint(FaceDetector):
    """Finds one face, of which it is less sure than it wants to be."""

    min_score = 0.8

    def __call__(self, image: Image, size: int, min_score: float) -> list[Detection]:
        return [Detection((0.0, 0.0, 32.0, 32.0), 0.6)] if min_score <= 0.6 else []


def test_a_video_that_cannot_be_shown_changes_nothing_for_the_next_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for screen in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(screen, raising=False)
    write_film("film.gif", EVEN[:5], [sways])
    cv2.imwrite("still.png", np.full((64, 64, 3), 130, np.uint8))
    with pytest.raises(SystemExit):
        main(["recognize", "film.gif", "still.png", "--detector=Faint", "--anonymize", "--show", "--format=jsonl"])
    said = capsys.readouterr()
    assert "--show: " in said.err and '"faces": []' in said.out


class Picky(FaceDetector):
    """Refuses pictures of another size, as a detector of one's own may."""

    def __call__(self, image: Image, size: int, min_score: float) -> list[Detection]:
        if image.shape[0] != 64:
            raise FerlError("expected 64 pixels")
        return []


def test_a_picture_that_a_detector_refuses_takes_no_others_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for n, side in enumerate((64, 32, 64, 32, 64)):
        cv2.imwrite(f"{n}.png", np.full((side, side, 3), 130, np.uint8))
    with pytest.raises(SystemExit):
        main(["recognize", ".", "--detector=Picky", "--batch=2", "--format=json", "--save=out", "--anonymize"])
    said = capsys.readouterr()
    assert [Path(record["source"]).name for record in json.loads(said.out)] == ["0.png", "2.png", "4.png"]
    assert "1.png: expected 64 pixels" in said.err and "3.png: expected 64 pixels" in said.err
    assert sorted(path.name for path in Path("out").iterdir()) == ["0.png", "2.png", "4.png"]


def test_there_is_no_other_way_to_hide() -> None:
    with pytest.raises(FerlError, match="by box or blur or pixelate, not by 'Box'"):
        hide(np.zeros((9, 9, 3), np.uint8), [], "Box")  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["box", "blur", "pixelate"])
def test_a_box_without_width_is_hidden_and_stops_nothing(how: Any) -> None:
    image = np.full((20, 20, 3), 200, np.uint8)
    image[:, 10] = 0
    hidden = hide(image, [(10.5, 2.0, 10.5, 18.0)], how)
    assert (hidden[:, 12:] == 200).all() and (hidden[:, :8] == 200).all()


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

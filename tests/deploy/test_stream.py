"""Who is who, and what is told of each face, over a stream whose faces are drawn."""

import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from ferlightning import FerlError, Recognizer
from ferlightning.contracts import Detection
from ferlightning.deploy.recognizer import Face
from ferlightning.deploy.sources import Frame, Video
from ferlightning.deploy.tracking import Tracker
from tests.deploy.common import Blobs, Brightness, Image, dots


def follow(images: Sequence[Image], rate: float = 30, **options: int) -> list[list[Face]]:
    recognizer = Recognizer(Brightness(), detector=Blobs())
    frames = [Frame(image, n, n / rate) for n, image in enumerate(images)]
    return [faces for _, faces in recognizer.stream(frames, **options)]


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"size": -5}, {"threads": 0.5}, {"min_score": 7}])
def test_numbers_that_mean_nothing_are_refused(wrong: dict[str, float]) -> None:
    (name,) = wrong
    with pytest.raises(FerlError, match=f"{name} is "):
        Recognizer(detector="none", **wrong)
    for source, message in ((None, "None in place of a video"), ([np.zeros((9, 9, 3))], "frame 0 is a ndarray")):
        with pytest.raises(FerlError, match=message):
            next(Recognizer(detector="none").stream(source))
    with pytest.raises(FerlError, match="every_face is 0"):
        next(Recognizer(detector="none").stream("a.mp4", every_face=0))


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (Frame(np.zeros((9, 9, 3)), 0, 0.0), r"frame 0 is float64 \(9, 9, 3\), expected an array"),  # type: ignore[arg-type]
        (Frame(dots()[:, :, 0], 0, 0.0), r"frame 0 is uint8 \(\d+, \d+\), expected an array"),
        (Frame(dots()[:0], 0, 0.0), "frame 0 has no pixels"),
        (Frame(dots(), 0, float("nan")), "the time of frame 0 is nan"),
    ],
)
def test_what_is_no_frame_is_refused(frame: Frame, message: str) -> None:
    with pytest.raises(FerlError, match=message):
        next(Recognizer(Brightness(), detector=Blobs()).stream([frame]))


def test_a_time_that_goes_back_is_refused_and_one_that_stands_still_is_not() -> None:
    """Or a face that left would be shown until the old time has come again."""
    times = (4.0, 4.0, 3.0)
    frames = [Frame(dots((50, 50)), n, time) for n, time in enumerate(times)]
    with pytest.raises(FerlError, match="the time of frame 2 is .* expected none earlier"):
        list(Recognizer(Brightness(), detector=Blobs()).stream(frames))


def test_times_may_be_fractions_as_those_of_pyav_are() -> None:
    frames = [Frame(dots((50 + n, 50)), n, Fraction(n, 30)) for n in range(9)]  # type: ignore[arg-type]
    seen = list(Recognizer(Brightness(), detector=Blobs()).stream(frames))
    assert [len(faces) for _, faces in seen] == [1] * 9


@pytest.mark.parametrize("when", [{"start": -1.0}, {"end": float("nan")}, {"start": 2.0, "end": 1.0}])
def test_times_that_mean_nothing_are_refused(when: dict[str, float]) -> None:
    with pytest.raises(FerlError, match=r"(start|end) is .*expected"):
        Video("a.mp4", **when)


def test_what_detectors_and_models_of_ones_own_give_is_checked() -> None:
    class Wrong(Brightness):
        class_names = ["sadness", "happiness", "fear"]

    class Nowhere(Blobs):
        def __call__(self, image: Image, size: int, min_score: float) -> list[Detection]:
            return [Detection((0.0, 0.0, float("nan"), 9.0), 1.0)]

    class Damaged(Brightness):
        def __call__(self, faces: list[list[Image]]) -> np.ndarray:
            return super().__call__(faces) * np.float32("nan")

    class Given(Blobs):
        def __init__(self, gives: object) -> None:
            super().__init__()
            self.gives = gives

        def __call__(self, image: Image, size: int, min_score: float) -> Any:
            return self.gives

    for gives, message in (
        (None, "gave None, expected a list"),
        ([(0, 0, 9, 9)], r"gave \(0, 0, 9, 9\) as a face, expected a Detection"),
        ([Detection((90.0, 50.0, 20.0, 20.0), 1.0)], "is it a width and height"),
        ([Detection((0.0, 0.0, 9.0, 9.0), 1.0, np.zeros((3, 2), np.float32))], r"landmarks of the shape \(3, 2\)"),
    ):
        with pytest.raises(FerlError, match=message):
            Recognizer(Brightness(), detector=Given(gives))(dots((50, 50)))
    found = Detection((40.0, 40.0, 60.0, 60.0), 1.0)
    assert len(Recognizer(Brightness(), detector=Given(face for face in [found]))(dots((50, 50)))) == 1
    with pytest.raises(FerlError, match="the model gave probabilities that are no numbers"):
        Recognizer(Damaged(), detector=Blobs())(dots((50, 50)))
    with pytest.raises(FerlError, match=r"the shape \(1, 2\), expected one row for each of the 1 faces and 3 classes"):
        Recognizer(Wrong(), detector=Blobs())(dots((50, 50)))
    with pytest.raises(FerlError, match="found a face at .*nan.*, expected left"):
        next(Recognizer(Brightness(), detector=Nowhere()).stream([Frame(dots(), 0, 0.0)]))


@pytest.mark.skipif(sys.platform != "linux", reason="/proc counts the threads")
def test_no_more_threads_are_begun_than_there_are_cores() -> None:
    code = """from ferlightning import Recognizer
    recognizer = Recognizer(detector="none", threads=1000)
    print(open("/proc/self/status").read().split("Threads:")[1].split()[0])""".replace("    ", "")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 500


def test_numbers_go_from_left_to_right_and_stay() -> None:
    seen = follow([dots((20 + n, 30), (100, 80 - n), (180 - n, 20 + n)) for n in range(60)])
    assert all([face.track for face in faces] == [1, 2, 3] for faces in seen)
    assert all(abs(faces[0].box[0] - (10 + n)) <= 2 for n, faces in enumerate(seen))  # also between two searches


def test_a_face_keeps_its_number_through_a_gap_of_less_than_a_second_only() -> None:
    def film(gap: int) -> list[int | None]:
        shown = [dots((50, 50))] * 30 + [dots()] * gap + [dots((50, 50))] * 10
        return [faces[0].track if faces else None for faces in follow(shown)]

    short, long = film(20), film(45)
    assert short[-1] == 1 and long[-1] == 2
    assert short[45] is None and short[32] == 1  # it is still shown for a quarter of a second


def test_what_is_unsure_keeps_a_face_but_begins_none() -> None:
    tracker = Tracker(min_score=0.8)
    tracker.update([Detection((0, 0, 10, 10), 0.9), Detection((50, 0, 60, 10), 0.5)], 0.0)
    tracker.update([Detection((1, 0, 11, 10), 0.5)], 0.1)
    assert [(track.number, track.time) for track in tracker.tracks] == [(1, 0.1)]


@pytest.mark.parametrize("rate", [10, 30, 60])
def test_probabilities_are_smoothed_in_time_not_in_frames(rate: int) -> None:
    seen = follow([dots((50, 50), grey=51)] * rate + [dots((50, 50))] * rate, rate)
    for n, faces in enumerate(seen[rate:], 1):
        expected = 1 - 0.8 * np.exp(-n / rate / 0.3)
        assert faces[0].probabilities["happiness"] == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(("grey", "seconds"), [(255, 0.3), (191, 0.6)])  # ahead by 1, and by a half
def test_a_label_changes_once_another_was_ahead_for_a_while(grey: int, seconds: float) -> None:
    seen = follow([dots((50, 50), grey=51)] * 30 + [dots((50, 50), grey=grey)] * 30)
    change = next(n for n, faces in enumerate(seen) if faces[0].label == "happiness")
    assert change / 30 - 29 / 30 == pytest.approx(seconds, abs=1.5 / 30)
    flicker = follow([dots((50, 50), grey=51 if n % 2 else grey) for n in range(90)])
    assert len({faces[0].label for faces in flicker}) == 1


def test_faces_may_be_classified_less_often() -> None:
    calls = 0

    class Counting(Brightness):
        def __call__(self, faces: list[list[Image]]) -> np.ndarray:
            nonlocal calls
            calls += len(faces)
            return super().__call__(faces)

    recognizer = Recognizer(Counting(), detector=Blobs())
    frames = [Frame(dots((50, 50), (150, 50)), n, n / 30) for n in range(30)]
    assert all(len(faces) == 2 for _, faces in recognizer.stream(frames, every_face=3))
    assert 20 <= calls <= 22


def test_a_model_of_clips_sees_the_past_of_each_face() -> None:
    class Past(Brightness):
        clips = True

        def __call__(self, faces: list[list[Image]]) -> np.ndarray:
            lengths.append([len(clip) for clip in faces])
            return super().__call__(faces)

    lengths: list[list[int]] = []
    recognizer = Recognizer(Past(), detector=Blobs())
    list(recognizer.stream([Frame(dots((50, 50)), n, n / 30) for n in range(20)]))
    assert lengths[0] == [1] and lengths[9] == [10] and lengths[-1] == [16]

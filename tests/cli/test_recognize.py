"""``ferl recognize``, from sources of every kind to what it writes."""

import csv
import io
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL.Image import fromarray

from ferlightning.cli.main import main
from ferlightning.deploy.places import find_sources
from ferlightning.deploy.sources import shown
from ferlightning.weights import find_weights
from tests.deploy.common import HOPPER, MODELS, YUNET, Image, hopper, needs_yunet

PAGE = Path(__file__).parents[2] / "docs/recognize.md"
CROPPED = "--detector=none"
"""Pictures are faces: what these tests are about does not depend on the detector."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def face(n: int = 0) -> Image:
    """Some pixels; what is recognised in them does not matter here."""
    return np.random.default_rng(n).integers(0, 256, (160, 160, 3), np.uint8)


def write_video(path: str, frames: int = 30, size: int = 160) -> None:
    code = cv2.VideoWriter.fourcc(*("mp4v" if path.endswith(".mp4") else "MJPG"))
    writer = cv2.VideoWriter(path, code, 30, (size, size))
    for n in range(frames):
        writer.write(np.full((size, size, 3), n * 255 // frames, np.uint8))
    writer.release()


def frames_of(path: str) -> list[Image]:
    capture, found = cv2.VideoCapture(path), []
    while (read := capture.read())[0]:
        found.append(read[1])
    return found


def run(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> tuple[str, str]:
    """What is written to standard output and error."""
    try:
        main(["recognize", *words])
        code: Any = 0
    except SystemExit as stop:
        code = stop.code
    written = capsys.readouterr()
    assert code == status, written.err
    return written.out, written.err


def test_all_that_can_be_read_is_done_and_the_rest_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    Path("in/below").mkdir(parents=True)
    for name in ("in/a.png", "in/below/b.jpg", "c-1.png", "c-2.png"):
        cv2.imwrite(name, face())
    Path("in/broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    Path("in/notes.txt").write_text("no picture")
    write_video("in/film.avi", 3)
    out, err = run(capsys, "in", "no-such.png", "c-*.png", CROPPED, "--format=jsonl", "--save=out", status=1)
    seen = [json.loads(line)["source"] for line in out.splitlines()]
    assert seen == ["in/a.png", "in/below/b.jpg", *["in/film.avi"] * 3, "c-1.png", "c-2.png"]
    assert "2 of 7 sources" in err and "in/broken.jpg: cannot be read" in err and "no-such.png: there is no" in err
    assert "Saved: 5 of 7 in out" in err
    saved = sorted(str(path.relative_to("out")) for path in Path("out").rglob("*") if path.is_file())
    assert saved == ["a.png", "below/b.jpg", "c-1.png", "c-2.png", "film.mkv"]


def test_copies_are_not_recognised_again_and_a_pattern_may_mean_folders(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    Path("in/below").mkdir(parents=True)
    cv2.imwrite("in/a.png", face())
    cv2.imwrite("in/below/b.pgm", face()[:, :, 0])
    for words in (["in"], ["in"], ["i*"]):
        out, _ = run(capsys, *words, CROPPED, "--format=jsonl", "--save=in/out")
        assert [json.loads(line)["source"] for line in out.splitlines()] == ["in/a.png", "in/below/b.pgm"]
    assert "2 files in in/out are left out of in, since copies are saved there" in caplog.text
    saved = cv2.imread("in/out/below/b.pgm.png")
    assert (saved != saved[:, :, :1]).any(), "a format without colours would hide the box"


def test_a_copy_that_cannot_be_written_is_told_and_the_rest_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    fromarray(np.full((1, 66_000), 90, np.uint8)).save("wide.bmp")
    Path("wide.bmp").rename("wide.jpg")  # JPEG has at most 65,535 pixels on a side
    cv2.imwrite("x:y.png", face())
    write_video("x:y.avi", 4)  # before a colon FFmpeg sees a protocol
    _, err = run(capsys, "wide.jpg", "x:y.png", "x:y.avi", CROPPED, "--save=out", status=1)
    assert "wide.jpg: .jpg takes no picture of 66000 x 1 pixels" in err and "Saved: 2 of 3 in out" in err
    assert len(frames_of("out/./x:y.mkv")) == 4 and sorted(x.name for x in Path("out").iterdir()) == [
        "x:y.mkv",
        "x:y.png",
    ]


def test_frames_are_later_than_those_before_them_whatever_the_video_says(capsys: pytest.CaptureFixture[str]) -> None:
    """A raw stream of JPEG images tells no times, and labels are smoothed in time."""
    images = [cv2.imencode(".jpg", np.full((160, 160, 3), 8 * n, np.uint8))[1].tobytes() for n in range(20)]
    Path("raw.mjpeg").write_bytes(b"".join(images))
    out, _ = run(capsys, "raw.mjpeg", CROPPED, "--format=jsonl")
    times = [json.loads(line)["time"] for line in out.splitlines()]
    assert len(times) == 20 and (np.diff(times) > 0.01).all()


def test_the_formats_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite("=1+1.png", face(1))
    cv2.imwrite("b.png", face(2))
    written = {
        f: run(capsys, "=1+1.png", "b.png", CROPPED, f"--format={f}")[0] for f in ("json", "jsonl", "csv", "table")
    }
    records = json.loads(written["json"])
    assert [json.loads(line) for line in written["jsonl"].splitlines()] == records
    rows = list(csv.DictReader(io.StringIO(written["csv"])))
    for record, row, line in zip(records, rows, written["table"].splitlines(), strict=True):
        (found,) = record["faces"]
        assert found["box"] == [0, 0, 160, 160] == [float(row[side]) for side in ("left", "top", "right", "bottom")]
        assert found["label"] == row["label"] == max(found["probabilities"], key=found["probabilities"].get)
        assert {name: float(row[name]) for name in found["probabilities"]} == found["probabilities"]
        assert sum(found["probabilities"].values()) == pytest.approx(1, abs=1e-3)
        assert record["source"] in line and found["label"] in line
    assert rows[0]["source"] == "'=1+1.png"  # which no spreadsheet runs
    nothing = [run(capsys, "no.png", CROPPED, f"--format={f}", status=1)[0] for f in ("json", "csv")]
    assert json.loads(nothing[0]) == [] and nothing[1] == written["csv"].splitlines(True)[0]
    best = json.loads(run(capsys, "b.png", CROPPED, "--format=jsonl", "--top=2", "--view=fer2013")[0])["faces"][0]
    assert len(best["probabilities"]) == 2 and best["label"] in best["probabilities"]
    (row,) = csv.DictReader(io.StringIO(run(capsys, "b.png", CROPPED, "--format=csv", "--top=2", "--view=fer2013")[0]))
    told = {name: float(row[name]) for name in ("anger", "fear", "happiness", "neutral", "sadness") if row[name]}
    assert told == {name: p for name, p in best["probabilities"].items() if name in told}
    assert sum(bool(value) for value in list(row.values())[-7:]) == 2


def test_a_video_is_cut_thinned_and_saved(capsys: pytest.CaptureFixture[str]) -> None:
    write_video("film.avi", 90)
    out, _ = run(capsys, "film.avi", CROPPED, "--format=jsonl", "--start=1", "--end=0:02", "--every=5", "--save=out")
    records = [json.loads(line) for line in out.splitlines()]
    assert [record["frame"] for record in records] == list(range(30, 61, 5))
    assert all(record["time"] == pytest.approx(record["frame"] / 30, abs=0.01) for record in records)
    assert {face["track"] for record in records for face in record["faces"]} == {1}
    saved = frames_of("out/film.mkv")
    assert len(saved) == len(records) and [*Path("out").iterdir()] == [Path("out/film.mkv")]
    for record, image in zip(records, saved, strict=True):
        assert image[20:120, 20:140].mean() == pytest.approx(record["frame"] * 255 // 90, abs=6)


def test_what_is_saved_is_anonymous(capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite("a.png", face())
    write_video("film.avi", 20)
    run(capsys, "a.png", "film.avi", CROPPED, "--save=out", "--anonymize")
    for image in (cv2.imread("out/a.png"), *frames_of("out/film.mkv")):
        assert image[20:120, 20:140].max() < 20  # beside what is drawn
    _, err = run(capsys, "a.png", CROPPED, "--anonymize", status=2)
    assert "--save" in err


def test_nothing_that_is_read_is_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite("a.png", face())
    before = Path("a.png").read_bytes()
    _, err = run(capsys, "a.png", CROPPED, "--save=.", status=2)
    assert "would replace a.png" in err and Path("a.png").read_bytes() == before
    Path("other").mkdir()
    shutil.copy("a.png", "other/a.png")
    run(capsys, "a.png", "other/a.png", CROPPED, "--save=out")
    assert sorted(path.name for path in Path("out").iterdir()) == ["a-2.png", "a.png"]
    _, err = run(capsys, "other/a.png", "a.png", CROPPED, "--save=.", status=2)  # not the one that it is a copy of
    assert "would replace a.png" in err and Path("a.png").read_bytes() == before
    shutil.copy("a.png", "a")
    run(capsys, "a", "a.png", CROPPED, "--save=both")
    assert sorted(path.name for path in Path("both").iterdir()) == ["a-2.png", "a.png"]


@pytest.mark.skipif(sys.platform != "linux", reason="where names are any bytes")
def test_names_that_are_not_utf8_and_pipes_stop_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Path("in").mkdir()
    cv2.imwrite("a.png", face())
    write_video("a.avi", 3)
    shutil.copy("a.png", b"in/\xff.png")
    shutil.copy("a.avi", b"in/\xff.avi")  # at whose name OpenCV crashes
    for name in ("in/pipe.jpg", "in/pipe.mp4", "in/pipe"):
        os.mkfifo(name)
    done = start("in", "--format=jsonl", "--save=out", env=os.environ | {"PYTHONIOENCODING": "utf-8:strict"})
    out, err = done.communicate(timeout=60)
    assert done.returncode == 1 and b"1 of 2 sources" in err and b"not UTF-8: rename it" in err
    assert [os.fsencode(json.loads(line)["source"]) for line in out.splitlines()] == [b"in/\xff.png"]
    assert [os.fsencode(path) for path in Path("out").iterdir()] == [b"out/\xff.png"]


def test_a_video_of_which_no_frame_is_taken_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    write_video("film.avi", 30)
    _, err = run(capsys, "film.avi", "", "99999999999999", CROPPED, "--start=100", status=1)
    assert "3 of 3 sources" in err and "film.avi: has no frame that can be read from 100 s on" in err


def test_a_video_that_is_cut_off_or_has_no_face_is_told_and_a_moving_gif_is_one(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    write_video("20:30.avi", 40)  # FFmpeg takes what is before a colon for a protocol
    Path("cut.avi").write_bytes(Path("20:30.avi").read_bytes()[: Path("20:30.avi").stat().st_size // 2])
    pictures = [fromarray(face(n)) for n in range(3)]
    pictures[0].save("moving.gif", save_all=True, append_images=pictures[1:], duration=100)
    pictures[0].save("still.gif")
    out, _ = run(capsys, "20:30.avi", "cut.avi", "moving.gif", "still.gif", CROPPED, "--format=csv")
    rows = Counter(row["source"] for row in csv.DictReader(out.splitlines()))
    assert rows.pop("cut.avi") in range(15, 25) and rows == {"20:30.avi": 40, "moving.gif": 3, "still.gif": 1}
    assert "cut.avi: ends after" in caplog.text and "20:30" not in caplog.text
    assert run(capsys, "20:30.avi", "--detector=haar")[0] == "20:30.avi  no face\n"


def test_a_film_that_is_trimmed_is_whole_and_one_that_ends_in_a_part_or_has_a_hole_is_not(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """By MP4's edit list twenty frames of forty are shown; the GIF lacks its last frames, a film half of its data."""
    write_video("whole.mp4", 40)
    content = bytearray(Path("whole.mp4").read_bytes())
    edit, track, film = (content.index(name) for name in (b"elst", b"mdhd", b"mvhd"))
    (of_track,), (of_film,) = (struct.unpack_from(">I", content, place + 16) for place in (track, film))
    struct.pack_into(">Ii", content, edit + 12, of_film * 20 // 30, of_track * 10 // 30)
    struct.pack_into(">I", content, film + 20, of_film * 20 // 30)  # how long the film is now
    Path("trimmed.mp4").write_bytes(content)
    holed = bytearray(Path("whole.mp4").read_bytes())
    half, after = holed.index(b"mdat") + len(holed) // 2, holed.index(b"moov")
    holed[half:after] = bytes(max(0, after - half))
    Path("hole.mp4").write_bytes(holed)
    Path("cut.mp4").write_bytes(Path("whole.mp4").read_bytes() + struct.pack(">I4s", 1000, b"mdat"))
    pictures = [fromarray(face(n)) for n in range(6)]
    pictures[0].save("whole.gif", save_all=True, append_images=pictures[1:], duration=100)
    Path("cut.gif").write_bytes(Path("whole.gif").read_bytes()[: Path("whole.gif").stat().st_size // 2])
    out, _ = run(
        capsys, "whole.mp4", "trimmed.mp4", "cut.mp4", "hole.mp4", "whole.gif", "cut.gif", CROPPED, "--format=csv"
    )
    rows = Counter(row["source"] for row in csv.DictReader(out.splitlines()))
    assert rows.pop("cut.gif") < 6 and rows.pop("hole.mp4") < 36
    assert rows == {"whole.mp4": 40, "trimmed.mp4": 20, "cut.mp4": 40, "whole.gif": 6}
    told = [record.getMessage().partition(":")[0] for record in caplog.records if "is it cut off" in record.message]
    assert told == ["cut.mp4", "hole.mp4", "cut.gif"]


def test_a_text_is_no_film(capsys: pytest.CaptureFixture[str]) -> None:
    """FFmpeg would draw it."""
    for name in ("a.nfo", "a.txt"):
        Path(name).write_text("Some words that are no picture.\n" * 200)
    out, err = run(capsys, "a.*", CROPPED, status=1)
    assert not out and err.count("cannot be read as a picture or video") == 2


@pytest.mark.skipif(os.name != "posix", reason="a shell that closes files")
@pytest.mark.parametrize(
    ("redirection", "status", "message"),
    [
        ("- <&-", 1, "standard input is closed"),
        ("a.png >&-", 0, ""),
        ("a.png 2>&-", 0, "a.png  face 1"),
        pytest.param(
            "a.png >/dev/full",
            2,
            "No space left",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="no /dev/full"),
        ),
    ],
)
def test_standard_files_may_be_closed(redirection: str, status: int, message: str) -> None:
    cv2.imwrite("a.png", face())
    command = f"{sys.executable} -m ferlightning recognize {CROPPED} --threads=100000000000 {redirection}"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.returncode == status and message in done.stdout + done.stderr, done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.png", "--savee=x"], "did you mean --save"),
        (["a.png", "--top=0"], "'0' is not a whole number"),
        (["a.png", "--start=5", "--end=2"], "--end=2 is not after"),
        (["a.png", "--model=ferl-smal"], "did you mean ferl-small"),
        (["a.png", "--model=a.png"], "no ONNX file: write one by `ferl export RUN mine.onnx`"),
        (["--anonymize", "a.png"], "source that follows, write --anonymize=box"),
        (["a.png", "--align"], "finds no eyes: take yunet or mtcnn"),
        (["a.png", "--save="], "'' is not a folder; the one where you are is ."),
        (["a.png", "--save=a.png/out"], "a.png is no folder that can be written to"),
        (["a.png", "--model=class_nymes.onnx"], "what it tells of itself is damaged"),
        (["a.png", "--model=twice.onnx"], "two classes have one name"),
        (["a.png", "--model=margin.onnx"], "margin is nan"),
        (["a.png", "--view=imagenet"], "no view 'imagenet'; it has fer2013"),
        ([], "SOURCE"),
    ],
)
def test_mistakes_are_named(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite("a.png", face())
    content = find_weights("ferl-small.onnx").read_bytes()
    Path("class_nymes.onnx").write_bytes(content.replace(b'"class_names"', b'"class_nymes"'))
    Path("twice.onnx").write_bytes(content.replace(b'"contempt"', b'"surprise"'))
    Path("margin.onnx").write_bytes(content.replace(b'"margin": 0.0', b'"margin": NaN'))
    assert message in run(capsys, *words, CROPPED, status=2)[1]


def test_a_tilde_is_the_home_after_an_equals_sign_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where no shell replaces it."""
    home = folder / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    cv2.imwrite(str(home / "a.png"), face())
    shutil.copy(find_weights("ferl-nano.onnx"), home / "mine.onnx")
    run(capsys, "~/a.png", "--model=~/mine.onnx", "--save=~/out", CROPPED)
    assert (home / "out/a.png").is_file() and [*folder.iterdir()] == [home]
    assert f"there is no file {home}/no.onnx" in run(capsys, "~/a.png", "--detector-path=~/no.onnx", status=2)[1]


def test_a_line_stays_one_and_a_pipe_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite("two\nlines.png", face())
    cv2.imwrite("a.pbm", np.eye(48, dtype=np.uint8))
    os.mkfifo("pipe")
    out, err = run(capsys, "two\nlines.png", "a.pbm", "pipe", CROPPED, status=1)
    assert [line.split("  ")[0] for line in out.splitlines()] == [r"two\nlines.png", "a.pbm"]
    assert "pipe: is a pipe or device: give what it sends to `ferl recognize -`" in err


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_links_in_a_circle_and_to_nothing_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    Path("in").mkdir()
    cv2.imwrite("in/a.png", face())
    for name, target in (("round", "round"), ("gone.png", "nothing")):
        Path("in", name).symlink_to(target)
    for word in ("in", "in/*"):
        out, err = run(capsys, word, CROPPED, "--save=out", status=1)
        assert out.startswith("in/a.png") and "2 of 3 sources failed" in err and "in/round" in err and "gone.png" in err
    assert "in/round is no folder" in run(capsys, "in/a.png", CROPPED, "--save=in/round/deeper", status=2)[1]


def test_thousands_of_one_name_take_no_time() -> None:
    for n in range(3000):
        Path(f"in/{n}").mkdir(parents=True)
        Path(f"in/{n}/1.png").touch()
    began = time.process_time()
    found, missing = find_sources(["in/*/1.png"])
    assert time.process_time() - began < 5 and not missing
    assert {source.saved for source in found} == {"1.png", *(f"1-{n}.png" for n in range(2, 3001))}


def test_what_a_name_may_do_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Too long a name for a file, or for its copy, and one that would colour the terminal."""
    longest = f"{'n' * 251}.avi"
    write_video("a.avi", 3)
    Path("a.avi").rename(longest)
    Path("\x1b[31mred.png").write_bytes(b"nothing")
    words = ["x" * 5000, f"{'y' * 300}*.png", "\x1b[31mred.png", longest]
    _, err = run(capsys, *words, CROPPED, "--save=out", status=1)
    assert "4 of 4 sources" in err and err.count("there is no such file") == 2 and "\x1b" not in err
    assert "red.png: cannot be read" in err and "cannot be written: File name too long" in err
    assert [*Path("out").iterdir()] == []


# --- in a process of its own ------------------------------------------------------------------------------------------


def start(*words: str, **options: Any) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "ferlightning", "recognize", *words, CROPPED]
    # A shell's background job ignores Ctrl-C, and so would what it starts.
    options["preexec_fn"] = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


@pytest.mark.parametrize("suffix", [".png", ".mkv"])
def test_standard_input_is_a_picture_or_a_video(suffix: str) -> None:
    if suffix == ".png":
        cv2.imwrite("a.png", face())
    else:
        write_video("a.mkv", 8)
    out, err = start("-", "--format=jsonl", stdin=subprocess.PIPE).communicate(Path(f"a{suffix}").read_bytes())
    assert len(out.splitlines()) == (1 if suffix == ".png" else 8), err


@pytest.mark.parametrize("first", [".jpg", ".png"])
@pytest.mark.parametrize("second", [".jpg", ".png"])
def test_of_several_pictures_on_standard_input_none_is_taken_for_all(
    first: str, second: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (cv2.imencode(suffix, face())[1].tobytes() for suffix in (first, second))

    def read(content: bytes, status: int = 0) -> tuple[str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        return run(capsys, "-", CROPPED, status=status)

    assert "has several pictures, one after the other" in read(one + other, status=1)[1]
    assert "face 1" in read(one)[0]
    if first == ".jpg":
        phone = one[:2] + b"\xff\xe2\0\x06MPF\0" + one[2:]  # with a second picture that is not meant for the eye
        assert "face 1" in read(phone + other)[0]


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_a_film_on_standard_input_is_called_so(suffix: str) -> None:
    write_video(f"a{suffix}", 40)
    content = Path(f"a{suffix}").read_bytes()
    cut = content + struct.pack(">I4s", 1000, b"mdat") if suffix == ".mp4" else content[: len(content) // 2]
    out, err = start("-", "--format=csv", stdin=subprocess.PIPE).communicate(cut)
    assert out.count(b"\n-,") > 10
    assert err.startswith(b"standard input: ends after"), err


def test_no_copy_replaces_another_of_the_same_call() -> None:
    """Sources of one name, or whose copies have one: standard input, another case, and a video's until it is whole."""
    for n, name in enumerate(("x/a.png", "y/a.png", "y/A.PNG", "stdin.png")):
        Path(name).parent.mkdir(exist_ok=True)
        cv2.imwrite(name, np.full((160, 160, 3), 40 * n + 40, np.uint8))
    for name, frames in (("x/a.avi", 3), ("y/a.avi", 5), ("a.partial.avi", 7)):
        write_video(name, frames)
    words = ["a.partial.avi", "x/a.png", "y/a.png", "y/A.PNG", "x/a.avi", "y/a.avi", "stdin.png", "-", "--save=out"]
    _, err = start(*words, stdin=subprocess.PIPE).communicate(Path("x/a.png").read_bytes())
    assert b"Saved: 8 of 8" in err
    corners = sorted(int(cv2.imread(str(path))[-1, -1, 0]) for path in Path("out").iterdir() if path.suffix != ".mkv")
    assert corners == [40, 40, 80, 120, 160]
    assert sorted(len(frames_of(str(path))) for path in Path("out").glob("*.mkv")) == [3, 5, 7]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_what_was_done_before_a_signal_can_be_read(how: signal.Signals) -> None:
    write_video("film.mkv", 1500, 96)
    process = start("film.mkv", "--format=jsonl", "--save=out")
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(250)]
    process.send_signal(how)
    lines += process.stdout.read().splitlines(True)
    assert process.wait() == (130 if how != signal.SIGKILL else -signal.SIGKILL)
    assert [json.loads(line)["frame"] for line in lines] == list(range(len(lines))) and len(lines) < 1500
    (path,) = Path("out").iterdir()
    if how != signal.SIGKILL:
        assert process.stderr is not None and b"Saved: 1 of 1 in out; stopped before the end" in process.stderr.read()
        assert path.name == "film.mkv" and len(lines) - len(frames_of(str(path))) in (0, 1)
    else:
        assert path.name == "film.partial.mkv"
        assert len(frames_of(str(path))) >= len(lines) - 155  # Matroska is written in pieces of five seconds


def test_a_reader_that_has_seen_enough_ends_the_film_properly() -> None:
    write_video("film.mkv", 1500, 96)
    process = start("film.mkv", "--format=jsonl", "--save=out", "--anonymize")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait() == 141 and process.stderr.read() == b""
    assert [*Path("out").iterdir()] == [Path("out/film.mkv")] and 0 < len(frames_of("out/film.mkv")) < 1500


@pytest.mark.skipif(sys.platform == "win32", reason="files are locked by fcntl")
def test_two_processes_do_not_write_one_video() -> None:
    write_video("film.mkv", 600, 96)
    first = start("film.mkv", "--format=jsonl", "--save=out")
    assert first.stdout is not None
    first.stdout.readline()
    second = start("film.mkv", "--save=out")
    assert b"film.partial.mkv: another process writes it: give another folder" in second.communicate()[1]
    assert first.poll() is None, "which is what this test is about"
    first.communicate()
    assert (first.returncode, second.returncode) == (0, 1)
    assert len(frames_of("out/film.mkv")) == 600 and [*Path("out").iterdir()] == [Path("out/film.mkv")]


@pytest.mark.skipif(os.name != "posix", reason="limits the size of files")
def test_an_interrupted_film_that_cannot_be_ended_is_told_and_no_other_begun() -> None:
    import resource

    write_video("film.mkv", 1500, 96)
    shutil.copy("film.mkv", "next.mkv")
    with pytest.MonkeyPatch.context() as patched:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, before[1]))  # which the process inherits
        patched.setenv("PYTHONDONTWRITEBYTECODE", "1")
        process = start("film.mkv", "next.mkv", "--format=jsonl", "--save=out")
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert process.stdout is not None
    for _ in range(250):
        process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130 and b"film.partial.mkv: the end could not be written" in err, err
    assert b"next.mkv" not in out


def test_neither_torch_nor_anything_large_is_needed() -> None:
    """Only NumPy, OpenCV and ONNX Runtime can be imported, and what these bring."""
    cv2.imwrite("a.png", face())
    fromarray(face()).save("still.gif")
    write_video("film.mp4", 3)
    code = """if True:
        import sys
        class Blocked:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in BLOCKED: raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        BLOCKED = "torch lightning torchvision scipy sklearn rich jsonargparse yaml PIL matplotlib pandas".split()
        sys.meta_path.insert(0, Blocked())
        import ferlightning
        recognizer = ferlightning.Recognizer(detector="none")
        assert len(recognizer("a.png")[0].probabilities) == 8
        missing = {"still.gif": "GIF and AVIF images need Pillow: pip", "film.mp4": "cannot be read as an image"}
        for name, said in missing.items():
            try: recognizer(name)
            except ferlightning.FerlError as error: assert f"{name}: {said}" in str(error)
            else: raise AssertionError(name)
        try: ferlightning.fit
        except ModuleNotFoundError as error: assert "ferlightning.fit needs " in str(error) and "pip" in str(error)
        from ferlightning.cli.main import main
        main(["recognize", "a.png", "--detector=none"])
        assert not set(BLOCKED) & set(sys.modules)
        """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "a.png  face 1" in done.stdout, done.stderr


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs Linux's unshare")
def test_nothing_is_sent() -> None:
    """The command works where there is no network at all, and leaves nothing but what was asked for."""
    cv2.imwrite("a.png", face())
    wrapped = ["unshare", "--net", sys.executable, "-m", "ferlightning", "recognize", "a.png", CROPPED, "--save=out"]
    environment = os.environ | {"FERL_CACHE": "cache", "HOME": "home", "XDG_CACHE_HOME": "xdg"}
    if subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode:
        pytest.skip("may not make a network of its own")
    done = subprocess.run(wrapped, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "Saved: 1 of 1 in out\n"
    assert sorted(str(path) for path in Path().rglob("*")) == ["a.png", "out", "out/a.png"]


@pytest.fixture
def camera() -> Iterator[str]:
    """A camera in the network, that hangs up after ten pictures, or keeps silent, and takes the next who asks."""

    class Camera(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
            self.end_headers()
            for _ in range(10):
                code = cv2.imencode(".jpg", np.full((64, 64, 3), 128, np.uint8))[1].tobytes()
                head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(code)}\r\n\r\n"
                try:
                    self.wfile.write(head.encode() + code + b"\r\n")
                except OSError:
                    return
                time.sleep(0.02)
            time.sleep(8 if "silent" in self.path else 0)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://me:secret@127.0.0.1:{server.server_port}/door.mjpg"
    server.shutdown()


def test_a_camera_that_hangs_up_is_asked_again(camera: str, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = run(capsys, camera, CROPPED, "--format=jsonl", "--end=3", "--save=out")
    records = [json.loads(line) for line in out.splitlines()]
    assert records[-1]["frame"] >= 10 and records[0]["source"] == camera.replace("secret", "***")
    assert len(frames_of("out/door.mkv")) >= 10


def test_a_stream_that_is_closed_while_it_is_silent_crashes_nothing(camera: str) -> None:
    """As OpenCV does where one thread releases what another one waits for, up to five seconds."""
    code = f"""if True:
    import time
    from ferlightning.deploy.sources import Video
    video = Video("{camera}?silent")
    for frame in video:
        if frame.index == 9:
            video.close()
            break
    time.sleep(6)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_no_password_of_a_stream_is_told_or_becomes_a_name() -> None:
    for url, told, name in (
        ("http://me:secret@10.0.0.7:8080/", "http://me:***@10.0.0.7:8080/", "10.0.0.7-8080.mkv"),
        ("rtsp://hall/live/door?user=me&pwd=secret", "rtsp://hall/live/door?user=me&pwd=***", "door.mkv"),
        ("rtsp://me:p@secret@hall", "rtsp://me:***@hall", "hall.mkv"),
        ("HTTPS://hall/yard?Password=secret&x=1", "HTTPS://hall/yard?Password=***&x=1", "yard.mkv"),
    ):
        (source,), _ = find_sources([url])
        assert source.video and (shown(url), source.saved) == (told, name)


@needs_yunet
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units elsewhere")
def test_a_photograph_takes_little_time_and_memory() -> None:
    cv2.imwrite("a.png", cv2.cvtColor(hopper(), cv2.COLOR_RGB2BGR))
    code = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); "
    code += "r = resource.getrusage(resource.RUSAGE_CHILDREN); print(r.ru_utime + r.ru_stime, r.ru_maxrss)"
    command = [sys.executable, "-m", "ferlightning", "recognize", "a.png", f"--detector-path={YUNET}"]
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=True)
    seconds, kilobytes = map(float, done.stdout.splitlines()[-1].split())
    assert seconds < 1.6 and kilobytes < 160 * 1024  # 0.5 s, where nothing else runs


def test_the_python_of_the_page_works(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite("photo.jpg", cv2.cvtColor(hopper(), cv2.COLOR_RGB2BGR))
    write_video("film.mp4", 3)
    monkeypatch.setenv("FERL_WEIGHTS", str(MODELS) if YUNET.is_file() else "file:///nowhere")
    exec("".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)), {})  # the point of this test
    first, *frames = capsys.readouterr().out.splitlines()
    assert first.split()[0] in ("neutral", "happiness") and len(frames) == 3, first
    left, top, right, bottom = HOPPER
    assert cv2.imread("hidden.jpg")[(top + bottom) // 2, (left + right) // 2].max() < 5


@pytest.mark.slow
def test_the_lean_install_recognises(folder: Path) -> None:
    """What the page says: three packages, then ours without the others. A command that needs these says so."""
    root = Path(__file__).parents[2]
    line = next(line for line in PAGE.read_text().splitlines() if "--no-deps" in line)
    subprocess.run([sys.executable, "-m", "venv", "lean"], check=True)
    line = line.replace("pip install", "lean/bin/pip install -q").replace(" ferlightning", f" {root}")
    subprocess.run(line, shell=True, check=True)
    cv2.imwrite("a.png", face())
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        ["lean/bin/ferl", "recognize", "a.png", CROPPED], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0 and "a.png  face 1" in done.stdout, done.stderr
    done = subprocess.run(["lean/bin/ferl", "fit"], env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and "pip install ferlightning" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="a shell that limits the size of files")
def test_a_video_that_could_not_be_written_is_not_called_whole() -> None:
    write_video("film.avi", 60)
    command = f"ulimit -f 30; {sys.executable} -m ferlightning recognize film.avi {CROPPED} --save=out"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode == 1 and "film.partial.mkv: the end could not be written" in done.stderr
    assert [path.name for path in Path("out").iterdir()] == ["film.partial.mkv"]


def test_no_face_that_is_cut_out_replaces_another(capsys: pytest.CaptureFixture[str]) -> None:
    Path("in").mkdir()
    for name in ("in/a.b.png", "in/a_b.png"):
        cv2.imwrite(name, face())
    main(["data", "align", "in", "out", "--detector=none"])
    assert len([*Path("out").iterdir()]) == 2 and "2 of 2" in capsys.readouterr().out
    main(["data", "align", "in/a_b.png", "alone", "--detector=none"])
    assert Path("alone/a_b.png.png").read_bytes() == Path("out/a_b.png.png").read_bytes()
    os.mkfifo("pipe")
    with pytest.raises(SystemExit):
        main(["data", "align", "pipe", "out", "--detector=none"])
    assert "pipe is a pipe or device, expected a picture or a folder" in capsys.readouterr().err
    Path("in/broken.png").write_text("")
    with pytest.raises(SystemExit, match="1"):
        main(["data", "align", "in", "out", "--detector=none"])
    assert "broken.png: cannot be read" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["data", "align", "in", "out", "--detector=none", "--size=0"])
    assert "size is 0" in capsys.readouterr().err


@needs_yunet
def test_faces_are_cut_out_of_photographs_and_turned(capsys: pytest.CaptureFixture[str]) -> None:
    """A face turned by 25 degrees comes out as the same face does that was upright."""
    Path("in/happy").mkdir(parents=True)
    image = cv2.cvtColor(hopper(), cv2.COLOR_RGB2BGR)
    turn = cv2.getRotationMatrix2D((265, 215), 25, 1)
    cv2.imwrite("in/happy/a.png", image)
    cv2.imwrite("in/happy/b.jpg", cv2.warpAffine(image, turn, (512, 600), borderMode=cv2.BORDER_REPLICATE))
    cv2.imwrite("in/none.png", np.full((100, 100, 3), 99, np.uint8))
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("FERL_WEIGHTS", str(MODELS))
        main(["data", "align", "in", "out", "--size=64"])
        written = capsys.readouterr().out
        main(["data", "align", "in", "tilted", "--size=64", "--upright=false"])
    assert "2 of 3 pictures have a face" in written and "in/none.png: no face was found" in written
    first, level, tilted = (
        cv2.GaussianBlur(cv2.imread(f"{name}.png", cv2.IMREAD_GRAYSCALE), (0, 0), 2)
        for name in ("out/happy/a.png", "out/happy/b.jpg", "tilted/happy/b.jpg")
    )
    # The detector's box is a few pixels off: the best of all shifts by up to 10.
    alike = [cv2.matchTemplate(first, face[10:-10, 10:-10], cv2.TM_CCOEFF_NORMED).max() for face in (level, tilted)]
    assert first.shape == (64, 64) and alike[0] > 0.8 > 0.7 > alike[1], alike

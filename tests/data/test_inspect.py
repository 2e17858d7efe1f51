"""``ferl data inspect`` on folders written here: what it shows is what was written."""

import base64
import re
import shlex
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from ferlightning.cli.main import main
from ferlightning.data import FER2013, advice
from ferlightning.data.inspection import describe, recognise
from ferlightning.data.page import write_page
from ferlightning.errors import FerlError
from tests.conftest import write_fer2013
from tests.data.fer2013_layouts import draw, write_challenge, write_csv, write_folders, write_votes
from tests.data.test_audit import EXPRESSIONS, faces, write_ck48


def table(shown: str) -> dict[str, list[int]]:
    """Rows of the one table on the terminal: class to numbers."""
    rows = re.findall(r"^│ (\S+) +│(.*)│$", shown, re.MULTILINE)
    return {name: [int(cell.replace(",", "")) for cell in cells.split("│")] for name, cells in rows}


def test_fer2013_is_counted_by_split_and_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 6, (7, 3))
    counts[1, 1] = 0  # no disgust in validation
    lines = ["emotion,pixels,Usage\n"]
    for usage, name in enumerate(["Training", "PublicTest", "PrivateTest"]):
        for emotion in range(7):
            for _ in range(counts[emotion, usage]):
                lines.append(f"{emotion},{' '.join(map(str, rng.integers(0, 256, 2304)))},{name}\n")
    lines.insert(3, f"0,{' '.join(['7'] * 2304)},Training\n")
    counts[0, 0] += 1
    (tmp_path / "fer2013.csv").write_text("".join(lines))
    main(["data", "inspect", str(tmp_path)])
    shown = capsys.readouterr().out
    assert "FER2013, layout csv" in shown and "48 x 48, grey" in shown
    names = ["anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"]
    expected = {name: own.tolist() for name, own in zip(names, counts, strict=True)}
    assert table(shown) == {**expected, "all": counts.sum(0).tolist()}
    notes = re.findall(r"^Note: (.*)", shown, re.MULTILINE)
    assert notes == [
        "There is no image of disgust in val.",
        "1 items have images of one grey value: row 3.",
        "It is not known who is shown in any item.",
    ]


def test_all_layouts_of_a_folder_and_those_right_below_are_found(tmp_path: Path) -> None:
    drawn = draw()
    write_csv(tmp_path, drawn)
    write_votes(tmp_path, drawn)
    write_ck48(tmp_path / "ck")
    write_fer2013(tmp_path / "more" / "deeper" / "fer2013.csv")  # two levels down: not looked at
    found = [(source.data_set, source.layout, source.path) for source in recognise(tmp_path / "ck")]
    assert found == [("CKPlus", "ck48", tmp_path / "ck" / "CK+48")]
    (tmp_path / "ck" / "CK+48").rename(tmp_path / "CK+48")
    (tmp_path / "ck").rmdir()
    found = [(source.data_set, source.layout, source.path) for source in recognise(tmp_path)]
    assert found == [
        ("FER2013", "csv", tmp_path / "fer2013.csv"),
        ("FERPlus", "csv", tmp_path),
        ("CKPlus", "ck48", tmp_path / "CK+48"),
    ]
    assert [source.data_set for source in recognise(tmp_path / "fer2013.csv")] == ["FER2013"]


def test_ferplus_says_how_many_its_filter_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn = draw()
    write_csv(tmp_path, drawn)
    write_votes(tmp_path, drawn)
    source = recognise(tmp_path)[1]
    found = describe(source.whole())
    assert sum(found["classes"]["train"].values()) + found["unlabelled"]["train"] == int((drawn.usage == 0).sum())
    voted = drawn.votes[drawn.usage == 1]
    unlabelled = 0
    for votes in voted:
        kept = [int(v) if v > 1 else 0 for v in votes]
        best = max(kept)
        unlabelled += not (2 * best > sum(kept) and kept.index(best) < 8)
    assert found["unlabelled"]["val"] == unlabelled > 0
    assert sum(found["classes"]["val"].values()) == len(voted) - unlabelled and "unlabelled" not in found["names"]
    write_page(tmp_path / "page.html", [(source, found)])
    main(["data", "inspect", str(tmp_path)])
    shown, page = capsys.readouterr().out.partition("FERPlus")[2], (tmp_path / "page.html").read_text()
    assert table(shown)["unlabelled"][1] == unlabelled and table(shown)["all"][1] == len(voted)
    assert re.search(rf"unlabelled.*?{unlabelled}\b", page, re.DOTALL)
    assert f"{unlabelled:,} of {len(voted):,} items in val have no label." in found["remarks"]


def test_sequences_subjects_and_frames_of_ckplus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_ck48(tmp_path)
    one, *_, other = sorted((tmp_path / "CK+48" / "anger").iterdir())  # the first and the last sequence
    other.unlink()
    for frame in (14, 15):
        shutil.copy(one, one.with_name(f"{one.stem.rpartition('_')[0]}_{frame:08}.png"))
    main(["data", "inspect", str(tmp_path)])
    shown = capsys.readouterr().out
    assert "12 subjects, 48 sequences, 2 to 5 frames a clip, median 3" in shown.replace("\n", " ")
    assert {name: n for name, (n,) in table(shown).items() if n} == {**dict.fromkeys(EXPRESSIONS, 12), "all": 48}
    for name in ("contempt", "fear", "sadness"):
        assert f"There is no image of {name}." in shown


def test_ckextended_has_neither_sequences_nor_folds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_fer2013(tmp_path / "ckextended.csv", rows_per_class=2)
    main(["data", "inspect", str(tmp_path)])
    shown = capsys.readouterr().out
    assert "CKPlus, layout ckextended" in shown and "subjects unknown" in shown and "sequences" not in shown
    assert table(shown)["all"] == [14, 14, 14]


def test_what_is_missing_is_said_once(tmp_path: Path) -> None:
    write_folders(tmp_path, draw(), ("train", "val", "test"), by_usage=False)
    for path in (tmp_path / "val" / "disgust").iterdir():
        path.unlink()
    remarks = describe(recognise(tmp_path)[0].whole())["remarks"]
    assert remarks.count("There is no image of disgust in val.") == 1


def test_what_the_reader_found_odd_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn = draw()
    write_challenge(tmp_path, drawn)
    main(["data", "inspect", str(tmp_path)])
    shown = capsys.readouterr().out
    n = int((drawn.usage > 0).sum())
    assert f"The {n} images of test.csv have no labels" in shown
    assert table(shown)["unlabelled"] == [0, n]
    assert "There are no val images." in shown


def test_other_class_folders_are_an_image_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, images in {"wink": faces(3), "Happy": faces(2)}.items():
        (tmp_path / name).mkdir()
        for i, image in enumerate(images):
            cv2.imwrite(str(tmp_path / name / f"{i}.jpg"), image)
    main(["data", "inspect", str(tmp_path)])
    shown = capsys.readouterr().out
    assert "ImageFolder, layout folder" in shown and "not split" in shown
    assert table(shown) == {"Happy": [2], "wink": [3], "all": [5]}


def test_class_folders_beside_a_csv_are_not_passed_over(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_fer2013(Path("null/fer2013.csv"))
    for name in ("happy", "sad"):
        Path("null", name).mkdir()
        cv2.imwrite(f"null/{name}/0.png", faces(1)[0])
    with pytest.raises(SystemExit):
        main(["fit", "null"])
    assert "--data=FER2013 --data.root=./null or --data=ImageFolder --data.root=./null" in capsys.readouterr().err
    main(["data", "inspect", "null"])
    assert "--data=ImageFolder --data.root=./null" in capsys.readouterr().out
    main(["data", "audit", "null"])
    assert "this is about FER2013, csv; also there: ImageFolder, folder" in caplog.text
    shutil.rmtree("null/sad")
    write_fer2013(Path("null/fer2013_clean.csv"))
    (source,) = recognise(Path("null"))
    remarks = "\n".join(describe(source.whole())["remarks"])
    assert "were not read: happy" in remarks and "though they have pixels: fer2013_clean.csv" in remarks
    assert any("were not read: happy" in note for note in FER2013("null").notes("test"))


def test_a_damaged_source_does_not_hide_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_ck48(tmp_path)
    path = write_fer2013(tmp_path / "fer2013.csv")
    path.write_text(path.read_text().replace("Training", "Trainign", 1))
    with pytest.raises(SystemExit) as stop:
        main(["data", "inspect", str(tmp_path)])
    assert stop.value.code == 2
    shown = capsys.readouterr()
    assert "FER2013, layout csv: " in shown.out and "line 2" in shown.out and "Trainign" in shown.out
    assert "CKPlus, layout ck48" in shown.out and "48 sequences" in shown.out
    assert "1 of 2 data sets" in shown.err


def test_a_run_folder_is_no_data(tmp_path: Path) -> None:
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    (tmp_path / "run/config.yaml").touch()
    with pytest.raises(FerlError, match="is the run folder of a training, and no data"):
        recognise(tmp_path / "run")


def test_nothing_recognised_lists_what_is_looked_for(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(FerlError) as error:
        recognise(tmp_path)
    for word in ("fer2013.csv", "icml_face_data.csv", "fer2013new.csv", "FER2013Train/", "cohn-kanade-images", "CK+48",
                 "ckextended.csv", "ImageFolder", str(tmp_path)):  # fmt: skip
        assert word in str(error.value)
    with pytest.raises(FerlError, match="there is no file or folder"):
        recognise(tmp_path / "nowhere")


@pytest.mark.parametrize("words", [["data"], ["data", "--help"]])
def test_help_lists_the_two_commands(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert "inspect" in shown and "audit" in shown and "Trainer" not in shown


def test_files_are_described_with_a_command_that_reads_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    for i, side in enumerate([60] * 5 + [120] * 9 + [300] * 6):
        path = tmp_path / "some faces" / ["happy", "<b>odd"][i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        grey = rng.integers(0, 256, (side, side + 10, 1), np.uint8)
        cv2.imwrite(str(path), rng.integers(0, 256, (side, side + 10, 3), np.uint8) if i < 4 else grey)
    shutil.copy(path, path.with_name("again.png"))
    main(["data", "inspect", str(tmp_path / "some faces"), f"--report={tmp_path / 'data.html'}"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "Files as stored: 70 x 60 to 310 x 300, median 130 x 120, 19% in colour" in shown
    assert "Of 7 pictures that were searched, 7 have no face" in shown
    command = f"ferl fit --data=ImageFolder '--data.root={tmp_path}/some faces' --from=ferl-small"
    assert "With 21 items to train on" in shown and f"Train on it: {command}" in shown
    page = (tmp_path / "data.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;odd" in page and "<b>" not in page and "http" not in page
    faces = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    sizes = [cv2.imdecode(np.frombuffer(base64.b64decode(face), np.uint8), 0).shape for face in faces]
    assert sizes == [(72, 720)] * 2
    assert re.search(r"exact copies within splits</td><td>note</td><td[^>]*>1 of \d+ \w+ items \(\S+ %\) repeat", page)
    monkeypatch.setattr(advice, "FEW", 5)
    main(["data", "inspect", str(tmp_path / "some faces")])
    assert capsys.readouterr().out.rstrip().endswith("--config=models/cnn --data.size=112 --data.color=true")


def test_a_file_of_arrays(tmp_path: Path) -> None:
    path = tmp_path / "faces.npz"
    np.savez(path, images=np.zeros((4, 8, 8), np.uint8), labels=["happy", "sad", "sad", "sad"])
    (found,) = recognise(path)
    assert describe(found.default())["classes"] == {"not split": {"happy": 1, "sad": 3}}
    np.savez(path, x=np.zeros(3))
    with pytest.raises(FerlError, match=r"expected images \(N, H, W\[, 3\]\) uint8 and labels \(N,\); it has x"):
        recognise(path)[0].default()
    with pytest.raises(FerlError, match=r"faces.npz may have the images: use --data=Arrays --data.root="):
        recognise(tmp_path)
    path.write_bytes(b"PK\3\4")
    with pytest.raises(FerlError, match=r"cannot be read as a .npz file"):
        recognise(path)[0].default()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("label.lst", b"0.jpg 0 1 2 3 4", "is no table of images, .* first line is '0.jpg 0 1 2 3 4'"),
        ("faces.npy", b"\x93NUMPY\x01\0v\0", "is one array"),
        ("fer2013.csv", b"PAR1\x15\x04\0", "is a parquet file: write the table as csv"),
        ("faces.pkl", b"\x80\x04\x95\0", "is a pickle"),
    ],
)
def test_a_file_that_is_no_data_set(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FerlError, match=message):
        recognise(tmp_path / name)


def test_labels_of_arrays_are_one_number_each(tmp_path: Path) -> None:
    images = np.zeros((6, 8, 8), np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=np.eye(2)[[0, 1] * 3])
    with pytest.raises(FerlError, match=r"labels \(N,\)"):
        recognise(tmp_path / "a.npz")[0].default()
    np.savez(tmp_path / "a.npz", images=images, labels=np.array([0.0, 1.0] * 3))
    assert recognise(tmp_path / "a.npz")[0].default().class_names == ["0", "1"]


def test_the_command_leaves_out_a_class_that_cannot_be_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A training refuses a class that is only in test."""
    for n, path in enumerate(f"{part}/{name}/{i}.png" for part, names in (("train", 2), ("test", 3))
                             for name in ("Happy", "Sad", "Fear")[:names] for i in range(3)):  # fmt: skip
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / path), np.full((8, 8), n, np.uint8))
    main(["data", "inspect", str(tmp_path)])
    command = re.search("Train on it: ferl (.*)", capsys.readouterr().out)
    assert command is not None and """--data.classes=["Happy", "Sad"]""" in shlex.split(command[1])
    tiny = ["--trainer.fast_dev_run=true", "--trainer.accelerator=cpu", "--trainer.logger=false"]
    main([*shlex.split(command[1]), *tiny])


def test_items_of_a_split_that_repeat_others_are_told(tmp_path: Path) -> None:
    """They count more than once in each figure."""
    for split, n in (("train", 4), ("test", 3)):
        for i in range(2 * n):
            path = tmp_path / split / ("happy", "sad")[i % 2] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.arange(64, dtype=np.uint8).reshape(8, 8) * 2 + i + 50 * (split == "test"))
    assert "repeat the image" not in str(describe(recognise(tmp_path)[0].default())["remarks"])
    for i in range(3):
        shutil.copy(tmp_path / "test" / "happy" / "0.png", tmp_path / "test" / "sad" / f"again{i}.png")
    data = recognise(tmp_path)[0].default()
    said = "3 of 9 items repeat the image of another, and count once more."
    assert f"test: {said}" in describe(data)["remarks"]
    assert said in data.notes("test") and not any("repeat" in note for note in data.notes("val"))

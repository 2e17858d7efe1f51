"""The csv parser against Python's csv module and int(), on good files, bad files and mutated ones."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torchvision
from numpy.typing import NDArray

from ferlightning.data import FER2013, fer2013
from ferlightning.data.fer2013 import read_csv
from ferlightning.data.store import Store, cache_dir
from ferlightning.errors import FerlError

USAGES = ["Training", "PublicTest", "PrivateTest"]
HEADER = b"emotion,pixels,Usage\n"
REAL = Path(os.environ["FERL_REAL_DATA"]) if "FERL_REAL_DATA" in os.environ else None
Row = tuple[int, list[int], str]


def make_rows(n: int = 42, usages: list[str] = USAGES, seed: int = 0) -> list[Row]:
    """Random images; 7 rows, one of each class, for every usage in turn. Every row has all of 0 to 255."""
    rng = np.random.default_rng(seed)
    pixels = [rng.permutation(np.concatenate([np.arange(256), rng.integers(0, 256, 2304 - 256)])) for _ in range(n)]
    return [(i % 7, pixels[i].tolist(), usages[i // 7 % len(usages)]) for i in range(n)]


def lines(rows: list[Row]) -> list[bytes]:
    return [f"{emotion},{' '.join(map(str, pixels))},{usage}\n".encode() for emotion, pixels, usage in rows]


def write(path: Path, rows: list[Row]) -> Path:
    path.write_bytes(HEADER + b"".join(lines(rows)))
    return path


def truth(path: Path) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]] | None:
    """Images, labels and splits by Python's own csv reader and int(); None if it cannot be read or is out of range."""
    with path.open(newline="", encoding="latin-1") as file:
        try:
            header, *rows = [row for row in csv.reader(file, strict=True) if row]
            if [name.strip() for name in header] != ["emotion", "pixels", "Usage"] or not rows:
                return None
            images = np.array([[int(value) for value in pixels.split()] for _, pixels, _ in rows]).reshape(-1, 48, 48)
            labels = np.array([int(emotion) for emotion, _, _ in rows])
            splits = np.array([USAGES.index(usage.strip()) for _, _, usage in rows])
        except (ValueError, csv.Error):
            return None
    good = len(images) == len(labels) and (images >= 0).all() and (images < 256).all()
    return (images, labels, splits) if good and (labels >= 0).all() and (labels < 7).all() else None


def assert_equal_to_truth(store: Store, path: Path) -> None:
    expected = truth(path)
    assert expected is not None
    for found, wanted in zip((store.images, store.label, store.split), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


# --- good files -----------------------------------------------------------------------------------------------------


def test_values_equal_those_of_csv_and_int(tmp_path: Path) -> None:
    rows = make_rows()
    data = FER2013(root=str(write(tmp_path / "fer2013.csv", rows)))
    assert_equal_to_truth(data.store, tmp_path / "fer2013.csv")
    np.testing.assert_array_equal(data.store.images, np.array([pixels for _, pixels, _ in rows]).reshape(-1, 48, 48))
    assert data.store.images.dtype == np.uint8 and data.store.label.dtype == np.int64
    assert data.items["train"].tolist() == [*range(7), *range(21, 28)]
    assert data.items["val"].tolist() == [*range(7, 14), *range(28, 35)]
    assert data.items["test"].tolist() == [*range(14, 21), *range(35, 42)]
    assert data.class_counts == [2] * 7
    assert data.item_names("val")[0] == "row 8"
    assert data.notes("test") == data.notes("val") == []


def test_values_equal_those_of_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fer2013").mkdir()
    store = read_csv(write(tmp_path / "fer2013" / "fer2013.csv", make_rows()))
    monkeypatch.setattr(torchvision.datasets.fer2013, "check_integrity", lambda path, md5: True)  # knows the real file
    for split, numbers in (("train", store.split == 0), ("test", store.split > 0)):
        other = torchvision.datasets.FER2013(tmp_path, split)
        np.testing.assert_array_equal(store.images[numbers], np.stack([np.asarray(image) for image, _ in other]))
        assert store.label[numbers].tolist() == [label for _, label in other]


@pytest.mark.parametrize("block", [1, 100, 9_000, 30_000])
def test_rows_may_lie_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    path = write(tmp_path / "fer2013.csv", make_rows())
    monkeypatch.setattr(fer2013, "BLOCK", block)
    assert_equal_to_truth(read_csv(path), path)


def test_more_than_one_block_of_the_real_size(tmp_path: Path) -> None:
    path = write(tmp_path / "fer2013.csv", make_rows(280))
    assert path.stat().st_size > 2 * fer2013.BLOCK
    assert_equal_to_truth(read_csv(path), path)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: text.rstrip(b"\n"),
        lambda text: text.replace(b"\n", b"\r\n").rstrip(b"\r\n"),
        lambda text: b"\n".join(b",".join(b'"%s"' % x for x in line.split(b",")) for line in text.splitlines()),
        lambda text: b"\n".join(b'%s,"%s",%s' % tuple(line.split(b",")) for line in text.splitlines()) + b"\n",
        lambda text: text.replace(b" ", b"  ").replace(b",Tr", b" , Tr"),
        lambda text: text.replace(b" 7 ", b" 007 "),
    ],
    ids=["crlf", "no last newline", "crlf, no last newline", "all quoted", "pixels quoted", "spaces", "zeros"],
)
@pytest.mark.parametrize("block", [1000, 1 << 20])
def test_spellings_of_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change, block: int) -> None:  # type: ignore[no-untyped-def]
    path = write(tmp_path / "fer2013.csv", make_rows(21))
    expected = truth(path)
    assert expected is not None
    path.write_bytes(change(path.read_bytes()))
    monkeypatch.setattr(fer2013, "BLOCK", block)
    store = read_csv(path)
    assert_equal_to_truth(store, path)
    np.testing.assert_array_equal(store.images, expected[0])


def test_without_private_rows_the_test_is_public_and_said_to_be(tmp_path: Path) -> None:
    data = FER2013(root=str(write(tmp_path / "fer2013.csv", make_rows(28, USAGES[:2]))))
    assert data.items["test"].tolist() == data.items["val"].tolist() == [*range(7, 14), *range(21, 28)]
    (note,) = data.notes("test")
    assert "PublicTest" in note and "chosen" in note
    assert data.notes("val") == []


def test_only_training_rows(tmp_path: Path) -> None:
    data = FER2013(root=str(write(tmp_path / "fer2013.csv", make_rows(28, USAGES[:1]))))
    assert len(data.items["train"]) == 21 and len(data.items["val"]) == 7
    assert "part of Training" in data.notes("test")[0]


def test_where_the_file_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "fer2013").mkdir(parents=True)
    path = write(tmp_path / "a" / "fer2013" / "fer2013.csv", make_rows(21))
    for root in (path, path.parent, path.parent.parent):
        assert len(FER2013(root=str(root)).store) == 21
    monkeypatch.setenv("FERL_DATA", str(tmp_path / "a"))
    assert len(FER2013().store) == 21


# --- bad files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("root", [None, "absent", "empty", "absent/fer2013.csv"])
def test_an_absent_file_is_reported_with_where_was_looked(tmp_path: Path, monkeypatch, root: str | None) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.delenv("FERL_DATA", raising=False)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FerlError) as error:
        FER2013(root=root and str(tmp_path / root)).read()
    assert "FERL_DATA" in str(error.value) and "--data.root" in str(error.value)
    if root:
        assert str(tmp_path / root) in str(error.value)
        assert str(tmp_path / root / "fer2013" / "fer2013.csv") in str(error.value)


def pixel(new: bytes, at: int = 1000):  # type: ignore[no-untyped-def]
    """Change one pixel of a line."""

    def change(line: bytes) -> bytes:
        emotion, pixels, usage = line.split(b",")
        values = pixels.split()
        values[at] = new
        return b",".join([emotion, b" ".join(values), usage])

    return change


BAD_LINES = {
    "pixel missing": (lambda line: line[: line.rindex(b" ")] + line[line.rindex(b",") :], "2303 pixels, expected 2304"),
    "pixel too many": (lambda line: line.replace(b" ", b" 7 ", 1), "2305 pixels, expected 2304"),
    "no pixels": (lambda line: b"3,,Training\n", "0 pixels"),
    "pixel of 256": (pixel(b"256"), "a pixel of 256, expected 0 to 255"),
    "pixel of 300": (pixel(b"300"), "a pixel of 300, expected 0 to 255"),
    "pixel of 812": (pixel(b"812"), "a pixel of 812, expected 0 to 255"),
    "pixel of 1000": (pixel(b"1000"), "a pixel of 1000, expected 0 to 255"),
    "pixel of 65536012": (pixel(b"65536012"), "a pixel of 65536012,"),
    "first pixel of 999": (pixel(b"999", 0), "a pixel of 999,"),
    "last pixel of 999": (pixel(b"999", -1), "a pixel of 999,"),
    "negative pixel": (pixel(b"-3"), "unexpected character '-'"),
    "fraction": (pixel(b"7.5"), "unexpected character '.'"),
    "letters": (pixel(b"abc"), "unexpected character 'a'"),
    "byte above ASCII": (pixel(b"\xff"), "unexpected character"),
    "stray quote": (pixel(b'1"3'), "unexpected character '\"'"),
    "label of 7": (lambda line: b"7" + line[1:], "emotion is 7, expected 0 to 6"),
    "label of 9": (lambda line: b"9" + line[1:], "emotion is 9, expected 0 to 6"),
    "label of 300": (lambda line: b"300" + line[1:], "emotion is 300, expected 0 to 6"),
    "label of 2048": (lambda line: b"2048" + line[1:], "emotion is 2048, expected 0 to 6"),
    "label of -1": (lambda line: b"-1" + line[1:], "unexpected character '-'"),
    "label of x": (lambda line: b"x" + line[1:], "unexpected character 'x'"),
    "empty label": (lambda line: line[1:], "emotion is '', expected one number from 0 to 6"),
    "two labels": (lambda line: b"1 " + line, "emotion is '1 "),
    "unknown Usage": (lambda line: line[: line.rindex(b",")] + b",Test\n", "Usage is 'Test', expected one of Training"),
    "digit in Usage": (lambda line: line[:-1] + b"2\n", "2', expected one of Training"),
    "no Usage": (lambda line: line[: line.rindex(b",") + 1] + b"\n", "Usage is '', expected one of Training"),
    "missing column": (lambda line: line[: line.rindex(b",")] + b"\n", "2 column(s), expected 3"),
    "column too many": (lambda line: line[:-1] + b",5\n", "4 column(s), expected 3"),
    "empty line": (lambda line: b"\n", "an empty line"),
    "garbage": (lambda line: bytes(range(11, 256)) + b"\n", ""),
}


@pytest.mark.parametrize("kind", BAD_LINES)
@pytest.mark.parametrize("block", [20_000, 1 << 20], ids=["in a later block", "in the only block"])
@pytest.mark.parametrize("row", [1, 11, 20], ids=["first", "middle", "last but one"])
def test_a_bad_row_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, block: int, row: int) -> None:
    change, message = BAD_LINES[kind]
    text = lines(make_rows(21))
    text[row - 1] = change(text[row - 1])
    path = tmp_path / "fer2013.csv"
    path.write_bytes(HEADER + b"".join(text))
    monkeypatch.setattr(fer2013, "BLOCK", block)
    with pytest.raises(FerlError) as error:
        read_csv(path)
    said = str(error.value)
    assert f"{path}, row {row}: " in said and message in said
    assert "Fetch the file again or mend the row" in said and "cut short" not in said


@pytest.mark.parametrize("block", [20_000, 1 << 20])
@pytest.mark.parametrize(
    "keep", [-4, -15, -1000, 1000, 1, 2], ids=["Usage", "last pixel", "pixels", "early", "label", "comma"]
)
def test_a_file_cut_short_is_said_to_be(tmp_path: Path, monkeypatch, keep: int, block: int) -> None:  # type: ignore[no-untyped-def]
    text = lines(make_rows(21))
    text[-1] = text[-1][:keep]
    path = tmp_path / "fer2013.csv"
    path.write_bytes(HEADER + b"".join(text))
    monkeypatch.setattr(fer2013, "BLOCK", block)
    with pytest.raises(FerlError, match=r"row 21: .*cut short\? Fetch the file again"):
        read_csv(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the first line is ''"),
        (b"\n\n\n", "the first line is ''"),
        (HEADER, "no rows after the header"),
        (HEADER[:-1], "no rows after the header"),
        (b"pixels,emotion\n1 2 3,4\n", "the first line is 'pixels,emotion', expected 'emotion,pixels,Usage'"),
        (b"".join(lines(make_rows(2))), "expected 'emotion,pixels,Usage'"),
        (np.random.default_rng(0).bytes(100_000), "expected 'emotion,pixels,Usage'"),
        (HEADER + np.random.default_rng(0).bytes(100_000), "row 1: "),
        (HEADER + b"\xff" * 5000, "row 1: "),
    ],
    ids=[
        "blank",
        "newlines",
        "header",
        "header, no newline",
        "wrong header",
        "no header",
        "garbage",
        "garbage 2",
        "FF",
    ],
)
def test_a_file_that_is_no_such_csv(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "fer2013.csv"
    path.write_bytes(content)
    with pytest.raises(FerlError) as error:
        read_csv(path)
    assert str(path) in str(error.value) and message in str(error.value) and "Fetch the file again" in str(error.value)


def test_a_damaged_file_leaves_nothing_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERL_CACHE", str(tmp_path / "cache"))
    path = write(tmp_path / "fer2013.csv", make_rows(21))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FerlError, match="row 21"):
        FER2013(root=str(path)).read()
    assert [p.name for p in cache_dir().rglob("*") if p.suffix != ".lock"] == []
    write(path, make_rows(21))
    assert len(FER2013(root=str(path)).read()) == 21


def test_a_class_absent_from_training_is_named(tmp_path: Path) -> None:
    rows = [row for row in make_rows() if row[0] != 1 or row[2] != "Training"]
    data = FER2013(root=str(write(tmp_path / "fer2013.csv", rows)))
    with pytest.raises(FerlError, match="no training image of 'disgust'"):
        _ = data.items


# --- mutations ------------------------------------------------------------------------------------------------------


def mutate(text: bytes, rng: np.random.Generator) -> bytes:
    """Replace, insert, delete or cut at one byte, half of the time near a comma or line end."""
    near = np.flatnonzero(np.isin(np.frombuffer(text, np.uint8), list(b",\n")))
    at = int(rng.integers(len(text)) if rng.random() < 0.5 else rng.choice(near) + rng.integers(-4, 5)) % len(text)
    likely = b'0123456789 ,\n\r"-+._\t\x00;eE'
    byte = bytes([int(rng.choice(list(likely)) if rng.random() < 0.8 else rng.integers(256))])
    kind = rng.choice(["replace", "insert", "delete", "cut"], p=[0.6, 0.2, 0.15, 0.05])
    return {
        "replace": text[:at] + byte + text[at + 1 :],
        "insert": text[:at] + byte + text[at:],
        "delete": text[:at] + text[at + 1 :],
        "cut": text[:at],
    }[kind]


@pytest.mark.parametrize("quoted", [False, True])
@pytest.mark.parametrize("block", [8000, 1 << 20])
def test_a_mutated_file_is_read_rightly_or_refused(tmp_path: Path, monkeypatch, quoted: bool, block: int) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(fer2013, "BLOCK", block)
    path, rng, refused = tmp_path / "fer2013.csv", np.random.default_rng([block, quoted]), 0
    text = write(path, make_rows(3)).read_bytes()
    if quoted:
        text = b"".join(b'"%s","%s","%s"\n' % tuple(line.split(b",")) for line in text.splitlines())
    for _ in range(300):
        path.write_bytes(mutate(text, rng))
        try:
            store = read_csv(path)
        except FerlError:
            refused += 1
            continue
        assert_equal_to_truth(store, path)
    assert 50 < refused < 290, "the mutations must make both kinds"


# --- the real images ------------------------------------------------------------------------------------------------


@pytest.mark.skipif(REAL is None, reason="the FER2013 arrays are not here")
def test_real_images_survive_the_csv(tmp_path: Path) -> None:
    assert REAL is not None
    export = [sys.executable, str(REAL / "export.py"), "--layout", "fer2013-csv", "--limit", "300", str(tmp_path)]
    subprocess.run(export, check=True)
    data = FER2013(root=str(tmp_path))
    for split, file in (("train", "fer2013_train.npz"), ("val", "fer2013_public.npz")):
        with np.load(REAL / file) as npz:
            items = data.items[split]  # type: ignore[index]
            np.testing.assert_array_equal(data.store.images[items], npz["pixels"][:300])
            np.testing.assert_array_equal(data.store.label[items], npz["emotion"][:300])
    assert "PublicTest" in data.notes("test")[0]

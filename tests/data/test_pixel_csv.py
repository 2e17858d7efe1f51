"""The csv parser against Python's csv module and int(), on good files, bad files and mutated ones of every layout."""

import csv
import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torchvision
from numpy.typing import NDArray

from ferlightning.data.sources import text_lines
from ferlightning.data.sources.pixel_csv import PixelCsv, _Reader, find_form, read_pixel_csv
from ferlightning.errors import FerlError

CLASSES = ["anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral", "contempt"]
USAGES = ["Training", "PublicTest", "PrivateTest"]
FER, ICML, TRAIN, TEST = LAYOUTS = ["emotion,pixels,Usage", "emotion, Usage, pixels", "emotion,pixels", "pixels"]
NAMES = {"usage": "Usage", "pixel": "pixels"}
KNOWN = {"training": 0, "publictest": 1, "privatetest": 2, "train": 0, "tr": 0}  # the last two where a file is cut
NO_SIGNS = str.maketrans("", "", " _-")
BLOCKS = [5_000, 20_000, 1 << 20]
"""At most one line in a block, two or three, and all in one."""
REAL = Path(os.environ["FERL_REAL_DATA"]) if "FERL_REAL_DATA" in os.environ else None
Row = tuple[int, list[int], str]
every_layout = pytest.mark.parametrize("header", LAYOUTS)


@cache
def make_rows(n: int = 12, num_classes: int = 7) -> list[Row]:
    """Random images, classes and usages in turn. Every image has all of 0 to 255."""
    rng = np.random.default_rng(0)
    pixels = [rng.permutation(np.concatenate([np.arange(256), rng.integers(0, 256, 2304 - 256)])) for _ in range(n)]
    return [(i % num_classes, pixels[i].tolist(), USAGES[i // num_classes % 3]) for i in range(n)]


def names_of(header: str) -> list[str]:
    return [name.strip() for name in header.split(",")]


def join(header: str, cells: dict[str, bytes]) -> bytes:
    return b",".join(cells[name] for name in names_of(header)) + b"\n"


@cache
def cells(n: int = 12, num_classes: int = 7) -> list[dict[str, bytes]]:
    """The rows as the columns of a csv."""
    return [
        {"emotion": b"%d" % emotion, "pixels": " ".join(map(str, pixels)).encode(), "Usage": usage.encode()}
        for emotion, pixels, usage in make_rows(n, num_classes)
    ]


def lines(header: str, n: int = 12, num_classes: int = 7) -> list[bytes]:
    """The header and the rows."""
    return [header.encode() + b"\n", *(join(header, row) for row in cells(n, num_classes))]


def write(path: Path, text: bytes | list[bytes]) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else b"".join(text))
    return path


def truth(path: Path, num_classes: int = 7) -> tuple[NDArray[np.int64], ...] | None:
    """Images, labels and splits by Python's own csv reader and int(); None if it cannot be read or is out of range."""
    with path.open(newline="", encoding="latin-1") as file:
        try:
            header, *found = [row for row in csv.reader(file, skipinitialspace=True, strict=True) if row]
            names = [NAMES.get(name, name) for name in (re.sub(r"[\W_]", "", name).lower() for name in header)]
            if names not in map(names_of, LAYOUTS) or not found:
                return None
            rows = [dict(zip(names, row, strict=True)) for row in found]
            images = np.array([[int(value) for value in row["pixels"].split()] for row in rows]).reshape(-1, 48, 48)
            labels = np.array([int(row["emotion"]) if "emotion" in names else -1 for row in rows])
            splits = np.array(
                [KNOWN[row["Usage"].lower().translate(NO_SIGNS)] if "Usage" in names else -1 for row in rows]
            )
        except (ValueError, KeyError, csv.Error):
            return None
    good = len(images) == len(labels) and (images >= 0).all() and (images < 256).all()
    in_range = (labels >= (0 if "emotion" in names else -1)).all() and (labels < num_classes).all()
    return (images, labels, splits) if good and in_range else None


def assert_equal(found: PixelCsv, wanted: tuple[NDArray[np.int64], ...] | None) -> None:
    assert wanted is not None
    for a, b in zip(found[:3], wanted, strict=True):
        np.testing.assert_array_equal(a, b)


def read(path: Path, num_classes: int = 7) -> PixelCsv:
    return read_pixel_csv(path, CLASSES[:num_classes])


def error_of(path: Path, num_classes: int = 7) -> str:
    with pytest.raises(FerlError) as error:
        read(path, num_classes)
    return str(error.value)


# --- good files -----------------------------------------------------------------------------------------------------


@every_layout
def test_values_equal_those_of_csv_and_int(tmp_path: Path, header: str) -> None:
    path = write(tmp_path / "a.csv", lines(header, 42))
    found = read(path)
    assert_equal(found, truth(path))
    assert [x.dtype for x in found[:3]] == [np.uint8, np.int64, np.int8] and found.images.shape == (42, 48, 48)
    np.testing.assert_array_equal(found.images.reshape(42, -1), [pixels for _, pixels, _ in make_rows(42)])
    assert found.label.tolist() == [emotion if "emotion" in header else -1 for emotion, _, _ in make_rows(42)]
    assert found.split.tolist() == [USAGES.index(usage) if "Usage" in header else -1 for _, _, usage in make_rows(42)]


@pytest.mark.parametrize(("name", "header"), [("fer2013.csv", FER), ("icml_face_data.csv", ICML)])
def test_values_equal_those_of_torchvision(tmp_path: Path, monkeypatch, name: str, header: str) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "fer2013").mkdir()
    found = read(write(tmp_path / "fer2013" / name, lines(header, 42)))
    monkeypatch.setattr(torchvision.datasets.fer2013, "check_integrity", lambda path, md5: True)  # knows the real file
    for split, numbers in (("train", found.split == 0), ("test", found.split > 0)):
        other = torchvision.datasets.FER2013(tmp_path, split)
        np.testing.assert_array_equal(found.images[numbers], np.stack([np.asarray(image) for image, _ in other]))
        assert found.label[numbers].tolist() == [label for _, label in other]


def test_values_equal_those_of_torchvision_in_the_files_of_the_challenge(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "fer2013").mkdir()
    train = read(write(tmp_path / "fer2013" / "train.csv", lines(TRAIN)))
    test = read(write(tmp_path / "fer2013" / "test.csv", lines(TEST)))
    monkeypatch.setattr(torchvision.datasets.fer2013, "check_integrity", lambda path, md5: True)
    for split, found in (("train", train), ("test", test)):
        other = torchvision.datasets.FER2013(tmp_path, split)
        np.testing.assert_array_equal(found.images, np.stack([np.asarray(image) for image, _ in other]))
        assert found.label.tolist() == [-1 if label is None else label for _, label in other]


def test_rows_may_lie_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.csv", lines(FER))
    for block in (700, 9_000, 30_000):
        monkeypatch.setattr(text_lines, "BLOCK", block)
        assert_equal(read(path), truth(path))


def test_more_than_one_block_of_the_real_size(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", lines(FER, 84))
    assert path.stat().st_size > 2 * text_lines.BLOCK
    assert_equal(read(path), truth(path))


def quoted(text: bytes) -> bytes:
    return b"\n".join(b",".join(b'"%s"' % x for x in line.split(b",")) for line in text.splitlines())


SPELLINGS: dict[str, Callable[[bytes], bytes]] = {
    "crlf": lambda text: text.replace(b"\n", b"\r\n"),
    "no last newline": lambda text: text.rstrip(b"\n"),
    "crlf, no last newline": lambda text: text.replace(b"\n", b"\r\n").rstrip(b"\r\n"),
    "all quoted": quoted,
    "all quoted, crlf": lambda text: quoted(text).replace(b"\n", b"\r\n") + b"\r\n",
    "only pixels quoted": lambda text: b"\n".join(
        b",".join(b'"%s"' % x if b" " in x.strip() else x for x in line.split(b",")) for line in text.splitlines()
    ),
    "two spaces": lambda text: text.replace(b" ", b"  "),
    "spaces around": lambda text: b"\n".join(b" %s " % line for line in text.replace(b",", b" , ").splitlines()),
    "zeros": lambda text: text.replace(b" 7 ", b" 007 ").replace(b" 77 ", b" 077 "),
    "label 03": lambda text: text.replace(b"\n3", b"\n03"),
}


@pytest.mark.parametrize(
    ("header", "kind"),
    [*((FER, kind) for kind in SPELLINGS), (ICML, "all quoted"), (TRAIN, "label 03"), (TEST, "crlf, no last newline")],
)
def test_spellings_of_the_same_rows(tmp_path: Path, monkeypatch, kind: str, header: str) -> None:  # type: ignore[no-untyped-def]
    plain, path = write(tmp_path / "plain.csv", lines(header)), tmp_path / "a.csv"
    wanted = truth(plain)
    assert_equal(read(write(path, SPELLINGS[kind](plain.read_bytes()))), truth(path))
    for block in BLOCKS:
        monkeypatch.setattr(text_lines, "BLOCK", block)
        assert_equal(read(path), wanted)


@pytest.mark.parametrize("header", [FER, TEST])
def test_blank_lines_may_end_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, header: str) -> None:
    wanted = truth(write(tmp_path / "plain.csv", lines(header)))
    for block in BLOCKS:
        monkeypatch.setattr(text_lines, "BLOCK", block)
        for end in (b"\n", b"\r\n\r\n", b"  \n", b"\n ", b"\n" * 3000):
            assert_equal(read(write(tmp_path / "a.csv", [*lines(header), end])), wanted)


@every_layout
def test_the_shortest_rows_there_can_be(tmp_path: Path, header: str) -> None:
    rows = [row | {"pixels": b" ".join([b"%d" % i] * 2304)} for i, row in enumerate(cells(7))]
    text = header.encode() + b"\n" + b"".join(join(header, row) for row in rows)
    path = write(tmp_path / "a.csv", text.rstrip())
    assert_equal(read(path), truth(path))


def test_eight_classes(tmp_path: Path) -> None:
    path = write(tmp_path / "ckextended.csv", lines(FER, 24, num_classes=8))
    found = read(path, 8)
    assert_equal(found, truth(path, num_classes=8))
    assert np.bincount(found.label).tolist() == [3] * 8
    assert "line 9: emotion is '7', expected a number from 0 to 6, or one of anger, " in error_of(path)
    path = write(path, b"".join(lines(FER, 24, num_classes=8)).replace(b"\n7,", b"\n8,"))
    assert "line 9: emotion is '8', expected a number from 0 to 7" in error_of(path, num_classes=8)


def test_every_number_of_up_to_three_digits(tmp_path: Path) -> None:
    for spelling, before in product(("%d", "%02d", "%03d"), (b"9", b"99", b"255")):
        words = cells()[0]["pixels"].split()
        for i in range(256):
            words[4 * i : 4 * i + 2] = [before, spelling.encode() % i]
        path = write(tmp_path / "a.csv", [b"pixels\n", b" ".join(words)])
        assert_equal(read(path), truth(path))
        assert read(path).images.ravel()[1:1024:4].tolist() == list(range(256))
    for value in [*range(256, 262), *range(262, 1000, 9), 999]:
        words[1000] = b"%d" % value
        assert f"line 2, the last: a pixel of {value}, expected 0 to 255" in error_of(
            write(path, [b"pixels\n", b" ".join(words)])
        )


@every_layout
def test_usual_spellings_are_read_many_rows_at_a_time(tmp_path: Path, header: str) -> None:
    """The parser of whole blocks takes them; one that it declines is read word by word, many times as slowly."""
    text = b"".join(lines(header, 42))
    reader = _Reader(find_form(write(tmp_path / "a.csv", text)), CLASSES[:7])
    reader.side = 48
    for kind in ("no last newline", "crlf", "all quoted", "two spaces", "zeros"):
        _, *rows = SPELLINGS[kind](text).splitlines(keepends=True)
        assert reader.parse(rows) is not None, kind


# --- bad files ------------------------------------------------------------------------------------------------------


def pixel(new: bytes, at: int = 1000) -> Callable[[bytes], bytes]:
    """Change one pixel of the column."""

    def change(pixels: bytes) -> bytes:
        values = pixels.split()
        values[at] = new
        return b" ".join(values)

    return change


BAD_CELLS: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "pixel missing": ("pixels", lambda x: x[: x.rindex(b" ")], "2303 pixels, expected 2304"),
    "pixel too many": ("pixels", lambda x: x + b" 7", "2305 pixels, expected 2304"),
    "two pixels as one": ("pixels", lambda x: b"1" + pixel(b"1 3")(x), "2305 pixels, expected 2304"),
    "pixel of 256": ("pixels", pixel(b"256"), "a pixel of 256, expected 0 to 255"),
    "pixel of 812": ("pixels", pixel(b"812"), "a pixel of 812, expected 0 to 255"),
    "pixel of 1000": ("pixels", pixel(b"1000"), "a pixel of 1000, expected 0 to 255"),
    "pixel of 65536012": ("pixels", pixel(b"65536012"), "a pixel of 65536012,"),
    "pixel of 5000 digits": ("pixels", pixel(b"1" * 5000), f"a pixel of {80 * '1'},"),
    "last pixel of 999": ("pixels", pixel(b"999", -1), "a pixel of 999,"),
    "last pixel of 1000": ("pixels", pixel(b"1000", -1), "a pixel of 1000,"),
    "negative pixel": ("pixels", pixel(b"-3"), "unexpected character '-' among the pixels"),
    "fraction": ("pixels", pixel(b"7.5"), "unexpected character '.'"),
    "letters": ("pixels", pixel(b"abc"), "unexpected character 'a'"),
    "tab": ("pixels", pixel(b"1\t3"), "unexpected character '\\t'"),
    "Arabic digits": ("pixels", pixel("٣".encode()), "unexpected character '٣'"),
    "underscore": ("pixels", pixel(b"1_3"), "unexpected character '_'"),
    "byte above ASCII": ("pixels", pixel(b"\xff"), "unexpected character 'ÿ'"),
    "stray quote": ("pixels", pixel(b'1"3'), "unexpected character '\"'"),
    "half quoted": ("pixels", lambda x: b'"' + x, "a quote is not closed"),
    "label of 7": ("emotion", lambda x: b"7", "emotion is '7', expected a number from 0 to 6"),
    "label of 300": ("emotion", lambda x: b"300", "emotion is '300', expected"),
    "label of 2048": ("emotion", lambda x: b"2048", "emotion is '2048', expected"),
    "label of -1": ("emotion", lambda x: b"-1", "emotion is '-1', expected"),
    "label of x": (
        "emotion",
        lambda x: b"x",
        "emotion is 'x', expected a number from 0 to 6, or one of anger, disgust",
    ),
    "empty label": ("emotion", lambda x: b"", "emotion is '', expected"),
    "label of 0_3": ("emotion", lambda x: b"0_3", "emotion is '0_3', expected"),
    "label of Arabic digits": ("emotion", lambda x: "٣".encode(), "emotion is '٣', expected"),
    "one quote": ("emotion", lambda x: b'"', "a quote is not closed"),
    "two labels": ("emotion", lambda x: b"1 2", "emotion is '1 2', expected"),
    "unknown Usage": ("Usage", lambda x: b"Trainign", "Usage is 'Trainign', expected one such as Training, PublicTest"),
    "digit in Usage": ("Usage", lambda x: x + b"2", "2', expected one such as Training"),
    "no Usage": ("Usage", lambda x: b"", "Usage is '', expected one such as"),
}
BAD_LINES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "column too many": (lambda line: line[:-1] + b",5\n", "{more} columns, expected {columns} ({names})"),
    "empty line": (lambda line: b"\n", "an empty line, expected {columns} ({names})"),
    "empty line, crlf": (lambda line: b"\r\n", "an empty line, expected {columns} ({names})"),
    "empty lines": (lambda line: b"\n" * 5, "an empty line, expected {columns} ({names})"),
    "garbage": (lambda line: bytes(range(14, 256)) + b"\n", ""),
}


def assert_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch, text: list[bytes], row: int, message: str, blocks: list[int] = BLOCKS
) -> None:
    write(path, text)
    for block in blocks:
        monkeypatch.setattr(text_lines, "BLOCK", block)
        said = error_of(path)
        assert f"{path}, line {row + 1}: " in said and message in said
        assert "Fetch the file again, or fix or remove the line" in said and "cut short" not in said


@pytest.mark.parametrize(
    ("header", "kind"),
    [*((FER, kind) for kind in BAD_CELLS), (ICML, "unknown Usage"), (TRAIN, "label of 7"), (TEST, "pixel of 256")],
)
def test_a_bad_column_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, header: str, kind: str) -> None:
    name, change, message = BAD_CELLS[kind]
    for row, block in zip((1, 6, 11), BLOCKS, strict=True):  # the first, one within, and the last but one
        text, row_cells = lines(header), cells()[row - 1]
        text[row] = join(header, row_cells | {name: change(row_cells[name])})
        assert_refused(tmp_path / "a.csv", monkeypatch, text, row, message, [block])


@pytest.mark.parametrize("kind", BAD_LINES)
def test_a_bad_line_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    change, message = BAD_LINES[kind]
    for header, columns, row in ((FER, "3 columns", 1), (FER, "3 columns", 11), (TEST, "1 column", 6)):
        names = names_of(header.lower())
        text = lines(header)
        text[row] = change(text[row])
        said = message.format(more=len(names) + 1, columns=columns, names=",".join(names))
        assert_refused(tmp_path / "a.csv", monkeypatch, text, row, said)


def test_a_missing_column_and_missing_pixels_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for header, bad, message in (
        (FER, b"3,1 2 3\n", "2 columns, expected 3 columns (emotion,pixels,usage)"),
        (ICML, b"3,Training\n", "2 columns, expected 3 columns (emotion,usage,pixels)"),
        (TRAIN, b"3\n", "1 column, expected 2 columns (emotion,pixels)"),
        (FER, b"3,,Training\n", "0 pixels, expected 2304 (48x48)"),
        (ICML, b"3,Training,\n", "0 pixels, expected 2304 (48x48)"),
        (TRAIN, b"3,\n", "0 pixels, expected 2304 (48x48)"),
        (TEST, b"3\n", "1 pixels, expected 2304 (48x48)"),
    ):
        text = lines(header)
        text[4] = bad
        assert_refused(tmp_path / "a.csv", monkeypatch, text, 4, message)


def test_a_pixel_moved_to_the_next_row_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for header in (TRAIN, TEST):
        text = lines(header)
        text[4], moved = text[4].rstrip().rsplit(b" ", 1)
        text[4] += b"\n"
        text[5] = text[5].rstrip() + b" " + moved + b"\n"
        assert_refused(tmp_path / "a.csv", monkeypatch, text, 4, "2303 pixels, expected 2304")


def test_the_first_of_several_bad_rows_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = lines(FER)
    text[9], text[5], text[7] = b"\n", text[5].replace(b" ", b" 999 ", 1), b"7" + text[7][1:]
    path = write(tmp_path / "a.csv", text)
    for block in BLOCKS:
        monkeypatch.setattr(text_lines, "BLOCK", block)
        assert "line 6: 2305 pixels" in error_of(path)


@pytest.mark.parametrize(
    ("header", "keep"), [*((FER, keep) for keep in (-4, -20, 1000, 1, 2)), (ICML, 8), (TRAIN, 2), (TEST, -1000)]
)
def test_a_file_cut_short_is_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, header: str, keep: int
) -> None:
    text = lines(header)
    text[-1] = text[-1][:keep]
    path = write(tmp_path / "a.csv", text)
    for block in BLOCKS:
        monkeypatch.setattr(text_lines, "BLOCK", block)
        said = error_of(path)
        assert (
            "line 13, the last: " in said
            and "The file ends inside this line: is it cut short? Fetch the file again, or" in said
        )


BAD_HEADERS = {
    "is no header with a column of pixels": [b"", b"\n\n", b"emotion\n", b"70 80 82\n", b"emotion,file\n", b"\x89PNG"],
    "several columns for usage (": [b"emotion,pixels,Usage,Usage\n", b"emotion,pixels,Usage,split\n"],
    "several columns for emotion (": [b"emotion,label,pixels\n"],
    "has no column emotion, but others, such as 'mood'": [b"mood,pixels\n"],
    "has the column 'Usgae': is it misspelt?": [b"emotion,pixels,Usgae\n"],
    "is a zip archive": [b"PK\x03\x04abc"],
    "is packed by gzip": [b"\x1f\x8b\x08"],
    "the download failed": [b"<!DOCTYPE html>\n<html>", b"<html>"],
    "a pointer of Git LFS": [b"version https://git-lfs.github.com/spec/v1\n"],
}  # fmt: skip


def test_a_file_without_the_columns_is_refused_in_a_sentence_that_says_what_it_is(tmp_path: Path) -> None:
    for message, texts in BAD_HEADERS.items():
        for text in texts:
            said = error_of(write(tmp_path / "a.csv", text))
            assert str(tmp_path / "a.csv") in said and message in said, text
            assert len(said) < 500, "a long first line is shortened"


@every_layout
def test_a_header_without_rows_is_refused(tmp_path: Path, header: str) -> None:
    for end in (b"", b"\n", b"\r\n", b"\n\n\n"):
        said = error_of(write(tmp_path / "a.csv", header.encode() + end))
        assert "no rows after the header. Fetch the file again" in said


@every_layout
def test_a_header_before_garbage(tmp_path: Path, header: str) -> None:
    for garbage in (np.random.default_rng(0).bytes(100_000), b"\xff" * 5000, b" " * 5000 + b"x", b"1" * 20_000):
        assert "a.csv, line " in error_of(write(tmp_path / "a.csv", [header.encode() + b"\n", garbage]))


# --- other forms ----------------------------------------------------------------------------------------------------

FOREIGN = [b"\xc3\xa9", b"\xe9", b'"a, ""b"""', b""]
"""A name in UTF-8 and in Latin-1, one in quotes with a comma, none."""


def cells_as(**change: Callable[[bytes], bytes]) -> bytes:
    """The usual file with changed cells."""
    rows = [{name: change.get(name, bytes)(cell) for name, cell in row.items()} for row in cells()]
    return b"".join([FER.encode() + b"\n", *(join(FER, row) for row in rows)])


def wide(text: bytes) -> bytes:
    """One column a pixel."""
    header = ",".join(["emotion", *(f"pixel{i}" for i in range(2304)), "Usage"]).encode()
    return b"\n".join([header, *(line.replace(b" ", b",") for line in text.splitlines()[1:])])


def more_columns(text: bytes) -> bytes:
    header, *rows = text.splitlines()
    rows = [b"%d,%s,%s" % (i, row, FOREIGN[i % 4]) for i, row in enumerate(rows)]
    return b"\n".join([b"Unnamed: 0,%s,Photo by" % header, *rows])


FORMS: dict[str, Callable[[bytes], bytes]] = {
    "capitals and spaces": lambda text: text.replace(b"emotion,pixels,Usage", b" Emotion , PIXELS,usage "),
    "other names": lambda text: text.replace(b"emotion,pixels,Usage", b'"Label","Pixel_Values","split"'),
    "semicolons": lambda text: text.replace(b",", b";"),
    "tabs": lambda text: text.replace(b",", b"\t"),
    "byte order mark": lambda text: b"\xef\xbb\xbf" + text,
    "UTF-16": lambda text: text.decode().encode("utf-16"),
    "UTF-16, no mark": lambda text: text.decode().encode("utf-16-be"),
    "UTF-32": lambda text: text.decode().encode("utf-32"),
    "old Mac": lambda text: text.replace(b"\n", b"\r"),
    "no header": lambda text: text.partition(b"\n")[2],
    "no header, semicolons": lambda text: text.partition(b"\n")[2].replace(b",", b";"),
    "words": lambda text: cells_as(emotion=lambda x: ["Angry", "disgust", "FEAR", "happy", "sadness", "surprised",
                                                      " neutral"][int(x)].encode()),
    "brackets and commas": lambda text: cells_as(pixels=lambda x: b'"[%s]"' % x.replace(b" ", b", ")),
    "brackets": lambda text: cells_as(pixels=lambda x: b"[%s]" % x),
    "rows in brackets": lambda text: cells_as(
        pixels=lambda x: str(np.reshape(x.split(), (48, 48)).astype(int).tolist()).encode().join([b'"', b'"'])
    ),
    "commas in quotes": lambda text: cells_as(pixels=lambda x: b'"%s"' % x.replace(b" ", b",")),
    "commas beside semicolons": lambda text: text.replace(b",", b";").replace(b" ", b","),
    "splits": lambda text: cells_as(Usage=lambda x: {b"Training": b"train", b"PublicTest": b"Val",
                                                     b"PrivateTest": b"TESTING"}[x]),
    "one pixel a column": wide,
    "more columns": more_columns,
}  # fmt: skip


@pytest.mark.parametrize("kind", FORMS)
def test_other_forms_of_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    plain = write(tmp_path / "plain.csv", lines(FER))
    monkeypatch.setattr(text_lines, "BLOCK", 20_001)
    found = read(write(tmp_path / "a.csv", FORMS[kind](plain.read_bytes())))
    assert_equal(found, truth(plain))
    said = {"no header": "has no header", "more columns": "has columns that are not read: Photo by"}
    assert len(found.remarks) == (kind.split(",")[0] in said)
    assert not found.remarks or said[kind.split(",")[0]] in found.remarks[0]


@pytest.mark.parametrize("wide", [False, True])
def test_a_split_under_another_name_is_refused_not_drawn_anew(wide: bool, tmp_path: Path) -> None:
    pixels = ["8"] * 2304
    columns, row = "pixels", " ".join(pixels)
    if wide:
        columns, row = ",".join(f"pixel{n}" for n in range(2304)), ",".join(pixels)
    for name, value in (("dataset", "Training"), ("is_train", "1"), ("Is Test", "0")):
        for header, line in (
            (f"emotion,{columns},{name}\n", f"3,{row},{value}\n"),
            (f"{name},emotion,{columns}\n", f"{value},3,{row}\n"),
        ):
            said = error_of(write(tmp_path / "a.csv", [header.encode(), line.encode()]))
            assert f"a.csv: the column {name} looks like a split and is not read. Call it split" in said
    lines = [f"emotion,{columns},emotion_name,dataset\n".encode(), f"3,{row},happy,FER2013\n".encode()]
    assert read(write(tmp_path / "a.csv", lines)).remarks == [
        "a.csv has columns that are not read: emotion_name, dataset."
    ]


def test_labels_that_a_spreadsheet_made_decimal(tmp_path: Path) -> None:
    rows = [f"{n % 7}.0,{' '.join(['8'] * 2304)},Training\n".encode() for n in range(9)]
    found = read(write(tmp_path / "x.csv", [b"emotion,pixels,Usage\n", *rows]))
    assert found.label.tolist() == [n % 7 for n in range(9)]


def test_other_sizes_also_with_cells_of_more_characters_than_csv_takes(tmp_path: Path) -> None:
    for side, quote in ((16, ""), (64, ""), (224, '"')):
        images = np.random.default_rng(0).integers(100, 256, (3, side, side), dtype=np.uint8)
        rows = [f"{i},{quote}{' '.join(map(str, image.ravel()))}{quote},é\n" for i, image in enumerate(images)]
        path = write(tmp_path / "a.csv", [b"emotion,pixels,by\n", *(row.encode() for row in rows)])
        np.testing.assert_array_equal(read(path).images, images)
    write(path, [*path.read_bytes().splitlines(keepends=True), b"0," + cells()[0]["pixels"] + b",x\n"])
    assert "line 5, the last: 2304 pixels, expected 50176 (224x224)" in error_of(path)


def test_garbage_at_the_end_is_said_to_be_the_last_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", [*lines(FER), b"<html>,a,b,c\n", b"\n"])
    assert "line 14, the last: 4 columns, expected 3 columns" in error_of(path)
    write(path, [*lines(FER), b",,\n"])
    assert "line 14, the last: Usage is ''" in error_of(path)


@pytest.mark.parametrize("rows", [-1, 0, 12])
def test_a_hole_of_a_terabyte_is_refused_at_once(tmp_path: Path, rows: int) -> None:
    path = write(tmp_path / "a.csv", lines(FER)[: rows + 1])
    try:
        os.truncate(path, 1 << 40)
    except OSError:
        pytest.skip("no sparse files of this size here")
    assert re.search(f"line {rows + 2}: a null byte|more than fit in memory", error_of(path))


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_lines, "LONGEST", 100_000)
    path = write(tmp_path / "a.csv", [*lines(FER), b"1 " * 400_000])
    assert "line 14: longer than 100,000 bytes" in error_of(path)


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


@pytest.mark.parametrize(("header", "in_quotes"), [(FER, False), (FER, True), (ICML, False), (TEST, False)])
def test_a_mutated_file_is_read_rightly_or_refused(tmp_path: Path, monkeypatch, header: str, in_quotes: bool) -> None:  # type: ignore[no-untyped-def]
    path, rng, refused = tmp_path / "a.csv", np.random.default_rng([LAYOUTS.index(header), in_quotes]), 0
    text = b"".join(lines(header, 3))
    text = quoted(text) + b"\n" if in_quotes else text
    for i in range(120):
        monkeypatch.setattr(text_lines, "BLOCK", BLOCKS[i % len(BLOCKS)])
        write(path, mutate(text, rng))
        try:
            found = read(path)
        except FerlError:
            refused += 1
            continue
        assert_equal(found, truth(path))
    assert 20 < refused < 115, "the mutations must make both kinds"


# --- the real images ------------------------------------------------------------------------------------------------


@pytest.mark.skipif(REAL is None, reason="the FER2013 arrays are not here")
def test_real_images_survive_the_csv(tmp_path: Path) -> None:
    assert REAL is not None
    export = [sys.executable, str(REAL / "export.py"), "--layout", "fer2013-csv", "--limit", "300", str(tmp_path)]
    subprocess.run(export, check=True)
    with np.load(REAL / "fer2013_train.npz") as train, np.load(REAL / "fer2013_public.npz") as public:
        images, labels = (np.concatenate([train[key][:300], public[key][:300]]) for key in ("pixels", "emotion"))
    with (tmp_path / "fer2013.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for header in LAYOUTS:
        with (tmp_path / "a.csv").open("w", newline="") as file:
            csv.writer(file).writerows([header.split(","), *([row[x] for x in names_of(header)] for row in rows)])
        found = read(tmp_path / "a.csv")
        np.testing.assert_array_equal(found.images, images)
        assert found.label.tolist() == (labels.tolist() if "emotion" in header else [-1] * 600)
        assert found.split.tolist() == ([0] * 300 + [1] * 300 if "Usage" in header else [-1] * 600)

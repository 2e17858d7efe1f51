"""The csv parser against Python's csv module and int(), on good files, bad files and mutated ones of every layout."""

import csv
import os
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

from ferlightning.data.sources import pixel_csv
from ferlightning.data.sources.pixel_csv import PixelCsv, read_pixel_csv
from ferlightning.errors import FerlError

USAGES = ["Training", "PublicTest", "PrivateTest"]
FER, ICML, TRAIN, TEST = LAYOUTS = ["emotion,pixels,Usage", "emotion, Usage, pixels", "emotion,pixels", "pixels"]
BLOCKS = [1, 20_000, 1 << 20]
"""Every line in a block of its own, two or three, and all in one."""
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
            header, *found = [row for row in csv.reader(file, strict=True) if row]
            names = [name.strip() for name in header]
            if names not in map(names_of, LAYOUTS) or not found:
                return None
            rows = [dict(zip(names, row, strict=True)) for row in found]
            images = np.array([[int(value) for value in row["pixels"].split()] for row in rows]).reshape(-1, 48, 48)
            labels = np.array([int(row["emotion"]) if "emotion" in names else -1 for row in rows])
            splits = np.array([USAGES.index(row["Usage"].strip()) if "Usage" in names else -1 for row in rows])
        except (ValueError, csv.Error):
            return None
    good = len(images) == len(labels) and (images >= 0).all() and (images < 256).all()
    in_range = (labels >= (0 if "emotion" in names else -1)).all() and (labels < num_classes).all()
    return (images, labels, splits) if good and in_range else None


def assert_equal(found: PixelCsv, wanted: tuple[NDArray[np.int64], ...] | None) -> None:
    assert wanted is not None
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(a, b)


def error_of(path: Path, num_classes: int = 7) -> str:
    with pytest.raises(FerlError) as error:
        read_pixel_csv(path, num_classes)
    return str(error.value)


# --- good files -----------------------------------------------------------------------------------------------------


@every_layout
def test_values_equal_those_of_csv_and_int(tmp_path: Path, header: str) -> None:
    path = write(tmp_path / "a.csv", lines(header, 42))
    found = read_pixel_csv(path)
    assert_equal(found, truth(path))
    assert [x.dtype for x in found] == [np.uint8, np.int64, np.int8] and found.images.shape == (42, 48, 48)
    np.testing.assert_array_equal(found.images.reshape(42, -1), [pixels for _, pixels, _ in make_rows(42)])
    assert found.label.tolist() == [emotion if "emotion" in header else -1 for emotion, _, _ in make_rows(42)]
    assert found.split.tolist() == [USAGES.index(usage) if "Usage" in header else -1 for _, _, usage in make_rows(42)]


@pytest.mark.parametrize(("name", "header"), [("fer2013.csv", FER), ("icml_face_data.csv", ICML)])
def test_values_equal_those_of_torchvision(tmp_path: Path, monkeypatch, name: str, header: str) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "fer2013").mkdir()
    found = read_pixel_csv(write(tmp_path / "fer2013" / name, lines(header, 42)))
    monkeypatch.setattr(torchvision.datasets.fer2013, "check_integrity", lambda path, md5: True)  # knows the real file
    for split, numbers in (("train", found.split == 0), ("test", found.split > 0)):
        other = torchvision.datasets.FER2013(tmp_path, split)
        np.testing.assert_array_equal(found.images[numbers], np.stack([np.asarray(image) for image, _ in other]))
        assert found.label[numbers].tolist() == [label for _, label in other]


def test_values_equal_those_of_torchvision_in_the_files_of_the_challenge(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "fer2013").mkdir()
    train = read_pixel_csv(write(tmp_path / "fer2013" / "train.csv", lines(TRAIN)))
    test = read_pixel_csv(write(tmp_path / "fer2013" / "test.csv", lines(TEST)))
    monkeypatch.setattr(torchvision.datasets.fer2013, "check_integrity", lambda path, md5: True)
    for split, found in (("train", train), ("test", test)):
        other = torchvision.datasets.FER2013(tmp_path, split)
        np.testing.assert_array_equal(found.images, np.stack([np.asarray(image) for image, _ in other]))
        assert found.label.tolist() == [-1 if label is None else label for _, label in other]


def test_rows_may_lie_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.csv", lines(FER))
    for block in (1, 100, 9_000, 30_000):
        monkeypatch.setattr(pixel_csv, "BLOCK", block)
        assert_equal(read_pixel_csv(path), truth(path))


def test_more_than_one_block_of_the_real_size(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", lines(FER, 84))
    assert path.stat().st_size > 2 * pixel_csv.BLOCK
    assert_equal(read_pixel_csv(path), truth(path))


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
    assert_equal(read_pixel_csv(write(path, SPELLINGS[kind](plain.read_bytes()))), truth(path))
    for block in BLOCKS:
        monkeypatch.setattr(pixel_csv, "BLOCK", block)
        assert_equal(read_pixel_csv(path), wanted)


@pytest.mark.parametrize("header", [FER, TEST])
def test_blank_lines_may_end_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, header: str) -> None:
    wanted = truth(write(tmp_path / "plain.csv", lines(header)))
    for block in BLOCKS:
        monkeypatch.setattr(pixel_csv, "BLOCK", block)
        for end in (b"\n", b"\r\n\r\n", b"  \n", b"\n ", b"\n" * 3000):
            assert_equal(read_pixel_csv(write(tmp_path / "a.csv", [*lines(header), end])), wanted)


@every_layout
def test_the_shortest_rows_there_can_be(tmp_path: Path, header: str) -> None:
    rows = [row | {"pixels": b" ".join([b"%d" % i] * 2304)} for i, row in enumerate(cells(7))]
    text = header.encode() + b"\n" + b"".join(join(header, row) for row in rows)
    path = write(tmp_path / "a.csv", text.rstrip())
    assert_equal(read_pixel_csv(path), truth(path))


def test_eight_classes(tmp_path: Path) -> None:
    path = write(tmp_path / "ckextended.csv", lines(FER, 24, num_classes=8))
    found = read_pixel_csv(path, num_classes=8)
    assert_equal(found, truth(path, num_classes=8))
    assert np.bincount(found.label).tolist() == [3] * 8
    assert "row 8: emotion is 7, expected 0 to 6" in error_of(path)
    path = write(path, b"".join(lines(FER, 24, num_classes=8)).replace(b"\n7,", b"\n8,"))
    assert "row 8: emotion is 8, expected 0 to 7" in error_of(path, num_classes=8)


def test_every_number_of_up_to_three_digits(tmp_path: Path) -> None:
    for spelling, before in product(("%d", "%02d", "%03d"), (b"9", b"99", b"255")):
        words = cells()[0]["pixels"].split()
        for i in range(256):
            words[4 * i : 4 * i + 2] = [before, spelling.encode() % i]
        path = write(tmp_path / "a.csv", [b"pixels\n", b" ".join(words)])
        assert_equal(read_pixel_csv(path), truth(path))
        assert read_pixel_csv(path).images.ravel()[1:1024:4].tolist() == list(range(256))
    for value in [*range(256, 262), *range(262, 1000, 9), 999]:
        words[1000] = b"%d" % value
        assert f"row 1: a pixel of {value}, expected 0 to 255" in error_of(write(path, [b"pixels\n", b" ".join(words)]))


@every_layout
def test_usual_spellings_are_read_many_rows_at_a_time(header: str) -> None:
    """The parser of whole blocks takes them; one that it declines is read word by word, many times as slowly."""
    text = b"".join(lines(header, 42))
    for kind in ("no last newline", "crlf", "all quoted", "two spaces", "zeros"):
        _, *rows = SPELLINGS[kind](text).splitlines(keepends=True)
        assert pixel_csv._parse(rows, names_of(header), 7) is not None, kind


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
    "negative pixel": ("pixels", pixel(b"-3"), "unexpected character '-' among the numbers"),
    "fraction": ("pixels", pixel(b"7.5"), "unexpected character '.'"),
    "letters": ("pixels", pixel(b"abc"), "unexpected character 'a'"),
    "null byte": ("pixels", pixel(b"1\x003"), "unexpected character '\\x00'"),
    "tab": ("pixels", pixel(b"1\t3"), "unexpected character '\\t'"),
    "byte above ASCII": ("pixels", pixel(b"\xff"), "unexpected character 'ÿ'"),
    "stray quote": ("pixels", pixel(b'1"3'), "unexpected character '\"'"),
    "half quoted": ("pixels", lambda x: b'"' + x, "unexpected character '\"'"),
    "label of 7": ("emotion", lambda x: b"7", "emotion is 7, expected 0 to 6"),
    "label of 300": ("emotion", lambda x: b"300", "emotion is 300, expected 0 to 6"),
    "label of 2048": ("emotion", lambda x: b"2048", "emotion is 2048, expected 0 to 6"),
    "label of -1": ("emotion", lambda x: b"-1", "unexpected character '-'"),
    "label of x": ("emotion", lambda x: b"x", "unexpected character 'x'"),
    "empty label": ("emotion", lambda x: b"", "emotion is '', expected one number from 0 to 6"),
    "one quote": ("emotion", lambda x: b'"', "unexpected character '\"'"),
    "two labels": ("emotion", lambda x: b"1 2", "emotion is '1 2', expected one number from 0 to 6"),
    "unknown Usage": ("Usage", lambda x: b"Test", "Usage is 'Test', expected one of Training, PublicTest, PrivateTest"),
    "digit in Usage": ("Usage", lambda x: x + b"2", "2', expected one of Training"),
    "no Usage": ("Usage", lambda x: b"", "Usage is '', expected one of Training"),
}
BAD_LINES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "column too many": (lambda line: line[:-1] + b",5\n", "{more} column(s), expected {columns} ({names})"),
    "empty line": (lambda line: b"\n", "an empty line, expected {columns} ({names})"),
    "empty line, crlf": (lambda line: b"\r\n", "an empty line, expected {columns} ({names})"),
    "empty lines": (lambda line: b"\n" * 5, "an empty line, expected {columns} ({names})"),
    "garbage": (lambda line: bytes(range(11, 256)) + b"\n", ""),
}


def assert_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch, text: list[bytes], row: int, message: str, blocks: list[int] = BLOCKS
) -> None:
    write(path, text)
    for block in blocks:
        monkeypatch.setattr(pixel_csv, "BLOCK", block)
        said = error_of(path)
        assert f"{path}, row {row}: " in said and message in said
        assert "Fetch the file again or fix the row" in said and "cut short" not in said


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
        names = names_of(header)
        text = lines(header)
        text[row] = change(text[row])
        said = message.format(more=len(names) + 1, columns=columns, names=",".join(names))
        assert_refused(tmp_path / "a.csv", monkeypatch, text, row, said)


def test_a_missing_column_and_missing_pixels_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for header, bad, message in (
        (FER, b"3,1 2 3\n", "2 column(s), expected 3 columns (emotion,pixels,Usage)"),
        (ICML, b"3,Training\n", "2 column(s), expected 3 columns (emotion,Usage,pixels)"),
        (TRAIN, b"3\n", "1 column(s), expected 2 columns (emotion,pixels)"),
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
        monkeypatch.setattr(pixel_csv, "BLOCK", block)
        assert "row 5: 2305 pixels" in error_of(path)


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
        monkeypatch.setattr(pixel_csv, "BLOCK", block)
        said = error_of(path)
        assert "row 12: " in said and "The file ends inside this row: is it cut short? Fetch the file again" in said


BAD_HEADERS = [
    b"", b"\n\n\n", b"pixels,emotion\n1 2 3,4\n", b"emotion,pixels,usage\n", b"Pixels\n", b"emotion\n",
    b"emotion,pixels,\n", b"emotion,pixels,Usage,Usage\n", b"emotion;pixels;Usage\n", b"pixels,Usage\n", b"70 80 82\n",
    lines(FER)[1], np.random.default_rng(0).bytes(100_000), b"\xff\xfe" + FER.encode("utf-16-le"),
]  # fmt: skip


def test_an_unknown_header_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    for bad in BAD_HEADERS:
        said = error_of(write(tmp_path / "a.csv", bad))
        assert f"{tmp_path / 'a.csv'}: the first line is " in said and "Fetch the file again" in said
        assert "expected 'emotion,pixels,Usage', 'emotion, Usage, pixels', 'emotion,pixels' or 'pixels'" in said
        assert len(said) < 700, "a long first line is shortened"


@every_layout
def test_a_header_without_rows_is_refused(tmp_path: Path, header: str) -> None:
    for end in (b"", b"\n", b"\r\n", b"\n\n\n"):
        said = error_of(write(tmp_path / "a.csv", header.encode() + end))
        assert "no rows after the header. Fetch the file again" in said


@every_layout
def test_a_header_before_garbage(tmp_path: Path, header: str) -> None:
    for garbage in (np.random.default_rng(0).bytes(100_000), b"\xff" * 5000, b" " * 5000 + b"x", b"1" * 20_000):
        assert "row 1: " in error_of(write(tmp_path / "a.csv", [header.encode() + b"\n", garbage]))


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
        monkeypatch.setattr(pixel_csv, "BLOCK", BLOCKS[i % len(BLOCKS)])
        write(path, mutate(text, rng))
        try:
            found = read_pixel_csv(path)
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
        found = read_pixel_csv(tmp_path / "a.csv")
        np.testing.assert_array_equal(found.images, images)
        assert found.label.tolist() == (labels.tolist() if "emotion" in header else [-1] * 600)
        assert found.split.tolist() == ([0] * 300 + [1] * 300 if "Usage" in header else [-1] * 600)

"""Data of a stranger: paths that lead out, images that claim too much, texts that only look like numbers."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from ferlightning.cli.main import main
from ferlightning.data.sources.table import Table
from ferlightning.errors import FerlError
from ferlightning.images.decode import decode_image

BOMB = "\n".join(
    ["a0: &a0 [x,x,x,x,x,x,x,x,x]", *(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9))]
)
"""Each alias stands for nine of the one before."""


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    return "".join(capsys.readouterr())


def write_table(folder: Path, *rows: str) -> Path:
    """Four images, a table of three of them, and more rows."""
    folder.mkdir()
    for i in range(4):
        cv2.imwrite(str(folder / f"{i}.png"), np.full((8, 8), i, np.uint8))
    table = folder / "labels.csv"
    lines = ["path,label,note", "0.png,sad,", "1.png,happy,", "2.png,sad,", *rows]
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return table


@pytest.mark.parametrize(
    "name", ["../out/x.png", "a/../../out/x.png", "..\\out\\x.png", "{out}/x.png", "link/x.png", "l.png"]
)
def test_paths_in_a_table_stay_in_its_folder(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    cv2.imwrite(str(out / "x.png"), np.zeros((8, 8), np.uint8))
    table = write_table(tmp_path / "in", f"{name.format(out=out)},happy,")
    (table.parent / "link").symlink_to(out)
    (table.parent / "l.png").symlink_to(out / "x.png")
    said = refused(capsys, "data", "inspect", str(table))
    assert "labels.csv, line 5: the image" in said and "is outside of" in said
    assert len(Table(str(write_table(tmp_path / "other", "3.png,happy,"))).files) == 4


def test_a_link_within_the_folder_of_a_table_is_followed(tmp_path: Path) -> None:
    table = write_table(tmp_path / "in", "link.png,happy,")
    (table.parent / "link.png").symlink_to(table.parent / "3.png")
    (tmp_path / "linked").symlink_to(table.parent)
    assert len(Table(str(tmp_path / "linked"), size=8).raw) == 4


def png(width: int, height: int) -> bytes:
    """A file of 65 bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(60_000, 60_000), (8_001, 8_000), (12_000, 12_000)])
def test_the_size_of_an_image_is_read_before_its_pixels(
    size: tuple[int, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_table(tmp_path / "in", "3.png,happy,")
    (table.parent / "3.png").write_bytes(png(*size))
    said = refused(capsys, "fit", "--data=Table", f"--data.root={table}", f"--trainer.default_root_dir={tmp_path}/run")
    assert "3.png: has" in said and "megapixels, more than 64.0" in said
    for damaged in (
        png(*size)[:29] + bytes(4) + png(*size)[33:],  # without the check sum of its size
        png(8, 8).replace(b"\0\0\0\x08IDAT", b"\x7f\0\0\x08IDAT"),  # a part of two gigabytes
    ):
        (table.parent / "3.png").write_bytes(damaged)
        with pytest.raises(FerlError, match="cannot be read as an image"):
            decode_image(table.parent / "3.png", color=False)


def test_names_do_not_move_the_cursor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("\x1b]0;x\x07\x1b[2J", "\u202etfel"):
        (tmp_path / "faces" / name).mkdir(parents=True)
        for i in range(4):
            cv2.imwrite(str(tmp_path / "faces" / name / f"{i}.png"), np.full((8, 8), i, np.uint8))
    main(["data", "inspect", str(tmp_path / "faces")])
    said = "".join(capsys.readouterr()) + refused(capsys, "fit", str(tmp_path / "\x1b[2J"))
    assert said.count("\\x1b[2J") >= 2 and "\\u202etfel" in said
    assert not {"\x1b", "\x07", "\u202e"} & {*said}


def test_the_limit_of_pixels_is_an_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for suffix in ("png", "jpg", "webp", "bmp", "gif", "tif"):
        path = tmp_path / f"x.{suffix}"
        Image.fromarray(np.zeros((10, 100), np.uint8)).save(path)
        monkeypatch.setenv("FERL_MAX_PIXELS", "999")
        with pytest.raises(FerlError, match="FERL_MAX_PIXELS"):
            decode_image(path, color=False)
        monkeypatch.setenv("FERL_MAX_PIXELS", "1000")
        assert decode_image(path, color=False).shape == (10, 100)


@pytest.mark.parametrize("label", ["1_0", "0_3", "٣"])
def test_what_only_python_takes_for_a_number_is_a_name(label: str, tmp_path: Path) -> None:
    table = write_table(tmp_path / "in", f"3.png,{label},")
    assert label in Table(str(table), numbers="RAF-DB").class_names


@pytest.mark.parametrize("side", ["1_0", "٣", "nan", "inf", "1e999"])
def test_what_only_python_takes_for_a_number_is_no_side_of_a_box(side: str, tmp_path: Path) -> None:
    table = write_table(tmp_path / "in")
    table.write_text(f"path,label,face_x,face_y,face_width,face_height\n0.png,1,0,0,{side},8\n1.png,2,0,0,8,8\n")
    with pytest.raises(FerlError, match="line 2: the face box is"):
        Table(str(table))


def test_a_huge_field_of_a_table_is_read_or_refused_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(Table(str(write_table(tmp_path / "large", f"3.png,happy,{'x' * 200_000}"))).files) == 4
    table = write_table(tmp_path / "huge", f"3.png,happy,{'x' * (1 << 24)}x")
    assert "labels.csv, line 5: field larger than field limit" in refused(capsys, "data", "inspect", str(table))


@pytest.mark.parametrize("words", [["bench", "run"], ["sweep"], ["fit", "--config"]])
def test_aliases_that_multiply_are_refused(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "many.yaml"
    path.write_text(BOMB + "\n")
    said = refused(capsys, *words, str(path))
    assert "many.yaml" in said and "aliases stand for more than" in said

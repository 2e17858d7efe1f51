"""One picture in whatever form gives the same bytes, and what is no picture is refused in words."""

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

from ferlightning import FerlError, Recognizer
from ferlightning.deploy.pictures import as_rgb
from ferlightning.images.crop import crop_face
from tests.deploy.common import Blobs, Brightness


@pytest.fixture
def rgb() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


def test_arrays_of_every_kind_are_one_picture(rgb: np.ndarray) -> None:
    alpha = np.full((5, 7, 1), 9, np.uint8)
    assert np.array_equal(as_rgb(rgb), rgb)
    assert np.array_equal(as_rgb(rgb[:, :, ::-1], "bgr"), rgb)
    assert np.array_equal(as_rgb(np.concatenate([rgb, alpha], 2)), rgb)
    assert np.array_equal(as_rgb(np.concatenate([rgb[:, :, ::-1], alpha], 2), "bgr"), rgb)
    assert np.array_equal(as_rgb(rgb / 255), rgb) and np.array_equal(as_rgb((rgb / 255).astype(np.float32)), rgb)
    assert np.array_equal(as_rgb(rgb.astype(np.uint16) * 257), rgb)
    assert np.array_equal(as_rgb(rgb.astype(np.int64)), rgb)
    grey = np.repeat(rgb[:, :, :1], 3, 2)
    assert np.array_equal(as_rgb(rgb[:, :, 0]), grey) and np.array_equal(as_rgb(rgb[:, :, :1]), grey)


def test_sixteen_bits_are_read_as_in_a_file(rgb: np.ndarray, tmp_path: Path) -> None:
    deep = rgb.astype(np.uint16) * 16  # of a camera with 12 bits
    cv2.imwrite(str(tmp_path / "a.png"), deep[:, :, ::-1])
    assert np.array_equal(as_rgb(tmp_path / "a.png"), rgb)
    assert np.array_equal(as_rgb(deep), rgb) and np.array_equal(as_rgb(deep.astype(">u2")), rgb)


def test_a_line_is_cut_out_without_gigabytes() -> None:
    line = np.repeat(np.arange(30_000, dtype=np.int32)[:, None, None] * 255 // 30_000, 3, 2).astype(np.uint8)
    crop = crop_face(line, (0, 0, 1, 30_000), 1.0, 48)
    assert crop.shape == (48, 48, 3)
    expected = (np.arange(48) + 0.5) / 48 * 255
    assert np.abs(crop[:, 24, 0] - expected).max() < 4


def test_one_picture_is_a_batch_of_one(rgb: np.ndarray, tmp_path: Path) -> None:
    assert cv2.imwrite(str(tmp_path / "a.png"), rgb[:, :, ::-1])
    one = (rgb, str(tmp_path / "a.png"), tmp_path / "a.png", (tmp_path / "a.png").open("rb"), Pillow.fromarray(rgb))
    recognizer = Recognizer(Brightness(), detector=Blobs())
    expected = [face.box for face in recognizer(rgb)]
    for pictures in (*one, rgb[None], iter([rgb])):
        assert [[face.box for face in faces] for faces in recognizer.batch(pictures)] == [expected]


def test_files_bytes_and_pillow_agree(rgb: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Pillow.fromarray(rgb).save(path)
    for form in (path, str(path), path.read_bytes(), Pillow.open(path), Pillow.open(path).convert("RGBA")):
        assert np.array_equal(as_rgb(form), rgb)
    file = io.BytesIO(path.read_bytes())
    assert np.array_equal(as_rgb(file), as_rgb(file)) and np.array_equal(as_rgb(file), rgb)
    file.close()
    for wrong, message in ((file, "the picture: cannot be read: I/O operation on closed"), (io.StringIO(), "of text")):
        with pytest.raises(FerlError, match=message):
            as_rgb(wrong)
    cv2.imwrite(str(path), rgb[:, :, 0].astype(np.uint16) * 257)
    assert np.array_equal(as_rgb(path), as_rgb(rgb[:, :, 0])) and np.array_equal(
        as_rgb(Pillow.open(path)), as_rgb(path)
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_of_exif_is_followed(orientation: int, tmp_path: Path) -> None:
    image = np.zeros((32, 48, 3), np.uint8)
    image[:16, :16] = 255  # the corner that is top left before anything is turned
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.jpg"
    Pillow.fromarray(image).save(path, exif=exif)
    shown = as_rgb(path)
    corner = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}[
        orientation
    ]
    assert shown.shape[:2] == ((32, 48) if orientation < 5 else (48, 32)) and shown[corner].min() > 200
    assert np.abs(as_rgb(Pillow.open(path)).astype(int) - shown).max() <= 8  # two decoders of JPEG


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (np.zeros((0, 5, 3), np.uint8), "no pixels"),
        (np.zeros((5, 20, 20), np.uint8), "has the shape"),
        (np.zeros((5, 5, 3)) + 2.0, "floats from 0 to 1"),
        (np.full((5, 5), np.nan), "floats from 0 to 1"),
        (np.full((5, 5), -1), "expected uint8"),
        (b"GIF89a nothing", "cannot be read as an image"),
        ("no-such.png", "no-such.png: cannot be read: No such file"),
        (None, "is None, expected a path"),
        ([[1], [1, 2]], "cannot be read"),
        (np.full((5, 5), "a"), "is <U1"),
        (np.zeros((5, 5), "M8[s]"), "is datetime64"),
    ],
)
def test_what_is_no_picture_is_refused_in_words(picture: object, message: str) -> None:
    with pytest.raises(FerlError, match=message):
        as_rgb(picture)


def test_a_folder_without_pictures_is_named(tmp_path: Path) -> None:
    with pytest.raises(FerlError, match=f"there is no picture in {tmp_path}"):
        Recognizer(Brightness(), detector=Blobs()).predict(tmp_path)


def test_too_large_a_picture_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERL_MAX_PIXELS", "1000000")  # which arrays and files go by alike
    with pytest.raises(FerlError, match="1100 x 1000 pixels, more than 1,000,000"):
        as_rgb(np.zeros((1000, 1100), np.uint8))


def test_a_pillow_image_that_is_cut_short_and_an_unknown_order_are_refused() -> None:
    file = io.BytesIO()
    Pillow.fromarray(np.random.default_rng(0).integers(0, 256, (50, 50, 3), np.uint8)).save(file, "png")
    with pytest.raises(FerlError, match="cannot be read: .*truncated"):
        as_rgb(Pillow.open(io.BytesIO(file.getvalue()[:4000])))
    with pytest.raises(FerlError, match="order is 'BGR', expected 'rgb' or 'bgr'"):
        as_rgb(np.zeros((5, 5, 3), np.uint8), order="BGR")  # type: ignore[arg-type]

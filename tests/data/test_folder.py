"""Image folders as users have them, whole and broken. Images are written with Pillow, not with our own reader."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ferlightning.data import ImageFolder
from ferlightning.data.store import cache_dir
from ferlightning.errors import FerlError
from ferlightning.images.decode import decode_image


def write(path: Path, pixels: NDArray[np.uint8]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def fill(root: Path, classes: tuple[str, ...] = ("happy", "sad"), n: int = 10, size: int = 16, seed: int = 0) -> Path:
    """n random grey PNG files for each class."""
    rng = np.random.default_rng(seed)
    for name in classes:
        for i in range(n):
            write(root / name / f"{i:02}.png", rng.integers(0, 256, (size, size), np.uint8))
    return root


def pixels_of(root: Path, data: ImageFolder) -> NDArray[np.uint8]:
    """What Pillow reads from the files that the store names."""
    return np.stack([np.asarray(Image.open(root / name)) for name in data.store.name])


# --- layouts --------------------------------------------------------------------------------------------------------


def test_classes_without_splits(tmp_path: Path) -> None:
    data = ImageFolder(str(fill(tmp_path, ("Sad", "happy", "wink"), 20)), size=16)
    assert data.class_names == ["happiness", "sadness", "wink"]
    np.testing.assert_array_equal(data.store.images, pixels_of(tmp_path, data))
    known = {"Sad": 1, "happy": 0, "wink": 2}
    assert data.store.label.tolist() == [known[Path(name).parts[0]] for name in data.store.name]
    assert data.class_counts == [14, 14, 14]
    assert [len(data.items[split]) for split in ("train", "val", "test")] == [42, 9, 9]
    assert sorted(np.concatenate(list(data.items.values()))) == list(range(60))
    assert data.notes("test") == []


@pytest.mark.parametrize("n", [3, 4, 7])
def test_every_class_is_in_every_split(tmp_path: Path, n: int) -> None:
    data = ImageFolder(str(fill(tmp_path, ("happy", "sad", "fear"), n)), size=16)
    for items in data.items.values():
        assert set(data.store.label[items]) == {0, 1, 2}


def test_the_split_follows_its_seed(tmp_path: Path) -> None:
    fill(tmp_path)
    one, same, other = (ImageFolder(str(tmp_path), size=16, split_seed=seed) for seed in (1, 1, 2))
    assert one.item_names("test").tolist() == same.item_names("test").tolist() != other.item_names("test").tolist()


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "validation", "Test")])
def test_split_folders(tmp_path: Path, names: tuple[str, str, str]) -> None:
    for n, folder in zip((6, 3, 4), names, strict=True):
        fill(tmp_path / folder, n=n)
    data = ImageFolder(str(tmp_path), size=16)
    assert data.class_names == ["happiness", "sadness"]
    for split, folder, n in zip(("train", "val", "test"), names, (6, 3, 4), strict=True):
        found = data.item_names(split)  # type: ignore[arg-type]
        assert len(found) == 2 * n and all(name.startswith(folder + os.sep) for name in found)
    np.testing.assert_array_equal(data.store.images, pixels_of(tmp_path, data))
    assert data.notes("test") == []


def test_train_and_test_without_validation(tmp_path: Path) -> None:
    fill(tmp_path / "train", n=20)
    fill(tmp_path / "test", n=5)
    data = ImageFolder(str(tmp_path), size=16, val_fraction=0.2)
    train, val, test = (set(data.item_names(split)) for split in ("train", "val", "test"))  # type: ignore[arg-type]
    assert (len(train), len(val), len(test)) == (32, 8, 10)
    assert not train & val and all(name.startswith("train") for name in train | val)
    assert all(name.startswith("test") for name in test)


def test_without_a_test_folder_validation_is_tested_and_said_to_be(tmp_path: Path) -> None:
    fill(tmp_path / "train")
    fill(tmp_path / "val", n=4)
    data = ImageFolder(str(tmp_path), size=16)
    assert data.items["test"].tolist() == data.items["val"].tolist()
    assert "no test split" in data.notes("test")[0]


def test_two_spellings_of_one_class_are_one(tmp_path: Path) -> None:
    fill(tmp_path, ("happy", "Happiness", "angry"))
    data = ImageFolder(str(tmp_path), size=16)
    assert data.class_names == ["anger", "happiness"] and np.bincount(data.store.label).tolist() == [10, 20]


def test_unicode_names_deeper_folders_and_other_files(tmp_path: Path) -> None:
    fill(tmp_path, ("radość", "悲しみ"), 4)
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    write(tmp_path / "radość" / "zdjęcia 😀" / "ż.PNG", pixels)
    (tmp_path / "radość" / "notes.txt").write_text("not an image")
    (tmp_path / ".cache").mkdir()
    data = ImageFolder(str(tmp_path), size=16)
    assert data.class_names == ["radość", "悲しみ"] and len(data.store) == 9
    (item,) = np.flatnonzero(data.store.name == str(Path("radość", "zdjęcia 😀", "ż.PNG")))
    np.testing.assert_array_equal(data.store.images[item], pixels)


# --- decoding -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_colour_stays_rgb_and_grey_is_its_luma(tmp_path: Path, suffix: str) -> None:
    fill(tmp_path)
    rgb = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    path = write(tmp_path / "happy" / f"colour.{suffix}", rgb)
    for color in (True, False):
        data = ImageFolder(str(tmp_path), size=16, color=color)
        (item,) = np.flatnonzero(data.store.name == str(path.relative_to(tmp_path)))
        if color:
            assert data.store.images.shape == (21, 16, 16, 3)
            np.testing.assert_array_equal(data.store.images[item], rgb)
            grey = data.store.images[np.arange(21) != item]  # grey files have three equal channels
            assert (grey == grey[..., :1]).all()
        else:
            assert data.store.images.shape == (21, 16, 16)
            np.testing.assert_allclose(data.store.images[item], np.asarray(Image.fromarray(rgb).convert("L")), atol=1)


def test_resizing_keeps_what_is_shown(tmp_path: Path) -> None:
    """A picture of a smooth wave looks the same at any size, whatever the file's height and width."""

    def wave(height: int, width: int) -> NDArray[np.uint8]:
        y, x = (np.arange(height)[:, None] + 0.5) / height, (np.arange(width) + 0.5) / width
        return np.uint8(127.5 + 60 * np.sin(2 * np.pi * x) + 60 * np.cos(2 * np.pi * y))  # type: ignore[return-value]

    for i, shape in enumerate([(96, 96), (24, 24), (31, 77), (48, 48), (200, 36)]):
        write(tmp_path / "happy" / f"{i}.png", wave(*shape))
        write(tmp_path / "sad" / f"{i}.png", wave(*shape))
    images = ImageFolder(str(tmp_path)).store.images
    assert images.shape == (10, 48, 48) and images.dtype == np.uint8
    np.testing.assert_allclose(images, np.broadcast_to(wave(48, 48), images.shape).astype(float), atol=6)


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    fill(tmp_path)
    assert ImageFolder(str(tmp_path), size=16).store.images.any()
    path = tmp_path / "happy" / "03.png"
    write(path, np.full((16, 16), 77, np.uint8))
    store = ImageFolder(str(tmp_path), size=16).store
    assert (store.images[store.name == str(Path("happy", "03.png"))] == 77).all()
    path.unlink()
    assert len(ImageFolder(str(tmp_path), size=16).store) == 19
    assert ImageFolder(str(tmp_path), size=8).store.images.shape == (19, 8, 8)


# --- bad input ------------------------------------------------------------------------------------------------------


def test_a_missing_root(tmp_path: Path) -> None:
    with pytest.raises(FerlError, match="data.root: there is no folder .*absent"):
        ImageFolder(str(tmp_path / "absent"))


def test_an_empty_class_folder(tmp_path: Path) -> None:
    (fill(tmp_path) / "fear").mkdir()
    with pytest.raises(FerlError, match="fear: no images in this class folder; add some .*or remove it"):
        ImageFolder(str(tmp_path))


@pytest.mark.parametrize("classes", [(), ("happy",), ("happy", "happiness")])
def test_fewer_than_two_classes(tmp_path: Path, classes: tuple[str, ...]) -> None:
    with pytest.raises(FerlError, match=f"found {min(1, len(classes))} class folders, need at least 2"):
        ImageFolder(str(fill(tmp_path, classes)))


def test_split_folders_beside_class_folders(tmp_path: Path) -> None:
    fill(tmp_path / "train")
    fill(tmp_path, ("fear",))
    with pytest.raises(FerlError, match=r"split folders .* and others beside them: \['fear'\]"):
        ImageFolder(str(tmp_path))


def test_a_class_of_the_test_that_training_lacks(tmp_path: Path) -> None:
    fill(tmp_path / "train")
    fill(tmp_path / "test", ("happy", "sad", "wink"))
    data = ImageFolder(str(tmp_path), size=16)
    with pytest.raises(FerlError, match="no training image of 'wink'"):
        data.setup("fit")


def test_a_file_that_is_no_image_is_named_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERL_CACHE", str(tmp_path / "cache"))
    root = fill(tmp_path / "faces")
    (root / "sad" / "broken.jpg").write_text("this is text")
    with pytest.raises(FerlError, match=r"sad.broken\.jpg: cannot be read as an image; replace or remove it"):
        _ = ImageFolder(str(root)).store
    assert [path for path in cache_dir().rglob("*") if path.suffix != ".lock"] == []


def assert_no_image(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(FerlError, match=f"{path}: cannot be read as an image"):
        decode_image(path, color=False)


def test_files_that_are_no_images(tmp_path: Path) -> None:
    for content in (b"", b"this is text\n" * 50, b"\x89PNG\r\n\x1a\n", bytes(1000)):
        for suffix in ("png", "jpg", "bmp"):
            assert_no_image(tmp_path / f"broken.{suffix}", content)


def test_a_header_that_claims_too_many_pixels(tmp_path: Path) -> None:
    """65 bytes that ask for 3.6 GB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    assert_no_image(tmp_path / "huge.png", b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))


@pytest.mark.parametrize("kind", ["png", "bmp", "tif", "webp", "pgm", "jpg", "progressive.jpg"])
def test_truncated_images(tmp_path: Path, kind: str) -> None:
    """``cv2.imread`` would make the missing part of a JPEG grey and say nothing."""
    path, pixels = tmp_path / f"broken.{kind}", np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    Image.fromarray(pixels).save(path, **({"progressive": True} if kind == "progressive.jpg" else {}))
    whole = path.read_bytes()
    for share in (0.5, 0.9, 0.99):
        assert_no_image(path, whole[: int(share * len(whole))])


@pytest.mark.parametrize("progressive", [False, True])
def test_a_whole_jpeg_with_bytes_after_its_end(tmp_path: Path, progressive: bool) -> None:
    path = tmp_path / "whole.jpg"
    Image.fromarray(np.full((48, 48), 99, np.uint8)).save(path, progressive=progressive)
    whole = path.read_bytes()
    for tail in (b"", bytes(100), b"\xff\xd9" + bytes(3)):
        path.write_bytes(whole + tail)
        np.testing.assert_allclose(decode_image(path, color=False), 99.0, atol=1)


def test_hidden_folders_are_not_read_and_the_home_folder_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = fill(tmp_path / "faces")
    n = len(ImageFolder(str(root)).files)
    (root / "sad" / ".thumbnails").mkdir()
    for path in list((root / "sad").glob("*.png")):
        (root / "sad" / ".thumbnails" / path.name).write_bytes(path.read_bytes())
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(ImageFolder("~/faces").files) == n

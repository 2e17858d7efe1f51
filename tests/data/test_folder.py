"""Image folders as users have them, whole and broken. Images are written with Pillow, not with our own reader."""

import os
import re
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image

from ferlightning.cli.words import in_order
from ferlightning.data import ImageFolder
from ferlightning.data.store import SPLITS, cache_dir
from ferlightning.errors import FerlError
from ferlightning.images import decode
from ferlightning.images.decode import decode_image
from ferlightning.plugins import parts


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


def test_runs_among_the_photos_are_no_class_and_no_photos(tmp_path: Path) -> None:
    fill(tmp_path, n=4)
    for folder in ("", "happy"):  # of ferl fit . and ferl fit ..
        write(tmp_path / folder / "runs" / "x" / "report" / "confusion_matrix.png", np.zeros((9, 9), np.uint8))
    data = ImageFolder(str(tmp_path))
    assert data.class_names == ["happiness", "sadness"] and len(data.store) == 8
    assert "runs is no data and was not read." in data.remarks


def test_classes_without_splits(tmp_path: Path) -> None:
    data = ImageFolder(str(fill(tmp_path, ("Sad", "happy", "wink"), 20)), size=16)
    assert data.class_names == ["happiness", "sadness", "wink"]
    np.testing.assert_array_equal(data.store.images, pixels_of(tmp_path, data))
    known = {"Sad": 1, "happy": 0, "wink": 2}
    assert data.store.label.tolist() == [known[Path(name).parts[0]] for name in data.store.name]
    assert data.class_counts == [14, 14, 14]
    assert [len(data.items[split]) for split in ("train", "val", "test")] == [42, 9, 9]
    assert sorted(np.concatenate(list(data.items.values()))) == list(range(60))
    data.trained_on = data.training_frames
    assert [note for note in data.notes("test") if "wink" not in note] == []


@pytest.mark.parametrize("n", [3, 4, 7])
def test_every_class_is_in_every_split(tmp_path: Path, n: int) -> None:
    data = ImageFolder(str(fill(tmp_path, ("happy", "sad", "fear"), n)), size=16)
    for items in data.items.values():
        assert set(data.store.label[items]) == {0, 1, 2}


def test_the_split_follows_its_seed(tmp_path: Path) -> None:
    fill(tmp_path)
    one, same, other = (ImageFolder(str(tmp_path), size=16, split_seed=seed) for seed in (1, 1, 2))
    assert one.item_names("test").tolist() == same.item_names("test").tolist() != other.item_names("test").tolist()


@pytest.mark.parametrize(
    "names",
    [
        ("train", "val", "test"),
        ("Training", "validation", "Test"),
        ("tr", "vaild", "eval"),
        ("Training", "PublicTest", "PrivateTest"),
        ("CK+_Train_crop", "dev", "testing"),
        ("train_set", "val_set", "test_set"),
        ("FER2013Train", "FER2013Valid", "FER2013Test"),
    ],
)
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
    assert data.raw.remarks.tolist() == [
        f"1 files in the class folders are no images and were not read: {Path('radość', 'notes.txt')}."
    ]
    (item,) = np.flatnonzero(data.store.name == str(Path("radość", "zdjęcia 😀", "ż.PNG")))
    np.testing.assert_array_equal(data.store.images[item], pixels)


def test_what_lies_beside_is_refused_if_it_looks_like_data_and_noted_else(tmp_path: Path) -> None:
    root = fill(tmp_path / "faces" / "archive") and tmp_path / "faces"  # alone in its folder, as many archives unpack
    (root / "archive" / "__MACOSX" / "happy").mkdir(parents=True)
    (root / "archive" / "__MACOSX" / "happy" / "._00.png").write_bytes(b"junk")
    (root / "archive" / "sad" / ".ipynb_checkpoints").mkdir()
    fill(root / "archive" / "sad", (".ipynb_checkpoints",))
    (root / "archive" / "labels.csv").write_text("file,label\n")
    (root / "archive" / "more.zip").write_bytes(b"PK")
    write(root / "archive" / "loose.png", np.zeros((4, 4), np.uint8))
    data = ImageFolder(str(root), size=16)
    assert data.class_names == ["happiness", "sadness"] and len(data.raw) == 20
    assert data.raw.remarks.tolist() == [
        "__MACOSX is no data and was not read.",
        "Files beside the folders were not read: labels.csv, more.zip.",
        "1 images beside the folders of archive were not read: loose.png.",
    ]


@pytest.mark.parametrize(
    ("beside", "message"),
    [
        ("training", "faces: the folders train and training are both named after train"),
        ("test.zip", "test.zip: looks like the test split and is not read.* Unpack it"),
        ("val.csv", "val.csv: looks like the val split and is not read"),
        ("test/0.png", "test: is named after the test split and has no class folders.*predict"),
        ("train/happy/test/0.png", "happy.test: looks like a split, but lies in happy"),
        ("train/happy/sad/0.png", "happy.sad: looks like a class, but lies in happy"),
    ],
)
def test_data_that_would_be_dropped_or_misread_is_refused_by_name(tmp_path: Path, beside: str, message: str) -> None:
    root = fill(tmp_path / "faces" / "train", n=2).parent
    if beside.endswith(".png"):
        write(root / beside, np.zeros((4, 4), np.uint8))
    elif "." in beside:
        (root / beside).write_text("")
    else:
        fill(root / beside, n=1)
    with pytest.raises(FerlError, match=message):
        ImageFolder(str(root))


def test_two_data_sets_in_one_folder_are_not_two_classes(tmp_path: Path) -> None:
    for name in ("original", "cropped"):
        fill(tmp_path / name, n=1)
    with pytest.raises(FerlError, match="cropped.happy: looks like a class, but lies in cropped"):
        ImageFolder(str(tmp_path))


def test_misspelt_and_numbered_classes_are_pointed_out(tmp_path: Path) -> None:
    data = ImageFolder(str(fill(tmp_path / "words", ("0_happy", "happyness", "suprise", "wink"), 1)))
    assert data.class_names == ["happiness", "happyness", "suprise", "wink"]
    assert [remark.split("?")[0] for remark in data.remarks] == [
        "The class happyness is no known emotion: did you mean happiness",
        "The class suprise is no known emotion: did you mean surprise",
        "Beside emotions, there are classes of other names: wink. If one is no class, move it, or leave it out by "
        "--data.classes='{wink: null}'.",
    ]
    assert "wink" not in str(ImageFolder(str(tmp_path / "words"), classes={"wink": None}).remarks)
    numbered = ImageFolder(str(fill(tmp_path / "numbers", ("1", "2", "10"), 1)))
    assert "The classes are numbers" in numbered.remarks[0] and "RAF-DB: 1 surprise" in numbered.remarks[0]
    numbered.classes = ["happiness", "sadness"]
    with pytest.raises(FerlError, match="no class of happiness, sadness; it has 1, 10, 2. Rename"):
        numbered.setup("test")


@pytest.mark.parametrize("stage", ["fit", "validate", "test"])
def test_one_image_a_class_leaves_none_to_validate_or_test_on(tmp_path: Path, stage: str) -> None:
    data = ImageFolder(str(fill(tmp_path, n=1)), size=16)
    with pytest.raises(FerlError, match=f"no image left to {'test' if stage == 'test' else 'validate'} on"):
        data.setup(stage)


def test_a_class_that_one_split_lacks(tmp_path: Path) -> None:
    fill(tmp_path / "train", ("happy", "sad", "fear"))
    (fill(tmp_path / "test") / "fear").mkdir()
    data = ImageFolder(str(tmp_path), size=16)
    data.setup("test")
    assert data.class_names == ["fear", "happiness", "sadness"]
    assert data.remarks == [f"There is no image in {Path('test', 'fear')}."]


def test_links_are_followed_but_not_upwards(tmp_path: Path) -> None:
    root, more = fill(tmp_path / "faces"), fill(tmp_path / "more", ("x",), 7, seed=1)
    (root / "happy" / "more").symlink_to(more / "x", target_is_directory=True)
    (root / "fear").symlink_to(more / "x", target_is_directory=True)
    (more / "x" / "itself").symlink_to(more / "x", target_is_directory=True)
    data = ImageFolder(str(root), size=16)
    assert np.bincount(data.raw.label).tolist() == [7, 17, 10]
    (root / "sad" / "all").symlink_to(root, target_is_directory=True)
    with pytest.raises(FerlError, match="all: this link leads to a folder that .*sad itself is in"):
        ImageFolder(str(root))
    (root / "sad" / "all").unlink()
    (root / "sad" / "gone.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(FerlError, match="gone.png: cannot be read: No such file or directory.*bad_image=skip"):
        _ = ImageFolder(str(root)).raw
    assert np.bincount(ImageFolder(str(root), on_bad_image="skip").raw.label).tolist() == [7, 17, 10]
    (root / "joy").symlink_to(tmp_path / "gone", target_is_directory=True)
    with pytest.raises(FerlError, match="joy: a link that leads nowhere"):
        ImageFolder(str(root))


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    fill(tmp_path, ("x", "joie"), 2)
    try:
        os.rename(tmp_path / "x", os.path.join(os.fsencode(tmp_path), b"g\xeane"))  # noqa: PTH104, PTH118
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    data = ImageFolder(str(tmp_path), size=16)
    assert data.class_names == ["gêne", "joie"]
    assert data.raw.name.tolist() == [f"{name}{os.sep}{i:02}.png" for name in ("gêne", "joie") for i in range(2)]


def test_relative_roots_are_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FerlError, match=f"no folder absent, relative to the working folder {tmp_path}$"):
        ImageFolder("absent")
    monkeypatch.setenv("FERL_DATA", str(fill(tmp_path / "faces")))
    with pytest.raises(
        FerlError, match=r"data.root goes before FERL_DATA, so .*faces is not used: give it by --data\.r"
    ):
        ImageFolder("absent")
    assert len(ImageFolder().files) == 20


def test_splits_by_hand(tmp_path: Path) -> None:
    for name, n in (("day1", 6), ("day2", 3), ("day3", 4), ("night", 2), ("rest", 1)):
        fill(tmp_path / "faces" / name, n=n)
    with pytest.raises(FerlError, match="day1.happy: looks like a class, but lies in day1"):
        ImageFolder(str(tmp_path / "faces"))
    for root in (tmp_path / "faces", tmp_path):  # alone in its folder, too
        data = ImageFolder(str(root), size=16, split={"train": ["day1", "day2"], "val": "day3", "test": "night"})
        assert data.class_names == ["happiness", "sadness"]
        own = {split: {Path(name).parts[-3] for name in data.item_names(split)} for split in ("train", "val", "test")}  # type: ignore[arg-type]
        assert own == {"train": {"day1", "day2"}, "val": {"day3"}, "test": {"night"}}
        assert [len(data.items[split]) for split in ("train", "val", "test")] == [18, 8, 4]  # type: ignore[index]
        assert data.remarks == ["Folders that data.split does not name were not read: rest."]


def test_a_split_by_hand_counts_more_than_names(tmp_path: Path) -> None:
    for name, n in (("train", 4), ("test", 3), ("Testing", 2)):
        fill(tmp_path / name, n=n)
    data = ImageFolder(str(tmp_path), size=16, split={"train": "test", "test": "train"})
    assert all(name.startswith("test") for name in data.item_names("train"))
    assert all(name.startswith("train") for name in data.item_names("test"))


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({"train": "dya1"}, r"no folder in .* called 'dya1', only day1, day2. Did you mean day1\?"),
        ({"training": "day1"}, "'training' is no split; give names for train, val, test"),
        ({"train": "day1", "val": ["day1"]}, "'day1' is given for train and for val"),
    ],
)
def test_splits_by_hand_that_are_wrong(tmp_path: Path, split: dict[str, str], message: str) -> None:
    for name in ("day1", "day2"):
        fill(tmp_path / name, n=1)
    with pytest.raises(FerlError, match=f"data.split: .*{message}"):
        ImageFolder(str(tmp_path), split=split)  # type: ignore[arg-type]


def test_classes_are_renamed_merged_and_dropped(tmp_path: Path) -> None:
    fill(tmp_path, ("Happy face", "1", "joy", "x", "fear"), 4)
    given: dict[str, str | None] = {"Happy face": "happiness", "1": "Suprise", "x": None}
    data = ImageFolder(str(tmp_path), size=16, classes=given)
    assert data.class_names == ["happiness", "suprise", "fear"]
    folders = [Path(name).parts[0] for name in data.raw.name]
    known = {"Happy face": 0, "joy": 0, "1": 1, "fear": 2, "x": -1}
    assert data.label.tolist() == [known[folder] for folder in folders]
    assert not any(name.startswith("x") for split in data.items for name in data.item_names(split))
    notes = data.notes("test")
    assert "The class suprise is no known emotion: did you mean surprise?" in notes[0]
    assert "Items of classes that are not told apart here were left out of all splits: 4 x." in notes
    only = ImageFolder(str(tmp_path), size=16, classes={"1": "surprise", "fear": "fear", "*": None})
    assert only.class_names == ["surprise", "fear"] and (only.label >= 0).sum() == 8
    one = ImageFolder(str(tmp_path), size=16, classes={"1": "surprise", "*": "other"})
    assert one.class_names == ["surprise", "other"] and np.bincount(one.label).tolist() == [4, 16]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({"hapy": "happiness"}, r"no class 'hapy'; it has happiness, sadness. Did you mean happiness\?"),
        ({"happy": "x", "Happiness": "y"}, "'happiness' is there twice, as 'x' and as 'y'"),
        ({"happy": "sad"}, r"at least two names, each once, what is left is \['sadness'\]"),
        ({"*": "sad"}, r"at least two names, each once, what is left is \['sadness'\]"),
    ],
)
def test_mappings_of_classes_that_are_wrong(tmp_path: Path, classes: dict[str, str | None], message: str) -> None:
    with pytest.raises(FerlError, match=f"data.classes: .*{message}"):
        _ = ImageFolder(str(fill(tmp_path, n=1)), classes=classes).class_names


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


def test_images_are_known_by_suffix_or_first_bytes(tmp_path: Path) -> None:
    fill(tmp_path, n=1)
    grey = Image.fromarray(np.full((16, 16), 99, np.uint8))
    for name, kind in (("a.jfif", "JPEG"), ("b.GIF", "GIF"), ("c", "JPEG"), ("d.png_large", "PNG"), ("e.avif", "AVIF")):
        if kind in ("JPEG", "GIF", "PNG") or f".{kind.lower()}" in Image.registered_extensions():
            more = {"save_all": True, "append_images": [Image.new("L", (16, 16))]} if kind == "GIF" else {}
            grey.save(tmp_path / "sad" / name, format=kind, **more)
    (tmp_path / "sad" / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    images = ImageFolder(str(tmp_path), size=16).raw.images
    assert len(images) >= 6
    np.testing.assert_allclose(images[2:], 99.0, atol=2)


@pytest.mark.parametrize(("suffix", "bits"), [("png", 8), ("tiff", 12), ("pgm", 16)])
def test_values_of_fewer_bits_than_sixteen_are_not_dark(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str, bits: int
) -> None:
    """As of cameras, and of arrays that were saved as they were."""
    levels = np.linspace(0, (1 << bits) - 1, 256).astype(np.uint16).reshape(16, 16)
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(cv2.imencode(path.suffix, levels)[1].tobytes())
    decode._told.clear()
    for color in (False, True):
        image = decode_image(path, color).reshape(16, 16, -1)
        assert (image == (levels >> (bits - 8))[..., None]).all()
    told = f"{path} is of 16 bits, and its values are below {1 << bits}: it, and others like it, are read as of {bits}"
    assert [record.getMessage() for record in caplog.records] == [f"{told} bits"] * (bits < 16)


def test_avif_is_turned_and_heic_says_what_it_needs(tmp_path: Path) -> None:
    exif, image = Image.Exif(), np.zeros((32, 48), np.uint8)
    image[:16, :16], exif[0x0112] = 255, 6  # top left, to be turned to the right
    Image.fromarray(image).save(tmp_path / "a.avif", exif=exif, quality=100)
    turned = decode_image(tmp_path / "a.avif", color=False)
    assert turned.shape == (48, 32) and turned[2, -2] > 200 and turned[2, 2] < 50
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    message = "cannot be read as an image" if find_spec("pillow_heif") else r"pip install pillow-heif"
    with pytest.raises(FerlError, match=message):
        decode_image(tmp_path / "a.heic", color=False)


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
    fill(tmp_path / "test", ("happy", "sad", "wink", "hapyness"), n=2)
    data = ImageFolder(str(tmp_path), size=16)
    with pytest.raises(FerlError, match="no training image of 'hapyness', 'wink': add some; did you mean happiness?"):
        data.setup("fit")


def test_a_file_that_is_no_image_is_named_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERL_CACHE", str(tmp_path / "cache"))
    root = fill(tmp_path / "faces")
    (root / "sad" / "broken.jpg").write_text("this is text")
    with pytest.raises(FerlError, match=r"sad.broken\.jpg: cannot be read as an image; replace or remove it"):
        _ = ImageFolder(str(root)).store
    assert [path for path in cache_dir().rglob("*") if path.suffix != ".lock"] == []


def test_all_bad_images_are_named_at_once_or_left_out(tmp_path: Path) -> None:
    fill(tmp_path)
    for name in ("happy/a.png", "sad/b.jpg", "sad/c.gif"):
        (tmp_path / name).write_bytes(b"GIF89a<html>"[6 * (name[-1] != "f") :])
    with pytest.raises(
        FerlError, match=r"3 of 23 images cannot be read: .*a\.png, .*b\.jpg, .*c\.gif.*on_bad_image=skip"
    ):
        _ = ImageFolder(str(tmp_path), size=16).raw
    data = ImageFolder(str(tmp_path), size=16, on_bad_image="skip")
    assert len(data.raw) == 20
    np.testing.assert_array_equal(data.raw.images, pixels_of(tmp_path, data))
    assert data.notes("test")[0].startswith("3 of 23 images cannot be read and were left out: ")


def assert_no_image(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(FerlError, match=f"{path}: cannot be read as an image"):
        decode_image(path, color=False)


def test_files_that_are_no_images(tmp_path: Path) -> None:
    for content in (b"", b"this is text\n" * 50, b"\x89PNG\r\n\x1a\n", bytes(1000)):
        for suffix in ("png", "jpg", "bmp"):
            assert_no_image(tmp_path / f"broken.{suffix}", content)


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


def test_the_base_of_image_files_is_no_data_set() -> None:
    names = {part.__name__ for part in parts("data")}
    assert {"ImageFolder", "RAFDB", "AffectNet", "Table", "YOLO"} <= names and "ImageFiles" not in names


def test_emotions_among_other_words_are_pointed_out(tmp_path: Path) -> None:
    fill(tmp_path, ("Angry_Face", "Sad faces", "wink"), 2)
    remarks = ImageFolder(str(tmp_path)).remarks
    assert len(remarks) == 3 and "class angry_face is no known emotion: did you mean anger?" in remarks[0]


def test_emotions_in_the_names_of_files_are_pointed_out(tmp_path: Path) -> None:
    """In folders of people, which would be the classes, and in a folder without any."""
    option = r"--data\.pattern='\(\?P<label>happy\|sad\)'"
    for person in ("s1", "s2"):
        for name in ("happy.1", "sad.1"):
            (tmp_path / person).mkdir(exist_ok=True)
            Image.new("L", (8, 8)).save(tmp_path / person / f"{name}.png")
    for folder in (tmp_path, tmp_path / "s1"):
        with pytest.raises(FerlError, match=option):
            ImageFolder(str(folder))
    data = ImageFolder(str(tmp_path), pattern="(?P<label>happy|sad)")
    assert data.label_names == ["happiness", "sadness"] and len(data.files) == 4
    with pytest.raises(FerlError) as error:
        ImageFolder(str(tmp_path))
    people = ImageFolder(str(tmp_path), pattern=str(error.value).rpartition("--data.pattern='")[2].rstrip("'"))
    assert people.label_names == ["s1", "s2"]
    (tmp_path / "s1" / "sad.1.png").unlink()  # the classes of one face each: positive and negative, say
    (tmp_path / "s2" / "happy.1.png").unlink()
    assert re.search(option, str(ImageFolder(str(tmp_path)).remarks))


def test_a_pattern_without_splits_takes_folders_that_are_named_after_them(tmp_path: Path) -> None:
    """Else the test images would be drawn into training without a word."""
    for split in ("train", "test"):
        for n, name in enumerate(("happy.1", "sad.1", "happy.2")):
            (tmp_path / split).mkdir(exist_ok=True)
            Image.new("L", (8, 8), n).save(tmp_path / split / f"{name}.png")
    with pytest.raises(FerlError, match="named after the test split and has no class folders") as error:
        ImageFolder(str(tmp_path))
    said = str(error.value).rpartition("--data.pattern='")[2].rstrip("'")
    for pattern in (said, "(?P<label>happy|sad)"):
        data = ImageFolder(str(tmp_path), pattern=pattern, size=8)
        splits = zip(data.raw.name, data.raw.split, strict=True)
        assert {(name.partition("/")[0], SPLITS[n]) for name, n in splits} == {("train", "train"), ("test", "test")}
    assert "folders named after splits were taken" in str(data.remarks)
    Image.new("L", (8, 8)).save(tmp_path / "sad.3.png")
    with pytest.raises(FerlError, match=r"sad\.3\.png: lies in no split"):
        ImageFolder(str(tmp_path), pattern="(?P<label>happy|sad)")


@pytest.mark.parametrize("folder", ["P01/{}", "Strong/P01/{}", "images/train/{}"])
def test_classes_below_other_folders_are_found_at_any_depth(tmp_path: Path, folder: str) -> None:
    for above in (folder, folder.replace("P01", "P02").replace("Strong", "Dark").replace("images", "masks")):
        fill(tmp_path / above.format(""), n=2)
    with pytest.raises(FerlError, match=r"looks like a (class|split), but lies in") as error:
        ImageFolder(str(tmp_path))
    if folder == "P01/{}":
        pattern = re.search("'(.*?)'", str(error.value))[1]  # type: ignore[index]
        data = ImageFolder(str(tmp_path), pattern=pattern)
        assert data.class_names == ["happiness", "sadness"] and {*data.raw.subject} == {"P01", "P02"}


def test_a_split_folder_in_one_of_its_name(tmp_path: Path) -> None:
    for split in ("Train", "Val"):
        fill(tmp_path / f"{split}_Aligned_Faces" / f"{split}_Aligned_Faces", n=3)
    assert np.bincount(ImageFolder(str(tmp_path)).raw.split).tolist() == [6, 6]


def test_folders_below_the_classes_are_told_where_splits_are_drawn(tmp_path: Path) -> None:
    for name in ("happy", "sad"):
        fill(tmp_path / name, ("clip1", "clip2"), n=3)
    (told,) = [str(x) for x in ImageFolder(str(tmp_path)).raw.remarks]
    assert told.startswith(f"Images lie in 4 folders below the classes, such as {Path('happy', 'clip1')}.")
    data = ImageFolder(str(tmp_path), pattern=re.search("pattern='(.*?)'", told)[1])  # type: ignore[index]
    assert np.diff(data.raw.start).tolist() == [3] * 4


def test_class_folders_of_videos_are_told(tmp_path: Path) -> None:
    fill(tmp_path, n=2)
    (tmp_path / "fear").mkdir()
    (tmp_path / "fear" / "a.avi").write_bytes(b"RIFF")
    with pytest.raises(FerlError, match=r"has videos, such as .*a\.avi, not images"):
        ImageFolder(str(tmp_path))


def test_images_of_32_bits(tmp_path: Path) -> None:
    grey = np.arange(256, dtype=np.float32).reshape(16, 16)
    for name, values in (("white", grey / 255), ("bytes", grey), ("whole", grey.astype(np.int32))):
        Image.fromarray(values).save(tmp_path / f"{name}.tiff")
        assert (decode_image(tmp_path / f"{name}.tiff", False) == grey).all()
        assert (decode_image(tmp_path / f"{name}.tiff", True) == grey[..., None]).all()
    for values in (grey * 2, grey - 1, grey * np.nan):
        Image.fromarray(values).save(tmp_path / "other.tiff")
        with pytest.raises(FerlError, match="has values from .*: write it with 8 bits"):
            decode_image(tmp_path / "other.tiff", False)


@pytest.mark.parametrize("suffix", [".tif", ".webp", ".png", ".gif"])
def test_the_first_of_several_frames_is_read_and_told(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(decode, "_told", set())
    frames = [Image.new("L", (16, 16), value) for value in (60, 120, 180)]
    frames[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=frames[1:])
    assert abs(int(decode_image(tmp_path / f"a{suffix}", False)[8, 8]) - 60) <= 2
    assert "has several frames or pages" in caplog.text


@pytest.mark.parametrize(
    ("given", "classes"),
    [
        ("{0: null}", ["1", "2", "yes", "null"]),  # which jsonargparse fails on
        ("{yes: smile, null: ~, 0: 1}", ["smile", "1", "2"]),
        ("{'*': other, 2: 2}", ["2", "other"]),
        ("[0, 2]", ["0", "2"]),
    ],
)
def test_classes_that_yaml_takes_for_other_values(tmp_path: Path, given: str, classes: list[str]) -> None:
    fill(tmp_path, ("0", "1", "2", "yes", "null"), n=6)
    (word,) = in_order([f"--data.classes={given}"])
    data = ImageFolder(str(tmp_path), classes=yaml.safe_load(word.partition("=")[2]))
    assert sorted(data.class_names) == sorted(classes)


def test_classes_that_are_no_names_are_refused(tmp_path: Path) -> None:
    fill(tmp_path)
    for value, message in ((("sad", "None"), "null leaves a class out"), ((False, "x"), "write them in quotes")):
        with pytest.raises(FerlError, match=message):
            ImageFolder(str(tmp_path), classes=dict([value])).class_names  # type: ignore[list-item] # noqa: B018


@pytest.mark.parametrize(
    ("names", "told"),
    [("S00{}_{}", True), ("vid{}_frame000{}", True), ("img{}-flip{}", True), ("image00{}{}", False), ("x_{}{}", False)],
)
def test_files_of_one_person_are_told_where_splits_are_drawn(tmp_path: Path, names: str, told: bool) -> None:
    for n, name in enumerate(("happy", "sad")):
        (tmp_path / name).mkdir()
        for who in range(4):
            for i in range(3):
                Image.new("L", (8, 8), 100 * n + 10 * who + i).save(tmp_path / name / f"{names.format(who, i)}.png")
    remarks = ImageFolder(str(tmp_path), size=8).remarks
    assert len(remarks) == told
    if told:
        data = ImageFolder(str(tmp_path), size=8, pattern=remarks[0].rpartition("--data.pattern='")[2].rstrip("'."))
        people = [{str(name) for name in data.raw.subject[data.items[split]]} for split in ("train", "val", "test")]
        assert len(data.raw) == 24 and len(set.union(*people)) == 4 == sum(map(len, people))


@pytest.mark.parametrize("years", [True, False])
def test_splits_below_other_folders_are_read_as_the_message_says(tmp_path: Path, years: bool) -> None:
    for above, split, name in [
        (y, s, c) for y in ("2023", "2024") for s in ("train", "test") for c in ("happy", "sad")
    ]:
        path = tmp_path / (f"{above}/{split}/{name}" if years else f"{name}/{split}")
        path.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8)).save(path / f"{above}.png")
    with pytest.raises(FerlError, match="looks like a split, but lies in") as error:
        ImageFolder(str(tmp_path))
    data = ImageFolder(str(tmp_path), size=8, pattern=str(error.value).rpartition("--data.pattern='")[2].rstrip("'"))
    assert data.class_names == ["happiness", "sadness"] and len(data.raw) == 8
    for n, name in enumerate(data.raw.name):
        assert SPLITS[data.raw.split[n]] in name and ("happy" in name) == (data.raw.label[n] == 0)

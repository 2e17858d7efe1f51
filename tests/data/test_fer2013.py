"""Every layout of FER2013 gives the same images, labels and splits; bad ones are refused in words."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from ferlightning.data import FER2013
from ferlightning.data.store import cache_dir
from ferlightning.errors import FerlError
from tests.data.fer2013_layouts import Drawn, draw, write_challenge, write_csv, write_folders, write_icml

REAL = Path(os.environ["FERL_REAL_DATA"]) if "FERL_REAL_DATA" in os.environ else None
THREE = ("train", "validation", "test")
KAGGLE = ("train", "test", "test")
Write = Callable[[Path, Drawn], None]

SAME: dict[str, Write] = {
    "csv": write_csv,
    "icml": write_icml,
    "folders of three splits": lambda folder, drawn: write_folders(folder, drawn, THREE, by_usage=False),
    "folders named by usage": lambda folder, drawn: write_folders(
        folder, drawn, ("Training", "PublicTest", "PrivateTest"), False
    ),
    "folders of other names": lambda folder, drawn: write_folders(folder, drawn, ("tr", "vaild", "testing"), False),
    "folders of two splits, named by usage": lambda folder, drawn: write_folders(folder, drawn, KAGGLE, by_usage=True),
}


def by_pixels(images: np.ndarray, *columns: np.ndarray) -> list[tuple[object, ...]]:
    """Rows in an order that does not depend on the layout's."""
    return sorted((image.tobytes(), *map(int, rest)) for image, *rest in zip(images, *columns, strict=True))


# --- good layouts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAME)
def test_every_layout_gives_the_images_the_labels_and_the_official_splits(tmp_path: Path, name: str) -> None:
    drawn = draw()
    SAME[name](tmp_path, drawn)
    data = FER2013(str(tmp_path))
    assert by_pixels(data.raw.images, data.raw.label, data.raw.split) == by_pixels(*drawn[:3])
    assert data.class_names == ["anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"]
    assert data.class_counts == [4] * 7 and {split: len(items) for split, items in data.items.items()} == {
        "train": 28, "val": 7, "test": 7,
    }  # fmt: skip
    assert data.notes("test") == data.raw.remarks.tolist()
    assert len(set(data.raw.name)) == len(data.raw)


def test_rows_are_named_by_their_number(tmp_path: Path) -> None:
    write_csv(tmp_path, draw())
    assert FER2013(str(tmp_path)).item_names("val")[0] == "row 29"


def test_two_folders_named_otherwise_have_no_official_validation(tmp_path: Path) -> None:
    drawn = draw()
    write_folders(tmp_path, drawn, KAGGLE, by_usage=False)
    data = FER2013(str(tmp_path))
    assert by_pixels(data.raw.images, data.raw.label, data.raw.split) == by_pixels(*drawn[:2], 2 * (drawn.usage > 0))
    assert {split: len(items) for split, items in data.items.items()} == {"train": 21, "val": 7, "test": 14}


def test_file_names_count_more_than_folders_and_that_is_remarked(tmp_path: Path) -> None:
    write_folders(tmp_path, draw(), KAGGLE, by_usage=True)
    (remark,) = FER2013(str(tmp_path)).raw.remarks
    assert remark == "7 images in the folder test are of val by their file names, which take precedence."


def test_the_challenge_has_no_labels_to_test_on_but_images_to_predict(tmp_path: Path) -> None:
    drawn = draw()
    write_challenge(tmp_path, drawn)
    data = FER2013(str(tmp_path))
    train = drawn.usage == 0
    np.testing.assert_array_equal(data.raw.images, drawn.images)
    np.testing.assert_array_equal(data.raw.label, np.where(train, drawn.emotion, -1))
    assert set(data.items["train"]) | set(data.items["val"]) == set(np.flatnonzero(train))
    assert data.items["test"].tolist() == data.items["val"].tolist()
    assert data.notes("test")[-1].startswith(
        "The data has no labelled test images: the results on test are those on a p"
    )
    (batch,) = data.predict_dataloader()
    np.testing.assert_array_equal(batch["image"][:, 0, 0], drawn.images[~train])
    assert (batch["label"] == -1).all() and data.item_names("predict")[0] == "test.csv row 1"
    assert data.raw.remarks[0].startswith("The 14 images of test.csv have no labels")
    (tmp_path / "test.csv").unlink()
    assert len(FER2013(str(tmp_path)).raw) == 28


def test_without_private_rows_the_test_is_public_and_said_to_be(tmp_path: Path) -> None:
    write_csv(tmp_path, draw(usages=2))
    data = FER2013(str(tmp_path))
    assert data.items["test"].tolist() == data.items["val"].tolist() == list(range(28, 35))
    first, second = data.notes("test")
    assert first.endswith("these are the validation images, on which the epoch was chosen.")
    assert second == "The data has no PrivateTest images: the results on test are those on PublicTest."
    assert data.notes("val") == []


def test_only_training_rows(tmp_path: Path) -> None:
    write_csv(tmp_path, draw(usages=1))
    data = FER2013(str(tmp_path))
    assert len(data.items["train"]) == 21 and len(data.items["val"]) == 7
    assert "part of Training" in data.notes("test")[-1]


def test_where_the_data_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "faces").mkdir(parents=True)
    write_csv(tmp_path / "a" / "faces", draw())
    for root in ("a/faces/fer2013.csv", "a/faces", "a"):
        assert len(FER2013(str(tmp_path / root)).raw) == 42
    monkeypatch.setenv("FERL_DATA", str(tmp_path / "a"))
    assert len(FER2013().raw) == 42
    (tmp_path / "a" / "faces" / "fer2013.csv").rename(tmp_path / "a" / "other.csv")
    assert len(FER2013(str(tmp_path / "a" / "other.csv")).raw) == 42


def test_of_several_layouts_the_one_that_is_named_is_read(tmp_path: Path) -> None:
    drawn = draw()
    write_csv(tmp_path, drawn)
    write_icml(tmp_path, drawn._replace(images=255 - drawn.images))
    assert FER2013(str(tmp_path)).raw.images[0, 0, 0] == drawn.images[0, 0, 0]
    assert FER2013(str(tmp_path), layout="icml").raw.images[0, 0, 0] == 255 - drawn.images[0, 0, 0]


def test_other_folders_and_files_may_lie_beside(tmp_path: Path) -> None:
    write_folders(tmp_path, draw(), THREE, by_usage=False)
    (tmp_path / "CK+48" / "angry").mkdir(parents=True)
    (tmp_path / "train" / ".DS_Store").touch()
    (tmp_path / "train" / "angry" / "notes.txt").touch()
    assert len(FER2013(str(tmp_path)).raw) == 42


def test_a_changed_image_is_read_again(tmp_path: Path) -> None:
    write_folders(tmp_path, draw(), THREE, by_usage=False)
    path = next((tmp_path / "train" / "angry").iterdir())
    before = FER2013(str(tmp_path)).raw
    cv2.imwrite(str(path), np.zeros((48, 48), np.uint8))
    after = FER2013(str(tmp_path)).raw
    assert (after.images == 0).all((1, 2)).sum() == 1 and not (before.images == 0).all((1, 2)).any()


# --- other files ----------------------------------------------------------------------------------------------------


def write_parts(folder: Path, drawn: Drawn, names: tuple[str, str, str], usage: bool = False) -> None:
    """One csv a split; with ``usage``, as cut out of fer2013.csv."""
    write_csv(folder, drawn)
    path = folder / "fer2013.csv"
    header, *rows = path.read_text().splitlines()
    path.unlink()
    for name, official in zip(names, ("Training", "PublicTest", "PrivateTest"), strict=True):
        own = [row for row in [header, *rows] if row == header or row.endswith(official)]
        text = "".join(f"{row if usage else row.rpartition(',')[0]}\n" for row in own)
        with (folder / name).open("a") as file:
            file.write(text if not file.tell() else text.partition("\n")[2])


@pytest.mark.parametrize(
    "names", [("train.csv", "val.csv", "test.csv"), ("fer2013_training.csv", "PublicTest.csv", "private-test.CSV")]
)
def test_one_csv_a_split(tmp_path: Path, names: tuple[str, str, str]) -> None:
    drawn = draw()
    write_parts(tmp_path, drawn, names)
    raw = FER2013(str(tmp_path)).raw
    assert by_pixels(raw.images, raw.label, raw.split) == by_pixels(*drawn[:3]) and len(raw.remarks) == 0


def test_the_column_usage_counts_more_than_the_name_of_the_file(tmp_path: Path) -> None:
    drawn = draw()
    write_parts(tmp_path, drawn, ("train.csv", "train.csv", "test.csv"), usage=True)
    raw = FER2013(str(tmp_path)).raw
    assert by_pixels(raw.images, raw.label, raw.split) == by_pixels(*drawn[:3])
    assert raw.remarks.tolist() == ["7 images of train.csv are of other splits by their Usage, which takes precedence."]


def test_two_files_of_one_split_a_split_without_pixels_and_other_sizes_are_refused(tmp_path: Path) -> None:
    write_parts(tmp_path, draw(), ("train.csv", "val.csv", "valid.csv"))
    with pytest.raises(FerlError, match="val.csv and valid.csv are named after one split. Keep one"):
        FER2013(str(tmp_path)).read()
    (tmp_path / "valid.csv").unlink()
    (tmp_path / "test.csv").write_text("path,emotion\na.png,3\n")
    with pytest.raises(FerlError, match=r"test.csv, line 1: 'path,emotion' is no header with a column of pixels"):
        FER2013(str(tmp_path)).read()
    (tmp_path / "test.csv").write_text(f"pixels\n{' '.join(['7'] * 4096)}\n")
    with pytest.raises(FerlError, match=r"test.csv: its images and those of train.csv are 64x64 and 48x48"):
        FER2013(str(tmp_path)).read()


@pytest.mark.parametrize("name", ["fer2013 (1).csv", "faces.CSV", "FER2013.csv", "data.tsv"])
def test_a_csv_under_another_name(tmp_path: Path, name: str) -> None:
    drawn = draw()
    write_csv(tmp_path, drawn)
    (tmp_path / "fer2013.csv").rename(tmp_path / name)
    (tmp_path / "results.csv").write_text("epoch,loss\n1,2\n")
    np.testing.assert_array_equal(FER2013(str(tmp_path)).raw.images, drawn.images)
    (tmp_path / name).rename(tmp_path / "faces.txt")
    assert len(FER2013(str(tmp_path / "faces.txt")).raw) == 42


def test_of_several_csv_none_is_dropped_without_a_word(tmp_path: Path) -> None:
    write_csv(tmp_path, draw())
    (tmp_path / "fer2013 (1).csv").write_bytes((tmp_path / "fer2013.csv").read_bytes())
    remark = "Files beside it that are not read, though they have pixels: fer2013 (1).csv."
    assert FER2013(str(tmp_path)).raw.remarks.tolist() == [remark]
    (tmp_path / "fer2013.csv").rename(tmp_path / "other.csv")
    with pytest.raises(
        FerlError, match=r"several files have a column of pixels: fer2013 \(1\).csv, other.csv. .*--data.root"
    ):
        FER2013(str(tmp_path)).read()


def test_a_download_that_failed_is_said_to_have(tmp_path: Path) -> None:
    (tmp_path / "fer2013 (1).csv").write_text("<html>\n")
    with pytest.raises(FerlError, match=r"fer2013 \(1\).csv: is a web page: the download failed"):
        FER2013(str(tmp_path)).read()


# --- bad ones -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("root", [None, "absent", "empty", "empty/fer2013.csv"])
def test_absent_data_is_reported_with_where_was_looked_and_for_what(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str | None
) -> None:
    monkeypatch.delenv("FERL_DATA", raising=False)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FerlError) as error:
        FER2013(root and str(tmp_path / root)).read()
    said = str(error.value)
    assert "FERL_DATA" in said and "--data.root" in said and (root is None or str(tmp_path / root) in said)
    for what in ("fer2013.csv with", "icml_face_data.csv", "test.csv", "train/<emotion>/"):
        assert what in said


def test_a_layout_that_is_not_there_or_is_none(tmp_path: Path) -> None:
    write_csv(tmp_path, draw())
    with pytest.raises(FerlError, match="for icml_face_data.csv with .* Found there: csv"):
        FER2013(str(tmp_path), layout="icml").read()
    with pytest.raises(FerlError, match="--data.layout is 'kaggle'; FER2013 has these: csv: fer2013.csv"):
        FER2013(str(tmp_path), layout="kaggle").read()


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    write_folders(tmp_path, draw(), THREE, by_usage=False)
    path = next((tmp_path / "test" / "sad").iterdir())
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(FerlError, match=f"{path}: cannot be read as an image"):
        FER2013(str(tmp_path)).read()


def test_an_empty_class_folder(tmp_path: Path) -> None:
    write_folders(tmp_path, draw(), THREE, by_usage=False)
    next((tmp_path / "test" / "sad").iterdir()).unlink()
    assert FER2013(str(tmp_path)).raw.remarks.tolist() == ["There is no image of sadness in test."]
    for path in (tmp_path / "train" / "fear").iterdir():
        path.unlink()
    with pytest.raises(FerlError, match="no training image of fear"):
        FER2013(str(tmp_path)).read()


def test_one_file_that_is_not_named_by_usage(tmp_path: Path) -> None:
    write_folders(tmp_path, draw(), KAGGLE, by_usage=True)
    odd = tmp_path / "train" / "angry" / "me.png"
    cv2.imwrite(str(odd), np.zeros((48, 48), np.uint8))
    with pytest.raises(FerlError, match=f"{odd}: other files are named by usage"):
        FER2013(str(tmp_path)).read()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("train/angry", "train/wink", "not found.*train.wink is no class of FER2013: for classes of your own, use"),
        ("train/angry", "train/angery", "not found.*train.angery is no class of FER2013: did you mean anger?"),
        ("test/sad", "sad", "sad: looks like a class, but lies beside test, train, validation"),
        ("test", "holdout", "holdout: has classes of FER2013 and is not read"),
        ("test", "training", "train and training are both named after train"),
    ],
)
def test_folders_that_would_not_be_read_are_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    write_folders(tmp_path, draw(), THREE, by_usage=False)
    (tmp_path / new).parent.mkdir(exist_ok=True)
    (tmp_path / old).rename(tmp_path / new)
    with pytest.raises(FerlError, match=message):
        FER2013(str(tmp_path)).read()


def test_a_class_that_is_not_in_test(tmp_path: Path) -> None:
    write_folders(tmp_path, draw(), THREE, by_usage=False)
    shutil.rmtree(tmp_path / "test" / "disgust")
    data = FER2013(str(tmp_path))
    assert data.raw.remarks.tolist() == ["There is no image of disgust in test."] and len(data.items["test"]) == 6


def test_a_damaged_csv_leaves_nothing_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERL_CACHE", str(tmp_path / "cache"))
    write_csv(tmp_path, draw())
    path = tmp_path / "fer2013.csv"
    text = path.read_bytes()
    path.write_bytes(text[:-100])
    with pytest.raises(FerlError, match="line 43, the last"):
        FER2013(str(path)).read()
    assert [p.name for p in cache_dir().rglob("*") if p.suffix != ".lock"] == []
    path.write_bytes(text)
    assert len(FER2013(str(path)).read()) == 42


def test_a_class_absent_from_training_is_named(tmp_path: Path) -> None:
    drawn = draw()
    keep = (drawn.emotion != 1) | (drawn.usage > 0)
    write_csv(tmp_path, Drawn(*(column[keep] for column in drawn)))
    with pytest.raises(FerlError, match="no training image of 'disgust': add some; or tell the others apart") as error:
        FER2013(str(tmp_path)).setup("fit")
    words = re.search(r"--data.classes='\[(.*)\]'", str(error.value))
    assert words
    FER2013(str(tmp_path), classes=words[1].split(", ")).setup("fit")


# --- the real images ------------------------------------------------------------------------------------------------


@pytest.mark.skipif(REAL is None, reason="the FER2013 arrays are not here")
@pytest.mark.parametrize("layout", ["csv", "folders"])
def test_real_images_survive_the_layout(tmp_path: Path, layout: str) -> None:
    assert REAL is not None
    name = {"csv": "fer2013-csv", "folders": "folders"}[layout]
    subprocess.run(
        [sys.executable, str(REAL / "export.py"), "--layout", name, "--limit", "300", str(tmp_path)], check=True
    )
    data = FER2013(str(tmp_path), layout=layout)
    for split, file in (("train", "fer2013_train.npz"), ("val", "fer2013_public.npz")):
        with np.load(REAL / file) as npz:
            items = data.items[split]  # type: ignore[index]
            pixels, emotion, row = npz["pixels"][:300], npz["emotion"][:300], npz["row"][:300]
        if layout == "folders":  # JPEG files, whose names end with the row
            numbers = [int(Path(name).stem.split("_")[1]) for name in data.item_names(split)]  # type: ignore[arg-type]
            items = items[np.argsort(numbers)]
            assert sorted(numbers) == row.tolist()
            assert np.abs(data.raw.images[items].astype(int) - pixels).mean() < 2
        else:
            np.testing.assert_array_equal(data.raw.images[items], pixels)
        np.testing.assert_array_equal(data.label[items], emotion)
    assert "PublicTest" in data.notes("test")[-1]

"""RAF-DB and AffectNet as they are delivered, drawn here: the labels are those that their papers' numbers mean."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ferlightning.data import RAFDB, AffectNet, ImageFolder
from ferlightning.data.inspection import describe, recognise
from ferlightning.errors import FerlError

RAF = ["surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral"]
AFFECT = ["neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt"]


def write(path: Path, grey: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 20), (grey, 0, 255 - grey)).save(path, quality=95)


def write_rafdb(root: Path, kind: str = "basic", classes: int = 7) -> Path:
    """Image n of a split has the grey n and the label n modulo the classes, from 1."""
    lines = []
    for split, n in (("train", 28), ("test", 14)):
        for i in range(1, n + 1):
            write(root / kind / "Image" / "aligned" / f"{split}_{i:05}_aligned.jpg", i)
            lines.append(f"{split}_{i:05}.jpg {i % classes + 1}\n")
    (root / kind / "EmoLabel").mkdir()
    (root / kind / "EmoLabel" / "list_patition_label.txt").write_text("".join(lines[::-1]))
    return root


def write_affectnet(root: Path) -> Path:
    for split, n in (("train_set", 22), ("val_set", 11)):
        for i in range(n):
            write(root / split / "images" / f"{i}.jpg", i)
            (root / split / "annotations").mkdir(exist_ok=True)
            np.save(root / split / "annotations" / f"{i}_exp.npy", np.str_(i % 11))
            np.save(root / split / "annotations" / f"{i}_aro.npy", np.str_("0.1"))
    return root


def test_rafdb(tmp_path: Path) -> None:
    write_rafdb(tmp_path)
    for root in (tmp_path, tmp_path / "basic"):
        data = RAFDB(str(root), size=20)
        assert data.class_names == RAF and data.raw.images.shape == (42, 20, 20, 3)
        assert [len(data.items[split]) for split in ("train", "val", "test")] == [21, 7, 14]  # type: ignore[index]
        for name, label, image in zip(data.raw.name, data.raw.label, data.raw.images, strict=True):
            i = int(name.split("_")[1])
            assert label == i % 7 and abs(int(image[10, 10, 0]) - i) <= 3
        assert all("test" in name for name in data.item_names("test"))
    (found,) = recognise(tmp_path)
    assert (found.data_set, found.layout) == ("RAFDB", "basic")
    assert [*describe(found.whole())["classes"]["train"].values()][:7] == [4] * 7


def test_the_list_in_a_folder_of_rafdb_is_no_table_of_its_own(tmp_path: Path) -> None:
    root = write_rafdb(tmp_path) / "basic"
    assert [source.data_set for source in recognise(root)] == ["RAFDB"]


def test_compound_rafdb(tmp_path: Path) -> None:
    data = RAFDB(str(write_rafdb(tmp_path, "compound", 11)))
    assert len(data.class_names) == 11 and data.raw.label.max() == 10


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train_00001.jpg 8", "line 43: found 'train_00001.jpg 8', expected a file and a number from 1 to 7"),
        ("00001.jpg 3", "line 43: found '00001.jpg 3'"),
        ("train_00003.jpg 3", "line 43: train_00003.jpg is also in line 40. Remove one"),
        ("train_00099.jpg 3", "train_00099_aligned.jpg: cannot be read: No such file.*on_bad_image=skip"),
    ],
)
def test_a_bad_list_of_rafdb(tmp_path: Path, line: str, message: str) -> None:
    path = write_rafdb(tmp_path) / "basic" / "EmoLabel" / "list_patition_label.txt"
    path.write_text(path.read_text() + line)
    with pytest.raises(FerlError, match=message):
        _ = RAFDB(str(tmp_path)).raw


def test_rafdb_that_is_not_unpacked(tmp_path: Path) -> None:
    shutil.rmtree(write_rafdb(tmp_path) / "basic" / "Image")
    with pytest.raises(FerlError, match="no images in Image/aligned. Unpack"):
        _ = RAFDB(str(tmp_path)).raw
    with pytest.raises(FerlError, match=r"list_patition_label.txt is the label list of RAF-DB: use --data=RAFDB"):
        ImageFolder(str(tmp_path))


def test_affectnet(tmp_path: Path) -> None:
    data = AffectNet(str(write_affectnet(tmp_path)), size=20)
    assert data.class_names == AFFECT and data.class_counts == [2] * 8
    for name, label, image in zip(data.raw.name, data.raw.label, data.raw.images, strict=True):
        i = int(Path(name).stem)
        assert label == (i % 11 if i % 11 < 8 else -1) and abs(int(image[10, 10, 0]) - i) <= 3
    assert [len(data.items[split]) for split in ("train", "val", "test")] == [16, 8, 8]  # type: ignore[index]
    assert "9 images are labelled none, uncertain, no face" in data.notes("test")[0]
    assert any("no test split" in note for note in data.notes("test"))
    (found,) = recognise(tmp_path)
    assert found.data_set == "AffectNet"
    with pytest.raises(FerlError, match="labels of AffectNet, such as .*_exp.npy: use --data=AffectNet"):
        ImageFolder(str(tmp_path))


def test_affectnet_without_some_labels(tmp_path: Path) -> None:
    write_affectnet(tmp_path)
    (tmp_path / "val_set" / "annotations" / "3_exp.npy").unlink()
    data = AffectNet(str(tmp_path))
    assert len(data.raw) == 32
    assert data.raw.remarks[0].startswith("1 images have no *_exp.npy and were left out: ")
    (tmp_path / "val_set" / "images" / "5.jpg").unlink()
    with pytest.raises(FerlError, match="images/5.jpg: cannot be read: No such file.*on_bad_image=skip"):
        _ = AffectNet(str(tmp_path)).raw
    np.save(tmp_path / "val_set" / "annotations" / "4_exp.npy", np.str_("happy"))
    with pytest.raises(FerlError, match="4_exp.npy: no number from 0 to 10"):
        _ = AffectNet(str(tmp_path)).raw


def test_rafdb_whose_list_lies_beside_the_images(tmp_path: Path) -> None:
    """And has commas; it is not taken for a table, too."""
    root = write_rafdb(tmp_path / "a") / "basic"
    lines = (root / "EmoLabel" / "list_patition_label.txt").read_text().replace(" ", ",")
    (root / "Image" / "aligned").rename(tmp_path / "aligned")
    shutil.rmtree(tmp_path / "a")
    (tmp_path / "list_patition_label.txt").write_text(lines)
    (found,) = recognise(tmp_path)
    assert found.data_set == "RAFDB" and [*describe(found.whole())["classes"]["train"].values()][:7] == [4] * 7


def test_labels_of_affectnet_as_other_types_of_numpy(tmp_path: Path) -> None:
    write_affectnet(tmp_path)
    for i, value in enumerate((np.bytes_(b"3"), np.float64(3), np.array([3]), np.int64(3))):
        np.save(tmp_path / "val_set" / "annotations" / f"{i}_exp.npy", value)
    data = AffectNet(str(tmp_path), size=20)
    of = dict(zip(data.raw.name, data.raw.label, strict=True))
    assert [of[f"val_set/images/{i}.jpg"] for i in range(4)] == [3] * 4

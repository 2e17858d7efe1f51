"""Tables of images in the forms that people write them: what is read is what the rows say."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas
import pytest
from PIL import Image

from ferlightning.data import Table
from ferlightning.data.inspection import describe, recognise
from ferlightning.errors import FerlError

NAMES = ["angry", "happy", "sad"]


def write_images(folder: Path, n: int = 18, suffix: str = ".png") -> list[str]:
    """Image n has the grey n; its label is n modulo three."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        Image.new("L", (8, 8), i).save(folder / f"{i}{suffix}")
    return [f"{i}{suffix}" for i in range(n)]


@pytest.mark.parametrize("character", ["\\u0000", "\\ud800"])
def test_characters_that_no_file_has_are_told(tmp_path: Path, character: str) -> None:
    write_images(tmp_path, 3)
    rows = [f'{{"path": "{n}.png", "label": "{NAMES[n]}{character if n == 2 else ""}"}}' for n in range(3)]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    with pytest.raises(FerlError, match="a.jsonl, row 3: .*has a character"):
        recognise(tmp_path)[0].default()


def check(data: Table, n: int = 18, names: tuple[str, ...] = ("anger", "happiness", "sadness")) -> None:
    assert data.class_names == list(names)
    greys = data.raw.images[:, 4, 4]
    assert sorted(greys.tolist()) == list(range(n)) and data.raw.label.tolist() == (greys % 3).tolist()


@pytest.mark.parametrize(
    ("folder", "header", "row"),
    [
        ("images", "file,label\n", "{file},{name}\n"),
        ("", "Emotion;Extra;Image Path\n", "{name};?;{file}\n"),
        ("images", "\ufeffid,IMG_NAME,Class\r\n", '{i},"{i}",{name}\r\n'),  # a path without its suffix
        ("images", "", "images\\{file}\t{name}\n"),
        ("../images", "path,label\n\n", "{file}, {name} \n"),
        ("", "Image ID , Emotion Label ,,\r\n", "{file},{name},,\r\n,,,\r\n"),  # as of a spreadsheet
        ("", "path|label\n", "{file}|{name}\n"),
        ("train", "path,label\n", "C:\\Users\\me\\train\\{file},{name}\n"),
        ("train", "path,label\n", "/somewhere/else/train/{file},{name}\n"),
        ("", "path,label\n", "{i}.PNG,{name}\n"),
        ("images", "path,class,note\n", '{i}.jpg,{name},"a ""note"",\nof two lines"\n'),
        ("images", "class id,class name,path,x,y\n", "{i},{name},{file},3,4\n"),
    ],
)
def test_columns_delimiters_and_places(tmp_path: Path, folder: str, header: str, row: str) -> None:
    root = tmp_path / "faces"
    root.mkdir()
    files = write_images(root / folder)
    rows = [row.format(i=i, file=file, name=NAMES[i % 3]) for i, file in enumerate(files)]
    (root / "labels.csv").write_text(header + "".join(rows), encoding="utf-8", newline="")
    for place in (root, root / "labels.csv"):
        check(Table(str(place), size=8))
    assert [source.data_set for source in recognise(root)] == ["Table"]


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    files = write_images(tmp_path)
    rows = "".join(f"{x},{['gêne', 'joie'][i % 2]}\n" for i, x in enumerate(files))
    (tmp_path / "labels.csv").write_text("file,label\n" + rows, encoding=encoding)
    assert Table(str(tmp_path)).class_names == ["gêne", "joie"]


def test_splits_and_subjects_by_column(tmp_path: Path) -> None:
    files, usages = write_images(tmp_path), ["Training", "PublicTest", "test"]
    rows = [f"{x},{i % 3},{usages[i // 3 % 3]},p{i // 3}\n" for i, x in enumerate(files)]
    (tmp_path / "all.csv").write_text("image,emotion,Usage,person\n" + "".join(rows))
    data = Table(str(tmp_path), numbers=NAMES, size=8)
    check(data)
    for split, n in (("train", 0), ("val", 1), ("test", 2)):
        greys = data.raw.images[data.items[split], 4, 4]  # type: ignore[index]
        assert set((greys // 3 % 3).tolist()) == {n}
        assert data.item_subjects(split).tolist() == [f"p{grey // 3}" for grey in greys]  # type: ignore[arg-type]
    assert describe(data)["subjects"] == 6


def test_one_table_a_split(tmp_path: Path) -> None:
    files = write_images(tmp_path / "images")
    for name, part in (("train", files[:9]), ("vaild", files[9:12]), ("testing", files[12:])):
        rows = [f"images/{x},{NAMES[int(x[:-4]) % 3]}\n" for x in part]
        (tmp_path / f"{name}.csv").write_text("path,label\n" + "".join(rows))
    data = Table(str(tmp_path), size=8)
    check(data)
    assert [len(data.items[split]) for split in ("train", "val", "test")] == [9, 3, 6]  # type: ignore[index]
    (tmp_path / "testing.csv").write_text("path\n17.png\n")
    with pytest.raises(FerlError, match="testing.csv: looks like the test split and has no columns path and label"):
        Table(str(tmp_path))
    (tmp_path / "testing.csv").rename(tmp_path / "notes.csv")
    assert Table(str(tmp_path)).remarks == ["Files beside the table were not read: notes.csv."]
    (tmp_path / "more.csv").write_text("path,label\n0.png,sad\n")
    with pytest.raises(FerlError, match="several tables list images: more.csv, train.csv, vaild.csv"):
        Table(str(tmp_path))


def test_splits_by_hand_by_value_or_by_table(tmp_path: Path) -> None:
    files = write_images(tmp_path)
    rows = [f"{x},{NAMES[i % 3]},{i // 3}\n" for i, x in enumerate(files)]
    (tmp_path / "folds.csv").write_text("path,label,set\n" + "".join(rows))
    with pytest.raises(FerlError, match="line 2: the split is '0', expected .*--data.split="):
        Table(str(tmp_path))
    data = Table(str(tmp_path), size=8, split={"train": [0, 1], "val": 2, "test": [3, 4]})
    assert [len(data.items[split]) for split in ("train", "val", "test")] == [6, 3, 6]  # type: ignore[index]
    assert set((data.raw.images[data.items["test"], 4, 4] // 3).tolist()) == {3, 4}
    assert data.remarks == ["3 images of splits that data.split does not name were left out."]
    with pytest.raises(FerlError, match="no value in a column split of folds.csv, and no table, '7', only 0, 1, 2, 3"):
        Table(str(tmp_path), split={"train": 0, "test": 7})
    (tmp_path / "folds.csv").unlink()
    for name, part in (("ours", rows[:9]), ("theirs", rows[9:15]), ("more", rows[15:])):
        (tmp_path / f"{name}.csv").write_text("path,label,set\n" + "".join(part))
    data = Table(str(tmp_path), size=8, split={"train": "ours.csv", "test": "theirs"})
    assert sorted(data.raw.images[data.items["test"], 4, 4].tolist()) == list(range(9, 15))
    assert data.remarks[0] == "Tables that data.split does not name were not read: more.csv."
    with pytest.raises(FerlError, match=r"no table in .* called 'other', only more.csv, ours.csv, theirs.csv"):
        Table(str(tmp_path), split={"train": "ours", "test": "other"})


def test_numbers_as_classes_by_hand(tmp_path: Path) -> None:
    files = write_images(tmp_path)
    (tmp_path / "list.txt").write_text("".join(f"{x} {i % 3 + 1}\n" for i, x in enumerate(files)))
    data = Table(str(tmp_path), size=8, classes={"1": "anger", "2": "happy", "3": None})
    assert data.class_names == ["anger", "happiness"] and data.remarks == []
    assert data.label.tolist() == [{0: 0, 1: 1, 2: -1}[grey % 3] for grey in data.raw.images[:, 4, 4].tolist()]


def test_json_lines_and_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write_images(tmp_path / "images")
    rows = [{"age": None, "file_name": x, "label": NAMES[i % 3], "fold": 1, "person": i} for i, x in enumerate(files)]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    pandas.DataFrame(rows).rename(columns={"label": "Emotion"}).to_parquet(tmp_path / "labels.parquet")
    for name in ("metadata.jsonl", "labels.parquet"):
        data = Table(str(tmp_path / name), size=8)
        check(data)
        assert data.raw.subject.tolist() == [Path(x).stem for x in data.raw.name]
    with pytest.raises(FerlError, match="several tables list images: labels.parquet, metadata.jsonl"):
        Table(str(tmp_path))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(FerlError, match=r"labels.parquet: .*not installed: pip install 'ferlightning\[parquet\]'"):
        Table(str(tmp_path / "labels.parquet"))
    with (tmp_path / "metadata.jsonl").open("a") as file:
        file.write("{'file_name': 1}\n")
    with pytest.raises(FerlError, match="metadata.jsonl, line 19: .* is no JSON object"):
        Table(str(tmp_path / "metadata.jsonl"))


@pytest.mark.parametrize(
    ("columns", "box"),
    [("x,y,w,h", "2,3,4,5"), ("width,height,bbox_x1,bbox_y1,bbox_x2,bbox_y2", "8,8,2,3,6,8.2")],
)
def test_a_face_box_is_cut_out(tmp_path: Path, columns: str, box: str) -> None:
    rows = [f"path,{columns},emotion"]
    for i in range(6):
        image = np.full((8, 8), 255, np.uint8)
        image[3:8, 2:6] = i
        Image.fromarray(image).save(tmp_path / f"{i}.png")
        rows.append(f"{i}.png,{box},{NAMES[i % 3]}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    data = Table(str(tmp_path), size=8)
    assert (data.raw.images == np.arange(6)[:, None, None]).all() and "in the box of their row" in str(data.raw.remarks)


def test_a_whole_json_file(tmp_path: Path) -> None:
    """A list of objects on several lines, columns as pandas writes them in two ways, and labels or objects by path."""
    files = write_images(tmp_path / "images")
    rows = [{"file": x, "label": NAMES[i % 3], "age": None} for i, x in enumerate(files)]
    table = pandas.DataFrame(rows)
    for text in (
        json.dumps(rows, indent=1),
        f"\ufeff{table.to_json()}",
        table.to_json(orient="index"),
        json.dumps(table.to_dict("list")),
        json.dumps({row["file"]: row["label"] for row in rows}, indent=1),
        json.dumps({row["file"]: {"label": row["label"]} for row in rows}),
    ):
        (tmp_path / "labels.json").write_text(text)
        check(Table(str(tmp_path), size=8))


def test_metadata_in_the_folders_of_splits(tmp_path: Path) -> None:
    """As ``imagefolder`` of ``datasets`` has it; names of images may be the same in both."""
    for split, label in (("train", 0), ("test", 1)):
        files = write_images(tmp_path / split, 3)
        rows = [f"{x},{NAMES[(i + label) % 3]}" for i, x in enumerate(files)]
        (tmp_path / split / "metadata.csv").write_text("\n".join(["file_name,label", *rows]))
    (found,) = recognise(tmp_path)
    data = found.default()
    assert dict(zip(data.raw.name.tolist(), data.raw.label.tolist(), strict=True)) == {
        f"{split}/{i}.png": (i + label) % 3 for split, label in (("train", 0), ("test", 1)) for i in range(3)
    }
    assert len(data.items["test"]) == 3


def test_a_damaged_parquet_is_named(tmp_path: Path) -> None:
    (tmp_path / "labels.parquet").write_bytes(b"PAR1 cut short")
    with pytest.raises(FerlError, match="labels.parquet: is no parquet file, or damaged: "):
        Table(str(tmp_path / "labels.parquet"))


def test_votes_by_emotion_in_place_of_a_label(tmp_path: Path) -> None:
    files = write_images(tmp_path)
    one_hot = [",".join("1" if k == i % 3 else "" for k in range(3)) for i in range(18)]
    path = tmp_path / "votes.csv"
    path.write_text(
        "file,angry,happy,sad,by\n" + "".join(f"{file},{own},me\n" for file, own in zip(files, one_hot, strict=True))
    )
    data = Table(str(tmp_path), size=8)
    check(data)
    assert any("The label of a row of votes.csv is the one of angry, happy, sad" in x for x in data.raw.remarks)
    assert any(x == "Columns of votes.csv that were not read: by." for x in data.raw.remarks)
    path.write_text("file,angry,happy\n0.png,3,3\n1.png,0,0\n2.png,2.5,1\n3.png,0,9\n")
    assert Table(str(tmp_path), size=8).raw.label.tolist() == [-1, -1, 0, 1]
    path.write_text("file,angry,happy\n0.png,3,many\n")
    with pytest.raises(FerlError, match="votes.csv, line 2: 'many' is no number, in one of the columns angry, happy"):
        Table(str(tmp_path))


@pytest.mark.parametrize(("yes", "no"), [("True", "False"), ("80 %", "10%"), ("0,8", "0,15"), ("yes", "")])
def test_votes_as_spreadsheets_and_pandas_write_them(tmp_path: Path, yes: str, no: str) -> None:
    files = write_images(tmp_path)
    rows = [f"{file};{yes if i % 2 else no};{no if i % 2 else yes}" for i, file in enumerate(files)]
    (tmp_path / "votes.csv").write_text("\n".join(["file;angry;happy", *rows]))
    assert [file.name for file in Table(str(tmp_path)).files] == ["happiness", "anger"] * (len(files) // 2)


@pytest.mark.parametrize("columns", ["happy,bored,Unlabeled", "bored,tired,unknown", "is_sad,happy,NF"])
def test_one_hot_columns_are_classes_whatever_they_are_called(tmp_path: Path, columns: str) -> None:
    """Also where only some are named after emotions."""
    files = write_images(tmp_path)
    rows = [f"{file},3,{','.join(str(float(i % 3 == k)) for k in range(3))}" for i, file in enumerate(files)]
    (tmp_path / "_classes.csv").write_text("\n".join([f"filename,age,{columns}", *rows]))
    data = Table(str(tmp_path), size=8)
    names = [{"happy": "happiness"}.get(name, name) for name in columns.split(",")]
    assert [file.name for file in data.files] == [[*names[:2], None][i % 3] for i in range(len(files))]
    for header, more in (("train,bored,tired", ""), ("bored,tired,calm", "\n0.png,3,1,1,0")):  # splits; not one-hot
        (tmp_path / "_classes.csv").write_text("\n".join([f"filename,age,{header}", *rows]) + more)
        with pytest.raises(FerlError, match="Table: not found"):
            Table(str(tmp_path), size=8)


@pytest.mark.parametrize(
    ("row", "split"),
    [
        ("{path},{label},{split}", True), ("{split},gs://bucket/faces/{path},{label}", True),
        ("{label},{path}", False), ("{path},\"['{label}']\"", False),
    ],
)  # fmt: skip
def test_rows_without_a_header_are_told_by_what_they_hold(tmp_path: Path, row: str, split: bool) -> None:
    files = write_images(tmp_path)
    labels = [("sad", "happy")[i % 2] for i in range(len(files))]
    splits = [("TRAIN", "test")[i % 3 == 0] for i in range(len(files))]
    rows = [row.format(path=path, label=x, split=y) for path, x, y in zip(files, labels, splits, strict=True)]
    (tmp_path / "list.csv").write_text("\n".join(rows))
    found = Table(str(tmp_path)).files
    assert [Path(file.path).name for file in found] == files
    assert [file.name for file in found] == ["sadness" if label == "sad" else "happiness" for label in labels]
    assert [file.split for file in found] == [x.lower() if split else None for x in splits]


@pytest.mark.parametrize("columns", ["class,emotion", "label,Emotion", "class_id,class", "category,expression"])
def test_of_several_columns_of_labels_that_of_emotions_is_read(tmp_path: Path, columns: str) -> None:
    rows = [f"{file},{i % 2},{NAMES[i % 3]}" for i, file in enumerate(write_images(tmp_path))]
    (tmp_path / "a.csv").write_text("\n".join([f"path,{columns}", *rows]))
    data = Table(str(tmp_path), size=8)
    check(data)
    assert f"Columns of a.csv that were not read: {columns.partition(',')[0]}." in data.remarks
    (tmp_path / "a.csv").write_text(f"{columns},path\n1,happy,0.png\n0,happy,sad,1.png\n")
    with pytest.raises(FerlError, match="a.csv, line 3: has 4 cells, and the header 3: .* into quotes"):
        Table(str(tmp_path), size=8)


def test_coco_is_read_by_its_three_lists(tmp_path: Path) -> None:
    files = write_images(tmp_path)
    images = [{"id": 10 + i, "file_name": name} for i, name in enumerate(files)]
    categories = [{"id": 0, "name": "faces"}, {"id": 3, "name": "Sad"}, {"id": 7, "name": "Happy"}]
    boxes = [{"image_id": 10 + i, "category_id": (3, 7)[i % 2], "bbox": [1, 2, 3.0, 4]} for i in range(1, len(files))]
    (tmp_path / "_annotations.coco.json").write_text(
        json.dumps({"info": {}, "images": images, "categories": categories, "annotations": boxes})
    )
    data = Table(str(tmp_path), size=8)
    found = {Path(file.path).name: (file.name, file.box) for file in data.files}
    assert found.pop(files[0]) == (None, None) and "1 rows have no label" in str(data.remarks)
    assert found == {x: (("sadness", "happiness")[i % 2], (1, 2, 4, 6)) for i, x in enumerate(files) if i}


def test_what_is_doubtful_is_remarked(tmp_path: Path) -> None:
    files = write_images(tmp_path)
    labels = ("행복", "슬픔", "7")
    rows = "".join(f"https://x.org/{file},{labels[i % 3]}\n" for i, file in enumerate(files))
    (tmp_path / "t.csv").write_bytes(f"file,label\n{rows}".encode("cp949"))
    remarks = "\n".join(Table(str(tmp_path), size=8).raw.remarks)
    assert "t.csv is not in UTF-8 and was read as Latin-1" in remarks
    assert "Of paths in t.csv, 'https://x.org/' is left out" in remarks
    assert "Some classes are numbers and others are words: 7" in remarks


def test_numbers_are_named_by_their_data_set_or_stay_numbers(tmp_path: Path) -> None:
    files = write_images(tmp_path)
    (tmp_path / "list.txt").write_text("".join(f"{x} {i % 3 + 1}\n" for i, x in enumerate(files)))
    assert Table(str(tmp_path), numbers="RAF-DB").class_names == ["disgust", "fear", "surprise"]
    data = Table(str(tmp_path))
    assert data.class_names == ["1", "2", "3"] and "The classes are numbers" in data.notes("test")[0]
    with pytest.raises(FerlError, match="line 3: the label is 3, data.numbers has 0, 1, 2"):
        Table(str(tmp_path), numbers=NAMES)


def test_columns_parted_by_several_spaces(tmp_path: Path) -> None:
    rows = [f"{file:10} {NAMES[i % 3]}  \n" for i, file in enumerate(write_images(tmp_path))]
    (tmp_path / "list.txt").write_text("".join(rows))
    check(Table(str(tmp_path), size=8))


def test_minus_one_is_a_number_or_no_label(tmp_path: Path) -> None:
    rows = [f"{file},{i % 3 - 1}.0\n" for i, file in enumerate(write_images(tmp_path))]
    (tmp_path / "labels.csv").write_text("path,label\n" + "".join(rows))
    data = Table(str(tmp_path), size=8)
    assert data.class_names == ["-1", "0", "1"] and "The classes are numbers" in data.remarks[-1]
    data = Table(str(tmp_path), size=8, numbers=["sad", "happy"])
    assert sorted(data.class_names) == ["happiness", "sadness"] and data.remarks == ["6 rows have no label."]


def test_absolute_paths_that_are_here_are_not_taken_for_others(tmp_path: Path) -> None:
    for folder in ("ours", "theirs"):
        rows = [
            f"{tmp_path / 'theirs' / file},{NAMES[i % 3]}\n" for i, file in enumerate(write_images(tmp_path / folder))
        ]
        (tmp_path / folder / "labels.csv").write_text("path,label\n" + "".join(rows))
    check(Table(str(tmp_path / "theirs"), size=8))
    with pytest.raises(FerlError, match=r"line 2: the image .*theirs/0.png' is outside of .*ours"):
        Table(str(tmp_path / "ours"))


def test_paths_of_which_only_the_names_are_right(tmp_path: Path) -> None:
    """As RAF-DB on Kaggle: the images in a folder for each split and class, the tables with bare names."""
    write_images(tmp_path / "other data", 3)  # some of the same names
    tmp_path = tmp_path / "rafdb"
    files = write_images(tmp_path / "x")
    for split, part in (("train", files[:12]), ("test", files[12:])):
        rows = []
        for i, file in enumerate(part):
            path = tmp_path / "DATASET" / split / str(i % 3 + 1) / file
            path.parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "x" / file).rename(path)
            rows.append(f"{file},{i % 3 + 1}\n")
        (tmp_path / f"{split}_labels.csv").write_text("image,label\n" + "".join(rows))
    data = Table(str(tmp_path), size=8)
    check(data, names=("1", "2", "3"))
    assert [len(data.items[split]) for split in ("train", "val", "test")] == [9, 3, 6]  # type: ignore[index]


def test_face_boxes_of_affectnet_are_cut_out(tmp_path: Path) -> None:
    for i in range(4):
        image = np.zeros((40, 60), np.uint8)
        image[10:30, 20:40] = 200 + i
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    rows = "".join(f"{i}.png,20,10,20,20,{i % 2 if i < 3 else 9}\n" for i in range(4))
    header = "subDirectory_filePath,face_x,face_y,face_width,face_height,expression\n"
    (tmp_path / "training.csv").write_text(header + rows)
    data = Table(str(tmp_path), size=8, numbers="AffectNet")
    assert data.class_names == ["happiness", "neutral"] and (data.raw.split == 0).all()
    assert data.raw.label.tolist() == [1, 0, 1, -1] and "1 rows have no label." in data.remarks
    assert (data.raw.images == np.array([200, 201, 202, 203])[:, None, None]).all()


def test_nothing_is_dropped_without_a_word(tmp_path: Path) -> None:
    files = write_images(tmp_path / "images")
    rows = [f"{x},{NAMES[i % 3]}\n" for i, x in enumerate(files[:-1])]
    path = tmp_path / "labels.csv"
    path.write_text("file,label\n" + "".join([*rows, rows[0], "gone.png,sad\n", f"{files[-2]},\n"][:-1]))
    with pytest.raises(FerlError, match=r"gone\.png: cannot be read: No such file.*on_bad_image=skip"):
        _ = Table(str(tmp_path)).raw
    remarks = Table(str(tmp_path), on_bad_image="skip").raw.remarks.tolist()
    assert remarks[0] == "1 rows are there twice, and count once."
    assert remarks[1] == "1 images are in no row and were left out: images/17.png."
    assert remarks[2].startswith("1 of 18 images cannot be read and were left out: ")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("file,label\n0.png\n", r"labels.csv, line 2: expected a path and a label, found \['0.png'\]"),
        ("file,label\n0.png,sad\n0.png,happy\n", "line 3: 0.png is also in .*line 2, otherwise"),
        ("file,label,split\n0.png,sad,train\n1.png,sad,other\n", "line 3: the split is 'other', expected train, val"),
        ("file,label\n0.png,sad\n1.png,sad\n", r"the labels are \['sadness'\], need at least 2"),
        ('file,label\n0.png,"sad\n', "line 2: a quote is not closed"),
        ("file,label,split\n0.png,sad,train\n1.png,sad,\n", "line 3: the split is empty, but not in all rows"),
        ("name,age\n0.png,3\n", "Table: not found; .*a table .*with the columns path and label"),
    ],
)
def test_bad_tables(tmp_path: Path, rows: str, message: str) -> None:
    write_images(tmp_path)
    (tmp_path / "labels.csv").write_text(rows)
    with pytest.raises(FerlError, match=message):
        Table(str(tmp_path))


@pytest.mark.parametrize(
    ("column", "values", "refused"),
    [
        ("data_split", ["train", "test"], True),
        ("Dataset", ["Training", "PublicTest"], True),
        ("dataset", ["FER2013", "RAF-DB"], False),
        ("note", ["seen at a train station", "test"], False),
        ("country", ["tr", "de"], False),
    ],
)
def test_a_column_is_a_split_by_its_values_too(column: str, values: list[str], refused: bool, tmp_path: Path) -> None:
    """Read as any other column, the split would be drawn anew, and test images trained on."""
    rows = [f"{file},{NAMES[i % 3]},{values[i % 2]}\n" for i, file in enumerate(write_images(tmp_path))]
    table = tmp_path / "labels.csv"
    table.write_text(f"path,label,{column}\n" + "".join(rows))
    lines = [dict(zip(("path", "label", column), row.strip().split(","), strict=True)) for row in rows]
    (tmp_path / "labels.json").write_text(json.dumps(lines))
    for path in (table, tmp_path / "labels.json"):
        if refused:
            with pytest.raises(FerlError, match=f"{path.name}: the column {column} looks like a split and is not read"):
                Table(str(path))
        else:
            assert Table(str(path)).remarks[0] == f"Columns of {path.name} that were not read: {column}."
        path.unlink()
    for name, part in (("train", rows[:9]), ("test", rows[9:])):  # files say it
        (tmp_path / f"{name}.csv").write_text(f"path,label,{column}\n" + "".join(part))
    assert np.bincount(Table(str(tmp_path)).raw.split).tolist() == [9, 0, 9]


@pytest.mark.parametrize(("column", "unknown"), [("participant_id", 1), ("Speaker", 20), ("subj", 40)])
def test_who_is_known_stays_on_one_side_where_some_are_not(column: str, unknown: int, tmp_path: Path) -> None:
    """Sixty images of all different pixels, of people with three each, but for some of whom nothing is said."""
    paths = write_images(tmp_path, 60)
    rows = [f"{path},{NAMES[i % 3]},{f'P{i // 3}' if i >= unknown else ''}\n" for i, path in enumerate(paths)]
    (tmp_path / "labels.csv").write_text(f"path,label,{column}\n" + "".join(rows))
    data = Table(str(tmp_path), size=8)
    sides = [{*data.raw.subject[data.split() == split]} - {""} for split in range(3)]
    assert np.bincount(data.split(), minlength=3).min() >= 3
    assert sum(map(len, sides)) == len(set.union(*sides)) == len({i // 3 for i in range(unknown, 60)})


def test_what_is_no_table_is_said_to_be_what_it_is(tmp_path: Path) -> None:
    for name, content, message in (
        ("a.csv", b"sep=;\npath;label\n", "not found; looked in .*a.csv, a file that begins with 'sep=;', for table"),
        ("a.xlsx", b"PK\x03\x04", "a.xlsx: is a zip archive, or a sheet of Excel: unpack it, or save it as csv"),
        ("a.csv.gz", b"\x1f\x8b\x08", "a.csv.gz: is packed by gzip: unpack it"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FerlError, match=message):
            Table(str(tmp_path / name))
    for look in (lambda: Table(str(tmp_path)), lambda: recognise(tmp_path)):
        with pytest.raises(FerlError, match="Unpack a.csv.gz first"):
            look()


def test_columns_that_are_not_read_are_named(tmp_path: Path) -> None:
    rows = [f"{file},{i % 3},{NAMES[i % 3]},30\n" for i, file in enumerate(write_images(tmp_path))]
    (tmp_path / "labels.csv").write_text("path,label,emotion,age\n" + "".join(rows))
    assert Table(str(tmp_path)).remarks[0] == "Columns of labels.csv that were not read: label, age."
    (tmp_path / "labels.csv").write_text("path,label,is_train,age\n" + "".join(rows))
    with pytest.raises(FerlError, match="labels.csv: the column is_train looks like a split and is not read. Call it"):
        Table(str(tmp_path))


def test_two_tables_in_one_file_have_two_headers(tmp_path: Path) -> None:
    rows = [f"{file},{NAMES[i % 3]}\n" for i, file in enumerate(write_images(tmp_path))]
    (tmp_path / "labels.csv").write_text("path,label\n" + "".join(rows[:9]) + "path,label\n" + "".join(rows[9:]))
    check(Table(str(tmp_path), size=8))


def test_images_that_are_in_another_folder(tmp_path: Path) -> None:
    names = write_images(tmp_path / "far" / "away" / "faces")
    table = tmp_path / "tables" / "labels.csv"
    table.parent.mkdir()
    table.write_text("path,label\n" + "".join(f"{name},{NAMES[i % 3]}\n" for i, name in enumerate(names)))
    with pytest.raises(FerlError, match=r"labels.csv: none of its 18 images, such as 0.png, .* --data.images=FOLDER"):
        Table(str(table)).prepare_data()
    assert len(Table(str(table), images=str(tmp_path / "far")).raw.label) == 18


def test_names_that_are_in_two_folders(tmp_path: Path) -> None:
    files = write_images(tmp_path / "b")
    for folder in ("train", "test"):
        write_images(tmp_path / folder, 9)
        rows = [f"{i}.png,{NAMES[i % 3]}\n" for i in range(9)]
        (tmp_path / f"{folder}.csv").write_text("path,label\n" + "".join(rows))
    data = Table(str(tmp_path), size=8)  # each table has the folder of its split
    assert [str(name).split("/")[0] for name in data.raw.name] == ["test"] * 9 + ["train"] * 9
    (tmp_path / "train").rename(tmp_path / "a")
    with pytest.raises(FerlError, match=r"images such as 0.png are in a and in b and in test. .*data.images=.*a"):
        Table(str(tmp_path / "train.csv"))
    assert len(Table(str(tmp_path / "train.csv"), images=str(tmp_path / "b")).raw) == 9 < len(files)


def test_labels_that_say_that_there_is_none(tmp_path: Path) -> None:
    none = ["NaN", "null", "N/A", "#N/A", "?", "-", "None", ""]
    labels = [none[i // 3] if i % 3 == 0 and i < 15 else NAMES[i % 3] for i in range(18)]
    rows = [f"{file};{label}\n" for file, label in zip(write_images(tmp_path), labels, strict=True)]
    (tmp_path / "labels.csv").write_text("path;label\n" + "".join(rows))
    data = Table(str(tmp_path), size=8)
    assert data.class_names == ["anger", "happiness", "sadness"] and data.remarks == ["5 rows have no label."]
    rows = [f"{i}.png;{i % 3},0\n" for i in range(18)]  # as a German spreadsheet writes 2.0
    (tmp_path / "labels.csv").write_text("path;label\n" + "".join(rows))
    check(Table(str(tmp_path), size=8), names=("0", "1", "2"))


def test_what_is_wrong_with_a_table_in_a_folder_is_said(tmp_path: Path) -> None:
    write_images(tmp_path)
    (tmp_path / "labels.csv").write_bytes(b"path,label\n0.png,ha\0ppy\n")
    with pytest.raises(FerlError, match="labels.csv, line 2: a null byte"):
        recognise(tmp_path)
    (tmp_path / "labels.csv").write_text("id,what\n0.png,happy\n")
    with pytest.raises(FerlError, match="name its columns path and label, .*; its first line is 'id,what'"):
        recognise(tmp_path)


def test_a_picture_may_have_several_faces(tmp_path: Path) -> None:
    """As in ExpW, whose list has no header; this one was written before it."""
    picture = np.repeat(np.array([[10, 200]], np.uint8), 10, axis=1).repeat(10, axis=0)  # dark left, bright right
    rows = ["image_name face_id face_box_top face_box_left face_box_right face_box_bottom expression_label"]
    for i in range(4):
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
        rows += [f"{i}.png 0 0 0 10 10 0", f"{i}.png 1 0 10 20 10 3"]
    (tmp_path / "label.lst").write_text("\n".join(rows))
    data = Table(str(tmp_path), size=8, numbers="FER2013")
    assert data.raw.images[:, 4, 4].tolist() == [10, 200] * 4
    assert [data.class_names[label] for label in data.raw.label] == ["anger", "happiness"] * 4


def test_a_table_of_any_name_in_each_split_folder(tmp_path: Path) -> None:
    for n, split in enumerate(("train", "valid", "test")):
        images = write_images(tmp_path / split / "pictures", 6 + 3 * n)
        rows = [f"{path},{NAMES[i % 3]}\n" for i, path in enumerate(images)]
        (tmp_path / split / "_classes.csv").write_text("filename,class\n" + "".join(rows))
    data = Table(str(tmp_path), size=8)
    assert np.bincount(data.raw.split).tolist() == [6, 9, 12]
    assert data.raw.label.tolist() == (data.raw.images[:, 4, 4] % 3).tolist()
    (tmp_path / "train" / "more.csv").write_text("filename,class\n")  # of two, it is not known which is meant
    with pytest.raises(FerlError, match="train: looks like a split, and no table in it is read, as in test, valid"):
        Table(str(tmp_path), size=8)
    for split in ("valid", "test"):
        (tmp_path / split / "more.csv").write_text("filename,class\n")
    with pytest.raises(FerlError, match="test is one split, and train, valid beside it would not be read"):
        Table(str(tmp_path), size=8)


def test_numbers_that_a_table_of_floats_writes_are_no_names(tmp_path: Path) -> None:
    rows = [f"{path},{i % 3}.0" for i, path in enumerate(write_images(tmp_path, 9))]
    (tmp_path / "a.csv").write_text("\n".join(["path,label", *rows]))
    assert Table(str(tmp_path), size=8, numbers="FER2013").spelled_names == ["anger", "disgust", "fear"]
    assert Table(str(tmp_path), size=8).spelled_names == ["0", "1", "2"]


@pytest.mark.parametrize("indent", [None, 2])
def test_json_by_label_by_path_and_under_a_name(tmp_path: Path, indent: int | None) -> None:
    images = write_images(tmp_path)
    rows = [{"path": path, "label": NAMES[i % 3]} for i, path in enumerate(images)]
    by_path = {row["path"]: row["label"] for row in rows}
    by_label = {name: images[k::3] for k, name in enumerate(NAMES)}
    for form in (by_path, by_label, {"version": 1, "data": rows}):
        (tmp_path / "a.json").write_text(json.dumps(form, indent=indent))
        check(Table(str(tmp_path), size=8))

"""Faces in boxes of YOLO's texts, drawn here: each box has a grey of its own, in pixels that the test chooses."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ferlightning.data import YOLO, Table
from ferlightning.data.inspection import describe, recognise
from ferlightning.errors import FerlError

WIDE, HIGH = 60, 40
FACES = {
    # image: class, left, top, right, bottom, grey
    "train/a": [(0, 0, 0, 20, 40, 40), (2, 30, 10, 60, 20, 80)],
    "train/deep/b": [(1, 10, 10, 30, 30, 120)],
    "val/c": [(1, 0, 0, 60, 40, 160)],
    "val/none": [],
}
NAMES = ["Happy", "anger", "wink"]
Place = Callable[[str, str], str]


def ultralytics(kind: str, name: str) -> str:
    return f"{kind}/{name}"


def roboflow(kind: str, name: str) -> str:
    split, _, rest = name.partition("/")
    return f"{split}/{kind}/{rest}"


def write(
    root: Path, place: Place = ultralytics, names: str = f"names: {NAMES}\nnc: 3\n", suffix: str = ".png"
) -> Path:
    for name, faces in FACES.items():
        image, lines = np.zeros((HIGH, WIDE), np.uint8), []
        for number, left, top, right, bottom, grey in faces:
            image[top:bottom, left:right] = grey
            shares = (
                (left + right) / 2 / WIDE,
                (top + bottom) / 2 / HIGH,
                (right - left) / WIDE,
                (bottom - top) / HIGH,
            )
            lines.append(f"{number} {' '.join(f'{share:.6f}' for share in shares)}\n")
        for kind in ("images", "labels"):
            (root / place(kind, name)).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(root / f"{place('images', name)}{suffix}")
        if lines:
            (root / f"{place('labels', name)}.txt").write_text("".join(lines))
    (root / "data.yaml").write_text(names)
    return root


def faces_of(data: YOLO) -> list[tuple[str, str, str, int]]:
    """Image, split, class and grey of each item, whose pixels must all have it: nothing beside its box is read."""
    store = data.raw
    assert (store.images == store.images[:, :1, :1]).all()
    return [
        (Path(name).stem, ("train", "val", "test")[split], data.class_names[label], int(image[0, 0]))
        for name, split, label, image in zip(store.name, store.split, store.label, store.images, strict=True)
    ]


EXPECTED = [
    ("a", "train", "happiness", 40),
    ("a", "train", "wink", 80),
    ("b", "train", "anger", 120),
    ("c", "val", "anger", 160),
]


@pytest.mark.parametrize("place", [ultralytics, roboflow])
@pytest.mark.parametrize(
    "names", [f"names: {NAMES}\n", "path: /elsewhere\nnames:\n  0: Happy\n  2: wink\n  1: anger\n"]
)
def test_each_box_is_an_item(place: Place, names: str, tmp_path: Path) -> None:
    write(tmp_path, place, names)
    (found,) = recognise(tmp_path)
    assert (found.data_set, found.layout, found.options) == ("YOLO", "yolo", {"root": str(tmp_path)})
    data = found.default()
    assert isinstance(data, YOLO) and sorted(faces_of(data)) == EXPECTED
    assert data.spelled_names[data.class_names.index("happiness")] == "Happy"
    described = describe(data)
    assert described["files"].least == (30, 10) and described["files"].most == (60, 40)  # of boxes
    assert any(
        remark.startswith("1 images have no box") and remark.endswith("none.png.") for remark in described["remarks"]
    )


def test_one_folder_of_images_and_classes_as_annotators_leave_them(tmp_path: Path) -> None:
    write(tmp_path, lambda kind, name: f"{kind}/{name.rpartition('/')[2]}")
    (tmp_path / "data.yaml").unlink()
    (tmp_path / "labels" / "classes.txt").write_text("\n".join([*NAMES, ""]))
    data = YOLO(str(tmp_path))
    assert sorted((label, grey) for _, _, label, grey in faces_of(data)) == sorted(x[2:] for x in EXPECTED)
    assert {*data.raw.split.tolist()} == {-1}, "no split is said, so they are drawn"


def test_boxes_are_those_of_the_image_as_it_is_shown(tmp_path: Path) -> None:
    """A camera stores a picture lying and says by EXIF that it is turned; annotators see it turned."""
    write(tmp_path, suffix=".png")
    path = tmp_path / "images" / "val" / "c.png"
    upright = np.zeros((60, 40), np.uint8)
    upright[:20] = 200
    exif = Image.Exif()
    exif[0x0112] = 8  # turn it by 90 degrees against the clock to show it
    Image.fromarray(np.rot90(upright, -1).copy()).save(path.with_suffix(".jpg"), exif=exif, quality=100)
    path.unlink()
    (tmp_path / "labels" / "val" / "c.txt").write_text(f"1 0.5 {10 / 60} 1 {20 / 60}\n")
    (item,) = [image for name, image in zip(*(lambda s: (s.name, s.images))(YOLO(str(tmp_path)).raw), strict=True)
               if Path(name).stem == "c"]  # fmt: skip
    assert item.min() >= 190


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "0 0.1 0.1 0.2 0.1 0.2 0.2",
            r"c.txt, line 2: has 7 numbers, as of a segmentation.*Export the annotations as boxes",
        ),
        ("0 0.5 0.5 0.2", "c.txt, line 2: found '0 0.5 0.5 0.2', expected a whole number and a box"),
        ("0 30 20 10 10", "c.txt, line 2: found '0 30 20 10 10'"),
        ("0 0.5 0.5 0 0.1", "c.txt, line 2: found"),
        ("happy 0.5 0.5 0.1 0.1", "c.txt, line 2: 'happy' is no number"),
        ("7 0.5 0.5 0.1 0.1", "c.txt, line 2: the class is 7; .*data.yaml has names for 0, 1, 2"),
        ("0 0.5 0.5 1 1", "c.txt, line 2: the box is that of line 1, otherwise anger"),
    ],
)
def test_a_bad_line_is_refused(line: str, message: str, tmp_path: Path) -> None:
    text = write(tmp_path) / "labels" / "val" / "c.txt"
    text.write_text(f"{text.read_text()}{line}\n")
    with pytest.raises(FerlError, match=message):
        YOLO(str(tmp_path)).raw  # noqa: B018


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "data.yaml").unlink(), r"no file says what they mean. Write .*data.yaml"),
        (lambda root: (root / "data.yaml").write_text("names: [face]"), "the only class is face"),
        (lambda root: (root / "data.yaml").write_text("names: 3"), "data.yaml: names is 3, expected a list"),
        (lambda root: (root / "images" / "more").mkdir(), "more: is named after no split"),
        (lambda root: (root / "images" / "valid").mkdir(), "valid and .*val are both named after val"),
        (lambda root: (root / "images" / "val" / "c.png").unlink(), "c.jpg: cannot be read: No such file"),
        (lambda root: (root / "images" / "val" / "c.png").write_text("x"), "c.png: cannot be read as an image"),
    ],
)
def test_a_bad_folder_is_refused(change: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    change(write(tmp_path))
    with pytest.raises(FerlError, match=message):
        YOLO(str(tmp_path)).raw  # noqa: B018


def test_what_has_no_texts_of_boxes_is_another_data_set(tmp_path: Path) -> None:
    """A table of paths in a folder labels beside images, which no image is called like, is none of YOLO's texts."""
    for name, grey in (("a", 10), ("b", 200)):
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.new("L", (8, 8), grey).save(tmp_path / "images" / f"{name}.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "train.txt").write_text("a.png happy\nb.png sad\n")
    assert [source.data_set for source in recognise(tmp_path)] == ["Table"]


@pytest.mark.parametrize("people", [False, True])
def test_faces_of_one_picture_are_on_one_side_of_a_drawn_split(people: bool, tmp_path: Path) -> None:
    """Twenty pictures of three faces each, by boxes of a table; with people, each picture shows two of ten pairs."""
    rng, rows = np.random.default_rng(0), ["image,x,y,w,h,label" + ",person" * people]
    for n in range(20):
        Image.fromarray(rng.integers(0, 256, (10, 30), np.uint8)).save(tmp_path / f"{n}.png")
        for face, label in enumerate(("anger", "fear", "sadness")):
            person = f",P{n % 10}{'ab'[face % 2]}" if people else ""
            rows.append(f"{n}.png,{10 * face},0,10,10,{label}{person}")
    (tmp_path / "faces.csv").write_text("\n".join(rows))
    data = Table(str(tmp_path / "faces.csv"))
    splits: dict[str, set[int]] = {}
    for name, split in zip(data.raw.name, data.split(), strict=True):
        splits.setdefault(str(name), set()).add(int(split))
    assert len(splits) == 20
    assert all(len(found) == 1 for found in splits.values())
    assert set.union(*splits.values()) == {0, 1, 2}

"""The tables that docs/data.md writes for other data sets, from drawn copies of these, are what `Table` reads."""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from ferlightning.data import Table

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
CODE = {name: code for name, code in re.findall(r"```python\n# (\w+)\n(.*?)```", PAGE, re.DOTALL)}


def draw(paths: Sequence[str]) -> None:
    for path in map(Path, paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8)).save(path)


def mapping(first: str) -> dict[str, str]:
    """The mapping of classes on the page that begins with a name."""
    (text,) = re.findall(rf"data.classes='{{({first}: \w+.*?)}}'", PAGE)
    return dict(pair.split(": ") for pair in text.split(", "))


def frames(folder: str, n: int) -> list[str]:
    return [f"{folder}/{i:05}.jpg" for i in range(n)]


@pytest.mark.parametrize(
    ("name", "files", "classes", "expected"),
    [
        (
            "sfew",
            ["Train/Angry/Film1_000_1.png", "Train/Happy/Film2_000_1.png", "Val/Happy/Film3_000_1.png"],
            None,
            [("anger", 0, "Film1"), ("happiness", 0, "Film2"), ("happiness", 1, "Film3")],
        ),
        (
            "jaffe",
            ["KA.AN1.39.tiff", "KA.SU2.40.tiff", "YM.FE3.70.tiff"],
            mapping("AN"),
            [("anger", -1, "KA"), ("surprise", -1, "KA"), ("fear", -1, "YM")],
        ),
        (
            "kdef",
            ["AF01/AF01AFS.JPG", "AF01/AF01AFHL.JPG", "BM35/BM35NES.JPG"],
            mapping("AF"),
            [("fear", -1, "F01"), ("neutral", -1, "M35")],
        ),
        (
            "oulu",
            [
                f"VL/Strong/{who}/{what}/{i:03}.jpeg"
                for who, what in (("P001", "Anger"), ("P002", "Fear"))
                for i in range(4)
            ],
            None,
            [("anger", -1, "P001")] * 3 + [("fear", -1, "P002")] * 3,
        ),
        (
            "ferv39k",
            [*frames("2_ClipsforFaceCrop/Action/Happy/0267", 5), *frames("2_ClipsforFaceCrop/Crime/Sad/0001", 5)],
            None,
            [("happiness", 0, ""), ("sadness", 2, "")],
        ),
        (
            "dfew",
            [*frames("Clip/clip_224x224/00001", 16), *frames("Clip/clip_224x224/00012", 16)],
            mapping("1"),
            [("happiness", 0, ""), ("fear", 2, "")],
        ),
    ],
)
def test_tables_of_other_data_sets(
    name: str,
    files: list[str],
    classes: dict[str, str | None] | None,
    expected: list[tuple[str, int, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    draw(files)
    lists = {
        "4_setups/All_scenes/train_All.csv": "Action/Happy/0267 Happy\n",
        "4_setups/All_scenes/test_All.csv": "Crime/Sad/0001 Sad\n",
        "EmoLabel_DataSplit/train(single-labeled)/set_1.csv": "video_name,label\n1,1\n",
        "EmoLabel_DataSplit/test(single-labeled)/set_1.csv": "video_name,label\n12,7\n",
    }
    for path, text in lists.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text)
    exec(CODE[name], {})
    if classes:  # of a whole data set, of which only some classes are drawn
        there = {label for label, *_ in expected}
        classes = {key: new for key, new in classes.items() if new in there}
    data = Table(f"{name}.csv", size=8, classes=classes)
    labels = [data.class_names[label] for label in data.label]
    assert [*zip(labels, data.raw.split.tolist(), data.raw.subject.tolist(), strict=True)] == expected


def test_every_example_is_tried() -> None:
    assert [*CODE] == ["sfew", "jaffe", "kdef", "oulu", "ferv39k", "dfew"]

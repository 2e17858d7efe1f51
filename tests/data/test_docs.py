"""Every data set that docs/data.md shows is read as the page says, from a drawn copy of it."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from PIL import Image

from ferlightning.data import ImageFolder, Table
from ferlightning.data.inspection import recognise

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
CODE = {name: code for name, code in re.findall(r"```python\n# (\w+)\n(.*?)```", PAGE, re.DOTALL)}
COMMANDS = {name: text for name, text in re.findall(r"```bash\n# (\w+): [^\n]*\n(.*?)\n(?:#|```)", PAGE, re.DOTALL)}


def draw(paths: Sequence[str]) -> None:
    for path in map(Path, paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8)).save(path)


def frames(folder: str, n: int) -> list[str]:
    return [f"{folder}/{i:05}.jpg" for i in range(n)]


@pytest.mark.parametrize(
    ("name", "files", "expected"),
    [
        (
            "sfew",
            ["Train/Angry/Film1_000_1.png", "Train/Happy/Film2_000_1.png", "Val/Happy/Film3_000_1.png"],
            [("anger", 0, "Film1", 1), ("happiness", 0, "Film2", 1), ("happiness", 1, "Film3", 1)],
        ),
        (
            "jaffe",
            ["KA.AN1.39.tiff", "KA.SU2.40.tiff", "YM.FE3.70.tiff", "README.txt"],
            [("anger", -1, "KA", 1), ("surprise", -1, "KA", 1), ("fear", -1, "YM", 1)],
        ),
        (
            "kdef",
            ["AF01/AF01AFS.JPG", "AF01/AF01AFHL.JPG", "BM35/BM35NES.JPG"],
            [("fear", -1, "F01", 1), ("neutral", -1, "M35", 1)],
        ),
        (
            "oulu",
            [
                f"{light}/{who}/{what}/{i:03}.jpeg"
                for light in ("VL/Strong", "VL/Weak")
                for who, what in (("P001", "Anger"), ("P002", "Fear"))
                for i in range(4)
            ],
            [("anger", -1, "P001", 1)] * 3 + [("fear", -1, "P002", 1)] * 3,
        ),
        ("expw", ["origin/a_1.jpg"], [("anger", -1, "", 1), ("happiness", -1, "", 1)]),
        (
            "ferv39k",
            [*frames("2_ClipsforFaceCrop/Action/Happy/0267", 5), *frames("2_ClipsforFaceCrop/Crime/Sad/0001", 17)],
            [("happiness", 0, "", 5), ("sadness", 2, "", 16)],
        ),
        (
            "dfew",
            [*frames("Clip/clip_224x224/00001", 16), *frames("Clip/clip_224x224/00012", 16)],
            [("happiness", 0, "", 16), ("fear", 2, "", 16)],
        ),
    ],
)
def test_data_sets_of_the_page(
    name: str,
    files: list[str],
    expected: list[tuple[str, int, str, int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    draw([file for file in files if not file.endswith("txt")])
    lists = {
        "4_setups/All_scenes/train_All.csv": "Action/Happy/0267 Happy\n",
        "4_setups/All_scenes/test_All.csv": "Crime/Sad/0001 Sad\n",
        "EmoLabel_DataSplit/train(single-labeled)/set_1.csv": "video_name,label\n1,1\n",
        "EmoLabel_DataSplit/test(single-labeled)/set_1.csv": "video_name,label\n12,7\n",
        "label.lst": "a_1.jpg 0 0 0 4 8 40.5 0\na_1.jpg 1 0 4 8 8 30.5 3\n",
    }
    listed = name in (*CODE, "expw")
    for path, text in lists.items() if listed else ():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text)
    if name in CODE:
        exec(CODE[name], {})
        (command,) = re.findall(rf"ferl fit [^\n]*--data.root={name}.csv.*?(?=\nferl|\n```)", PAGE, re.DOTALL)
    else:
        command = COMMANDS[name]
    words = [word.removeprefix("--data.").partition("=") for word in shlex.split(command) if "--data." in word]
    options = {key: value if key == "pattern" else yaml.safe_load(value) for key, _, value in words} | {"size": 8}
    if options.get("classes"):  # of a whole data set, of which only some classes are drawn
        there = {label for label, *_ in expected}
        options["classes"] = {str(key): new for key, new in options["classes"].items() if new in there}
    data = Table(**options) if listed else ImageFolder(**options | {"root": "."})
    labels = [data.class_names[label] for label in data.label]
    raw = data.raw
    lengths = (raw.start[1:] - raw.start[:-1]).tolist()
    assert [*zip(labels, raw.split.tolist(), raw.subject.tolist(), lengths, strict=True)] == expected
    if name in ("jaffe", "kdef", "oulu"):  # known by name
        (found,) = recognise(tmp_path)
        assert found.layout == f"pattern={options['pattern']}" and found.default().class_names == data.class_names


def test_every_example_is_tried() -> None:
    assert [*COMMANDS, *CODE] == ["sfew", "jaffe", "kdef", "oulu", "expw", "ferv39k", "dfew"]

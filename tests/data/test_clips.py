"""Frames of recordings, by a column of a table or a group of a pattern, as clips and as stills."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ferlightning.cli.main import main
from ferlightning.data import ImageFolder, Table
from ferlightning.data.sources import patterns
from ferlightning.errors import FerlError


def draw(folder: Path, names: list[str]) -> None:
    """Image n has the grey n + 1."""
    for n, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), n + 1).save(folder / name)


def write(root: Path, rows: list[tuple[int, str, str]], header: str = "path,Clip,emotion", more: str = "") -> str:
    """A table of drawn images: number, clip and emotion of each row, as they are listed."""
    draw(root, [f"{n}.png" for n in range(1 + max(n for n, *_ in rows))])
    (root / "t.csv").write_text(f"{header}\n" + "".join(f"{n}.png,{clip},{label}{more}\n" for n, clip, label in rows))
    return str(root / "t.csv")


def greys(data: Any) -> list[list[int]]:
    """The grey of each frame of each item."""
    start, images = data.raw.start, data.raw.images
    return [images[start[n] : start[n + 1], 0, 0].tolist() for n in range(len(data.raw))]


ROWS = [(0, "a", "sad"), (3, "b", "happy"), (2, "a", "sad"), (1, "a", "sad"), (4, "", "happy"), (5, "b", "happy")]


def test_rows_of_one_sequence_are_a_clip_in_their_order(tmp_path: Path) -> None:
    table = write(tmp_path, ROWS)
    data = Table(table, size=8)
    assert greys(data) == [[1, 3, 2], [4, 6], [5]]  # one without a clip is a still
    assert data.raw.name.tolist() == ["a", "b", "4.png"]
    assert [data.class_names[n] for n in data.raw.label] == ["sadness", "happiness", "happiness"]
    assert greys(Table(table, size=8, last=2)) == [[3, 2], [4, 6], [5]]
    assert greys(Table(table, size=8, frames=1)) == [[3], [6], [5]]  # the middle, or the one after it
    stills = Table(table, size=8, clips=False)
    assert greys(stills) == [[1], [3], [2], [4], [6], [5]]
    assert stills.raw.sequence.tolist() == ["a", "a", "a", "b", "b", ""]
    batch = data._loader("train").dataset.__getitems__([0])  # type: ignore[attr-defined]
    assert batch["image"].ndim == 5


def test_a_column_frame_orders_them_and_evenly_spread_ones_are_chosen(tmp_path: Path) -> None:
    draw(tmp_path, [f"{n}.png" for n in range(20)])
    rows = [f"{n}.png,v1,{n},sad,\n" for n in range(9)][::-1] + [f"{n}.png,v2,{-n},happy,\n" for n in range(9, 20)]
    (tmp_path / "t.csv").write_text("path,video_id,frame,label,age\n" + "".join(rows))
    assert greys(Table(str(tmp_path), size=8)) == [[*range(1, 10)], [*range(10, 21)][::-1]]
    # Of nine frames, the middles of three parts of three are the second, fifth and eighth.
    assert greys(Table(str(tmp_path), size=8, frames=3))[0] == [2, 5, 8]
    assert greys(Table(str(tmp_path), size=8, last=3, frames=16))[0] == [7, 8, 9]
    with pytest.raises(FerlError, match="data.frames is 0"):
        Table(str(tmp_path), frames=0)
    (tmp_path / "t.csv").write_text("path,video_id,frame,label\n0.png,v1,first,sad\n")
    with pytest.raises(FerlError, match="line 2: the frame: 'first' is no number"):
        Table(str(tmp_path))


def test_frames_that_contradict_each_other_are_named(tmp_path: Path) -> None:
    table = write(tmp_path, [*ROWS, (6, "b", "sad")])
    with pytest.raises(FerlError, match=r"clip b have two labels: happiness in .*line 3, sadness in .*line 8.*clips=f"):
        Table(table)
    assert len(Table(table, clips=False).raw) == 7
    table = write(tmp_path, [(0, "a", "sad,train"), (1, "a", "sad,test")], "path,clip,label,split")
    with pytest.raises(FerlError, match="clip a have two splits: train in .*line 2, test in .*line 3"):
        Table(table)


def test_two_frames_of_one_number_are_two_clips_of_one_name(tmp_path: Path) -> None:
    draw(tmp_path, [f"{n}.png" for n in range(8)])
    rows = [
        f"{n}.png,{'v1' if n < 4 else 'v2'},{n % 2 if n < 4 else n},{'sad' if n < 4 else 'happy'}\n" for n in range(8)
    ]
    (tmp_path / "t.csv").write_text("path,clip,frame,label\n" + "".join(rows))
    with pytest.raises(FerlError, match=r"two frames of clip v1 have the number 0: .*line 2, and .*line 4"):
        _ = Table(str(tmp_path), size=8).raw
    assert len(Table(str(tmp_path), size=8, clips=False).raw) == 8


def test_a_pattern_that_goes_back_and_forth_is_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "SECONDS", 0.1)
    draw(tmp_path, ["a" * 40 + ".png", "happy.png"])
    with pytest.raises(FerlError, match=r"data.pattern is .* takes for ever on a{40}.png"):
        ImageFolder(str(tmp_path), pattern="(?P<label>(a+)+)b")


def test_numbers_of_clips_that_start_anew_for_each_subject(tmp_path: Path) -> None:
    rows = [(n, f"1,p{n // 2}", "happy" if n < 2 else "sad") for n in range(4)]
    data = Table(write(tmp_path, rows, "path,clip,person,label"), size=8)
    assert greys(data) == [[1, 2], [3, 4]] and data.raw.name.tolist() == ["p0/1", "p1/1"]


def test_no_drawn_split_parts_a_recording_or_a_subject(tmp_path: Path) -> None:
    rows = [(n, f"clip{n // 5}", ["happy", "sad"][n // 5 % 2]) for n in range(100)]
    for clips in (True, False):
        data = Table(write(tmp_path, rows), size=8, clips=clips)
        names = [{*data.raw.sequence[data.items[split]]} for split in ("train", "val", "test")]  # type: ignore[index]
        assert all(names) and sum(map(len, names)) == 20 == len(set.union(*names))
    rows = [(n, f"clip{n // 5},p{n // 10}", ["happy", "sad"][n // 5 % 2]) for n in range(100)]
    data = Table(write(tmp_path, rows, "path,clip,subject,label"), size=8)
    names = [{*data.item_subjects(split)} for split in ("train", "val", "test")]  # type: ignore[arg-type]
    assert sum(map(len, names)) == 10 == len(set.union(*names))
    cut = [(n, f"clip{n // 4}", f"{['happy', 'sad'][n // 4 % 2]},{['train', 'test'][n % 2]}") for n in range(16)]
    data = Table(write(tmp_path, cut, "path,clip,label,split"), size=8, clips=False)
    assert any("4 recording(s) are in train and in test" in note for note in data.notes("test"))


def test_clips_of_a_table_train_and_are_padded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [(n, f"{n // 6 * 2 + (n % 6 > 1)}", ["happy", "sad"][n // 6 % 2]) for n in range(60)]
    write(tmp_path, rows)
    main(
        ["fit", "--config=models/cnn", "--model.backbone=ConvStack", "--model.backbone.channels=[4]", "--data=Table",
         "--data.root=t.csv", "--data.size=16", "--data.batch_size=4", "--trainer.fast_dev_run=true",
         "--trainer.accelerator=cpu"]
    )  # fmt: skip
    main(["data", "inspect", "t.csv"])  # not a csv of FER2013's
    assert "20 sequences, 2 to 4 frames a clip" in capsys.readouterr().out
    data = Table("t.csv", size=8, batch_size=20)
    batch = data._loader("train").dataset.__getitems__(range(6))  # type: ignore[attr-defined]
    lengths = np.diff(data.raw.start)[data.items["train"][:6]]
    assert {*lengths.tolist()} == {2, 4} and batch["mask"].sum(1).tolist() == lengths.tolist()


def test_labels_in_names(tmp_path: Path) -> None:
    draw(tmp_path, ["img_2_happy.png", "img_10_happy.png", "sub/img_3_Sad.png", "readme.png"])
    pattern = r"img_(?P<frame>\d+)_(?P<label>[^_.]+)\.png"
    data = ImageFolder(str(tmp_path), pattern=pattern, size=8)
    assert data.raw.name.tolist() == ["img_2_happy.png", "img_10_happy.png", "sub/img_3_Sad.png"]
    assert [data.class_names[n] for n in data.raw.label] == ["happiness", "happiness", "sadness"]
    assert data.remarks == ["1 images do not match data.pattern and were left out: readme.png."]
    for bad, message in {
        "(": "data.pattern is '\\(': missing",
        "img": r"has no group \(\?P<label>...\); known data sets are JAFFE",
        "(?P<label>.)(?P<who>.)": "has the group who; groups are label, split",
        "(?P<label>xyz)": "finds 0 images of 4 with the labels .*does not match img_2_happy.png",
    }.items():
        with pytest.raises(FerlError, match=message):
            ImageFolder(str(tmp_path), pattern=bad)


def test_splits_and_clips_in_paths(tmp_path: Path) -> None:
    draw(tmp_path, [f"{split}/happy/c{split}/{n}.png" for split in "ab" for n in (1, 2, 10)] + ["a/sad/c/1.png"])
    pattern = r"(?P<split>\w)/(?P<label>\w+)/(?P<sequence>\w+)/"
    data = ImageFolder(str(tmp_path), pattern=pattern, split={"train": "a", "test": "b"}, size=8)
    assert greys(data) == [[1, 2, 3], [7], [4, 5, 6]] and data.raw.split.tolist() == [0, 0, 2]
    with pytest.raises(FerlError, match=r"the split is 'a', expected .*data.split='\{test: a"):
        ImageFolder(str(tmp_path), pattern=pattern)
    with pytest.raises(FerlError, match="no split found by data.pattern 'c', only a, b"):
        ImageFolder(str(tmp_path), pattern=pattern, split={"test": "c"})
    with pytest.raises(FerlError, match="say where their names have it by --data.pattern="):
        ImageFolder(str(tmp_path / "a" / "sad"))


def test_the_cache_tells_options_apart_that_read_the_same_files(tmp_path: Path) -> None:
    draw(tmp_path, [f"{split}/{label}/1.png" for split in "ab" for label in ("happy", "sad")])
    for split in ({"train": "a", "test": "b"}, {"train": "b", "test": "a"}):
        data = ImageFolder(str(tmp_path), split=split, size=8)  # type: ignore[arg-type]
        assert [str(name)[0] for name in data.raw.name[data.raw.split == 0]] == [split["train"]] * 2
    rows = [(n, ["happy", "sad"][n % 2], str(n // 4)) for n in range(8)]
    table = write(tmp_path, rows, "path,label,set")
    for train in (0, 1):
        data = Table(table, size=8, split={"train": train, "test": 1 - train})
        assert {*(data.raw.images[data.raw.split == 0, 0, 0] - 1) // 4} == {train}

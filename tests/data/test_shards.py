"""Images inside parquet, arrow and tar files, written as ``datasets`` 5.2 and ``webdataset`` 1.0 write them."""

import io
import json
import sys
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ferlightning.data import Table
from ferlightning.data.inspection import describe, recognise
from ferlightning.errors import FerlError

NAMES = ["angry", "happy", "sad"]


def png(grey: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (8, 8), grey).save(file, "png")
    return file.getvalue()


def arrow(numbers: range, bad: int = -1) -> pa.Table:
    """Images of these greys, with their labels modulo three."""
    features = {"image": {"_type": "Image"}, "label": {"names": NAMES, "_type": "ClassLabel"}}
    contents = [{"bytes": b"no image" if n == bad else png(n), "path": f"{n}.png"} for n in numbers]
    table = pa.table({"image": contents, "label": [n % 3 for n in numbers], "person": [f"p{n // 6}" for n in numbers]})
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def write_arrow(path: Path, table: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.ipc.new_stream(str(path), table.schema) as stream:
        stream.write_table(table, max_chunksize=4)


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def check(data: Table, sizes: tuple[int, int, int], names: tuple[str, ...] = ("anger", "happiness", "sadness")) -> None:
    """Test images have the highest greys."""
    assert data.class_names == list(names)
    greys = data.raw.images[:, 4, 4]
    assert sorted(greys.tolist()) == list(range(len(greys))) and data.raw.label.tolist() == (greys % 3).tolist()
    assert [len(data.items[split]) for split in ("train", "val", "test")] == [*sizes]  # type: ignore[index]
    assert min(greys[data.raw.split == 2], default=0) >= max(greys[data.raw.split == 0], default=0)


def test_a_folder_of_save_to_disk(tmp_path: Path) -> None:
    write_arrow(tmp_path / "train" / "data-00000-of-00002.arrow", arrow(range(10)))
    write_arrow(tmp_path / "train" / "data-00001-of-00002.arrow", arrow(range(10, 18)))
    write_arrow(tmp_path / "train" / "cache-0123456789abcdef.arrow", arrow(range(18)))
    write_arrow(tmp_path / "test" / "data-00000-of-00001.arrow", arrow(range(18, 27)))
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    data = Table(str(tmp_path), size=8)
    check(data, (12, 6, 9))
    assert data.raw.name[-1] == "train/data-00001-of-00002.arrow/8" and data.remarks == []
    assert data.raw.subject[-1] == "p2" and describe(data)["subjects"] == 5
    assert [source.data_set for source in recognise(tmp_path)] == ["Table"]
    check(Table(str(tmp_path / "train"), size=8), (6, 6, 6))


def test_parquet_shards_and_their_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    for k, numbers in enumerate((range(10), range(10, 18))):
        pq.write_table(arrow(numbers), tmp_path / "data" / f"train-0000{k}-of-00002.parquet", row_group_size=3)
    path = tmp_path / "data" / "test-00000-of-00001.parquet"
    pq.write_table(arrow(range(18, 27)), path, row_group_size=3)
    check(Table(str(tmp_path), size=8), (12, 6, 9))
    pq.write_table(arrow(range(18, 27), bad=20), path, row_group_size=3)
    with pytest.raises(FerlError, match=r"test-00000-of-00001.parquet/3: cannot be read as an image.*bad_image=skip"):
        _ = Table(str(tmp_path)).raw
    assert len(Table(str(tmp_path), on_bad_image="skip").raw) == 26
    pq.write_table(pa.table({"image": [{"bytes": png(1)}], "label": [[0, 1]]}), path)
    with pytest.raises(FerlError, match=r"parquet, row 1: found \[0, 1\], expected one value"):
        Table(str(tmp_path))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(FerlError, match=r"parquet: .*not installed: pip install 'ferlightning\[parquet\]'"):
        Table(str(tmp_path))


def test_shards_of_webdataset(tmp_path: Path) -> None:
    for name, numbers in (("train-000000", range(9)), ("train-000001", range(9, 18)), ("test-000000", range(18, 27))):
        pairs = [(f"s/{n:05}.png", png(n)) for n in numbers] + [(f"s/{n:05}.cls", b"%d" % (n % 3)) for n in numbers]
        write_tar(tmp_path / f"{name}.tar", dict(pairs))
    data = Table(str(tmp_path), size=8, numbers=NAMES)
    check(data, (15, 3, 9))
    assert data.raw.name[0] == "test-000000.tar/s/00018.png"
    path = tmp_path / "test-000000.tar"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(FerlError, match="test-000000.tar: is no tar file, or packed or cut short"):
        Table(str(path))


def test_json_of_webdataset(tmp_path: Path) -> None:
    members = {}
    for n in range(18):
        facts = {"emotion": NAMES[n % 3], "subject": n // 3, "age": 30}
        members |= {f"{n}.JPG": png(n), f"{n}.json": json.dumps(facts).encode()}
    write_tar(tmp_path / "faces.tar", members)
    data = Table(str(tmp_path), size=8)
    check(data, (12, 3, 3))
    assert data.raw.subject.tolist() == [str(n // 3) for n in range(18)]
    write_tar(tmp_path / "faces.tar", members | {"x.json": b"{}"})
    with pytest.raises(FerlError, match="faces.tar, sample x: has no image, only json"):
        Table(str(tmp_path))


def test_a_shard_that_is_cut_short_is_not_left_out(tmp_path: Path) -> None:
    members = {f"{n}.{kind}": png(n) if kind == "png" else b"%d" % (n % 3) for n in range(9) for kind in ("png", "cls")}
    write_tar(tmp_path / "0.tar", members)
    (tmp_path / "1.tar").write_bytes((tmp_path / "0.tar").read_bytes()[:3000])
    with pytest.raises(FerlError, match="1.tar: is no tar file, or packed or cut short"):
        recognise(tmp_path)
    (tmp_path / "0.tar").unlink()
    with pytest.raises(FerlError, match="1.tar: is no tar file, or packed or cut short"):
        recognise(tmp_path)


def test_json_too_deep_to_read_is_told(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"0.png": png(0), "0.json": b"[" * 100_000})
    with pytest.raises(FerlError, match="sample 0: its json is no object"):
        Table(str(tmp_path)).setup("fit")


def test_paths_that_datasets_keeps_in_place_of_images(tmp_path: Path) -> None:
    """As a data set of files that were not embedded is saved."""
    for n in range(18):
        (tmp_path / f"{n}.png").write_bytes(png(n))
    rows = {
        "image": [{"bytes": None, "path": f"/content/{n}.png"} for n in range(18)],
        "label": arrow(range(18))["label"],
    }
    pq.write_table(pa.table(rows), tmp_path / "faces.parquet")
    data = Table(str(tmp_path), size=8)
    assert data.raw.label.tolist() == (data.raw.images[:, 4, 4] % 3).tolist() and len(data.raw) == 18


def test_labels_that_are_bytes_are_text(tmp_path: Path) -> None:
    images = [{"bytes": png(n), "path": None} for n in range(9)]
    pq.write_table(
        pa.table({"image": images, "label": [NAMES[n % 3].encode() for n in range(9)]}), tmp_path / "a.parquet"
    )
    assert Table(str(tmp_path)).class_names == ["anger", "happiness", "sadness"]


def test_an_arrow_file_is_read_as_its_stream(tmp_path: Path) -> None:
    with pa.ipc.new_file(str(tmp_path / "a.arrow"), arrow(range(18)).schema) as file:
        file.write_table(arrow(range(18)), max_chunksize=4)
    check(Table(str(tmp_path)), (6, 6, 6))


def test_damage_and_nested_images_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a" / "a.parquet"
    path.parent.mkdir()
    table = arrow(range(60)).select(["label", "image"])
    pq.write_table(table, path, use_dictionary=False, write_page_checksum=True)
    content = bytearray(path.read_bytes())
    content[20:200] = bytes(180)  # of the first column
    path.write_bytes(content)
    with pytest.raises(FerlError, match="a.parquet: is no parquet file, or damaged"):
        Table(str(path.parent)).setup("fit")
    nested = tmp_path / "b" / "b.parquet"
    nested.parent.mkdir()
    pq.write_table(pa.table({"row": [{"image": {"bytes": png(0)}}] * 9, "label": NAMES * 3}), nested)
    with pytest.raises(FerlError, match="no data set is recognised"):
        recognise(nested.parent)


def test_shards_named_as_the_hub_names_them(tmp_path: Path) -> None:
    """With a hash after the number; and a column of bytes before that of the images."""
    ids = pa.array([f"id{n}".encode() for n in range(9)])
    for n, name in enumerate(
        ("train-00000-of-00002-1c2d3e", "train-00001-of-00002-0123ab", "test-00000-of-00001-ffee")
    ):
        table = arrow(range(9 * n, 9 * n + 9))
        (tmp_path / "data").mkdir(exist_ok=True)
        pq.write_table(table.add_column(0, "id", ids), tmp_path / "data" / f"{name}.parquet")
    check(Table(str(tmp_path), size=8), (12, 6, 9))


def test_labels_that_are_called_class_in_a_tar(tmp_path: Path) -> None:
    members = {
        f"{n:03}.{ending}": content
        for n in range(18)
        for ending, content in (("png", png(n)), ("class", NAMES[n % 3].encode()))
    }
    write_tar(tmp_path / "test.tar", {name: content for name, content in members.items() if name >= "012"})
    write_tar(tmp_path / "train.tar", {name: content for name, content in members.items() if name < "012"})
    check(Table(str(tmp_path), size=8), (9, 3, 6))

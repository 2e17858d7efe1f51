"""The cache of parsed data: parsed once, rebuilt if damaged, never half there."""

import gc
import hashlib
import multiprocessing
import os
import pickle
import shutil
import time
import tracemalloc
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ferlightning.cli.main import main
from ferlightning.data import ImageFolder
from ferlightning.data.fingerprints import pixel_moments
from ferlightning.data.store import Store, cache_dir, open_store, room
from ferlightning.errors import FerlError
from ferlightning.images import MedianFilter

KEY: dict[str, object] = {"reader": "test", "path": Path("a.csv"), "size": 3}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FERL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def make_store(seed: int = 0) -> Store:
    """Three clips of 1, 2 and 3 frames."""
    rng = np.random.default_rng(seed)
    return Store(
        images=rng.integers(0, 256, (6, 4, 4), np.uint8),
        start=np.array([0, 1, 3, 6]),
        label=rng.integers(0, 7, 3),
        split=np.array([0, 1, 2], np.int8),
        name=np.array(["row 1", "żółw", "row 3"]),
        subject=np.array(["s1", "", "s2"]),
        sequence=np.array(["s1_1", "", "s2_1"]),
        votes=rng.integers(0, 11, (3, 10), np.uint8),
        remarks=np.array(["one image is blank"]),
    )


def assert_same(one: Store, other: Store) -> None:
    for field in fields(Store):
        found, wanted = getattr(one, field.name), getattr(other, field.name)
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)


def forbidden() -> Store:
    raise AssertionError("parsed again")


def folder_of_store(cache: Path) -> Path:
    (folder,) = (path for path in cache.iterdir() if path.is_dir())
    return folder


def test_the_second_opening_does_not_parse(own_cache: Path) -> None:
    assert cache_dir() == own_cache
    assert_same(open_store(KEY, make_store), make_store())
    store = open_store(KEY, forbidden)
    assert_same(store, make_store())
    assert isinstance(store.images, np.memmap) and not store.images.flags.writeable
    assert folder_of_store(own_cache).parent == own_cache


def test_another_key_is_another_store() -> None:
    open_store(KEY, make_store)
    for change in ({"size": 4}, {"path": Path("b.csv")}, {"reader": "test 2"}, {"more": None}):
        assert_same(open_store(KEY | change, lambda: make_store(1)), make_store(1))
    assert_same(open_store(dict(reversed(KEY.items())), forbidden), make_store())


def test_without_the_variable_the_cache_is_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FERL_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache" / "ferlightning"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


DAMAGE = {
    "deleted": Path.unlink,
    "one bit": lambda path: path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1])),
    "empty": lambda path: path.write_bytes(b""),
    "one byte short": cut,
    "only the magic": lambda path: path.write_bytes(path.read_bytes()[:8]),
    "half a header": lambda path: path.write_bytes(path.read_bytes()[:40]),
    "garbage": lambda path: path.write_bytes(np.random.default_rng(0).bytes(500)),
    "garbage header": lambda path: path.write_bytes(path.read_bytes()[:10] + np.random.default_rng(0).bytes(500)),
    "bracket for header": lambda path: path.write_bytes(path.read_bytes()[:10] + b"(" * 500),
    "a zip's magic": lambda path: path.write_bytes(b"PK\x03\x04" + bytes(100)),
    "text": lambda path: path.write_text("hello"),
    "another length": lambda path: np.save(path, np.zeros(99, np.int64)),
    "no length": lambda path: np.save(path, np.int64(3)),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize(
    ("damage", "name"),
    [*((damage, "images") for damage in DAMAGE), *(("one bit", field.name) for field in fields(Store)[1:])],
)
def test_a_damaged_store_is_parsed_again(own_cache: Path, damage: str, name: str) -> None:
    open_store(KEY, make_store)
    DAMAGE[damage](folder_of_store(own_cache) / f"{name}.npy")  # type: ignore[operator]
    assert_same(open_store(KEY, make_store), make_store())
    assert_same(open_store(KEY, forbidden), make_store())


def test_a_store_that_was_copied_or_touched_is_not_parsed_again(own_cache: Path) -> None:
    open_store(KEY, make_store)
    for path in folder_of_store(own_cache).glob("*.npy"):
        os.utime(path, (1, 1))
    assert_same(open_store(KEY, forbidden), make_store())


def test_a_store_without_its_manifest_is_not_trusted(own_cache: Path) -> None:
    for damage in (Path.unlink, lambda path: path.write_text("{}"), lambda path: path.write_text("hello")):
        open_store(KEY, make_store)
        damage(folder_of_store(own_cache) / "manifest.json")  # type: ignore[operator]
        assert_same(open_store(KEY, lambda: make_store(1)), make_store(1))
        shutil.rmtree(folder_of_store(own_cache))


@pytest.mark.parametrize(("name", "word"), [("images.npy", "not what was written"), ("label.npy", "missing")])
def test_verify_names_the_file_that_is_damaged(
    own_cache: Path, name: str, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A flipped bit under an old time is what opening a store cannot see, as it trusts size and time."""
    open_store(KEY, make_store)
    open_store({"reader": "other"}, make_store)
    main(["data", "verify"])
    assert "2 stores, 0 damaged" in capsys.readouterr().out
    path = sorted(own_cache.glob(f"*/{name}"))[0]
    times, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    if word == "missing":
        path.unlink()
    with pytest.raises(SystemExit) as end:
        main(["data", "verify", str(own_cache)])
    assert end.value.code == 2
    assert f"{path} is {word}: remove the folder {path.parent}" in capsys.readouterr().err
    shutil.rmtree(path.parent)
    main(["data", "verify"])


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FERL_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(FerlError, match=f"cannot write to the cache {tmp_path}/file/cache: .* FERL_CACHE"):
        open_store(KEY, make_store)


def test_another_process_maps_the_files_and_gets_no_copy() -> None:
    large = replace(make_store(), images=np.arange(6 * 1000 * 1000).astype(np.uint8).reshape(6, 1000, 1000))
    store = open_store(KEY, lambda: large)
    assert len(pickle.dumps(store)) < 1000
    there = pickle.loads(pickle.dumps(store))
    assert isinstance(there.images, np.memmap)
    assert_same(there, large)
    assert_same(pickle.loads(pickle.dumps(make_store())), make_store())  # one that was never written


def test_a_parse_that_fails_leaves_nothing(own_cache: Path) -> None:
    def fails() -> Store:
        raise ValueError("bad row")

    def cannot_be_written() -> Store:
        return replace(make_store(), subject=[lambda: 0])  # type: ignore[arg-type]

    for parse in (fails, cannot_be_written):
        with pytest.raises(Exception):  # noqa: B017 - whatever the parser raises comes through
            open_store(KEY, parse)
        assert [path for path in own_cache.iterdir() if path.suffix != ".lock"] == []
    assert_same(open_store(KEY, make_store), make_store())


def test_a_killed_parse_is_not_taken_for_a_store(own_cache: Path) -> None:
    """What is left by a kill between two files: a temporary folder."""
    open_store(KEY, make_store)
    whole = folder_of_store(own_cache)
    left = whole.rename(own_cache / f".{whole.name}.0a1b.tmp")
    (left / "manifest.json").unlink()
    assert_same(open_store(KEY, make_store), make_store())
    assert whole.is_dir() and not left.exists(), "and what was left is cleared"


def open_slowly(log: str) -> None:
    def parse() -> Store:
        with Path(log).open("a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(1)
        return make_store()

    assert_same(open_store(KEY, parse), make_store())


def test_of_two_processes_one_parses(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")  # a spawned process would import everything first
    processes = [context.Process(target=open_slowly, args=(str(tmp_path / "log"),)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert len((tmp_path / "log").read_text().splitlines()) == 1
    assert_same(open_store(KEY, forbidden), make_store())


@pytest.mark.parametrize("kept", [6, 4])
def test_room_on_disk_becomes_the_store_and_is_never_left_behind(own_cache: Path, kept: int) -> None:
    inode = 0

    def parse(fails: bool = False) -> Store:
        nonlocal inode
        images = room((6, 4, 4))
        images[:] = make_store().images
        (file,) = own_cache.glob(".*.npy")
        inode = file.stat().st_ino
        if fails:
            raise FerlError("stopped")
        return replace(make_store(), images=images if kept == 6 else images[:kept])

    with pytest.raises(FerlError, match="stopped"):
        open_store(KEY, lambda: parse(fails=True))
    gc.collect()  # the error held the frames
    assert not list(own_cache.glob(".*"))
    store = open_store(KEY, parse)
    np.testing.assert_array_equal(store.images, make_store().images[:kept])
    gc.collect()
    assert not list(own_cache.glob(".*"))
    moved = (folder_of_store(own_cache) / "images.npy").stat().st_ino == inode
    assert moved == (kept == 6), "moved if it is full, copied else"


def test_room_that_is_not_there_is_refused_and_that_of_a_killed_process_is_cleared(own_cache: Path) -> None:
    with pytest.raises(FerlError, match=r"the images take [\d,]+ MiB, and the cache .* MiB free. Make room"):
        room((100_000, 100_000, 100_000))
    assert not list(own_cache.glob(".*.npy"))
    images = room((2, 4, 4))
    left = own_cache / f".{'0' * 32}.npy"
    left.write_bytes(b"left")
    for path in own_cache.glob(".*.npy"):
        os.utime(path, (0, 0))
    more = room((2, 4, 4))
    assert {path.name for path in own_cache.glob(".*.npy")} == {Path(str(x.filename)).name for x in (images, more)}  # type: ignore[attr-defined]


def test_the_arrays_of_another_store_are_copied() -> None:
    """As preprocessing does, which takes over all but the images."""
    first = open_store(KEY, make_store)
    second = open_store(KEY | {"size": 9}, lambda: first)
    assert_same(second, make_store())
    assert_same(open_store(KEY, forbidden), make_store())


def test_what_was_measured_is_not_measured_again(own_cache: Path) -> None:
    """A drawn split and the pixels' mean would else read 44 GB of AffectNet at each start."""
    images = open_store(KEY, make_store).images
    path = folder_of_store(own_cache) / "images.npy"
    stat, content = path.stat(), bytearray(path.read_bytes())
    content[-images.size :] = bytes(images.size)
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    store, wanted = open_store(KEY, forbidden), make_store().images
    assert not store.images.any(), "this test changes nothing"
    assert store.hashes.tolist() == [
        int.from_bytes(hashlib.blake2b(image.tobytes(), digest_size=8).digest(), "little") for image in wanted
    ]
    mean, std = pixel_moments(store, np.array([0, 2]))
    chosen = wanted[[0, 3, 4, 5]] / 255
    np.testing.assert_allclose((mean[0], std[0]), (chosen.mean(), chosen.std()))


def test_memory_does_not_hold_the_images(tmp_path: Path) -> None:
    """Of sixty images of 192 KiB, neither reading nor preprocessing holds more than a few."""
    for i in range(60):
        path = tmp_path / ("happy", "sad")[i % 2] / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (16, 16), (i, i, i)).save(path)
    data = ImageFolder(str(tmp_path), size=256, color=True, preprocess=["HorizontalFlip"])
    tracemalloc.start()
    try:
        assert data.raw.images.nbytes + data.store.images.nbytes > 22 << 20
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_the_cache_may_be_carried_to_another_place(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, carried = own_cache.parent / "data", own_cache.parent / "carried"
    for n in range(8):
        path = data / ["happy", "sad"][n % 2] / f"{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), n).save(path)
    options: dict[str, Any] = {"size": 8, "preprocess": [MedianFilter(3)]}
    images = ImageFolder(str(data), **options).store.images
    shutil.copytree(own_cache, carried)
    shutil.copytree(data, own_cache.parent / "copy")  # keeps times
    shutil.rmtree(data)
    (own_cache.parent / "copy").rename(data)
    shutil.rmtree(own_cache)
    monkeypatch.setenv("FERL_CACHE", str(carried))
    stores = {path.name for path in carried.iterdir() if path.is_dir()}
    assert np.array_equal(ImageFolder(str(data), **options).store.images, images)
    assert {path.name for path in carried.iterdir() if path.is_dir()} == stores  # nothing is parsed again

"""Files of any content are read, or refused in one sentence: whatever a reader raises is a ``FerlError``.

A few seconds in the continuous integration. FERL_FUZZ=100000 tries as many files a test; what fails is kept in
.hypothesis and tried first the next time. Add it to the test as an ``example``, so that it stays found.
"""

import json
import os
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ferlightning.checkpoint import load, read_checkpoint, read_header, read_state
from ferlightning.cli.configs import read
from ferlightning.cli.trust import vet
from ferlightning.data.inspection import describe, recognise
from ferlightning.data.sources.ckplus.datamodule import read_folds
from ferlightning.data.sources.table import Table
from ferlightning.errors import FerlError
from ferlightning.images.decode import decode_image
from ferlightning.sweep.file import read as read_sweep
from tests.data.fer2013_layouts import draw, write_png

fuzz = settings(
    max_examples=int(os.environ.get("FERL_FUZZ", "25")),
    deadline=None,
    derandomize="FERL_FUZZ" not in os.environ,  # the same files in every run of the continuous integration
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def allow(read: Callable[[], object]) -> None:
    """Let a reader read or refuse; everything else that it raises fails the test."""
    try:
        read()
    except FerlError as error:
        assert str(error).strip()


def spoilt(content: bytes) -> st.SearchStrategy[bytes]:
    """A file with some bytes replaced, left out or put in."""

    def apply(edits: list[tuple[int, int, bytes]]) -> bytes:
        made = content
        for place, length, new in edits:
            start = place % (len(made) + 1)
            made = made[:start] + new + made[start + length :]
        return made

    edit = st.tuples(st.integers(0, 1 << 20), st.integers(0, 40), st.binary(max_size=12))
    return st.lists(edit, min_size=1, max_size=6).map(apply)


def lines(*cells: str) -> st.SearchStrategy[bytes]:
    """Lines of cells that are nearly right, with any text among them."""
    cell = st.sampled_from(cells) | st.text(max_size=8)
    line = st.lists(cell, max_size=13).map(",".join)
    text = st.lists(line, max_size=8).map("\n".join)
    encodings = st.sampled_from(["utf-8", "utf-16", "latin-1"])
    return st.tuples(text, encodings).map(lambda drawn: drawn[0].encode(drawn[1], "replace"))


NUMBERS = ("0", "1", "10", "-1", "1_0", "٣", "nan", "1e999", "", '"', "9" * 400)
NAMES = ("0.png", "1.png", "../0.png", "/etc/passwd", "\0", "a" * 300, "sad", "happy", "Training", "PublicTest")


@fuzz
@given(content=st.binary(max_size=200) | lines("emotion", "pixels", "Usage", " ".join(["7"] * 2304), *NUMBERS, *NAMES))
def test_pixel_csv(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "fer2013.csv"
    path.write_bytes(content)
    allow(lambda: [describe(source.whole()) for source in recognise(path)])


@fuzz
@given(content=st.binary(max_size=200) | lines("path", "label", "split", "face_x", "face_width", *NUMBERS, *NAMES))
def test_table(content: bytes, tmp_path: Path) -> None:
    for i in range(2):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((8, 8), i, np.uint8))
    path = tmp_path / "labels.csv"
    path.write_bytes(content)
    for numbers in (None, "AffectNet"):
        allow(lambda numbers=numbers: Table(str(path), numbers=numbers, size=8).raw)  # type: ignore[misc]


@pytest.fixture(scope="module")
def ferplus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ferplus")
    write_png(root, draw())
    return root


@fuzz
@given(data=st.data())
def test_label_csv(data: st.DataObject, ferplus: Path) -> None:
    path = ferplus / "FER2013Train" / "label.csv"
    whole = path.with_suffix(".whole")
    if not whole.exists():
        path.rename(whole)
    path.write_bytes(
        data.draw(spoilt(whole.read_bytes()) | lines("fer0000000.png", "(0, 0, 48, 48)", *NUMBERS, *NAMES))
    )
    allow(lambda: [describe(source.whole()) for source in recognise(ferplus)])


@fuzz
@given(content=st.binary(max_size=100) | lines("subject", "fold", "S005", *NUMBERS))
def test_folds(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "folds.csv"
    path.write_bytes(content)
    allow(lambda: read_folds(path, 10))


@fuzz
@given(data=st.data(), suffix=st.sampled_from([".png", ".jpg", ".webp", ".bmp", ".tif", ".gif", ".pgm"]))
def test_image(data: st.DataObject, suffix: str, tmp_path: Path) -> None:
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)
    encoded = b"GIF89a" if suffix == ".gif" else cv2.imencode(suffix, image)[1].tobytes()
    path = tmp_path / f"x{suffix}"
    path.write_bytes(data.draw(spoilt(encoded) | st.binary(max_size=100)))
    allow(lambda: decode_image(path, color=False))
    allow(lambda: decode_image(path, color=True))


SUITE = b"""title: A
rows: [{name: A, args: [--x=1]}]
columns: [{name: B, folds: 2}]
budgets: {cpu: {args: []}}
seeds: [1]
"""
SWEEP = b"""program: train.py
method: grid
metric: {name: val/accuracy, goal: maximize}
parameters: {x: {values: [1, 2]}, y: {min: 0.1, max: 1.0, distribution: log_uniform_values}}
early_terminate: {type: hyperband, min_iter: 3}
"""
CONFIG = b"""seed_everything: 1
trainer: {max_epochs: 1, callbacks: [{class_path: EarlyStopping, init_args: {monitor: val/loss}}]}
model: {class_path: Classifier, init_args: {backbone: {class_path: ConvStack, init_args: {channels: &a [8, *a]}}}}
data: {class_path: FER2013, init_args: {root: /x}}
"""


@fuzz
@example(content=b"? {a: 1}\n: 2\n")
@example(content=b"a: 2026-13-45\n")
@example(content=b"a: " + b"9" * 5000)
@example(content=b"[" * 3000)
@example(content=b"a: !!python/object/apply:os.system [ls]\n")
@given(content=st.one_of(map(spoilt, (SUITE, SWEEP, CONFIG, CONFIG.replace(b", *a", b"")))) | st.binary(max_size=100))
def test_configuration(content: bytes, tmp_path: Path) -> None:
    from ferlightning.bench.suite import read_suite

    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    allow(lambda: vet(read(path), path, trust=False))
    allow(lambda: read_suite(path))
    allow(lambda: read_sweep(path))


def checkpoint() -> bytes:
    """A checkpoint without its compression, so that an edit meets what is inside."""
    header = {"format": 1, "network": {"class_names": ["a", "b"]}, "input": {"read_size": 48}, "training": {}}
    stored = {"state_dict": {"network.x": torch.ones(2)}, "ferlightning": header, "callbacks": {}, "epoch": 0}
    file = BytesIO()
    torch.save(stored, file)
    return file.getvalue()


def resealed(content: bytes) -> bytes:
    """The zip archive with its pickle in other bytes and right check sums."""
    made = BytesIO()
    with zipfile.ZipFile(BytesIO(checkpoint())) as old, zipfile.ZipFile(made, "w") as new:
        for entry in old.infolist():
            new.writestr(entry, content if entry.filename.endswith("data.pkl") else old.read(entry))
    return made.getvalue()


with zipfile.ZipFile(BytesIO(checkpoint())) as archive:
    PICKLE = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))


@fuzz
@example(content=resealed(b"cos\nsystem\n(S'echo ran'\ntR."))
@example(content=resealed(PICKLE[32:]))  # IndexError of torch's unpickler
@example(content=checkpoint()[31:])
@given(content=spoilt(checkpoint()) | spoilt(PICKLE).map(resealed))
def test_checkpoint(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    path.write_bytes(content)
    for device in ("cpu", "meta"):
        allow(lambda device=device: read_header(read_checkpoint(path, device), path))  # type: ignore[misc]
    allow(lambda: read_state(path))
    allow(lambda: load(path))


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=10)
    | st.sampled_from(["a", "os.system"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["class_path", "init_args", "x"]), inner)
    ),
    max_leaves=6,
)


@fuzz
@given(network=st.dictionaries(st.sampled_from(["class_names", "backbone", "head", "sequence"]), VALUES), other=VALUES)
def test_header(network: dict[str, object], other: object, tmp_path: Path) -> None:
    """What a checkpoint says of its network may be anything."""
    path = tmp_path / "x.ckpt"
    header = {"format": 1, "network": {"class_names": ["a", "b"]} | network, "input": other, "views": other}
    torch.save({"state_dict": {}, "ferlightning": header}, path)
    allow(lambda: load(path))


@fuzz
@given(data=st.data())
def test_safetensors(data: st.DataObject, tmp_path: Path) -> None:
    from safetensors.torch import save

    header = {"ferlightning": json.dumps({"format": 1, "network": {"class_names": ["a"]}})}
    path = tmp_path / "x.safetensors"
    path.write_bytes(data.draw(spoilt(save({"x": torch.ones(2)}, header))))
    allow(lambda: read_state(path))
    allow(lambda: load(path))

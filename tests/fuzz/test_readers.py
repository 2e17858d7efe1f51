"""Files of any content are read, or refused in one sentence: whatever a reader raises is a ``FerlError``.

A few seconds in the continuous integration. FERL_FUZZ=100000 tries as many files a test; what fails is kept in
.hypothesis and tried first the next time. Add it to the test as an ``example``, so that it stays found.
"""

import csv
import json
import os
import zipfile
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ferlightning.bench.results import read_results
from ferlightning.checkpoint import load, read_checkpoint, read_header, read_state
from ferlightning.cli.configs import read
from ferlightning.cli.trust import vet
from ferlightning.data.inspection import describe, recognise
from ferlightning.data.sources.ckplus.datamodule import read_folds
from ferlightning.data.sources.table import Table
from ferlightning.deploy.classifier import OnnxModel
from ferlightning.errors import FerlError
from ferlightning.images.decode import decode_image
from ferlightning.models.classifier import Classifier
from ferlightning.parts import AuxiliaryHead, ConvStack
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

    edit = st.tuples(st.integers(0, 1 << 20), st.sampled_from([0, 1, 1, 2, 4, 40]), st.binary(max_size=4))
    return st.lists(edit, min_size=1, max_size=4).map(apply)


NUMBERS = ("0", "1", "10", "-1", "1_0", "٣", "nan", "1e999", "", '"', "9" * 400)
NAMES = ("0.png", "1.png", "../0.png", "/etc/passwd", "\0", "a" * 300, "sad", "happy", "Training", "PublicTest")


def lines(*cells: str) -> st.SearchStrategy[bytes]:
    """Lines of cells that are nearly right, with any text among them."""
    cell = st.sampled_from((*cells, *NUMBERS, *NAMES)) | st.text(max_size=8)
    line = st.lists(cell, max_size=13).map(",".join)
    return encoded(st.lists(line, max_size=8))


def table(**columns: tuple[str, ...]) -> st.SearchStrategy[bytes]:
    """A table with these columns, of which most cells are right."""
    odd = NUMBERS + NAMES
    cells = [st.sampled_from(right * (10 * len(odd) // len(right)) + odd) for right in columns.values()]
    rows = st.lists(st.tuples(*cells).map(",".join), min_size=1, max_size=6)
    return encoded(rows.map(lambda drawn: [",".join(columns), *drawn]))


def encoded(rows: st.SearchStrategy[list[str]]) -> st.SearchStrategy[bytes]:
    encodings = st.sampled_from(["utf-8", "utf-8", "utf-16", "latin-1"])
    return st.tuples(rows.map("\n".join), encodings).map(lambda drawn: drawn[0].encode(drawn[1], "replace"))


PIXELS = table(emotion=("0", "1", "6"), pixels=(" ".join(["7"] * 256),), Usage=("Training", "PublicTest"))
PATHS = table(path=("0.png", "1.png"), label=("sad", "happy"), split=("train", "val"), face_x=("1", "3", ""))


@fuzz
@given(content=st.binary(max_size=200) | lines("emotion", "pixels", "Usage") | PIXELS | PIXELS.flatmap(spoilt))
@example(content=b"emotion,pixel,0,\n1")
def test_pixel_csv(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "fer2013.csv"
    path.write_bytes(content)
    allow(lambda: [describe(source.whole()) for source in recognise(path)])


@fuzz
@given(content=st.binary(max_size=200) | lines("path", "label", "split", "face_x") | PATHS | PATHS.flatmap(spoilt))
def test_table(content: bytes, tmp_path: Path) -> None:
    for name in ("0.png", "1.png"):
        if not (tmp_path / name).exists():
            cv2.imwrite(str(tmp_path / name), np.full((8, 8), 7, np.uint8))
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
    path.write_bytes(data.draw(spoilt(whole.read_bytes()) | lines("fer0000000.png", "(0, 0, 48, 48)")))
    allow(lambda: [describe(source.whole()) for source in recognise(ferplus)])


@fuzz
@given(content=st.binary(max_size=100) | lines("subject", "fold") | table(subject=("S005", "S010"), fold=("0", "9")))
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


def stored() -> dict[str, Any]:
    """What a checkpoint of a small network holds, with a second head."""
    second = partial(AuxiliaryHead, labels="other", class_names=["a", "c"])
    model = Classifier(["a", "b"], backbone=partial(ConvStack, channels=(4,), depth=1), losses=[second])
    made: dict[str, Any] = {"state_dict": model.state_dict(), "callbacks": {}, "epoch": 0}
    model.on_save_checkpoint(made)
    return made


STORED = stored()


def checkpoint() -> bytes:
    file = BytesIO()
    torch.save(STORED, file)
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
    | st.integers(-3, 300)  # a network of 10**9 channels is built, or memory ends
    | st.floats()
    | st.text(max_size=10)
    | st.sampled_from(["a", "os.system", "torch.nn.Module", "ferlightning.parts.LinearHead"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["class_path", "init_args", "x"]), inner)
    ),
    max_leaves=6,
)


def replaced(data: st.DataObject, whole: Any, *keys: str) -> Any:
    """A copy of plain values with one of them replaced, or one of the keys added."""
    made = node = deepcopy(whole)
    while True:
        key = data.draw(st.sampled_from([*node, *keys] if isinstance(node, dict) else range(len(node))))
        below = node[key] if isinstance(node, list) else node.get(key)
        if not isinstance(below, dict | list) or not below or data.draw(st.booleans()):
            node[key] = data.draw(VALUES)
            return made
        node = below


@fuzz
@given(data=st.data(), view=st.sampled_from([None, "other", ["a", "c"]]))
def test_header(data: st.DataObject, view: Any, tmp_path: Path) -> None:
    """A checkpoint may say anything of its network."""
    path = tmp_path / "x.ckpt"
    torch.save(STORED | {"ferlightning": replaced(data, STORED["ferlightning"], "members")}, path)
    allow(lambda: load(path, view=view))


def exported(said: object) -> bytes:
    """A network for two classes in ONNX's format, and what it says of itself."""
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("Concat", ["mean", "mean"], ["probabilities"], axis=1),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", 1, 8, 8])
    probabilities = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 2])
    graph = helper.make_graph(nodes, "network", [image], [probabilities])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"ferlightning": json.dumps(said)})
    return model.SerializeToString()


PART = {"class_path": "ferlightning.images.preprocess.CLAHE", "init_args": {}}
IMAGES = {"size": [8, 8], "read_size": 8, "color": False, "clips": False, "margin": 0.0, "preprocess": [PART]}


@fuzz
@given(data=st.data())
def test_onnx(data: st.DataObject, tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(exported(replaced(data, {"class_names": ["a", "b"], "views": {}, "input": IMAGES}, "views")))
    allow(lambda: OnnxModel(path)([[np.zeros((9, 9, 3), np.uint8)]]))


RUN = {"budget": "b", "suite": {
    "title": "T", "rows": [{"name": "A", "args": []}], "columns": [{"name": "B"}], "budgets": {"b": {"args": []}},
    "seeds": [1],
}}  # fmt: skip
LINE = {
    "system": "A", "data": "B", "fold": "", "seed": "1", "step": "main", "test": "B", "split": "test", "images": "all",
    "n": "2", "classes": '["a", "b"]', "confusion": "[[1, 0], [0, 1]]", "accuracy": "1.0", "accuracy_low": "0.3",
    "accuracy_high": "1.0", "notes": "[]", "versions": "{}", "step_seconds": "1.5", "right": "c0", "person": "1 2",
}  # fmt: skip


@fuzz
@given(data=st.data())
def test_results(data: st.DataObject, tmp_path: Path) -> None:
    """A csv of results, with one cell of any text or any bytes replaced."""
    path, line = tmp_path / "x.csv", LINE | {data.draw(st.sampled_from([*LINE])): str(data.draw(VALUES))}
    (tmp_path / "x.yaml").write_text(json.dumps(RUN))
    with path.open("w", newline="", encoding="utf-8", errors="replace") as file:
        csv.writer(file).writerows([line.keys(), line.values()])
    if data.draw(st.booleans()):
        path.write_bytes(data.draw(spoilt(path.read_bytes())))
    allow(lambda: [(x.score("accuracy"), x.interval("accuracy"), x.n, x.right) for x in read_results(path).all])


@fuzz
@given(data=st.data())
def test_safetensors(data: st.DataObject, tmp_path: Path) -> None:
    from safetensors.torch import save

    header = {"ferlightning": json.dumps({"format": 1, "network": {"class_names": ["a"]}})}
    path = tmp_path / "x.safetensors"
    path.write_bytes(data.draw(spoilt(save({"x": torch.ones(2)}, header))))
    allow(lambda: read_state(path))
    allow(lambda: load(path))

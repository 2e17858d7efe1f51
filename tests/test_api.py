"""The Python API: every piece of docs/python.md, and what it promises of arrays, ranges and shapes."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose

import ferlightning as ferl
from ferlightning.cli.main import COMMANDS, main
from ferlightning.data import SyntheticFaces
from ferlightning.predictions import summary, write_predictions

PAGE = (Path(__file__).parents[1] / "docs" / "python.md").read_text("utf-8")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with FACES of two classes."""
    folder = tmp_path_factory.mktemp("python")
    faces = SyntheticFaces(items_per_class=6, subjects=6)
    for label, name in enumerate(("happy", "sad")):
        (folder / "FACES" / name).mkdir(parents=True)
        for i, n in enumerate(np.flatnonzero(faces.label == label)[:4]):
            cv2.imwrite(str(folder / "FACES" / name / f"{i}.png"), cv2.resize(faces.store.images[n], (61, 70)))
    return folder


@pytest.mark.slow
def test_the_page_has_its_examples_and_their_results_are_right(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos)
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 11
    for block in blocks:
        exec(block, names)  # the point of this test
    assert names["faces"].probabilities.shape == (2, 8) and Path("predictions.csv").is_file()
    assert names["images"].shape[:3] == (1, 1, 1) and names["probabilities"].shape == (1, 7)
    run, other = names["run"], names["other"]
    assert run.best.is_file() and run.folder.parent.name == "first" and other.folder.parent.name == "other"
    for scores in (run.validation, names["scores"]):
        score = scores.metrics["accuracy"]
        assert 0 <= score.low <= score.value <= score.high <= 1 and scores.report.is_file()
        assert "accuracy" in scores._repr_html_() and str(run.folder) in run._repr_html_()
        assert "validation" in run._repr_html_()  # no figure of a test, which `run` may have, too
    assert list(names["scores"].to_pandas().columns) == ["value", "low", "high"]
    assert names["vectors"].shape[0] == 2 and names["face"].heat.shape == (1, 48, 48)
    assert names["found"].items == names["scores"].items
    assert next(iter(names["found"].accuracy.values()))[0] == names["scores"].metrics["accuracy"].value
    assert Path("mine.onnx").is_file() and names["face"]._repr_html_().count("<img") == 2
    beside, seen = cv2.imread("face.png"), (255 * names["face"].image[0]).round()
    assert beside.shape == (48, 96, 3) and (beside[:, :48] == seen[..., None]).all()
    assert (beside[:, 48:, 2] > beside[:, 48:, 0]).any()  # heat is orange, in OpenCV's order
    assert names["face"].heat.min() >= 0 and names["face"].heat.max() <= 1


def test_every_command_has_a_name_in_python() -> None:
    table = PAGE.partition("## The commands")[2]
    for module, name in re.findall(r"`(ferlightning[\w.]*)\.(\w+)`", table):
        assert callable(getattr(import_module(module), name))
    assert {*re.findall(r"`ferl\.(\w+)`", table)} <= {*ferl.__all__}
    assert not [name for name in COMMANDS if not re.search(rf"`(ferl )?{name}\b", table) and name != "completion"]


def write_report(folder: Path, predictions: str) -> Path:
    """A report of eight images, all of class a, as a test leaves it."""
    probs = np.array([[0.9, 0.1] if said == "a" else [0.2, 0.8] for said in predictions])
    names = np.array([f"{i}.png" for i in range(len(probs))])
    write_predictions(folder / "report" / "predictions.csv", names, np.zeros(len(probs), int), probs, ["a", "b"])
    (folder / "report" / "metrics.json").write_text("{}")
    return folder


def test_a_comparison_counts_the_images_that_one_model_alone_gets_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    one, two = write_report(Path("runs/x/one"), "aabbbbab"), write_report(Path("runs/x/two"), "aaaaaabb")
    found = ferl.compare({"one": one, "two": two})
    (pair,) = found.pairs
    assert (pair.only_a, pair.only_b, pair.difference) == (1, 4, -3 / 8)
    assert pair.p == pytest.approx(2 * (1 + 5) / 2**5)  # the binomial distribution of 5 images, one or fewer, both ends
    assert {name: value for name, (value, _) in found.accuracy.items()} == {"one": 3 / 8, "two": 6 / 8}
    assert [row["name"] for row in found.differences] == ["2.png", "3.png", "4.png", "5.png", "6.png"]
    assert found.differences[0] == {"name": "2.png", "label": "a", "one": "b", "two": "a"}
    assert str(ferl.compare(ferl.Run(one), two)) == str(found)
    main(["compare", "runs/x/one/", "runs/x/two", "--csv=new/differ.csv"])
    shown = capsys.readouterr().out
    assert "one minus two: -37.50 points" in shown and "p 0.375: too few images to tell" in shown
    assert Path("new/differ.csv").read_text().splitlines()[:2] == ["name,label,one,two", "2.png,a,b,a"]
    few = ferl.compare({"one": one, "few": write_report(Path("runs/x/few"), "aab")})
    assert str(few).startswith("test, 3 images that all have in common; evaluated were 8 of one, 3 of few\n")
    ferl.compare({"one": one, "=two": two}).to_csv("formula.csv")
    assert Path("formula.csv").read_text().splitlines()[0] == "name,label,one,'=two"


def test_many_faces_go_through_the_network_in_batches() -> None:
    network, faces = ferl.load("ferl-nano"), np.random.default_rng(0).integers(0, 256, (7, 48, 48), np.uint8)
    sizes: list[int] = []
    network.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    found = ferl.embed(network, faces, batch=3)
    assert sizes == [3, 3, 1]
    with torch.inference_mode():
        assert_allclose(found, network(ferl.prepare(network, faces)).embedding, atol=1e-4)
    ferl.predict(network, faces, batch=4)
    assert sizes[4:] == [4, 3]
    for function in (ferl.embed, ferl.predict):
        with pytest.raises(ferl.FerlError, match="batch is 0"):
            function(network, faces, batch=0)


@pytest.mark.parametrize(
    ("damage", "said"),
    [(lambda text: text[: text.index("4.png")], "4 of 8 images"),
     (lambda text: text.replace(",", ";"), "no column 'name'"), (lambda text: text[:-3] + "\udce9", "utf-8")],
    ids=["cut", "semicolons", "utf-8"],
)  # fmt: skip
def test_predictions_that_are_damaged_are_not_compared(damage: Callable[[str], str], said: str, tmp_path: Path) -> None:
    one, two = (write_report(tmp_path / name, "aabbbbab") for name in ("one", "two"))
    path = one / "report" / "predictions.csv"
    (one / "report" / "metrics.json").write_text('{"n": 8}')
    path.write_text(damage(path.read_text("utf-8")), "utf-8", "surrogateescape")
    with pytest.raises(
        ferl.FerlError, match=re.escape(f"{path} is not as it was written: ") + f".*{said}.*ferl test {one}"
    ):
        ferl.compare({"one": one, "two": two})


def test_arrays_get_what_their_file_gets_whatever_their_form(photos: Path) -> None:
    network, path = ferl.load("ferl-small"), photos / "FACES" / "happy" / "1.png"
    grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    with torch.inference_mode():
        expected = network(ferl.prepare(network, path)).logits.softmax(1)
        tensor = torch.from_numpy(grey)
        for crop in (
            grey, [grey], grey / 255, grey[:, :, None], np.stack([grey] * 3, 2), grey[None], grey[None, None],
            [np.stack([grey] * 3)], [tensor[None].half() / 255], (tensor / 255).expand(1, 3, -1, -1),
        ):  # fmt: skip
            assert_allclose(network(ferl.prepare(network, crop)).logits.softmax(1), expected, atol=1e-5)
    exported = ferl.Recognizer("ferl-small", detector="none").predict(grey)
    assert_allclose(exported.probabilities, expected, atol=1e-5)
    assert_allclose(ferl.predict(network, iter([path, grey])).probabilities, expected.repeat(2, 1), atol=1e-5)
    told = ferl.predict(network, path.parent)
    assert told.names == sorted(map(str, path.parent.iterdir()))
    assert summary(told.names[:1], told.probabilities[:1], told.class_names).startswith(
        f"{told.names[0]}: {told.labels[0]}, "
    )
    few = summary(list("abcdef"), np.eye(3)[[1, 0, 1, 2, 1, 0]], ["x", "y", "z"])
    assert few == "6 items: y 3, x 2, z 1"
    assert exported.labels[0] in exported._repr_html_() and list(exported.to_pandas().prediction) == exported.labels
    with torch.inference_mode():  # a still needs no axis of frames
        assert_allclose(network(ferl.prepare(network, grey)[:, 0]).logits.softmax(1), expected, atol=1e-5)


def test_what_a_call_cannot_take_is_answered_in_words(tmp_path: Path) -> None:
    network = ferl.load("ferl-small")
    for image, said in {
        torch.full((1, 1, 48, 48), 128.0): "floats in \\[0, 1\\].*to 128",
        torch.zeros(1, 1, 48, 48, dtype=torch.uint8): "torch.uint8",
        torch.zeros(48, 48): r"not \(48, 48\)",
        torch.zeros(1, 3, 48, 48): "built for 1 channels",
        torch.full((1, 1, 48, 48), float("nan")): "floats in",
    }.items():
        with pytest.raises(ferl.FerlError, match=said):
            network(image)
    grey = np.zeros((24, 9, 9), np.uint8)
    calls: dict[str, Any] = {
        "there are 4 images and 2 labels": lambda: ferl.from_arrays(np.zeros((4, 9, 9), np.uint8), [0, 1]),
        "24 images and an array of the shape \\(24, 2\\) as labels": lambda: ferl.from_arrays(
            grey, np.eye(2)[[0, 1] * 12]
        ),
        "labels\\[1\\] is None": lambda: ferl.from_arrays(grey, ["a", None] * 12),
        "labels\\[2\\] is nan, expected the name": lambda: ferl.from_arrays(grey, ["a", "b", float("nan"), "b"] * 6),
        "labels\\[1\\] is None, expected the name": lambda: ferl.from_arrays(
            grey, pd.Series(["a", pd.NA] * 12, dtype=object)
        ),
        "labels\\[0\\] is 0.5": lambda: ferl.from_arrays(grey, [0.5, 1.0] * 12),
        "size is 0": lambda: ferl.from_arrays(grey, [0, 1] * 12, size=0),
        "None in place of pictures": lambda: ferl.from_arrays(None, [0, 1]),
        "pictures are a dict: give its values as a list": lambda: ferl.predict("ferl-small", {"a": grey}),
        "two classes": lambda: ferl.from_arrays(np.zeros((4, 9, 9), np.uint8), [0, 0, 0, 0]),
        r"write one colour picture as \(H, W, 3\)": lambda: ferl.prepare(network, np.zeros((3, 48, 48), np.uint8)),
        "partial\\(SyntheticFaces": lambda: ferl.fit(data=SyntheticFaces()),
        r"ResNet is a backbone: give options of Classifier, \{'backbone': 'ResNet'\}": lambda: ferl.fit("ResNet"),
        "by from_arrays": lambda: ferl.fit(data=grey),
        "expected a list of options": lambda: ferl.test("ferl-small", words="--data=FER2013"),  # type: ignore[arg-type]
        "is no plain value": lambda: ferl.fit(data="SyntheticFaces", callbacks=[object()]),
        "model is 5": lambda: ferl.fit(5, "SyntheticFaces"),  # type: ignore[arg-type]
        r"compare\(run, other\)": lambda: ferl.compare([tmp_path, tmp_path]),  # type: ignore[arg-type]
        r"by name, compare\(\{": lambda: ferl.compare(tmp_path),
        "grey alone": lambda: ferl.prepare(network, np.zeros((48, 48, 2), np.uint8)),
        "no pictures": lambda: ferl.prepare(network, []),
        "one picture, not 4": lambda: ferl.explain(network, [*grey[:4]]),
        "no slot 'nose'": lambda: ferl.components("nose"),
        "at least two": lambda: ferl.compare({}),
        "is no run folder": lambda: ferl.compare({"a": tmp_path, "b": tmp_path}),
        "train on what": lambda: ferl.fit(),
        "batch is '4'": lambda: ferl.predict(network, grey, batch="4"),  # type: ignore[arg-type]
        "'' in place of pictures": lambda: ferl.predict(network, ""),  # and not all of the working folder
        "'' in place of a path": lambda: ferl.load(ferl.api.Run("")),  # type: ignore[arg-type]
        "data is '', expected": lambda: ferl.fit(data=""),
        "device meta": lambda: ferl.predict(network, torch.zeros(9, 9, device="meta")),
        "size is True": lambda: ferl.from_arrays(grey, [0, 1] * 12, size=True),
        "color is 'no'": lambda: ferl.from_arrays(grey, [0, 1] * 12, color="no"),
        "size is 10000000": lambda: ferl.from_arrays(grey, [0, 1] * 12, size=10**7),
        "words is None": lambda: ferl.test("ferl-small", words=None),  # type: ignore[arg-type]
        "words: --help shows": lambda: ferl.fit(data="SyntheticFaces", words=["--help"]),
        "words: --print_config shows": lambda: ferl.fit(data="SyntheticFaces", words=["--print_config"]),
        r"is trained already; did you mean fit\(data=..., start": lambda: ferl.fit(network),  # type: ignore[arg-type]
        "goes on in its own folder": lambda: ferl.fit(resume=tmp_path, name="other"),
        "no run folder": lambda: ferl.api.Run(tmp_path / "gone").best,
        "format is 'tflite', expected onnx": lambda: ferl.api.Run(tmp_path).export("a", format="tflite"),
    }
    for said, call in calls.items():
        with pytest.raises(ferl.FerlError, match=said):
            call()


@pytest.mark.parametrize(
    "labels",
    [
        [torch.tensor(n % 2) for n in range(24)], torch.arange(24).float() % 2, [b"0", b"1"] * 12, [0.0, 1.0] * 12,
        np.array([0, 1] * 12, np.int8),
    ],
)  # fmt: skip
def test_labels_are_those_numbers_however_they_are_held(
    labels: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FERL_CACHE", str(tmp_path))
    images = (torch.arange(24).reshape(24, 1, 1).expand(24, 9, 9) / 255).bfloat16().requires_grad_()
    data = ferl.from_arrays(images, labels, subjects=[None] * 24, size=9)
    assert data.class_names == ["0", "1"] and data.label.tolist() == [0, 1] * 12
    assert set(data.arrays["subjects"]) == {""}  # nobody is known, and not one person
    data = ferl.from_arrays(images, labels, subjects=["a", float("nan")] * 12, size=9)
    assert set(data.arrays["subjects"]) == {"a", ""}


def test_options_of_the_trainer_are_words_and_a_model_is_a_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = ferl.fit(
        partial(ferl.Classifier, backbone="ConvStack"), partial(SyntheticFaces, items_per_class=4),
        accelerator="cpu", precision="32-true", max_epochs=0, logger=False, default_root_dir=tmp_path / "r",
    )  # fmt: skip
    assert run.folder == tmp_path / "r" and "accelerator: cpu" in (run.folder / "config.yaml").read_text()


def test_an_export_returns_the_file_that_it_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = ferl.fit(
        partial(ferl.Classifier, backbone="ConvStack"),
        partial(SyntheticFaces, items_per_class=6, subjects=3),
        max_epochs=1,
    )
    assert run.export("mine", format="safetensors") == Path("mine.safetensors")
    assert Path("mine.safetensors").is_file()


def test_a_recogniser_and_the_names_need_no_torch(tmp_path: Path) -> None:

    code = (
        "import sys, ferlightning as f; f.Recognizer, f.Predictions; assert not {'torch', 'lightning'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def test_a_network_in_bfloat16_answers_as_in_single_precision() -> None:
    faces = np.random.default_rng(0).random((2, 48, 48))
    half, network = ferl.load("ferl-small").bfloat16(), ferl.load("ferl-small")
    assert_allclose(ferl.predict(half, faces).probabilities, ferl.predict(network, faces).probabilities, atol=0.05)
    assert ferl.embed(half, faces).dtype == np.float32


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"metrics": {"accuracy": 1}, "n": 1, "per_class": {}}'])
def test_a_damaged_report_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "metrics.json").write_text(content)
    with pytest.raises(ferl.FerlError, match=r"report.metrics.json is damaged.*test the run again"):
        _ = ferl.api.Run(tmp_path).tested


def test_trainings_of_two_threads_wait_for_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = {"backbone": {"class_path": "ConvStack", "init_args": {"channels": [4], "depth": 1}}}
    data = partial(SyntheticFaces, items_per_class=4)
    alone: list[int] = []

    class Watch(threading.Thread):
        def run(self) -> None:
            self.folder = ferl.fit(small, data, max_epochs=0, precision="32-true").folder
            alone.append(len(list(tmp_path.glob("runs/default/2*"))))

    threads = [Watch(), Watch()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {thread.folder.parent for thread in threads} == {tmp_path / "runs" / "default"}
    assert sorted(alone) == [1, 2] and Path.cwd() == tmp_path


def test_ctrl_c_in_a_training_is_a_keyboard_interrupt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it

    def interrupt() -> None:
        written: set[int] = set()
        while len(written) < 4:  # so that some epochs are whole
            written |= {path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/2*/checkpoints/last.ckpt")}
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            ferl.fit({"backbone": "ConvStack"}, partial(SyntheticFaces, items_per_class=4), max_epochs=500)
    finally:
        signal.signal(signal.SIGINT, before)
    folder = next(path for path in tmp_path.glob("runs/default/2*"))
    with pytest.raises(ferl.FerlError, match="max_epochs=1"):  # Lightning's answer, in words as on the command line
        ferl.fit(resume=folder, max_epochs=1)

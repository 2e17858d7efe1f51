"""The commands from Python: the same options underneath, plain objects as results."""

import hashlib
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jsonargparse import ArgumentParser
from numpy.typing import NDArray
from torch import Tensor

from ferlightning import checkpoint
from ferlightning.bench.compare import Comparison, by_place
from ferlightning.bench.compare import compare as compare_folders
from ferlightning.cli import index
from ferlightning.cli.components import Component
from ferlightning.cli.components import components as every_component
from ferlightning.cli.configs import expand
from ferlightning.cli.main import run_trainer
from ferlightning.cli.messages import meant
from ferlightning.cli.mistakes import mistake_of
from ferlightning.cli.saved import training_data
from ferlightning.contracts.modules import Output
from ferlightning.data.audit.checks import audit as audit_data
from ferlightning.data.datamodule import FaceData
from ferlightning.data.inspection import describe as describe_data
from ferlightning.data.inspection import first, recognise
from ferlightning.data.sources.arrays import Arrays
from ferlightning.data.sources.columns import text
from ferlightning.data.transforms import build_preprocess
from ferlightning.deploy.pictures import Order, as_array, as_faces
from ferlightning.described import describe
from ferlightning.errors import FerlError
from ferlightning.evaluation.explain import Explanation, explain_image
from ferlightning.export.commands import export
from ferlightning.files import cache_dir, replacing
from ferlightning.images.decode import resize_to_square
from ferlightning.models.network import Network, NetworkEnsemble, spelled_names
from ferlightning.plugins import CALLBACK, SLOTS
from ferlightning.predictions import Predictions

Trained = Network | NetworkEnsemble
MOST_SIZE = 4096
"""Pixels of a side of the images of ``from_arrays``, at most: a slip of the key would fill the memory."""


@dataclass(frozen=True)
class Score:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4g} ({self.low:.4g} to {self.high:.4g})"


@dataclass(frozen=True)
class Scores:
    """What a report says of a split.

    Attributes:
        items: how many were evaluated.
        metrics: by name, such as ``accuracy`` or ``macro_f1``.
        per_class: recall, precision, F1 and more of each class; None for the recall of a class without items.
        report: the page.
    """

    items: int
    metrics: dict[str, Score]
    per_class: dict[str, dict[str, float | None]]
    report: Path

    def to_pandas(self) -> Any:
        """The metrics as a DataFrame: value, low and high; needs pandas."""
        import pandas as pd

        return pd.DataFrame({name: vars(score) for name, score in self.metrics.items()}).T

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><td>{escape(name)}</td><td>{score}</td></tr>" for name, score in self.metrics.items())
        return f"<table>{rows}</table><p>{self.items:,} items</p>"


@dataclass(frozen=True)
class Run:
    """A training: its folder, and what is in it."""

    folder: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(_place(self.folder)))

    @property
    def best(self) -> Path:
        """The checkpoint of the best epoch on validation."""
        if not self.folder.is_dir():
            raise FerlError(f"there is no run folder {self.folder}")
        return checkpoint.checkpoint_of(self.folder)

    @property
    def validation(self) -> Scores:
        """The report on validation."""
        return _scores(self.folder / "report_val")

    @property
    def tested(self) -> Scores:
        """The report of ``test``."""
        return _scores(self.folder / "report")

    def load(self) -> Trained:
        """The trained network."""
        return checkpoint.load(self.folder)

    def export(self, out: str | Path, **options: Any) -> Path:
        """Write the best checkpoint as a file that runs without ferlightning, as ``ferl export`` does.

        Args:
            out: the file, or the folder of a page.
            options: such as ``format="web"`` or ``int8=True``, which is measured on the run's training data unless you
                give other ``data``.
        """
        if options.get("int8") and options.get("data") is None:
            options["data"] = _training_data(self.folder, options.get("trust", False))
        return export(str(self.folder), _place(out), **options)

    def _repr_html_(self) -> str:
        there = (self.folder / "report_val").is_dir()
        scores = f"<p>On validation, by which the epoch was chosen:</p>{self.validation._repr_html_()}" if there else ""
        return f"<p><code>{escape(str(self.folder))}</code></p>{scores}"


def prepare(network: str | Path | Run | Trained, crops: Any, order: Order = "rgb") -> Tensor:
    """Faces that were cut out, as a network of ``load`` takes them: (N, 1, C, H, W) in [0, 1].

    Args:
        network: it knows the size, colour and preprocessing of its images; or a run, a checkpoint or a name.
        crops: a path, a folder, an array (H, W[, C]) of uint8 or of floats in [0, 1], or several of these.
        order: of the colours of arrays; OpenCV's are ``bgr``.
    """
    return _prepared(_network(network), crops, order)[1]


def _network(model: str | Path | Run | Trained) -> Trained:
    """What ``load`` returns of a model, unless it is loaded already."""
    if isinstance(model, Network | NetworkEnsemble):
        return model
    if not isinstance(model, str | Path | Run):
        kind = type(model).__name__
        raise FerlError(
            f"there is a {kind} in place of a model: give a run, a checkpoint, a name, or what load returned"
        )
    if _place(model).endswith((".onnx", ".pt2")):
        raise FerlError(f"{model} is an export: use Recognizer({str(model)!r}, detector='none').predict(faces)")
    return checkpoint.load(_place(model))


def _prepared(network: Trained, crops: Any, order: Order) -> tuple[list[str], Tensor]:
    """The names of faces, and the faces as of ``prepare``."""
    known = network.input
    if "read_size" not in known:
        raise FerlError("the model does not tell the size of its images: it was trained on data of another kind")
    names, faces = as_faces(crops, known["color"], order)
    if not faces:
        raise FerlError("there are no pictures")
    parts, images = build_preprocess(known.get("preprocess", [])), []
    for face in faces:
        image = resize_to_square(face, known["read_size"]).reshape(known["read_size"], known["read_size"], -1)
        for part in parts:
            image = part(image)
        images.append(image.transpose(2, 0, 1))
    return names, torch.from_numpy(np.stack(images)).float().unsqueeze(1) / 255


def predict(model: str | Path | Run | Trained, crops: Any, order: Order = "rgb", batch: int = 64) -> Predictions:
    """What a run, a checkpoint, named weights or a loaded network says of faces that were cut out.

    Args:
        model: as of ``load``, or what it returned.
        crops: a path, a folder, an array (H, W[, C]) of uint8 or of floats in [0, 1], or several of these.
        order: of the colours of arrays; OpenCV's are ``bgr``.
        batch: most faces that are classified at once.
    """
    network = _network(model)
    names, images = _prepared(network, crops, order)
    probabilities = [output.logits.softmax(1) for output in _outputs(network, images, batch)]
    return Predictions(names, spelled_names(network), torch.cat(probabilities).float().numpy())


def embed(
    network: str | Path | Run | Trained, crops: Any, order: Order = "rgb", batch: int = 64
) -> NDArray[np.float32]:
    """The embeddings of faces that were cut out, (N, E); arguments as of ``predict``."""
    network = _network(network)
    embeddings = [output.embedding for output in _outputs(network, prepare(network, crops, order), batch)]
    found: NDArray[np.float32] = torch.cat(embeddings).float().numpy()
    return found


def _outputs(network: Trained, images: Tensor, batch: int) -> list[Output]:
    """What a network returns for images as of ``prepare``, so many at once."""
    if not isinstance(batch, int) or batch < 1:
        raise FerlError(f"batch is {batch!r}, expected a number from 1")
    with torch.inference_mode():
        return [network(part) for part in torch.split(images, batch)]


def explain(network: str | Path | Run | Trained, crop: Any, order: Order = "rgb") -> Explanation:
    """Where a network looks in a face that was cut out: its attention, or Grad-CAM; arguments as of ``prepare``.

    Raises:
        FerlError: the network is an ensemble, or has no part that tells.
    """
    network = _network(network)
    images = prepare(network, crop, order)
    if len(images) > 1:
        raise FerlError(f"explain takes one picture, not {len(images)}")
    found = explain_image(network, images)
    if found is None:
        raise FerlError("the model does not tell where it looks: it is an ensemble, or its tokens are whole images")
    return found


def from_arrays(
    images: Any, labels: Sequence[Any], subjects: Sequence[Any] | None = None, size: int = 48, color: bool = False,
    order: Order = "rgb", **options: Any,
) -> Arrays:  # fmt: skip
    """A data module of arrays, which are kept in the cache, so that a run of them can be tested later.

    Args:
        images: N of any size, grey or colour, uint8 or floats in [0, 1]; a list, or an array (N, H, W[, C]).
        labels: (N,) names or numbers of classes; a list, an array or a tensor.
        subjects: (N,) who is shown, None where that is unknown; then nobody is in two splits.
        size: height and width to which images are resized.
        color: keep colours.
        order: of the colours of arrays; OpenCV's are ``bgr``.
        options: those of every data set, such as ``batch_size`` and ``augment``.
    """
    if type(size) is not int or not 1 <= size <= MOST_SIZE:
        raise FerlError(f"from_arrays: size is {size!r}, expected a number of pixels from 1 to {MOST_SIZE}")
    if not isinstance(color, bool):
        raise FerlError(f"from_arrays: color is {color!r}, expected True or False")
    known = [name for name in signature(FaceData.__init__).parameters if name != "self"]
    if wrong := next((name for name in options if name not in known), None):
        raise FerlError(f"from_arrays has no option {wrong!r}{meant(wrong, known)}")
    _, faces = as_faces(images, color, order)
    if not faces:
        raise FerlError("from_arrays: there are no images")
    columns: dict[str, Any] = {"labels": _column("labels", labels, len(faces))}
    if subjects is not None:
        columns["subjects"] = _column("subjects", subjects, len(faces))
    file = io.BytesIO()
    np.savez(file, images=np.stack([resize_to_square(face, size) for face in faces]), **columns)
    cache = cache_dir() / "arrays"
    path = cache / f"{hashlib.sha256(file.getvalue()).hexdigest()[:16]}.npz"
    if not path.is_file():
        with replacing(path) as temporary:
            temporary.write_bytes(file.getvalue())
    data = Arrays(str(path), **options)
    data.made_of = {"root": str(path), **{name: describe(value) for name, value in options.items()}}
    return data


def _column(name: str, values: Any, count: int) -> NDArray[np.str_]:
    """Labels or subjects as text, empty where unknown."""
    given = as_array(values)
    column = np.asarray(given, object) if isinstance(given, list | tuple) else np.asarray(given)  # not-a-number no text
    if column.shape != (count,):
        found = len(column) if column.ndim == 1 else f"an array of the shape {column.shape} as"
        raise FerlError(f"from_arrays: there are {count} images and {found} {name}; give one for each image")
    cells = []
    for n, value in enumerate(column.tolist()):
        value = value.tolist() if hasattr(value, "tolist") else None if type(value).__name__ == "NAType" else value
        value = int(value) if isinstance(value, float) and value.is_integer() else value
        cell = text(value, f"from_arrays: {name}[{n}]")
        if name == "labels" and (not cell or isinstance(value, float)):
            raise FerlError(f"from_arrays: labels[{n}] is {value!r}, expected the name or number of a class")
        cells.append(cell)
    return np.array(cells, np.str_)


def fit(
    model: str | Mapping[str, Any] | None = None, data: Any = None, *, start: str | Path | Run | None = None,
    resume: str | Path | Run | None = None, name: str | None = None, words: Sequence[str] = (), **trainer: Any,
) -> Run:  # fmt: skip
    """Train a model as ``ferl fit`` does.

    Args:
        model: the name of a configuration, such as ``models/cnn``, or options of ``Classifier``, such as
            ``{"backbone": "ResNet"}``, whose values are names, classes, partials of classes, or plain; None: defaults.
        data: a folder, the name of a data set, a class or a partial of one, or what ``from_arrays`` returned.
        start: weights to start from, with their network if no model is given.
        resume: a run to go on with.
        name: of the run: its folder is runs/NAME/TIME.
        words: more options as on the command line, such as ``--data.batch_size=8``.
        trainer: options of the trainer, such as ``max_epochs=5``.
    """
    given = [f"--{key}={_place(value)}" for key, value in (("from", start), ("ckpt_path", resume)) if value is not None]
    if isinstance(model, str) and Path(model).is_dir():
        raise FerlError(f"fit: {model} is a folder, not a model; did you mean fit(data={model!r})?")
    if isinstance(model, Run | Trained):
        raise FerlError("fit: the first argument is trained already; did you mean fit(data=..., start=RUN)?")
    if isinstance(model, FaceData):
        raise FerlError(f"fit: the first argument, {type(model).__name__}, is a data set; did you mean fit(data=...)?")
    if name and resume is not None and Path(_place(resume)).is_dir():
        raise FerlError(f"fit: {resume} goes on in its own folder, so name={name!r} would change nothing: leave it out")
    if isinstance(model, str):
        if model in index.parts("backbone"):
            raise FerlError(f"fit: {model} is a backbone: give options of Classifier, {{'backbone': {model!r}}}")
        given.insert(0, f"--config={model}")
    elif model is not None:
        options = describe(model)
        if not isinstance(options, dict):
            raise FerlError(f"model is {model!r}, expected the name of a configuration, or options of Classifier")
        whole = options if "class_path" in options else {"class_path": "Classifier", "init_args": options}
        given.append("--model=" + json.dumps(whole))
    given += [*_data_words(data), *([f"--name={name}"] if name else []), *_more_words(words, trainer)]
    return Run(_run(["fit", *given]))


def _run(args: list[str]) -> Path:
    """What a command of Lightning's returns; its mistakes are told as on the command line."""
    try:
        written = run_trainer(expand(args))
    except FerlError:
        raise
    except Exception as error:
        if mistake := mistake_of(error, args[0]):
            raise mistake from error
        raise
    assert written is not None
    return written


def test(run: str | Path | Run, data: Any = None, words: Sequence[str] = (), **trainer: Any) -> Scores:
    """Evaluate a run, a checkpoint or named weights on the test split, as ``ferl test`` does.

    Args:
        run: what to evaluate.
        data: other data than those of the run, as in ``fit``.
        words: more options as on the command line.
        trainer: options of the trainer.
    """
    return _evaluate("test", run, data, words, trainer)


def validate(run: str | Path | Run, data: Any = None, words: Sequence[str] = (), **trainer: Any) -> Scores:
    """Evaluate a run, a checkpoint or named weights on the validation split, as ``ferl validate`` does.

    Args:
        run: what to evaluate.
        data: other data than those of the run, as in ``fit``.
        words: more options as on the command line.
        trainer: options of the trainer.
    """
    return _evaluate("validate", run, data, words, trainer)


def _evaluate(
    command: str, run: str | Path | Run, data: Any, words: Sequence[str], trainer: Mapping[str, Any]
) -> Scores:
    return _scores(_run([command, _place(run), *_data_words(data), *_more_words(words, trainer)]))


test.__test__ = False  # type: ignore[attr-defined]  # no test of pytest's


def compare(*runs: str | Path | Run | Mapping[str, str | Path | Run]) -> Comparison:
    """Compare runs on the images that all of them were evaluated on, as ``ferl compare`` does.

    Args:
        runs: two or more, ``compare(run, other)``, or one mapping, ``compare({"ours": run, "theirs": other})``, whose
            names the result has in place of those of the folders.
    """
    if len(runs) == 1 and isinstance(runs[0], Mapping):
        return compare_folders({name: _place(run) for name, run in runs[0].items()})
    places = [_place(run) for run in runs if isinstance(run, str | Path | Run)]
    if len(runs) < 2 or len(places) < len(runs):
        raise FerlError("compare: give runs, compare(run, other), or by name, compare({'ours': run, 'theirs': other})")
    return compare_folders(by_place(places))


def inspect(path: str | Path) -> list[dict[str, Any]]:
    """What lies in a folder, as ``ferl data inspect`` tells it: a dictionary for each data set."""
    return [
        {"data": source.data_set, "layout": source.layout, "path": source.path} | describe_data(source.whole())
        for source in recognise(Path(_place(path)))
    ]


def audit(data: str | Path | FaceData) -> dict[str, Any]:
    """Copies, people in two splits, blank images and drift of classes, as ``ferl data audit`` finds them."""
    return audit_data(data if isinstance(data, FaceData) else first(Path(_place(data))))


def components(slot: str | None = None) -> list[Component]:
    """The parts of a slot, such as ``backbone`` or ``loss``, or callbacks, with their options; None for all."""
    known = [name for names in (*SLOTS, *CALLBACK) for name in names.split(", ")]
    if slot is not None and slot not in known:
        raise FerlError(f"there is no slot {slot!r}; the slots are {', '.join(known)}")
    return [part for part in every_component() if slot is None or slot in part.slot.split(", ")]


def _place(source: str | Path | Run) -> str:
    if not isinstance(source, str | Path | Run) or source == "":
        found = "''" if source == "" else type(source).__name__
        raise FerlError(f"there is {found} in place of a path, a name or a run")
    return str(source.folder if isinstance(source, Run) else source)


def _training_data(run: Path, trust: bool) -> FaceData | None:
    found = training_data(str(run), trust)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--data", type=FaceData | None)
    data: FaceData | None = parser.instantiate_classes(parser.parse_object({"data": found})).data
    return data


def _data_words(data: Any) -> list[str]:
    """What a data set is called on the command line."""
    if data is None:
        return []
    if isinstance(data, str | Path):
        if not str(data):
            raise FerlError("data is '', expected a folder or the name of a data set")
        return [f"--data={data}"]
    if isinstance(data, Arrays) and data.made_of:
        return ["--data=" + json.dumps({"class_path": "Arrays", "init_args": data.made_of})]
    if hasattr(data, "ndim") or isinstance(data, list | tuple):
        raise FerlError("data are arrays or a list: give their labels, too, by from_arrays(images, labels)")
    if isinstance(data, FaceData):
        name = type(data).__name__
        raise FerlError(f"give the class and its options, partial({name}, ...), so that the run can be repeated later")
    return ["--data=" + json.dumps(describe(data))]


def _more_words(words: Sequence[str], trainer: Mapping[str, Any]) -> list[str]:
    """Options as on the command line: the given words, and the trainer's options."""
    listed = isinstance(words, Iterable) and not isinstance(words, str)
    words = [*words] if listed else words
    if not (listed and all(isinstance(word, str) for word in words)):
        raise FerlError(f"words is {words!r}, expected a list of options, such as ['--data.batch_size=8']")
    if shown := next((word for word in words if re.match(r"-h$|--print_config\b|--[\w.]*help\b", word)), None):
        raise FerlError(f"words: {shown} shows something and trains nothing: type it in a terminal, ferl fit {shown}")
    plain = {key: describe(value) for key, value in trainer.items()}
    values = {key: value if isinstance(value, str) else json.dumps(value) for key, value in plain.items()}
    return [*words, *(f"--trainer.{key}={value}" for key, value in values.items())]


def _scores(folder: Path) -> Scores:
    try:
        found = json.loads((folder / "metrics.json").read_text("utf-8"))
    except OSError:
        raise FerlError(f"there is no report {folder}; test the run first") from None
    except ValueError as error:
        raise FerlError(f"{folder / 'metrics.json'} is damaged: {error}; test the run again") from None
    try:
        metrics = {name: Score(x["value"], x["low"], x["high"]) for name, x in found["metrics"].items()}
        return Scores(found["n"], metrics, found["per_class"], folder / "report.html")
    except (AttributeError, KeyError, TypeError):
        raise FerlError(f"{folder / 'metrics.json'} is damaged, or of another program; test the run again") from None

"""The report of a small model through Lightning's own trainer, read back and compared with scikit-learn."""

import csv
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from matplotlib.image import imread
from sklearn import metrics as sk
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ferlightning.errors import FerlError
from ferlightning.evaluation.plots import learning_curves
from ferlightning.evaluation.report import Report, summarise
from ferlightning.evaluation.statistics import share_interval

NAMES = ["anger", "<fear> & co", "neutral"]
N = 50
PEOPLE = np.array([f"person {i // 4}" for i in range(N)])
COPIED = np.arange(N) % 5 == 1  # items that are in training too


class Model(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.class_names = NAMES
        self.linear = nn.Linear(16, 3)

    def forward(self, image: Tensor) -> Tensor:
        return self.linear(image.flatten(1))

    def _step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        logits = self(batch["image"])
        label = batch["label"] if batch["label"].ndim == 1 else batch["label"].argmax(1)
        return {"loss": nn.functional.cross_entropy(logits, label), "logits": logits}

    training_step = validation_step = test_step = _step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.01)


class Data(LightningDataModule):
    def __init__(self, soft: bool = False) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.label = torch.randint(0, 2, (N,), generator=generator)  # "neutral" has no item
        self.image = torch.randn(N, 1, 1, 4, 4, generator=generator)
        self.target = nn.functional.one_hot(self.label, 3) * 0.6 + 0.2 if soft else self.label

    def train_dataloader(self) -> DataLoader:
        # Reversed, and two items twice, like a distributed sampler's: the report has each once, in order.
        order = [*reversed(range(N)), 3, 4]
        items = [{"image": self.image[i], "label": self.target[i], "index": i} for i in order]
        return DataLoader(items, batch_size=8)

    val_dataloader = test_dataloader = train_dataloader

    def item_names(self, split: str) -> np.ndarray:
        return np.array([f"{split}/{i}.png" for i in range(N)])

    def item_subjects(self, split: str) -> np.ndarray:
        return PEOPLE

    def fingerprint(self) -> dict[str, object]:
        return {"test": {"items": N, "sha256": "0123"}}

    def copied_from_training(self, split: str) -> np.ndarray:
        return COPIED

    def notes(self, split: str) -> list[str]:
        return [f"{split} <shares> people with training"]


def trainer(folder: Path, **arguments) -> Trainer:
    defaults = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu")
    defaults |= dict(enable_model_summary=False, max_epochs=1, callbacks=[Report()], default_root_dir=folder)
    return Trainer(**defaults | arguments)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    report = Report()
    report.config = {"seed_everything": 1, "model": {"name": "x"}}
    log = ["epoch,step,train/loss,train/accuracy,val/loss,val/accuracy,val/balanced_accuracy"]
    for epoch in range(3):
        log += [f"{epoch},{9 * epoch},,,{1 / (epoch + 1)},.{epoch + 5},.{epoch + 4}", f"{epoch},{9 * epoch},.9,.5,,,"]
    (folder / "metrics.csv").write_text("\n".join(log) + "\n")
    torch.manual_seed(0)
    with (folder / "terminal.txt").open("w") as terminal, pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "150")
        patch.setattr("sys.stdout", terminal)
        trainer(folder, callbacks=[report]).test(Model(), Data(), verbose=False)
    return folder / "report"


def test_files(run: Path) -> None:
    pictures = {"confusion_matrix.png", "learning_curves.png", "precision_recall.png", "reliability.png"}
    assert {path.name for path in run.iterdir()} == {"metrics.json", "predictions.csv", "report.html"} | pictures
    for name in pictures:
        assert imread(run / name).std() > 0.05, f"{name} is blank"
    assert not list(run.parent.glob(".report*"))


def test_numbers_agree_with_scikit_learn(run: Path) -> None:
    report = json.loads((run / "metrics.json").read_text())
    with (run / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [f"test/{i}.png" for i in range(N)]
    label, prediction = [row["label"] for row in rows], [row["prediction"] for row in rows]
    assert label == [NAMES[i] for i in Data().label]
    probs = np.array([[float(row[f"p_{name}"]) for name in NAMES] for row in rows])
    assert prediction == [NAMES[i] for i in probs.argmax(1)]
    assert [float(row["confidence"]) for row in rows] == pytest.approx(probs.max(1).tolist())

    assert report["n"] == N and report["split"] == "test"
    assert report["confusion_matrix"] == sk.confusion_matrix(label, prediction, labels=NAMES).tolist()
    index = np.array([NAMES.index(name) for name in label])
    expected = {
        "accuracy": sk.accuracy_score(label, prediction),
        "balanced_accuracy": sk.recall_score(label, prediction, labels=NAMES[:2], average="macro", zero_division=0),
        "macro_f1": sk.f1_score(label, prediction, average="macro", zero_division=0),
        "weighted_f1": sk.f1_score(label, prediction, average="weighted", zero_division=0),
        "macro_precision": sk.precision_score(label, prediction, average="macro", zero_division=0),
        "weighted_precision": sk.precision_score(label, prediction, average="weighted", zero_division=0),
        "nll": sk.log_loss(index, probs / probs.sum(1, keepdims=True), labels=[0, 1, 2]),
    }
    for name, value in expected.items():
        assert report["metrics"][name]["value"] == pytest.approx(value, abs=1e-5), name
    for name, metric in report["metrics"].items():
        assert metric["low"] <= metric["value"] <= metric["high"], name
    right, metric = np.array(label) == np.array(prediction), report["metrics"]["accuracy"]
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(report["items"]["right"]), np.uint8))
    assert bits[:N].tolist() == right.tolist()
    assert report["items"]["person"].split()[:9] == ["0", "0", "0", "0", "1", "1", "1", "1", "5"], "by name, as sorted"
    assert report["people"] == 13 and (metric["low"], metric["high"]) == share_interval(right, PEOPLE)
    scores = sk.precision_recall_fscore_support(label, prediction, labels=NAMES, zero_division=0)
    for name, precision, recall, f1, support in zip(NAMES, *scores, strict=True):
        got = report["per_class"][name]
        assert (got["support"], got["precision"], got["f1"]) == pytest.approx((support, precision, f1))
        assert got["recall"] == (pytest.approx(recall) if support else None)


def test_numbers_without_copies_are_those_of_the_items_that_are_not_in_training(run: Path) -> None:
    report = json.loads((run / "metrics.json").read_text())
    with (run / "predictions.csv").open(newline="") as file:
        rows = [row for row, copied in zip(csv.DictReader(file), COPIED, strict=True) if not copied]
    label, prediction = [row["label"] for row in rows], [row["prediction"] for row in rows]
    assert report["deduplicated"]["n"] == len(rows) == 40 and report["deduplicated"]["people"] == 13
    matrix = sk.confusion_matrix(label, prediction, labels=NAMES)
    assert report["deduplicated"]["confusion_matrix"] == matrix.tolist()
    accuracy = sk.accuracy_score(label, prediction)
    assert report["deduplicated"]["metrics"]["accuracy"]["value"] == pytest.approx(accuracy)
    assert "the 40 items that are not pixel for pixel in training too" in (run / "report.html").read_text()


def test_provenance(run: Path) -> None:
    report = json.loads((run / "metrics.json").read_text())
    made = report["provenance"]
    shares, guessing = report["notes"]
    assert shares == "test <shares> people with training"
    assert "always saying <fear> & co is right in 60.0 %" in guessing
    assert report["guessing"] == {"chance": 1 / 3, "majority": 0.6, "class": "<fear> & co"}
    assert made["config"] == {"seed_everything": 1, "model": {"name": "x"}}
    assert made["data"] == Data().fingerprint()
    assert (made["parameters"], made["multiply_adds"]) == (16 * 3 + 3, 16 * 3)
    assert made["versions"]["torch"] == torch.__version__
    assert made["seconds"] > 0 and made["images_per_second"] > 0
    assert {"command", "seed", "git_revision", "device", "precision"} < set(made)


def test_page_is_self_contained_and_escaped(run: Path) -> None:
    page = (run / "report.html").read_text()
    links = re.findall(r"(?:src|href)\s*=\s*[\"']?([^\"'\s>]+)", page)
    assert len(links) == 1 + 4 + 12 and links[0] == "predictions.csv"
    assert all(link.startswith("data:image/png;base64,") for link in links[1:])
    assert "url(" not in page and "<script" not in page
    assert "<fear>" not in page and "&lt;fear&gt; &amp; co" in page
    assert "&lt;shares&gt;" in page


def test_fit_writes_nothing_validate_writes_its_own(tmp_path: Path) -> None:
    run = trainer(tmp_path, num_sanity_val_steps=2)
    model, data = Model(), Data(soft=True)
    run.fit(model, data)
    assert not list(tmp_path.glob("*report*"))
    run.validate(model, data, verbose=False)
    report = json.loads((tmp_path / "report_val" / "metrics.json").read_text())
    assert report["split"] == "val" and report["n"] == N
    assert not (tmp_path / "report").exists()
    assert not (tmp_path / "report_val" / "learning_curves.png").exists()


def test_replaces_an_older_report_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "report"
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(FerlError, match="not a report"):
        trainer(tmp_path).test(Model(), Data(), verbose=False)
    assert (folder / "thesis.txt").read_text() == "mine"
    (folder / "metrics.json").write_text("{}")
    trainer(tmp_path).test(Model(), Data(), verbose=False)
    assert not (folder / "thesis.txt").exists()
    assert json.loads((folder / "metrics.json").read_text())["n"] == N


def test_without_datamodule_and_in_lower_precision(tmp_path: Path) -> None:
    data = Data().test_dataloader()
    trainer(tmp_path, precision="bf16-true").test(Model(), dataloaders=data, verbose=False)
    report = json.loads((tmp_path / "report" / "metrics.json").read_text())
    made = report["provenance"]
    assert (
        len(report["notes"]) == 1 and report["deduplicated"] is None and made["data"] is None and made["config"] is None
    )
    assert (made["precision"], made["multiply_adds"]) == ("bf16-true", 48)
    assert (tmp_path / "report" / "predictions.csv").read_text().splitlines()[1].startswith("0,")


def test_names_that_are_not_utf8_are_escaped(tmp_path: Path) -> None:
    """The names of folders and files with bytes of another encoding, as Python reads them."""
    model, data = Model(), Data()
    model.class_names = ["g\udceane", "joie", "rire"]
    data.item_names = lambda split: np.array([f"\udce9t\udce9/{i}.png" for i in range(N)])
    trainer(tmp_path).test(model, data, verbose=False)
    first = (tmp_path / "report" / "predictions.csv").read_text(encoding="utf-8").splitlines()[1]
    assert first.startswith("\\udce9t\\udce9/0.png,")
    assert "g\\udceane" in json.loads((tmp_path / "report" / "metrics.json").read_text())["per_class"]


def test_diverged_model_is_refused(tmp_path: Path) -> None:
    model = Model()
    model.linear.bias.data[0] = float("nan")
    with pytest.raises(FerlError, match="not finite for 50 of 50 test items"):
        trainer(tmp_path).test(model, Data(), verbose=False)
    assert not (tmp_path / "report").exists()


def test_step_without_logits_is_explained(tmp_path: Path) -> None:
    model = Model()
    model.test_step = lambda batch, batch_idx: model._step(batch, batch_idx)["loss"]
    with pytest.raises(FerlError, match="logits"):
        trainer(tmp_path).test(model, Data(), verbose=False)


def test_terminal(run: Path) -> None:
    shown = (run.parent / "terminal.txt").read_text()
    assert "balanced accuracy" in shown and "<fear> & co" in shown and "Note: test <shares>" in shown
    assert "without copies of training images (40 items)" in shown
    assert str(run / "report.html") in shown


def test_pictures_go_to_loggers(tmp_path: Path) -> None:
    sent, files = [], {}

    class Wandb(WandbLogger):
        def __init__(self) -> None: ...

        def __getattribute__(self, name: str):
            if name == "log_image":
                return lambda key, images: sent.append((key, Path(images[0]).exists()))
            if name == "experiment":
                return SimpleNamespace(id="7", log_artifact=lambda kept: files.update(kept.manifest.entries))
            if name in ("__class__", "__init__"):
                return object.__getattribute__(self, name)
            return lambda *args, **kwargs: None

    class Board(TensorBoardLogger):
        def __init__(self) -> None: ...

        def __getattribute__(self, name: str):
            if name == "experiment":
                return self
            if name == "add_image":
                return lambda tag, image, dataformats: sent.append((tag, image.shape[2] in (3, 4)))
            if name in ("__class__", "__init__"):
                return object.__getattribute__(self, name)
            return lambda *args, **kwargs: None

    trainer(tmp_path, logger=[Wandb(), Board()]).test(Model(), Data(), verbose=False)
    pictures = ("confusion_matrix", "reliability", "precision_recall")
    assert sent == 2 * [(f"test/{name}", True) for name in pictures]
    assert {"report.html", "metrics.json", "predictions.csv"} < {*files}


def test_an_interval_without_width_is_not_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model that says one class has a balanced accuracy of 1 / 2 in each resample of two classes."""
    model = Model()
    nn.init.zeros_(model.linear.weight)
    model.linear.bias.data = torch.tensor([3.0, 0.0, 0.0])
    trainer(tmp_path).test(model, Data(), verbose=False)
    said = " ".join(capsys.readouterr().out.split())
    page = (tmp_path / "report" / "report.html").read_text().replace("\N{NO-BREAK SPACE}", " ")
    assert "50.00 % to 50.00 %" not in said and "[50.00 %, 50.00 %]" not in page
    assert "<td>balanced accuracy</td><td>50.00 %</td><td>-</td>" in page
    for text in (said, page.replace("&#39;", "'")):
        assert "No interval is shown of balanced accuracy: each resample" in text and "by Wilson, hold" in text
    assert re.search(r"<td>accuracy</td><td>[\d.]+ %</td><td>\[[\d.]+ %, [\d.]+ %\]</td>", page)


def test_perfect_model() -> None:
    """No NaN, and no image outside a bin, when every prediction is right and certain."""
    report = summarise(np.array([0, 1, 2]), np.eye(3, dtype=np.float32), NAMES)
    assert report["guessing"] == {"chance": 1 / 3, "majority": 1 / 3, "class": NAMES[0]}
    assert report["metrics"]["accuracy"]["value"] == 1 and report["metrics"]["accuracy"]["low"] < 0.5
    assert report["metrics"]["calibration_error"]["value"] == 0
    json.dumps(report, allow_nan=False)


def test_the_curves_of_one_epoch_lie_within_the_axes_and_epochs_are_whole() -> None:
    figure = learning_curves({"train/loss": {0: 1.95}, "val/loss": {0: 1.9}, "val/accuracy": {0: 0.1}})
    assert figure
    loss, accuracy = figure.axes
    assert loss.get_ylim()[0] == 0 and loss.get_ylim()[1] > 1.03 * 1.95  # half a marker of six points, and more
    for axes in (loss, accuracy):
        low, high = axes.get_xlim()
        assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [1]

"""The report that validate and test leave: numbers with intervals, predictions, pictures and their provenance.

Shapes: B batch, N items of the split, K classes.
"""

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torchmetrics.utilities.distributed import gather_all_tensors

from ferlightning.contracts.modules import class_index
from ferlightning.emotions import as_written
from ferlightning.errors import FerlError, printable
from ferlightning.evaluation import statistics
from ferlightning.evaluation.curves import read_curves
from ferlightning.evaluation.explain import as_pixels, explain_items
from ferlightning.evaluation.metrics import count_items, measure
from ferlightning.evaluation.provenance import provenance
from ferlightning.evaluation.render import label_of, print_report, write_report
from ferlightning.evaluation.restoration import FACES, restored_faces
from ferlightning.evaluation.statistics import Array
from ferlightning.predictions import REPLACED, require_numbers, summary, write_predictions

MISTAKES = 12
"""How many a report shows."""
log = logging.getLogger(__name__)


class Report(Callback):
    """Write ``report/`` after test, ``report_val/`` after validate and ``predictions.csv`` after predict.

    All go into the trainer's ``default_root_dir``. The validation inside fit, and its sanity check, write nothing. A
    step must return ``{"loss", "logits"}`` with logits (B, K), a batch must have ``image``, ``label`` and ``index``,
    and the model must have ``class_names``.
    """

    def __init__(self) -> None:
        self.config: dict[str, Any] | None = None  # the resolved one of the command; the command line sets it
        self.remarks: list[str] = []  # for the notes; the command line sets them
        self.suffix = ""  # of the folder, where that of the run's own report must stay; the command line sets it
        self.written: Path | None = None
        self._batches: list[tuple[Tensor, Tensor, Tensor]] = []
        self._items: tuple[Tensor, ...] = ()  # the first of the split: images, and masks of clips
        self._start = 0.0

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget what an earlier run collected."""
        self._batches, self._start = [], time.perf_counter()

    on_test_start = on_predict_start = on_validation_start

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Collect a batch, unless fit is running."""
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._collect(*args)

    def on_test_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Collect a batch."""
        self._collect(*args)

    def on_predict_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Collect a batch."""
        self._collect(*args)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write ``report_val/``, unless fit is running."""
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._write(trainer, pl_module, "val")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write ``report/``."""
        self._write(trainer, pl_module, "test")

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write ``predictions.csv``."""
        index, label, probs = self._gather(trainer)
        require_numbers(probs, "images")
        if trainer.is_global_zero:
            names = _item_names(trainer, "predict", index)
            path = Path(trainer.default_root_dir, "predictions.csv")
            path.parent.mkdir(parents=True, exist_ok=True)  # without a checkpoint the run folder is a new one
            known = None if (label < 0).all() else label
            classes = _class_names(trainer, pl_module)
            replaced = path.exists()
            write_predictions(path, names, known, probs, classes)
            self.written = path
            print(summary(names, probs, classes))
            print(f"Predictions: {path}{REPLACED * replaced}")

    def _collect(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        complete = isinstance(outputs, dict) and isinstance(batch, dict) and "logits" in outputs
        if not complete or not {"image", "label", "index"} <= batch.keys():
            raise FerlError(
                "The report needs steps that return {'loss', 'logits'} and batches with 'image', 'label' and 'index'. "
                "Adapt the model or the data, or leave out all callbacks by --trainer.callbacks=[]"
            )
        if not self._batches:
            self._items = tuple(batch[name][:FACES] for name in ("image", "mask") if name in batch)
        # Kept on the device: a copy to the host for each batch would stall it.
        probs = outputs["logits"].detach().float().softmax(1)
        self._batches.append((batch["index"], class_index(batch["label"]), probs))

    def _gather(self, trainer: Trainer) -> tuple[Array, Array, Array]:
        """Return index (N,), label (N,) and probabilities (N, K) of all processes, by index."""
        columns = [torch.cat(column) for column in zip(*self._batches, strict=True)]
        if trainer.world_size > 1:
            columns = [torch.cat(gather_all_tensors(column)) for column in columns]
        self._batches = []
        index, label, probs = (column.cpu().numpy() for column in columns)
        # A distributed sampler repeats items so that all processes have equally many.
        index, first = np.unique(index, return_index=True)
        return index, label[first], probs[first]

    def _write(self, trainer: Trainer, pl_module: LightningModule, split: str) -> None:
        index, label, probs = self._gather(trainer)
        seconds = time.perf_counter() - self._start
        require_numbers(probs, f"{split} items")
        if not trainer.is_global_zero:
            return
        datamodule: Any = getattr(trainer, "datamodule", None)
        names = _item_names(trainer, split, index)
        class_names = _class_names(trainer, pl_module)

        group = datamodule.item_subjects(split)[index] if hasattr(datamodule, "item_subjects") else np.array([""])
        group = group if (group != "").all() else None
        report: dict[str, Any] = {"split": split} | summarise(label, probs, class_names, group)
        # Which items were right, for comparisons with another model, and whose they are: people by number, not by name.
        person = None if group is None else " ".join(map(str, np.unique(group, return_inverse=True)[1]))
        report["items"] = {"right": np.packbits(probs.argmax(1) == label).tobytes().hex(), "person": person}
        report["deduplicated"] = None
        if hasattr(datamodule, "copied_from_training"):
            copied = datamodule.copied_from_training(split)[index]
            if copied.any() and not copied.all():
                report["deduplicated"] = summarise(
                    label[~copied], probs[~copied], class_names, None if group is None else group[~copied]
                )
        report["notes"] = datamodule.notes(split) if hasattr(datamodule, "notes") else []
        report["notes"] += pl_module.notes() if hasattr(pl_module, "notes") else []  # type: ignore[operator]
        report["notes"] += self.remarks
        if whole := _items_in_all(trainer, split):
            report["notes"].append(
                f"These are {len(index):,} of the {whole:,} items: trainer.limit_{split}_batches leaves out the others."
            )
        report["notes"] += [*_no_better_than_guessing(report), *_without_interval(report)]
        with torch.inference_mode():
            item = tuple(x[:1] for x in self._items)
            report["provenance"] = provenance(trainer, pl_module, item, seconds, len(index), self.config)
        try:
            explanations = explain_items(trainer, pl_module, split, index, label, probs, class_names)
        except (RuntimeError, LookupError) as error:  # in a plug-in's part or data; the numbers matter more
            log.warning("The report has no picture of where the model looked: %s", error)
            explanations = None
        faces = restored_faces(pl_module, self._items[0])
        mistakes = _worst_mistakes(trainer, split, index, label, probs)
        self._items = ()

        root = Path(trainer.default_root_dir)
        folder = root / ("report" if split == "test" else f"report_{split}")
        self.written = folder = folder.with_name(folder.name + self.suffix)
        pictures = write_report(
            folder, report, names, label, probs, class_names, read_curves(root), explanations, faces, mistakes
        )
        print_report(report, folder)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                _keep_in_wandb(logger, split, folder, trainer.ckpt_path)
            for path in pictures:
                if isinstance(logger, WandbLogger):
                    logger.log_image(key=f"{split}/{path.stem}", images=[str(path)])
                elif isinstance(logger, TensorBoardLogger):
                    from matplotlib.image import imread

                    logger.experiment.add_image(f"{split}/{path.stem}", imread(path), dataformats="HWC")


def _keep_in_wandb(logger: WandbLogger, split: str, folder: Path, checkpoint: str | Path | None) -> None:
    """Give W&B the report as an artifact and, with that of validation, the best checkpoint."""
    from wandb import Artifact

    run: Any = logger.experiment
    report = Artifact(f"report_{split}-{run.id}", "report")
    report.add_dir(str(folder))
    run.log_artifact(report)
    if split == "val" and checkpoint:
        model = Artifact(f"model-{run.id}", "model")
        model.add_file(str(checkpoint))
        run.log_artifact(model, aliases=["best"])


def _worst_mistakes(trainer: Trainer, split: str, index: Array, label: Array, probs: Array) -> dict[int, Array | None]:
    """Positions of the mistakes of which the model is surest, with their pictures (the middle frame of a clip)."""
    loader: Any = trainer.test_dataloaders if split == "test" else trainer.val_dataloaders
    dataset: Any = getattr(loader, "dataset", None)
    sure = np.argsort(-probs.max(1), kind="stable")
    found: dict[int, Array | None] = {}
    for n in sure[probs[sure].argmax(1) != label[sure]][:MISTAKES].tolist():
        try:
            clip = dataset[int(index[n])]["image"]
            frame = clip[len(clip) // 2][None]
            frame = frame if frame.dtype == torch.uint8 else (255 * frame.float().clamp(0, 1)).byte()
            found[n] = as_pixels(frame)[0]
        except (AttributeError, IndexError, KeyError, TypeError):  # data of another kind
            found[n] = None
    return found


def _items_in_all(trainer: Trainer, split: str) -> int | None:
    """How many items a split has, if a limit of the trainer leaves out some."""
    test = split == "test"
    loader: Any = trainer.test_dataloaders if test else trainer.val_dataloaders
    batches: list[float] = trainer.num_test_batches if test else trainer.num_val_batches
    try:
        return len(loader.dataset) if sum(batches) < len(loader) else None
    except (AttributeError, TypeError):  # data of another kind do not tell
        return None


def _item_names(trainer: Trainer, split: str, index: Array) -> Array:
    """Return the names of the items (N,), or their numbers if the data has no names."""
    datamodule: Any = getattr(trainer, "datamodule", None)
    if not hasattr(datamodule, "item_names"):
        return index.astype(str)
    return np.array([printable(str(name)) for name in datamodule.item_names(split)[index]])


def _class_names(trainer: Trainer, pl_module: LightningModule) -> list[str]:
    """The classes as they are written in the data that the model was trained on."""
    datamodule: Any = getattr(trainer, "datamodule", None)
    known = getattr(getattr(pl_module, "network", None), "input", None) or {}
    spelling = known.get("spelling") or getattr(datamodule, "spelling", {})
    return [printable(name) for name in as_written(pl_module.class_names, spelling)]  # type: ignore[arg-type]


def _no_better_than_guessing(report: dict[str, Any]) -> list[str]:
    """Return a sentence if the accuracy may be no better than always saying the most frequent class."""
    accuracy, guess = report["metrics"]["accuracy"], report["guessing"]
    if accuracy["low"] > guess["majority"]:
        return []
    return [
        f"The accuracy, {100 * accuracy['value']:.1f} %, cannot be told from guessing: always saying {guess['class']} "
        f"is right in {100 * guess['majority']:.1f} %, and the interval begins at {100 * accuracy['low']:.1f} %."
    ]


def _without_interval(report: dict[str, Any]) -> list[str]:
    """Return a sentence on the metrics whose bootstrap interval has no width, as of a model that says one class."""
    reports = [report] + ([report["deduplicated"]] if report["deduplicated"] else [])
    names = [
        label_of(name)
        for name in report["metrics"]
        if not all(statistics.has_width(r["metrics"][name]["low"], r["metrics"][name]["high"]) for r in reports)
    ]
    if not names:
        return []
    return [
        f"No interval is shown of {', '.join(names)}: each resample of these items gives the same value, which is no "
        "certainty. Those of accuracy and of each class's recall, by Wilson, hold."
    ]


def summarise(label: Array, probs: Array, class_names: list[str], group: Array | None = None) -> dict[str, Any]:
    """Return the numbers of a report, as values for JSON.

    Args:
        label: (N,) class index.
        probs: (N, K) in [0, 1].
        class_names: K names.
        group: (N,) who is shown; None if that is unknown. Intervals are by people where one has several images.

    Returns:
        n; people (null if unknown); guessing {chance, majority, class}, the accuracy of guessing without a look at the
        images, at random or always the most frequent class; metrics {name: {value, low, high}}; per_class {name:
        {support, recall, low, high, precision, f1}}, with null for the recall of a class without labels; and
        confusion_matrix (rows are true classes).
    """
    counts = count_items(label, probs)
    people = None if group is None else len(np.unique(group))
    if people in (1, len(label)):  # nothing to draw from, or nobody twice
        group = None
    confusion, k = counts.confusion, len(class_names)
    items = measure(torch.from_numpy(probs), torch.from_numpy(label))
    prediction = items.prediction.numpy()
    right = prediction == label
    gap = right - items.confidence.numpy().astype(np.float64)
    cells = confusion
    if group is not None:
        cells = statistics.sum_groups(np.eye(k * k, dtype=int)[label * k + prediction], group).reshape(-1, k, k)
    interval = statistics.bootstrap_intervals(cells) | {
        "accuracy": statistics.share_interval(right, group),
        "calibration_error": statistics.bootstrap_calibration_error(items.bin.numpy(), gap, group),
        "nll": statistics.bootstrap_mean(items.cost.numpy().astype(np.float64), group),
    }
    support = confusion.sum(1)
    by_class, per_class = statistics.per_class_scores(confusion), {}
    for i, name in enumerate(class_names):
        own = label == i
        low, high, recall = None, None, None
        if own.any():
            low, high = statistics.share_interval(right[own], None if group is None else group[own])
            recall = float(by_class["recall"][i])
        per_class[name] = {"support": int(own.sum()), "recall": recall, "low": low, "high": high} | {
            metric: float(by_class[metric][i]) for metric in ("precision", "f1")
        }
    return {
        "n": len(label),
        "people": people,
        "guessing": {
            "chance": 1 / k,
            "majority": int(support.max()) / max(len(label), 1),
            "class": class_names[int(support.argmax())],
        },
        "metrics": {
            name: {"value": value, "low": interval[name][0], "high": interval[name][1]}
            for name, value in statistics.scores(counts).items()
        },
        "per_class": per_class,
        "confusion_matrix": confusion.tolist(),
    }

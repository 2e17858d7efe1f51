"""How a report looks: its folder of files, its page, and its tables on the terminal.

Shapes: N items of the split, K classes.
"""

import base64
import csv
import json
import shutil
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from ferlightning.errors import FerlError
from ferlightning.evaluation.explain import Looks
from ferlightning.evaluation.statistics import Array

CAPTIONS = {
    "confusion_matrix": "Counts; the shade is the share of the true class.",
    "reliability": "Accuracy below the diagonal: over-confident. Lower panel: images by confidence.",
    "learning_curves": "Training and validation by epoch.",
    "attention": "Where the model looked: the most confident right predictions, then wrong ones, one of each class "
    "before a second. Not tinted: the mean weight or less; full colour: twice that or, if higher, the item's maximum. "
    "Bars: the same for frames.",
    "restoration": "What the restorer makes of the first faces; an autoencoder's are corrupted as in its training. "
    "MSE: mean squared error against the clean ones, intensities in [0, 1].",
}


def write_report(
    folder: Path,
    report: dict[str, Any],
    names: Array,
    label: Array,
    probs: Array,
    class_names: list[str],
    logs: list[Path],
    looks: Looks | None,
    faces: dict[str, Array] | None,
) -> list[Path]:
    """Write the folder of a report, replacing an older report but nothing else.

    Args:
        folder: to write.
        report: of ``report.summarise``, with split, notes, provenance and, under ``deduplicated``, the same numbers of
            the items that have no copy in training, or None.
        names: (N,) names of the items.
        label: (N,) class index.
        probs: (N, K) in [0, 1].
        class_names: K names.
        logs: the ``metrics.csv`` files of the training, oldest first.
        looks: where the model looked at some items; None if that is not known.
        faces: of ``restoration.restored_faces``; None without a restorer.

    Returns:
        The pictures in the folder.
    """
    from ferlightning.evaluation.plots import save_plots  # matplotlib, late

    if folder.exists() and not (folder / "metrics.json").exists():
        raise FerlError(f"{folder} exists and is not a report of ferlightning. Move it, or set another output folder.")
    # Written beside and renamed, so that an interruption leaves the old report or the new one, never half of one.
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)

    (temporary / "metrics.json").write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    write_predictions(temporary / "predictions.csv", names, label, probs, class_names)
    confusion, correct = np.array(report["confusion_matrix"]), probs.argmax(1) == label
    pictures = save_plots(temporary, confusion, class_names, probs.max(1), correct, logs, looks, faces)
    (temporary / "report.html").write_text(_html(report, pictures), encoding="utf-8")

    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)
    return [folder / path.name for path in pictures]


def write_predictions(path: Path, names: Array, label: Array | None, probs: Array, class_names: list[str]) -> None:
    """Write a row an item: name, label unless unknown, prediction, confidence and the probability of each class.

    Args:
        path: of the csv to write.
        names: (N,) names of the items.
        label: (N,) class index; None if unknown.
        probs: (N, K) in [0, 1].
        class_names: K names.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        known = [] if label is None else ["label"]
        table.writerow(["name", *known, "prediction", "confidence", *(f"p_{name}" for name in class_names)])
        for i, (name, p) in enumerate(zip(names, probs, strict=True)):
            true = [] if label is None else [class_names[label[i]]]
            table.writerow([name, *true, class_names[p.argmax()], f"{p.max():.6g}", *(f"{x:.6g}" for x in p)])
    temporary.rename(path)


def _label(name: str) -> str:
    """Name of a metric or fact as a reader expects it."""
    special = {"macro_f1": "macro F1", "weighted_f1": "weighted F1", "nll": "negative log-likelihood"}
    return special.get(name, name.replace("_", " "))


def _shown(value: float | None, name: str = "") -> str:
    """Format a share as a percentage, an error or a likelihood as it is, and no value as a dash."""
    if value is None:
        return "-"
    return f"{value:.3f}" if name in ("calibration_error", "nll") else f"{100 * value:.2f} %"


def _html(report: dict[str, Any], pictures: list[Path]) -> str:
    """One page that needs no other file. Names come from the user's data, so everything is escaped."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters |= {"shown": _shown, "label": _label}
    template = environment.from_string(Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8"))
    facts = dict(report["provenance"])
    config, data = facts.pop("config"), facts.pop("data")
    facts["versions"] = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    facts["seconds"], facts["images_per_second"] = f"{facts['seconds']:.1f}", f"{facts['images_per_second']:,.0f}"
    facts["parameters"], facts["multiply_adds"] = f"{facts['parameters']:,}", f"{facts['multiply_adds']:,}"
    return template.render(
        report,
        title=f"Expression recognition: {report['split']} report",
        pictures={path.stem: base64.b64encode(path.read_bytes()).decode() for path in pictures},
        captions=CAPTIONS,
        facts={name: "not known" if value is None else value for name, value in facts.items()},
        data=yaml.safe_dump(data, sort_keys=False) if data else "not known",
        config=yaml.safe_dump(config, sort_keys=False) if config else "not known",
    )


def print_report(report: dict[str, Any], folder: Path) -> None:
    """Show the numbers on the terminal, and where the rest is."""
    console = Console()
    table = Table(title=f"{report['split']}, {report['n']:,} items", title_justify="left")
    for heading in ("metric", "value", "95 % interval"):
        table.add_column(heading, justify="left" if heading == "metric" else "right")
    reports = [report]
    if report["deduplicated"]:
        reports.append(report["deduplicated"])
        table.add_column(f"without copies of training images ({reports[1]['n']:,} items)", justify="right")
        table.add_column("95 % interval", justify="right")
    for name in report["metrics"]:
        cells = []
        for m in (r["metrics"][name] for r in reports):
            cells += [_shown(m["value"], name), f"{_shown(m['low'], name)} to {_shown(m['high'], name)}"]
        table.add_row(_label(name), *cells)
    console.print(table)

    table = Table()
    for heading in ("class", "items", "recall", "95 % interval", "precision", "F1"):
        table.add_column(heading, justify="left" if heading == "class" else "right")
    for name, c in report["per_class"].items():
        shown = {key: _shown(c[key]) for key in ("recall", "low", "high", "precision", "f1")}
        interval = f"{shown['low']} to {shown['high']}" if c["support"] else "-"
        table.add_row(name, f"{c['support']:,}", shown["recall"], interval, shown["precision"], shown["f1"])
    console.print(table)
    for note in report["notes"]:
        console.print(f"Note: {note}", style="yellow", markup=False)
    console.print(f"Report: {folder / 'report.html'}", markup=False, soft_wrap=True)

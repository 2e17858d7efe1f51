"""What a report looks like: its folder of files, its page, and its tables on the terminal.

Shapes: N items of the split, K classes.
"""

import base64
import json
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ferlightning.errors import FerlError
from ferlightning.evaluation.curves import Curves
from ferlightning.evaluation.explain import Explanations, png_source
from ferlightning.evaluation.plots import save_plots
from ferlightning.evaluation.statistics import Array, has_width
from ferlightning.files import replacing
from ferlightning.predictions import write_predictions

CAPTIONS = {
    "confusion_matrix": "Counts, and shares of the true class.",
    "precision_recall": "Each class against all others, for every threshold of its probability; in brackets the "
    "average precision. Guessing has the share of the class as its precision at every recall.",
    "reliability": "Orange, above the blue: over-confident; brown, within it: under-confident. Lower panel: images.",
    "learning_curves": "Training and validation by epoch.",
    "attention": "Where the model looked: the most confident right predictions, then wrong ones, one of each class "
    "before any class's second. No tint: the mean weight or less; full colour: twice the mean or the item's maximum, "
    "whichever is more. Bars: the weights of the frames.",
    "restoration": "What the restorer makes of the first faces; an autoencoder gets them corrupted, as in its "
    "training. MSE: mean squared error against the clean faces, intensities in [0, 1].",
}

PHONE = 640
"""Width of a picture, pixels, up to which it is shrunk to a phone's screen and can still be read; wider ones scroll."""


def write_report(
    folder: Path,
    report: dict[str, Any],
    names: Array,
    label: Array,
    probs: Array,
    class_names: list[str],
    curves: Curves,
    explanations: Explanations | None,
    faces: dict[str, Array] | None,
    mistakes: dict[int, Array | None] | None = None,
) -> list[Path]:
    """Write the folder of a report. It replaces an older report but nothing else.

    Args:
        folder: to write.
        report: from ``report.summarise``, with split, notes, provenance and, under ``deduplicated``, the same numbers
            for the items that have no copy in training, or None.
        names: (N,) names of the items.
        label: (N,) class index.
        probs: (N, K) in [0, 1].
        class_names: K names.
        curves: of the training.
        explanations: where the model looked at some items; None if that is not known.
        faces: from ``restoration.restored_faces``; None without a restorer.
        mistakes: positions of items to show as mistakes, with their pictures, (H, W[, 3]) uint8, where there are any.

    Returns:
        The pictures in the folder.

    Raises:
        FerlError: the folder holds something else, or cannot be written.
    """
    if folder.exists() and not (folder / "metrics.json").exists():
        raise FerlError(f"{folder} exists and is not a report of ferlightning. Move it, or set another output folder.")
    try:
        with replacing(folder) as temporary:
            temporary.mkdir()
            text = json.dumps(report, indent=2, allow_nan=False) + "\n"
            (temporary / "metrics.json").write_text(text, encoding="utf-8")
            write_predictions(temporary / "predictions.csv", names, label, probs, class_names)
            pictures = save_plots(temporary, label, probs, class_names, curves, explanations, faces)
            shown = [
                {
                    "name": names[n], "true": class_names[label[n]], "predicted": class_names[probs[n].argmax()],
                    "confidence": float(probs[n].max()), "face": None if face is None else png_source(face),
                }
                for n, face in (mistakes or {}).items()
            ]  # fmt: skip
            (temporary / "report.html").write_text(_html(report, pictures, shown), encoding="utf-8")
    except OSError as error:
        raise FerlError(f"{folder}: cannot write the report: {error.strerror or error}") from error
    return [folder / path.name for path in pictures]


def label_of(name: str) -> str:
    """Return the name of a metric or fact as a reader expects it."""
    special = {"macro_f1": "macro F1", "weighted_f1": "weighted F1", "nll": "negative log-likelihood"}
    return special.get(name, name.replace("_", " "))


def _shown(value: float | None, name: str = "") -> str:
    """Format a share as a percentage, an error or a likelihood as it is, and no value as a dash."""
    if value is None:
        return "-"
    return f"{value:.3f}" if name in ("calibration_error", "nll") else f"{100 * value:.2f} %"


def _interval(score: dict[str, Any], name: str, form: str = "[{}, {}]") -> str:
    """Format the interval of a metric, and one that has no width as a dash: it would look like certainty."""
    if not has_width(score["low"], score["high"]):
        return "-"
    return form.format(_shown(score["low"], name), _shown(score["high"], name))


def _is_large(png: bytes) -> bool:
    """Whether a picture is wider than ``PHONE``, by its header."""
    return int.from_bytes(png[16:20]) > PHONE


def _source(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _unbroken(text: str) -> str:
    """Keep numbers and their percent signs on one line."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%")


def _html(report: dict[str, Any], pictures: list[Path], mistakes: list[dict[str, Any]]) -> str:
    """Make one page that needs no other file. Names come from the user's data, so everything is escaped."""
    import jinja2  # late: only a report needs it

    environment = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters |= {
        "shown": lambda *args: _unbroken(_shown(*args)), "interval": lambda *args: _unbroken(_interval(*args)),
        "label": label_of, "large": _is_large, "source": _source,
    }  # fmt: skip
    template = environment.from_string(Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8"))
    facts = dict(report["provenance"])
    config, data = facts.pop("config"), facts.pop("data")
    facts["versions"] = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    facts["seconds"], facts["images_per_second"] = f"{facts['seconds']:.1f}", f"{facts['images_per_second']:,.0f}"
    facts["parameters"], facts["multiply_adds"] = f"{facts['parameters']:,}", f"{facts['multiply_adds']:,}"
    return template.render(
        report,
        by_people=report["people"] not in (None, 1, report["n"]),
        title=", ".join(filter(None, (facts.get("data_set"), f"{report['split']} split"))),
        about=[facts[name] for name in ("network", "checkpoint", "date") if facts.get(name)],
        mistakes=mistakes,
        pictures={path.stem: path.read_bytes() for path in pictures},
        captions=CAPTIONS,
        facts={name: "not known" if value is None else value for name, value in facts.items()},
        data=yaml.safe_dump(data, sort_keys=False) if data else "not known",
        config=yaml.safe_dump(config, sort_keys=False) if config else "not known",
    )


def print_report(report: dict[str, Any], folder: Path) -> None:
    """Print the numbers on the terminal, and where the rest is."""
    console = Console()
    people = f" of {report['people']:,} {'person' if report['people'] == 1 else 'people'}" if report["people"] else ""
    table = Table(title=f"{report['split']}, {report['n']:,} items{people}", title_justify="left")
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
            cells += [_shown(m["value"], name), _interval(m, name, "{} to {}")]
        table.add_row(label_of(name), *cells)
    console.print(table)
    guess = report["guessing"]
    console.print(
        f"Guessing: always {guess['class']} {_shown(guess['majority'])}, at random {_shown(guess['chance'])}",
        markup=False,
    )

    table = Table()
    for heading in ("class", "items", "recall", "95 % interval", "precision", "F1"):
        table.add_column(heading, justify="left" if heading == "class" else "right")
    for name, c in report["per_class"].items():
        shown = {key: _shown(c[key]) for key in ("recall", "low", "high", "precision", "f1")}
        interval = f"{shown['low']} to {shown['high']}" if c["support"] else "-"
        table.add_row(escape(name), f"{c['support']:,}", shown["recall"], interval, shown["precision"], shown["f1"])
    console.print(table)
    for note in report["notes"]:
        console.print(f"Note: {note}", style="yellow", markup=False)
    console.print(f"Report: {folder / 'report.html'}", markup=False, soft_wrap=True)

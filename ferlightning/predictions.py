"""What a model says of items: names, classes and probabilities, as a table of a file, a notebook or pandas."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ferlightning.errors import FerlError, printable
from ferlightning.files import replacing

Array = NDArray[Any]
REPLACED = ", in place of those that were there"
"""Said of predictions that replace a file."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model says of N items.

    Attributes:
        names: (N,) what the items are called.
        class_names: the K classes.
        probabilities: (N, K), rows sum to 1.
    """

    names: Sequence[str]
    class_names: Sequence[str]
    probabilities: NDArray[np.float32]

    def __post_init__(self) -> None:
        require_numbers(self.probabilities, "items")

    def __len__(self) -> int:
        return len(self.probabilities)

    @property
    def labels(self) -> list[str]:
        """The most probable class of each item."""
        return [self.class_names[k] for k in self.probabilities.argmax(1)]

    def to_csv(self, path: str | Path) -> None:
        """Write what ``ferl predict`` writes."""
        write_predictions(Path(path), np.array(self.names), None, self.probabilities, list(self.class_names))

    def to_pandas(self) -> Any:
        """A DataFrame with the columns of ``to_csv``; needs pandas."""
        import pandas as pd

        shares = {f"p_{name}": self.probabilities[:, k] for k, name in enumerate(self.class_names)}
        sure = self.probabilities.max(1)
        return pd.DataFrame({"name": list(self.names), "prediction": self.labels, "confidence": sure, **shares})

    def _repr_html_(self) -> str:
        heads = "".join(f"<th>{escape(name)}</th>" for name in ("", "prediction", *self.class_names))
        rows = "".join(
            f"<tr><td>{escape(str(name))}</td><td><b>{escape(label)}</b></td>"
            + "".join(f"<td>{share:.3f}</td>" for share in row)
            + "</tr>"
            for name, label, row in zip(self.names, self.labels, self.probabilities[:50], strict=False)
        )
        more = f"<p>{len(self) - 50} more</p>" if len(self) > 50 else ""
        return f"<table><tr>{heads}</tr>{rows}</table>{more}"


def require_numbers(probs: Array, what: str) -> None:
    """Refuse probabilities (N, K) of which some are not finite; ``what`` is what N counts.

    Raises:
        FerlError: there are such.
    """
    bad = int((~np.isfinite(probs)).any(1).sum())
    if bad:
        raise FerlError(
            f"The model's logits are not finite for {bad} of {len(probs)} {what}, so there is nothing to report. "
            "Training has probably diverged: lower the learning rate, or use another precision."
        )


def summary(names: Sequence[str] | Array, probs: Array, class_names: Sequence[str]) -> str:
    """What ``ferl predict`` prints: up to five items by name, or of more how many are of each class."""
    best = probs.argmax(1)
    if len(best) <= 5:
        return "\n".join(printable(f"{names[i]}: {class_names[k]}, {probs[i, k]:.0%}") for i, k in enumerate(best))
    counts = np.bincount(best, minlength=len(class_names))
    order = [k for k in (-counts).argsort(kind="stable") if counts[k]]
    return printable(f"{len(best):,} items: " + ", ".join(f"{class_names[k]} {counts[k]:,}" for k in order))


def write_predictions(path: Path, names: Array, label: Array | None, probs: Array, class_names: list[str]) -> None:
    """Write a row for each item: name, label if known, prediction, confidence and the probability of each class.

    A name that a spreadsheet would take for a formula gets an apostrophe in front.

    Args:
        path: of the csv to write.
        names: (N,) names of the items.
        label: (N,) class index; None if unknown.
        probs: (N, K) in [0, 1].
        class_names: K names.
    """
    classes = [plain_text(name) for name in class_names]
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        known = [] if label is None else ["label"]
        table.writerow(["name", *known, "prediction", "confidence", *(f"p_{name}" for name in class_names)])
        best = probs.argmax(1).tolist()
        for i, (name, k, p) in enumerate(zip(names, best, probs.tolist(), strict=True)):
            true = [] if label is None else [classes[label[i]]]
            table.writerow([plain_text(str(name)), *true, classes[k], f"{p[k]:.6g}", *(f"{x:.6g}" for x in p)])


class Prediction(NamedTuple):
    """What a report says of an item."""

    name: str
    label: str
    prediction: str
    confidence: float
    """In [0, 1]."""


def read_predictions(folder: Path) -> list[Prediction]:
    """Read the predictions of a report; none where they were not kept. Several items may have one name.

    Raises:
        FerlError: the file is damaged.
    """
    path = folder / "predictions.csv"
    if not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [
                Prediction(row["name"], row["label"], row["prediction"], float(row["confidence"]))
                for row in csv.DictReader(file)
            ]
    except KeyError as error:
        raise spoilt(folder, f"it has no column {error}") from None
    except (TypeError, ValueError, csv.Error) as error:
        raise spoilt(folder, error) from None


def spoilt(folder: Path, what: object) -> FerlError:
    """The error that says what is wrong with the predictions of a report."""
    command = "test" if folder.name == "report" else "validate"
    return FerlError(
        f"{folder / 'predictions.csv'} is not as it was written: {what}. Make the report again, by ferl {command} "
        f"{folder.parent}"
    )


def plain_text(name: str) -> str:
    """Keep spreadsheets from running a name as a formula: a photo may be called ``=HYPERLINK("x").png``.

    It gets an apostrophe in front, unless it is a number, or the lone - of standard input.
    """
    harmless = re.fullmatch(r"-|[-+]?\d+(\.\d*)?", name)
    return f"'{name}" if name.startswith(("=", "+", "-", "@", "\t", "\r")) and not harmless else name

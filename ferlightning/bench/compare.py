"""Trained models on the same images: who is better, by how much, and on which pictures they differ."""

import csv
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from ferlightning.bench.statistics import Counts, accuracy_difference, holm, mcnemar
from ferlightning.bench.suite import read_json
from ferlightning.errors import FerlError
from ferlightning.evaluation.statistics import Interval, design_effect, share_interval
from ferlightning.files import replacing
from ferlightning.predictions import plain_text, read_predictions, spoilt

FEWEST = 6
"""Images on which one model alone is right, below which McNemar's exact test cannot find a difference at 5 %."""
Predicted = dict[tuple[str, int], tuple[str, str]]
"""By name of the item, and how often that name was there before: its label and what the model says."""


@dataclass(frozen=True)
class Pair:
    """Two models on the same images, compared by McNemar's test.

    Attributes:
        a: one.
        b: the other.
        only_a: images that only ``a`` gets right.
        only_b: images that only ``b`` gets right.
        difference: accuracy of ``a`` minus that of ``b``.
        interval: of the difference, 95 %, by Agresti and Min.
        p: of the test, corrected by Holm's method over all pairs.
    """

    a: str
    b: str
    only_a: int
    only_b: int
    difference: float
    interval: Interval
    p: float

    def __str__(self) -> str:
        low, high = (100 * end for end in self.interval)
        if self.p < 0.05:
            verdict = "more than chance"
        elif self.only_a + self.only_b < FEWEST:
            verdict = f"too few images to tell, which takes {FEWEST} on which one alone is right"
        else:
            verdict = "it may be chance"
        return (
            f"{self.a} minus {self.b}: {100 * self.difference:+.2f} points ({low:+.2f} to {high:+.2f}); "
            f"only the first is right on {self.only_a:,}, only the second on {self.only_b:,}; "
            f"McNemar's p {self.p:.3g}: {verdict}"
        )


@dataclass(frozen=True, eq=False)
class Comparison:
    """What ``compare`` found.

    Attributes:
        split: ``test`` or ``val``.
        items: images that all models were evaluated on.
        evaluated: images that each model was evaluated on, by model.
        accuracy: by model, with its 95 % interval.
        pairs: each two models.
        differences: images on which models differ: name, label, and what each says.
    """

    split: str
    items: int
    evaluated: dict[str, int]
    accuracy: dict[str, tuple[float, Interval]]
    pairs: list[Pair]
    differences: list[dict[str, str]]

    def __str__(self) -> str:
        lines = [f"{self.split}, {self.items:,} images"]
        if any(own > self.items for own in self.evaluated.values()):
            each = ", ".join(f"{own:,} of {name}" for name, own in self.evaluated.items())
            lines[0] += f" that all have in common; evaluated were {each}"
        for name, (value, (low, high)) in self.accuracy.items():
            lines.append(f"  {name}: {100 * value:.2f} % ({100 * low:.2f} to {100 * high:.2f})")
        differ = f"They give different classes on {len(self.differences):,} of {self.items:,} images"
        return "\n".join([*lines, *map(str, self.pairs), differ])

    def to_csv(self, path: str | Path) -> None:
        """Write the images on which the models differ."""
        with replacing(Path(path)) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["name", "label", *map(plain_text, self.accuracy)])
            table.writerows(row.values() for row in self.differences)

    def to_pandas(self) -> Any:
        """The images on which the models differ, as a DataFrame; needs pandas."""
        import pandas as pd

        return pd.DataFrame(self.differences, columns=["name", "label", *self.accuracy])

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(str(self))}</pre>"


def compare(runs: Mapping[str, str | Path]) -> Comparison:
    """Compare trained models on the images that all of them were evaluated on.

    Reports on the test split are read, or, if a run has none, those on validation. Where people have several images,
    tests and intervals take that into account.

    Args:
        runs: run folders by name.

    Raises:
        FerlError: a folder has no report, or the reports are of different images.
    """
    for place in map(Path, runs.values()):
        if not any((place / name).is_dir() for name in ("report", "report_val", "checkpoints")):
            what = "is no run folder, whose reports are compared" if place.exists() else "does not exist"
            raise FerlError(f"compare takes run folders; {place} {what}")
    if len(runs) < 2:
        raise FerlError(f"compare needs at least two different runs, not {' and '.join(runs) or 'none'}")
    folders = {name: Path(folder) for name, folder in runs.items()}
    tested, validated = (
        all((folder / report / "metrics.json").is_file() for folder in folders.values())
        for report in ("report", "report_val")
    )
    if not tested and not validated:
        lacking = next(x for x in folders.values() if not (x / "report/metrics.json").is_file())
        raise FerlError(f"{lacking} has no report to compare; make one by: ferl test {shlex.quote(str(lacking))}")
    found = {name: _read(folder / ("report" if tested else "report_val")) for name, folder in folders.items()}
    (first, (one, group)), *others = found.items()
    keys = [key for key in one if all(key in other for _, (other, _) in others)]
    if not keys:
        raise FerlError(f"{', '.join(runs)} were evaluated on different images, so there is nothing to compare")
    for name, (other, _) in others:
        if wrong := next((key for key in keys if one[key][0].lower() != other[key][0].lower()), None):
            labels = f"{one[wrong][0]}, {other[wrong][0]}"
            raise FerlError(f"{first} and {name} have different labels of {wrong[0]}: {labels}")
    right = {name: np.array([own[key][0] == own[key][1] for key in keys]) for name, (own, _) in found.items()}
    people = None if group is None else np.array([group[key] for key in keys])
    pairs = []
    for a, b in combinations(runs, 2):
        counts = Counts.of(right[a], right[b])
        worth = counts.worth(design_effect(right[a].astype(float) - right[b], people))
        difference, interval = accuracy_difference(worth)
        pairs.append(Pair(a, b, int(counts.only_a), int(counts.only_b), difference, interval, mcnemar(worth)))
    pairs = [replace(pair, p=p) for pair, p in zip(pairs, holm([pair.p for pair in pairs]), strict=True)]
    said = {key: {name: own[key][1] for name, (own, _) in found.items()} for key in keys}
    differences = [
        {"name": key[0], "label": one[key][0], **said[key]}
        for key in keys
        if len({prediction.lower() for prediction in said[key].values()}) > 1
    ]
    accuracy = {name: (float(x.mean()), share_interval(x, people)) for name, x in right.items()}
    evaluated = {name: len(own) for name, (own, _) in found.items()}
    return Comparison("test" if tested else "val", len(keys), evaluated, accuracy, pairs, differences)


def _read(folder: Path) -> tuple[Predicted, dict[tuple[str, int], int] | None]:
    """Predictions of a report, and the number of the person in each item; None if that is unknown."""
    said, times = Predicted(), dict[str, int]()
    for name, label, prediction, _ in read_predictions(folder):
        n = times[name] = times.get(name, -1) + 1
        said[name, n] = label, prediction
    numbers = read_json(folder / "metrics.json") or {}
    if len(said) != numbers.get("n", len(said)) or not said:
        raise spoilt(folder, f"it has {len(said)} of {numbers.get('n', 'its')} images")
    person = (numbers.get("items") or {}).get("person")
    people: list[int] = [] if person is None else [int(x) for x in str(person).split()]
    return said, dict(zip(said, people, strict=True)) if len(people) == len(said) else None


def _run_folder(place: Path) -> Path:
    """The run folder of a checkpoint or a report in it."""
    if place.parent.name == "checkpoints":
        return place.parent.parent
    return place.parent if place.name in ("report", "report_val", "checkpoints") else place


def by_place(runs: Sequence[str]) -> dict[str, str]:
    """Run folders by their paths from the folder that has all of them."""
    folders = [_run_folder(Path(run)) for run in runs]
    home = os.path.commonpath([folder.resolve().parent for folder in folders]) if runs else ""
    return {os.path.relpath(folder.resolve(), home): str(folder) for folder in folders}


def print_comparison(runs: list[str], csv: str | None = None, shown: int = 20) -> None:
    """Compare trained models on the images that all of them were evaluated on, picture by picture.

    The difference in accuracy has an interval, and McNemar's test says whether it can be told from chance.

    Args:
        runs: two or more run folders, each with a report of ``ferl test``, or else that of ``ferl fit`` on validation.
        csv: file for all images on which the models differ.
        shown: how many of these are printed.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    if shown < 0:
        raise FerlError(f"shown is {shown}, expected a number from 0")
    names = by_place(runs)
    found = compare(names)
    print(found)
    table = Table("image", "label", *map(escape, names))
    for row in found.differences[:shown]:
        said = [row[name] if row[name] == row["label"] else f"[red]{escape(row[name])}[/red]" for name in names]
        table.add_row(escape(row["name"]), escape(row["label"]), *said)
    if found.differences:
        Console().print(table)
    if csv:
        found.to_csv(csv)
        print(f"Written: {csv}")

"""Results of a suite, kept in one csv: a line for each report of each trained model, and one for each failed cell.

X.csv goes with X.yaml, the budget and the suite that were run, and with X.pairs.csv, which the report adds.
``ferl bench run`` keeps OUT/results.csv up to date; reports are made from the csv alone.
"""

import csv
import json
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import yaml

from ferlightning.bench.suite import KEYS, Budget, Key, Suite, cells, parse_suite
from ferlightning.errors import FerlError
from ferlightning.evaluation.statistics import Array, Interval

Repeat = tuple[int | None, int]
"""Fold, or None for data with a single split, and seed."""
COLUMNS = {"weighted_recall": "accuracy", "loss": "nll"}
"""What the csv calls a measure, where the names differ; recall weighted by support is accuracy."""
Corruption = tuple[str, int]
"""Name and severity."""


@dataclass(frozen=True)
class Result:
    """One test of one trained model.

    Attributes:
        line: of the csv.
        without_copies: the line of the test images that are not copies of training images; None if there are no copies.
        folder: run folder of the test; it exists only where the suite was run.
        seconds: time of its step; for a system's own test, training and pre-training are included.
        overlap: number of test items divided by training items if the data is split into folds, else 0.
        converged: whether its trainings came to their end.
    """

    line: dict[str, str]
    without_copies: dict[str, str] | None
    folder: Path
    seconds: float
    overlap: float
    converged: bool

    def score(self, metric: str) -> float:
        """Value of a metric: in [0, 1], the loss in nats, the latency in milliseconds."""
        if metric == "latency":
            return 1000 / float(self.line["images_per_second"])
        return float(self.line[COLUMNS.get(metric, metric)])

    def interval(self, metric: str) -> Interval | None:
        """95 % interval of a metric over images; the latency has none."""
        name = COLUMNS.get(metric, metric)
        return None if metric == "latency" else (float(self.line[f"{name}_low"]), float(self.line[f"{name}_high"]))

    @property
    def n(self) -> int:
        """Number of test images."""
        return int(self.line["n"])

    @cached_property
    def confusion(self) -> Array:
        """Counts (K, K), true classes in rows."""
        return np.array(json.loads(self.line["confusion"]))

    @cached_property
    def classes(self) -> list[str]:
        """Names of the K classes."""
        return list(json.loads(self.line["classes"]))


@dataclass(frozen=True)
class Results:
    """Everything a csv holds.

    Attributes:
        path: of the csv.
        suite: the suite that was run, with "(leaking)" behind the names of columns that leak.
        budget_name: the budget it was run with.
        budget: the same.
        tests: by row, column, test and corruption, each by repeat in the order of the suite.
        planned: number of cells by row and column.
        failed: number of failed cells by row and column.
        failures: why a cell failed, by its name.
    """

    path: Path
    suite: Suite
    budget_name: str
    budget: Budget
    tests: dict[tuple[str, str, str, Corruption | None], dict[Repeat, Result]]
    planned: Counter[tuple[str, str]]
    failed: Counter[tuple[str, str]]
    failures: dict[str, str]

    def of(
        self, row: str, column: str, test: str | None = None, corruption: Corruption | None = None
    ) -> dict[Repeat, Result]:
        """Return the results of a row trained on a column, by repeat.

        Args:
            row: name of a system.
            column: name of the data it was trained on.
            test: name of the data it was tested on; None for the column's own test.
            corruption: of the test images; None for none.
        """
        return self.tests.get((row, column, test or column, corruption), {})

    @property
    def places(self) -> list[tuple[str, str, list[Result]]]:
        """Row, column and results of their own test, without those that have none."""
        every = ((row, column, list(self.of(row, column).values())) for column in self.columns for row in self.rows)
        return [place for place in every if place[2]]

    @property
    def all(self) -> list[Result]:
        """Every result."""
        return [result for tests in self.tests.values() for result in tests.values()]

    def facts(self, name: str) -> list[str]:
        """List the distinct values of a column of the csv."""
        return list(dict.fromkeys(result.line[name] or "unknown" for result in self.all))

    @property
    def rows(self) -> list[str]:
        """Names of the systems."""
        return [row.name for row in self.suite.rows]

    @property
    def columns(self) -> list[str]:
        """Names of the data sets that are trained on."""
        return [column.name for column in self.suite.columns]

    @property
    def sound(self) -> list[str]:
        """Names of those that do not leak."""
        return [column.name for column in self.suite.columns if not column.leaking]


def results_csv(out: Path) -> Path:
    """Return the csv of results of an ``OUT``, which is a folder or the csv itself."""
    return out if out.suffix == ".csv" else out / "results.csv"


def home_of(path: Path) -> Path:
    """Return the folder that holds the cells and the report of a csv: OUT of OUT/results.csv, X of X.csv."""
    return path.parent if path.name == "results.csv" else path.with_suffix("")


def read_lines(path: Path) -> list[dict[str, str]]:
    """Read the lines of a csv of results; none if it is absent.

    Raises:
        FerlError: it is another file.
    """
    if not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise FerlError(f"{path} is not a csv of `ferl bench run`: {error}") from None
    for name in (*KEYS, "split", "images"):
        if lines and lines[0].get(name) is None:
            raise FerlError(f"{path} is not a csv of `ferl bench run`: it has no column {name!r}")
    return lines


def key_of(line: dict[str, str]) -> Key:
    """Return what names the step of a line, or the cell of a line that says why it failed."""
    system, data, fold, seed, step = (line[name] for name in KEYS)
    return (system, data, fold, seed, step)


def read_results(path: Path) -> Results:
    """Read a csv of results and the suite beside it.

    Raises:
        FerlError: one of the two is absent or not what it should be, or no cell has ended.
    """
    if not path.is_file():
        raise FerlError(f"there is no {path}; give a folder or a csv that `ferl bench run` wrote")
    suite, name, budget = read_run(path.with_suffix(".yaml"))
    lines = read_lines(path)
    if not lines:
        raise FerlError(f"{path} has no result yet; `ferl bench run` makes them")
    errors = {key_of(line): line["error"] for line in lines if line.get("error")}
    found = {(*key_of(line), line["split"], line["images"]): line for line in lines if not line.get("error")}

    shown = {column.name: f"{column.name} (leaking)" if column.leaking else column.name for column in suite.columns}
    results = Results(path, _renamed(suite, shown), name, budget, {}, Counter(), Counter(), {})
    for cell in cells(suite, budget, home_of(path)):
        facts, seconds, converged = cell.steps[0].facts, 0.0, True
        place, repeat = (facts["row"], shown[facts["column"]]), (facts["fold"], facts["seed"])
        results.planned[place] += 1
        if reason := errors.get(cell.key):
            results.failed[place] += 1
            results.failures[cell.name] = reason
        for step in cell.steps:
            own = found.get((*step.key, step.split, "all"))
            if own is None:
                continue
            took = float(own["step_seconds"])
            if trained := step.words[0] == "fit":
                converged = converged and own.get("converged") == "True"
            seconds = seconds + took if trained else took
            if step.facts["test"]:
                unique = found.get((*step.key, "test", "without copies"))
                result = Result(own, unique, step.folder, seconds, _overlap(repeat[0], own), converged)
                corruption = tuple(step.facts["corruption"]) if step.facts["corruption"] else None
                test = shown.get(step.facts["test"], step.facts["test"])
                results.tests.setdefault((*place, test, corruption), {})[repeat] = result
    return results


def _renamed(suite: Suite, shown: dict[str, str]) -> Suite:
    """Give the columns the names that are shown."""
    columns = [replace(column, name=shown[column.name]) for column in suite.columns]
    rows = [replace(row, claimed={shown[name]: found for name, found in row.claimed.items()}) for row in suite.rows]
    return replace(suite, columns=columns, rows=rows)


def read_run(path: Path) -> tuple[Suite, str, Budget]:
    """Read the suite that was run, and the name and the value of its budget."""
    if not path.is_file():
        raise FerlError(f"there is no {path}, the suite that was run; give a folder or a csv of `ferl bench run`")
    made = yaml.safe_load(path.read_text("utf-8"))
    suite = parse_suite(made["suite"])
    return suite, made["budget"], suite.budgets[made["budget"]]


def read_repeat(line: dict[str, str]) -> Repeat:
    """Read fold and seed of a line."""
    return int(line["fold"]) if line["fold"] else None, int(line["seed"])


def _overlap(fold: int | None, line: dict[str, str]) -> float:
    if fold is None or not line.get("train_items"):
        return 0.0
    return int(line["test_items"]) / int(line["train_items"])


def read_predictions(folder: Path) -> dict[str, tuple[str, str, float]] | None:
    """Read the true class, predicted class and confidence in [0, 1] of each item; None where they were not kept.

    Args:
        folder: run folder of a test.
    """
    path = folder / "report" / "predictions.csv"
    if not path.is_file():
        return None
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.reader(file)
        next(rows)  # name, label, prediction, confidence and the probabilities
        return {row[0]: (row[1], row[2], float(row[3])) for row in rows}


def read_curves(folder: Path) -> dict[str, dict[int, float]]:
    """Read the values of each metric of a training by epoch; empty where they were not kept.

    Args:
        folder: run folder of the training.
    """
    curves = dict[str, dict[int, float]]()
    for path in sorted(folder.glob("metrics*.csv")):  # metrics.001.csv of what was resumed comes before metrics.csv
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                for name, value in row.items():
                    if value and row["epoch"] and "/" in name:
                        curves.setdefault(name, {})[int(row["epoch"])] = float(value)
    return curves

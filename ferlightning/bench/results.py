"""Reads the folder that ``ferl bench run`` leaves. Nothing else of the report knows how its files lie."""

import csv
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ferlightning.bench.suite import Budget, Suite, cells, parse_suite
from ferlightning.errors import FerlError
from ferlightning.evaluation.statistics import Array

Repeat = tuple[int | None, int]
"""Fold, or None for data of one split, and seed."""
Corruption = tuple[str, int]
"""Name and severity."""


@dataclass(frozen=True)
class Result:
    """One test of one trained model.

    Attributes:
        folder: of its run.
        report: its metrics.json.
        seconds: of its step; of a system's own test also those of training, pre-training included.
        overlap: test items for each training item if the data were split into folds, else 0: how much of the spread
            over repeats is hidden by training sets that are nearly the same.
    """

    folder: Path
    report: dict[str, Any]
    seconds: float
    overlap: float

    def score(self, metric: str) -> float:
        """Value of a metric, in [0, 1]."""
        return float(self.report["metrics"][metric]["value"])

    @property
    def confusion(self) -> Array:
        """Counts (K, K), true classes in rows."""
        return np.array(self.report["confusion_matrix"])

    @property
    def classes(self) -> list[str]:
        """K names."""
        return list(self.report["per_class"])


@dataclass(frozen=True)
class Results:
    """What a folder holds.

    Attributes:
        folder: that was read.
        suite: that was run.
        budget_name: and how much of it was trained.
        budget: the same.
        tests: by row, column, test and corruption, each by repeat in the order of the suite.
        planned: number of cells by row and column.
        failed: number of failed cells by row and column.
        failures: last line of the output of a failed cell, by its name.
    """

    folder: Path
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
        """Results of a row trained on a column, by repeat.

        Args:
            row: name of a system.
            column: name of the data it was trained on.
            test: name of the data it was tested on; None for the column's own test.
            corruption: of the test's images; None for none.
        """
        return self.tests.get((row, column, test or column, corruption), {})

    @property
    def all(self) -> list[Result]:
        """Every result."""
        return [result for tests in self.tests.values() for result in tests.values()]

    def facts(self, name: str) -> list[str]:
        """Different values of a fact of the provenance."""
        values = (result.report["provenance"][name] for result in self.all)
        return list(dict.fromkeys("not known" if value is None else str(value) for value in values))

    @property
    def rows(self) -> list[str]:
        """Names of the systems."""
        return [row.name for row in self.suite.rows]

    @property
    def columns(self) -> list[str]:
        """Names of the data sets that are trained on."""
        return [column.name for column in self.suite.columns]


def read_results(folder: Path) -> Results:
    """Read all results below a folder.

    Raises:
        FerlError: it is no folder of ``ferl bench run``, or none of its cells has ended.
    """
    if not (folder / "suite.yaml").is_file():
        raise FerlError(
            f"{folder} has no suite.yaml: give a folder that `ferl bench run` wrote, as runs/bench/smoke-cpu"
        )
    made = yaml.safe_load((folder / "suite.yaml").read_text("utf-8"))
    suite = parse_suite(made["suite"])
    budget = suite.budgets[made["budget"]]

    tests: dict[tuple[str, str, str, Corruption | None], dict[Repeat, Result]] = {}
    planned, failed, failures = Counter[tuple[str, str]](), Counter[tuple[str, str]](), {}
    for cell in cells(suite, budget, folder):
        facts, seconds = cell.steps[0].facts, 0.0
        place = (facts["row"], facts["column"])
        planned[place] += 1
        if (cell.folder / "failed.txt").is_file():
            failed[place] += 1
            *_, reason, _ = ["no output", *(cell.folder / "failed.txt").read_text("utf-8").splitlines()]
            failures[cell.name] = reason
        for step in cell.steps:
            if not step.done:
                continue
            took = json.loads((step.folder / "step.json").read_text("utf-8"))["seconds"]
            seconds = seconds + took if step.folder.name in ("pretrain", "main") else took
            if step.facts["test"] is None:
                continue
            report = json.loads((step.folder / "report" / "metrics.json").read_text("utf-8"))
            corruption = tuple(step.facts["corruption"]) if step.facts["corruption"] else None
            result = Result(step.folder, report, seconds, _overlap(facts["fold"], report))
            tests.setdefault((*place, step.facts["test"], corruption), {})[facts["fold"], facts["seed"]] = result
    if not tests and not failures:
        raise FerlError(f"{folder} has no result yet: `ferl bench run` makes them")
    return Results(folder, suite, made["budget"], budget, tests, planned, failed, failures)


def _overlap(fold: int | None, report: dict[str, Any]) -> float:
    data = report["provenance"]["data"]
    if fold is None or data is None:
        return 0.0
    return float(data["test"]["items"] / data["train"]["items"])


def read_predictions(result: Result) -> dict[str, tuple[str, str, float]] | None:
    """True class, predicted class and confidence in [0, 1] by name of the item; None where they were not kept."""
    path = result.folder / "report" / "predictions.csv"
    if not path.is_file():
        return None
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.reader(file)
        next(rows)  # name, label, prediction, confidence and the probabilities
        return {row[0]: (row[1], row[2], float(row[3])) for row in rows}


def read_curves(result: Result) -> dict[str, dict[int, float]]:
    """Values of each metric of the training by epoch; empty where they were not kept."""
    path = result.folder / "metrics.csv"
    if not path.is_file():
        return {}
    curves: dict[str, dict[int, float]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.reader(file)
        head = next(rows)
        epoch = head.index("epoch")
        for row in rows:
            for name, value in zip(head, row, strict=True):
                if value and row[epoch] and "/" in name:
                    curves.setdefault(name, {})[int(row[epoch])] = float(value)
    return curves

"""The results of a suite, kept in one csv: a line for each report of each trained model, and one for each failed cell.

``ferl bench run`` keeps it up to date with what the cells have left; reports are made from the csv alone. X.csv goes
with X.yaml, the budget and the suite that were run. The resolved configuration of a training is given once for each
system and data set. Columns with lists or objects are JSON.
"""

import csv
import json
import math
import re
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ferlightning.bench.suite import KEYS, Budget, Cell, Key, Step, Suite, cells, parse_suite, read_json
from ferlightning.bounded_yaml import load
from ferlightning.errors import FerlError
from ferlightning.evaluation.statistics import Array, Interval
from ferlightning.files import replacing

Repeat = tuple[int | None, int]
"""Fold, or None for data with a single split, and seed."""
COLUMNS = {"weighted_recall": "accuracy", "loss": "nll"}
"""What the csv calls a measure, where the names differ; recall weighted by support is accuracy."""
FACTS = ("device", "devices", "precision", "git_revision", "parameters", "multiply_adds")
"""Provenance that is copied to a line as it is."""
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
        return self._number(COLUMNS.get(metric, metric))

    def interval(self, metric: str) -> Interval | None:
        """95 % interval of a metric over images; the latency has none."""
        name = COLUMNS.get(metric, metric)
        return None if metric == "latency" else (self._number(f"{name}_low"), self._number(f"{name}_high"))

    def _number(self, name: str) -> float:
        try:
            return float(self.line.get(name) or "")
        except ValueError:
            raise FerlError(
                f"a line of the results has no {name} that is a number: it was cut short, or is of another version"
            ) from None

    @property
    def n(self) -> int:
        """Number of test images."""
        return int(self.line["n"])

    @cached_property
    def confusion(self) -> Array:
        """Counts (K, K), true classes in rows."""
        return np.array(json.loads(self.line["confusion"]))

    @cached_property
    def right(self) -> Array | None:
        """Which test images were right, (n,) bool, in the order of the data; None where that was not kept."""
        bits = np.frombuffer(bytes.fromhex(self.line.get("right", "")), np.uint8)
        return np.unpackbits(bits)[: self.n].astype(bool) if len(bits) else None

    @cached_property
    def person(self) -> Array | None:
        """Number of the person on each test image, (n,); None where people are not known."""
        numbers = self.line.get("person", "")
        return np.array(numbers.split(), int) if numbers else None

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
        with path.open(newline="", encoding="utf-8-sig") as file:  # Excel writes the mark
            lines = list(csv.DictReader(file, restval=""))  # a row that is cut short
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
    for line in lines:
        try:
            _check(line)
        except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            raise FerlError(f"{path}: the line of {'/'.join(map(str, key_of(line)))} is damaged: {error}") from None
    errors = {key_of(line): line["error"] for line in lines if line.get("error")}
    found = {(*key_of(line), line["split"], line["images"]): line for line in lines if not line.get("error")}

    shown = {column.name: f"{column.name} (leaking)" if column.leaking else column.name for column in suite.columns}
    results = Results(path, _renamed(suite, shown), name, budget, {}, Counter(), Counter(), {})
    planned = cells(suite, budget, home_of(path))
    known = {key for cell in planned for key in (cell.key, *(step.key for step in cell.steps))}
    if other := next((key_of(line) for line in lines if key_of(line) not in known), None):
        raise FerlError(
            f"{path}: {'/'.join(map(str, other))} is not in {path.with_suffix('.yaml')}, the suite that was run; "
            "delete its lines"
        )
    for cell in planned:
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


def _check(line: dict[str, str]) -> None:
    """Read the values of a line as reports do; raises what one of another kind raises there."""
    if line.get("error"):
        return
    if line["images"] == "all":  # of the other lines of a test, the scores alone are shown
        classes, confusion = json.loads(line["classes"]), np.array(json.loads(line["confusion"]))
        square = confusion.shape == (len(classes),) * 2 and confusion.dtype.kind == "i"
        if not square or confusion.min() < 0 or confusion.sum() != int(line["n"]) or not confusion.any():
            raise ValueError("its confusion matrix is not one of its classes")
        right = confusion.trace() / confusion.sum()
        if line.get("accuracy") and abs(float(line["accuracy"]) - right) > 1e-6:  # it has eight digits
            raise ValueError(f"its accuracy is {line['accuracy']}, but by its confusion matrix {right:.8f}")
        float(line["step_seconds"])
        if not isinstance(json.loads(line["notes"]), list) or not isinstance(json.loads(line["versions"]), dict):
            raise ValueError("its notes or versions are none")
    bytes.fromhex(line.get("right") or "")
    _ = [int(number) for number in (line.get("person") or "").split()]
    measures = {name.removesuffix("_low") for name in line if name and name.endswith("_low")}
    ends = ("_low", "_high", "per_second", "seconds", "parameters", "multiply_adds")
    for name, value in line.items():
        if name and value and (name in measures or name.endswith(ends)) and not math.isfinite(float(value)):
            raise ValueError(f"its {name} is {value}")
        if name and value and name.endswith("_items"):
            1 / int(value)


def _renamed(suite: Suite, shown: dict[str, str]) -> Suite:
    """Give the columns the names that are shown."""
    columns = [replace(column, name=shown[column.name]) for column in suite.columns]
    rows = [replace(row, claimed={shown[name]: found for name, found in row.claimed.items()}) for row in suite.rows]
    return replace(suite, columns=columns, rows=rows)


def read_run(path: Path) -> tuple[Suite, str, Budget]:
    """Read the suite that was run, and the name and the value of its budget."""
    from jsonargparse import ArgumentError

    if not path.is_file():
        raise FerlError(f"there is no {path}, the suite that was run; give a folder or a csv of `ferl bench run`")
    try:
        made = load(path.read_text("utf-8"))
        suite = parse_suite(made["suite"])
        return suite, made["budget"], suite.budgets[made["budget"]]
    except (ArgumentError, yaml.YAMLError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise FerlError(f"{path} is not what `ferl bench run` wrote: {error}") from None


def _overlap(fold: int | None, line: dict[str, str]) -> float:
    if fold is None or not line.get("train_items"):
        return 0.0
    return int(line["test_items"]) / int(line["train_items"])


# --- from the cells to the csv ----------------------------------------------------------------------------------------


def collect(path: Path) -> list[str]:
    """Bring the csv of a suite up to date with what its cells have left.

    Lines of a step whose folder is not here, which another machine has run, stay as they are.

    Args:
        path: of the csv.

    Returns:
        A sentence for each file that cannot be read and was left out.
    """
    suite, _, budget = read_run(path.with_suffix(".yaml"))
    home, kept = home_of(path), dict[Key, list[dict[str, Any]]]()
    for line in read_lines(path):
        if not line.get("error"):
            line.pop("error", None)  # no column for what has not happened
        kept.setdefault(key_of(line), []).append(line)
    lines, problems, configured = list[dict[str, Any]](), list[str](), set[tuple[str, ...]]()
    for cell in cells(suite, budget, home):
        reason = _failure(cell.folder / "failed.txt")
        for step in cell.steps:
            for broken in step.broken:
                problems.append(f"{broken} is damaged, so its step is left out; run the suite again to repeat it")
                reason = f"{broken.name} is damaged"
            made = _lines(cell, step, home) if step.done else kept.get(step.key, [])
            for line in made:
                if line.get("configuration"):  # once for each system and data set
                    what = (step.key[0], step.key[1], step.name)
                    line["configuration"] = "" if what in configured else line["configuration"]
                    configured.add(what)
            lines += made
        if not cell.folder.exists():
            lines += kept.get(cell.key, [])
        elif reason:
            lines.append(dict(zip(KEYS, cell.key, strict=True)) | {"split": "", "images": "", "error": reason})
    _write_csv(path, lines)
    return problems


def forget(path: Path, keys: set[Key]) -> None:
    """Delete the lines of steps and failed cells."""
    lines = read_lines(path)
    if kept := [line for line in lines if key_of(line) not in keys]:
        _write_csv(path, kept)
    else:
        path.unlink(missing_ok=True)


def _lines(cell: Cell, step: Step, home: Path) -> list[dict[str, Any]]:
    """The lines of a step that is done: for each split all images, and those without copies in training."""
    done, lines = read_json(step.folder / "step.json") or {}, list[dict[str, Any]]()
    corruption, severity = step.facts["corruption"] or ("", "")
    for split, path in step.reports.items():
        if (report := read_json(path)) is None:
            continue
        place: dict[str, Any] = dict(zip(KEYS, step.key, strict=True))
        place |= {"test": step.facts["test"], "split": split, "corruption": corruption, "severity": severity}
        facts = _facts(report) | {"step_seconds": round(done["seconds"], 3)}
        facts |= {"converged": done.get("converged", ""), "command": step.command}
        if step.name == "main" and split == "test":  # what comparisons need
            facts |= report.get("items", {})
        lines.append(place | {"images": "all"} | _scores(report) | facts)
        if len(lines) == 1 and step.name in ("pretrain", "main"):
            config = done.get("config") or report["provenance"]["config"]
            lines[0]["configuration"] = _shorten(_json(config), cell, home)
        if report["deduplicated"]:
            classes = {"per_class": report["per_class"]}
            lines.append(place | {"images": "without copies"} | _scores(classes | report["deduplicated"]))
    return lines


def _scores(report: dict[str, Any]) -> dict[str, Any]:
    """Flatten the numbers of a metrics.json. Other scores of a class follow from the confusion counts."""
    line = {
        "n": report["n"],
        "classes": _json(list(report["per_class"])),
        "confusion": _json(report["confusion_matrix"]),
    }
    for name, found in report["metrics"].items():
        line[name] = _round(found["value"])
        line |= {f"{name}_{end}": _round(found[end]) for end in ("low", "high")}
    return line


def _facts(report: dict[str, Any]) -> dict[str, Any]:
    """Flatten the notes and the provenance of a metrics.json, without its command and configuration."""
    made = report["provenance"]
    line: dict[str, Any] = {"notes": _json(report["notes"]), "versions": _json(made["versions"])}
    line |= {name: made[name] for name in FACTS}
    line |= {"evaluation_seconds": round(made["seconds"], 3), "images_per_second": round(made["images_per_second"], 1)}
    for split, found in (made["data"] or {}).items():
        line |= {f"{split}_{name}": value for name, value in found.items()}
    return line


def _write_csv(path: Path, lines: list[dict[str, Any]]) -> None:
    """Write lines whose keys may differ; the file appears by rename."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for line in lines for key in line)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def _shorten(text: str, cell: Cell, home: Path) -> str:
    """Replace the folder of a cell, wherever the suite was run, by ``{cell}`` in JSON."""
    return re.sub(rf'(?<=")[^"]*{re.escape(cell.folder.relative_to(home).as_posix())}', "{cell}", text)


def _failure(path: Path) -> str:
    if not path.is_file():
        return ""
    lines = ["no output", *path.read_text("utf-8", errors="replace").splitlines()]  # the last one is the exit status
    return lines[max(len(lines) - 2, 0)]


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 8)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

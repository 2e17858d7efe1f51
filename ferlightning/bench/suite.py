"""A suite: which systems are trained on which data, with which folds and seeds, and what they are tested on.

Rows and columns are lists of ``ferl`` arguments: a suite can say what the command line can say, and nothing else.
"""

import json
import re
import shlex
from dataclasses import MISSING, dataclass, field, fields
from difflib import get_close_matches
from itertools import chain, product
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin

import yaml

from ferlightning.bounded_yaml import load
from ferlightning.errors import FerlError
from ferlightning.forms import ANY, odd_places

SEVERITIES = range(1, 6)
"""Severities of a corruption, as in Hendrycks and Dietterich 2019."""
TRAINING = "training images"
"""Name of the test that tells how much of a score is memory."""
Shares = Literal["accuracy", "balanced_accuracy", "macro_precision", "macro_f1", "weighted_precision", "weighted_f1"]
"""Scores that a confusion matrix determines."""
Measure = Literal[Shares, "weighted_recall", "loss", "latency"]
"""What papers claim, in percent; the loss in nats, the latency in milliseconds."""
Key = tuple[str, str, str, str, str]
RECORD: dict[str, Any] = {"seconds": float | int, "words": [str]}
"""Of a ``step.json`` that is there; it gets the seconds at the end."""
REPORT: dict[str, Any] = {
    "n": int, "per_class": {ANY: dict}, "confusion_matrix": [[int]], "metrics": {ANY: {"value": float | int | None}},
    "notes": [str], "deduplicated": dict | None,
    "provenance": {"versions": dict, "seconds": float | int, "images_per_second": float | int, "data": dict | None},
}  # fmt: skip
"""Of a ``metrics.json``."""
KEYS = ("system", "data", "fold", "seed", "step")
"""Columns of a csv of results that name a step."""


@dataclass(frozen=True)
class Row:
    """A system.

    Args:
        name: shown in tables.
        args: arguments of ``ferl fit``; ``{pretrained}`` stands for the run folder of ``pretrain``.
        claimed: what the paper claims, by name of column: the accuracy in percent, or several measures by name.
        ablates: the row that this one is an ablation of; null for a system of its own.
        pretrain: arguments of a ``ferl fit`` that runs first in every cell.
        also: extra arguments for single columns, by name, placed after those of the column.
    """

    name: str
    args: list[str]
    claimed: dict[str, float | dict[Measure, float]] = field(default_factory=dict)
    ablates: str | None = None
    pretrain: list[str] | None = None
    also: dict[str, list[str]] = field(default_factory=dict)

    def claims(self, column: str) -> dict[Measure, float]:
        """Return the claims on a column by measure."""
        found = self.claimed.get(column, {})
        return found if isinstance(found, dict) else {"accuracy": found}


@dataclass(frozen=True)
class Column:
    """Data to train and test on.

    Args:
        name: shown in tables.
        args: arguments of ``ferl fit``, placed after those of the row.
        folds: values of ``--data.fold``; null if the data has a single split.
        leaking: true if people or images of the test part are trained on, to show what that does to a score: the report
            marks it, and has no verdict on it.
    """

    name: str
    args: list[str] = field(default_factory=list)
    folds: list[int] | None = None
    leaking: bool = False


@dataclass(frozen=True)
class OtherTest:
    """Other data that trained models are tested on; classes are matched by name.

    Args:
        name: shown in tables; a model trained on the column of this name is not tested on it again.
        args: arguments of ``ferl test``.
    """

    name: str
    args: list[str]


@dataclass(frozen=True)
class Budget:
    """How much is trained.

    Args:
        args: arguments of ``ferl fit``, placed after all others.
        note: what the budget means for the numbers; shown at the top of the report.
        seeds: replace the suite's seeds.
        folds: replace the columns' folds.
    """

    args: list[str] = field(default_factory=list)
    note: str = ""
    seeds: list[int] | None = None
    folds: list[int] | None = None


@dataclass(frozen=True)
class Suite:
    """The contents of a suite file.

    Args:
        title: title of the report.
        rows: the systems.
        columns: the data.
        budgets: by name; without any, ``full``, which adds nothing.
        about: a paragraph below the title, for example where the claims come from.
        seeds: every cell is repeated with each seed.
        tests: other data that every trained model is tested on.
        corruptions: parts for ``--data.corrupt``; every test is repeated with each of them at severities 1 to 5.
        training: test every trained model on its training images, too.
    """

    title: str
    rows: list[Row]
    columns: list[Column]
    budgets: dict[str, Budget] = field(default_factory=dict)
    about: str = ""
    seeds: list[int] = field(default_factory=lambda: [42])
    tests: list[OtherTest] = field(default_factory=list)
    corruptions: list[str] = field(default_factory=list)
    training: bool = False


@dataclass(frozen=True)
class Step:
    """One ``ferl`` command of a cell.

    Attributes:
        name: of its run folder in that of the cell.
        folder: its run folder.
        words: the words after ``ferl``; ``{cell}`` stands for the folder of the cell.
        facts: row, column, fold, seed, test (null for pre-training) and corruption, as plain values.
    """

    name: str
    folder: Path
    words: list[str]
    facts: dict[str, Any]

    @property
    def command(self) -> str:
        """The command as one line."""
        return shlex.join(["ferl", *self.words])

    @property
    def split(self) -> str:
        """The split that it is there for; pre-training tests nothing."""
        return "test" if self.facts["test"] else "val"

    @property
    def key(self) -> Key:
        """What its lines in a csv have in the columns of ``KEYS``."""
        fold = "" if self.facts["fold"] is None else str(self.facts["fold"])
        return (self.facts["row"], self.facts["column"], fold, str(self.facts["seed"]), self.name)

    @property
    def reports(self) -> dict[str, Path]:
        """Where its reports are, by split; a step need not write both."""
        return {"val": self.folder / "report_val/metrics.json", "test": self.folder / "report/metrics.json"}

    @property
    def broken(self) -> list[Path]:
        """Files that are there and cannot be read, or are not what was written."""
        forms = {self.folder / "step.json": RECORD} | dict.fromkeys(self.reports.values(), REPORT)
        needed = REPORT.keys() - {"notes", "deduplicated"}
        found = {path: read_json(path) for path in forms if path.is_file()}
        return [path for path, read in found.items() if read is None or any(odd_places(read, forms[path], "", needed))]

    @property
    def done(self) -> bool:
        """Whether its results are there; ``step.json`` gets the seconds at the end."""
        record = read_json(self.folder / "step.json") or {}
        return "seconds" in record and read_json(self.reports[self.split]) is not None and not self.broken


@dataclass(frozen=True)
class Cell:
    """One system trained once, and everything done with it.

    Attributes:
        name: for example P1/CK+/fold-0/seed-42.
        folder: holds all its steps.
        steps: in order; the first that fails ends the cell.
    """

    name: str
    folder: Path
    steps: list[Step]

    @property
    def key(self) -> Key:
        """What a line of a csv that says why it failed has in the columns of ``KEYS``."""
        return (*self.steps[0].key[:-1], "")


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; return None if the file is absent, no file, or cut short."""
    try:
        found = json.loads(path.read_bytes()) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def read_suite(path: Path) -> Suite:
    """Read a suite file.

    Raises:
        FerlError: the file is absent, not YAML, or not a suite; the message names the file and the key.
    """
    from jsonargparse import ArgumentError

    if not path.is_file():
        raise FerlError(f"there is no suite {path}; those of the project are in benchmarks/suites")
    try:
        suite = parse_suite(load(path.read_text("utf-8")))
    except UnicodeDecodeError as error:
        raise FerlError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except (ArgumentError, yaml.YAMLError, TypeError, ValueError, OverflowError) as error:
        raise FerlError(f"{path}: {error}") from None
    for kind in ("rows", "columns", "budgets"):
        if not getattr(suite, kind):
            raise FerlError(f"{path}: {kind}: there are none; a suite needs at least one")
    lists: dict[str, list[int] | None] = {"seeds": suite.seeds}
    for column in suite.columns:
        lists[f"columns, {column.name}: folds"] = column.folds
    for name, budget in suite.budgets.items():
        lists |= {f"budgets, {name}: seeds": budget.seeds, f"budgets, {name}: folds": budget.folds}
    for where, numbers in lists.items():
        if numbers is None:
            continue
        if not numbers:
            raise FerlError(f"{path}: {where}: the list is empty; give at least one number, or leave the key out")
        if twice := [n for n in numbers if numbers.count(n) > 1]:
            raise FerlError(f"{path}: {where}: {twice[0]} is given twice; each cell is trained once")
    _refuse_own_options(path, suite)
    names = [row.name for row in suite.rows]
    columns, tests = [column.name for column in suite.columns], [test.name for test in suite.tests]
    for kind, found in (("rows", names), ("columns", columns), ("tests", tests)):
        slugs = [slug(name) for name in found]
        for name, folder in zip(found, slugs, strict=True):
            if folder in ("", ".", "..") or re.search(r"[/\\\0]", name):
                raise FerlError(f"{path}: {kind}: {name!r} cannot name a folder; use letters, digits and no slash")
            if slugs.count(folder) > 1:
                raise FerlError(f"{path}: {kind}: two have the name {folder!r}; each needs its own")
    for row in suite.rows:
        if row.ablates is not None and row.ablates not in names:
            raise FerlError(f"{path}: row {row.name!r} ablates {row.ablates!r}, which is not a row of this suite")
        claims = [measure for column in columns for measure in row.claims(column)]
        if unclear := {*claims} - {*get_args(Measure)}:
            raise FerlError(
                f"{path}: row {row.name!r} claims {unclear.pop()!r}; the measures are {', '.join(get_args(Measure))}"
            )
        for claim in (row.claims(column) for column in columns):
            shares = {measure: value for measure, value in claim.items() if measure not in ("loss", "latency")}
            if wrong := [value for value in shares.values() if not 1 < value <= 100]:
                raise FerlError(f"{path}: row {row.name!r} claims {wrong[0]:g}; claims are in percent, such as 71.2")
        if unknown := {*row.also, *row.claimed} - {*columns}:
            raise FerlError(f"{path}: row {row.name!r} names {unknown.pop()!r}, which is not a column of this suite")
    return suite


def _refuse_own_options(path: Path, suite: Suite) -> None:
    """Refuse arguments that the suite gives to every cell itself, after all others: they would be without effect."""
    given = [("rows", x.name, [*x.args, *(x.pretrain or []), *chain(*x.also.values())]) for x in suite.rows]
    given += [("columns", x.name, x.args) for x in suite.columns]
    given += [("budgets", name, x.args) for name, x in suite.budgets.items()]
    keys = {"--seed_everything": "seeds", "--trainer.default_root_dir": "--out", "--data.fold": "folds"}
    folded = any(column.folds for column in suite.columns)
    for kind, name, args in given:
        for option in (word.partition("=")[0] for word in args):
            if option in keys and (option != "--data.fold" or folded):
                raise FerlError(f"{path}: {kind}, {name}: {option} in args has no effect; give it by {keys[option]}")


def parse_suite(values: Any) -> Suite:
    """Make a suite of the contents of its file; errors of the parser name the key."""
    from jsonargparse import ArgumentParser

    if not isinstance(values, dict):
        raise ValueError("expected the keys title, rows and columns")
    _check_keys(values, Suite, "the suite")
    for kind, name in ((Row, "rows"), (Column, "columns"), (OtherTest, "tests")):
        entries = values.get(name)
        for entry in entries if isinstance(entries, list) else ():
            _check_keys(entry, kind, f"{name}, {entry.get('name', '?')}" if isinstance(entry, dict) else name)
    budgets = values.get("budgets")
    for name, entry in budgets.items() if isinstance(budgets, dict) else ():
        _check_keys(entry, Budget, f"budgets, {name}")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Suite)
    whole: dict[str, Any] = {"budgets": {"full": {}}} | values
    return Suite(**vars(parser.instantiate_classes(parser.parse_object(whole))))


def _check_keys(entry: Any, kind: Any, where: str) -> None:
    """Look for what the parser would answer at length: keys that are unknown or missing, and values of another kind."""
    known = {field.name: field for field in fields(kind)}
    if not isinstance(entry, dict):
        raise ValueError(f"{where}: {entry!r} stands for no keys; the keys are {', '.join(known)}")
    for key, value in entry.items():
        if key not in known:
            close = get_close_matches(str(key), known, 1)
            hint = f"did you mean {close[0]}?" if close else f"the keys are {', '.join(known)}"
            raise ValueError(f"{where}: there is no key {key!r}; {hint}")
        options = get_args(known[key].type) if isinstance(known[key].type, UnionType) else (known[key].type,)
        if get_origin(known[key].type) is dict and not isinstance(value, dict):
            raise ValueError(f"{where}: {key} is {value!r}, expected names with values, such as {{A: ...}}")
        if key == "claimed" and (odd := [x for x in value.values() if not isinstance(x, int | float | dict)]):
            raise ValueError(
                f"{where}: claimed has {odd[0]!r}, expected percent, such as 71.2, or measures with theirs"
            )
        item = next((get_args(x)[0] for x in options if get_origin(x) is list), None)
        if item is None or (value is None and NoneType in options):
            continue
        if not isinstance(value, list):
            raise ValueError(f"{where}: {key} is {value!r}, expected a list, such as [{value}]")
        odd = [x for x in value if item in (str, int) and (not isinstance(x, item) or isinstance(x, bool))]
        if odd:
            raise ValueError(f"{where}: {key} has {odd[0]!r}, expected {'text' if item is str else 'whole numbers'}")
    for key, field_ in known.items():
        if key not in entry and field_.default is MISSING and field_.default_factory is MISSING:
            raise ValueError(f"{where}: the key {key!r} is missing")


def cells(suite: Suite, budget: Budget, out: Path) -> list[Cell]:
    """List all cells by priority: every row and column with one seed before the next seed, fold by fold.

    So a table that is not complete compares like with like.

    Args:
        suite: to run.
        budget: one of its budgets.
        out: folder of the results.
    """
    made = []
    for seed in budget.seeds or suite.seeds:
        folds: list[list[int | None]] = [
            [None] if not column.folds else [*(column.folds if budget.folds is None else budget.folds)]
            for column in suite.columns
        ]
        for i in range(max(map(len, folds))):
            for column, of_column in zip(suite.columns, folds, strict=True):
                made += [
                    _cell(suite, budget, out, row, column, fold, seed)
                    for fold in of_column[i : i + 1]
                    for row in suite.rows
                ]
    return made


def _cell(suite: Suite, budget: Budget, out: Path, row: Row, column: Column, fold: int | None, seed: int) -> Cell:
    parts = [row.name, column.name, *([] if fold is None else [f"fold-{fold}"]), f"seed-{seed}"]
    folder = Path(out, "cells", *map(slug, parts))
    place = [f"--seed_everything={seed}", *([] if fold is None else [f"--data.fold={fold}"])]
    facts = {"row": row.name, "column": column.name, "fold": fold, "seed": seed, "test": column.name}
    facts |= {"corruption": None}

    def step(name: str, words: list[str], **more: Any) -> Step:
        into = f"--trainer.default_root_dir={{cell}}/{name}"
        return Step(name, folder / name, [*words, into], facts | more)

    def fit(args: list[str]) -> list[str]:
        words = [word.replace("{pretrained}", "{cell}/pretrain") for word in args]
        return ["fit", *words, *column.args, *row.also.get(column.name, []), *budget.args, *place]

    def test(name: str, args: list[str], **more: Any) -> Step:
        return step(f"tests/{slug(name)}", ["test", "--ckpt_path={cell}/main/checkpoints/best.ckpt", *args], **more)

    steps = [] if row.pretrain is None else [step("pretrain", fit(row.pretrain), test=None)]
    steps.append(step("main", [*fit(row.args), "--test_after_fit=true"]))
    if suite.training:
        steps.append(test(TRAINING, ["--data.tested=train"], test=TRAINING))
    steps += [test(t.name, t.args, test=t.name) for t in suite.tests if t.name != column.name]
    for name, severity in product(suite.corruptions, SEVERITIES):
        words = [f"--data.corrupt={name}", f"--data.corrupt.severity={severity}"]
        steps.append(test(f"{name}-{severity}", words, corruption=[name, severity]))
    return Cell("/".join(parts), folder, steps)


def slug(name: str) -> str:
    """Turn a name into that of a folder."""
    return re.sub(r"[^\w.+-]+", "_", name).strip("_")

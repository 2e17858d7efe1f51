"""A suite: which systems are trained on which data, in which folds and with which seeds, and what they are tested on.

Rows and columns are lists of ``ferl`` arguments: a suite can say what the command line can say, and nothing else.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ferlightning.errors import FerlError

SEVERITIES = range(1, 6)
"""Of a corruption, Hendrycks and Dietterich 2019."""


@dataclass(frozen=True)
class Row:
    """A system.

    Args:
        name: in tables.
        args: of ``ferl fit``; ``{pretrained}`` stands for the run folder of ``pretrain``.
        claimed: accuracy that its paper claims, in percent, by name of column.
        ablates: the row of which this one is a part; null for a system of its own.
        pretrain: arguments of a ``ferl fit`` that comes first in every cell.
        also: further arguments on the column of a name, after those of the column.
    """

    name: str
    args: list[str]
    claimed: dict[str, float] = field(default_factory=dict)
    ablates: str | None = None
    pretrain: list[str] | None = None
    also: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Column:
    """Data to train on, and to test on.

    Args:
        name: in tables.
        args: of ``ferl fit``, after those of the row.
        folds: values of ``--data.fold``; null: the data have one split of their own.
    """

    name: str
    args: list[str] = field(default_factory=list)
    folds: list[int] | None = None


@dataclass(frozen=True)
class OtherTest:
    """Other data that trained models are tested on, their classes matched by name.

    Args:
        name: in tables; what was trained on the column of this name is not tested on it again.
        args: of ``ferl test``.
    """

    name: str
    args: list[str]


@dataclass(frozen=True)
class Budget:
    """How much is trained.

    Args:
        args: of ``ferl fit``, after all others.
        note: what that means for the numbers, for the head of the report.
        seeds: in place of the suite's.
        folds: in place of the columns'.
    """

    args: list[str] = field(default_factory=list)
    note: str = ""
    seeds: list[int] | None = None
    folds: list[int] | None = None


@dataclass(frozen=True)
class Suite:
    """What stands in a suite file.

    Args:
        title: of the report.
        rows: the systems.
        columns: the data.
        budgets: by name.
        about: a paragraph below the title, as where the claims come from.
        seeds: each gives every cell once more.
        tests: other data that every trained model is tested on.
        corruptions: parts for ``--data.corrupt`` that every test is repeated under, each at severities 1 to 5.
    """

    title: str
    rows: list[Row]
    columns: list[Column]
    budgets: dict[str, Budget]
    about: str = ""
    seeds: list[int] = field(default_factory=lambda: [42])
    tests: list[OtherTest] = field(default_factory=list)
    corruptions: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Step:
    """One ``ferl`` command of a cell.

    Attributes:
        folder: its run folder.
        words: what stands after ``ferl``.
        facts: what the report has to know of it, plain values.
    """

    folder: Path
    words: list[str]
    facts: dict[str, Any]

    @property
    def done(self) -> bool:
        """Whether its results are there: ``step.json`` is written last."""
        report = "report" if self.facts["test"] else "report_val"
        return (self.folder / report / "metrics.json").is_file() and (self.folder / "step.json").is_file()


@dataclass(frozen=True)
class Cell:
    """One system, trained once, and all that is done with it.

    Attributes:
        name: as P1/CK+/fold-0/seed-42.
        folder: of everything.
        steps: in order; the first one that fails ends the cell.
    """

    name: str
    folder: Path
    steps: list[Step]

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return all(step.done for step in self.steps)


def read_suite(path: Path) -> Suite:
    """Read a suite file.

    Raises:
        FerlError: it is absent, no YAML, or not a suite; the message names the key.
    """
    from jsonargparse import ArgumentError

    if not path.is_file():
        raise FerlError(f"there is no suite {path}; those of the project are in benchmarks/suites")
    try:
        suite = parse_suite(yaml.safe_load(path.read_text("utf-8")))
    except (ArgumentError, yaml.YAMLError, TypeError, ValueError) as error:
        raise FerlError(f"{path}: {error}") from None
    names = [row.name for row in suite.rows]
    for kind, found in (
        ("rows", names),
        ("columns", [c.name for c in suite.columns]),
        ("tests", [t.name for t in suite.tests]),
    ):
        slugs = [slug(name) for name in found]
        if repeated := {name for name in slugs if slugs.count(name) > 1}:
            raise FerlError(f"{path}: {kind}: two have the name {repeated.pop()!r}; each needs one of its own")
    for row in suite.rows:
        if row.ablates is not None and row.ablates not in names:
            raise FerlError(f"{path}: row {row.name!r} ablates {row.ablates!r}, which is no row of this suite")
        if unknown := {*row.also, *row.claimed} - {column.name for column in suite.columns}:
            raise FerlError(f"{path}: row {row.name!r} speaks of {unknown.pop()!r}, which is no column of this suite")
    return suite


def parse_suite(values: Any) -> Suite:
    """A suite from what stands in its file; the parser's own errors name the key."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Suite)
    return Suite(**vars(parser.instantiate_classes(parser.parse_object(values))))


def cells(suite: Suite, budget: Budget, out: Path) -> list[Cell]:
    """All cells, all rows of one fold and seed before the next: a table that is not complete compares like with like.

    Args:
        suite: what to run.
        budget: one of its budgets.
        out: folder of the results.
    """
    made = []
    for seed in budget.seeds or suite.seeds:
        for column in suite.columns:
            folds: Sequence[int | None] = column.folds or [None]
            if column.folds and budget.folds is not None:
                folds = budget.folds
            made += [_cell(suite, budget, out, row, column, fold, seed) for fold in folds for row in suite.rows]
    return made


def _cell(suite: Suite, budget: Budget, out: Path, row: Row, column: Column, fold: int | None, seed: int) -> Cell:
    parts = [row.name, column.name, *([] if fold is None else [f"fold-{fold}"]), f"seed-{seed}"]
    folder = Path(out, "cells", *map(slug, parts))
    place = [f"--seed_everything={seed}", *([] if fold is None else [f"--data.fold={fold}"])]
    facts = {
        "row": row.name,
        "column": column.name,
        "fold": fold,
        "seed": seed,
        "test": column.name,
        "corruption": None,
    }

    def fit(args: list[str], into: Path, *more: str) -> list[str]:
        words = [word.replace("{pretrained}", str(folder / "pretrain")) for word in args]
        own = row.also.get(column.name, [])
        return ["fit", *words, *column.args, *own, *budget.args, *place, f"--trainer.default_root_dir={into}", *more]

    def test(name: str, args: list[str], **more: Any) -> Step:
        into = folder / "tests" / slug(name)
        best = f"--ckpt_path={folder}/main/checkpoints/best.ckpt"
        return Step(into, ["test", best, *args, f"--trainer.default_root_dir={into}"], facts | more)

    steps = [Step(folder / "main", fit(row.args, folder / "main", "--test_after_fit=true"), facts)]
    if row.pretrain is not None:
        steps.insert(0, Step(folder / "pretrain", fit(row.pretrain, folder / "pretrain"), facts | {"test": None}))
    steps += [test(t.name, t.args, test=t.name) for t in suite.tests if t.name != column.name]
    steps += [
        test(
            f"{name}-{severity}",
            [f"--data.corrupt={name}", f"--data.corrupt.severity={severity}"],
            corruption=[name, severity],
        )
        for name in suite.corruptions
        for severity in SEVERITIES
    ]
    return Cell("/".join(parts), folder, steps)


def slug(name: str) -> str:
    """A name as a folder."""
    return re.sub(r"[^\w.+-]+", "_", name).strip("_")

"""What a search has found: a table, trials.csv, trials.png, and the command that repeats the best trial."""

import csv
import math
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ferlightning.sweep.worker import Search, reproduce

BLUE, ORANGE, GREY = "#2f6db3", "#d9772b", "#8a8f98"
COLUMNS = 3  # panels beside each other


def report(search: Search, console: Console) -> None:
    """Print the trials, and write ``trials.csv`` and ``trials.png`` into the folder of a search."""
    trials = search.trials()
    best = best_trial(search, trials)
    rows = [_row(search, trial) for trial in trials]
    _print(search, rows, best, console)

    def write_csv(path: Path) -> None:
        names = ["trial", "state", search.sweep.metric, "epochs", "seconds", *search.sweep.space]
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows({name: str(value) for name, value in row.items()} for row in rows)  # None too is a value

    with search.lock:  # several workers may end at once
        files = [_replace(search.out / "trials.csv", write_csv)]
        if any(math.isfinite(_value(search, trial)) for trial in trials):
            figure = _plot(search, trials)
            files.append(_replace(search.out / "trials.png", lambda path: figure.savefig(path, dpi=150, format="png")))
    console.print(f"Written: {', '.join(map(str, files))}", markup=False, soft_wrap=True)
    if best is not None:
        words = shlex.join(reproduce(search.sweep, search.sweep.decode(best.params)))
        console.print(f"Best: trial {best.number}, in {search.folder(best.number)}. To repeat it:", soft_wrap=True)
        console.print(f"  {words}", markup=False, highlight=False, soft_wrap=True)


def best_trial(search: Search, trials: list[FrozenTrial]) -> FrozenTrial | None:
    """The best of the trials that ran to their end; of equal ones the first."""
    done = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    choose = max if search.sweep.direction == "maximize" else min
    return choose(done, key=lambda trial: _value(search, trial), default=None)


def _value(search: Search, trial: FrozenTrial) -> float:
    """The best epoch so far, which is the one a run keeps the checkpoint of; NaN without any."""
    values = [x for x in trial.intermediate_values.values() if math.isfinite(x)]
    return (max if search.sweep.direction == "maximize" else min)(values, default=math.nan)


def _row(search: Search, trial: FrozenTrial) -> dict[str, Any]:
    value = _value(search, trial)
    state = "stopped early" if trial.state == TrialState.PRUNED else trial.state.name.lower()
    return {
        "trial": trial.number,
        "state": "failed" if trial.state == TrialState.FAIL else state,
        search.sweep.metric: value if math.isfinite(value) else "",
        "epochs": len(trial.intermediate_values),
        "seconds": f"{trial.duration.total_seconds():.1f}" if trial.duration else "",
        **search.sweep.decode(trial.params),
    }


def _print(search: Search, rows: list[dict[str, Any]], best: FrozenTrial | None, console: Console) -> None:
    metric = search.sweep.metric
    table = Table(title=f"{search.sweep.path}: {len(rows)} of {search.total} trials", title_justify="left")
    for name in ("trial", "state", metric, "epochs", "seconds", *search.sweep.space):
        table.add_column(escape(name), overflow="fold")
    for row in rows:
        shown = {name: _short(value) for name, value in row.items()}
        style = "bold green" if best is not None and row["trial"] == best.number else None
        names = ("trial", "state", metric, "epochs", "seconds", *search.sweep.space)
        table.add_row(*(escape(shown.get(name, "")) for name in names), style=style)
    console.print(table)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _replace(path: Path, write: Callable[[Path], None]) -> Path:
    temporary = path.with_name(f"{path.name}.tmp")
    write(temporary)
    return temporary.rename(path)


def _plot(search: Search, trials: list[FrozenTrial]) -> Figure:
    """Draw the value by trial with the best so far, and the value against each parameter that varies."""
    trials = [trial for trial in trials if math.isfinite(_value(search, trial))]
    varied = [n for n, kind in search.sweep.space.items() if not kind.single()]
    rows = math.ceil((1 + len(varied)) / COLUMNS)
    columns = min(COLUMNS, 1 + len(varied))
    figure = Figure(figsize=(4 * columns, 3.2 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).flatten()

    first, others = panels[0], panels[1 : 1 + len(varied)]
    _scatter(first, search, trials, [trial.number for trial in trials])
    choose, best = (max if search.sweep.direction == "maximize" else min), math.nan
    line = []
    for trial in trials:
        if trial.state == TrialState.COMPLETE:
            best = choose(_value(search, trial), best) if math.isfinite(best) else _value(search, trial)
        line.append(best)
    first.step([trial.number for trial in trials], line, where="post", color=ORANGE, label="best so far")
    first.set(xlabel="trial")
    first.xaxis.set_major_locator(MaxNLocator(integer=True))
    first.legend(frameon=False)

    for axes, name in zip(others, varied, strict=True):
        kind = search.sweep.space[name]
        x = [trial.params[name] for trial in trials]
        if isinstance(kind, CategoricalDistribution):
            x = [kind.choices.index(value) for value in x]
            labels = [str(search.sweep.decode({name: choice})[name]) for choice in kind.choices]
            axes.set_xticks(range(len(labels)), labels)
            axes.margins(x=0.2)
        elif getattr(kind, "log", False):
            axes.set_xscale("log")
        _scatter(axes, search, trials, x)
        axes.set(xlabel=name)
    for axes in panels[::columns]:
        axes.set(ylabel=search.sweep.metric)
    for axes in panels[1 + len(varied) :]:
        axes.remove()
    return figure


def _scatter(axes: Axes, search: Search, trials: list[FrozenTrial], x: list[Any]) -> None:
    for done, colour, label in ((True, BLUE, "done"), (False, GREY, "stopped early, failed or running")):
        chosen = [i for i, trial in enumerate(trials) if (trial.state == TrialState.COMPLETE) == done]
        if chosen:
            axes.scatter([x[i] for i in chosen], [_value(search, trials[i]) for i in chosen], color=colour, label=label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)

"""The pictures of a report on a suite. Figures are made without pyplot, which would keep them open."""

from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ferlightning.bench.statistics import Estimate, Friedman
from ferlightning.evaluation.curves import Curves
from ferlightning.evaluation.statistics import Array

if TYPE_CHECKING:  # matplotlib is imported late: it takes a second
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def save(figure: "Figure", path: Path) -> None:
    """Write a picture."""
    figure.savefig(path, dpi=110)


def _colour(i: int, n: int) -> tuple[float, ...]:
    from matplotlib import colormaps

    colour: tuple[float, ...] = colormaps["tab10" if n <= 10 else "tab20"](i % 20)
    return colour


def _panels(rows: int, columns: int, width: float, height: float) -> tuple["Figure", Array]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return figure, np.asarray(figure.subplots(rows, columns, squeeze=False))


def _finish(axes: "Axes", title: str) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    axes.set_title(title, fontsize=10, parse_math=False)


def _whole_numbers(axes: "Axes") -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _legend(figure: "Figure", names: list[str]) -> None:
    lines = [figure.axes[0].plot([], [], color=_colour(i, len(names)))[0] for i in range(len(names))]
    # Placed on the right, in extra width: below, long names would not fit a figure of one panel.
    figure.set_figwidth(figure.get_figwidth() + 0.7 + 0.08 * max(map(len, names)))
    legend = figure.legend(lines, names, loc="outside right upper", frameon=False, fontsize=8)
    for text in legend.get_texts():
        text.set_parse_math(False)


def scores(
    estimates: dict[tuple[str, str], Estimate],
    claimed: dict[tuple[str, str], float],
    rows: list[str],
    columns: list[str],
    metric: str,
) -> "Figure":
    """Draw each system's score with both intervals, and the claim of its paper.

    Args:
        estimates: by row and column.
        claimed: in percent, by row and column.
        rows: names of the systems.
        columns: names of the data sets.
        metric: name of the score.
    """
    figure, panels = _panels(1, len(columns), 3.2, 0.9 + 0.32 * len(rows))
    figure.set_figwidth(figure.get_figwidth() + 0.09 * max(map(len, rows)))
    for axes, column in zip(panels[0], columns, strict=True):
        for y, row in enumerate(rows):
            colour = _colour(y, len(rows))
            if (row, column) in claimed:
                axes.plot(claimed[row, column], y, "D", color="tab:red", markerfacecolor="none", markersize=6)
            if (row, column) not in estimates:
                continue
            found = estimates[row, column]
            if found.images is not None:
                axes.plot(100 * np.array(found.images), (y, y), color="grey", linewidth=1)
            if found.mean.interval is not None:
                axes.plot(100 * np.array(found.mean.interval), (y, y), color=colour, linewidth=5, alpha=0.4)
            axes.plot(100 * found.mean.value, y, "o", color=colour, markersize=5)
        axes.set_yticks(range(len(rows)), rows if axes is panels[0, 0] else [""] * len(rows), parse_math=False)
        axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel=f"{metric}, %")
        _finish(axes, column)
    return figure


def critical_difference(found: Friedman, rows: list[str]) -> "Figure":
    """Draw mean ranks; a bar joins systems that Nemenyi's test cannot tell apart."""
    from matplotlib.figure import Figure
    from pandas import DataFrame
    from scikit_posthocs import critical_difference_diagram

    figure = Figure(figsize=(8, 2 + 0.3 * len(rows)), layout="constrained")
    axes = figure.subplots()
    axes.tick_params(axis="x", labelsize=8)
    critical_difference_diagram(
        dict(zip(rows, found.ranks, strict=True)),
        DataFrame(found.nemenyi, index=rows, columns=rows),
        cd=found.critical_difference,
        ax=axes,
        label_fmt_left="{label} ({rank:.2f})",
        label_fmt_right="({rank:.2f}) {label}",
        label_props={"parse_math": False, "fontsize": 9},
    )
    return figure


def robustness(curves: dict[tuple[str, str], dict[str, list[float]]], rows: list[str], metric: str) -> "Figure":
    """Draw scores over severities.

    Args:
        curves: by column and corruption, the score in percent by row at each severity from 0, NaN where it was not run.
        rows: names of the systems.
        metric: name of the score.
    """
    columns = list(dict.fromkeys(column for column, _ in curves))
    kinds = list(dict.fromkeys(kind for _, kind in curves))
    figure, panels = _panels(len(columns), len(kinds), 2.6, 2.4)
    for axes, (column, kind) in zip(panels.flat, product(columns, kinds), strict=True):
        for i, row in enumerate(rows):
            score = curves.get((column, kind), {}).get(row, [])
            axes.plot(score, "o-", markersize=3, color=_colour(i, len(rows)))
        axes.set(xlabel="severity", ylabel=f"{metric}, %")
        _whole_numbers(axes)
        _finish(axes, f"{column}: {kind}")
    _legend(figure, rows)
    return figure


def learning_curves(curves: dict[str, dict[str, list[Curves]]], rows: list[str]) -> "Figure":
    """Draw loss and accuracy by epoch, the mean of the repeats: validation solid, training dashed.

    Args:
        curves: by column and row, those of each repeat.
        rows: names of the systems.
    """
    figure, panels = _panels(len(curves), 2, 4.2, 2.6)
    for pair, (column, of_rows) in zip(panels, curves.items(), strict=True):
        for axes, metric in zip(pair, ("loss", "accuracy"), strict=True):
            for i, row in enumerate(rows):
                for split, style in (("val", "-"), ("train", "--")):
                    repeats = [repeat.get(f"{split}/{metric}", {}) for repeat in of_rows.get(row, [])]
                    epochs = sorted({epoch for repeat in repeats for epoch in repeat})
                    mean = [np.mean([repeat[epoch] for repeat in repeats if epoch in repeat]) for epoch in epochs]
                    marker = "o" if len(epochs) == 1 else None
                    colour, shown = _colour(i, len(rows)), [epoch + 1 for epoch in epochs]
                    axes.plot(shown, mean, style, marker=marker, color=colour, linewidth=1)
            axes.set(xlabel="epoch", ylabel=metric)
            _whole_numbers(axes)
            _finish(axes, column)
    _legend(figure, rows)
    return figure

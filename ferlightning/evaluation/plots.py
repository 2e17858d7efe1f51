"""The pictures of a report.

Figures are objects of their own, without pyplot: no global state, no window system. Matplotlib takes long to import, so
the functions that draw import it.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torchmetrics.functional.classification import binary_average_precision, binary_precision_recall_curve

from ferlightning.evaluation.curves import Curves
from ferlightning.evaluation.explain import Explanations
from ferlightning.evaluation.metrics import count_items
from ferlightning.evaluation.statistics import BINS, Array, Counts, scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

BLUE, ORANGE, GREY = "#2f6db3", "#d9772b", "#8a8f98"
WIDEST = 15
"""Letters of a class name above a face."""
LINES = 20
"""Most classes that have a curve each."""
log = logging.getLogger(__name__)
COLUMNS = 6
"""How many faces fit side by side in the picture of where a model looked: stills, or frames of a clip."""


def save_plots(
    folder: Path,
    label: Array,
    probs: Array,
    class_names: list[str],
    curves: Curves,
    explanations: Explanations | None,
    faces: dict[str, Array] | None,
) -> list[Path]:
    """Draw every picture of a report.

    Args:
        folder: where the PNG files go.
        label: (N,) class index.
        probs: (N, K) in [0, 1].
        class_names: K names.
        curves: of the training; without any there is no picture of them.
        explanations: where the model looked at some items; None if that is not known.
        faces: from ``restoration.restored_faces``; None without a restorer.

    Returns:
        The files written.
    """
    from matplotlib import rc_context

    paths, counts = [], count_items(label, probs)
    # A class name with dollar signs is a name, not a formula, and may be in any script that this machine can write.
    with rc_context({"text.parse_math": False, "font.family": _fonts(class_names)}):
        figures = {
            "confusion_matrix": confusion_matrix(counts.confusion, class_names),
            "reliability": reliability(counts),
            "precision_recall": precision_recall(label, probs, class_names) if len(class_names) <= LINES else None,
            "learning_curves": learning_curves(curves, counts.confusion.sum(1).max() / max(len(label), 1)),
            "attention": attention(explanations) if explanations else None,
            "restoration": restoration(faces) if faces else None,
        }
        for name, figure in figures.items():
            if figure is not None:
                paths.append(folder / f"{name}.png")
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", "Glyph .* missing")  # _fonts has said so
                    figure.savefig(paths[-1], dpi=110)
    return paths


def _fonts(class_names: list[str]) -> list[str]:
    """Matplotlib's own font, and those of this machine that have the letters which it lacks."""
    from matplotlib.font_manager import findfont, fontManager
    from matplotlib.ft2font import FT2Font

    fonts = ["DejaVu Sans"]
    lacking = set(map(ord, "".join(class_names))) - {*FT2Font(findfont(fonts[0])).get_charmap()}
    for entry in fontManager.ttflist if lacking else ():
        font = FT2Font(entry.fname)
        if font.scalable and (found := lacking & {*font.get_charmap()}):  # pictures of emoji cannot be drawn
            fonts.append(entry.name)
            lacking -= found
    if lacking:
        log.warning(
            "The report's pictures have boxes in place of %s, which no font of this machine has; the page has them",
            "".join(map(chr, sorted(lacking)[:20])),
        )
    return fonts


def _figure(width: float, height: float, left: float = 0.7, right: float = 0.15, bottom: float = 0.55) -> Figure:
    """Make a figure with the given margins, all in inches: to measure them, matplotlib would draw everything twice."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    figure.subplots_adjust(left / width, bottom / height, 1 - right / width, 1 - 0.35 / height, hspace=0.1)
    return figure


def _whole_numbers(at_most: int = 9) -> MaxNLocator:
    """Place ticks at whole numbers."""
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(at_most, integer=True, min_n_ticks=1)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)


def confusion_matrix(confusion: Array, class_names: list[str]) -> Figure:
    """Draw counts in cells shaded by the share of the row, so that a rare class is as readable as a common one.

    Args:
        confusion: (K, K) counts, true classes in rows.
        class_names: K names.
    """
    from matplotlib.ticker import PercentFormatter

    side, names = max(3.0, 0.7 * len(class_names)), 0.6 + 0.08 * max(map(len, class_names))
    figure = _figure(names + side + 1.2, 0.75 * names + side + 0.35, left=names, right=0.7, bottom=0.75 * names)
    axes = figure.subplots()
    share = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(confusion):
        colour = "white" if share[row, column] > 0.5 else "black"
        text = f"{count}\n{share[row, column]:.0%}"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(class_names)), class_names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(class_names)), class_names)
    axes.set(xlabel="predicted", ylabel="true")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    bar = figure.colorbar(image, ax=axes, fraction=0.05, format=PercentFormatter(1), label="share of the true class")
    bar.outline.set_visible(False)
    return figure


def reliability(counts: Counts) -> Figure:
    """Draw, by bin of confidence, the accuracy, its gap to the mean confidence, and the number of images."""
    used = counts.images > 0
    centre = (np.arange(BINS) + 0.5) / BINS
    figure = _figure(5.2, 5.6)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])

    top.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="perfectly calibrated")
    accuracy, gap = counts.correct[used] / counts.images[used], -counts.gap[used] / counts.images[used]
    top.bar(centre[used], accuracy, width=0.9 / BINS, color=BLUE, label="accuracy")
    top.bar(centre[used], gap, 0.9 / BINS, accuracy, color=ORANGE, alpha=0.45, label="gap to the mean confidence")
    error = scores(counts)["calibration_error"]
    top.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy", title=f"expected calibration error {error:.3f}")
    top.legend(loc="upper left", frameon=False)

    bottom.bar(centre, counts.images, width=0.9 / BINS, color=GREY)
    bottom.set(xlabel="confidence", ylabel="images")
    bottom.yaxis.set_major_locator(_whole_numbers(3))
    for axes in (top, bottom):
        _plain(axes)
    return figure


def precision_recall(label: Array, probs: Array, class_names: list[str]) -> Figure:
    """Draw precision over recall of each class against all others, for every threshold of its probability.

    Args:
        label: (N,) class index.
        probs: (N, K) in [0, 1].
        class_names: K names.
    """
    from matplotlib import colormaps

    longest = max(map(len, class_names))
    figure = _figure(5 + 0.085 * longest, 4.2, right=1.3 + 0.075 * longest)
    axes = figure.subplots()
    for k, name in enumerate(class_names):
        if (own := label == k).any():
            of_class = torch.from_numpy(probs[:, k]), torch.from_numpy(own).int()
            precision, recall, _ = binary_precision_recall_curve(*of_class, validate_args=False)
            area = binary_average_precision(*of_class, validate_args=False)
            colour = colormaps["tab10" if len(class_names) <= 10 else "tab20"](k)
            axes.plot(recall, precision, color=colour, linewidth=1.2, label=f"{name} ({area:.2f})")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    if axes.lines:
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1), fontsize=8)
    _plain(axes)
    return figure


def learning_curves(curves: Curves, guess: float | None = None) -> Figure | None:
    """Draw loss and accuracy of training and validation over epochs.

    Args:
        curves: from ``read_curves``.
        guess: accuracy of always saying the most frequent class; None draws no line there.

    Returns:
        The figure; None if there is nothing to draw.
    """
    panels = {"loss": ["loss"], "accuracy": ["accuracy", "balanced_accuracy"]}
    figure = _figure(9, 3.6)
    drawn = False
    for axes, (panel, metrics) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for metric in metrics:
            for split, colour in (("train", BLUE), ("val", ORANGE)):
                if values := curves.get(f"{split}/{metric}"):
                    style = "--" if metric == "balanced_accuracy" else "-"
                    label = f"{split} {metric.replace('_', ' ')}"
                    marker = "o" if len(values) == 1 else None
                    epochs = [epoch + 1 for epoch in values]
                    axes.plot(epochs, [*values.values()], style, color=colour, label=label, marker=marker)
                    drawn = True
        axes.set(xlabel="epoch", ylabel=panel)
        axes.xaxis.set_major_locator(_whole_numbers())
        if all(len(line.get_xdata()) == 1 for line in axes.lines):  # else a single epoch would be thousandths of one
            axes.set_xlim(0.5, 1.5 if not axes.lines else axes.lines[0].get_xdata()[0] + 0.5)
        if panel == "accuracy":
            axes.set_ylim(0, 1)
            if guess is not None and axes.lines:
                axes.axhline(guess, color=GREY, linestyle=":", label="always the same class")
        else:
            highest = max((value for line in axes.lines for value in line.get_ydata()), default=1)
            axes.set_ylim(min(0, axes.get_ylim()[0]), max(1.05 * highest, axes.get_ylim()[1]))
        if axes.lines:
            axes.legend(frameon=False)
        _plain(axes)
    return figure if drawn else None


def attention(explanations: Explanations) -> Figure:
    """Draw faces above the same faces with the heat map; for a clip, some frames below bars of all frames' weights."""
    from matplotlib.figure import Figure

    items = explanations.items
    shown = [min(len(item.image), COLUMNS) for item in items]
    bars, faces = 0.45 * (max(shown) > 1), 1 + any(item.heat is not None for item in items)
    height = 0.5 + bars + faces + 0.1  # of a block: words, bars, faces, faces with heat; a face is 1 x 1
    figure = Figure()
    axes = figure.subplots()
    axes.set_axis_off()
    x = y = bottom = 0.0
    for i, (item, n) in enumerate(zip(items, shown, strict=True)):
        right = item.true == item.predicted
        if i and (x + n > COLUMNS or right != (items[i - 1].true == items[i - 1].predicted)):
            x, y = 0.0, y + height
        bottom = y + height
        words = f"{_short(item.predicted)} {item.confidence:.0%}" + ("" if right else f"\nnot {_short(item.true)}")
        axes.text(x + 0.02, y + 0.46, words, color=BLUE if right else ORANGE, fontsize=7, va="bottom", linespacing=1.1)
        top = y + 0.5
        if bars:
            t, wide = len(item.weight), n / len(item.weight)  # if not all frames are shown, a face has several bars
            tall = 0.38 * item.weight / max(item.weight.max(), 2 / t)  # at half height: as heavy as the mean frame
            axes.bar(x + wide * (np.arange(t) + 0.5), -tall, 0.85 * wide, top + 0.4, color=GREY)
            top += bars
        for k, frame in enumerate(((np.arange(n) + 0.5) * len(item.image) / n).astype(int)):
            box = (x + k, x + k + 0.97, top + 0.97, top)
            axes.imshow(item.image[frame], cmap="gray", vmin=0, vmax=1, extent=box)
            if item.heat is not None:
                box = (x + k, x + k + 0.97, top + 1.97, top + 1)
                axes.imshow(item.image[frame], cmap="gray", vmin=0, vmax=1, extent=box)
                heat = item.heat[frame]
                axes.imshow(heat, cmap="autumn", vmin=0, vmax=1, alpha=0.75 * heat, extent=box)
        x += n
    axes.set(xlim=(0, COLUMNS), ylim=(bottom, 0), aspect="equal")
    axes.set_title(f"{explanations.method} (blue: right, orange: wrong)", fontsize=10)
    height = 1.25 * bottom + 0.4
    figure.set_size_inches(1.25 * COLUMNS + 0.1, height)
    figure.subplots_adjust(0.01, 0.05 / height, 0.99, 1 - 0.35 / height)
    return figure


def _short(name: str) -> str:
    """A name that is no wider than a face."""
    return name if len(name) <= WIDEST else f"{name[: WIDEST - 1]}…"


def restoration(faces: dict[str, Array]) -> Figure:
    """Draw a row of faces for each stage, the clean ones first: (M, H, W) grey or (M, H, W, 3) RGB, in [0, 1]."""
    clean = next(iter(faces.values()))
    rows, columns = len(faces), len(clean)
    figure = _figure(1.1 * columns + 1.1, 1.1 * rows + 0.4, left=1.1, right=0.05, bottom=0.05)
    for row, (name, images) in zip(figure.subplots(rows, columns, squeeze=False), faces.items(), strict=True):
        for axes, image in zip(row, images, strict=True):
            axes.imshow(image, cmap="gray", vmin=0, vmax=1)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
        error = f"\nMSE {np.mean((images - clean) ** 2):.4f}" if images is not clean else ""
        row[0].set_ylabel(f"{name}{error}", rotation=0, ha="right", va="center", fontsize=9)
    return figure

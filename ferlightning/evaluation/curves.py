"""The curves of a training, as Lightning's CSVLogger keeps them in a run folder."""

import csv
from pathlib import Path

Curves = dict[str, dict[int, float]]
"""Values by metric, such as ``val/accuracy``, and by epoch, from 0."""


def read_curves(folder: Path) -> Curves:
    """Read the values of each metric of a training by epoch; empty where they were not kept.

    Of several rows of one epoch, logged by step, the last one counts.

    Args:
        folder: run folder of the training.
    """
    curves = Curves()
    for path in sorted(folder.glob("metrics*.csv")):  # metrics.001.csv of what was resumed comes before metrics.csv
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                for name, value in row.items():  # a row fills only the columns that were logged together
                    if value and row.get("epoch") and "/" in name:
                        curves.setdefault(name, {})[int(row["epoch"])] = float(value)
    return curves

"""The curves of a training, as Lightning's CSVLogger keeps them in a run folder."""

import csv
import logging
from pathlib import Path

log = logging.getLogger(__name__)

Curves = dict[str, dict[int, float]]
"""Values by metric, such as ``val/accuracy``, and by epoch, from 0."""


def read_curves(folder: Path) -> Curves:
    """Read the values of each metric of a training by epoch; empty where they were not kept.

    Of several rows of one epoch, logged by step, the last one counts. A damaged file is left out with a warning.

    Args:
        folder: run folder of the training.
    """
    curves = Curves()
    for path in sorted(folder.glob("metrics*.csv")):  # metrics.001.csv of what was resumed comes before metrics.csv
        try:
            with path.open(newline="", encoding="utf-8") as file:
                rows = [(int(row["epoch"]), row) for row in csv.DictReader(file) if row.get("epoch")]
            found = [
                (name, epoch, float(value))
                for epoch, row in rows
                for name, value in row.items()  # a row fills only the columns that were logged together
                if value and "/" in name
            ]
        except (OSError, TypeError, ValueError, csv.Error) as error:
            log.warning("%s is damaged, and left out of the learning curves: %s", path, error)
            continue
        for name, epoch, value in found:
            curves.setdefault(name, {})[epoch] = value
    return curves

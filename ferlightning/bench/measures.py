"""What the repeats of a cell come to: a mean with its intervals, and how these are shown."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from ferlightning.bench.comparison import Mean, mean_over_repeats
from ferlightning.bench.results import Repeat, Result
from ferlightning.bench.tables import Entry
from ferlightning.evaluation.statistics import Interval, bootstrap_intervals, wilson_interval

NOISE = "inside the noise"

INTERVALS = (
    "Intervals are at 95 %. Over repeats, which are folds and seeds: Student's t; as folds share training images, its "
    "variance is corrected as Nadeau and Bengio 2003 propose. Over images, the models as they are: Wilson's for "
    "accuracy, a bootstrap for the rest, folds put together, averaged over seeds; images count as independent, those "
    "of one person too. Seeds on one split say nothing of other images, and images nothing of other seeds: what either "
    f"interval holds is called {NOISE}."
)


@dataclass(frozen=True)
class Measured:
    """One metric of one system on one data set, in [0, 1].

    Attributes:
        mean: over repeats.
        images: interval over images.
        n: repeats.
    """

    mean: Mean
    images: Interval
    n: int


def measure(found: dict[Repeat, Result], metric: str) -> Measured | None:
    """Mean and intervals of repeats; None if there are none."""
    if not found:
        return None
    intervals = []
    for _, of_seed in groupby(sorted(found, key=lambda repeat: repeat[1]), key=lambda repeat: repeat[1]):
        results = [found[repeat] for repeat in of_seed]
        if len(results) == 1:
            known = results[0].report["metrics"][metric]
            intervals.append((known["low"], known["high"]))
            continue
        confusion = np.sum([result.confusion for result in results], 0)
        if metric == "accuracy":
            intervals.append(wilson_interval(np.trace(confusion), confusion.sum()))
        else:
            intervals.append(bootstrap_intervals(confusion)[metric])
    low, high = np.mean(intervals, 0)
    scores = np.array([result.score(metric) for result in found.values()])
    mean = mean_over_repeats(scores, overlap(found.values()))
    if mean.interval is not None:  # Student's t knows nothing of the ends of the scale
        mean = replace(mean, interval=(max(mean.interval[0], 0.0), min(mean.interval[1], 1.0)))
    return Measured(mean, (float(low), float(high)), len(found))


def overlap(found: Iterable[Result]) -> float:
    """Test items for each training item, the mean of results; see ``Result.overlap``."""
    return float(np.mean([result.overlap for result in found]))


def percent(pair: Interval | None) -> Interval | None:
    """An interval of shares in percent."""
    return None if pair is None else (100 * pair[0], 100 * pair[1])


def shown(mean: Mean) -> Entry:
    """Mean and standard deviation in percent."""
    spread = "" if mean.sd is None else f" ± {100 * mean.sd:.2f}"
    return Entry(f"{100 * mean.value:.2f}{spread}", 100 * mean.value)


def label(metric: str) -> str:
    """Name of a metric as a reader expects it."""
    return metric.replace("_f1", " F1").replace("_", " ")


def verdict(reference: float, *intervals: Interval | None) -> Entry:
    """Whether one of the intervals that are known holds the reference."""
    known = [pair for pair in intervals if pair is not None]
    if not known:
        return Entry("no interval")
    return Entry(NOISE if any(low <= reference <= high for low, high in known) else "outside")

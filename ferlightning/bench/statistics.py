"""Comparing systems: intervals of means over repeats, ranks over blocks, and two systems on the same items.

All intervals are at the 95 % level. Shapes: R repeats, N blocks, S systems.

References:
    [1] Nadeau and Bengio, Inference for the generalization error, Machine Learning 52, 2003.
    [2] Bouckaert and Frank, Evaluating the replicability of significance tests for comparing learning algorithms,
        PAKDD 2004: [1] for cross-validation.
    [3] Demšar, Statistical comparisons of classifiers over multiple data sets, JMLR 7, 2006.
    [4] Iman and Davenport, Approximations of the critical region of the Friedman statistic, Communications in
        Statistics 9, 1980.
    [5] Agresti and Min, Simple improved confidence intervals for comparing matched proportions, Statistics in Medicine
        24, 2005.
    [6] Zou and Donner, Construction of confidence limits about effect measures: a general approach, Statistics in
        Medicine 27, 2008.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import groupby
from typing import NamedTuple

import numpy as np

from ferlightning.bench.results import Repeat, Result
from ferlightning.evaluation.statistics import LEVEL, Array, Interval

EXACT_BELOW = 25
"""From this number of discordant items on, McNemar's chi-squared approximation is good enough."""
REPEATS = 3
"""Fewer repeats give no verdict."""
WIDEST = 0.1
"""A wider interval, as a share, gives no verdict."""
TOO_FEW = "too few repeats to tell"
TOO_WIDE = "too wide an interval to tell"
UNCONVERGED = "not trained to the end"
LEAKING = "leaking, so nothing to tell"
NOISE = "inside the noise"


@dataclass(frozen=True)
class Mean:
    """A mean over repeats.

    Attributes:
        value: the mean.
        sd: sample standard deviation of the repeats; None for a single repeat.
        interval: of the mean; None for fewer than three repeats.
    """

    value: float
    sd: float | None
    interval: Interval | None


def mean_over_repeats(values: Array, overlap: float = 0.0) -> Mean:
    """Return the mean of repeats with Student's t interval, corrected for training sets that share items.

    Folds train on mostly the same items, so their results are not independent, and the variance of their mean is larger
    than sd^2 / R. Nadeau and Bengio's correction uses sd^2 (1 / R + overlap) instead [1, 2].

    Args:
        values: (R,), a score of each repeat, or a difference of two scores.
        overlap: number of test items divided by number of training items; 0 for repeats on one split.
    """
    mean = float(np.mean(values))
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    if sd is None or len(values) < REPEATS:
        return Mean(mean, sd, None)
    from scipy import stats  # late, here and below: it takes a second

    half = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1)) * sd * np.sqrt(1 / len(values) + overlap)
    return Mean(mean, sd, (mean - half, mean + half))


@dataclass(frozen=True)
class Estimate:
    """One metric of one system on one data set.

    Attributes:
        mean: over repeats.
        images: interval over images; None for what has none.
        n: number of repeats.
        converged: whether all of them were trained to the end.
    """

    mean: Mean
    images: Interval | None
    n: int
    converged: bool = True

    @property
    def doubt(self) -> str:
        """Why there is no verdict on a score in [0, 1]; empty if there can be one."""
        return doubt(self.mean, self.images, self.converged)


def estimate(found: dict[Repeat, Result], metric: str) -> Estimate | None:
    """Return the mean and the intervals of repeats; None if there are none.

    Folds hold other images, so their intervals over images become one of their mean; seeds have the same images, so
    theirs are averaged.
    """
    if not found:
        return None
    intervals = []
    for _, of_seed in groupby(sorted(found, key=lambda repeat: repeat[1]), key=lambda repeat: repeat[1]):
        folds = [found[repeat] for repeat in of_seed]
        known = [pair for result in folds if (pair := result.interval(metric))]
        if known:
            intervals.append(mean_interval([result.score(metric) for result in folds], known))
    scores = np.array([result.score(metric) for result in found.values()])
    mean = mean_over_repeats(scores, mean_overlap(found.values()))
    if mean.interval is not None and metric not in ("loss", "latency"):  # Student's t does not know the scale's ends
        mean = replace(mean, interval=(max(mean.interval[0], 0.0), min(mean.interval[1], 1.0)))
    images = (float(np.mean(intervals, 0)[0]), float(np.mean(intervals, 0)[1])) if intervals else None
    return Estimate(mean, images, len(found), all(result.converged for result in found.values()))


def mean_interval(values: list[float], intervals: list[Interval]) -> Interval:
    """Return the interval of the mean of independent values from their own intervals [6]."""
    value, (low, high) = np.array(values), np.array(intervals).T
    below, above = (float(np.sqrt(np.sum((value - end) ** 2))) / len(value) for end in (low, high))
    return float(value.mean()) - below, float(value.mean()) + above


def mean_overlap(found: Iterable[Result]) -> float:
    """Return the mean ratio of test items to training items; see ``Result.overlap``."""
    return float(np.mean([result.overlap for result in found]))


def doubt(mean: Mean, images: Interval | None, converged: bool, widest: float = WIDEST) -> str:
    """Say why there is no verdict; return nothing if there can be one.

    Args:
        mean: over repeats.
        images: interval over images; None if unknown.
        converged: whether the systems were trained to the end.
        widest: a wider interval gives no verdict.
    """
    if mean.interval is None:
        return TOO_FEW
    if not converged:
        return UNCONVERGED
    known = [pair for pair in (mean.interval, images) if pair is not None]
    return TOO_WIDE if any(high - low > widest for low, high in known) else ""


def verdict(reference: float, mean: Mean, images: Interval | None, converged: bool, widest: float = WIDEST) -> str:
    """Say whether a reference, a claim or 0 for a difference, lies in one of two intervals, or why it cannot be told.

    The other arguments are those of ``doubt``.
    """
    if reason := doubt(mean, images, converged, widest):
        return reason
    known = [pair for pair in (mean.interval, images) if pair is not None]
    return NOISE if any(low <= reference <= high for low, high in known) else "outside"


@dataclass(frozen=True)
class Friedman:
    """Whether systems differ in their ranks.

    Attributes:
        blocks: N.
        ranks: (S,) mean ranks, 1 is the best.
        chi2: Friedman's statistic, corrected for ties as in SciPy, and its ``p``.
        least: the p that as many blocks would have if they agreed on the order.
        f: Iman and Davenport's statistic, which is less conservative [4], and its ``p_f``.
        kendall_w: effect size, from 0 (blocks do not agree on the order) to 1.
        nemenyi: (S, S) p of each pair.
        critical_difference: difference of mean ranks from which Nemenyi's test tells a pair apart.
    """

    blocks: int
    ranks: Array
    chi2: float
    p: float
    least: float
    f: float
    p_f: float
    kendall_w: float
    nemenyi: Array
    critical_difference: float


def friedman(scores: Array) -> Friedman:
    """Run Friedman's test and Nemenyi's test of all pairs [3].

    Args:
        scores: (N, S), higher is better; at least two blocks and three systems.
    """
    from scikit_posthocs import posthoc_nemenyi_friedman
    from scipy import stats

    n, k = scores.shape
    ranks = stats.rankdata(-scores, axis=1)
    if (ranks == ranks[0, 0]).all():  # ties everywhere, for which the statistic is 0 / 0
        chi2, p = 0.0, 1.0
    else:
        chi2, p = map(float, stats.friedmanchisquare(*scores.T))
    most = n * (k - 1)
    f = (n - 1) * chi2 / (most - chi2) if chi2 < most * (1 - 1e-12) else np.inf
    p_f = stats.f.sf(f, k - 1, (k - 1) * (n - 1))
    q = stats.studentized_range.ppf(LEVEL, k, np.inf) / np.sqrt(2)
    nemenyi = posthoc_nemenyi_friedman(scores).to_numpy()
    cd, least = float(q * np.sqrt(k * (k + 1) / (6 * n))), float(stats.chi2.sf(most, k - 1))
    return Friedman(n, ranks.mean(0), chi2, p, least, float(f), float(p_f), chi2 / most, nemenyi, cd)


class Counts(NamedTuple):
    """How often two systems, a and b, are right on the same items."""

    both: float
    only_a: float
    only_b: float
    neither: float

    @classmethod
    def of(cls, a: Array, b: Array) -> "Counts":
        """Count items: a and b (N,) bool, which are right."""
        return cls(*(int(np.sum(found)) for found in (a & b, a & ~b, ~a & b, ~a & ~b)))

    def worth(self, effect: float) -> "Counts":
        """Return the counts of as many independent items as these are worth, by their design effect."""
        return Counts(*(count / effect for count in self))


def mcnemar(counts: Counts) -> float:
    """Return p of McNemar's test: exact below 25 discordant items, else chi-squared with continuity correction."""
    from scipy import stats

    a, b = counts.only_a, counts.only_b
    if a + b < EXACT_BELOW:
        return float(stats.binomtest(round(a), round(a) + round(b)).pvalue) if round(a) + round(b) else 1.0
    return float(stats.chi2.sf((abs(a - b) - 1) ** 2 / (a + b), 1))


def holm(p: list[float]) -> list[float]:
    """Correct the p of several tests by Holm's method."""
    order = np.argsort(p)
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(np.maximum.accumulate(np.arange(len(p), 0, -1) * np.array(p)[order]), 1)
    return [float(x) for x in corrected]


def odds_ratio(counts: Counts) -> tuple[float, Interval]:
    """Return how many items only a gets right for each one that only b does, with Clopper and Pearson's interval."""
    from statsmodels.stats.proportion import proportion_confint

    a, discordant = counts.only_a, counts.only_a + counts.only_b
    if not discordant:
        return float("nan"), (0.0, float("inf"))
    low, high = proportion_confint(a, discordant, 1 - LEVEL, method="beta")
    odds = [float(np.inf) if p == 1 else float(p / (1 - p)) for p in (a / discordant, low, high)]
    return odds[0], (odds[1], odds[2])


def accuracy_difference(counts: Counts) -> tuple[float, Interval]:
    """Return the accuracy of a minus that of b on the same items, with the interval of Agresti and Min [5].

    The interval is Wald's with half an item added to each of the four counts, so it has a width when all items agree.
    """
    from scipy import stats

    n, a, b = sum(counts) + 2, counts.only_a + 0.5, counts.only_b + 0.5
    centre = (a - b) / n
    half = float(stats.norm.ppf((1 + LEVEL) / 2)) * np.sqrt((a + b) / n - centre**2) / np.sqrt(n)
    difference = (counts.only_a - counts.only_b) / sum(counts)
    return difference, (float(max(centre - half, -1)), float(min(centre + half, 1)))

"""Comparing systems: intervals of means over repeats, ranks over blocks, and two systems on the same items.

All are at the level of 95 %. Shapes: R repeats, N blocks, S systems.

References:
    [1] Nadeau and Bengio, Inference for the generalization error, Machine Learning 52, 2003.
    [2] Bouckaert and Frank, Evaluating the replicability of significance tests for comparing learning algorithms,
        PAKDD 2004: [1] for cross-validation.
    [3] Demšar, Statistical comparisons of classifiers over multiple data sets, JMLR 7, 2006.
    [4] Iman and Davenport, Approximations of the critical region of the Friedman statistic, Communications in
        Statistics 9, 1980.
    [5] Agresti and Min, Simple improved confidence intervals for comparing matched proportions, Statistics in Medicine
        24, 2005.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from ferlightning.evaluation.statistics import Array, Interval

LEVEL = 0.95
EXACT_BELOW = 25
"""Discordant items from which on McNemar's chi-squared approximation is good enough."""


@dataclass(frozen=True)
class Mean:
    """A mean over repeats.

    Attributes:
        value: the mean.
        sd: sample standard deviation of the repeats; None of one.
        interval: of the mean; None of one repeat.
    """

    value: float
    sd: float | None
    interval: Interval | None


def mean_over_repeats(values: Array, overlap: float = 0.0) -> Mean:
    """Mean of repeats with Student's t interval, corrected for training sets that share items.

    Folds train on mostly the same items, so their results are not independent, and the variance of their mean is more
    than sd^2 / R. Nadeau and Bengio's correction takes sd^2 (1 / R + overlap) for it [1, 2].

    Args:
        values: (R,), a score of each repeat, or a difference of two.
        overlap: number of test items divided by number of training items; 0 for repeats on one split.
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return Mean(mean, None, None)
    sd = float(np.std(values, ddof=1))
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1)) * sd * np.sqrt(1 / len(values) + overlap)
    return Mean(mean, sd, (mean - half, mean + half))


@dataclass(frozen=True)
class Friedman:
    """Whether systems differ in their ranks.

    Attributes:
        blocks: N.
        ranks: (S,) mean rank, 1 the best.
        chi2: Friedman's statistic, corrected for ties as SciPy does, and its ``p``.
        f: Iman and Davenport's, which is less conservative [4], and its ``p_f``.
        kendall_w: effect size, from 0, no agreement of the blocks on the order, to 1.
        nemenyi: (S, S) p of each pair.
        critical_difference: of mean ranks, for a pair to differ by Nemenyi's test.
    """

    blocks: int
    ranks: Array
    chi2: float
    p: float
    f: float
    p_f: float
    kendall_w: float
    nemenyi: Array
    critical_difference: float


def friedman(scores: Array) -> Friedman:
    """Friedman's test with Nemenyi's of all pairs [3].

    Args:
        scores: (N, S), higher is better, at least two blocks and three systems.
    """
    from scikit_posthocs import posthoc_nemenyi_friedman

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
    cd = float(q * np.sqrt(k * (k + 1) / (6 * n)))
    return Friedman(n, ranks.mean(0), chi2, p, float(f), float(p_f), chi2 / most, nemenyi, cd)


@dataclass(frozen=True)
class Counts:
    """How often two systems, a and b, were right on the same items.

    Attributes:
        both: both were.
        only_a: a was, b was not.
        only_b: b was, a was not.
        neither: none was.
    """

    both: int
    only_a: int
    only_b: int
    neither: int

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.both + other.both,
            self.only_a + other.only_a,
            self.only_b + other.only_b,
            self.neither + other.neither,
        )

    @property
    def n(self) -> int:
        """Number of items."""
        return self.both + self.only_a + self.only_b + self.neither


def mcnemar(counts: Counts) -> float:
    """p of McNemar's test: exact below 25 discordant items, else chi-squared with continuity correction."""
    from statsmodels.stats.contingency_tables import mcnemar as test

    table = [[counts.both, counts.only_a], [counts.only_b, counts.neither]]
    return float(test(table, exact=counts.only_a + counts.only_b < EXACT_BELOW).pvalue)


def holm(p: list[float]) -> list[float]:
    """p of several tests, corrected by Holm's method."""
    from statsmodels.stats.multitest import multipletests

    return [float(x) for x in multipletests(p, method="holm")[1]] if p else []


def odds_ratio(counts: Counts) -> tuple[float, Interval]:
    """Odds that of an item which one system gets right a is the one, with the exact interval of Clopper and Pearson."""
    from statsmodels.stats.proportion import proportion_confint

    a, discordant = counts.only_a, counts.only_a + counts.only_b
    if not discordant:
        return float("nan"), (0.0, float("inf"))
    low, high = proportion_confint(a, discordant, 1 - LEVEL, method="beta")
    odds = [float(np.inf) if p == 1 else float(p / (1 - p)) for p in (a / discordant, low, high)]
    return odds[0], (odds[1], odds[2])


def accuracy_difference(counts: Counts) -> tuple[float, Interval]:
    """Accuracy of a less that of b on the same items, with the interval of Agresti and Min [5].

    It is Wald's with half an item more in each of the four counts; unlike that it has a width when all agree.
    """
    n, a, b = counts.n + 2, counts.only_a + 0.5, counts.only_b + 0.5
    centre = (a - b) / n
    half = float(stats.norm.ppf((1 + LEVEL) / 2)) * np.sqrt((a + b) / n - centre**2) / np.sqrt(n)
    difference = (counts.only_a - counts.only_b) / counts.n
    return difference, (float(max(centre - half, -1)), float(min(centre + half, 1)))

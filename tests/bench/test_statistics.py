"""Statistics against SciPy, statsmodels, scikit-posthocs, and published examples."""

import numpy as np
import pytest
from scikit_posthocs import posthoc_nemenyi_friedman
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar

from ferlightning.bench.statistics import (
    Counts,
    Mean,
    accuracy_difference,
    friedman,
    holm,
    mcnemar,
    mean_interval,
    mean_over_repeats,
    odds_ratio,
    verdict,
)

# Table 6 of Demšar 2006: AUC of C4.5, with m, with cf, with both, on 14 data sets. The last two of voting are printed
# as 0.975, but ranked 2 and 3, so the paper's own figures have more digits than it prints.
DEMSAR = np.array(
    [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.9749],
        [0.957, 0.978, 0.946, 0.970],
    ]
)


def test_demsar_as_published() -> None:
    found = friedman(DEMSAR)
    assert found.ranks == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)
    assert found.critical_difference == pytest.approx(2.569 * np.sqrt(20 / 84), abs=1e-3)
    assert found.critical_difference == pytest.approx(1.25, abs=5e-3)
    # The paper's statistic has no correction for ties, of which the table has four; ours is the one of SciPy.
    plain = 12 * 14 / (4 * 5) * (np.sum(found.ranks**2) - 4 * 5**2 / 4)
    assert plain == pytest.approx(9.28, abs=5e-3)
    assert 13 * plain / (14 * 3 - plain) == pytest.approx(3.69, abs=5e-3)
    ties = 1 - sum(size**3 - size for size in (2, 2, 4, 2)) / (14 * (4**3 - 4))
    assert found.chi2 == pytest.approx(plain / ties)


@pytest.mark.parametrize("scores", [DEMSAR, np.random.default_rng(0).random((14, 4))], ids=["ties", "no ties"])
def test_iman_davenport_is_an_analysis_of_variance_of_ranks(scores: np.ndarray) -> None:
    found = friedman(scores)
    ranks = stats.rankdata(-scores, axis=1)
    between = 14 * np.sum((ranks.mean(0) - 2.5) ** 2) / 3
    within = np.sum((ranks - ranks.mean(0)) ** 2) / (13 * 3)  # blocks have the same mean
    assert found.f == pytest.approx(between / within)
    assert found.p_f == pytest.approx(stats.f.sf(between / within, 3, 39))


def test_friedman_is_scipys_and_nemenyi_scikit_posthocs() -> None:
    found = friedman(DEMSAR)
    chi2, p = stats.friedmanchisquare(*DEMSAR.T)
    assert (found.chi2, found.p) == pytest.approx((chi2, p))
    assert found.nemenyi == pytest.approx(posthoc_nemenyi_friedman(DEMSAR).to_numpy())
    apart = np.abs(found.ranks[:, None] - found.ranks) > found.critical_difference
    assert np.array_equal(found.nemenyi < 0.05, apart)
    assert found.kendall_w == pytest.approx(chi2 / (14 * 3))


def test_friedman_at_its_ends() -> None:
    same = friedman(np.ones((5, 3)))
    assert same.least == pytest.approx(stats.friedmanchisquare(*np.tile([1, 2, 3], (5, 1)).T).pvalue)
    assert (same.chi2, same.p, same.f, same.p_f, same.kendall_w) == (0, 1, 0, 1, 0)
    agreed = friedman(np.tile([0.1, 0.3, 0.2], (5, 1)))
    assert agreed.kendall_w == pytest.approx(1) and agreed.f == np.inf and agreed.p_f == 0
    assert agreed.ranks.tolist() == [3, 1, 2]


def test_interval_over_seeds_is_students() -> None:
    values = np.array([0.71, 0.73, 0.72, 0.75])
    found = mean_over_repeats(values)
    assert (found.value, found.sd) == pytest.approx((values.mean(), values.std(ddof=1)))
    assert found.interval == pytest.approx(stats.t.interval(0.95, 3, values.mean(), stats.sem(values)))
    paired = stats.ttest_rel(values, values - [0.1, 0.3, 0.2, 0.1]).confidence_interval(0.95)
    assert mean_over_repeats(np.array([0.1, 0.3, 0.2, 0.1])).interval == pytest.approx(tuple(paired))


def test_interval_over_folds_is_corrected() -> None:
    """Nadeau and Bengio, section 4: the variance of the mean is (1 / J + n2 / n1) times that of the repeats."""
    values, n1, n2 = [0.9, 0.94, 0.98, 0.92], 240, 30
    mean = sum(values) / 4
    variance = sum((v - mean) ** 2 for v in values) / 3
    half = 3.182446 * ((1 / 4 + n2 / n1) * variance) ** 0.5  # t of 3 degrees of freedom from a table
    assert mean_over_repeats(np.array(values), n2 / n1).interval == pytest.approx((mean - half, mean + half), abs=1e-6)


def test_one_or_two_repeats_have_no_interval() -> None:
    found = mean_over_repeats(np.array([0.5]))
    assert (found.value, found.sd, found.interval) == (0.5, None, None)
    found = mean_over_repeats(np.array([0.5, 0.7]))
    assert found.sd == pytest.approx(0.02**0.5) and found.interval is None


def test_interval_of_the_mean_of_independent_values() -> None:
    """Normal values: their variances add up. And shares of folds: much as of all images together."""
    values, deviations = [0.9, 0.7, 0.8], [0.01, 0.03, 0.02]
    ends = [stats.norm.interval(0.95, mean, sd) for mean, sd in zip(values, deviations, strict=True)]
    expected = stats.norm.interval(0.95, 0.8, (0.01**2 + 0.03**2 + 0.02**2) ** 0.5 / 3)
    assert mean_interval(values, ends) == pytest.approx(expected)
    right = [28, 30, 26, 31, 29, 25, 30, 27, 29, 31]
    folds = [stats.binomtest(x, 33).proportion_ci(method="wilson") for x in right]
    whole = stats.binomtest(sum(right), 330).proportion_ci(method="wilson")
    found = mean_interval([x / 33 for x in right], [(fold.low, fold.high) for fold in folds])
    assert found == pytest.approx((whole.low, whole.high), abs=0.012)


def test_verdicts() -> None:
    def said(reference: float, low: float, high: float, images: tuple[float, float], converged: bool = True) -> str:
        return verdict(reference, Mean(0.5, 0.01, (low, high)), images, converged)

    assert said(0.53, 0.48, 0.52, (0.49, 0.51)) == "outside"
    assert said(0.52, 0.48, 0.52, (0.49, 0.51)) == said(0.53, 0.48, 0.52, (0.45, 0.54)) == "inside the noise"
    for wide in (said(0.9, 0.45, 0.5501, (0.49, 0.51)), said(0.9, 0.48, 0.52, (0.44, 0.55))):
        assert wide == "too wide an interval to tell", "more than ten points"
    assert said(0.9, 0.4501, 0.55, (0.49, 0.51)) == "outside"
    assert verdict(0.9, Mean(0.5, 0.0, None), (0.49, 0.51), True) == "too few repeats to tell"
    assert said(0.9, 0.48, 0.52, (0.49, 0.51), converged=False) == "not trained to the end"


@pytest.mark.parametrize("a, b", [(0, 0), (3, 9), (5, 19), (5, 20), (150, 86)])
def test_mcnemar(a: int, b: int) -> None:
    counts = Counts(794, a, b, 570)
    if a + b < 25:
        expected = stats.binomtest(a, a + b).pvalue if a + b else 1.0
    else:
        expected = stats.chi2.sf((abs(a - b) - 1) ** 2 / (a + b), 1)
    assert mcnemar(counts) == pytest.approx(expected)
    table = [[794, a], [b, 570]]
    assert mcnemar(counts) == pytest.approx(statsmodels_mcnemar(table, exact=a + b < 25).pvalue)


def test_published_pairs() -> None:
    """Approval of a prime minister, Agresti, Categorical data analysis, 10.1: 0.04, 95 % 0.02 to 0.06."""
    difference, (low, high) = accuracy_difference(Counts(794, 150, 86, 570))
    assert (difference, low, high) == pytest.approx((0.04, 0.02, 0.06), abs=0.0015)
    assert odds_ratio(Counts(794, 150, 86, 570))[0] == pytest.approx(1.744, abs=1e-3)


def test_interval_of_a_difference_covers_it() -> None:
    """Of 2000 draws 95 % hold the true difference, which for 40 items a plain Wald interval does not reach."""
    rng = np.random.default_rng(0)
    held = 0
    for both, a, b, neither in rng.multinomial(40, (0.7, 0.15, 0.05, 0.1), 2000):
        low, high = accuracy_difference(Counts(int(both), int(a), int(b), int(neither)))[1]
        held += low <= 0.1 <= high
    assert 0.94 < held / 2000 < 0.975


def test_effects_at_their_ends() -> None:
    odds, (low, high) = odds_ratio(Counts(10, 4, 0, 2))
    assert odds == np.inf and high == np.inf
    p = stats.beta.ppf(0.025, 4, 1)  # Clopper and Pearson 1934
    assert low == pytest.approx(p / (1 - p))
    assert np.isnan(odds_ratio(Counts(10, 0, 0, 2))[0])
    difference, (low, high) = accuracy_difference(Counts(20, 0, 0, 0))
    assert difference == 0 and -0.15 < low < 0 < high < 0.15
    assert accuracy_difference(Counts(0, 1, 0, 0))[1][1] <= 1


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []

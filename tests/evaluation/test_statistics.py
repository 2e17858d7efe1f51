"""Intervals against published values, the normal approximation, and images drawn one by one."""

import numpy as np
import pytest
from scipy import stats

from ferlightning.evaluation import statistics
from ferlightning.evaluation.statistics import BINS


def test_wilson_published_values() -> None:
    for successes, n, low, high in [
        (8, 10, 0.4902, 0.9433),
        (81, 263, 0.2553, 0.3662),  # Newcombe, Statistics in Medicine 17, 1998, table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ]:
        assert statistics.wilson_interval(successes, n) == pytest.approx((low, high), abs=5e-5)


def test_intervals_by_people() -> None:
    """The variance over people is that of a regression on a constant with clustered errors."""
    from statsmodels.api import OLS

    rng = np.random.default_rng(0)
    person = np.repeat(np.arange(60), rng.integers(1, 9, 60))
    right = rng.random(len(person)) < rng.beta(3, 1, 60)[person]  # each has a skill of their own
    fit = OLS(right.astype(float), np.ones(len(right))).fit(cov_type="cluster", cov_kwds={"groups": person})
    effect = fit.bse[0] ** 2 * len(right) / (right.mean() * (1 - right.mean()))
    assert effect > 1.3
    found = statistics.share_interval(right, person)
    assert found == pytest.approx(statistics.wilson_interval(right.sum() / effect, len(right) / effect))

    # All bootstraps draw people; those of the share agree with SciPy's of ratios of sums.
    hits, sizes = np.bincount(person, right), np.bincount(person)
    drawn = stats.bootstrap(
        (hits, sizes), lambda a, b, axis: a.sum(axis) / b.sum(axis), paired=True, method="percentile", rng=rng
    ).confidence_interval
    cells = np.zeros((60, 2, 2), int)
    np.add.at(cells, (person, np.zeros(len(person), int), 1 - right), 1)
    for by_people in (
        statistics.bootstrap_intervals(cells)["accuracy"],
        statistics.bootstrap_mean(right.astype(float), person),
        found,
    ):
        assert by_people == pytest.approx((drawn.low, drawn.high), abs=0.01)
    one_bin = statistics.bootstrap_calibration_error(np.zeros(len(right), int), right - 0.0, person)
    assert one_bin == pytest.approx((drawn.low, drawn.high), abs=0.01), "of confidence 0, the error is the share"


def test_nobody_twice_or_nothing_to_tell_people_apart_by_is_as_without_people() -> None:
    right = np.array([True, False, True, True])
    assert statistics.share_interval(right, np.zeros(4)) == statistics.share_interval(right)
    everything = np.ones(6, bool)
    assert statistics.share_interval(everything, np.arange(6) // 2) == statistics.wilson_interval(6, 6)


def test_bootstrap_close_to_normal_approximation() -> None:
    confusion = np.array([[4000, 1000], [500, 4500]])
    intervals = statistics.bootstrap_intervals(confusion)
    assert intervals == statistics.bootstrap_intervals(confusion)  # the same seed
    assert intervals != statistics.bootstrap_intervals(confusion, seed=1)
    # Balanced accuracy is the mean of two independent proportions, .8 and .9 of 5000.
    half = 1.96 * np.sqrt(0.8 * 0.2 / 5000 + 0.9 * 0.1 / 5000) / 2
    assert intervals["balanced_accuracy"] == pytest.approx((0.85 - half, 0.85 + half), abs=8e-4)
    assert intervals["accuracy"] == pytest.approx(statistics.wilson_interval(8500, 10000), abs=8e-4)
    for name, score in statistics.confusion_scores(confusion).items():
        assert intervals[name][0] < score < intervals[name][1]


def test_multinomial_is_resampling_of_images() -> None:
    """The spread of macro F1 is the same whether images are drawn, one by one, or cells."""
    rng = np.random.default_rng(0)
    confusion = np.array([[30, 5, 5], [2, 10, 3], [0, 4, 41]])
    cell = np.repeat(np.arange(9), confusion.ravel())
    drawn = [np.bincount(rng.choice(cell, len(cell)), minlength=9).reshape(3, 3) for _ in range(4000)]
    expected = np.quantile(statistics.confusion_scores(np.array(drawn))["macro_f1"], [0.025, 0.975])
    assert statistics.bootstrap_intervals(confusion)["macro_f1"] == pytest.approx(tuple(expected), abs=0.015)


def test_bootstrap_mean_close_to_normal_approximation() -> None:
    values = np.random.default_rng(0).exponential(size=5000)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert statistics.bootstrap_mean(values) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.004)


def ece(bins: np.ndarray, gap: np.ndarray) -> float:
    return sum(abs(gap[bins == i].sum()) for i in range(BINS)) / len(gap)


@pytest.mark.parametrize("shift", [0.0, 0.15])
def test_calibration_interval_is_that_of_images_drawn_one_by_one_moved_back_by_their_bias(shift: float) -> None:
    """Ten images in a bin: plain percentiles lie above the measured error, by more than half their width."""
    rng = np.random.default_rng(0)
    bins = np.repeat(np.arange(5, BINS), 10)
    confidence = (bins + 0.5) / BINS
    gap = (np.tile(np.arange(10), BINS - 5) < np.round(10 * (confidence - shift))) - confidence
    measured = ece(bins, gap)
    drawn = np.array([ece(bins[i], gap[i]) for i in rng.integers(len(gap), size=(4000, len(gap)))])
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert shift or low > measured, "else a shift would not matter"

    bias = drawn.mean() - measured
    found = statistics.bootstrap_calibration_error(bins, gap)
    assert found == pytest.approx((max(low - bias, 0), high - bias), abs=0.008) and bias > (0.01 if shift else 0.05)
    assert found[0] <= measured < found[1]

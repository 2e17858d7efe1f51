"""Scores from a confusion matrix, calibration, and 95 % intervals for all of them.

Shapes: N images, K classes, R resamples. A confusion matrix counts true classes in rows, predicted ones in columns.

The intervals take images as independent draws. Where several images show one person, as in CK+, the true uncertainty is
larger: read the spread over folds by subject instead.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest  # scipy ships no types

Array = NDArray[Any]
Interval = tuple[float, float]

BINS = 15
RESAMPLES = 1000


def wilson_interval(successes: int, n: int, level: float = 0.95) -> Interval:
    """Wilson score interval of a proportion, without continuity correction.

    Unlike the normal approximation it stays in [0, 1] and has a width at 0 and at n successes.
    Source: Wilson, Probable inference, the law of succession, and statistical inference, JASA 22, 1927.

    Args:
        successes: 0 to n.
        n: at least 1.
        level: confidence, in (0, 1).

    Returns:
        (low, high).
    """
    interval = binomtest(int(successes), int(n)).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)


def _divide(a: Array, b: Array) -> Array:
    """Quotient, with 0 where the divisor is 0."""
    return np.divide(a, b, out=np.zeros(np.broadcast(a, b).shape), where=b != 0)


def per_class_scores(confusion: Array) -> dict[str, Array]:
    """Recall, precision and F1 of each class, 0 where the divisor is 0. Shape: (..., K, K) -> (..., K) each."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    support, predicted = confusion.sum(-1), confusion.sum(-2)
    return {
        "recall": _divide(hits, support),
        "precision": _divide(hits, predicted),
        "f1": _divide(2 * hits, support + predicted),
    }


def confusion_scores(confusion: Array) -> dict[str, Array]:
    """All scores that a confusion matrix determines, with the same conventions as ``metrics.classification_metrics``.

    Args:
        confusion: (..., K, K) counts, each matrix with at least one image.

    Returns:
        Score by name, each of shape (...), in [0, 1].
    """
    scores = per_class_scores(confusion)
    support = confusion.sum(-1)
    labelled = (support > 0).sum(-1)
    occurring = (support + confusion.sum(-2) > 0).sum(-1)
    weight = _divide(support, support.sum(-1, keepdims=True))
    return {
        "accuracy": _divide(np.trace(confusion, axis1=-2, axis2=-1), confusion.sum((-2, -1))),
        "balanced_accuracy": _divide(scores["recall"].sum(-1), labelled),
        "macro_precision": _divide(scores["precision"].sum(-1), occurring),
        "macro_f1": _divide(scores["f1"].sum(-1), occurring),
        "weighted_precision": (weight * scores["precision"]).sum(-1),
        "weighted_f1": (weight * scores["f1"]).sum(-1),
    }


def _percentiles(samples: Array, level: float) -> Interval:
    """Central interval that holds ``level`` of the samples. Shape: (R,)."""
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap_intervals(confusion: Array, level: float = 0.95, seed: int = 0) -> dict[str, Interval]:
    """Percentile bootstrap interval of every score of ``confusion_scores``.

    An image matters to these scores only through its cell of the confusion matrix. To draw N images with replacement
    therefore means to draw N cells with probability count / N: one multinomial draw of K * K counts, whatever N is.
    Where a class has no error in the sample the bootstrap sees no uncertainty in it; its Wilson interval does.
    Source: Efron and Tibshirani, An introduction to the bootstrap, 1993, chapter 13.

    Args:
        confusion: (K, K) counts.
        level: confidence, in (0, 1).
        seed: of the resampling.

    Returns:
        (low, high) by name.
    """
    n = int(confusion.sum())
    draws = np.random.default_rng(seed).multinomial(n, confusion.ravel() / n, size=RESAMPLES)
    scores = confusion_scores(draws.reshape(RESAMPLES, *confusion.shape))
    return {name: _percentiles(samples, level) for name, samples in scores.items()}


def _resample(n: int, statistic: Callable[[Array], float], seed: int) -> Array:
    """Values of a statistic of N indices drawn with replacement. Shape: (R,)."""
    rng = np.random.default_rng(seed)
    # One draw at a time: all at once would hold R * N indices in memory.
    return np.array([statistic(rng.integers(n, size=n)) for _ in range(RESAMPLES)])


def bootstrap_mean(values: Array, level: float = 0.95, seed: int = 0) -> Interval:
    """Percentile bootstrap interval of a mean, such as the negative log-likelihood. Shape: (N,)."""
    return _percentiles(_resample(len(values), lambda drawn: float(values[drawn].mean()), seed), level)


def calibration_bins(confidence: Array, correct: Array) -> tuple[Array, Array, Array]:
    """Return number of images, sum of confidences and number of correct predictions per equal bin of confidence.

    Args:
        confidence: (N,) in [0, 1], the largest probability.
        correct: (N,) bool.

    Returns:
        Three arrays (BINS,); bin i is [i / BINS, (i + 1) / BINS), the last one includes 1.
    """
    bins = _bin(confidence)
    return (
        np.bincount(bins, minlength=BINS),
        np.bincount(bins, weights=confidence, minlength=BINS),
        np.bincount(bins, weights=correct, minlength=BINS),
    )


def _bin(confidence: Array) -> Array:
    # Inner edges only, so that 1.0 falls into the last bin.
    return np.digitize(confidence, np.linspace(0, 1, BINS + 1)[1:-1])


def calibration_error(confidence: Array, correct: Array) -> float:
    """Return the expected calibration error, see ``metrics.CalibrationError``. Shapes: (N,) in [0, 1], (N,) bool."""
    _, confident, right = calibration_bins(confidence, correct)
    return float(np.abs(right - confident).sum() / len(confidence))


def bootstrap_calibration_error(confidence: Array, correct: Array, level: float = 0.95, seed: int = 0) -> Interval:
    """Bootstrap interval of the expected calibration error, corrected for bias.

    The absolute value turns the noise of each bin into error, so resamples lie above the sample on average; the
    interval is shifted back by that average difference, or the measured value could lie outside its own interval.
    """
    bins, gap = _bin(confidence), correct - confidence

    def resampled_error(drawn: Array) -> float:
        return float(np.abs(np.bincount(bins[drawn], weights=gap[drawn], minlength=BINS)).sum() / len(drawn))

    samples = _resample(len(gap), resampled_error, seed)
    bias = samples.mean() - calibration_error(confidence, correct)
    low, high = _percentiles(samples - bias, level)
    return max(low, 0.0), min(high, 1.0)

"""Scores from counts, and 95 % intervals for all of them.

Shapes: N images, K classes, G groups, R resamples. A confusion matrix counts true classes in rows, predicted ones in
columns.

Images of one person are alike. Where several show one, as in CK+, people are the draws, not images: ``group`` says
which images belong together.
"""

from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Interval = tuple[float, float]

LEVEL = 0.95
"""Confidence of every interval."""
BINS = 15
RESAMPLES = 1000
SCORES = (
    "accuracy",
    "balanced_accuracy",
    "macro_precision",
    "macro_f1",
    "weighted_precision",
    "weighted_f1",
    "calibration_error",
    "nll",
)


class Counts(NamedTuple):
    """All that the scores need to know of a set of images. Bins are of equal width, by confidence."""

    confusion: Array
    """(K, K) images."""
    images: Array
    """(BINS,) images in each bin."""
    correct: Array
    """(BINS,) correct predictions in each bin."""
    gap: Array
    """(BINS,) correct predictions less the sum of confidences."""
    cost: float
    """Sum of -log p(label) over the images, in nats."""


def scores(counts: Counts) -> dict[str, float]:
    """Return the value of each of ``SCORES``; ``nll`` is the mean of -log p(label), as ``sklearn.metrics.log_loss``."""
    n = counts.confusion.sum()
    value = {name: float(score) for name, score in confusion_scores(counts.confusion).items()}
    return value | {
        "calibration_error": float(calibration_error(counts.gap, n)),
        "nll": float(_divide(np.asarray(counts.cost), n)),
    }


def _divide(a: Array, b: Array) -> Array:
    """Divide, with 0 where the divisor is 0."""
    return np.divide(a, b, out=np.zeros(np.broadcast(a, b).shape), where=b != 0)


def per_class_scores(confusion: Array) -> dict[str, Array]:
    """Return recall, precision and F1 of each class, 0 where the divisor is 0. Shape: (..., K, K) -> (..., K) each."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    support, predicted = confusion.sum(-1), confusion.sum(-2)
    return {
        "recall": _divide(hits, support),
        "precision": _divide(hits, predicted),
        "f1": _divide(2 * hits, support + predicted),
    }


def confusion_scores(confusion: Array) -> dict[str, Array]:
    """Return all scores that a confusion matrix determines.

    Absent classes follow scikit-learn with ``zero_division=0``: balanced accuracy averages over classes with labels,
    macro precision and macro F1 over classes with labels or predictions.

    Args:
        confusion: (..., K, K) counts, each matrix with at least one image.

    Returns:
        Score by name, each of shape (...), in [0, 1].
    """
    by_class = per_class_scores(confusion)
    support = confusion.sum(-1)
    labelled = (support > 0).sum(-1)
    occurring = (support + confusion.sum(-2) > 0).sum(-1)
    weight = _divide(support, support.sum(-1, keepdims=True))
    return {
        "accuracy": _divide(np.trace(confusion, axis1=-2, axis2=-1), confusion.sum((-2, -1))),
        "balanced_accuracy": _divide(by_class["recall"].sum(-1), labelled),
        "macro_precision": _divide(by_class["precision"].sum(-1), occurring),
        "macro_f1": _divide(by_class["f1"].sum(-1), occurring),
        "weighted_precision": (weight * by_class["precision"]).sum(-1),
        "weighted_f1": (weight * by_class["f1"]).sum(-1),
    }


def calibration_error(gap: Array, n: Array) -> Array:
    """Return the expected calibration error: the mean over images of abs(accuracy - confidence) of the image's bin.

    Source: Guo et al., On calibration of modern neural networks, ICML 2017, eq. 3.

    Args:
        gap: (..., BINS) correct predictions in each bin less the sum of confidences.
        n: (...), images.

    Returns:
        Errors of shape (...), in [0, 1].
    """
    return _divide(np.abs(gap).sum(-1), n)


def wilson_interval(successes: float, n: float) -> Interval:
    """Return the Wilson score interval of a proportion, without continuity correction.

    Unlike the normal approximation it stays in [0, 1] and has a width at 0 and at n successes.
    Source: Wilson, Probable inference, the law of succession, and statistical inference, JASA 22, 1927.

    Args:
        successes: 0 to n.
        n: above 0.

    Returns:
        (low, high).
    """
    z2 = NormalDist().inv_cdf((1 + LEVEL) / 2) ** 2
    p, scale = successes / n, 1 + z2 / n
    centre, half = (p + z2 / (2 * n)) / scale, (z2 * (p * (1 - p) + z2 / (4 * n)) / n) ** 0.5 / scale
    return max(centre - half, 0.0), min(centre + half, 1.0)


def share_interval(right: Array, group: Array | None = None) -> Interval:
    """Return Wilson's interval of the share of images that are right, of as many images as the groups are worth.

    Source: Korn and Graubard, Confidence intervals for proportions with small expected number of positive counts
    estimated from survey data, Survey Methodology 24, 1998.

    Args:
        right: (N,) bool.
        group: (N,) number of each image's group; None if all images are independent.
    """
    n = len(right) / design_effect(right, group)
    return wilson_interval(float(np.mean(right)) * n, n)


def design_effect(values: Array, group: Array | None) -> float:
    """Return how many times larger the variance of a mean is because images of a group are alike; at least 1.

    Source: Cochran, Sampling techniques, 1977, section 9.7: the variance of a ratio of clusters.

    Args:
        values: (N,).
        group: (N,) number of each image's group; None if all images are independent.
    """
    off = values - np.mean(values)
    if group is None or not off.any():
        return 1.0
    sums = sum_groups(off, group)
    return max(len(sums) / max(len(sums) - 1, 1) * float(sums @ sums) / float(off @ off), 1.0)


def sum_groups(values: Array, group: Array | None) -> Array:
    """Add up the values of each group, (N, ...) -> (G, ...); without groups each image is one."""
    if group is None:
        return values
    _, code = np.unique(group, return_inverse=True)
    sums = np.zeros((code.max() + 1, *values.shape[1:]), values.dtype)
    np.add.at(sums, code, values)
    return sums


def bootstrap_intervals(confusion: Array, seed: int = 0) -> dict[str, Interval]:
    """Return the percentile bootstrap interval of every score of ``confusion_scores``.

    An image matters to these scores only through its cell of the confusion matrix. To draw N images with replacement
    therefore means to draw N cells with probability count / N: one multinomial draw of K * K counts, whatever N is.
    Where a class has no error in the sample the bootstrap sees no uncertainty in it; its Wilson interval does.
    Source: Efron and Tibshirani, An introduction to the bootstrap, 1993, chapter 13.

    Args:
        confusion: (K, K) counts; or (G, K, K), those of each group, of which whole ones are drawn.
        seed: of the resampling.

    Returns:
        (low, high) by name.
    """
    rng, shape = np.random.default_rng(seed), (RESAMPLES, *confusion.shape[-2:])
    if confusion.ndim == 3:
        times = rng.multinomial(len(confusion), np.full(len(confusion), 1 / len(confusion)), size=RESAMPLES)
        draws = times @ confusion.reshape(len(confusion), -1)
    else:
        n = int(confusion.sum())
        draws = rng.multinomial(n, confusion.ravel() / n, size=RESAMPLES)
    return {name: _percentiles(x) for name, x in confusion_scores(draws.reshape(shape)).items()}


def bootstrap_mean(values: Array, group: Array | None = None) -> Interval:
    """Return the percentile bootstrap interval of a mean, such as the negative log-likelihood. Shapes: (N,), (N,)."""
    total, n = _resampled_sums(np.stack([values, np.ones(len(values))], 1), group).T
    return _percentiles(total / n)


def bootstrap_calibration_error(bins: Array, gap: Array, group: Array | None = None) -> Interval:
    """Return the bootstrap interval of the expected calibration error, corrected for bias.

    The absolute value turns the noise of each bin into error, so resamples lie above the sample on average. The
    interval is shifted back by that average difference, or the measured value could lie outside its own interval.

    Args:
        bins: (N,) index of each image's bin of confidence.
        gap: (N,) 1 for a correct prediction, else 0, less the confidence.
        group: (N,) number of each image's group; None if all images are independent.

    Returns:
        (low, high), in [0, 1].
    """
    by_bin = gap[:, None] * (bins[:, None] == np.arange(BINS))  # (N, BINS)
    drawn = _resampled_sums(np.column_stack([by_bin, np.ones(len(gap))]), group)  # (R, BINS + 1)
    samples = calibration_error(drawn[:, :-1], drawn[:, -1])
    bias = samples.mean() - calibration_error(by_bin.sum(0), np.asarray(len(gap)))
    low, high = _percentiles(samples - bias)
    return max(low, 0.0), min(high, 1.0)


def _resampled_sums(values: Array, group: Array | None) -> Array:
    """Sum images or groups drawn with replacement, as many as there are, R times. Shape: (N, ...) -> (R, ...)."""
    values, rng = sum_groups(values, group), np.random.default_rng(0)
    # One resample at a time: all at once would hold R * N indices in memory.
    times = (np.bincount(rng.integers(len(values), size=len(values)), minlength=len(values)) for _ in range(RESAMPLES))
    return np.array([drawn.astype(np.float64) @ values for drawn in times])


def has_width(low: float, high: float) -> bool:
    """Whether an interval is one; a bootstrap's has no width where each resample gives the same value."""
    return high - low > 1e-12


def _percentiles(samples: Array) -> Interval:
    """Return the central interval that holds ``LEVEL`` of the samples. Shape: (R,)."""
    low, high = np.quantile(samples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)

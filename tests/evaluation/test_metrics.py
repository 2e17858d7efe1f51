"""Every logged metric against scikit-learn, with and without classes that do not occur."""

import warnings

import numpy as np
import pytest
import torch
from numpy.random import Generator
from sklearn import metrics as sk

from ferlightning.evaluation.metrics import classification_metrics
from ferlightning.evaluation.statistics import calibration_error, confusion_scores

K = 5


def random_case(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (N, K) and labels (N,); by seed, classes are missing from labels, predictions or both."""
    rng: Generator = np.random.default_rng(seed)
    n = int(rng.integers(1, 60))
    labelled = rng.choice(K, size=rng.integers(1, K + 1), replace=False)
    predicted = rng.choice(K, size=rng.integers(1, K + 1), replace=False)
    logits = 2 * rng.standard_normal((n, K))
    logits[:, predicted] += 20 * (seed % 3 > 0)  # two seeds in three: no prediction outside `predicted`
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return probs.astype(np.float32), rng.choice(labelled, size=n)


def reference(probs: np.ndarray, label: np.ndarray) -> dict[str, float]:
    prediction = probs.argmax(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of absent classes
        return {
            "accuracy": sk.accuracy_score(label, prediction),
            "balanced_accuracy": sk.balanced_accuracy_score(label, prediction),
            "macro_precision": sk.precision_score(label, prediction, average="macro", zero_division=0),
            "macro_f1": sk.f1_score(label, prediction, average="macro", zero_division=0),
            "weighted_precision": sk.precision_score(label, prediction, average="weighted", zero_division=0),
            "weighted_f1": sk.f1_score(label, prediction, average="weighted", zero_division=0),
        }


def reference_ece(probs: np.ndarray, label: np.ndarray) -> float:
    """Guo et al. 2017, eq. 3, in a plain loop."""
    confidence, correct = probs.max(1).astype(float), probs.argmax(1) == label
    total = 0.0
    for i in range(15):
        inside = (confidence >= i / 15) & ((confidence < (i + 1) / 15) | (i == 14))
        if inside.any():
            total += inside.sum() / len(label) * abs(correct[inside].mean() - confidence[inside].mean())
    return total


@pytest.mark.parametrize("seed", range(60))
def test_equal_to_scikit_learn(seed: int) -> None:
    probs, label = random_case(seed)
    metrics = classification_metrics(K)
    for rows in np.array_split(np.arange(len(label)), min(3, len(label))):  # batches of different size
        metrics.update(torch.from_numpy(probs[rows]), torch.from_numpy(label[rows]))
    got = {name: value.item() for name, value in metrics.compute().items()}

    expected = reference(probs, label)
    expected["nll"] = sk.log_loss(label, probs, labels=range(K))
    expected["calibration_error"] = reference_ece(probs, label)
    assert got == pytest.approx(expected, abs=1e-5)

    confusion = sk.confusion_matrix(label, probs.argmax(1), labels=range(K))
    scores = confusion_scores(confusion)
    assert {name: scores[name] for name in reference(probs, label)} == pytest.approx(reference(probs, label))
    assert calibration_error(probs.max(1), probs.argmax(1) == label) == pytest.approx(reference_ece(probs, label))


def test_random_cases_have_absent_classes() -> None:
    kinds = set()
    for seed in range(60):
        probs, label = random_case(seed)
        labelled, predicted = set(label.tolist()), set(probs.argmax(1).tolist())
        kinds |= {("predicted only", bool(predicted - labelled)), ("labelled only", bool(labelled - predicted))}
        kinds.add(("neither", len(labelled | predicted) < K))
    assert len(kinds) == 6


def test_saturated_probabilities() -> None:
    """Confidence 1 belongs to the last bin, and a probability of 0 or a rounding error above 1 does no harm."""
    probs = torch.tensor([[1.0000001, 0.0], [1.0, 0.0], [0.95, 0.05], [0.0, 1.0]])
    label = torch.tensor([0, 1, 0, 1])
    metrics = classification_metrics(2)
    metrics.update(probs, label)
    got = metrics.compute()
    assert got["calibration_error"].item() == pytest.approx(abs(0.75 - 3.95 / 4), abs=1e-5)
    assert got["nll"].item() == pytest.approx((-np.log(0.95) - np.log(np.finfo(np.float32).eps)) / 4, abs=1e-4)


def test_scalars_reset_and_half_precision() -> None:
    metrics = classification_metrics(K).clone(prefix="val/")
    metrics.update(torch.eye(K, dtype=torch.bfloat16), torch.arange(K))
    assert {name: value.item() for name, value in metrics.compute().items()} == pytest.approx(
        {f"val/{name}": 1.0 for name in reference(np.eye(K), np.arange(K))}
        | {"val/calibration_error": 0, "val/nll": 0},
        abs=1e-6,
    )
    assert all(value.ndim == 0 and value.dtype == torch.float32 for value in metrics.compute().values())
    metrics.reset()
    metrics.update(torch.eye(K), torch.arange(K).roll(1))
    assert metrics.compute()["val/accuracy"].item() == 0

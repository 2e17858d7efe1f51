"""The logged metrics against scikit-learn, with and without classes that do not occur."""

import warnings

import numpy as np
import pytest
import torch
from lightning import LightningModule, Trainer
from sklearn import metrics as sk
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from ferlightning.evaluation.metrics import classification_metrics, count_items
from ferlightning.evaluation.statistics import SCORES, scores

K = 5
FLOAT32 = np.finfo(np.float32)


def random_case(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw probabilities (N, K) and labels (N,); by seed, classes are missing from labels, predictions or both."""
    rng = np.random.default_rng(seed)
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
            "calibration_error": reference_ece(probs, label),
            "nll": sk.log_loss(label, probs.clip(FLOAT32.eps).astype(float), labels=range(probs.shape[1])),
        }


def reference_ece(probs: np.ndarray, label: np.ndarray) -> float:
    """Compute Guo et al. 2017, eq. 3, in a plain loop."""
    confidence, correct = probs.max(1).astype(float), probs.argmax(1) == label
    total = 0.0
    for i in range(15):
        inside = (confidence >= i / 15) & ((confidence < (i + 1) / 15) | (i == 14))
        if inside.any():
            total += inside.sum() / len(label) * abs(correct[inside].mean() - confidence[inside].mean())
    return total


def logged(probs: np.ndarray, label: np.ndarray, batches: int) -> dict[str, float]:
    metrics = classification_metrics(probs.shape[1])
    for rows in np.array_split(np.arange(len(label)), batches):
        metrics.update(torch.from_numpy(probs[rows]), torch.from_numpy(label[rows]))
    return {name: value.item() for name, value in metrics.compute().items()}


def test_logs_and_report_agree_with_scikit_learn() -> None:
    kinds = set()
    for seed in range(30):
        probs, label = random_case(seed)
        expected = pytest.approx(reference(probs, label), abs=1e-6)
        assert logged(probs, label, min(3, len(label))) == expected, seed
        counts = count_items(label, probs)
        assert scores(counts) == expected, seed
        assert counts.confusion.tolist() == sk.confusion_matrix(label, probs.argmax(1), labels=range(K)).tolist()
        labelled, predicted = set(label.tolist()), set(probs.argmax(1).tolist())
        kinds |= {("predicted only", bool(predicted - labelled)), ("labelled only", bool(labelled - predicted))}
        kinds.add(("neither", len(labelled | predicted) < K))
    assert len(kinds) == 6, "the cases drawn do not have every kind of absent class"


def test_a_long_epoch_loses_no_digits() -> None:
    rng = np.random.default_rng(0)
    probs, label = rng.dirichlet(np.ones(8), 40_000).astype(np.float32), rng.integers(0, 8, 40_000)
    expected = {name: pytest.approx(value, rel=2e-7) for name, value in reference(probs, label).items()}
    assert logged(probs, label, 313) == expected


def test_states_are_integers_so_that_any_device_holds_and_adds_them() -> None:
    """The GPU of a Mac has no float64, and a sum of float32 depends on the order."""
    metrics = classification_metrics(K)
    metrics.update(torch.eye(K), torch.arange(K))
    states = [state for metric in metrics.values(copy_state=False) for state in metric.metric_state.values()]
    assert {state.dtype for state in states} == {torch.int64}
    assert len({id(state) for state in states}) == 1, "a batch is counted once for all scores"


def test_processes_are_added_up() -> None:
    probs, label = random_case(7)
    here, there = classification_metrics(K), classification_metrics(K)
    here.update(torch.from_numpy(probs[:20]), torch.from_numpy(label[:20]))
    there.update(torch.from_numpy(probs[20:]), torch.from_numpy(label[20:]))
    (state,) = there["accuracy"].metric_state.values()
    for metric in here.values(copy_state=False):  # what torch.distributed would bring from the other process
        metric.distributed_available_fn = lambda: True
        metric.dist_sync_fn = lambda x, group=None: [x, state]
    got = {name: value.item() for name, value in here.compute().items()}
    assert got == pytest.approx(reference(probs, label), abs=1e-6) and len(label) > 20


def test_saturated_probabilities() -> None:
    """Confidence 1 belongs to the last bin, and a probability of 0 or a rounding error above 1 does no harm."""
    probs = torch.tensor([[1.0000001, 0.0], [1.0, 0.0], [0.95, 0.05], [0.0, 1.0], [float("nan")] * 2])
    metrics = classification_metrics(2)
    metrics.update(probs[:4], torch.tensor([0, 1, 0, 1]))
    got = metrics.compute()
    assert got["calibration_error"].item() == pytest.approx(abs(0.75 - 3.95 / 4), abs=1e-6)
    assert got["nll"].item() == pytest.approx((-np.log(0.95) - np.log(FLOAT32.eps)) / 4, abs=1e-6)
    metrics.reset()
    metrics.update(probs[4:], torch.tensor([1]))
    assert metrics.compute()["nll"].item() == pytest.approx(-np.log(FLOAT32.eps)), "not a number counts as 0"


def test_half_precision_is_read_as_it_is() -> None:
    probs = torch.tensor([[0.25, 0.75], [0.5, 0.5]], dtype=torch.bfloat16)
    metrics = classification_metrics(2)
    metrics.update(probs, torch.tensor([1, 0]))
    assert metrics.compute()["nll"].item() == pytest.approx(-(np.log(0.75) + np.log(0.5)) / 2)
    assert all(value.ndim == 0 and value.dtype == torch.float32 for value in metrics.compute().values())


@pytest.mark.parametrize("at_end", [False, True])
def test_lightning_logs_each_epoch_by_itself(at_end: bool) -> None:
    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.metrics = classification_metrics(K).clone(prefix="val/")

        def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
            self.metrics.update(*batch)
            if not at_end:
                self.log_dict(self.metrics, on_step=False, on_epoch=True)

        def on_validation_epoch_end(self) -> None:
            if at_end:
                self.log_dict(self.metrics)

    trainer = Trainer(
        logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu",
        enable_model_summary=False,
    )  # fmt: skip
    module = Module()
    for seed in (4, 7):
        probs, label = random_case(seed)
        data = DataLoader(TensorDataset(torch.from_numpy(probs), torch.from_numpy(label)), 7)
        (got,) = trainer.validate(module, data, verbose=False)
        assert list(got) == sorted(f"val/{name}" for name in SCORES)
        assert got == {f"val/{name}": pytest.approx(v, abs=1e-6) for name, v in reference(probs, label).items()}

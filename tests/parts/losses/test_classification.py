"""Losses against numpy, torch and scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn

from ferlightning.contracts.modules import Output
from ferlightning.errors import FerlError
from ferlightning.parts import CrossEntropy, FocalLoss, MultiTargetLoss
from ferlightning.parts.losses.classification import ClassWeights, frequency_weights

COUNTS = [60, 4, 30, 6]
RNG = np.random.default_rng(0)
LOGITS = RNG.standard_normal((8, 4)) * 3
INDEX = np.array([0, 1, 2, 3, 0, 2, 2, 1])
SOFT = RNG.dirichlet(np.ones(4), 8)
LOG_P = LOGITS - np.log(np.exp(LOGITS).sum(1, keepdims=True))
P = np.exp(LOG_P)
ROWS = np.arange(8)


def value(loss: nn.Module, label: np.ndarray) -> float:
    logits = torch.tensor(LOGITS, dtype=torch.float32)
    label = torch.tensor(label) if label.ndim == 1 else torch.tensor(label, dtype=torch.float32)
    return loss(Output(logits, logits, logits, None), {"label": label}).item()


def weights(kind: ClassWeights) -> np.ndarray:
    return frequency_weights(COUNTS, kind).numpy().astype(np.float64)


def test_cross_entropy_of_indices() -> None:
    assert value(CrossEntropy(4, COUNTS), INDEX) == pytest.approx(-LOG_P[ROWS, INDEX].mean(), rel=1e-5)


def test_cross_entropy_of_soft_labels() -> None:
    assert value(CrossEntropy(4, COUNTS), SOFT) == pytest.approx(-(SOFT * LOG_P).sum(1).mean(), rel=1e-5)
    one_hot = np.eye(4)[INDEX]
    assert value(CrossEntropy(4, COUNTS), one_hot) == pytest.approx(value(CrossEntropy(4, COUNTS), INDEX), rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.1, 1.0])
def test_label_smoothing_spreads_evenly(smoothing: float) -> None:
    """Szegedy et al. 2016, section 7: (1 - e) of the label and e / K for every class."""
    smooth = (1 - smoothing) * np.eye(4)[INDEX] + smoothing / 4
    loss = CrossEntropy(4, COUNTS, label_smoothing=smoothing)
    assert value(loss, INDEX) == pytest.approx(-(smooth * LOG_P).sum(1).mean(), rel=1e-5)


def test_inverse_weights_are_proportional_to_scikit_learns_balanced() -> None:
    labels = np.repeat(np.arange(4), COUNTS)
    balanced = compute_class_weight("balanced", classes=np.arange(4), y=labels)
    ratio = weights("inverse") / balanced
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-5)


@pytest.mark.parametrize("b", [0.9, 0.9999])
def test_effective_weights_are_those_of_cui_et_al(b: float) -> None:
    """E_n = (1 - b^n) / (1 - b) by its recursion E_n = 1 + b E_(n-1) (their equation 3); the weight is 1 / E_n."""
    expected = []
    for n in COUNTS:
        effective = 0.0
        for _ in range(n):
            effective = 1 + b * effective
        expected.append(1 / effective)
    ratio = weights(b) / np.array(expected)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-5)


@pytest.mark.parametrize("kind", ["inverse", 0.999])
def test_weights_have_mean_one_over_the_images(kind: ClassWeights) -> None:
    assert (weights(kind) * COUNTS).sum() / sum(COUNTS) == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("b", [-0.1, 1.0])
def test_a_number_out_of_range_is_refused(b: float) -> None:
    with pytest.raises(FerlError, match="class_weights"):
        frequency_weights(COUNTS, b)


def test_weights_as_scikit_learn_calls_them_and_by_hand() -> None:
    assert frequency_weights(COUNTS, "balanced").tolist() == frequency_weights(COUNTS, "inverse").tolist()
    assert frequency_weights([3, 1], [1.0, 2.5]).tolist() == [1, 2.5]
    for wrong in ([1.0], [1.0, -1.0], [1.0, float("nan")], [0.0, 0.0]):
        with pytest.raises(
            FerlError, match=r"class_weights: .*, expected 2 numbers from 0, not all 0, in the order of the classes"
        ):
            frequency_weights([3, 1], wrong)


def test_a_class_without_images_has_no_weight() -> None:
    assert frequency_weights([3, 0, 1], "inverse").tolist() == pytest.approx([2 / 3, 0, 2])  # mean 1 over four images


@pytest.mark.parametrize("kind", ["inverse", 0.999])
def test_weighted_cross_entropy(kind: ClassWeights) -> None:
    w = weights(kind)
    loss = CrossEntropy(4, COUNTS, class_weights=kind)
    indices = (-w[INDEX] * LOG_P[ROWS, INDEX]).sum() / w[INDEX].sum()
    assert value(loss, INDEX) == pytest.approx(indices, rel=1e-5)
    assert value(loss, SOFT) == pytest.approx(-(w * SOFT * LOG_P).sum() / (w * SOFT).sum(), rel=1e-5)


def test_weighted_cross_entropy_of_indices_and_of_one_hot_labels_is_the_same() -> None:
    loss = CrossEntropy(4, COUNTS, class_weights="inverse", label_smoothing=0.1)
    assert value(loss, np.eye(4)[INDEX]) == pytest.approx(value(loss, INDEX), rel=1e-5)


def test_multi_target_loss_takes_the_most_probable_of_the_accepted_classes() -> None:
    """Barsoum et al. 2016, equation 3, by a loop; an index label is the only class accepted."""
    accepted = np.array([[0.5, 0.5, 0, 0], [0, 1, 0, 0], [0.25, 0.25, 0.25, 0.25]] * 9)[: len(P)]
    expected = [
        -np.log(max(p for p, yes in zip(row, label, strict=True) if yes))
        for row, label in zip(P, accepted, strict=True)
    ]
    loss = MultiTargetLoss(4, COUNTS)
    assert value(loss, accepted) == pytest.approx(np.mean(expected), rel=1e-5)
    assert value(loss, INDEX) == pytest.approx(value(CrossEntropy(4, COUNTS), INDEX), rel=1e-5)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_is_lin_et_al_equations_4_and_5(gamma: float) -> None:
    p = P[ROWS, INDEX]
    focal = -((1 - p) ** gamma) * np.log(p)  # equation 4
    assert value(FocalLoss(4, COUNTS, gamma=gamma), INDEX) == pytest.approx(focal.mean(), rel=1e-5)
    alpha = weights("inverse")[INDEX]
    loss = FocalLoss(4, COUNTS, gamma=gamma, class_weights="inverse")
    assert value(loss, INDEX) == pytest.approx((alpha * focal).mean(), rel=1e-5)  # equation 5


@pytest.mark.parametrize("label", [INDEX, SOFT], ids=["index", "soft"])
def test_focal_loss_without_focus_is_cross_entropy(label: np.ndarray) -> None:
    assert value(FocalLoss(4, COUNTS, gamma=0), label) == pytest.approx(value(CrossEntropy(4, COUNTS), label), rel=1e-5)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_has_a_finite_gradient_where_p_rounds_to_one(gamma: float) -> None:
    logits: Tensor = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    FocalLoss(2, [1, 1], gamma=gamma)(Output(logits, logits, logits, None), {"label": torch.tensor([0, 0])}).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad[1].abs().sum() > 0


def test_class_weights_are_not_part_of_a_checkpoint() -> None:
    assert not CrossEntropy(4, COUNTS, class_weights="inverse").state_dict()
    assert not FocalLoss(4, COUNTS, class_weights="inverse").state_dict()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("label", [torch.tensor([1, 1]), torch.eye(2)[[1, 1]], torch.zeros(2, 2)])
def test_a_batch_of_weight_0_costs_nothing(label: Tensor, smoothing: float) -> None:
    logits = torch.tensor([[2.0, -1.0], [0.5, 3.0]], requires_grad=True)
    loss = CrossEntropy(2, [5, 5], class_weights=[1.0, 0.0], label_smoothing=smoothing)
    found = loss(Output(logits, logits, logits, None), {"label": label})
    found.backward()
    assert found == 0 and logits.grad is not None and (logits.grad == 0).all()

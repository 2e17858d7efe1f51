"""Hinge loss against scikit-learn's and a loop over Tang 2013."""

import numpy as np
import pytest
import torch
from sklearn.metrics import hinge_loss
from torch.nn import functional as F

from ferlightning.contracts.modules import Output
from ferlightning.parts import HingeLoss

COUNTS = [10, 10, 10, 10]
RNG = np.random.default_rng(0)
MARGINS = 2 * RNG.standard_normal((9, 4))
LABEL = np.array([0, 1, 2, 3, 0, 1, 2, 3, 3])


def value(loss: HingeLoss, label: torch.Tensor, margins: np.ndarray = MARGINS) -> float:
    z = torch.tensor(margins, dtype=torch.float32)
    return loss(Output(z, z, z, None), {"label": label}).item()


def test_each_class_against_the_rest_is_scikit_learns() -> None:
    expected = sum(hinge_loss(np.where(k == LABEL, 1, -1), MARGINS[:, k]) for k in range(4))
    assert value(HingeLoss(3, COUNTS, squared=False), torch.tensor(LABEL)) == pytest.approx(expected, rel=1e-5)
    few = slice(0, 3)  # a batch without the last class
    expected = sum(np.maximum(0, 1 - np.where(k == LABEL[few], 1, -1) * MARGINS[few, k]).mean() for k in range(4))
    found = value(HingeLoss(3, COUNTS, squared=False), torch.tensor(LABEL[few]), MARGINS[few])
    assert found == pytest.approx(expected, rel=1e-5)


def test_squared_is_tangs_l2_svm() -> None:
    total = 0.0
    for z, y in zip(MARGINS, LABEL, strict=True):
        for k in range(4):
            t = 1 if k == y else -1
            total += max(0.0, 1 - t * z[k]) ** 2
    assert value(HingeLoss(3, COUNTS), torch.tensor(LABEL)) == pytest.approx(total / 9, rel=1e-5)


@pytest.mark.parametrize("squared", [True, False])
def test_margins_beyond_one_cost_nothing(squared: bool) -> None:
    margins = np.where(np.eye(4)[LABEL] == 1, 1.5, -2.0)
    assert value(HingeLoss(3, COUNTS, squared=squared), torch.tensor(LABEL), margins) == 0


def test_soft_labels_count_as_their_most_probable_class() -> None:
    loss, label = HingeLoss(3, COUNTS), torch.tensor(LABEL)
    assert value(loss, 0.7 * F.one_hot(label, 4) + 0.075) == value(loss, label)

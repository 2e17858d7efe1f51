"""An image without a label, whose class probabilities are all 0, teaches no loss anything."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from ferlightning.contracts.modules import Loss, Output
from ferlightning.parts import (
    CenterLoss,
    CrossEntropy,
    FocalLoss,
    HingeLoss,
    MultiTargetLoss,
    SelfCureWeighting,
)

LABEL = torch.eye(3)[[1, 2, 2, 1, 0, 0]]
LABEL[4:] = 0
LOSSES: list[Any] = [
    CrossEntropy, partial(CrossEntropy, class_weights=[1.0, 2.0, 3.0]), FocalLoss, MultiTargetLoss, HingeLoss,
    CenterLoss, partial(SelfCureWeighting, margin=0.9),
]  # fmt: skip


def graded(loss: Loss, label: Tensor) -> tuple[Tensor, Tensor]:
    """The loss of the first items, and the gradients of logits and embedding side by side."""
    generator = torch.Generator().manual_seed(0)
    logits, x = (torch.randn(6, n, generator=generator)[: len(label)].requires_grad_() for n in (3, 5))
    value = loss(Output(logits, x, x, None), {"label": label})
    value.backward()
    zeros = torch.zeros
    return value, torch.cat([zeros(y.shape) if y.grad is None else y.grad for y in (logits, x)], 1)


@pytest.mark.parametrize("kind", LOSSES)
def test_it_adds_nothing(kind: Any) -> None:
    """What the others cost, and how they are pushed, is as without it, but for the mean over the batch."""
    torch.manual_seed(0)
    loss = kind(5, [2, 2, 2])
    alone, pushed = graded(loss, LABEL[:4])
    fresh = kind(5, [2, 2, 2])
    fresh.load_state_dict(loss.state_dict())
    if isinstance(loss, CenterLoss):  # which has moved
        fresh = kind(5, [2, 2, 2])
    with_others, pushes = graded(fresh, LABEL)
    assert with_others.isfinite() and (pushes[4:] == 0).all()
    if isinstance(loss, SelfCureWeighting):  # a sum of a mean over the batch and of one over groups
        return
    share = 1.0 if getattr(loss, "class_weights", None) is not None else 4 / 6
    torch.testing.assert_close(with_others, share * alone)
    torch.testing.assert_close(pushes[:4], share * pushed)
    for name, x in loss.state_dict().items():
        torch.testing.assert_close(fresh.state_dict()[name], x)

"""ferlightning's contract checks, and tests of what only the author knows about the parts."""

from functools import partial

import pytest
import torch
from ferl_example import ConfidencePenalty, GaussianBlur, TinyNet

from ferlightning.contracts import Output
from ferlightning.testing import check_backbone, check_loss, check_restorer


@pytest.mark.parametrize("build", [TinyNet, partial(TinyNet, channels=(8, 24))])
def test_backbone(build) -> None:
    check_backbone(build)


def test_loss() -> None:
    check_loss(ConfidencePenalty)


@pytest.mark.parametrize("channels", [1, 3])
def test_restorer(channels: int) -> None:
    check_restorer(GaussianBlur, channels)


def test_even_predictions_have_the_least_penalty() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0]])
    penalty = ConfidencePenalty(1, [1, 1, 1])(Output(logits, logits, logits, None), {})
    torch.testing.assert_close(penalty, -torch.tensor(3.0).log())


def test_blur_keeps_what_is_flat() -> None:
    flat = torch.full((1, 1, 9, 9), 0.3)
    torch.testing.assert_close(GaussianBlur()(flat), flat)

"""Pooling attentions against their formulas, token by token, in plain Python."""

import math

import pytest
import torch
from torch import Tensor

from ferlightning.contracts import Tokens
from ferlightning.parts import AdditiveAttention, DotProductAttention

LENGTHS = (5, 1, 3)
X = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
MASK = torch.arange(5) < torch.tensor(LENGTHS)[:, None]


def weighted_mean(scores: list[float], x: Tensor) -> tuple[list[float], Tensor]:
    """softmax(scores) and sum of weight times token."""
    exponentials = [math.exp(score) for score in scores]
    weights = [e / sum(exponentials) for e in exponentials]
    return weights, sum((w * token for w, token in zip(weights, x, strict=True)), torch.zeros(x.shape[1]))


def additive(stage: AdditiveAttention, token: Tensor) -> float:
    """v . tanh(W h + b)"""
    score = 0.0
    for row, bias, v in zip(stage.project.weight, stage.project.bias, stage.v.weight[0], strict=True):
        score += float(v) * math.tanh(sum(float(a) * float(b) for a, b in zip(row, token, strict=True)) + float(bias))
    return score


def dot_product(stage: DotProductAttention, token: Tensor) -> float:
    """q . h / sqrt(D)"""
    return sum(float(a) * float(b) for a, b in zip(stage.query, token, strict=True)) / math.sqrt(len(token))


@pytest.mark.parametrize(
    ("stage", "score"), [(AdditiveAttention(4, hidden=6), additive), (DotProductAttention(4), dot_product)]
)
@torch.no_grad()
def test_attention_equals_its_formula(stage, score) -> None:
    out = stage.eval()(Tokens(X, MASK, (5, 1, 1)))
    for item, length in enumerate(LENGTHS):
        tokens = X[item, :length]
        weights, context = weighted_mean([score(stage, token) for token in tokens], tokens)
        torch.testing.assert_close(out.x[item, 0], context, atol=1e-6, rtol=0)
        torch.testing.assert_close(stage.attention[item, :length], torch.tensor(weights), atol=1e-6, rtol=0)


def test_equal_scores_give_the_mean() -> None:
    stage = DotProductAttention(4)
    torch.nn.init.zeros_(stage.query)
    out = stage(Tokens(X, None, (5, 1, 1)))
    torch.testing.assert_close(out.x[:, 0], X.mean(1))

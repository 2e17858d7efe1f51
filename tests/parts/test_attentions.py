"""Pooling attentions against their formulas, token by token, in plain Python."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from ferlightning.contracts.modules import Tokens, pool
from ferlightning.parts import AdditiveAttention, DotProductAttention, SpatialTemporalAttention
from ferlightning.testing import check_stage

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


@torch.no_grad()
def test_tokens_kept_apart_have_the_weighted_mean_as_their_mean() -> None:
    stage, tokens = DotProductAttention(4, pool=False), Tokens(X, MASK, (5, 1, 1))
    kept = stage(tokens)
    assert (kept.grid, kept.mask) == (tokens.grid, MASK)
    torch.testing.assert_close(kept.x[0, 1], 5 * stage.attention[0, 1] * X[0, 1])
    torch.testing.assert_close(kept.x[1, 0], X[1, 0])  # one real token
    pooling = DotProductAttention(4)
    pooling.load_state_dict(stage.state_dict())
    torch.testing.assert_close(pool(kept), pooling(tokens).x[:, 0])


def test_tokens_kept_apart_keep_the_contract_of_a_stage() -> None:
    check_stage(partial(DotProductAttention, pool=False))


def test_equal_scores_give_the_mean() -> None:
    stage = DotProductAttention(4)
    torch.nn.init.zeros_(stage.query)
    out = stage(Tokens(X, None, (5, 1, 1)))
    torch.testing.assert_close(out.x[:, 0], X.mean(1))


@torch.no_grad()
def test_spatial_temporal_attention_is_over_cells_and_then_over_frames() -> None:
    """Two frames of 2 x 2 cells and a third that is real in one clip only; both weights by the loops above."""
    frames, x = (3, 2), torch.randn(2, 12, 4, generator=torch.Generator().manual_seed(1))
    mask = torch.arange(12) < 4 * torch.tensor(frames)[:, None]
    stage = SpatialTemporalAttention(4, hidden=6).eval()
    out = stage(Tokens(x, mask, (3, 2, 2)))
    for item, t in enumerate(frames):
        cells = [x[item, 4 * i : 4 * i + 4] for i in range(t)]
        within = [weighted_mean([additive(stage.spatial, cell) for cell in frame], frame) for frame in cells]
        vectors = torch.stack([vector for _, vector in within])
        over, context = weighted_mean([additive(stage.temporal, vector) for vector in vectors], vectors)
        product = [b * a for b, (weights, _) in zip(over, within, strict=True) for a in weights]
        torch.testing.assert_close(out.x[item, 0], context, atol=1e-6, rtol=0)
        torch.testing.assert_close(stage.attention[item, : 4 * t], torch.tensor(product), atol=1e-6, rtol=0)
        assert stage.attention[item].sum() == pytest.approx(1, abs=1e-6)


@torch.no_grad()
def test_spatial_temporal_attention_of_a_still_is_additive_attention() -> None:
    both, one = SpatialTemporalAttention(4, hidden=6), AdditiveAttention(4, hidden=6)
    one.load_state_dict(both.spatial.state_dict())
    still = Tokens(X[:, :4], None, (1, 2, 2))
    torch.testing.assert_close(both(still).x, one(still).x)
    torch.testing.assert_close(both.attention, one.attention)

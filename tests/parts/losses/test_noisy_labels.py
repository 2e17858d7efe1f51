"""Self-cure weighting against its equations, and on labels of which some are wrong."""

import math

import pytest
import torch
from torch import Tensor, nn

from ferlightning.contracts.modules import Output
from ferlightning.parts import SelfCureWeighting

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = 2 * torch.randn(10, 4, generator=GENERATOR)
EMBEDDING = torch.randn(10, 6, generator=GENERATOR)
LABEL = torch.randint(4, (10,), generator=GENERATOR)
SOFT = torch.rand(10, 4, generator=GENERATOR).softmax(1)


def value(loss: SelfCureWeighting, n: int = 10, label: Tensor = LABEL) -> float:
    return loss(Output(LOGITS[:n], EMBEDDING[:n], LOGITS[:n], None), {"label": label[:n]}).item()


def importances(loss: SelfCureWeighting) -> list[float]:
    weight, bias = loss.importance.weight[0].tolist(), loss.importance.bias.item()
    scores = [sum(w * x for w, x in zip(weight, row, strict=True)) + bias for row in EMBEDDING.tolist()]
    return [1 / (1 + math.exp(-score)) for score in scores]


def log_softmax(x: list[float]) -> list[float]:
    return [v - math.log(sum(math.exp(u) for u in x)) for v in x]


@pytest.mark.parametrize("label", [LABEL, SOFT], ids=["index", "soft"])
def test_classification_term_is_cross_entropy_of_weighted_logits(label: Tensor) -> None:
    loss = SelfCureWeighting(6, [1] * 4, gamma=0.0)
    target = torch.eye(4)[label] if label.ndim == 1 else label
    terms = []
    for a, logits, t in zip(importances(loss), LOGITS.tolist(), target.tolist(), strict=True):
        terms.append(-sum(y * lp for y, lp in zip(t, log_softmax([a * x for x in logits]), strict=True)))
    assert value(loss, label=label) == pytest.approx(sum(terms) / 10, rel=1e-5)


@pytest.mark.parametrize(("share", "high", "margin"), [(0.7, 7, 1.0), (0.5, 5, 0.15), (0.01, 1, 1.0), (0.99, 9, 1.0)])
def test_rank_term_is_how_far_the_means_fall_short_of_the_margin(share: float, high: int, margin: float) -> None:
    loss = SelfCureWeighting(6, [1] * 4, high_share=share, margin=margin, gamma=1.0)
    ranked = sorted(importances(loss), reverse=True)
    gap = sum(ranked[:high]) / high - sum(ranked[high:]) / (10 - high)
    assert value(loss) == pytest.approx(max(0, margin - gap), rel=1e-4, abs=1e-6)


def test_gamma_mixes_the_two_terms() -> None:
    loss = SelfCureWeighting(6, [1] * 4, margin=1.0)
    values = []
    for gamma in (0.0, 0.3, 1.0):
        loss.gamma = gamma
        values.append(value(loss))
    assert values[1] == pytest.approx(0.7 * values[0] + 0.3 * values[2], rel=1e-5)


def test_a_batch_of_one_has_no_ranks() -> None:
    assert value(SelfCureWeighting(6, [1] * 4, gamma=1.0), n=1) == 0


def test_wrong_labels_lose_importance() -> None:
    """A fifth of the labels of two well separated blobs is wrong, and a third feature says that they look doubtful."""
    generator = torch.Generator().manual_seed(1)
    truth = torch.randint(2, (400,), generator=generator)
    wrong = torch.rand(400, generator=generator) < 0.2
    x = torch.stack([2.0 * truth - 1, torch.ones(400), wrong.float()], 1)
    x = x + 0.3 * torch.randn(400, 3, generator=generator)
    torch.manual_seed(0)
    classify, loss = nn.Linear(3, 2), SelfCureWeighting(3, [1, 1])
    optimizer = torch.optim.Adam([*classify.parameters(), *loss.parameters()], lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        logits = classify(x)
        loss(Output(logits, x, x, None), {"label": torch.where(wrong, 1 - truth, truth)}).backward()
        optimizer.step()
    importance = torch.sigmoid(loss.importance(x)).flatten()
    assert importance[~wrong].mean() - importance[wrong].mean() > 0.3

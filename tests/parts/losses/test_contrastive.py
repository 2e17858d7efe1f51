"""The supervised contrastive loss against its equation, pair by pair."""

import math

import pytest
import torch
from torch import Tensor

from ferlightning.contracts.modules import Output
from ferlightning.errors import FerlError
from ferlightning.parts import SupervisedContrastive

LABEL = [0, 1, 0, 2, 1, 0]  # the item of class 2 is alone
Z = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))


def value(embedding: Tensor, label: Tensor, temperature: float = 0.1) -> Tensor:
    output = Output(embedding, embedding, embedding, None)
    return SupervisedContrastive(5, [1, 1, 1], temperature=temperature)(output, {"label": label})


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_it_equals_equation_2(temperature: float) -> None:
    terms = []
    z = Z.tolist()
    for i in range(6):
        positives = [p for p in range(6) if p != i and LABEL[p] == LABEL[i]]
        if not positives:
            continue
        total = sum(math.exp(cosine(z[i], z[a]) / temperature) for a in range(6) if a != i)
        logs = [math.log(math.exp(cosine(z[i], z[p]) / temperature) / total) for p in positives]
        terms.append(-sum(logs) / len(positives))
    assert len(terms) == 5
    assert value(Z, torch.tensor(LABEL), temperature).item() == pytest.approx(sum(terms) / 5, rel=1e-5)


def test_length_of_embeddings_does_not_matter() -> None:
    label = torch.tensor(LABEL)
    lengths = torch.tensor([[1.0], [5.0], [0.1], [2.0], [30.0], [0.7]])
    torch.testing.assert_close(value(Z * lengths, label), value(Z, label))


def test_a_step_against_the_gradient_draws_a_class_together() -> None:
    z, label = Z.clone().requires_grad_(), torch.tensor(LABEL)
    before = value(z, label)
    before.backward()
    assert z.grad is not None
    after = z.detach() - 0.05 * z.grad
    assert value(after, label) < before
    assert cosine(after[0].tolist(), after[2].tolist()) > cosine(Z[0].tolist(), Z[2].tolist())


@pytest.mark.parametrize("label", [[0], [0, 1, 2]])
def test_a_batch_without_positives_costs_nothing_and_has_a_gradient(label: list[int]) -> None:
    z = Z[: len(label)].clone().requires_grad_()
    loss = value(z, torch.tensor(label))
    loss.backward()
    assert loss == 0
    assert z.grad is not None
    assert (z.grad == 0).all()


def test_no_loss_of_accuracy_at_a_low_temperature() -> None:
    """exp(1 / 0.005) overflows a float; the best arrangement of two classes costs log of the positives."""
    z = torch.eye(2)[[0, 0, 0, 1, 1, 1]].requires_grad_()
    loss = value(z, torch.tensor([0, 0, 0, 1, 1, 1]), temperature=0.005)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2), rel=1e-5)
    assert z.grad is not None
    assert z.grad.isfinite().all()


def test_soft_labels_are_refused_in_words() -> None:
    with pytest.raises(FerlError, match="needs one class an item"):
        value(Z, torch.full((6, 3), 1 / 3))


def test_it_is_computed_in_full_precision_when_the_model_is_not() -> None:
    expected = value(Z, torch.tensor(LABEL))
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(value(Z, torch.tensor(LABEL)), expected)


@pytest.mark.parametrize("temperature", [0.0, -0.1, math.nan])
def test_a_temperature_that_is_not_above_0_is_refused(temperature: float) -> None:
    with pytest.raises(FerlError, match="SupervisedContrastive: temperature is .*, expected a number above 0"):
        SupervisedContrastive(5, [1, 1, 1], temperature=temperature)

"""Heads against their formulas."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ferlightning.contracts.modules import Head, Tokens
from ferlightning.errors import FerlError
from ferlightning.parts import CosineHead, DANHead, LinearHead, MLPHead, ProjectionHead

LENGTHS = (3, 1, 2)
"""Frames of each item; a frame has 2 x 2 cells."""
X = torch.randn(3, 12, 8, generator=torch.Generator().manual_seed(0))
MASK = torch.arange(12) < 4 * torch.tensor(LENGTHS)[:, None]
TOKENS = Tokens(X, MASK, (3, 2, 2))
MEANS = torch.stack([X[i, : 4 * length].mean(0) for i, length in enumerate(LENGTHS)])


def randomised(head: nn.Module) -> nn.Module:
    """Batch norms and biases that are not 0 and 1, so that a term left out shows."""
    generator = torch.Generator().manual_seed(1)
    for module in head.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            for x in (module.weight, module.running_var):
                x.data.uniform_(0.5, 2, generator=generator)
            for x in (module.bias, module.running_mean):
                x.data.normal_(generator=generator)
    return head.eval()


@torch.no_grad()
def test_linear_head_is_a_linear_layer_of_the_mean_real_token() -> None:
    head = LinearHead(8, 5).eval()
    logits, embedding = head(TOKENS)
    torch.testing.assert_close(embedding, MEANS)
    torch.testing.assert_close(logits, MEANS @ head.classify.weight.T + head.classify.bias)


@torch.no_grad()
def test_mlp_head_has_one_hidden_layer_on_the_mean_real_token() -> None:
    head = MLPHead(8, 5, hidden=6).eval()
    logits, embedding = head(TOKENS)
    hidden = (MEANS @ head.embed[1].weight.T + head.embed[1].bias).relu()
    torch.testing.assert_close(embedding, hidden)
    torch.testing.assert_close(logits, hidden @ head.classify.weight.T + head.classify.bias)


@torch.no_grad()
def test_the_embedding_of_the_mlp_head_is_the_hidden_layer_before_the_last_dropout() -> None:
    head = MLPHead(8, 5, hidden=6, dropout=0.5).train()
    head.embed[0].eval()  # the dropout before the hidden layer
    logits, embedding = head(TOKENS)
    torch.testing.assert_close(embedding, (MEANS @ head.embed[1].weight.T + head.embed[1].bias).relu())
    assert not torch.allclose(logits, embedding @ head.classify.weight.T + head.classify.bias)


@torch.no_grad()
def test_two_passes_in_training_give_one_embedding() -> None:
    for build in (LinearHead, partial(ProjectionHead, projection=None, reconstruction=None)):
        head = build(8, 5, dropout=0.5).train()
        first, second = (head(TOKENS)[1] for _ in range(2))
        assert first.equal(second)
        torch.testing.assert_close(first, MEANS)


@torch.no_grad()
def test_cosine_head_equals_its_formula() -> None:
    head = CosineHead(8, 5, scale=3.0)
    logits, embedding = head(TOKENS)
    for i, x in enumerate(MEANS.tolist()):
        length = math.hypot(*x)
        torch.testing.assert_close(embedding[i], torch.tensor([v / length for v in x]))
        for k, w in enumerate(head.weight.tolist()):
            cosine = sum(a * b for a, b in zip(x, w, strict=True)) / length / math.hypot(*w)
            assert float(logits[i, k]) == pytest.approx(3 * cosine, rel=1e-5, abs=1e-6)


def test_scale_of_the_cosine_head_reaches_the_probability_that_its_line_names() -> None:
    """CosFace's bound: the K classes are a simplex, as far apart as possible, and each item lies on its class."""
    k, p = 7, 0.99
    simplex = torch.eye(k) - 1 / k
    head = CosineHead(k, k, scale=(k - 1) / k * math.log((k - 1) * p / (1 - p)))
    head.weight.data = simplex.clone()
    logits, _ = head(Tokens(simplex.unsqueeze(1), None, (1, 1, 1)))
    torch.testing.assert_close(logits.softmax(1).diagonal(), torch.full((k,), p))


def batch_norm(norm: nn.Module, x: Tensor) -> Tensor:
    """Batch norm of one item in eval mode: channels first, no batch dimension."""
    shape = (-1, *(1 for _ in x.shape[1:]))
    mean, var, weight, bias = (v.view(shape) for v in (norm.running_mean, norm.running_var, norm.weight, norm.bias))
    return (x - mean) / (var + norm.eps).sqrt() * weight + bias


@pytest.mark.parametrize("attentions", [1, 3])
@torch.no_grad()
def test_dan_head_equals_its_description_item_by_item(attentions: int) -> None:
    """Wen et al. 2023, section 3: cells, channels, sum of log-softmax over the attentions, linear layer, batch norm."""
    head = randomised(DANHead(8, 5, attentions=attentions))
    logits, embedding = head(TOKENS)
    for item, length in enumerate(LENGTHS):
        attended = []
        for attention in head.attentions:
            frames = []
            for frame in X[item, : 4 * length].view(length, 2, 2, 8):
                x = frame.permute(2, 0, 1)  # (D, 2, 2)
                convolution, norm = attention.reduce
                y = batch_norm(norm, F.conv2d(x, convolution.weight, convolution.bias))
                branches = 0
                for (convolution, norm), (height, width) in zip(
                    attention.spatial, ((3, 3), (1, 3), (3, 1)), strict=True
                ):
                    assert convolution.weight.shape[2:] == (height, width)
                    z = F.conv2d(y, convolution.weight, convolution.bias, padding=(height // 2, width // 2))
                    branches = branches + batch_norm(norm, z)
                frames.append((x * branches.relu().sum(0)).mean((1, 2)))
            pooled = torch.stack(frames).mean(0)
            first, norm, _, second, _ = attention.channel
            hidden = batch_norm(norm, (first.weight @ pooled + first.bias)).relu()
            attended.append(pooled * torch.sigmoid(second.weight @ hidden + second.bias))
        if attentions == 1:
            fused = attended[0]
        else:
            total = sum(a.exp() for a in attended).log()  # over the attentions, channel by channel
            fused = sum(a - total for a in attended)
        torch.testing.assert_close(embedding[item], fused, atol=1e-4, rtol=1e-4)
        raw = head.classify.weight @ fused + head.classify.bias
        torch.testing.assert_close(logits[item], batch_norm(head.norm, raw), atol=1e-4, rtol=1e-4)


def test_dan_head_sees_where_cells_are() -> None:
    head = randomised(DANHead(8, 5))
    tokens = Tokens(X[:, :4], None, (1, 2, 2))
    turned = tokens._replace(x=tokens.x[:, [2, 3, 0, 1]])  # rows swapped, mean kept
    assert (head(tokens)[0] - head(turned)[0]).abs().max() > 1e-3


@pytest.mark.parametrize("build", [DANHead, ProjectionHead])
def test_a_training_batch_of_one_item_is_refused_in_words(build: Callable[..., Head]) -> None:
    one = Tokens(X[:1], MASK[:1], (3, 2, 2))
    with pytest.raises(FerlError, match=f"{build.__name__}: its batch norm needs two items.*data.batch_size"):
        build(8, 5)(one)
    assert build(8, 5).eval()(one)[0].shape == (1, 5)

"""Sequence stages against torch.nn and against their formulas."""

import math

import pytest
import torch
from torch import nn

from ferlightning.contracts.modules import Tokens
from ferlightning.errors import FerlError
from ferlightning.parts import GRU, LSTM, TCN, SelfAttention, TransformerEncoder
from ferlightning.parts.sequences import sinusoids

TORCH = {LSTM: nn.LSTM, GRU: nn.GRU}


def tokens(b: int = 3, length: int = 6, d: int = 8, mask: torch.Tensor | None = None) -> Tokens:
    return Tokens(torch.randn(b, length, d, generator=torch.Generator().manual_seed(0)), mask, (length, 1, 1))


@pytest.mark.parametrize(("part", "bidirectional"), [(LSTM, True), (LSTM, False), (GRU, True)])
def test_recurrent_stages_are_torchs(part, bidirectional: bool) -> None:
    stage = part(8, hidden=5, layers=2, bidirectional=bidirectional).eval()
    reference = TORCH[part](8, 5, 2, batch_first=True, bidirectional=bidirectional)
    reference.load_state_dict(stage.rnn.state_dict())
    torch.testing.assert_close(stage(tokens()).x, reference(tokens().x)[0], atol=0, rtol=0)
    assert stage.out_features == (10 if bidirectional else 5)


@pytest.mark.parametrize("mask", [None, torch.arange(6) < torch.tensor([[6], [2], [4]])], ids=["whole", "padded"])
@pytest.mark.parametrize("part", [LSTM, GRU])
@torch.no_grad()
def test_autocast_on_a_cpu_leaves_recurrent_stages_in_full_precision(part, mask: torch.Tensor | None) -> None:
    """oneDNN has no LSTM of float16 for tokens of float32, and on most CPUs none of bfloat16 at all."""
    stage = part(8).eval()
    expected = stage(tokens(mask=mask)).x
    for half in (torch.float16, torch.bfloat16):
        with torch.autocast("cpu", half):
            assert stage(tokens(mask=mask)).x.equal(expected)
            after_autocast = stage(tokens(mask=mask)._replace(x=tokens().x.to(half))).x
        torch.testing.assert_close(after_autocast, expected, atol=0.05, rtol=0)


def test_self_attention_equals_its_formula() -> None:
    """x + W_o concat(softmax(Q K^T / sqrt(d)) V) over the normalised tokens, head by head, padding left out."""
    stage = SelfAttention(8, heads=2).eval()
    nn.init.normal_(stage.attend.in_proj_bias)
    nn.init.normal_(stage.norm.weight)
    mask = torch.arange(6) < torch.tensor([[6], [2], [4]])
    out = stage(tokens(mask=mask))
    for item, length in enumerate((6, 2, 4)):
        x = tokens().x[item, :length]
        normal = (x - x.mean(1, keepdim=True)) / (x.var(1, correction=0, keepdim=True) + stage.norm.eps).sqrt()
        normal = normal * stage.norm.weight + stage.norm.bias
        q, k, v = (normal @ stage.attend.in_proj_weight.T + stage.attend.in_proj_bias).chunk(3, 1)
        heads = []
        for head in (slice(0, 4), slice(4, 8)):
            weights = (q[:, head] @ k[:, head].T / 4**0.5).softmax(1)
            heads.append(weights @ v[:, head])
        expected = x + torch.cat(heads, 1) @ stage.attend.out_proj.weight.T + stage.attend.out_proj.bias
        torch.testing.assert_close(out.x[item, :length], expected, atol=1e-5, rtol=0)


def test_dropout_is_for_training_only() -> None:
    stage = LSTM(8, dropout=0.9)
    assert (stage.train()(tokens()).x == 0).float().mean() > 0.5
    assert not (stage.eval()(tokens()).x == 0).any()


@torch.no_grad()
def test_positions_equal_their_formula() -> None:
    for features in (6, 7):
        table = sinusoids(40, features)
        assert table.shape == (40, features)
        for position in (0, 1, 39):
            for d in range(features):
                angle = position / 10000 ** (2 * (d // 2) / features)
                expected = math.cos(angle) if d % 2 else math.sin(angle)
                assert float(table[position, d]) == pytest.approx(expected, abs=1e-5)


@torch.no_grad()
def test_transformer_encoder_equals_its_formula() -> None:
    """Linear layer, positions, then x + f(norm(x)) twice a layer, norm at the end; padding left out."""
    stage = TransformerEncoder(8, hidden=4, layers=2, heads=2, feedforward=10).eval()
    for parameter in stage.parameters():
        nn.init.normal_(parameter, std=0.5)
    mask = torch.arange(6) < torch.tensor([[6], [2], [4]])
    out = stage(tokens(mask=mask))

    def norm(layer: nn.LayerNorm, x: torch.Tensor) -> torch.Tensor:
        normal = (x - x.mean(1, keepdim=True)) / (x.var(1, correction=0, keepdim=True) + layer.eps).sqrt()
        return normal * layer.weight + layer.bias

    for item, length in enumerate((6, 2, 4)):
        x = tokens().x[item, :length] @ stage.project.weight.T + stage.project.bias
        for position in range(length):
            for d, angle in enumerate((position, position, position / 100, position / 100)):
                x[position, d] += math.cos(angle) if d % 2 else math.sin(angle)
        for layer in stage.encoder.layers:
            attention = layer.self_attn
            q, k, v = (norm(layer.norm1, x) @ attention.in_proj_weight.T + attention.in_proj_bias).chunk(3, 1)
            heads = [(q[:, h] @ k[:, h].T / 2**0.5).softmax(1) @ v[:, h] for h in (slice(0, 2), slice(2, 4))]
            x = x + torch.cat(heads, 1) @ attention.out_proj.weight.T + attention.out_proj.bias
            hidden = (norm(layer.norm2, x) @ layer.linear1.weight.T + layer.linear1.bias).relu()
            x = x + hidden @ layer.linear2.weight.T + layer.linear2.bias
        torch.testing.assert_close(out.x[item, :length], norm(stage.encoder.norm, x), atol=1e-5, rtol=0)


def test_transformer_layers_start_from_different_weights() -> None:
    first, second = TransformerEncoder(8).encoder.layers
    assert not first.linear1.weight.equal(second.linear1.weight)
    assert not first.self_attn.in_proj_weight.equal(second.self_attn.in_proj_weight)


@torch.no_grad()
def test_transformer_encoder_knows_the_order_and_self_attention_does_not() -> None:
    given = tokens()
    turned = given._replace(x=given.x.flip(1))
    aware, blind = TransformerEncoder(8).eval(), SelfAttention(8).eval()
    torch.testing.assert_close(blind(turned).x.flip(1), blind(given).x, atol=1e-6, rtol=0)
    assert (aware(turned).x.flip(1) - aware(given).x).abs().max() > 0.01


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(FerlError, match="heads=4 must divide hidden, 10: .* one of 1, 2, 5, 10"):
        TransformerEncoder(8, hidden=10)


def dilated(layer: nn.Conv1d, x: torch.Tensor, dilation: int, causal: bool) -> torch.Tensor:
    """Weight-normalised convolution by its definition: (L, in) -> (L, out), zeros beyond the ends."""
    length, kernel = len(x), layer.weight.shape[2]
    first = -(kernel - 1) * dilation if causal else -((kernel - 1) * dilation // 2)
    out = layer.bias.repeat(length, 1)
    for o, v in enumerate(layer.weight):
        w = layer.gain[o] * v / v.square().sum().sqrt()
        for step in range(length):
            for tap in range(kernel):
                source = step + first + tap * dilation
                if 0 <= source < length:
                    out[step, o] += w[:, tap] @ x[source]
    return out


@pytest.mark.parametrize(("kernel", "causal"), [(2, False), (3, False), (3, True)])
@torch.no_grad()
def test_tcn_equals_its_formula_on_the_real_tokens_of_each_item(causal: bool, kernel: int) -> None:
    stage = TCN(8, hidden=5, layers=3, kernel=kernel, causal=causal).eval()
    for parameter in stage.parameters():
        nn.init.normal_(parameter, std=0.5)
    mask = torch.arange(6) < torch.tensor([[6], [2], [4]])
    garbage = tokens(mask=mask)._replace(x=tokens().x.masked_fill(~mask.unsqueeze(2), 1e3))
    out = stage(garbage)
    for item, length in enumerate((6, 2, 4)):
        x = tokens().x[item, :length]
        for i, block in enumerate(stage.blocks):
            y = dilated(block.first, x, 2**i, causal).relu()
            y = dilated(block.second, y, 2**i, causal).relu()
            kept = x @ block.shortcut.weight[:, :, 0].T + block.shortcut.bias if i == 0 else x
            x = (y + kept).relu()
        torch.testing.assert_close(out.x[item, :length], x, atol=1e-4, rtol=1e-5)


def test_a_new_tcn_has_the_weights_of_unnormalised_convolutions() -> None:
    """g starts as |v|, so that the usual initialisation holds."""
    layer = TCN(8).blocks[0].first
    torch.testing.assert_close(layer.gain, layer.weight.flatten(1).norm(dim=1))


@pytest.mark.parametrize(("causal", "seen"), [(True, range(40, 101)), (False, range(70, 131))])
def test_tcn_sees_as_far_as_it_says(causal: bool, seen: range) -> None:
    """60 neighbours by default: the gradient of token 100 by its inputs, all weights positive so that none cancel."""
    stage = TCN(2, hidden=2, causal=causal).double()
    for parameter in stage.parameters():
        nn.init.constant_(parameter, 0.3)
    x = torch.rand(1, 200, 2, dtype=torch.float64, requires_grad=True)
    stage(Tokens(x, None, (200, 1, 1))).x[0, 100].sum().backward()
    assert x.grad is not None
    assert x.grad[0].abs().sum(1).nonzero().flatten().tolist() == list(seen)


def test_heads_that_do_not_divide_the_width_are_refused_with_those_that_do() -> None:
    for heads in (4, 0):
        with pytest.raises(
            FerlError, match=f"SelfAttention: heads={heads} must divide the width.*, 6: .*of 1, 2, 3, 6"
        ):
            SelfAttention(6, heads=heads)

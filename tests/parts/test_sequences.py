"""Sequence stages against torch.nn and against formulas written out."""

import pytest
import torch
from torch import nn

from ferlightning.contracts import Tokens
from ferlightning.parts import GRU, LSTM, SelfAttention

TORCH = {LSTM: nn.LSTM, GRU: nn.GRU}


def tokens(b: int = 3, length: int = 6, d: int = 8, mask: torch.Tensor | None = None) -> Tokens:
    return Tokens(torch.randn(b, length, d, generator=torch.Generator().manual_seed(0)), mask, (length, 1, 1))


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("part", [LSTM, GRU])
def test_recurrent_stages_are_torchs(part, bidirectional: bool) -> None:
    stage = part(8, hidden=5, layers=2, bidirectional=bidirectional).eval()
    reference = TORCH[part](8, 5, 2, batch_first=True, bidirectional=bidirectional)
    reference.load_state_dict(stage.rnn.state_dict())
    torch.testing.assert_close(stage(tokens()).x, reference(tokens().x)[0], atol=0, rtol=0)
    assert stage.out_features == (10 if bidirectional else 5)


@pytest.mark.parametrize("part", [LSTM, GRU])
def test_packed_equals_unpacked_on_equal_lengths(part) -> None:
    stage = part(8).eval()
    packed = stage(tokens(mask=torch.ones(3, 6, dtype=torch.bool)))
    torch.testing.assert_close(packed.x, stage(tokens()).x, atol=1e-6, rtol=0)


def test_lstm_equals_its_equations() -> None:
    """Forward direction, step by step: gates i, f, g, o in torch's order."""
    stage = LSTM(8, hidden=4, bidirectional=False).eval()
    w, u = stage.rnn.weight_ih_l0, stage.rnn.weight_hh_l0
    bias = stage.rnn.bias_ih_l0 + stage.rnn.bias_hh_l0
    h = c = torch.zeros(3, 4)
    for step in range(6):
        i, f, g, o = (tokens().x[:, step] @ w.T + h @ u.T + bias).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        torch.testing.assert_close(stage(tokens()).x[:, step], h, atol=1e-6, rtol=0)


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

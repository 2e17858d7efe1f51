"""Sequence stages: relate the tokens (B, L, D) to each other and keep their number."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ferlightning.contracts.modules import Stage, Tokens
from ferlightning.errors import FerlError


class _Recurrent(Stage):
    """The frame of LSTM and GRU. Packs clips: padding is never read, and the way back starts at the last token."""

    cell: type[nn.LSTM] | type[nn.GRU]

    def __init__(
        self, in_features: int, hidden: int = 128, layers: int = 1, bidirectional: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.out_features = hidden * (2 if bidirectional else 1)
        self.rnn = self.cell(
            in_features, hidden, layers, batch_first=True, bidirectional=bidirectional,
            dropout=dropout if layers > 1 else 0.0,
        )  # fmt: skip
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tokens) -> Tokens:
        x = tokens.x.to(next(self.rnn.parameters()).dtype)
        with _without_autocast_on_cpu():
            if tokens.mask is None:
                states, _ = self.rnn(x)  # (B, L, out_features)
            else:
                lengths = tokens.mask.sum(1).cpu()
                packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
                states, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=x.shape[1])
        return tokens._replace(x=self.dropout(states))


def _without_autocast_on_cpu() -> AbstractContextManager[object]:
    """Leave autocast, because most CPUs have no half-precision LSTM and stop with an error of oneDNN; GPUs have one."""
    return torch.autocast("cpu", enabled=False) if torch.is_autocast_enabled("cpu") else nullcontext()


class LSTM(_Recurrent):
    """Long short-term memory, bidirectional by default (BiLSTM): (B, L, D) -> (B, L, hidden * directions).

    Hochreiter and Schmidhuber 1997; Graves and Schmidhuber 2005 for both directions.

    Args:
        in_features: D, comes from the backbone.
        hidden: width of the state of one direction.
        layers: number of stacked layers.
        bidirectional: read the steps in both directions and concatenate the states.
        dropout: on the states, and between layers, in [0, 1).
    """

    cell = nn.LSTM


class GRU(_Recurrent):
    """Gated recurrent unit, bidirectional by default: (B, L, D) -> (B, L, hidden * directions).

    Cho et al. 2014, https://arxiv.org/abs/1406.1078.

    Args:
        in_features: D, comes from the backbone.
        hidden: width of the state of one direction.
        layers: number of stacked layers.
        bidirectional: read the steps in both directions and concatenate the states.
        dropout: on the states, and between layers, in [0, 1).
    """

    cell = nn.GRU


def _check_heads(part: str, name: str, width: int, heads: int) -> None:
    if heads < 1 or width % heads:
        fitting = ", ".join(str(n) for n in range(1, min(width, 16) + 1) if width % n == 0)
        raise FerlError(
            f"{part}: heads={heads} must divide {name}, {width}: each head takes an equal share of it. Give heads as "
            f"one of {fitting}"
        )


class SelfAttention(Stage):
    """Multi-head self-attention with a residual connection and pre-normalisation: (B, L, D) -> (B, L, D).

    Vaswani et al. 2017, section 3.2.2, https://arxiv.org/abs/1706.03762. It knows no positions, so its result does not
    depend on the order of the tokens; ``TransformerEncoder`` adds positions.

    Args:
        in_features: D, a multiple of ``heads``; comes from the stage before.
        heads: number of attention heads.
        dropout: on the attention weights and on the result, in [0, 1).
    """

    def __init__(self, in_features: int, heads: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        _check_heads("SelfAttention", "the width of the tokens it gets", in_features, heads)
        self.out_features = in_features
        self.norm = nn.LayerNorm(in_features)
        self.attend = nn.MultiheadAttention(in_features, heads, dropout, batch_first=True)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tokens) -> Tokens:
        x = self.norm(tokens.x)
        padding = None if tokens.mask is None else torch.logical_not(tokens.mask)
        mixed: Tensor = self.attend(x, x, x, key_padding_mask=padding, need_weights=False)[0]
        return tokens._replace(x=tokens.x + self.dropout(mixed))


class TransformerEncoder(Stage):
    """Transformer encoder with pre-normalisation: (B, L, D) -> (B, L, hidden).

    A linear layer to ``hidden``, sinusoidal positions, then layers of self-attention and a feed-forward network, each
    x + f(norm(x)), and a last layer norm. Vaswani et al. 2017, sections 3.1-3.5, https://arxiv.org/abs/1706.03762, with
    the norm first as in Xiong et al. 2020, https://arxiv.org/abs/2002.04745.

    A position is the index of a token, cells row by row and frame after frame; in maps of one size it determines frame,
    row and column. Dosovitskiy et al. 2021 (appendix D.4, https://arxiv.org/abs/2010.11929) found that positions by
    row and column are no better.

    Args:
        in_features: D, comes from the backbone.
        hidden: width of the tokens inside and after, a multiple of ``heads``.
        layers: number of layers of attention and feed-forward network.
        heads: number of attention heads.
        feedforward: width of the hidden layer of the feed-forward networks.
        dropout: on the tokens, the attention weights and each residual, in [0, 1).
    """

    def __init__(
        self,
        in_features: int,
        hidden: int = 128,
        layers: int = 2,
        heads: int = 4,
        feedforward: int = 256,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        _check_heads("TransformerEncoder", "hidden", hidden, heads)
        self.out_features = hidden
        self.project = nn.Linear(in_features, hidden)
        self.dropout = nn.Dropout(dropout)
        layer = nn.TransformerEncoderLayer(hidden, heads, feedforward, dropout, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, nn.LayerNorm(hidden), enable_nested_tensor=False)
        for parameter in self.encoder.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)  # torch makes its layers by copying one, weights and all

    def forward(self, tokens: Tokens) -> Tokens:
        x = self.project(tokens.x)
        x = self.dropout(x + sinusoids(x.shape[1], x.shape[2], x.device).to(x.dtype))
        padding = None if tokens.mask is None else ~tokens.mask
        return tokens._replace(x=self.encoder(x, src_key_padding_mask=padding))


def sinusoids(length: int, features: int, device: torch.device | None = None) -> Tensor:
    """Positions (Vaswani et al. 2017, section 3.5): sin and cos of position / 10000^(2i / D) in turn, (L, D)."""
    i = torch.arange(0, features, 2, device=device)
    angles = torch.arange(length, device=device)[:, None] / 10000 ** (i / features)  # (L, ceil(D / 2))
    return torch.stack([angles.sin(), angles.cos()], 2).flatten(1)[:, :features]


class TCN(Stage):
    """Temporal convolutional network: residual blocks of dilated convolutions, (B, L, D) -> (B, L, hidden).

    Block i applies (weight-normalised convolution of dilation 2^i, ReLU, dropout of whole channels) twice, adds its
    input and applies ReLU. A token sees 2 (kernel - 1) (2^layers - 1) neighbours, 60 by default, half of them on either
    side, because whole clips are known. Bai et al. 2018, section 3, https://arxiv.org/abs/1803.01271, use causal
    convolutions.

    Args:
        in_features: D, comes from the backbone.
        hidden: width of the tokens inside and after.
        layers: number of residual blocks.
        kernel: number of tokens that a convolution reads.
        dropout: probability of dropping a whole channel after each convolution, in [0, 1).
        causal: read no later tokens, as in the paper.
    """

    def __init__(
        self,
        in_features: int,
        hidden: int = 128,
        layers: int = 4,
        kernel: int = 3,
        dropout: float = 0.0,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.out_features = hidden
        self.blocks = nn.ModuleList(
            _DilatedBlock(hidden if i else in_features, hidden, kernel, 2**i, dropout, causal) for i in range(layers)
        )

    def forward(self, tokens: Tokens) -> Tokens:
        padding = None if tokens.mask is None else ~tokens.mask[:, None]  # (B, 1, L)
        x = _silenced(tokens.x.transpose(1, 2), padding)  # (B, D, L)
        for block in self.blocks:
            x = block(x, padding)
        return tokens._replace(x=x.transpose(1, 2))


class _DilatedBlock(nn.Module):
    """Two dilated convolutions and a shortcut (Bai et al. 2018, figure 1b): (B, in, L) -> (B, out, L)."""

    def __init__(
        self, in_features: int, out_features: int, kernel: int, dilation: int, dropout: float, causal: bool
    ) -> None:
        super().__init__()
        self.first = _WeightNormConv(in_features, out_features, kernel, dilation, causal)
        self.second = _WeightNormConv(out_features, out_features, kernel, dilation, causal)
        same = in_features == out_features
        self.shortcut: nn.Module = nn.Identity() if same else nn.Conv1d(in_features, out_features, 1)
        self.dropout = nn.Dropout1d(dropout)

    def forward(self, x: Tensor, padding: Tensor | None) -> Tensor:
        # After every convolution, because its bias turns padding of zeros into something that the next one would read.
        y = _silenced(self.dropout(self.first(x).relu()), padding)
        y = self.dropout(self.second(y).relu())
        return _silenced((y + self.shortcut(x)).relu(), padding)


class _WeightNormConv(nn.Conv1d):
    """Convolution that keeps L, with weights g v / |v| (Salimans and Kingma 2016); torch's own cannot be pickled."""

    def __init__(self, in_features: int, out_features: int, kernel: int, dilation: int, causal: bool) -> None:
        super().__init__(in_features, out_features, kernel, dilation=dilation)
        context = (kernel - 1) * dilation
        before = context if causal else context // 2
        self.context = (before, context - before)
        self.gain = nn.Parameter(self.weight.detach().flatten(1).norm(dim=1))  # starts as without normalisation

    def forward(self, x: Tensor) -> Tensor:
        direction = F.normalize(self.weight.flatten(1)).view_as(self.weight)
        weight = self.gain[:, None, None] * direction
        return F.conv1d(F.pad(x, self.context), weight, self.bias, dilation=self.dilation)


def _silenced(x: Tensor, padding: Tensor | None) -> Tensor:
    return x if padding is None else x.masked_fill(padding, 0)

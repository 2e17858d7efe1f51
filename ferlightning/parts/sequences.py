"""Sequence stages: tokens (B, L, D) to tokens of the same length that know their neighbours."""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ferlightning.contracts import Stage, Tokens


class _Recurrent(Stage):
    """What LSTM and GRU share: packing, so that padding is never read and the backward direction starts at the end."""

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
        if tokens.mask is None:
            states, _ = self.rnn(tokens.x)  # (B, L, out_features)
        else:
            lengths = tokens.mask.sum(1).cpu()
            packed = pack_padded_sequence(tokens.x, lengths, batch_first=True, enforce_sorted=False)
            states, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=tokens.x.shape[1])
        return tokens._replace(x=self.dropout(states))


class LSTM(_Recurrent):
    """Long short-term memory, bidirectional by default (BiLSTM): (B, L, D) -> (B, L, hidden * directions).

    Hochreiter and Schmidhuber 1997; Graves and Schmidhuber 2005 for both directions.

    Args:
        in_features: D, comes from the backbone.
        hidden: width of the state of one direction.
        layers: stacked layers.
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
        layers: stacked layers.
        bidirectional: read the steps in both directions and concatenate the states.
        dropout: on the states, and between layers, in [0, 1).
    """

    cell = nn.GRU


class SelfAttention(Stage):
    """Multi-head self-attention with a residual connection and pre-normalisation: (B, L, D) -> (B, L, D).

    Vaswani et al. 2017, section 3.2.2, https://arxiv.org/abs/1706.03762. It has no positions of its own: put it after a
    recurrent stage, which knows the order.

    Args:
        in_features: D, a multiple of ``heads``; comes from the stage before.
        heads: attention heads.
        dropout: on the attention weights and on the result, in [0, 1).
    """

    def __init__(self, in_features: int, heads: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        self.out_features = in_features
        self.norm = nn.LayerNorm(in_features)
        self.attend = nn.MultiheadAttention(in_features, heads, dropout, batch_first=True)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tokens) -> Tokens:
        x = self.norm(tokens.x)
        padding = None if tokens.mask is None else torch.logical_not(tokens.mask)
        mixed: Tensor = self.attend(x, x, x, key_padding_mask=padding, need_weights=False)[0]
        return tokens._replace(x=tokens.x + self.dropout(mixed))

"""Attentions: average tokens (B, L, D) to one (B, 1, D) by weights that show where the model looks."""

import torch
from torch import Tensor, nn

from ferlightning.contracts.modules import Stage, Tokens


class _Pooling(Stage):
    """The frame of the pooling attentions: softmax over the scores of the real tokens, then the weighted mean."""

    pool = True

    def score(self, x: Tensor) -> Tensor:
        """Score the relevance of each token, (B, L, D) -> (B, L)."""
        raise NotImplementedError

    def forward(self, tokens: Tokens) -> Tokens:
        scores = self.score(tokens.x)
        if tokens.mask is not None:
            scores = scores.masked_fill(~tokens.mask, -torch.inf)
        self.attention = scores.softmax(1)  # (B, L)
        if not self.pool:
            real = scores.shape[1] if tokens.mask is None else tokens.mask.sum(1, keepdim=True)
            return tokens._replace(x=tokens.x * (real * self.attention).unsqueeze(2))
        context = torch.einsum("bl,bld->bd", self.attention, tokens.x).unsqueeze(1)  # (B, 1, D)
        return Tokens(context, None, (1, 1, 1))


class AdditiveAttention(_Pooling):
    """Soft (additive) attention: weights softmax(v . tanh(W h + b)), then the weighted mean of the states h.

    Bahdanau et al. 2015, https://arxiv.org/abs/1409.0473, without a decoder state, as Yang et al. 2016 (hierarchical
    attention networks, eq. 5-7) use it to classify.

    Args:
        in_features: D, comes from the stage before.
        hidden: width of the hidden layer of the score.
    """

    def __init__(self, in_features: int, hidden: int = 128) -> None:
        super().__init__()
        self.out_features = in_features
        self.project = nn.Linear(in_features, hidden)
        self.v = nn.Linear(hidden, 1, bias=False)

    def score(self, x: Tensor) -> Tensor:
        scores: Tensor = self.v(torch.tanh(self.project(x))).squeeze(2)
        return scores


class DotProductAttention(_Pooling):
    """Point-multiplication attention: weights softmax(q . h / sqrt(D)) with a learned query q, then the weighted mean.

    The "dot" score of Luong et al. 2015, https://arxiv.org/abs/1508.04025, with the scale of Vaswani et al. 2017.

    Args:
        in_features: D, comes from the stage before.
        pool: false keeps the tokens apart for a head that reads the grid, each times its weight and their number: the
            mean of these is the weighted mean.
    """

    def __init__(self, in_features: int, pool: bool = True) -> None:
        super().__init__()
        self.out_features = in_features
        self.pool = pool
        self.query = nn.Parameter(torch.randn(in_features))

    def score(self, x: Tensor) -> Tensor:
        scores: Tensor = x @ self.query / self.query.numel() ** 0.5
        return scores


class SpatialTemporalAttention(Stage):
    """Attention over the cells of each frame, then over the frames: which part of the face, and when.

    Frame t is the sum of its cells h_tc with weights a_tc, softmax over c of s(h_tc); the result is the sum of the
    frames f_t with weights b_t, softmax over t of s'(f_t). The scores s and s' are additive (see AdditiveAttention),
    and ``attention`` is b_t a_tc, which sums to 1 over the real tokens. (B, T * H' * W', D) -> (B, 1, D).

    Song et al. 2017, https://arxiv.org/abs/1611.06067, attend in these two steps, but to the joints of a skeleton and
    with a gate in place of the softmax over time. A still has one frame, so only the first step matters.

    Args:
        in_features: D, comes from the stage before.
        hidden: width of the hidden layer of both scores.
    """

    def __init__(self, in_features: int, hidden: int = 128) -> None:
        super().__init__()
        self.out_features = in_features
        self.spatial = AdditiveAttention(in_features, hidden)
        self.temporal = AdditiveAttention(in_features, hidden)

    def forward(self, tokens: Tokens) -> Tokens:
        t, h, w = tokens.grid
        within = self.spatial.score(tokens.x).view(-1, t, h * w).softmax(2)  # (B, T, H' * W')
        frames = torch.einsum("btc,btcd->btd", within, tokens.x.reshape(tokens.x.shape[0], t, h * w, -1))
        scores = self.temporal.score(frames)  # (B, T)
        if tokens.mask is not None:
            scores = scores.masked_fill(~tokens.mask[:, :: h * w], -torch.inf)  # the cells of a frame are masked as one
        over = scores.softmax(1)
        self.attention = (over.unsqueeze(2) * within).flatten(1)  # (B, L)
        return Tokens(torch.einsum("bt,btd->bd", over, frames).unsqueeze(1), None, (1, 1, 1))

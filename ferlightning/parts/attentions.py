"""Pooling attentions: tokens (B, L, D) to one token (B, 1, D), a weighted mean that says where it looked."""

import torch
from torch import Tensor, nn

from ferlightning.contracts import Stage, Tokens


class _Pooling(Stage):
    """What the pooling attentions share: softmax over the scores of real tokens, then the weighted mean."""

    def score(self, x: Tensor) -> Tensor:
        """Relevance of each token, (B, L, D) -> (B, L)."""
        raise NotImplementedError

    def forward(self, tokens: Tokens) -> Tokens:
        scores = self.score(tokens.x)
        if tokens.mask is not None:
            scores = scores.masked_fill(~tokens.mask, -torch.inf)
        self.attention = scores.softmax(1)  # (B, L)
        context = torch.einsum("bl,bld->bd", self.attention, tokens.x).unsqueeze(1)  # (B, 1, D)
        return Tokens(context, None, (1, 1, 1))


class AdditiveAttention(_Pooling):
    """Soft (additive) attention: weights softmax(v . tanh(W h + b)), then the weighted mean of the states h.

    Bahdanau et al. 2015, https://arxiv.org/abs/1409.0473, without a decoder state, as Yang et al. 2016 (hierarchical
    attention networks, eq. 5-7) use it for classification.

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

    Luong et al. 2015, https://arxiv.org/abs/1508.04025, "dot" score; the scale is Vaswani et al. 2017's.

    Args:
        in_features: D, comes from the stage before.
    """

    def __init__(self, in_features: int) -> None:
        super().__init__()
        self.out_features = in_features
        self.query = nn.Parameter(torch.randn(in_features))

    def score(self, x: Tensor) -> Tensor:
        scores: Tensor = x @ self.query / self.query.numel() ** 0.5
        return scores

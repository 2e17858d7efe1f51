"""Heads: tokens to logits (B, K) and the embedding (B, E), which the last linear layer sees after dropout."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ferlightning.contracts.modules import Head, Tokens, pool
from ferlightning.errors import FerlError


def require_two_items(head: Head, tokens: Tokens) -> None:
    """Refuse a training batch of one item, which has no variance that batch norm could divide by."""
    if head.training and tokens.x.shape[0] < 2:
        raise FerlError(
            f"{type(head).__name__}: its batch norm needs two items or more in a training batch; this batch has one. "
            "Set data.batch_size to 2 or more, or use another head"
        )


def mean_over_frames(tokens: Tokens, convolve: Callable[[Tensor], Tensor], training: bool) -> Tensor:
    """Average the output of ``convolve`` over the cells of each map, then over the real frames: (B, E).

    Args:
        tokens: not pooled.
        convolve: makes maps (N, E, H', W') of maps (N, D, H', W').
        training: leave padding out, so that it never enters the statistics of batch norm.
    """
    (b, _, d), (t, h, w) = tokens.x.shape, tokens.grid
    maps = tokens.x.reshape(b, t, h, w, d)
    real = None if tokens.mask is None else tokens.mask[:, :: h * w]  # (B, T)
    packed = real is not None and training
    frames = convolve((maps[real] if packed else maps.flatten(0, 1)).permute(0, 3, 1, 2)).mean((2, 3))  # (N, E)
    width = frames.shape[1]
    if packed:
        frames = frames.new_zeros(b, t, width).index_put((real,), frames)
    return pool(Tokens(frames.view(b, t, width), real, (t, 1, 1)))


class LinearHead(Head):
    """Dropout and one linear layer on the mean token.

    Args:
        in_features: D, comes from the stage before.
        num_classes: K, comes from the data.
        dropout: between the embedding, which is the mean token, and the linear layer; in [0, 1).
    """

    def __init__(self, in_features: int, num_classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.embed_features = in_features
        self.dropout = nn.Dropout(dropout)
        self.classify = nn.Linear(in_features, num_classes)

    def forward(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        embedding = pool(tokens)  # (B, D)
        return self.classify(self.dropout(embedding)), embedding


class MLPHead(Head):
    """A hidden layer with ReLU, then a linear layer, each after dropout: the fully connected layers of the papers.

    The embedding is the hidden layer.

    Args:
        in_features: D, comes from the stage before.
        num_classes: K, comes from the data.
        hidden: E, width of the hidden layer.
        dropout: before each linear layer, in [0, 1).
    """

    def __init__(self, in_features: int, num_classes: int, hidden: int = 128, dropout: float = 0.5) -> None:
        super().__init__()
        self.embed_features = hidden
        self.embed = nn.Sequential(nn.Dropout(dropout), nn.Linear(in_features, hidden), nn.ReLU())
        self.dropout = nn.Dropout(dropout)
        self.classify = nn.Linear(hidden, num_classes)

    def forward(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        embedding = self.embed(pool(tokens))  # (B, E)
        return self.classify(self.dropout(embedding)), embedding


class CosineHead(Head):
    """Makes logits of scaled cosines, s cos(w_k, x), of the mean token x: only its direction counts, not its length.

    The normalised softmax of Wang et al. 2018 (CosFace), section 3, https://arxiv.org/abs/1801.09414, without the
    margin, which needs the labels. The embedding is x at unit length.

    Args:
        in_features: D, comes from the stage before.
        num_classes: K, comes from the data.
        scale: s; a probability p takes (K - 1) / K ln((K - 1) p / (1 - p)) at the least: 5.5 for 0.99 of 7 classes.
    """

    def __init__(self, in_features: int, num_classes: int, scale: float = 16.0) -> None:
        super().__init__()
        self.embed_features = in_features
        self.scale = scale
        self.weight = nn.Parameter(torch.empty(num_classes, in_features))
        nn.init.xavier_normal_(self.weight)

    def forward(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        embedding = F.normalize(pool(tokens))  # (B, D)
        return self.scale * embedding @ F.normalize(self.weight).T, embedding


class DANHead(Head):
    """Distract Your Attention (DAN): fuses several attentions over the cells and channels of the feature map.

    Each attention reweighs the cells, averages the real ones, and reweighs the channels (multi-head cross attention).
    The embedding is the sum of their log-softmax over the attentions, channel by channel, which drives them to attend
    to different things; a linear layer and batch norm make the logits. Wen et al. 2023, section 3,
    https://arxiv.org/abs/2109.07270. The paper's partition and affinity losses are not part of the head.

    It reads the grid frame by frame, so its tokens must not be pooled.

    Args:
        in_features: D, comes from the stage before.
        num_classes: K, comes from the data.
        attentions: number of attentions, 4 in the paper.

    Raises:
        FerlError: a training batch has one item, which batch norm cannot normalise.
    """

    def __init__(self, in_features: int, num_classes: int, attentions: int = 4) -> None:
        super().__init__()
        self.embed_features = in_features
        self.attentions = nn.ModuleList(_CrossAttention(in_features) for _ in range(attentions))
        self.classify = nn.Linear(in_features, num_classes)
        self.norm = nn.BatchNorm1d(num_classes)

    def forward(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        require_two_items(self, tokens)
        attended = torch.stack([attend(tokens) for attend in self.attentions])  # (attentions, B, D)
        if len(self.attentions) > 1:  # of one, the log-softmax would be 0
            attended = attended.log_softmax(0)
        embedding = attended.sum(0)
        return self.norm(self.classify(embedding)), embedding


class _CrossAttention(nn.Module):
    """One attention of DAN, over cells and then channels: tokens (B, L, D) to (B, D)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        half, hidden = features // 2, max(8, features // 16)
        self.reduce = nn.Sequential(nn.Conv2d(features, half, 1), nn.BatchNorm2d(half))
        self.spatial = nn.ModuleList(
            nn.Sequential(nn.Conv2d(half, features, kernel, padding="same"), nn.BatchNorm2d(features))
            for kernel in ((3, 3), (1, 3), (3, 1))
        )
        self.channel = nn.Sequential(
            nn.Linear(features, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, features), nn.Sigmoid()
        )

    def forward(self, tokens: Tokens) -> Tensor:
        pooled = mean_over_frames(tokens, self._reweigh, self.training)  # (B, D)
        gate: Tensor = self.channel(pooled)
        return pooled * gate

    def _reweigh(self, frames: Tensor) -> Tensor:
        y = self.reduce(frames)
        y = torch.stack([branch(y) for branch in self.spatial]).sum(0).relu().sum(1, keepdim=True)  # (N, 1, H', W')
        return frames * y

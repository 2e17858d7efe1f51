"""The head of attention-based CNN-BiLSTM networks with LDA: a fitted projection, a dense block, a linear layer."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from ferlightning.contracts.modules import Fitted, Head, Projection, Tokens, pool
from ferlightning.parts.fitted.lda import LDA
from ferlightning.parts.heads import mean_over_frames, require_two_items


class LinearProjection(Projection):
    """Learned axes, as many as LDA has: what LDA adds is that it solves for its axes. (B, D) -> (B, K - 1).

    Args:
        in_features: D, comes from the head.
        num_classes: K, comes from the data.
    """

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__()
        self.out_features = num_classes - 1
        self.axes = nn.Linear(in_features, self.out_features)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.axes(x)
        return found


class DenseBlock(nn.Module):
    """Densely connected layers, each of which reads the outputs of all before it: (B, D) -> (B, (2 + layers) * growth).

    Huang et al. 2017, https://arxiv.org/abs/1608.06993, eq. 2, with linear layers in place of convolutions: each is
    batch norm, ReLU, linear. As in their network, a first layer makes 2 * growth features of the input (without it, the
    ReLU would cut off one side of each of its few axes), and batch norm and ReLU follow the last layer.

    With ``convolve``, it is theirs: 3x3 convolutions of feature maps, (N, D, H', W') to (N, (2 + layers) * growth, H',
    W').

    Args:
        in_features: D, comes from the projection.
        growth: features that each layer adds.
        layers: number of layers.
        convolve: read the cells of the feature map, which ``ProjectionHead`` then averages, in place of their mean.
    """

    def __init__(self, in_features: int, growth: int = 32, layers: int = 4, convolve: bool = False) -> None:
        super().__init__()
        self.out_features = (2 + layers) * growth
        self.convolve = convolve
        layer = partial(nn.Conv2d, kernel_size=3, padding=1) if convolve else nn.Linear
        norm = nn.BatchNorm2d if convolve else nn.BatchNorm1d
        self.first = layer(in_features, 2 * growth)
        widths = range(2 * growth, self.out_features, growth)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Sequential(norm(width), nn.ReLU()), layer(width, growth)) for width in widths
        )
        self.norm = nn.Sequential(norm(self.out_features), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        made: Tensor = self.norm(x)
        return made


class ProjectionHead(Head):
    """LDA, reconstruction by a dense block, dropout and a linear layer, on the mean token.

    Singh et al. 2025 (Polytechnic Journal 15(1)) call the dense block a reconstruction module and do not give its
    sizes. Without both steps it is ``LinearHead``. The embedding is the input of the dropout.

    Their dense block may read the mean token or, with ``convolve``, each cell of the feature map: then the projection,
    which is fitted to the mean tokens as before, maps each cell, and the block's result is averaged. For this the
    attention must not pool: ``DotProductAttention`` with ``pool: false``.

    Args:
        in_features: D, comes from the stage before.
        num_classes: K, comes from the data.
        projection: maps to few features, by default fitted to the training data; null leaves it out.
        reconstruction: maps few features to many; null leaves it out.
        dropout: between the embedding and the linear layer, in [0, 1).

    Raises:
        FerlError: a training batch has one item, which batch norm cannot normalise.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        projection: Callable[[int, int], Projection] | None = LDA,
        reconstruction: Callable[[int], DenseBlock] | None = DenseBlock,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.projection = projection(in_features, num_classes) if projection else None
        width = self.projection.out_features if self.projection else in_features
        self.reconstruction = reconstruction(width) if reconstruction else None
        self.embed_features = self.reconstruction.out_features if self.reconstruction else width
        self.dropout = nn.Dropout(dropout)
        self.classify = nn.Linear(self.embed_features, num_classes)

    def forward(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        if self.reconstruction:
            require_two_items(self, tokens)
        if self.reconstruction and self.reconstruction.convolve:
            x = mean_over_frames(self._projected(tokens), self.reconstruction, self.training)
        else:
            x = pool(tokens)  # (B, D)
            if self.projection:
                x = self.projection(x)
            if self.reconstruction:
                x = self.reconstruction(x)
        return self.classify(self.dropout(x)), x  # (B, K), (B, E)

    def _projected(self, tokens: Tokens) -> Tokens:
        """Project each token; what is fitted sees the mean token, one for each label."""
        if not self.projection:
            return tokens
        x = self.projection(tokens.x.flatten(0, 1))  # (B * L, K - 1)
        if isinstance(self.projection, Fitted) and self.training:
            self.projection.seen = pool(tokens).detach()
        return tokens._replace(x=x.unflatten(0, tokens.x.shape[:2]))

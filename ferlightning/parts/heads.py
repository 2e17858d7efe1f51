"""Heads: tokens to logits (B, K) and the embedding (B, E) that the last linear layer sees."""

from torch import Tensor, nn

from ferlightning.contracts import Head, Tokens, pool


class LinearHead(Head):
    """Dropout and one linear layer on the mean token.

    Args:
        in_features: D, comes from the stage before.
        num_classes: K, comes from the data.
        dropout: on the mean token, in [0, 1).
    """

    def __init__(self, in_features: int, num_classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.embed_features = in_features
        self.dropout = nn.Dropout(dropout)
        self.classify = nn.Linear(in_features, num_classes)

    def forward(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        embedding = self.dropout(pool(tokens))  # (B, D)
        return self.classify(embedding), embedding


class MLPHead(Head):
    """One hidden layer with ReLU and dropout, then a linear layer: the fully connected layers of the papers.

    Args:
        in_features: D, comes from the stage before.
        num_classes: K, comes from the data.
        hidden: E, width of the hidden layer.
        dropout: before each linear layer, in [0, 1).
    """

    def __init__(self, in_features: int, num_classes: int, hidden: int = 128, dropout: float = 0.5) -> None:
        super().__init__()
        self.embed_features = hidden
        self.embed = nn.Sequential(nn.Dropout(dropout), nn.Linear(in_features, hidden), nn.ReLU(), nn.Dropout(dropout))
        self.classify = nn.Linear(hidden, num_classes)

    def forward(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        embedding = self.embed(pool(tokens))  # (B, E)
        return self.classify(embedding), embedding

"""A second set of labels for the same images, learned by a separate head."""

from collections.abc import Sequence

from torch import Tensor, nn

from ferlightning.contracts.modules import Batch, Loss, Output
from ferlightning.errors import FerlError
from ferlightning.parts.losses.classification import soft_cross_entropy


class AuxiliaryHead(Loss):
    """Cross-entropy of a linear head of its own, on the embedding, with another set of labels of the same images.

    Two label sets teach one network more than either: FER2013's own labels and the votes of FER+ together gave 1.5
    points on FER2013's seven classes. The head stays in the checkpoint as a view of the network: whoever tests or
    loads it on data of just these classes gets it in place of the last layer of the network's own head, which must be a
    linear layer on the embedding, as in ``LinearHead`` and ``MLPHead``. In validation, where only the network's own
    labels count, it adds nothing to the loss.

    Args:
        embed_features: E, comes from the head.
        class_counts: training images of each class of the network's own head, (K,), unused; comes from the data.
        class_names: the classes of the other labels.
        labels: name of the other labels: the batch has them as ``label_NAME``, class probabilities (B, K), zeros where
            an image has none.
        weight: factor of this loss in the sum.
        label_smoothing: share of the label that is spread evenly over the classes, in [0, 1].
        dropout: between the embedding and the linear layer, in [0, 1).

    Raises:
        FerlError: the data has no such labels.
    """

    def __init__(
        self,
        embed_features: int,
        class_counts: Sequence[int],
        class_names: Sequence[str] = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"),
        labels: str = "fer2013",
        weight: float = 1.0,
        label_smoothing: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.class_names = list(class_names)
        self.labels = labels
        self.weight = weight
        self.label_smoothing = label_smoothing
        self.dropout = nn.Dropout(dropout)
        self.classify = nn.Linear(embed_features, len(self.class_names))

    def forward(self, output: Output, batch: Batch) -> Tensor:
        label = batch.get(f"label_{self.labels}")
        if label is None and not self.training:
            return output.embedding.new_zeros(())
        if label is None:
            raise FerlError(
                f"AuxiliaryHead: the data has no labels called {self.labels!r}; FERPlus has those of FER2013 with "
                "--data.fer2013_labels=true"
            )
        logits = self.classify(self.dropout(output.embedding)).float()
        return soft_cross_entropy(logits, label, self.label_smoothing)


def views(losses: nn.ModuleList) -> dict[str, dict[str, object]]:
    """The auxiliary heads among the losses: name of the labels to their classes and the loss that holds the head."""
    return {
        loss.labels: {"class_names": loss.class_names, "head": f"losses.{i}.classify"}
        for i, loss in enumerate(losses)
        if isinstance(loss, AuxiliaryHead)
    }

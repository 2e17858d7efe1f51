"""What passes between the parts of a model, and the base class of each kind of part that is made of tensors.

Shapes: B batch, T frames, C channels, H W image, L tokens, D features, E embedding, K classes, N = B * T images.

In eval mode every part is dense, because ``torch.export`` needs it: a part computes all frames and then applies the
mask, takes sizes from ``x.shape`` instead of ``len(x)``, and never lets its control flow depend on values. A part that
cannot keep to this says why in a class attribute, ``not_exported = "its loop ends when ..."``: then each training says
so before it begins.

Parameters and buffers are float32 or integers: MPS has no float64.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

Batch = dict[str, Tensor]
"""A batch: ``image`` (B, T, C, H, W) in [0, 1]; ``mask`` (B, T) bool, True = real frame, absent if all are real;
``label`` (B,) class index or (B, K) class probabilities, all 0 where an image has no label; ``index`` (B,) number of
the item within its split."""


class Tokens(NamedTuple):
    """What sequence and attention stages read: the cells of the feature maps, frame after frame, row after row."""

    x: Tensor
    """(B, L, D)"""
    mask: Tensor | None
    """(B, L) bool, True = real; None if all are real. Padding comes last."""
    grid: tuple[int, int, int]
    """(T, H', W') with L = T * H' * W'; (1, 1, 1) once pooled."""


class Output(NamedTuple):
    """What a network returns: everything that a loss, a metric or a picture needs."""

    logits: Tensor
    """(B, K)"""
    embedding: Tensor
    """(B, E), what the last linear layer sees, before dropout."""
    restored: Tensor
    """(B, T, C, H, W); without a restorer, the input itself."""
    attention: Tensor | None
    """(B, L) weights of the pooling attention, which sum to 1; None without one."""


class Augmentation:
    """Changes a training batch at random, on the device that holds it: images (B, T, C, H, W) float in [0, 1].

    Draws once for each item, from torch's generator for that device, and applies the draw to all frames of a clip. May
    replace index labels (B,) by class probabilities (B, K).
    """

    def __call__(self, batch: Batch, num_classes: int) -> Batch:
        raise NotImplementedError


def not_exported(network: nn.Module) -> str:
    """Which parts of a network declare that they cannot be exported, and why; empty if none does."""
    reasons = {type(part).__name__: getattr(part, "not_exported", "") for part in network.modules()}
    return "; ".join(f"{name}: {reason}" for name, reason in reasons.items() if reason)


class Restorer(nn.Module):
    """Makes cleaner images of the same shape, (N, C, H, W) in [0, 1]. May corrupt its input, in train mode only."""


class Backbone(nn.Module):
    """Turns normalised images (N, C, H, W) into a feature map (N, D, H', W'), D = ``out_features``.

    The images come in the memory format channels_last: flatten them by ``flatten`` or ``reshape``, not by ``view``.
    """

    out_features: int


class Recalibration(nn.Module):
    """Reweighs a feature map inside a backbone, each image for itself: (N, D, H', W') to the same shape."""


class Stage(nn.Module):
    """Turns tokens into tokens of width ``out_features``. It keeps L, or pools the tokens to one.

    A pooling stage leaves its weights, (B, L), in ``attention`` during forward. Masked tokens must not change a result.
    """

    out_features: int

    def __init__(self) -> None:
        super().__init__()
        self.attention: Tensor | None = None  # here, because torch 2.7 exports no module that gains an attribute


class Head(nn.Module):
    """Turns tokens, pooled or not, into (logits (B, K), embedding (B, E)), E = ``embed_features``.

    The embedding is what the last linear layer sees, before dropout: losses on embeddings compare representations, not
    the noise of dropout. Masked tokens must not change a result; ``pool`` averages the others.
    """

    embed_features: int


class Loss(nn.Module):
    """Turns (Output, Batch) into a scalar, which is added to the training loss times ``weight``.

    An image without a label adds nothing: see ``has_label``.
    """

    weight: float

    def for_classes(self, class_names: Sequence[str]) -> None:
        """Take note of the K classes in their order; the classifier calls it once, when it has made the loss.

        Here it does nothing: a loss overrides it that needs more of the classes than their counts.
        """


class Projection(nn.Module):
    """Maps features (B, D) to (B, ``out_features``)."""

    out_features: int


class Fitted(Projection, ABC):
    """A projection by a solution that is computed at intervals, not learned by gradient.

    The classifier finds all parts of this kind. After each training step it passes to ``update`` what ``forward`` was
    given, without the items that have no label. It calls ``fit`` before each validation during training and at the end
    of each epoch, then ``reset``. A part that ``lr_scale`` freezes is in eval mode and so never fitted.

    After a fit, the batch norms that run after the part in the network are measured anew.

    The result belongs in buffers, written in place, so that a checkpoint has it. The statistics do not: in distributed
    training the first process overwrites the buffers of all others, and ``fit`` needs the statistics of each.
    """

    seen: Tensor | None = None
    """(B, D), the input of the last forward in train mode; the classifier takes it away."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.seen = x.detach()
        return self.transform(x)

    @abstractmethod
    def transform(self, x: Tensor) -> Tensor:
        """(B, D) -> (B, out_features), differentiable in x, and useful from the first step on, before any fit."""

    @abstractmethod
    def update(self, x: Tensor, label: Tensor) -> None:
        """Add a batch to the statistics: x (B, D); label (B,) class index, or (B, K), whose largest entry counts."""

    @abstractmethod
    def fit(self) -> None:
        """Solve from the statistics of all processes, which are kept. Too little data leaves the result as it is."""

    @abstractmethod
    def reset(self) -> None:
        """Forget the statistics, not the result."""


def sum_over_processes(x: Tensor) -> Tensor:
    """Sum a tensor over the processes of a distributed run; in a single process, return it unchanged."""
    if dist.is_available() and dist.is_initialized():
        x = x.clone()
        dist.all_reduce(x)
    return x


def class_index(label: Tensor) -> Tensor:
    """Class index (B,) of labels; of class probabilities (B, K), the most probable class."""
    return label if label.ndim == 1 else label.argmax(1)


def has_label(label: Tensor) -> Tensor:
    """Which items have a label, (B,) bool: class probabilities (B, K) that are all 0 are none."""
    return torch.ones_like(label, dtype=torch.bool) if label.ndim == 1 else label.sum(1) > 0


def pool(tokens: Tokens) -> Tensor:
    """Average the real tokens: (B, L, D) -> (B, D)."""
    if tokens.mask is None:
        return tokens.x.mean(1)
    # Filled, not multiplied by 0: padding may hold anything, and infinity times 0 is not a number.
    real = tokens.x.masked_fill(~tokens.mask.unsqueeze(2), 0)
    return real.sum(1) / tokens.mask.sum(1, keepdim=True)

"""What passes between the parts of a model, and the base class of each kind of part.

Shapes: B batch, T frames, C channels, H W image, L tokens, D features, E embedding, K classes, N = B * T images.

A part is a subclass of one of the slot classes here. Importing it is enough for the command line to find it by its
class name, so a plug-in needs no registration beyond its entry point.
"""

from typing import NamedTuple

import torch.distributed as dist
from torch import Tensor, nn

Batch = dict[str, Tensor]
"""A training batch: ``image`` (B, T, C, H, W) in [0, 1]; ``mask`` (B, T) bool, True = real frame, absent if all are;
``label`` (B,) class index or (B, K) class probabilities; ``index`` (B,) number of the item within its split."""


class Tokens(NamedTuple):
    """The steps that sequence and attention stages read: cells of a feature map, frame after frame, row after row."""

    x: Tensor
    """(B, L, D)"""
    mask: Tensor | None
    """(B, L) bool, True = real; None if all are. Padding comes last."""
    grid: tuple[int, int, int]
    """(T, H', W') with L = T * H' * W'; (1, 1, 1) once pooled."""


class Output(NamedTuple):
    """What a model returns: all that a loss, a metric or a picture may want to see."""

    logits: Tensor
    """(B, K)"""
    embedding: Tensor
    """(B, E), what the last linear layer sees."""
    restored: Tensor
    """(B, T, C, H, W), the input itself in a model without a restorer."""
    attention: Tensor | None
    """(B, L) weights of the pooling attention, summing to 1; None without one."""


class Augmentation:
    """A training batch to a training batch, on the device that holds it: images (B, T, C, H, W) float in [0, 1].

    Draws anew for every item, from torch's generator of that device, and holds the draw over the frames of a clip. May
    replace index labels (B,) by class probabilities (B, K).
    """

    def __call__(self, batch: Batch, num_classes: int) -> Batch:
        raise NotImplementedError


class Restorer(nn.Module):
    """Images to cleaner images of the same shape, (N, C, H, W) in [0, 1]. May corrupt its input, in train mode only."""


class Backbone(nn.Module):
    """Images (N, C, H, W), normalised, to a feature map (N, D, H', W') with D = ``out_features``."""

    out_features: int


class Recalibration(nn.Module):
    """Attention inside a backbone: reweighs a feature map, (N, D, H', W') to the same shape, each image for itself."""


class Stage(nn.Module):
    """Tokens to tokens of width ``out_features``: L is kept, or becomes 1 in a stage that pools.

    A pooling stage leaves its weights, (B, L), in ``attention`` during forward. Masked tokens must not change a result.
    """

    out_features: int
    attention: Tensor | None = None


class Head(nn.Module):
    """Tokens, pooled or not, to (logits (B, K), embedding (B, E)), E = ``embed_features``.

    Masked tokens must not change a result; ``pool`` averages the others.
    """

    embed_features: int


class Loss(nn.Module):
    """(Output, Batch) to a scalar that is added, times ``weight``, to the training loss."""

    weight: float


class Fitted(nn.Module):
    """Features (B, D) to (B, ``out_features``), by what is solved for at intervals instead of learned by gradient.

    The classifier finds every part of this kind below it. After each training step it hands ``update`` what ``forward``
    was given, calls ``fit`` before a validation within a fit and at the end of each epoch, then ``reset``. A part that
    ``lr_scale`` freezes is in eval mode, hence never fitted.

    The result belongs in buffers, written in place, so that a checkpoint has it. The statistics do not: in distributed
    training the first process overwrites the buffers of all others, and ``fit`` needs those of each.
    """

    out_features: int
    seen: Tensor | None = None
    """(B, D), what the last forward in train mode was given; the classifier takes it away."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.seen = x.detach()
        return self.transform(x)

    def transform(self, x: Tensor) -> Tensor:
        """(B, D) -> (B, out_features), differentiable in x, and of use from the first step on, before any fit."""
        raise NotImplementedError

    def update(self, x: Tensor, label: Tensor) -> None:
        """Add a batch to the statistics: x (B, D); label (B,) class index, or (B, K), of which the largest counts."""
        raise NotImplementedError

    def fit(self) -> None:
        """Solve from the statistics of all processes, and keep them. Too little data leaves the result as it is."""
        raise NotImplementedError

    def reset(self) -> None:
        """Forget the statistics, not the result."""
        raise NotImplementedError


def sum_over_processes(x: Tensor) -> Tensor:
    """Sum of a tensor over the processes of a distributed run; in a single process the tensor itself."""
    if dist.is_available() and dist.is_initialized():
        x = x.clone()
        dist.all_reduce(x)
    return x


def class_index(label: Tensor) -> Tensor:
    """Class index (B,) of labels that may be class probabilities (B, K): the most probable class."""
    return label if label.ndim == 1 else label.argmax(1)


def pool(tokens: Tokens) -> Tensor:
    """Mean over real tokens. Shape: (B, L, D) -> (B, D)."""
    if tokens.mask is None:
        return tokens.x.mean(1)
    real = tokens.mask.unsqueeze(2).to(tokens.x.dtype)
    return (tokens.x * real).sum(1) / real.sum(1)

"""What passes between the parts of a model, and the base class of each kind of part.

Shapes: B batch, T frames, C channels, H W image, L tokens, D features, E embedding, K classes, N = B * T images.

A part is a subclass of one of the slot classes here. Importing it is enough for the command line to find it by its
class name, so a plug-in needs no registration beyond its entry point.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
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


class Preprocess:
    """One image to one image, uint8 (H, W, C) to uint8 (H', W', C'), the same for every split and without chance.

    Applied once, when a data set is first opened. What a part keeps in its attributes, plain values only, is what tells
    one preprocessed copy from another.
    """

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        raise NotImplementedError


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


class Stage(nn.Module):
    """Tokens to tokens of width ``out_features``: L is kept, or becomes 1 in a stage that pools.

    A pooling stage leaves its weights, (B, L), in ``attention`` during forward. Masked tokens must not change a result.
    """

    out_features: int
    attention: Tensor | None = None


class Head(nn.Module):
    """Tokens to (logits (B, K), embedding (B, E)), E = ``embed_features``. Tokens not yet pooled are averaged."""

    embed_features: int


class Loss(nn.Module):
    """(Output, Batch) to a scalar that is added, times ``weight``, to the training loss."""

    weight: float


def pool(tokens: Tokens) -> Tensor:
    """Mean over real tokens. Shape: (B, L, D) -> (B, D)."""
    if tokens.mask is None:
        return tokens.x.mean(1)
    real = tokens.mask.unsqueeze(2).to(tokens.x.dtype)
    return (tokens.x * real).sum(1) / real.sum(1)

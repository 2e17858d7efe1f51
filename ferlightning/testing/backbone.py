"""The contract checks of backbones, and of the attention inside them."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import torch
from torch import nn

from ferlightning.contracts.modules import Backbone, Recalibration
from ferlightning.testing.common import (
    built,
    check_autocast,
    check_each_alone,
    check_export,
    check_module,
    require,
    require_close,
    require_width,
    run,
    seeded,
    shape,
)

M = TypeVar("M", bound=nn.Module)


def _as_in_the_network(build: Callable[[int], M], width: int) -> M:
    """Build a part in channels_last, the memory format in which the network keeps its backbone and the images."""
    return build(width).to(memory_format=torch.channels_last)


@seeded()
def check_backbone(
    build: Callable[[int], Backbone], sizes: Sequence[tuple[int, int]] = ((48, 48), (64, 64), (80, 96))
) -> None:
    """Check that a backbone makes feature maps of the width it declares, from grey and RGB images of several sizes.

    The images are in channels_last, as in the network.

    Args:
        build: makes the backbone from the number of channels, like the slot ``backbone``.
        sizes: heights and widths of the images; give your own for a backbone of one fixed size.
    """
    for channels in (1, 3):
        backbone = built(partial(_as_in_the_network, build, channels), Backbone).eval()
        name = type(backbone).__name__
        for height, width in sizes:
            images = torch.randn(3, channels, height, width).contiguous(memory_format=torch.channels_last)
            with torch.no_grad():
                features = run(backbone, images)[0]
            require(
                features.ndim == 4 and features.shape[0] == 3 and min(features.shape) > 0,
                f"{name}: images {shape(images)} must become a feature map (3, D, H', W'); found {shape(features)}",
            )
            require_width(backbone, "out_features", features.shape[1], "the feature map has")
    images = torch.randn(3, 3, *sizes[0]).contiguous(memory_format=torch.channels_last)
    check_each_alone(backbone, images)
    check_module(partial(_as_in_the_network, build, 3), images)
    check_export(partial(_as_in_the_network, build, 3), images)
    check_autocast(partial(_as_in_the_network, build, 3), images)
    plain, formats = built(partial(build, 3), Backbone).eval(), (torch.contiguous_format, torch.channels_last)
    with torch.no_grad():
        found, other = (run(plain.to(memory_format=x), images.contiguous(memory_format=x))[0] for x in formats)
    require_close(found, other, f"{type(plain).__name__}: the memory format changes a result", 1e-4)


@seeded()
def check_recalibration(
    build: Callable[[int], Recalibration],
    in_features: int = 32,
    sizes: Sequence[tuple[int, int]] = ((12, 12), (5, 7), (1, 1)),
) -> None:
    """Check that a recalibration keeps the shape of feature maps of several sizes, each image for itself.

    Args:
        build: makes the part from the width of the feature map, like the option ``recalibration`` of backbones.
        in_features: D of the feature maps.
        sizes: their heights and widths.
    """
    part = built(partial(_as_in_the_network, build, in_features), Recalibration).eval()
    for height, width in sizes:
        features = torch.randn(3, in_features, height, width).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            result = run(part, features)[0]
        kept = f"{type(part).__name__}: must keep the shape; {shape(features)} became {shape(result)}"
        require(result.shape == features.shape, kept)
        check_each_alone(part, features)
        check_module(partial(_as_in_the_network, build, in_features), features)
    check_export(partial(_as_in_the_network, build, in_features), features)

"""A backbone that has lost some of its channels."""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn

from ferlightning.contracts.modules import Backbone
from ferlightning.errors import FerlError
from ferlightning.parts.backbones.strided import subsample_first


class Pruned(Backbone):
    """Any backbone with fewer channels in some of its layers, as ``ferl export --prune`` describes what it leaves.

    Args:
        in_channels: C, 1 for grey and 3 for RGB; comes from the data.
        backbone: what is built first, then cut.
        widths: name of a convolution, linear layer or batch norm of the backbone to its channels: [out, in] of one
            group, of a batch norm [out]. Each layer keeps the first ones of its own weights.
        out_features: D, what the cut backbone gives.

    Raises:
        FerlError: the backbone has no such layer, or it is no wider.
    """

    def __init__(
        self,
        in_channels: int,
        backbone: Callable[[int], Backbone],
        widths: Mapping[str, Sequence[int]],
        out_features: int,
    ) -> None:
        super().__init__()
        self.out_features = out_features
        self.backbone = backbone(in_channels)
        layers = dict(self.backbone.named_modules())
        for name, sizes in widths.items():
            layer = layers.get(name)
            own = channels(layer)
            if (
                layer is None
                or len(sizes) != len(own)
                or not all(0 < n <= of for n, of in zip(sizes, own, strict=True))
            ):
                raise FerlError(f"Pruned: widths: {name} cannot have {list(sizes)} channels; it has {own or 'none'}")
            _cut(layer, sizes)
        subsample_first(self.backbone)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.backbone(images)
        return features


def channels(layer: nn.Module | None) -> list[int]:
    """Of a layer that can be cut, the channels that come out and, but for a batch norm, those of a group that go in."""
    return [*layer.weight.shape[:2]] if isinstance(layer, nn.Conv2d | nn.Linear | nn.BatchNorm2d) else []


def _cut(layer: nn.Module, sizes: Sequence[int]) -> None:
    """Keep the first channels of a layer."""
    for name, x in [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]:
        kept = x.detach()[tuple(map(slice, sizes[: x.ndim]))].clone()
        setattr(layer, name, nn.Parameter(kept, x.requires_grad) if isinstance(x, nn.Parameter) else kept)
    if isinstance(layer, nn.Conv2d):
        layer.groups = sizes[0] if 1 < layer.groups == layer.out_channels else layer.groups
        layer.out_channels, layer.in_channels = sizes[0], sizes[1] * layer.groups
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = sizes
    elif isinstance(layer, nn.BatchNorm2d):
        layer.num_features = sizes[0]

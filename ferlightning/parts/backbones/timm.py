"""The models of timm as backbones."""

from typing import Any

from torch import Tensor

from ferlightning.contracts.modules import Backbone
from ferlightning.errors import FerlError


class Timm(Backbone):
    """Any convolutional or hierarchical model of timm as a feature extractor.

    Wightman, https://github.com/huggingface/pytorch-image-models. Pre-trained first convolutions are folded to C
    channels by timm, so ImageNet weights serve grey images too.

    Args:
        in_channels: C, 1 for grey and 3 for RGB; comes from the data.
        name: timm's name of the model, as ``resnet18`` or ``efficientnet_b0.ra_in1k``.
        pretrained: start from timm's published weights (downloads them on first use).
        drop_path_rate: stochastic depth of models that know it, in [0, 1).
    """

    def __init__(
        self, in_channels: int, name: str = "resnet18", pretrained: bool = False, drop_path_rate: float = 0.0
    ) -> None:
        super().__init__()
        from timm import create_model  # late: it takes three seconds

        # Not every model takes drop_path_rate, so it is passed only when asked for.
        options: dict[str, Any] = {"drop_path_rate": drop_path_rate} if drop_path_rate else {}
        try:
            self.model: Any = create_model(
                name, pretrained=pretrained, in_chans=in_channels, features_only=True, out_indices=(-1,), **options
            )
        except (RuntimeError, TypeError) as error:
            raise FerlError(
                f"Timm: cannot build {name!r} as a feature extractor: {error}. "
                f"timm.list_models('*{name.split('_')[0]}*') shows the names; it must support features_only"
            ) from error
        info: Any = self.model.feature_info
        self.out_features = info.channels()[-1]

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.model(images)[0]
        # Models with channels last, such as Swin, say so in their feature info.
        if getattr(self.model, "output_fmt", "NCHW") == "NHWC":
            features = features.permute(0, 3, 1, 2)
        return features

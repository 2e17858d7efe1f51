"""The models of timm as backbones."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ferlightning.contracts.modules import Backbone
from ferlightning.errors import FerlError
from ferlightning.parts.backbones.strided import subsample_first
from ferlightning.weights import offline_if_unreachable


@contextmanager
def _loaded() -> Iterator[list[Any]]:
    """Keep what loading tensors into modules meanwhile returns: timm takes what fits, and says nothing of the rest."""
    usual, found = nn.Module.load_state_dict, list[Any]()

    def load(module: nn.Module, *args: Any, **options: Any) -> Any:
        found.append(usual(module, *args, **options))
        return found[-1]

    nn.Module.load_state_dict = load  # type: ignore[assignment, method-assign]
    try:
        yield found
    finally:
        nn.Module.load_state_dict = usual  # type: ignore[method-assign]


def _told(model: nn.Module, found: Any) -> str:
    """What a model has taken of a file, in words."""
    own, missing, unused = (
        {name.replace(".", "_"): name for name in names if not name.endswith("num_batches_tracked")}  # torch fills in
        for names in (model.state_dict(), found.missing_keys, found.unexpected_keys)
    )
    left = [missing[name] for name in missing if name in own]  # others are of what is no part of a list of features
    return (
        f"{len(own) - len(left)} of {len(own)} tensors taken"
        + (f"; {len(unused)} others of the file not used" if unused else "")
        + (f"; left as initialised: {', '.join(left[:4])}{' and others' if len(left) > 4 else ''}" if left else "")
    )


class Timm(Backbone):
    """Any convolutional or hierarchical model of timm as a feature extractor.

    Wightman, https://github.com/huggingface/pytorch-image-models. timm folds pre-trained first convolutions to C
    channels, so ImageNet weights serve grey images too.

    Args:
        in_channels: C, 1 for grey and 3 for RGB; comes from the data.
        name: timm's name of the model, such as ``resnet18`` or ``efficientnet_b0.ra_in1k``.
        pretrained: true starts from timm's published weights, downloaded on first use; a path, from the weights in that
            file (safetensors or torch).
        drop_path_rate: stochastic depth of models that have it, in [0, 1).
        img_size: height and width of the images that a model is built for which is bound to a size, such as ``vit_*``
            and ``swin_*``; published weights are adapted. None: that of its weights.
        out_index: which stage is taken, of the ``feature_info`` of the model; -1 is the last.

    Raises:
        FerlError: timm cannot build the model or get its weights; the images are not of the size that the model is for.
    """

    def __init__(
        self, in_channels: int, name: str = "resnet18", pretrained: bool | str = False, drop_path_rate: float = 0.0,
        img_size: int | None = None, out_index: int = -1,
    ) -> None:  # fmt: skip
        super().__init__()
        from timm import create_model, list_models  # late: importing timm takes seconds

        # Not every model takes drop_path_rate, so it is passed only when asked for.
        options: dict[str, Any] = {"drop_path_rate": drop_path_rate} if drop_path_rate else {}
        if img_size is not None:
            options["img_size"] = img_size
        if isinstance(pretrained, str):
            if not Path(pretrained).is_file():
                raise FerlError(f"Timm: pretrained: there is no file {pretrained}")
            options["pretrained_cfg_overlay"] = {"file": pretrained}
        try:
            from_hub = pretrained is True or re.match("hf[-_]hub:", name)
            with _loaded() as loaded, offline_if_unreachable() if from_hub else nullcontext():
                self.model: Any = create_model(
                    name,
                    pretrained=bool(pretrained),
                    in_chans=in_channels,
                    features_only=True,
                    out_indices=(out_index,),
                    **options,
                )
        except OSError as error:  # what the Hub's client and the file system raise
            raise FerlError(
                f"Timm: cannot get the weights of {name!r}: {' '.join(str(error).split())} Download them where there "
                "is internet and give their file as pretrained=FILE, or set pretrained=false"
            ) from error
        except (AssertionError, IndexError) as error:
            whole: Any = create_model(name, features_only=True)
            stages = len(whole.feature_info)
            raise FerlError(
                f"Timm: out_index is {out_index}, and {name} has {stages} stages, 0 to {stages - 1}, or -1 for the last"
            ) from error
        except (RuntimeError, TypeError, ValueError) as error:
            if img_size is not None and "img_size" in str(error):
                raise FerlError(
                    f"Timm: {name} is for images of any size: leave img_size out, and give data.size"
                ) from None
            plain = name.rpartition("/")[2].lower()
            close = get_close_matches(plain, list_models(), n=3, cutoff=0.75)
            hint = f" (did you mean {' or '.join(close)}?)" if close and name not in close else ""
            raise FerlError(
                f"Timm: cannot build {name!r} as a feature extractor{hint}: {str(error).rstrip('.')}. "
                f"timm.list_models('*{plain.split('_')[0]}*') shows the names; it must support features_only"
            ) from error
        counted = isinstance(pretrained, str) and loaded  # some models of timm read files in a way of their own
        self.started_from = f"{pretrained}: {_told(self.model, loaded[-1])}" if counted else ""
        """How much of the file of weights was taken, in words."""
        subsample_first(self.model)
        info: Any = self.model.feature_info
        config: Any = self.model.pretrained_cfg
        self.out_features = info.channels()[-1]
        bound = (img_size, img_size) if img_size else config["input_size"][1:]
        self.name, self.size = name, bound if config.get("fixed_input_size") else None

    def forward(self, images: Tensor) -> Tensor:
        if self.size and images.shape[2:] != self.size:
            (height, width), found = self.size, " x ".join(map(str, images.shape[2:]))
            raise FerlError(
                f"Timm: {self.name} is for images of {height} x {width} pixels, these have {found}: set "
                f"data.size={height}, or build it for another by model.backbone.img_size={images.shape[2]}"
            )
        features: Tensor = self.model(images)[0]
        # Models with channels last, such as Swin, say so in their feature info.
        if getattr(self.model, "output_fmt", "NCHW") == "NHWC":
            features = features.permute(0, 3, 1, 2)
        return features

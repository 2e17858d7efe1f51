"""The network: restorer -> backbone -> tokens -> sequence -> attention -> head, and several as one. No Lightning.

Shapes: B batch, T frames, C channels, H W image, N images, L tokens, D features, E embedding, K classes.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ferlightning.contracts.modules import Backbone, Head, Output, Restorer, Stage, Tokens
from ferlightning.emotions import as_written
from ferlightning.errors import FerlError


class Network(nn.Module):
    """A facial-expression recogniser put together from parts. It is what is trained, saved, exported and deployed.

    Normalisation is part of it, so images go in as they are, in [0, 1].

    Args:
        class_names: the K classes.
        backbone: builds the part from images to a feature map, given C.
        head: builds the part from tokens to logits and embedding, given D and K.
        restorer: builds the part from images to cleaner images; None leaves it out.
        sequence: builds the stage that relates the tokens to each other, given D; None leaves it out.
        attention: builds the stage that weighs the tokens, given D; None leaves it out.
        pixel_mean: mean of each channel over the training images, (C,), in [0, 1].
        pixel_std: standard deviation of each channel, (C,).
        frame_tokens: average the cells of each frame, so that tokens are frames instead of cells.
        normalise_each: normalise each image by its own mean and deviation, plus 0.02, in place of those of the data.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        backbone: Callable[[int], Backbone],
        head: Callable[[int, int], Head],
        restorer: Callable[[], Restorer] | None = None,
        sequence: Callable[[int], Stage] | None = None,
        attention: Callable[[int], Stage] | None = None,
        pixel_mean: Sequence[float] = (0.5,),
        pixel_std: Sequence[float] = (0.25,),
        frame_tokens: bool = False,
        normalise_each: bool = False,
    ) -> None:
        super().__init__()
        for name, part in (("backbone", backbone), ("head", head)):
            if not callable(part):
                raise FerlError(f"model.{name} is {part!r}: a network needs one; name a part, it cannot be left out")
        given: dict[str, object] = {
            "backbone": backbone, "head": head, "restorer": restorer, "sequence": sequence, "attention": attention,
        }  # fmt: skip
        for slot, value in given.items():
            if isinstance(value, nn.Module):  # it would be called on a number, which no module takes
                raise FerlError(
                    f"model.{slot} is a {type(value).__name__} that is made already; give its class, or a "
                    "functools.partial of it, since its widths come from the parts before it"
                )
        if isinstance(class_names, str) or not isinstance(class_names, Iterable):
            raise FerlError(f"class_names is {class_names!r}, expected a list of names, such as ['happy', 'sad']")
        self.class_names = list(class_names)
        self.frame_tokens = frame_tokens
        self.normalise_each = normalise_each
        self.input: dict[str, Any] = {}
        """Size, channels and preprocessing of the images that it was trained on; empty if never saved."""
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(pixel_mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(pixel_std).view(-1, 1, 1))

        self.restorer = restorer() if restorer else None
        # Channels last is the faster layout of convolutions on CPUs and on tensor cores.
        self.backbone = backbone(len(pixel_mean)).to(memory_format=torch.channels_last)
        width = _width(self.backbone)
        self.sequence = sequence(width) if sequence else None
        width = _width(self.sequence) if self.sequence else width
        self.attention = attention(width) if attention else None
        width = _width(self.attention) if self.attention else width
        self.head_features = width
        self.head = head(width, len(self.class_names))

    def forward(self, image: Tensor, mask: Tensor | None = None) -> Output:
        """Classify clips; a still is a clip of one frame.

        Args:
            image: (B, T, C, H, W) in [0, 1].
            mask: (B, T) bool, True = real frame; None if all are. Padding comes last, so the first frame always counts.

        Raises:
            FerlError: the images have another number of channels than the network was built for.
        """
        if image.ndim != 5:
            raise FerlError(
                f"images must have the shape (B, T, C, H, W), a still with T = 1; they have {image.ndim} axes"
            )
        b, t, c, _, _ = image.shape
        if c != self.mean.shape[0]:
            raise FerlError(f"the model was built for {self.mean.shape[0]} channels, the images have {c}")
        image = image.to(self.mean.dtype)  # half or double precision throughout, such as bf16-true
        # While training, padding is left out, so that it never enters a batch norm's statistics. In evaluation all
        # frames run and padding is masked afterwards: shapes that depend on values cannot be exported.
        if mask is not None:
            mask = mask | (torch.arange(t, device=mask.device) == 0)  # a mean over no frame is not a number
        packed = mask if self.training else None
        frames = image.flatten(0, 1) if packed is None else image[packed]  # (N, C, H, W)
        restored = self.restorer(frames) if self.restorer else frames
        features = self.backbone(self._normalised(restored).contiguous(memory_format=torch.channels_last))
        width = self.backbone.out_features
        is_map = isinstance(features, Tensor) and features.ndim == 4 and features.shape[1] == width
        _require(is_map, self.backbone, features, f"a tensor of the shape (N, {width}, H', W')")
        if self.frame_tokens:
            features = features.mean((2, 3), keepdim=True)
        d, h, w = features.shape[1:]
        cells = _of_clips(features.flatten(2).transpose(1, 2), b, t, mask, packed)  # (B, T, H' * W', D)
        token_mask = None if mask is None else mask.repeat_interleave(h * w, 1)
        tokens = Tokens(cells.reshape(b, t * h * w, d), token_mask, (t, h, w))
        for stage in filter(None, (self.sequence, self.attention)):
            tokens, width = stage(tokens), stage.out_features
            is_tokens = isinstance(tokens, Tokens) and tokens.x.ndim == 3 and tokens.x.shape[2] == width
            _require(is_tokens, stage, tokens, f"Tokens with x of the shape (B, L, {width})")
        logits, embedding = self.head(tokens)
        weights = self.attention.attention if self.attention else None
        for stage in filter(None, (self.sequence, self.attention)):
            stage.attention = None  # a tensor with a graph would keep the step's memory, and deepcopy refuses it
        return Output(logits, embedding, _of_clips(restored, b, t, mask, packed), weights)

    def _normalised(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) as the backbone reads them."""
        if self.normalise_each:
            centred = images - images.mean((1, 2, 3), keepdim=True)
            # The norm is one operator of ONNX; std would be ten.
            norm = torch.linalg.vector_norm(centred, dim=(1, 2, 3), keepdim=True)
            normalised: Tensor = centred / (norm / (images[0].numel() - 1) ** 0.5 + 0.02)
            return normalised
        return (images - self.mean) / self.std


class NetworkEnsemble(nn.Module):
    """The mean of the probabilities of networks that tell the same classes apart.

    Args:
        members: at least one, all for images of one kind.
        class_names: the K classes in the order of the result; None for that of the first member.
        mirror: take the mean over mirror images, too.
    """

    def __init__(
        self,
        members: "Sequence[Network | NetworkEnsemble]",
        class_names: Sequence[str] | None = None,
        mirror: bool = False,
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.class_names: list[str] = list(class_names or members[0].class_names)
        self.input: dict[str, Any] = members[0].input
        self.mirror = mirror
        self.order: Tensor  # a buffer, because an index from the host could not be part of a CUDA graph
        order = [[member.class_names.index(name) for name in self.class_names] for member in members]
        self.register_buffer("order", torch.tensor(order), persistent=False)

    def forward(self, image: Tensor, mask: Tensor | None = None) -> Output:
        """Classify clips.

        Args:
            image: (B, T, C, H, W) in [0, 1].
            mask: (B, T) bool, True = real frame; None if all are.

        Returns:
            Logits whose softmax is the mean of the members' probabilities, and as embedding their log-probabilities
            side by side, (B, members * K), those of mirror images after the others.
        """
        probs = []
        for view in (image, image.flip(-1)) if self.mirror else (image,):
            for member, order in zip(self.members, self.order, strict=True):
                output: Output = member(view, mask)
                probs.append(output.logits.float().log_softmax(1).index_select(1, order))
        members = torch.stack(probs, 1)  # (B, members, K), logarithms: a mean of probabilities could round to 0
        return Output(members.logsumexp(1) - math.log(len(probs)), members.flatten(1), image, None)


def spelled_names(network: nn.Module) -> list[str]:
    """The classes of a network as they are written in the data that it was trained on."""
    spelling = (getattr(network, "input", None) or {}).get("spelling", {})
    return as_written(network.class_names, spelling)  # type: ignore[arg-type]


def _require(valid: bool, part: nn.Module, given: object, expected: str) -> None:
    if not valid:
        name, x = type(part).__name__, given.x if isinstance(given, Tokens) else given
        what = (
            f"{type(given).__name__} of the shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(given).__name__
        )
        raise FerlError(
            f"{name} did not give {expected}, as parts of its kind do, but {what}: "
            "ferlightning.testing has their checks"
        )


def _of_clips(x: Tensor, b: int, t: int, mask: Tensor | None, packed: Tensor | None) -> Tensor:
    """Results of frames, (N, ...), as (B, T, ...) with zeros where there is padding."""
    if packed is not None:
        full = x.new_zeros(b, t, *x.shape[1:])
        full[packed] = x
        return full
    x = x.reshape(b, t, *x.shape[1:])
    return x if mask is None else x.masked_fill(~mask.view(b, t, *[1] * (x.ndim - 2)), 0)


def _width(part: nn.Module) -> int:
    """The features of what a part returns, by which the next one is made."""
    width = getattr(part, "out_features", None)
    if not isinstance(width, int):
        raise FerlError(
            f"{type(part).__name__}: out_features is {width!r}, expected how many features it returns; set it in "
            "__init__"
        )
    return width

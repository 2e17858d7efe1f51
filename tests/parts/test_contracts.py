"""The contract checks: every part that we ship passes them, and for a broken part they name the promise it breaks."""

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

import ferlightning.parts
from ferlightning.contracts.modules import Backbone, Batch, Head, Loss, Output, Restorer, Stage, Tokens, pool
from ferlightning.errors import FerlError
from ferlightning.parts import LSTM, AdditiveAttention, LinearHead, SelfAttention, SqueezeExcitation
from ferlightning.plugins import parts
from ferlightning.testing import (
    check_backbone,
    check_fitted,
    check_head,
    check_loss,
    check_recalibration,
    check_restorer,
    check_stage,
)

CHECKS = {
    "restorer": check_restorer,
    "backbone": check_backbone,
    "recalibration": check_recalibration,
    "sequence, attention": check_stage,
    "head": check_head,
    "projection": check_fitted,
    "loss": check_loss,
}
NEED_MORE = {"AuxiliaryHead", "Distillation", "LinearProjection", "Pruned"}  # labels, a teacher, ...: see their tests
SHIPPED = [
    pytest.param(check, part, id=part.__name__)
    for slot, check in CHECKS.items()
    for part in parts(slot)
    if part.__module__.startswith("ferlightning.") and part.__name__ not in NEED_MORE
]


@pytest.mark.parametrize(("check", "part"), SHIPPED)
def test_shipped_parts_keep_the_contract(check, part) -> None:
    check(part)


def test_every_export_is_found() -> None:
    """A part that is exported but not found would escape the checks and the command line."""
    assert {case.values[1].__name__ for case in SHIPPED} | NEED_MORE == set(ferlightning.parts.__all__)


def test_parts_and_checks_load_no_library_but_torch() -> None:
    """Each of these takes up to seconds: they are imported by the parts that need them, when they are built or run."""
    program = "import sys, ferlightning.parts; from ferlightning.testing import check_backbone; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"timm", "torchvision", "kornia", "sklearn", "scipy", "lightning", "torchmetrics", "cv2", "matplotlib"}
    assert "ferlightning.parts.backbones.timm" in loaded
    assert not heavy & set(loaded)


def test_the_random_state_of_the_caller_is_left_alone() -> None:
    before = torch.get_rng_state()
    check_stage(LSTM)
    assert torch.get_rng_state().equal(before)


# --- broken parts; a leading underscore keeps them out of the table of parts ------------------------------------------


class _Backbone(Backbone):
    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.out_features = 8
        self.conv = nn.Conv2d(in_channels, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.conv(images))


class _WrongWidth(_Backbone):
    def __init__(self, in_channels: int) -> None:
        super().__init__(in_channels)
        self.out_features = 9


class _Flat(_Backbone):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).mean((2, 3))


class _GreyOnly(_Backbone):
    def __init__(self, in_channels: int) -> None:
        super().__init__(1)


class _Unused(_Backbone):
    def __init__(self, in_channels: int) -> None:
        super().__init__(in_channels)
        self.forgotten = nn.Linear(2, 2)


class _NoisyInEval(_Backbone):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images + 1e-6 * torch.randn(images.shape))


class _BatchStatistics(_Backbone):
    def forward(self, images: Tensor) -> Tensor:
        return self.conv(images) - self.conv(images).mean((0, 2, 3), keepdim=True)


class _Stateful(_Backbone):
    """A random constant that is not a buffer, so a checkpoint loses it."""

    def __init__(self, in_channels: int) -> None:
        super().__init__(in_channels)
        self.shift = float(torch.rand(()))

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + self.shift


class _Unpicklable(_Backbone):
    def __init__(self, in_channels: int) -> None:
        super().__init__(in_channels)
        self.activation = lambda x: x


class _Infinite(_Backbone):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) / 0


class _WritesIntoImages(_Backbone):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.mul_(2))


class _OfHalfPrecision(_Backbone):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).half()


class _OfNumbers(_Backbone):
    def forward(self, images: Tensor) -> Tensor:
        return [1]  # type: ignore[return-value]


class _NoSuper(_Backbone):
    def __init__(self, in_channels: int) -> None:
        self.out_features = 8


class _NoChannels(_Backbone):
    def __init__(self) -> None:
        super().__init__(1)


class _Views(_Backbone):
    """Works in torch's default memory format, which is not that of the network."""

    def forward(self, images: Tensor) -> Tensor:
        features = super().forward(images)
        return features.view(len(features), -1).view(features.shape)


class _NoSlot(nn.Module):
    def __init__(self, in_channels: int) -> None:
        super().__init__()


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (_WrongWidth, "out_features is 9, but the feature map has width 8"),
        (_Flat, r"must become a feature map \(3, D, H', W'\); found \(3, 8\)"),
        (_GreyOnly, r"fails in eval mode on \(3, 3, 48, 48\)"),
        (_Unused, "no gradient reaches the parameter forgotten.weight"),
        (_NoisyInEval, "a second run in eval mode gives another result"),
        (_BatchStatistics, "depends on the others"),
        (_Stateful, "a copy by state_dict in eval mode gives another result"),
        (_Unpicklable, "cannot be copied"),
        (_Infinite, "not finite"),
        (_Views, "view size is not compatible"),
        (_WritesIntoImages, "writes into what it is given"),
        (_OfHalfPrecision, "the result is torch.float16"),
        (_OfNumbers, "has 1, expected tensors"),
        (_NoSuper, "cannot be built: AttributeError"),
        (_NoChannels, r"is built as _NoChannels\(in_channels\)"),
        (_NoSlot, "no subclass of ferlightning.contracts.Backbone"),
    ],
)
def test_broken_backbones(part, message: str) -> None:
    with pytest.raises(AssertionError, match=message) as caught:
        check_backbone(part)
    assert str(caught.value).startswith(part.__name__)


def test_the_sound_backbone_that_the_broken_ones_derive_from_passes() -> None:
    check_backbone(_Backbone)


class _IgnoresMask(AdditiveAttention):
    def forward(self, tokens: Tokens) -> Tokens:
        return super().forward(tokens._replace(mask=None))


class _KeepsGrid(AdditiveAttention):
    def forward(self, tokens: Tokens) -> Tokens:
        return super().forward(tokens)._replace(grid=tokens.grid)


class _KeepsMask(AdditiveAttention):
    def forward(self, tokens: Tokens) -> Tokens:
        return super().forward(tokens)._replace(mask=tokens.mask)


class _HidesWeights(AdditiveAttention):
    def forward(self, tokens: Tokens) -> Tokens:
        pooled = super().forward(tokens)
        self.attention = None
        return pooled


class _Unnormalised(AdditiveAttention):
    def forward(self, tokens: Tokens) -> Tokens:
        pooled = super().forward(tokens)
        self.attention = 2 * self.attention
        return pooled


class _MaskedTooLate(AdditiveAttention):
    """Right weights, but the mean of all tokens: a fault that shows in the values only."""

    def forward(self, tokens: Tokens) -> Tokens:
        pooled = super().forward(tokens)
        return pooled._replace(x=pooled.x + tokens.x.mean(1, keepdim=True))


class _Unpacked(LSTM):
    """Reads padding: the backward direction starts in it."""

    def forward(self, tokens: Tokens) -> Tokens:
        return super().forward(tokens._replace(mask=None))._replace(mask=tokens.mask)


class _DropsMask(LSTM):
    def forward(self, tokens: Tokens) -> Tokens:
        return super().forward(tokens)._replace(mask=None)


class _Halves(LSTM):
    def forward(self, tokens: Tokens) -> Tokens:
        return super().forward(Tokens(tokens.x[:, ::2], None, tokens.grid))


class _NormOverPadding(Stage):
    """Right in eval mode; in training, padding enters the statistics of batch norm."""

    def __init__(self, in_features: int) -> None:
        super().__init__()
        self.out_features = in_features
        self.norm = nn.BatchNorm1d(in_features)

    def forward(self, tokens: Tokens) -> Tokens:
        return tokens._replace(x=self.norm(tokens.x.transpose(1, 2)).transpose(1, 2))


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (_IgnoresMask, "attention on padding must be 0"),
        (_KeepsGrid, r"must have the grid \(1, 1, 1\); found \(3, 2, 2\)"),
        (_KeepsMask, "their mask must be None"),
        (_HidesWeights, "must leave its weights"),
        (_Unnormalised, "must sum to 1"),
        (_MaskedTooLate, "padding changes a result"),
        (_Unpacked, "padding changes a result"),
        (_DropsMask, "does not pass on their mask"),
        (_Halves, "12 tokens must stay 12 or be pooled to 1"),
        (_NormOverPadding, "changes results or buffers in train mode"),
    ],
)
def test_broken_stages(part, message: str) -> None:
    with pytest.raises(AssertionError, match=message) as caught:
        check_stage(part)
    assert str(caught.value).startswith(part.__name__)


class _Pools(SqueezeExcitation):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).mean((2, 3), keepdim=True)


class _Wider(SqueezeExcitation):
    def __init__(self, in_features: int) -> None:
        super().__init__(in_features + 1)


class _OverTheBatch(SqueezeExcitation):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * x.mean().sigmoid()


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (_Pools, r"must keep the shape; \(3, 32, 12, 12\) became \(3, 32, 1, 1\)"),
        (_Wider, r"fails in eval mode on \(3, 32, 12, 12\)"),
        (_OverTheBatch, "depends on the others"),
        (SelfAttention, "no subclass of ferlightning.contracts.Recalibration"),
    ],
)
def test_broken_recalibrations(part, message: str) -> None:
    with pytest.raises(AssertionError, match=message) as caught:
        check_recalibration(part)
    assert str(caught.value).startswith(part.__name__)


class _OneClassMore(LinearHead):
    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__(in_features, num_classes + 1)


class _WrongEmbedding(LinearHead):
    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__(in_features, num_classes)
        self.embed_features = 3


class _AveragesPadding(LinearHead):
    def forward(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        return super().forward(tokens._replace(mask=None))


class _BranchesOnValues(LinearHead):
    def forward(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        logits, embedding = super().forward(tokens)
        return (logits if logits.abs().max() < 1e6 else logits / 2), embedding


class _Double(LinearHead):
    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__(in_features, num_classes)
        self.register_buffer("prior", torch.ones(num_classes, dtype=torch.float64))


class _FixesTheBatch(LinearHead):
    def forward(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        logits, embedding = super().forward(tokens)
        return logits + torch.zeros(len(logits), 1), embedding


class _LogitsOnly(LinearHead):
    def forward(self, tokens: Tokens) -> Tensor:  # type: ignore[override]
        return super().forward(tokens)[0]


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (_OneClassMore, r"logits of 3 items and 2 classes have shape \(3, 3\)"),
        (_WrongEmbedding, "embed_features is 3, but the embedding has width 32"),
        (_AveragesPadding, "padding changes a result"),
        (_LogitsOnly, r"must return \(logits, embedding\)"),
        (_BranchesOnValues, "cannot be exported: .* no branch on values"),
        (_FixesTheBatch, r"cannot be exported: .* no len\(\) of a tensor, which fixes the batch"),
        (_Double, "prior is float64, which MPS does not have"),
    ],
)
def test_broken_heads(part, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_head(part)


class _Declared(_BranchesOnValues):
    not_exported = "it looks at its logits"


def test_a_part_may_declare_that_it_cannot_be_exported() -> None:
    check_head(_Declared)


def test_a_head_that_is_no_module_of_its_own_slot() -> None:
    class _Other(Head):
        def forward(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
            return pool(tokens), pool(tokens)

    with pytest.raises(AssertionError, match=r"logits of 3 items and 2 classes have shape \(3, 32\)"):
        check_head(lambda d, k: _Other())


class _Loss(Loss):
    def __init__(self, embed_features: int, class_counts) -> None:
        super().__init__()
        self.weight = 1.0

    def forward(self, output: Output, batch: Batch) -> Tensor:
        label = batch["label"]
        if label.ndim == 2:
            raise FerlError("_Loss takes class indices only")
        return -output.logits.log_softmax(1).gather(1, label[:, None]).mean()


class _NoWeight(_Loss):
    def __init__(self, embed_features: int, class_counts) -> None:
        nn.Module.__init__(self)


class _PerItem(_Loss):
    def forward(self, output: Output, batch: Batch) -> Tensor:
        return output.logits.square().mean(1)


class _Overflows(_Loss):
    def forward(self, output: Output, batch: Batch) -> Tensor:
        return output.logits.exp().mean()


class _Detached(_Loss):
    def forward(self, output: Output, batch: Batch) -> Tensor:
        return output.logits.detach().mean()


class _InfiniteSlope(_Loss):
    """The loss is finite, but its slope is not once p rounds to 1."""

    def forward(self, output: Output, batch: Batch) -> Tensor:
        return (1 - output.logits.softmax(1)).sqrt().mean()


class _IndicesOnly(_Loss):
    def forward(self, output: Output, batch: Batch) -> Tensor:
        return -output.logits.log_softmax(1).gather(1, batch["label"][:, None]).mean()


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (_NoWeight, "weight must be a number"),
        (_PerItem, r"must return a scalar; found shape \(4,\) for class indices"),
        (_Overflows, "is inf for class indices and logits around 100"),
        (_Detached, "is not differentiable"),
        (_InfiniteSlope, "the gradient is not finite"),
        (_IndicesOnly, "fails for soft labels"),
    ],
)
def test_broken_losses(part, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_loss(part)


def test_a_loss_may_refuse_soft_labels_in_words() -> None:
    check_loss(_Loss)


class _Restorer(Restorer):
    """Right, and denoising: it corrupts its input in train mode only."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            images = images + 0.1 * torch.randn_like(images)
        return self.conv(images).sigmoid()


class _CorruptsInEval(_Restorer):
    def forward(self, images: Tensor) -> Tensor:
        return self.conv(images + 0.1 * torch.randn_like(images)).sigmoid()


class _Shrinks(_Restorer):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images)[:, :, 1:]


class _Unbounded(_Restorer):
    def forward(self, images: Tensor) -> Tensor:
        return self.conv(images) + 1


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (_CorruptsInEval, "depends on the others|a second run in eval mode"),
        (_Shrinks, r"images \(3, 1, 48, 40\) became \(3, 1, 47, 40\)"),
        (_Unbounded, "must stay there; in train mode"),
    ],
)
def test_broken_restorers(part, message: str) -> None:
    check_restorer(_Restorer)
    with pytest.raises(AssertionError, match=message):
        check_restorer(part)


class _WantsMore(Loss):
    def __init__(self, embed_features: int, class_counts: list[int], margin: float) -> None:
        super().__init__()


class _ReadsLabels(Loss):
    weight = 1.0

    def __init__(self, embed_features: int, class_counts: list[int]) -> None:
        super().__init__()

    def forward(self, logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        return logits.mean()


class _CountsCells(_Backbone):
    """Reads the order in memory."""

    def forward(self, images: Tensor) -> Tensor:
        features = super().forward(images)
        return features * (1 + features.is_contiguous())


@pytest.mark.parametrize(
    ("check", "part", "message"),
    [
        (check_loss, _WantsMore, r"_WantsMore is built as _WantsMore\(embed_features, class_counts\).*margin"),
        (check_loss, _ReadsLabels, r"forward is called with \(output, batch\).*TypeError"),
        (check_backbone, _CountsCells, "the memory format changes a result"),
    ],
)
def test_a_check_says_what_a_call_looks_like(check, part, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check(part)

"""Attention inside backbones: its formulas, and its place in each backbone."""

from collections.abc import Callable
from functools import partial
from itertools import product

import pytest
import torch
from torch import Tensor, nn

from ferlightning.parts import CBAM, ConvStack, DepthwiseStack, ResNet, SqueezeExcitation
from tests.conftest import NO_REPORT

X = torch.randn(2, 16, 4, 5, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_squeeze_and_excitation_equals_its_formula() -> None:
    part = SqueezeExcitation(16, reduction=2)
    first, second = (layer.weight[:, :, 0, 0] for layer in (part.excite.fc1, part.excite.fc2))
    assert first.shape == (8, 16)
    gate = torch.sigmoid((X.mean((2, 3)) @ first.T).relu() @ second.T)
    torch.testing.assert_close(part(X), X * gate[:, :, None, None], atol=1e-6, rtol=0)


@torch.no_grad()
def test_cbam_equals_its_formula() -> None:
    """Cell by cell; batch norm of a new part in eval mode only divides by sqrt(1 + eps)."""
    part = CBAM(16, reduction=2).eval()
    first, second = (layer.weight[:, :, 0, 0] for layer in (part.attend.channel.fc1, part.attend.channel.fc2))
    two = [x.relu() @ second.T for x in (X.mean((2, 3)) @ first.T, X.amax((2, 3)) @ first.T)]
    x = X * torch.sigmoid(sum(two))[:, :, None, None]
    out, kernel = part(X), part.attend.spatial.conv.conv.weight[0]
    assert kernel.shape == (2, 7, 7)
    maps = nn.functional.pad(torch.stack([x.mean(1), x.amax(1)], 1), (3, 3, 3, 3))  # (N, 2, H + 6, W + 6)
    for i, j in product(range(4), range(5)):
        score = (maps[:, :, i : i + 7, j : j + 7] * kernel).sum((1, 2, 3)) * (1 + 1e-5) ** -0.5
        torch.testing.assert_close(out[:, :, i, j], x[:, :, i, j] * score.sigmoid()[:, None], atol=1e-5, rtol=0)


@pytest.mark.parametrize("part", [SqueezeExcitation, CBAM])
def test_narrow_stages_keep_eight_hidden_units(part) -> None:
    for width, hidden in ((32, 8), (256, 16)):
        shapes = [tuple(x.shape[:2]) for x in part(width).parameters()]
        assert (hidden, width) in shapes and (width, hidden) in shapes


class _Halves(nn.Module):
    """A recalibration whose effect is known."""

    def __init__(self, features: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x / 2


def same_weights(build: Callable[..., nn.Module], **options: object) -> nn.Module:
    torch.manual_seed(0)
    return build(1, **options).eval()


@torch.no_grad()
def test_a_stack_recalibrates_after_each_stage() -> None:
    """Without batch norm and biases a stack is homogeneous, so that each of three halvings reaches the end."""
    images = torch.randn(2, 1, 16, 16)
    plain, halved = (same_weights(ConvStack, batch_norm=False, recalibration=x) for x in (None, _Halves))
    for stack in (plain, halved):
        for layer in stack.layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.zeros_(layer.bias)
    torch.testing.assert_close(halved(images), plain(images) / 8)


@torch.no_grad()
def test_a_residual_block_recalibrates_the_residual_and_not_the_shortcut() -> None:
    x = torch.randn(2, 32, 8, 8)
    plain, halved = (same_weights(ResNet, recalibration=option).layers[3] for option in (None, _Halves))
    torch.testing.assert_close(halved(x), (plain.residual(x) / 2 + x).relu())


@pytest.mark.parametrize(("backbone", "places"), [(ConvStack, 3), (DepthwiseStack, 3), (ResNet, 8)])
def test_each_place_learns_for_itself_and_other_parts_keep_their_names(backbone, places: int) -> None:
    plain, attended = backbone(1), backbone(1, recalibration=partial(CBAM, reduction=4))
    found = [module for module in attended.modules() if isinstance(module, CBAM)]
    assert len({id(module) for module in found}) == len(found) == places
    if backbone is ResNet:  # the trained weights of a plain one are taken up whole by init_from
        assert plain.state_dict().keys() <= attended.state_dict().keys()


def test_names_of_a_plain_stack_are_those_of_trained_checkpoints() -> None:
    """Convolutions and batch norms keep the places that they have had since the first release."""
    modules = {name.rsplit(".", 1)[0] for name in ConvStack(1).state_dict()}
    assert modules == {f"layers.{i}" for i in (0, 1, 3, 4, 8, 9, 11, 12, 16, 17, 19, 20)}


def test_the_command_line_nests_it_by_its_short_name(ferl, tmp_path) -> None:
    config = tmp_path / "model.yaml"
    config.write_text(
        "model:\n  backbone:\n    class_path: ResNet\n    init_args:\n      channels: [16, 16]\n      blocks: [1, 1]\n"
        "      recalibration: CBAM\n"
    )
    data = ["--data=SyntheticFaces", "--data.items_per_class=10", "--data.subjects=5", "--data.batch_size=16"]
    folder = ferl(
        "fit", "--config", str(config), *data, "--model.backbone.recalibration.reduction=4", "--trainer.max_epochs=1",
        "--trainer.limit_train_batches=1", "--trainer.limit_val_batches=1", *NO_REPORT,
    )  # fmt: skip
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert state["network.backbone.layers.3.residual.5.attend.spatial.conv.conv.weight"].shape == (1, 2, 7, 7)

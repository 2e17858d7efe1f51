"""Backbones: shapes, and parameters counted against the networks of the papers."""

import pytest
import timm
import torch
from torch import nn

from ferlightning.errors import FerlError
from ferlightning.parts import ConvStack, ResNet, Timm


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("backbone", "d"), [(ConvStack, 128), (ResNet, 256)])
@torch.no_grad()
def test_default_shapes_on_faces_of_48_pixels(backbone, d: int) -> None:
    assert backbone(1).eval()(torch.zeros(2, 1, 48, 48)).shape == (2, d, 6, 6)


@torch.no_grad()
def test_first_stride_halves_the_map() -> None:
    assert ResNet(1, first_stride=2).eval()(torch.zeros(1, 1, 48, 48)).shape == (1, 256, 3, 3)


def test_resnet18_has_the_parameters_of_resnet18_but_for_the_stem() -> None:
    reference = timm.create_model("resnet18", pretrained=False, num_classes=0)
    ours = ResNet(3, channels=(64, 128, 256, 512), blocks=(2, 2, 2, 2))
    stem = 3 * 64 * 7 * 7 - 3 * 64 * 3 * 3  # a 7x7 stem there, 3x3 here
    assert parameters(ours) == parameters(reference) - stem


def test_conv_stack_has_the_parameters_of_its_description() -> None:
    widths = [(1, 32), (32, 32), (32, 64), (64, 64), (64, 128), (128, 128)]
    assert parameters(ConvStack(1)) == sum(9 * i * o + 2 * o for i, o in widths)


def test_a_residual_block_of_a_resnet_adds_its_shortcut() -> None:
    """With the residual silenced what is left is ReLU of the shortcut."""
    block = ResNet(1).layers[3].eval()
    nn.init.zeros_(block.residual[-1].weight)
    x = torch.randn(2, 32, 8, 8)
    torch.testing.assert_close(block(x), x.relu())


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(FerlError, match="must be of one length"):
        ResNet(1, channels=(32, 64), blocks=(2, 2, 2))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050"])
@torch.no_grad()
def test_timm_takes_grey_and_rgb(name: str, channels: int) -> None:
    backbone = Timm(channels, name).eval()
    features = backbone(torch.randn(2, channels, 64, 64))
    assert features.shape == (2, backbone.out_features, 2, 2)


@torch.no_grad()
def test_timm_with_channels_last_is_turned() -> None:
    backbone = Timm(1, "swin_tiny_patch4_window7_224").eval()
    features = backbone(torch.randn(2, 1, 224, 224))
    assert features.shape == (2, backbone.out_features, 7, 7)


def test_an_unknown_timm_name_is_the_users_mistake() -> None:
    with pytest.raises(FerlError, match=r"Timm: cannot build 'resnet_18'.*list_models\('\*resnet\*'\)"):
        Timm(1, "resnet_18")


def test_an_option_that_a_timm_model_does_not_know_is_the_users_mistake() -> None:
    with pytest.raises(FerlError, match=r"Timm: cannot build 'vgg11'.*drop_path_rate"):
        Timm(1, "vgg11", drop_path_rate=0.1)

"""Backbones: shapes, and parameters counted against the networks of the papers."""

import pytest
import timm
import torch
from torch import nn

from ferlightning.errors import FerlError
from ferlightning.parts import ConvStack, DepthwiseStack, ResNet, Timm


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("backbone", "d"), [(ConvStack, 128), (DepthwiseStack, 128), (ResNet, 256)])
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


def layers(stack: nn.Module) -> list[str]:
    return [type(layer).__name__ for layer in stack.layers]


def test_the_seven_layers_of_p1_are_four_convolutions_and_three_poolings() -> None:
    stack = ConvStack(1, channels=(32, 64, 128, 128), depth=1, pools=3)
    found = layers(stack)
    assert (found.count("Conv2d"), found.count("MaxPool2d"), found.count("BatchNorm2d")) == (4, 3, 4)
    assert found[-4:] == ["Conv2d", "BatchNorm2d", "ReLU", "Dropout2d"]  # the last one is not pooled
    assert stack.eval()(torch.zeros(1, 1, 128, 128)).shape == (1, 128, 16, 16)


def test_the_blocks_of_p5_are_convolution_relu_pooling() -> None:
    stack = ConvStack(1, depth=1, batch_norm=False)
    assert layers(stack) == ["Conv2d", "ReLU", "MaxPool2d", "Dropout2d"] * 3
    widths = [(1, 32), (32, 64), (64, 128)]
    assert parameters(stack) == sum(9 * i * o + o for i, o in widths)  # a bias in the place of batch norm


@pytest.mark.parametrize("pools", [-1, 4])
def test_more_poolings_than_stages_are_refused(pools: int) -> None:
    with pytest.raises(FerlError, match=f"ConvStack: pools={pools} must be between 0 and the number of stages, 3"):
        ConvStack(1, pools=pools)


def test_depthwise_stack_has_the_parameters_of_its_description() -> None:
    """A plain convolution that reads the images; then 9 weights a channel, a 1x1 convolution, a batch norm for each."""
    widths = [(32, 32), (32, 64), (64, 64), (64, 128), (128, 128)]
    separable = sum(9 * i + 2 * i + i * o + 2 * o for i, o in widths)
    assert parameters(DepthwiseStack(1)) == 9 * 32 + 2 * 32 + separable


@torch.no_grad()
def test_a_separable_convolution_filters_each_channel_and_then_mixes_them() -> None:
    """Written out for one output cell; batch norm of a new network in eval mode only divides by sqrt(1 + eps)."""
    stack = DepthwiseStack(1, channels=(4,), depth=2, pools=0).eval()
    image = torch.randn(1, 1, 6, 6)
    plain, depthwise, pointwise = (stack.layers[i] for i in (0, 3, 6))
    scale = (1 + 1e-5) ** -0.5
    x = nn.functional.conv2d(image, plain.weight, padding=1).mul(scale).relu()[0]
    filtered = [max(0.0, scale * float((x[c, 1:4, 2:5] * depthwise.weight[c, 0]).sum())) for c in range(4)]
    for o in range(4):
        mixed = sum(float(pointwise.weight[o, c]) * filtered[c] for c in range(4))
        assert float(stack(image)[0, o, 2, 3]) == pytest.approx(max(0.0, scale * mixed), abs=1e-6)

"""Backbones: shapes, and parameters counted against the networks of the papers."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from ferlightning.errors import FerlError
from ferlightning.parts import ConvStack, DepthwiseStack, ResNet, Timm
from ferlightning.parts.backbones.strided import subsample_first


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
    """Without the residual, what remains is the ReLU of the shortcut."""
    block = ResNet(1).layers[3].eval()
    nn.init.zeros_(block.residual[-1].weight)
    x = torch.randn(2, 32, 8, 8)
    torch.testing.assert_close(block(x), x.relu())


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(FerlError, match="must be of one length"):
        ResNet(1, channels=(32, 64), blocks=(2, 2, 2))


@torch.no_grad()
def test_timm_with_channels_last_is_turned() -> None:
    backbone = Timm(1, "swin_tiny_patch4_window7_224").eval()
    features = backbone(torch.randn(1, 1, 224, 224))
    assert features.shape == (1, backbone.out_features, 7, 7)


def test_a_timm_model_for_one_size_says_which() -> None:
    backbone = Timm(1, "vit_tiny_patch16_224").eval()
    with pytest.raises(FerlError, match="vit_tiny_patch16_224 is for images of 224 x 224 pixels, these have 48 x 32"):
        backbone(torch.zeros(1, 1, 48, 32))


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "cells"), [("vit_tiny_patch16_224", 4), ("swin_tiny_patch4_window7_224", 2), ("levit_128s", 1)]
)
def test_a_timm_model_for_one_size_is_built_for_another(name: str, cells: int) -> None:
    """Patches of 16 pixels, and strides of 32 and of 64 in all."""
    backbone = Timm(1, name, img_size=64).eval()
    assert backbone(torch.randn(2, 1, 64, 64)).shape == (2, backbone.out_features, cells, cells)
    with pytest.raises(FerlError, match="is for images of 64 x 64 pixels, these have 48 x 48"):
        backbone(torch.zeros(1, 1, 48, 48))


@torch.no_grad()
def test_a_stage_of_a_timm_model_is_chosen_by_its_index() -> None:
    """The second stage of ResNet-18 has 64 channels at a fourth of the size, the last but one 256 at a sixteenth."""
    for index, shape in ((1, (1, 64, 16, 16)), (-2, (1, 256, 4, 4))):
        assert Timm(1, out_index=index).eval()(torch.randn(1, 1, 64, 64)).shape == shape
    with pytest.raises(FerlError, match="out_index is 9, and resnet18 has 5 stages, 0 to 4, or -1"):
        Timm(1, out_index=9)
    with pytest.raises(FerlError, match="resnet18 is for images of any size: leave img_size out"):
        Timm(1, img_size=64)


@torch.no_grad()
def test_timm_starts_from_a_local_file_folded_to_grey(tmp_path: Path) -> None:
    """timm sums the first convolution over the colours, so that a grey image gives what it gives as RGB."""
    original = timm.create_model("resnet10t", features_only=True, out_indices=(-1,)).eval()
    torch.save(original.state_dict(), tmp_path / "w.pth")
    backbone = Timm(1, "resnet10t", pretrained=str(tmp_path / "w.pth")).eval()
    image = torch.rand(1, 1, 64, 64)
    torch.testing.assert_close(backbone(image), original(image.expand(1, 3, 64, 64))[0], atol=1e-4, rtol=1e-4)


def test_timm_says_how_much_of_a_file_it_takes(tmp_path: Path) -> None:
    """resnet34 is resnet18 with more blocks."""
    names = "resnet18", "resnet34"
    models = [timm.create_model(name, features_only=True) for name in names]
    small, large = (model.state_dict() for model in models)
    few, many = (sum(not name.endswith("tracked") for name in state) for state in (small, large))
    torch.save(large, tmp_path / "large.pth")
    told = Timm(3, names[0], pretrained=str(tmp_path / "large.pth")).started_from
    assert f"large.pth: {few} of {few} tensors taken; {many - few} others of the file not used" in told
    torch.save(small, tmp_path / "small.pth")
    told = Timm(3, names[1], pretrained=str(tmp_path / "small.pth")).started_from
    assert f"small.pth: {few} of {many} tensors taken; left as initialised: layer1.2.conv1" in told


def test_weights_that_cannot_be_had_are_answered_in_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(FerlError, match="there is no file gone.pth"):
        Timm(1, pretrained="gone.pth")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")  # where nothing listens
    monkeypatch.delenv("http_proxy", raising=False)
    start = time.monotonic()
    for name, pretrained in (("resnet18", True), ("hf_hub:timm/resnet18.a1_in1k", False)):
        with pytest.raises(
            FerlError, match=rf"cannot get the weights of '{name}'.*pretrained=FILE, or set pretrained=f"
        ):
            Timm(1, name, pretrained=pretrained)
    assert time.monotonic() - start < 10  # without asking, the Hub's client tries for 23 seconds a file


@pytest.mark.parametrize("stride", [2, (1, 3)])
@torch.no_grad()
def test_strided_convolutions_of_few_channels_keep_their_result(stride: int | tuple[int, int]) -> None:
    convolution = nn.Conv2d(8, 4, 1, stride)
    x = torch.randn(2, 8, 7, 10)
    expected = convolution(x)
    subsample_first(nn.Sequential(convolution))
    assert convolution.stride == (1, 1)
    torch.testing.assert_close(convolution(x), expected)


def test_a_narrow_resnet_trains_on_large_images() -> None:
    """Its 1x1 shortcut of 8 channels made oneDNN write beyond its memory. In a process of its own, which would die."""
    program = """
import torch
from ferlightning.parts import ResNet
network = ResNet(1, channels=(8, 16), blocks=(1, 1)).to(memory_format=torch.channels_last)
for _ in range(4):
    network(torch.rand(4, 1, 96, 96).contiguous(memory_format=torch.channels_last)).sum().backward()
    [torch.rand(1000, 37) for _ in range(50)]
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_an_unknown_timm_name_is_the_users_mistake() -> None:
    with pytest.raises(FerlError, match=r"Timm: cannot build 'resnet_18'.*list_models\('\*resnet\*'\)"):
        Timm(1, "resnet_18")
    with pytest.raises(FerlError, match=r"cannot build 'ResNet18' as a feature extractor \(did you mean resnet18"):
        Timm(1, "ResNet18")


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
    assert layers(stack) == ["Conv2d", "MaxPool2d", "ReLU", "Dropout2d"] * 3
    widths = [(1, 32), (32, 64), (64, 128)]
    assert parameters(stack) == sum(9 * i * o + o for i, o in widths)  # a bias in the place of batch norm


def test_to_pool_before_the_relu_gives_what_to_pool_after_it_gives() -> None:
    stack = ConvStack(1, channels=(4, 8))
    images, grey = torch.rand(3, 1, 16, 16), torch.full((1, 1, 16, 16), 0.5)  # of one grey level: all are largest
    found = []
    for order in ([0, 1, 2, 3, 4, 5, 6, 7], [0, 1, 2, 3, 4, 6, 5, 7]):  # the ReLU is the seventh layer of a stage
        layers = [stack.layers[stage + i] for stage in (0, 8) for i in order]
        stack.zero_grad()
        y = nn.Sequential(*layers)(torch.cat([images, grey]))
        (y * torch.arange(y.numel()).view_as(y)).sum().backward()
        found.append([y, *(parameter.grad for parameter in stack.parameters())])
    assert [type(stack.layers[i]) for i in (5, 6)] == [nn.MaxPool2d, nn.ReLU]
    assert all(ours.equal(papers) for ours, papers in zip(*found, strict=True))


def test_more_poolings_than_stages_are_refused() -> None:
    with pytest.raises(FerlError, match="ConvStack: pools=4 must be between 0 and the number of stages, 3"):
        ConvStack(1, pools=4)


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

"""A guard against a fault of oneDNN, in which a training on a CPU dies by a signal."""

from functools import partial

from torch import Tensor, nn


def subsample_first(model: nn.Module) -> None:
    """Make strided 1x1 convolutions of few channels read a subsampled input; the result is the same.

    On a CPU and with inputs in channels_last, the weight gradient of such a convolution with fewer than 16 input
    channels, on maps of 64 x 64 or more, writes beyond its memory (torch 2.14; without the stride it does not).
    """
    for module in model.modules():
        if not isinstance(module, nn.Conv2d) or module.in_channels >= 16:
            continue
        if module.kernel_size == (1, 1) and module.padding == (0, 0) and max(module.stride) > 1:
            module.register_forward_pre_hook(partial(_subsample, module.stride))
            module.stride = (1, 1)


def _subsample(stride: tuple[int, ...], module: nn.Module, args: tuple[Tensor]) -> Tensor:
    return args[0][:, :, :: stride[0], :: stride[1]]

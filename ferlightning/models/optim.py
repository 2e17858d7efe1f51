"""Learning rates that differ between parameters: ``lr_scale``, a factor for all below a name. And fast updates."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch
from lightning.pytorch.cli import ReduceLROnPlateau as OfLightning
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import CyclicLR, LRScheduler, OneCycleLR

from ferlightning.captured import Captured
from ferlightning.errors import FerlError

Scale = Mapping[str, float]
"""Name of a module or parameter, such as ``backbone.layers.0``, to the factor of the learning rate of all below it."""
Named = Iterable[tuple[str, nn.Parameter]]


class ReduceLROnPlateau(OfLightning):
    """The schedule of this name: that of Lightning, and so of torch, which need not be told what to watch.

    Args:
        optimizer: whose rates are reduced.
        monitor: the metric that is watched.
        mode: what is better, ``min`` or ``max``; null: ``min`` of a loss, else ``max``.
        options: those of torch.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        monitor: str = "val/loss",
        mode: Literal["min", "max"] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(optimizer, monitor, mode=mode or better(monitor), **options)


def better(metric: str) -> Literal["min", "max"]:
    """Which of two values of a metric is the better one, by its name: the smaller of losses and errors."""
    return "min" if re.search("/(loss|nll|calibration_error)", metric) else "max"


def below(name: str, prefix: str) -> bool:
    """Whether a parameter or module is the named one or below it."""
    return name == prefix or name.startswith(f"{prefix}.")


def factor(name: str, scale: Scale) -> float:
    """The factor of a parameter or module: that of the longest name that it is below; 1 if it is below none."""
    fitting = [prefix for prefix in scale if below(name, prefix)]
    return scale[max(fitting, key=len)] if fitting else 1.0


def check_scale(parameters: Named, scale: Scale) -> None:
    """Refuse names without a parameter, and a scale that freezes everything."""
    names = [name for name, _ in parameters]
    for prefix in scale:
        if not any(below(name, prefix) for name in names):
            top = sorted({name.split(".")[0] for name in names})
            raise FerlError(f"model.lr_scale: there is no parameter below {prefix!r}; the top names are {top}")
        if not scale[prefix] >= 0:
            raise FerlError(f"model.lr_scale: {prefix} has the factor {scale[prefix]}, expected a number from 0")
    if names and all(factor(name, scale) == 0 for name in names):
        raise FerlError("model.lr_scale: every factor is 0, so nothing is left to train; leave a part out of it")


def parameter_groups(parameters: Named, scale: Scale, decay_all: bool) -> tuple[list[dict[str, Any]], list[float]]:
    """The trained parameters as groups for an optimiser, and the factor of each group.

    Args:
        parameters: with their names.
        scale: factors by name.
        decay_all: leave weight decay to the optimiser; else vectors, such as biases and those of batch norm, have none.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in parameters:
        if parameter.requires_grad:
            decayed = decay_all or parameter.ndim > 1
            groups.setdefault((factor(name, scale), decayed), []).append(parameter)
    made = [{"params": found} | ({} if decayed else {"weight_decay": 0.0}) for (_, decayed), found in groups.items()]
    return made, [value for value, _ in groups]


def scale_rates(optimizer: Optimizer, factors: Iterable[float]) -> None:
    """Multiply the rate of each group by its factor. Do this before a schedule is made."""
    for value, group in zip(factors, optimizer.param_groups, strict=True):
        group["lr"] *= value


def scale_schedule(scheduler: LRScheduler, factors: list[float]) -> None:
    """Scale the rates that a schedule has put in the place of those of the optimiser."""
    if isinstance(scheduler, CyclicLR) and factors != [1.0]:
        raise FerlError("model.lr_scale: CyclicLR sets every rate itself; use another scheduler, such as OneCycleLR")
    if isinstance(scheduler, OneCycleLR):
        for value, group in zip(factors, scheduler.optimizer.param_groups, strict=True):
            group.update({key: group[key] * value for key in ("lr", "initial_lr", "max_lr", "min_lr")})


def fuse(optimizer: Optimizer) -> None:
    """Let torch's Adam, AdamW and SGD update each parameter in one pass, unless another way was asked for.

    The update is the same. Torch's own choice on a CPU is a dozen small operations for every parameter, which take up
    to a tenth of a step of 16 faces.
    """
    if not isinstance(optimizer, (Adam, AdamW, SGD)):
        return
    for group in optimizer.param_groups:
        chosen = group["foreach"] is not None or group["fused"] is not None or group["differentiable"]
        if not chosen and all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in group["params"]):
            group["fused"] = True  # not by its constructor: Lightning then refuses to clip gradients in mixed precision


def replay(optimizer: Optimizer) -> None:
    """Replay the updates of an optimiser as a CUDA graph if it supports that but is not fused, such as timm's Muon.

    It makes up to hundreds of small operations. The rates, which a schedule changes, are inputs of the graph.
    """
    groups, usual = optimizer.param_groups, optimizer.step
    parameters = [parameter for group in groups for parameter in group["params"]]
    if not all("capturable" in group and not group.get("fused") for group in groups):
        return
    for group in groups:
        group["capturable"] = True
    for parameter, state in optimizer.state.items():
        state |= {key: x.to(parameter.device) for key, x in state.items() if isinstance(x, Tensor)}

    def update(rates: dict[str, Tensor]) -> None:
        numbers = [group["lr"] for group in groups]
        for group, rate in zip(groups, rates.values(), strict=True):
            group["lr"] = rate
        usual()
        for group, number in zip(groups, numbers, strict=True):
            group["lr"] = number

    def constants() -> dict[str, object]:
        places = tuple(0 if p.grad is None else p.grad.data_ptr() for p in parameters)
        options = [{key: x for key, x in group.items() if key not in ("lr", "params")} for group in groups]
        return {"gradients": places, "options": options}

    captured = Captured("The optimizer's update", update, constants)

    def step(closure: Callable[[], Any] | None = None) -> Any:
        with torch.enable_grad():
            loss = None if closure is None else closure()
        captured.refresh()
        device = parameters[0].device
        captured({str(i): torch.full((), float(group["lr"]), device=device) for i, group in enumerate(groups)})
        return loss

    optimizer.step = step  # type: ignore[method-assign]

"""What must be known of a result to check or repeat it: versions, revision, configuration, data, device, cost."""

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from lightning import LightningModule, Trainer
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

_counted: WeakKeyDictionary[torch.nn.Module, dict[tuple[torch.Size, ...], int]] = WeakKeyDictionary()
"""Multiply-adds by model and shapes: a training shows them at its start, and its reports have them again."""
PACKAGES = ("ferlightning", "torch", "lightning", "torchmetrics", "numpy")


def provenance(
    trainer: Trainer,
    pl_module: LightningModule,
    item: tuple[Tensor, ...],
    seconds: float,
    n: int,
    config: dict[str, Any] | None,
) -> dict[str, Any]:
    """Return everything that the protocol asks of a result file, as values for JSON.

    Args:
        trainer: of the evaluation.
        pl_module: the model.
        item: arguments of the model's ``forward`` for one item.
        seconds: wall time of the evaluation.
        n: number of items evaluated, on all devices.
        config: the configuration that the command line resolved; None without one.
    """
    seed = os.environ.get("PL_GLOBAL_SEED")  # left by lightning's seed_everything
    datamodule: Any = getattr(trainer, "datamodule", None)
    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "checkpoint": os.path.relpath(trainer.ckpt_path) if trainer.ckpt_path else None,
        "seed": None if seed is None else int(seed),
        "versions": versions(),
        "git_revision": git_revision(),
        "date": datetime.now().astimezone().isoformat(" ", "minutes"),
        "data_set": None if datamodule is None else type(datamodule).__name__,
        "network": network_name(pl_module),
        "data": datamodule.fingerprint() if hasattr(datamodule, "fingerprint") else None,
        "device": device_name(pl_module.device),
        "devices": trainer.world_size,
        "precision": str(trainer.precision),
        "seconds": seconds,
        "images_per_second": n / seconds,
        "parameters": sum(p.numel() for p in pl_module.parameters()),
        "multiply_adds": multiply_adds(pl_module, *item),
        "config": config,
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that make the numbers.

    Each package is asked itself: one that runs from its source folder has no metadata of an installation.
    """
    found = {name: str(getattr(import_module(name), "__version__", "unknown")) for name in PACKAGES}
    return {"python": platform.python_version()} | found


def git_revision() -> str | None:
    """Return the commit checked out in the working folder, with "-dirty" if files differ; None without git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]  # --exclude: hash, not a tag
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def network_name(model: torch.nn.Module) -> str:
    """The parts of a network in their order; the class of any other model."""
    slots = ("restorer", "backbone", "sequence", "attention", "head")
    parts = [getattr(getattr(model, "network", None), slot, None) for slot in slots]
    return " → ".join(type(part).__name__ for part in parts if part is not None) or type(model).__name__


def device_name(device: torch.device) -> str:
    """Return the name of a GPU, or the architecture and thread count of a CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        return f"cpu ({platform.machine()}, {torch.get_num_threads()} threads)"
    return str(device)


@contextmanager
def _plain_kernels() -> Iterator[None]:
    """Replace fused recurrent and attention kernels, which the counter cannot see, by plain matrix products."""
    mkldnn, fast_attention = torch.backends.mkldnn, torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with (
            mkldnn.flags(enabled=False, allow_tf32=mkldnn.allow_tf32),  # torch warns when its default is set on a CPU
            torch.backends.cudnn.flags(enabled=False),
            sdpa_kernel(SDPBackend.MATH),
        ):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_attention)


def multiply_adds(model: torch.nn.Module, *item: Tensor) -> int:
    """Count the multiply-adds of convolutions, matrix products and attention in one pass of ``model(*item)``."""
    shapes = tuple(x.shape for x in item)
    known = _counted.setdefault(model, {})
    if shapes not in known:
        training = model.training
        model.eval()
        with torch.no_grad(), _plain_kernels(), FlopCounterMode(display=False) as counter:
            model(*item)
        model.train(training)
        known[shapes] = int(counter.get_total_flops()) // 2
    return known[shapes]

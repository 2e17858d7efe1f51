"""Which number format a device is fast at."""

import os
import re
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.accelerators import AcceleratorRegistry

from ferlightning.errors import FerlError

PROCESSES = 16
"""The most that train on one processor: a test of the loading, no training."""


def check_precision(precision: str | int | None, accelerator: str) -> None:
    """Refuse a precision that the device lacks; torch would fail at the first convolution.

    Raises:
        FerlError: half precision throughout on a CPU without the instructions for it.
    """
    if precision in ("bf16-true", "16-true") and device(accelerator) == "cpu" and not cpu_has_bf16():
        raise FerlError(
            f"trainer.precision is {precision}, but this CPU has no instructions for it. Use 32-true, or bf16-mixed, "
            "which works here but is several times slower than 32-true"
        )


def fast_precision(accelerator: str) -> tuple[str, str]:
    """The precision that the device is fast at, and why.

    Mixed bfloat16 on CUDA of compute capability 8 and above and on CPUs with AVX-512 BF16 or AMX, mixed float16 on
    older CUDA, float32 elsewhere: without the instructions, mixed bfloat16 takes 6 to 10 times as long as float32.

    Args:
        accelerator: as in ``trainer.accelerator``.
    """
    kind = device(accelerator)
    if kind == "cuda":
        capability = torch.cuda.get_device_capability()
        text = f"the GPU has compute capability {capability[0]}.{capability[1]}"
        return ("bf16-mixed", text) if capability >= (8, 0) else ("16-mixed", text)
    if kind == "cpu":
        fast = cpu_has_bf16()
        return "bf16-mixed" if fast else "32-true", f"the CPU has {'' if fast else 'no '}instructions for bfloat16"
    return "32-true", f"mixed precision was not tried on {kind}"


def is_fast(precision: str | int | None, accelerator: str) -> bool:
    """Whether the device has instructions for a precision; float32 and float64 always count."""
    kind, half = device(accelerator), str(precision)
    if half.startswith("bf16"):
        return cpu_has_bf16() if kind == "cpu" else kind != "cuda" or torch.cuda.get_device_capability() >= (8, 0)
    return not half.startswith("16") or kind != "cpu"


def device(accelerator: str) -> str:
    """The kind of device that ``trainer.accelerator`` means here."""
    if accelerator in ("auto", "gpu", "cuda"):
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    return accelerator


def is_here(accelerator: str, devices: Any) -> bool:
    """Whether this machine has what ``trainer.accelerator`` and ``trainer.devices`` ask for."""
    kind = device(accelerator)
    try:
        chosen = AcceleratorRegistry[kind]["accelerator"]
        return (
            chosen.is_available()
            and (accelerator, kind) != ("gpu", "cpu")
            and (devices == "auto" or _enough(kind, chosen.parse_devices(devices)))
        )
    except (MisconfigurationException, LookupError, TypeError, ValueError):
        return False


def _enough(kind: str, devices: Any) -> bool:
    """Whether devices that were parsed are here; those of a CPU are processes, of which any number could be started."""
    return bool(devices) and (kind != "cpu" or devices <= (os.cpu_count() or 1))


def check_devices(accelerator: str, devices: Any) -> None:
    """Refuse devices as torch writes them, a GPU where torch sees none, and more processes than a CPU could run.

    Raises:
        FerlError: such as ``cuda:0``, or more than 16 processes for each processor.
    """
    for key, value in (("accelerator", accelerator), ("devices", devices)):
        found = re.fullmatch(r"(cuda|gpu|mps):?(\d*)", str(value))
        if found and (found[2] or key == "devices"):
            one = f" --trainer.devices=[{found[2]}]" if found[2] else ""
            raise FerlError(f"trainer.{key} is {value!r}: give --trainer.accelerator={found[1]}{one}")
    if accelerator in ("gpu", "cuda") and device(accelerator) == "cpu":
        raise FerlError(
            f"trainer.accelerator is {accelerator}, and torch finds no GPU here: install torch for your CUDA, or leave "
            "the option out, which takes the CPU"
        )
    most = PROCESSES * (os.cpu_count() or 1)
    if device(accelerator) == "cpu" and str(devices).isdigit() and int(devices) > most:
        raise FerlError(f"trainer.devices is {devices} on a CPU: this machine has processors for {most} at most")


def cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bfloat16 numbers itself: AVX-512 BF16 or AMX, or BF16 on Arm."""
    # Of torch, only recent versions tell. Linux says it of any processor; elsewhere the slower answer is the safe one.
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    words = {word for line in flags.splitlines() if line.startswith(("flags", "Features")) for word in line.split()}
    return bool(words & {"avx512_bf16", "amx_bf16", "bf16"})

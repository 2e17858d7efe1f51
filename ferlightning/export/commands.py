"""``ferl export``."""

from pathlib import Path
from typing import Literal

from ferlightning.checkpoint import checkpoint_of
from ferlightning.export.deployed import deployed
from ferlightning.export.onnx_file import write_onnx
from ferlightning.weights import REGISTRY


def export(
    model: str, out: str | None = None, format: Literal["onnx"] = "onnx", clips: bool | None = None, trust: bool = False
) -> None:
    """Write a trained model as a file that runs without ferlightning: images as bytes in, probabilities out.

    Args:
        model: a run folder, of which the best checkpoint is taken, a checkpoint, its safetensors file, or a name of
            shipped weights.
        out: the file that is written; null puts it beside the checkpoint, or into the working folder.
        format: onnx for ONNX Runtime.
        clips: take clips of any length, with a mask of their real frames, or stills; null: whichever it was trained
            on.
        trust: build parts of packages that are neither ours nor installed plug-ins; this runs their code.
    """
    found, known = deployed(model, clips, trust)
    path = (
        Path(out) if out else Path(f"{model}.onnx") if model in REGISTRY else checkpoint_of(model).with_suffix(".onnx")
    )
    gap = write_onnx(found, known, path)
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB; probabilities differ from torch's by {gap:.1e} at most")

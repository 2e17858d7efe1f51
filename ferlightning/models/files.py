"""Checkpoints that are written whole or not at all, with the weights beside them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO
from safetensors.torch import save
from torch import Tensor

from ferlightning.checkpoint import ENDS, HEADER, digest, head_of, header_of, network_state, read_checkpoint
from ferlightning.errors import FerlError
from ferlightning.files import replacing


class CheckpointFiles(CheckpointIO):
    """Writes a checkpoint to a new file that then takes the place of the old one, and its weights beside it.

    The weights are a safetensors file of the same name, with the header that ``load`` reads. A kill at any moment
    leaves the old files or the new ones.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        path = Path(path)
        try:
            with replacing(path) as temporary:
                torch.save(checkpoint, temporary)
            if HEADER in checkpoint:
                save_weights(path.with_suffix(".safetensors"), *weights_of(checkpoint))
        except (OSError, RuntimeError) as error:  # torch's writer wraps what the disk says
            raise FerlError(f"cannot write {path}: {error}. Make room, or choose another run folder") from error

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = True
    ) -> dict[str, Any]:
        return read_checkpoint(path, map_location or "cpu")

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)
        Path(path).with_suffix(".safetensors").unlink(missing_ok=True)


def weights_of(checkpoint: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What of a checkpoint its network and views need: tensors, and the header for them."""
    state, header = network_state(checkpoint["state_dict"]), dict(checkpoint[HEADER])
    header.pop("training", None)
    views, header["views"] = header.get("views", {}), {}
    for name, view in views.items():
        header["views"][name] = view | {"head": f"views.{name}"}
        state |= {f"views.{name}.{end}": x for end, x in zip(ENDS, head_of(checkpoint, view), strict=True)}
    return state, header


def ensemble_of(checkpoints: Mapping[str, dict[str, Any]]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights of several checkpoints as those of an ensemble, which ``load`` reads as one network.

    Args:
        checkpoints: what ``read_checkpoint`` has read, by the path or name to call it by.

    Raises:
        FerlError: the members differ in their classes, views or images.
    """
    state: dict[str, Tensor] = {}
    headers: list[dict[str, Any]] = []
    for i, (path, checkpoint) in enumerate(checkpoints.items()):
        tensors, header = weights_of(checkpoint)
        state |= {f"members.{i}.{name}": x for name, x in tensors.items()}
        headers.append(header)
        for what, one, other in zip(SHARED, _shared(headers[0]), _shared(header), strict=True):
            if one != other:
                raise FerlError(f"{path} and {next(iter(checkpoints))} cannot be one network: they differ in {what}")
    names, shape, views = _shared(headers[0])
    own = {name: {"class_names": view} for name, view in views.items()}
    return state, header_of(network={"class_names": names}, input=shape, views=own, members=headers)


SHARED = ("their classes", "their images", "their views")


def _shared(header: dict[str, Any]) -> tuple[Any, ...]:
    views = {name: view["class_names"] for name, view in header["views"].items()}
    images = header.get("input", {})
    if images:  # of weights that were written before headers told these
        images = {"clips": False, "margin": 0.0} | images
    return header["network"]["class_names"], images, views


def save_weights(path: Path, state: dict[str, Tensor], header: dict[str, Any]) -> None:
    """Write tensors as a safetensors file that ``load`` reads."""
    tensors = {name: x.detach().cpu().contiguous() for name, x in state.items()}
    with replacing(path) as temporary:
        temporary.write_bytes(save(tensors, {HEADER: json.dumps(header | {"sha256": digest(tensors)})}))

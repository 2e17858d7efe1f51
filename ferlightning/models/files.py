"""How a training writes its checkpoints: whole or not at all, with the weights beside them."""

import json
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO
from safetensors import SafetensorError
from safetensors.torch import save_file

from ferlightning.checkpoint import ENDS, HEADER, digest, network_state, read_checkpoint
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
                state = network_state(checkpoint["state_dict"])
                header = {name: x for name, x in checkpoint[HEADER].items() if name != "training"}
                header["views"] = {}
                for name, view in checkpoint[HEADER].get("views", {}).items():
                    header["views"][name] = view | {"head": f"views.{name}"}
                    state |= {f"views.{name}.{end}": checkpoint["state_dict"][f"{view['head']}.{end}"] for end in ENDS}
                tensors = {name: x.detach().cpu().contiguous() for name, x in state.items()}
                header["sha256"] = digest(tensors)
                metadata = {HEADER: json.dumps(header)}
                with replacing(path.with_suffix(".safetensors")) as temporary:
                    save_file(tensors, temporary, metadata)
        except (OSError, RuntimeError, SafetensorError) as error:  # torch's writer and Rust's wrap what the disk says
            raise FerlError(f"cannot write {path}: {error}. Make room, or choose another run folder") from error

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = True
    ) -> dict[str, Any]:
        return read_checkpoint(path, map_location or "cpu")

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)
        Path(path).with_suffix(".safetensors").unlink(missing_ok=True)

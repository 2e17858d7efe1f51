"""Reading a checkpoint, with one sentence for each way in which its file can be wrong."""

import pickle
from pathlib import Path
from typing import Any

import torch

from ferlightning.errors import FerlError


def read_checkpoint(path: str | Path, device: str = "cpu") -> dict[str, Any]:
    """What Lightning stored: ``state_dict`` and more.

    Args:
        path: of the file.
        device: where the tensors go; ``meta`` leaves their values out.

    Raises:
        FerlError: there is no such file, or it is damaged, or something else.
    """
    if not Path(path).is_file():
        raise FerlError(f"there is no checkpoint {path}")
    try:
        stored: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        dict(stored["state_dict"])
    except (pickle.UnpicklingError, EOFError, OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise FerlError(f"{path} is no checkpoint that can be read, or is cut short; use another one") from error
    return stored

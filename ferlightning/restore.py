"""A trained model from its run folder, without a trainer: for ensembles, pictures, distillation and export."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import LightningModule

from ferlightning.checkpoint import read_checkpoint
from ferlightning.cli.messages import explain
from ferlightning.cli.trainer import LINKED, FerlParser, RefusedError
from ferlightning.errors import FerlError
from ferlightning.plugins import load_plugins


class _Data:
    """Stands in for the data that a model was trained on: what the model takes from it."""

    def __init__(
        self,
        class_names: Sequence[str],
        class_counts: Sequence[int],
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        self.class_names, self.class_counts = list(class_names), list(class_counts)
        self.pixel_mean, self.pixel_std = list(pixel_mean), list(pixel_std)


def restore(checkpoint: str | Path) -> LightningModule:
    """Rebuild the model of a run from its ``config.yaml`` and one of its checkpoints, on the CPU and in eval mode.

    The parser of the command line builds it, so that a configuration means here what it means there. What serves
    training alone is left out: losses, factors of the learning rate and ``init_from``.

    Args:
        checkpoint: a file in the folder ``checkpoints`` of a run folder.

    Raises:
        FerlError: the file is missing, damaged, in no run folder, or does not fit the run's configuration.
    """
    path = Path(checkpoint)
    stored = read_checkpoint(path)
    config = path.resolve().parent.parent / "config.yaml"
    if not config.is_file():
        raise FerlError(f"{path} is in no run folder: there is no {config} that says how its model was built")
    state, names = dict(stored["state_dict"]), stored.get("class_names")
    if names is None:
        raise FerlError(f"{path} does not tell its classes: its model must store class_names in on_save_checkpoint")
    try:
        model = yaml.safe_load(config.read_text(encoding="utf-8"))["model"]
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise FerlError(f"{config} is not the configuration of a run: it has no model that can be read") from error

    options = model.setdefault("init_args", {})
    if "losses" in options:
        state = {name: x for name, x in state.items() if not name.startswith("losses.")}
    for_training: dict[str, Any] = {"losses": [], "lr_scale": None, "init_from": None}
    options |= {name: value for name, value in for_training.items() if name in options}
    moments = {f"pixel_{name}": state[name].flatten().tolist() for name in ("mean", "std") if name in state}
    data = {"class_names": names, "class_counts": [1] * len(names), "pixel_mean": [0.5], "pixel_std": [0.25]} | moments

    load_plugins()
    parser = FerlParser()
    parser.add_class_arguments(_Data, "data")
    parser.add_lightning_class_args(LightningModule, "model", subclass_mode=True)
    for name in LINKED:
        parser.link_arguments(f"data.{name}", f"model.init_args.{name}", apply_on="instantiate")
    with torch.random.fork_rng(devices=[]):  # first weights are drawn, and would shift the draws of a run going on
        try:
            built = parser.instantiate_classes(parser.parse_object({"data": data, "model": model}))
        except RefusedError as error:
            raise FerlError(f"{config}: {explain(str(error))}") from None
    restored: LightningModule = built.model
    restored.on_load_checkpoint({**stored, "state_dict": state})
    restored.load_state_dict(state)
    return restored.eval()

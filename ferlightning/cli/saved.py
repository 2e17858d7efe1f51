"""What a checkpoint or a file of weights says of a command: the run's configuration, its network, and its classes."""

import json
import pydoc
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ferlightning.checkpoint import CONFIG, HEADER, checkpoint_of, read_checkpoint, read_header, require_plugins
from ferlightning.cli import index
from ferlightning.cli.configs import read
from ferlightning.cli.precision import device, is_fast, is_here
from ferlightning.cli.run_folder import is_first, run_of
from ferlightning.cli.trust import vet
from ferlightning.cli.words import values
from ferlightning.data.classes import OTHERS
from ferlightning.emotions import canonical
from ferlightning.errors import FerlError
from ferlightning.weights import find_weights

GENTLE = {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.0001}}
"""A tenth of the usual learning rate keeps what weights know: on 400 faces in poor light it is worth 9 points."""


def read_saved(checkpoint: str, args: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the configuration of a checkpoint's run, and the checkpoint's header, which may be empty.

    The configuration is that of the run folder, or else of the checkpoint itself.

    Args:
        checkpoint: path, or a name of ours.
        args: the command and its options.

    Raises:
        FerlError: there is no such file, or it does not fit the command.
    """
    path, fit, trust = find_weights(checkpoint), args[0] == "fit", "--trust" in args
    stored = read_checkpoint(path, device="meta")
    header = read_header(stored, path) if HEADER in stored else {}
    if not trust:
        require_plugins(header, path)
    weights_only = path.suffix == ".safetensors"
    if weights_only and fit:
        raise FerlError(f"--ckpt_path: {path} has weights only; start from them by --from={shlex.quote(str(path))}")
    saved = vet(*_configuration(path, stored, header), trust)
    trainer = saved.setdefault("trainer", {})
    accelerator, devices = trainer.get("accelerator", "auto"), trainer.get("devices", "auto")
    if not fit:
        trainer.pop("num_nodes", None)  # it would wait for the others
    if not fit and not is_here(accelerator, devices):
        trainer |= {"accelerator": "auto", "devices": "auto", "strategy": "auto"}
        if not values(args, "trainer.accelerator", "trainer.devices") and is_first():
            print(f"The run used accelerator {accelerator} (devices: {devices}), which is not here: this uses what is")
        accelerator = "auto"
    if header.get("device") != device(accelerator) and not is_fast(trainer.get("precision"), accelerator):
        trainer["precision"] = None  # what was fast on that device is not fast on this one
    made_of = saved["model"].get("init_args", {})
    if not fit:  # the checkpoint has all weights
        made_of.pop("init_from", None)
        _start_from_nothing(made_of)
    if weights_only:  # losses have tensors of their own
        made_of.pop("losses", None)
    return saved, header


def training_data(model: str, trust: bool = False) -> dict[str, Any] | None:
    """Class path and options of the data that a model was trained on, and print which; None where it does not say.

    Args:
        model: a run folder, a checkpoint or a name.
        trust: take classes of any package.
    """
    path = find_weights(checkpoint_of(model))
    if not path.is_file():  # whoever reads it says so
        return None
    stored = read_checkpoint(path, device="meta")
    found = vet(*_configuration(path, stored, stored[HEADER]), trust).get("data") if HEADER in stored else None
    if found and "class_path" in found:
        root = found.get("init_args", {}).get("root")
        print(
            f"Training images: those of the run, {found['class_path'].rpartition('.')[2]}{f', {root}' if root else ''}"
        )
    return found


def _configuration(path: Path, stored: Mapping[str, Any], header: Mapping[str, Any]) -> tuple[Any, Path]:
    """The configuration of a checkpoint, and the file that it is from."""
    run = run_of(path)
    if run:
        return read(run / "config.yaml"), run / "config.yaml"
    if CONFIG in stored:
        return stored[CONFIG], path
    if "members" in header:
        return {"model": {"class_path": "Ensemble", "init_args": {"checkpoints": [str(path)]}}}, path
    if header:  # trained in Python
        return _classifier(header["network"] | header.get("training", {})), path
    missing = path.resolve().parent.parent / "config.yaml"
    raise FerlError(f"--ckpt_path: {path} does not say how its model was built, and there is no {missing}")


def _classifier(options: Mapping[str, Any]) -> dict[str, Any]:
    made_of = {name: value for name, value in options.items() if name not in index.LINKED}
    return {"model": {"class_path": "Classifier", "init_args": made_of}}


def with_network(args: list[str], start: str) -> list[str]:
    """Put the network of a file of weights, and what it is trained on by, before all other words."""
    path = find_weights(start)
    header = read_header(read_checkpoint(path, device="meta"), path)
    require_plugins(header, path)
    if "members" in header:
        raise FerlError(f"--from: {start} is an ensemble, which is not trained on; start from one of its members")
    config = _classifier(header["network"])
    _start_from_nothing(config)
    model = vet(config, path, "--trust" in args)["model"]
    model["init_args"]["optimizer"] = GENTLE
    return [args[0], "--config", json.dumps({"model": model}), *args[1:], *images_of(header, args)]


def images_of(header: Mapping[str, Any], args: Sequence[str]) -> list[str]:
    """Words that read the data named in ``args`` as the network takes its images, where nothing else is said."""
    kind = index.parts("data").get(next(reversed(values(args, "data")), ""))
    known = {*((index.options(kind) or {}) if kind else {})}
    for path in values(args, "config", "c"):
        data = read(Path(path)).get("data") if Path(path).is_file() else None
        known -= {*(data.get("init_args") or {})} if isinstance(data, dict) else set()
    images = header.get("input", {})
    wanted = {"size": images.get("read_size"), "color": images.get("color"), "preprocess": images.get("preprocess")}
    return [
        f"--data.{name}={json.dumps(value)}"
        for name, value in wanted.items()
        if name in known and value is not None and not values(args, f"data.{name}")
    ]


def _start_from_nothing(options: Any) -> None:
    """Switch off pretrained weights that a checkpoint replaces."""
    for value in options.values() if isinstance(options, dict) else options if isinstance(options, list) else ():
        _start_from_nothing(value)
    if isinstance(options, dict) and "pretrained" in options:
        options["pretrained"] = False


def take_classes(data: Any, header: Mapping[str, Any]) -> bool:
    """Match the classes of other data than the training data by name: they may differ, and be in another order.

    Args:
        data: class path and options of the data, which are changed.
        header: of the checkpoint.

    Returns:
        Whether they are those of a view of the network, for which the losses of its training were not made.
    """
    options = data.get("init_args", {})
    given = options.get("classes", "")
    if given is not None and not isinstance(given, dict):
        return False
    # A view of the network may tell apart just what the data has.
    kind: Any = pydoc.locate(data.class_path)
    own = sorted(getattr(kind, "label_names", []))
    views = [view["class_names"] for view in header.get("views", {}).values()]
    fitting = [names for names in views if sorted(names) == own]
    names = fitting[0] if fitting else header.get("network", {}).get("class_names")
    if given is None:
        options["classes"] = names
    elif names:  # in the model's order, without those that it does not know
        given = {canonical(str(name)): new for name, new in given.items()}
        same = {name: name for name in names}
        options["classes"] = {f"={name}": name for name in names} | same | {OTHERS: None} | given
    return bool(fitting) and sorted(header["network"]["class_names"]) != own

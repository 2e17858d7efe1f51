"""What a run folder may say: its configuration is data, and nothing that it names is run unless it is a part.

A run folder, or a checkpoint, may come from a stranger. What the user types is not looked at here.
"""

import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback
from lightning.pytorch.callbacks import LambdaCallback
from lightning.pytorch.loggers import Logger

from ferlightning.checkpoint import trusted_packages
from ferlightning.errors import FerlError

SECTIONS = ("seed_everything", "trainer", "model", "data")
"""What is taken from a saved configuration; the rest are arguments of one command."""
NOT_TAKEN = ("profiler", "plugins", "default_root_dir")
"""Options of the trainer that only the user may give: they write elsewhere, or change how files are read."""
LIBRARIES = ("albumentations", "kornia", "torchmetrics")
DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


def vet(config: Any, source: Path, trust: bool) -> dict[str, Any]:
    """Take from a saved configuration what a run folder may say.

    Args:
        config: as read from the file.
        source: the file, for messages.
        trust: take classes and functions of any package.

    Raises:
        FerlError: it is no configuration, or it names something to run that is no part of ours, of the libraries that
            we build on, or of an installed plug-in.
    """
    if not isinstance(config, dict) or not isinstance(config.get("model", {}), dict):
        raise FerlError(f"{source} is not the configuration of a run: it has no model that can be read")
    taken = {key: config[key] for key in SECTIONS if key in config}
    trainer = taken.get("trainer")
    if isinstance(trainer, dict):
        taken["trainer"] = {key: value for key, value in trainer.items() if key not in NOT_TAKEN}
    if not trust:
        for section, value in taken.items():
            _check(value, section, source)
    return taken


def _check(value: Any, key: str, source: Path) -> None:
    if isinstance(value, dict):
        for name, item in value.items():
            _check(item, key if name == "class_path" else f"{key}.{name}", source)
    elif isinstance(value, list):
        for item in value:
            _check(item, key, source)
    elif isinstance(value, str) and DOTTED.fullmatch(value) and not _safe(value, key):
        raise FerlError(
            f"{source}: {key.replace('.init_args', '')} names {value}, which is no part of ferlightning or of an "
            "installed plug-in; nothing was run. If you trust this run folder, say so with --trust"
        )


def _safe(name: str, key: str) -> bool:
    """Whether a dotted name is a class that may be built, or only looks like the name of something in Python."""
    package = name.partition(".")[0]
    ours = package in trusted_packages() or package in LIBRARIES
    in_trainer = key.startswith("trainer.")
    try:
        if not ours and not in_trainer:
            found = find_spec(package)  # a folder beside the user may look like a package without a file of its own
            return found is None or found.origin is None
        target = _import(name)
    except (ImportError, ValueError):
        return True  # a text such as a file's name; a class that is missing is told by the parser
    if not callable(target):
        return True
    kinds = (Callback, Logger) if in_trainer and not ours else (object,)
    return isinstance(target, type) and issubclass(target, kinds) and not issubclass(target, LambdaCallback)


def _import(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(import_module(module), attribute, None)

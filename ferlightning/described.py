"""Parts and their options as plain values, and back: what configurations, checkpoints and stores keep of them.

Nothing that a file names is run: a class is built only if it is a part of ours or of an installed plug-in.
"""

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ferlightning.errors import FerlError
from ferlightning.plugins import installed

OURS = ("ferlightning", "torch", "timm", "lightning")
"""Packages whose parts, optimisers and schedulers may always be built."""
KINDS = (nn.Module, Optimizer, LRScheduler)


def describe(value: Any) -> Any:
    """Turn options of a model into plain values; a class, or a partial of one, becomes a class path with arguments.

    Raises:
        FerlError: the value is something else, such as a function or an object of a class that is no part.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, type):
        return _described(value, {})
    if isinstance(value, partial):
        # The command line's parser puts functions of its own before the class.
        given = [value.func, *value.args]
        classes = [item for item in given if isinstance(item, type)]
        if len(classes) == 1 and given[-1] is classes[0]:
            return _described(classes[0], value.keywords)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _described(type(value), {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init})
    if isinstance(value, Sequence):
        return [describe(item) for item in value]
    shown = repr(value).partition("\n")[0]
    raise FerlError(
        f"{shown:.80} is no plain value: give a class, or a functools.partial of a class, with plain options"
    )


def _described(target: type, options: Mapping[str, Any]) -> dict[str, Any]:
    name = f"{target.__module__}.{target.__qualname__}"
    if target.__module__ == "__main__":
        warnings.warn(f"no other process can import {name}, to rebuild the model: move it into a module", stacklevel=2)
    return {"class_path": name, "init_args": {key: describe(item) for key, item in options.items()}}


def rebuild(value: Any, trust: bool = False) -> Any:
    """Turn plain values back into options: a class path with arguments becomes a partial of the class.

    Args:
        value: of ``describe``.
        trust: take classes of any package.

    Raises:
        FerlError: a class is of a package that is neither ours nor an installed plug-in, or is no part.
    """
    if isinstance(value, Mapping):
        if "class_path" not in value:
            return {key: rebuild(item, trust) for key, item in value.items()}
        target = trusted_class(str(value["class_path"]), trust)
        options = {key: rebuild(item, trust) for key, item in value.get("init_args", {}).items()}
        if "pretrained" in options:  # the weights come from the file
            options["pretrained"] = False
        return target(**options) if dataclasses.is_dataclass(target) else partial(target, **options)
    return [rebuild(item, trust) for item in value] if isinstance(value, list | tuple) else value


def trusted_packages() -> set[str]:
    """Packages whose parts may be built from a file: ours, the libraries that we build on, and installed plug-ins."""
    return {*OURS, *(entry.value.partition(":")[0].partition(".")[0] for entry in installed())}


def trusted_class(path: str, trust: bool = False, kinds: tuple[type, ...] = KINDS) -> type:
    """Import a class that a file names, if that is safe.

    Args:
        path: ``package.module.Class``.
        trust: take classes of any package.
        kinds: what it must be a subclass of; dataclasses of ours pass too.

    Raises:
        FerlError: it is of another package, cannot be imported, or is something else.
    """
    module, _, name = path.rpartition(".")
    if not trust and (path.partition(".")[0] not in trusted_packages() or "__main__" in path):
        raise FerlError(
            f"refused to build {path}, which the file names: it is of no installed plug-in, so this would run code "
            "that the file chooses. If you trust the file, say so with --trust (in Python: load it by "
            "ferlightning.load(..., trust=True))"
        )
    try:
        target = getattr(import_module(module), name)
    except Exception as error:  # its module is run
        raise FerlError(f"{path}, which the file names, cannot be imported: {error}. Install its package") from error
    options_of_ours = module.startswith("ferlightning.") and dataclasses.is_dataclass(target)
    if isinstance(target, type) and (issubclass(target, kinds) or options_of_ours):
        return target
    raise FerlError(f"refused to build {path}, which the file names: it is no part, optimiser or schedule")

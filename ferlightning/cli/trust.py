"""Vet run folders: their configuration is data, and nothing that it names is run unless it is a part.

A run folder, or a checkpoint, may come from a stranger. What the user types is not looked at here.
"""

import ast
import json
import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.callbacks import LambdaCallback

from ferlightning.bounded_yaml import load
from ferlightning.described import trusted_packages
from ferlightning.errors import FerlError
from ferlightning.files import at_home

SECTIONS = ("seed_everything", "trainer", "model", "data", "test_after_fit")
"""What is taken from a saved configuration; the rest are arguments of one command."""
NOT_TAKEN = ("profiler", "plugins", "default_root_dir")
"""Options of the trainer that only the user may give: they write elsewhere, or change how files are read."""
LIBRARIES = ("albumentations", "kornia", "torchmetrics")
FILES = ("root", "predict_folder", "folder", "init_from", "teacher", "checkpoints", "pretrained")
"""Options that name files to be read as data."""
PLACES = ("dirpath", "filename", "name", "version", "sub_dir", "save_dir", "dir", "log_dir")
"""Options of callbacks and loggers that say where files are written."""
URL = re.compile(r"[A-Za-z][\w+.-]*:/")
"""A server that a logger tells everything to, keys of accounts included, or a place in its file system."""
DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


def vet(config: Any, source: Path, trust: bool) -> dict[str, Any]:
    """Take from a saved configuration what a run folder may say.

    Args:
        config: as read from the file.
        source: the file, for messages.
        trust: take classes and functions of any package, and files outside the run folder.

    Raises:
        FerlError: it is no configuration, or it names something to run that is no part of ours, of the libraries that
            we build on, or of an installed plug-in, or a place outside the run folder to write to.
    """
    taken = {key: config[key] for key in SECTIONS if key in config} if isinstance(config, dict) else {}
    trainer, model, data = (taken.get(key) for key in ("trainer", "model", "data"))
    mapping = all(isinstance(x, dict | None) for x in (trainer, model, data))
    options = [x.get("init_args", {}) for x in (model, data) if isinstance(x, dict)]
    if not model or not mapping or not all(isinstance(x, dict) for x in options):
        raise FerlError(f"{source} is not the configuration of a run: it has no model that can be read")
    taken["trainer"] = {key: value for key, value in (trainer or {}).items() if key not in NOT_TAKEN}
    try:
        plain: dict[str, Any] = json.loads(json.dumps(taken, default=str))
        if not trust:
            for section, value in plain.items():
                _check(value, section, source)
    except (TypeError, ValueError, RecursionError) as error:  # such as a date as a key
        raise FerlError(f"{source} is not the configuration of a run: {error}") from None
    return plain


def _check(value: Any, key: str, source: Path) -> None:
    if isinstance(value, dict):
        for name, item in value.items():
            if name == "class_path" and not isinstance(item, str):
                raise ValueError(f"{key} names {item!r} as a class")
            _check(item, key if name == "class_path" else f"{key}.{name}", source)
    elif isinstance(value, list):
        for item in value:
            _check(item, key, source)
    elif isinstance(value, str):
        _check_text(value.strip(), key, source)


def _check_text(text: str, key: str, source: Path) -> None:
    """Check what the parser would make of a text: a class, a file with more configuration, or YAML."""
    shown, last = key.replace(".init_args", ""), key.rpartition(".")[2]
    refused = f"{source}: {shown} names {text[:200]}, which is no part of ferlightning or of an installed plug-in"
    elsewhere = last in PLACES and (Path(text).is_absolute() or ".." in Path(text).parts)
    if key.startswith("trainer.") and (elsewhere or URL.match(text)):
        refused = f"{source}: {shown} is {text[:200]}, a place outside the run folder"
    elif last in FILES:
        return
    elif not _is_file(text, source):
        if DOTTED.fullmatch(text):
            if _safe(text, key):
                return
        else:
            try:
                inside = load(text)
            except yaml.YAMLError:
                return
            except OverflowError as error:
                raise FerlError(f"{source}: {shown}: {error}") from None
            if inside != text and isinstance(inside, dict | list):
                _check(inside, key, source)
            return
    raise FerlError(f"{refused}; nothing was run. If you trust this run folder, say so with --trust")


def _is_file(text: str, source: Path) -> bool:
    """Whether the parser would read a text as the path of a file with more configuration."""
    try:
        return at_home(text).is_file() or (source.parent / text).is_file()
    except (OSError, ValueError):  # too long for a path, or with a null character
        return False


def _safe(name: str, key: str) -> bool:
    """Whether a dotted name is a class that may be built, or only looks like the name of something in Python."""
    package = name.partition(".")[0]
    if package in trusted_packages() or package in LIBRARIES:
        try:
            target = getattr(import_module(name.rpartition(".")[0]), name.rpartition(".")[2], None)
        except (ImportError, ValueError):
            return True  # a text; a class that is missing is told by the parser
        return not callable(target) or (isinstance(target, type) and not issubclass(target, LambdaCallback))
    try:
        found = find_spec(package)
    except (ImportError, ValueError):
        found = None
    if found is None or found.origin is None:  # a folder beside the user may look like a package without a file
        return not (Path(f"{package}.py").is_file() or Path(package, "__init__.py").is_file())
    # The user's own callback or logger: not imported before its source says that it is one.
    return key.startswith("trainer.") and _defines(found, name)


def _defines(spec: Any, name: str) -> bool:
    """Whether the source of a module has a class of this name that is a callback or logger by its bases."""
    _, *inner, wanted = name.split(".")
    place = Path(spec.origin)
    if inner:
        place = place.parent.joinpath(*inner).with_suffix(".py")
    try:
        tree = ast.parse(place.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return False
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == wanted]
    bases = [ast.unparse(base) for node in classes for base in node.bases]
    return any(base.endswith(("Callback", "Logger", "Checkpoint", "Stopping")) for base in bases)

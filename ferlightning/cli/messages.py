"""Turn the parser's long account of a mistake into one sentence: the key, what was found, what may be meant."""

import re
import sys
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any, Never

from ferlightning import plugins
from ferlightning.cli import index
from ferlightning.plugins import SLOTS

TOP_LEVEL = ("seed_everything", "trainer", "model", "data", "test_after_fit", "ckpt_path", "config")
LIBRARIES = {
    "callbacks": "lightning.pytorch.callbacks",
    "logger": "lightning.pytorch.loggers",
    "optimizer": "torch.optim",
    "scheduler": "torch.optim.lr_scheduler",
}
"""Where the classes are that fill keys other than slots."""
WARM_UP = (
    "a configuration cannot give a scheduler others to run. For a warm-up: --model.scheduler=torch.optim.lr_scheduler."
    "OneCycleLR --model.scheduler.max_lr=0.01 --model.scheduler.total_steps=STEPS --model.scheduler_interval=step"
)

HABITS = {
    "batch": "data.batch_size",
    "bs": "data.batch_size",
    "checkpoint": "ckpt_path",
    "data_dir": "data.root",
    "dropout": "model.head.dropout",
    "epoch": "trainer.max_epochs",
    "epochs": "trainer.max_epochs",
    "fp16": "trainer.precision",
    "gpu": "trainer.devices",
    "gpus": "trainer.devices",
    "image_size": "data.size",
    "img_size": "data.size",
    "learning_rate": "model.optimizer.lr",
    "lr": "model.optimizer.lr",
    "num_epochs": "trainer.max_epochs",
    "num_workers": "data.workers",
    "output_dir": "trainer.default_root_dir",
    "pretrained": "model.backbone.pretrained",
    "resume": "ckpt_path",
    "seed": "seed_everything",
    "wd": "model.optimizer.weight_decay",
    "weight_decay": "model.optimizer.weight_decay",
}
"""Options of other programs, and what they are called here."""
MOST_NAMES = 12
"""Of more, a message lists the first five."""


class RefusedError(Exception):
    """The parser's own message, which is shortened once all nested parsers have reported."""


class Refusing:
    """A parser that takes no abbreviations, and raises where jsonargparse's own prints the usage and exits."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **options})

    def error(self, message: str, ex: Exception | None = None) -> Never:
        raise RefusedError(message) from ex


def explain(message: str, known: Sequence[str] = TOP_LEVEL) -> str:
    """Shorten a message of jsonargparse; one that fits no pattern is returned as it is.

    Args:
        message: what the parser says, which for nested classes tells every type that was tried.
        known: options of the command.
    """
    key, reasons = _deepest(message)
    if found := re.search(r"does not accept option '([^']+)'|[Uu]nrecognized arguments?: (?:--)?(\S+)", message):
        return _unknown_option((found[1] or found[2]).partition("=")[0], known)
    if found := re.search(r"Option '([^']+)' is not accepted", reasons):
        return f"{key} has no option {found[1]!r}{_hint(found[1], _option_names(key))}"
    if found := re.search(r"argument --(\S+): expected one argument", message):
        return f"--{found[1]} has no value: give one, such as --{found[1]}=true of a switch"
    if found := re.search(r"Multiple subclasses with name (\S+)\. .*?: (.+)\.", reasons):
        return f"{key}: {found[1]} is the name of several classes; give the full path of one: {found[2]}"
    if found := re.search(r"Expected a dot import path string: (\S+)|Expected a path but (\S+) either", reasons):
        return unknown_part(key, found[1] or found[2], slot_of(key))
    if found := re.search(r"arguments? (?:is|are) required: (.+)", reasons):
        missing = re.sub(r"^(fit|validate|test|predict)\.", "", found[1])
        return f"{key}: {WARM_UP}" if "schedulers=" in reasons else f"{key}: {missing} is missing".removeprefix(": ")
    if "Dict must include a class_path" in reasons:
        return f"{key} has no options before its class is chosen: give --{key}=NAME first"
    kinds = [_kind(kind) for kind in re.findall(r"Expected an? (.+?)(?:\. Got value: .*)?$", reasons, re.MULTILINE)]
    if key and kinds and (value := re.search(r"(?:Given|Got) value: (.+)", reasons)):
        return f"{key} is {value[1]!r}, expected {' or '.join(dict.fromkeys(kinds))}"
    return message


def unknown_part(key: str, name: str, slot: str | None) -> str:
    """Describe a class that does not exist, or that fits another slot.

    Args:
        key: where it was given, such as ``model.backbone``.
        name: the class.
        slot: that the key fills; None if it takes classes that are not parts, such as optimisers.
    """
    if slot is None:
        names = getattr(sys.modules.get(LIBRARIES.get(key.split(".")[-1], "")), "__all__", [])
        path = LIBRARIES.get(key.split(".")[-1], "package.module")
        return f"{key}: there is no class {name!r}{_hint(name, names) or f'; give its full path, as {path}.{name}'}"
    names = part_names(slot)
    if name.lower() in ("none", "false", "no", "off", ""):
        return f"{key}: there is no part called {name!r}; --{key}=null leaves it out"
    if name in names:
        return f"{key} is a list: give --{key}=[{name}], or --{key}+={name} to add to it"
    if "." in name:
        return f"{key}: there is no class {name!r} to import, neither in an installed package nor in the working folder"
    elsewhere = [other for other in SLOTS if other != slot and name in part_names(other)]
    text = f"{key}: there is no part called {name!r}{meant(name, names)}"
    if slot == "backbone" and re.search(r"\d", name) and _is_timms(name):
        return f"{key}: {name} is one of timm's: give --{key}=Timm --{key}.name={name}"
    return text + (f". {name} is a {elsewhere[0]}." if elsewhere else ".") + " See `ferl components`"


def meant(name: str, known: Iterable[str]) -> str:
    """Return a hint: close names; else what other programs call it, or all names if they are few."""
    known = list(known)
    if close := _close(name, known):
        return f" (did you mean {' or '.join(close)}?)"
    if habit := HABITS.get(name.replace("-", "_").lower()):
        return f" (did you mean --{habit}?)"
    if len(known) > MOST_NAMES:
        return f" (known: {', '.join(known[:5])} and {len(known) - 5} more)"
    return f" (known: {', '.join(known) or 'none'})"


def part_names(slot: str) -> list[str]:
    """Names of the parts that fit a slot; those of plug-ins too, once these are imported."""
    imported = plugins.parts(slot) if "ferlightning.parts" in sys.modules and slot in SLOTS else []
    return sorted({*index.parts(slot), *(part.__name__ for part in imported)})


def slot_of(key: str) -> str | None:
    """The slot that a key such as ``model.backbone`` fills."""
    last = key.split(".")[-1]
    last = "loss" if last == "losses" else last
    return next((slot for slot in index.BASES if last in slot.split(", ")), None)


def _deepest(message: str) -> tuple[str, str]:
    """The key of the innermost option that was refused, and what is said of it."""
    keys: list[str] = []
    reasons: list[str] = []
    depth = -1
    for line in filter(str.strip, message.splitlines()):
        indent = len(line) - len(line.lstrip(" -"))
        if keys and indent <= depth:
            break
        if found := re.match(r'[ -]*Parser key "([^"]+)"', line):
            keys, reasons, depth = [*keys, found[1]], [], indent
        else:
            reasons.append(line)
    for typed in re.findall(r"NestedArg\(key='([^']+)'", message):  # what the user typed tells every step
        if len(keys) > 1 and typed.endswith(f".{keys[-1]}"):
            keys = [keys[0], typed]
    return ".".join(keys), "\n".join(reasons)


def _kind(kind: str) -> str:
    """A type as a person would call it."""
    kind = kind.removeprefix("<class '").removesuffix("'>")
    if kind.startswith("typing.Literal"):
        return kind.removeprefix("typing.Literal[").removesuffix("]").replace(", ", " or ")
    return {"NoneType": "null", "collections.abc.Sequence": "a list, such as [a,b]"}.get(kind, kind)


def _unknown_option(option: str, known: Sequence[str]) -> str:
    head, _, rest = option.partition(".")
    if rest and head in known:
        name = rest.split(".")[0]
        return f"{head} has no option {name!r}{_hint(name, _option_names(head))}"
    return f"there is no option {option!r}{meant(head, known)}"


def _option_names(key: str) -> set[str]:
    """Names of the options that a key may have, whichever of its parts is chosen; none if they are not known."""
    if key == "trainer":
        return {*index.trainer_options()}
    slot = slot_of(key)
    parts = index.parts(slot).values() if slot else []
    return {name for part in parts for name in index.options(part) or {}}


def _hint(name: str, known: Iterable[str]) -> str:
    close = [other for other in _close(name, known) if other != name]
    return f" (did you mean {' or '.join(close)}?)" if close else ""


def _close(name: str, known: Iterable[str]) -> list[str]:
    """At most three close names, ignoring case; else those that contain the name."""
    short = {other.replace("-", "_").lower(): other for other in known}
    wanted = name.replace("-", "_").lower()
    found = get_close_matches(wanted, short, 3) or [other for other in short if len(wanted) > 3 and wanted in other][:3]
    return [short[other] for other in found]


def _is_timms(name: str) -> bool:
    import timm  # late, for a mistake alone

    return bool(timm.is_model(name))

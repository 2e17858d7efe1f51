"""From the parser's long account of a mistake to one sentence: which key, what was found, what is meant perhaps."""

import inspect
import re
from difflib import get_close_matches

from lightning.pytorch import Trainer

from ferlightning.models.classifier import Classifier
from ferlightning.plugins import SLOTS, parts

TOP_LEVEL = ("seed_everything", "trainer", "model", "data", "test_after_fit", "ckpt_path", "config")


def explain(message: str) -> str:
    """Shorten a message of jsonargparse; one that fits no pattern is returned as it is.

    Args:
        message: what the parser says, which for nested classes tells every type that was tried.
    """
    key = ".".join(re.findall(r'Parser key "([^"]+)"', message))
    if found := re.search(r"does not accept option '([^']+)'|[Uu]nrecognized arguments?: (?:--)?(\S+)", message):
        return _unknown_option((found[1] or found[2]).partition("=")[0])
    if found := re.search(r"Option '([^']+)' is not accepted", message):
        return f"{key} has no option {found[1]!r}" + _meant(found[1], _option_names(key, found[1]))
    if found := re.search(r"Expected a dot import path string: (\S+)|Expected a path but (\S+) either", message):
        return _unknown_class(key, found[1] or found[2])
    values = re.findall(r"Expected an? (.+?)\. Got value: (.+)", message)
    if key and values:
        kind, value = values[0]
        return f"{key} is {value!r}, expected {kind.removeprefix('<class ').rstrip('>')}"
    return message


def _unknown_option(option: str) -> str:
    head, _, rest = option.partition(".")
    if head in ("trainer", "model", "data") and rest:
        name = rest.split(".")[0]
        return f"{head} has no option {name!r}" + _meant(name, _option_names(head, name))
    return f"there is no option {option!r}" + _meant(head, TOP_LEVEL)


def _unknown_class(key: str, name: str) -> str:
    slot = _slot(key)
    if slot is None:
        return f"{key}: there is no class {name!r}; give its full path, as package.module.{name}"
    names = [part.__name__ for part in parts(slot)]
    if name in names:
        return f"{key} is a list: give --{key}=[{name}], or --{key}+={name} to add to it"
    elsewhere = [other for other in SLOTS if other != slot and name in {part.__name__ for part in parts(other)}]
    text = f"{key}: there is no part called {name!r}" + _meant(name, names)
    return text + (f". {name} is a {elsewhere[0]}." if elsewhere else ".") + " See `ferl components`"


def _slot(key: str) -> str | None:
    """The slot that a key such as ``model.backbone`` fills."""
    last = key.split(".")[-1]
    last = "loss" if last == "losses" else last
    return next((slot for slot in SLOTS if last in slot.split(", ")), None)


def _option_names(key: str, option: str) -> list[str]:
    """Names of the options that are possible at a key; those of all parts where none of these is close."""
    if key == "trainer":
        return list(inspect.signature(Trainer).parameters)
    slot = _slot(key)
    own = _parameters(Classifier) if slot is None else [name for part in parts(slot) for name in _parameters(part)]
    anywhere = [name for slot in SLOTS for part in parts(slot) for name in _parameters(part)]
    return sorted(set(own if get_close_matches(option, own) else own + anywhere))


def _parameters(part: type) -> list[str]:
    return list(inspect.signature(part).parameters)


def _meant(name: str, known: list[str] | tuple[str, ...]) -> str:
    """A hint: the close names, or all of them if none is close."""
    close = get_close_matches(name, known, 3)
    return f" (did you mean {' or '.join(close)}?)" if close else f" (known: {', '.join(known)})"

"""From the parameters of a sweep file to Optuna's distributions; messages about keys that are not known."""

import json
import math
import re
from collections.abc import Collection
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from ferlightning.errors import FerlError


def distribution(path: Path, name: str, parameter: Any) -> BaseDistribution:
    """The values that a parameter may take, in Optuna's terms; categorical ones as JSON.

    Args:
        path: the file, for messages.
        name: of the parameter.
        parameter: what the file says about it.

    Raises:
        FerlError: W&B would draw from something else, or refuse it.
    """
    key = f"parameters.{name}"
    if isinstance(parameter, dict) and "parameters" in parameter:
        raise FerlError(
            f"{path}: {key} is nested; write the whole name, as {name}.{next(iter(parameter['parameters']))}"
        )
    check_keys(path, key, parameter, ("value", "values", "distribution", "min", "max", "q"))
    kind = parameter.get("distribution")
    if "value" in parameter and kind in (None, "constant"):
        return CategoricalDistribution([json.dumps(parameter["value"], default=str)])
    if "values" in parameter and kind in (None, "categorical"):
        listed = parameter["values"]
        if not isinstance(listed, list) or not listed:
            raise FerlError(f"{path}: {key}.values must be a list of at least one value")
        # A value that is there twice would be tried twice.
        return CategoricalDistribution(list(dict.fromkeys(json.dumps(value, default=str) for value in listed)))
    for end in parameter.keys() & {"min", "max", "q"}:
        if isinstance(parameter[end], bool) or not isinstance(parameter[end], int | float):
            hint = "; in YAML 1e-4 is a word, 1.0e-4 a number" if isinstance(parameter[end], str) else ""
            raise FerlError(f"{path}: {key}.{end} is {parameter[end]!r}, expected a number{hint}")
    low, high = parameter.get("min"), parameter.get("max")
    if low is None or high is None or low > high:
        raise FerlError(f"{path}: {key} needs value, values, or a min that is not above its max")
    whole = is_integer(low) and is_integer(high)
    kind = kind or ("int_uniform" if whole else "uniform")
    if kind != "q_uniform" and "q" in parameter:
        raise FerlError(f"{path}: {key} has a q, which only goes with distribution: q_uniform")
    if kind == "int_uniform" and whole:
        return IntDistribution(low, high)
    if kind == "uniform":
        return FloatDistribution(low, high)
    if kind == "log_uniform_values" and low > 0:
        return FloatDistribution(low, high, log=True)
    if kind == "log_uniform":  # of exponents
        return FloatDistribution(math.exp(low), math.exp(high), log=True)
    if kind == "q_uniform":
        q = parameter.get("q", 0)
        if q <= 0 or any(abs(end / q - round(end / q)) > 1e-9 for end in (low, high)):
            raise FerlError(f"{path}: {key}: needs a q, and min and max that are multiples of it: W&B rounds to these")
        if is_integer(q):
            return IntDistribution(round(low), round(high), step=q)
        return FloatDistribution(low, high, step=q)
    known = ("constant", "categorical", "int_uniform", "uniform", "q_uniform", "log_uniform_values", "log_uniform")
    if kind in known:
        raise FerlError(f"{path}: {key}: a distribution {kind} does not fit with {', '.join(parameter)} as they are")
    refuse(path, f"{key}.distribution: {kind}", known)


def values(kind: BaseDistribution) -> list[Any]:
    """All values of a distribution that has steps."""
    if isinstance(kind, CategoricalDistribution):
        return list(kind.choices)
    assert isinstance(kind, IntDistribution | FloatDistribution)
    assert kind.step is not None
    steps = range(round((kind.high - kind.low) / kind.step) + 1)
    found = [kind.low + i * kind.step for i in steps]
    return found if isinstance(kind, IntDistribution) else [round(value, 12) for value in found]


def is_integer(value: Any) -> bool:
    """Whether YAML read a whole number; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def check_keys(path: Path, where: str, mapping: Any, known: Collection[str]) -> None:
    """Refuse what is no mapping, or has a key that is not known."""
    if not isinstance(mapping, dict):
        raise FerlError(f"{path}: {where} must have keys, of {', '.join(known)}")
    for key in mapping:
        if key not in known:
            refuse(path, f"{where}.{key}".removeprefix("."), known)


def refuse(path: Path, what: str, known: Collection[str]) -> NoReturn:
    """Raise the error for something in a file that is not known, with what was perhaps meant."""
    close = get_close_matches(re.split(r"[.: ]", what)[-1], known, 1)
    raise FerlError(
        f"{path}: {what} is not supported"
        + (f"; did you mean {close[0]}?" if close else f"; known: {', '.join(known)}")
    )

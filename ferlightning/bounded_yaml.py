"""YAML from strangers, without multiplying aliases, endless nesting or numbers of thousands of digits."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml

VALUES = 100_000
"""The most values in a file, each alias counted as what it stands for."""


def load(text: str) -> Any:
    """A value from YAML. Its size is counted first, because merged aliases multiply while the value is made.

    Raises:
        OverflowError: it has more than ``VALUES`` values, is nested too deeply, or has a number of thousands of digits.
        yaml.YAMLError: it is no YAML, or has a key twice in one place.
    """
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if size(node, _below, {}) > VALUES:
            raise OverflowError(f"its aliases stand for more than {VALUES} values; write them out")
        _refuse_repeated_keys(node, set())
        return loader.construct_document(node)
    except RecursionError:
        raise OverflowError("it is nested too deeply") from None
    except ValueError as error:
        if "digits" in str(error):
            raise OverflowError("it has a number of thousands of digits") from None
        raise yaml.YAMLError(str(error)) from None  # such as a date that no calendar has
    finally:
        loader.dispose()


def plain(path: str) -> str:
    """Write a path so that no option reads it as another value: ./null, ./1e3 and ./[a]."""
    if path.startswith("~"):  # of which ~x would be a person's home
        return str(Path(path).absolute())
    try:
        safe = load(path) == path and path != "None" and not re.match(r"[.+-]?\d", path)
    except (yaml.YAMLError, OverflowError):
        safe = False
    return path if safe or Path(path).is_absolute() else f"./{path}"


def _refuse_repeated_keys(node: yaml.Node, seen: set[int]) -> None:
    """Refuse a key that is given twice: PyYAML silently takes the last value."""
    if id(node) in seen:
        return
    seen.add(id(node))
    keys = set()
    for pair in node.value if isinstance(node, yaml.MappingNode) else ():
        key = pair[0]
        if isinstance(key, yaml.ScalarNode):
            if key.value in keys and key.value != "<<":
                raise yaml.MarkedYAMLError(problem=f"{key.value} is given twice", problem_mark=key.start_mark)
            keys.add(key.value)
    for part in _below(node):
        _refuse_repeated_keys(part, seen)


def size(node: Any, below: Callable[[Any], Iterable[Any]], sizes: dict[int, float]) -> float:
    """Count the values in a node, each as often as it is met; infinite for a node that contains itself.

    Args:
        node: of a tree whose nodes may be shared, such as by aliases.
        below: the nodes directly below one.
        sizes: what was counted, by the identity of the node.
    """
    if id(node) not in sizes:
        sizes[id(node)] = float("inf")
        sizes[id(node)] = 1 + sum(size(part, below, sizes) for part in below(node))
    return sizes[id(node)]


def _below(node: yaml.Node) -> list[yaml.Node]:
    """The nodes directly below one: items, or keys and values; a scalar has none."""
    parts = [part for pair in node.value for part in (pair if isinstance(pair, tuple) else (pair,))]
    return [part for part in parts if isinstance(part, yaml.Node)]

"""The words of a command line, before any parser."""

import re
from collections.abc import Iterator, Sequence

KEY = re.compile(r"(?<=[{,])\s*([^\s'\"{}\[\],:*][^'\"{}\[\],:]*?)\s*:(?=\s)")
"""A key of a mapping by class without quotes. Names such as 1, yes and null are words there, and no other values."""

BY_CLASS = ("--data.classes", ".class_weights")
"""How the options end that take such a mapping."""


def in_order(args: Sequence[str]) -> list[str]:
    """Put the word that chooses a class before those that set its options, and write null for Python's None.

    W&B's agent writes None, and so does jsonargparse on its way to the parser of a nested class.
    """
    ordered: list[str] = []
    for arg in args:
        name, equals, value = arg.partition("=")
        arg = f"{name}=null" if value == "None" else arg
        if name.endswith(BY_CLASS) and value.startswith("{"):
            arg = f"{name}=" + KEY.sub(r" '\1':", value)
        options = [i for i, word in enumerate(ordered) if word.startswith(f"{name}.")]
        chosen = any(word.partition("=")[0] == name for word in ordered)
        if equals and options and not chosen:
            ordered.insert(options[0], arg)
        else:
            ordered.append(arg)
    return ordered


def options(args: Sequence[str]) -> Iterator[tuple[str, bool, str | None]]:
    """Name, whether it appends, and value of each ``--name value``, ``--name=value`` and ``--name+=value``.

    A word that is neither a name nor a value has the name "".
    """
    words = list(args)
    while words:
        word = words.pop(0)
        if not word.startswith("--") and word not in ("-c", "-h"):
            yield "", False, word
            continue
        name, given, text = word.lstrip("-").partition("=")
        if not given and words and not words[0].startswith("--"):
            text, given = words.pop(0), "="
        yield name.removesuffix("+"), name.endswith("+"), text if given else None


def values(args: Sequence[str], *names: str) -> list[str]:
    """Values of all options of these names, in their order."""
    return [value for name, _, value in options(args) if name in names and value is not None]

"""Names of folders and files in data sets: which of them are splits, and how a name is shown."""

import os
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path

from ferlightning.errors import FerlError, printable

Names = str | int | list[str | int]
"""What a split is called in the data: a folder, a table or a value of its column, or several."""

SPLIT_NAMES = {
    "train": ("train", "training", "trn", "tr"),
    "val": ("val", "valid", "validation", "vaild", "dev", "publictest"),
    "test": ("test", "testing", "tst", "eval", "evaluation", "privatetest"),
}
_SPLIT = {name: split for split, names in SPLIT_NAMES.items() for name in names}
_WORD = re.compile(r"[A-Z]?[^\W\d_A-Z]+|[A-Z]+(?![a-z])")
_ENDING = re.compile(r"(set|data|images?|imgs?|faces?|split)$")


def split_of(name: str) -> str | None:
    """Tell which split a folder, a file without its suffix, or a value of a table is named after; None for no one.

    A name may have other words: train and validation together are training, any other two are no split.

    >>> split_of("Training"), split_of("val_set"), split_of("FER2013Test"), split_of("Public Test"), split_of("happy")
    ('train', 'val', 'test', 'val', None)
    """
    whole = re.sub(r"[\W_]", "", name).lower()
    if whole in _SPLIT:
        return _SPLIT[whole]
    text = "_".join(word.lower() for word in _WORD.findall(name))
    for kind in ("public", "private"):
        text = text.replace(f"{kind}_test", f"{kind}test")
    words = [*text.split("_"), *(_ENDING.sub("", word) for word in text.split("_"))]
    found = {_SPLIT[word] for word in words if word in _SPLIT and len(word) > 2}
    if found == {"train", "val"} or whole.startswith("trainval"):
        return "train"
    return found.pop() if len(found) == 1 else None


def refuse_unread_split(table: Path, columns: Iterable[tuple[str, str]], decided: bool) -> None:
    """Refuse a table with a column of splits that is not read: they would be drawn anew, and test images trained on.

    Args:
        table: its file.
        columns: those that are not read, with their values in the first row.
        decided: the name of the file says its split, so that values mean something else.

    Raises:
        FerlError: the name or the value of a column is one of splits.
    """
    for name, value in columns:
        if split_of(name) or (not decided and re.fullmatch("[A-Za-z_-]{3,}", value) and split_of(value)):
            raise FerlError(
                f"{table}: the column {name} looks like a split and is not read. Call it split, with the values train, "
                "val and test, or remove it"
            )


def splits_by_hand(given: Mapping[str, Names]) -> dict[str, str]:
    """The split of each name that the option ``split`` gives.

    Raises:
        FerlError: a key is no split, or a name is that of two splits.

    >>> splits_by_hand({"train": ["a", "b"], "test": 3})
    {'a': 'train', 'b': 'train', '3': 'test'}
    """
    found: dict[str, str] = {}
    for split, names in given.items():
        if split not in SPLIT_NAMES:
            raise FerlError(f"data.split: {split!r} is no split; give names for {', '.join(SPLIT_NAMES)}")
        for name in map(str, names if isinstance(names, list) else [names]):
            if found.setdefault(name, split) != split:
                raise FerlError(f"data.split: {name!r} is given for {found[name]} and for {split}. Remove one")
    return found


def no_such(name: str, what: str, there: Iterable[str]) -> str:
    """Say that the option ``split`` has a name that the data do not have, and which it has."""
    there = list(there)
    close = get_close_matches(name, there, n=1)
    hint = f". Did you mean {close[0]}?" if close else ""
    return f"data.split: there is no {what} {name!r}, only {some(there) or 'none'}{hint}"


def readable(name: str) -> str:
    """A name that any file and terminal takes: where its bytes are no UTF-8, they are read as Latin-1."""
    try:
        name.encode()
    except UnicodeEncodeError:
        name = os.fsencode(name).decode("latin-1")
    return printable(name)


def strict_number(text: str) -> float:
    """A number as data files write them, not all that Python takes for one, such as 1_0, Arabic digits, or nan.

    Raises:
        ValueError: it is none.
    """
    if not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,2})?", text):
        raise ValueError(f"{text[:80]!r} is no number")
    return float(text)


def some(names: list[str], most: int = 5) -> str:
    """The first of many names, for a message."""
    return (
        f"{', '.join(map(readable, names[:most]))}{f' and {len(names) - most:,} others' if len(names) > most else ''}"
    )

"""Names of folders and files in data sets: which of them are splits, and how a name is shown."""

import os
import re

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


def readable(name: str) -> str:
    """A name that any file and terminal takes: where its bytes are no UTF-8, they are read as Latin-1."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return os.fsencode(name).decode("latin-1")
    return name


def some(names: list[str], most: int = 5) -> str:
    """The first of many names, for a message."""
    return (
        f"{', '.join(map(readable, names[:most]))}{f' and {len(names) - most:,} others' if len(names) > most else ''}"
    )

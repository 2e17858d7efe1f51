"""What plain values of files of strangers must be like, before anything counts on it."""

from collections.abc import Collection, Iterator
from typing import Any

ANY = ""
"""Stands for every key of a mapping."""
SIDE = range(1, 8193)
IMAGES: dict[str, Any] = {
    "read_size": SIDE, "size": [SIDE], "channels": range(1, 65), "color": bool, "clips": bool, "margin": float | int,
    "preprocess": list, "spelling": {ANY: str},
}  # fmt: skip
"""What a network says of the images that it takes."""


def odd_places(value: Any, form: Any, place: str, needed: Collection[str] = ()) -> Iterator[str]:
    """The places where a value is not of a form.

    Args:
        value: of JSON or a checkpoint.
        form: a mapping with the forms of keys, which may be missing; a list with that of all items; a range of whole
            numbers; or a type.
        place: what to call the value.
        needed: keys that may not be missing, where a form has them.
    """
    if isinstance(form, dict | list) and not isinstance(value, dict if isinstance(form, dict) else list | tuple):
        yield place
    elif isinstance(form, list):
        for i, item in enumerate(value):
            yield from odd_places(item, form[0], f"{place}.{i}", needed)
    elif isinstance(form, dict):
        for key in value if ANY in form else form.keys() & {*value, *needed}:
            inner = form.get(key, form.get(ANY))
            yield from odd_places(value.get(key), inner, f"{place}.{key}", needed) if isinstance(key, str) else [place]
    elif type(value) is not int or value not in form if isinstance(form, range) else not isinstance(value, form):
        yield place

"""The classes that are told apart: chosen among the names of a data set, renamed, merged or left out."""

from collections.abc import Mapping, Sequence

from ferlightning.emotions import EMOTIONS, canonical, did_you_mean
from ferlightning.errors import FerlError

OTHERS = "*"
"""All names that a mapping of classes does not have."""
Classes = Sequence[str | int] | dict[str, str | int | None] | None
"""The option ``data.classes``: names, a mapping from the data set's names to others, or all of the data set."""


def meaning_of(label_names: Sequence[str], classes: Classes) -> dict[str, str | None]:
    """Return what each name of a data set is called; None if its items are left out.

    Raises:
        FerlError: ``classes`` maps a name that the data set does not have.
    """
    if not isinstance(classes, dict):
        return {name: name for name in label_names}
    given = _mapping(classes)
    for name, new in given.items():
        if name in (*label_names, new, OTHERS) or name.startswith("="):  # the last: a class without a label here
            continue
        raise FerlError(
            f"data.classes: the data has no class {name!r}; it has {', '.join(label_names)}"
            + did_you_mean(name, label_names)
        )
    return {name: given.get(name, given.get(OTHERS, name)) for name in label_names}


def chosen_classes(label_names: list[str], classes: Classes, meaning: Mapping[str, str | None]) -> list[str]:
    """Return the K classes.

    Args:
        label_names: of the data set.
        classes: the option.
        meaning: what each of ``label_names`` is called, from ``meaning_of``.

    Raises:
        FerlError: a name in ``classes`` is unknown or given twice, or fewer than two are left.
    """
    if classes is None:
        return label_names
    if isinstance(classes, dict):
        mapped = (*_mapping(classes).values(), *meaning.values())
        names = [name for name in dict.fromkeys(mapped) if name is not None]
    else:
        names = [canonical(str(name)) for name in classes]
        known = [*label_names, *(name for name in EMOTIONS if name not in label_names)]
        for name in names:
            if name not in known:
                raise FerlError(f"data.classes: there is no class {name!r}; the classes are {', '.join(known)}")
    if len(names) < 2 or len(set(names)) < len(names):
        given = f"what is left is {names}" if isinstance(classes, dict) else f"not {list(classes)}"
        raise FerlError(f"data.classes: give at least two names, each once, {given}")
    if not set(names) & set(meaning.values()):
        raise FerlError(
            f"data.classes: the data has no class of {', '.join(names)}; it has {', '.join(label_names)}. Rename its "
            "folders or labels to say which class is which, or say it by "
            f"--data.classes='{{{label_names[0]}: {names[0]}, ...}}'"
        )
    return names


def _mapping(classes: Mapping[str, str | int | None]) -> dict[str, str | None]:
    given: dict[str, str | None] = {}
    for key, value in classes.items():  # numbers, if they come from YAML
        if isinstance(key, bool):
            raise FerlError("data.classes: yes, no, on and off are true and false in YAML: write them in quotes")
        if value in ("", "None"):
            raise FerlError(f"data.classes: {key!r} is called {value!r}; null leaves a class out")
        name, new = canonical(str(key)), None if value is None else canonical(str(value))
        if given.setdefault(name, new) != new:
            raise FerlError(f"data.classes: {name!r} is there twice, as {given[name]!r} and as {new!r}. Remove one")
    return given

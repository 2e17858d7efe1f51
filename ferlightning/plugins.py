"""Plug-ins, and the slots that parts fit."""

import inspect
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoints, entry_points
from pathlib import Path

from ferlightning.errors import FerlError

GROUP = "ferlightning.plugins"

SLOTS = {
    "data": "ferlightning.data.datamodule.FaceData",
    "preprocess": "ferlightning.contracts.Preprocess",
    "detector": "ferlightning.contracts.FaceDetector",
    "augment": "ferlightning.contracts.Augmentation",
    "corrupt": "ferlightning.contracts.GradedCorruption",
    "restorer": "ferlightning.contracts.Restorer",
    "backbone": "ferlightning.contracts.Backbone",
    "recalibration": "ferlightning.contracts.Recalibration",
    "sequence, attention": "ferlightning.contracts.Stage",
    "head": "ferlightning.contracts.Head",
    "projection": "ferlightning.contracts.Projection",
    "loss": "ferlightning.contracts.Loss",
}
"""Each slot and the class whose subclasses fit it."""

CALLBACK = {"callback": "lightning.pytorch.Callback"}
"""What a trainer takes any number of; Lightning has some, too."""
BUILT_IN = ("ferlightning.parts", "ferlightning.data", "ferlightning.images.detectors")
"""Importing these makes the parts we ship known."""


def installed() -> EntryPoints:
    """The entry points of installed plug-ins."""
    places = [Path(place) for place in sys.path]
    return _installed(tuple((str(place), place.stat().st_mtime_ns) for place in places if place.exists()))


@cache
def _installed(places: tuple[tuple[str, int], ...]) -> EntryPoints:
    """Look through all packages, which takes some 30 ms; again once a place has changed, as by pip in a notebook."""
    return entry_points(group=GROUP)


def load_plugins() -> None:
    """Import our parts and every installed plug-in, and make sure that each name means one class.

    Raises:
        FerlError: a plug-in cannot be imported, or two classes of one slot have one name.
    """
    for module in BUILT_IN:
        import_module(module)
    import_installed()
    for slot in SLOTS:
        seen: dict[str, type] = {}
        for part in parts(slot):
            other = seen.setdefault(part.__name__, part)
            if other is not part:
                raise FerlError(
                    f"two parts for {slot} are called {part.__name__}: {_path(other)} and {_path(part)}. Rename or "
                    "uninstall one: a short name must mean one class"
                )


def import_installed() -> None:
    """Import every installed plug-in.

    Raises:
        FerlError: one cannot be imported.
    """
    for entry in installed():
        try:
            with redirect_stdout(sys.stderr):  # what a command prints may be JSON, which a plug-in's word would break
                entry.load()
        except (Exception, SystemExit) as error:
            raise FerlError(
                f"the plug-in {entry.name!r} ({entry.value}) cannot be imported: {type(error).__name__}: {error}. "
                "Fix it or uninstall it"
            ) from error


def parts(slot: str) -> list[type]:
    """All imported classes that fit a slot, or ``callback``, by name; a leading underscore makes a base, not a part."""
    module, name = (SLOTS | CALLBACK)[slot].rsplit(".", 1)
    found: set[type] = set(subclasses(getattr(import_module(module), name)))
    return sorted(found, key=lambda part: (part.__name__, part.__module__))


def subclasses(base: type) -> Iterator[type]:
    """The imported classes below a class, at any depth, without bases."""
    below: list[type] = base.__subclasses__()
    for part in below:
        if not part.__name__.startswith("_") and not inspect.isabstract(part):
            yield part
        yield from subclasses(part)


def _path(part: type) -> str:
    return f"{part.__module__}.{part.__qualname__}"

"""Lazy imports of packages that others import at start and rarely need.

``import lightning.pytorch`` spends half of its CPU time on packages that a run seldom needs: torchmetrics imports
torchvision, scipy and matplotlib for image metrics and plots. Deferred, they work as before: a package is imported when
one of its names is first called, or an attribute of it read. Python 3.15 has this as ``lazy import`` (PEP 810).
"""

import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

OWN = ("matplotlib", "scipy.optimize", "scipy.signal", "torchvision")
OPTIONAL = (
    "faster_coco_eval",
    "gammatone",
    "librosa",
    "nltk",
    "onnxruntime",
    "pesq",
    "piq",
    "pycocotools",
    "pystoi",
    "transformers",
)
"""Imported if they are there; they would import the ones above in earnest, and stop at a stand-in."""
SELDOM = OWN + OPTIONAL
"""What torchmetrics imports at start."""

_waiting = False
"""Whether a ``deferred`` block is open. In it, names are passed on unread; after it, they are read."""


class _Later:
    """Something of a package that is not imported yet: a name, or the result of a call."""

    def __init__(self, read: Callable[[], Any]) -> None:
        self.__read = read

    def __getattr__(self, name: str) -> Any:
        if not _waiting:
            return getattr(self.__read(), name)
        if name.startswith("__"):  # asked for by typing, which takes it for a class
            raise AttributeError(name)
        return _Later(lambda: getattr(self.__read(), name))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if _waiting:  # such as a decorator
            return _Later(lambda: self.__read()(*args, **kwargs))
        return self.__read()(*args, **kwargs)


class _LaterModule(ModuleType):
    """Stands for a module in ``sys.modules`` while a ``deferred`` block is open."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        module = self.__name__
        if not _waiting:  # kept in a global of the package that imported it
            return getattr(import_module(module), name)
        if f"{module}.{name}" in sys.modules:
            return sys.modules[f"{module}.{name}"]
        return _Later(lambda: getattr(import_module(module), name))


class _Finder(MetaPathFinder, Loader):
    def __init__(self, names: Sequence[str]) -> None:
        self.names = names

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if any(name == deferred or name.startswith(f"{deferred}.") for deferred in self.names):
            return ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _LaterModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


@contextmanager
def deferred(*names: str) -> Iterator[None]:
    """Defer imports within the block of these modules, and of all below them, to the first use of what was imported.

    Args:
        names: modules, with the packages that they are in, such as ``scipy.signal``. Those imported already stay.
    """
    global _waiting
    finder = _Finder([name for name in names if name not in sys.modules])
    sys.meta_path.insert(0, finder)
    _waiting = True
    try:
        yield
    finally:
        _waiting = False
        sys.meta_path.remove(finder)
        for name, module in list(sys.modules.items()):
            if isinstance(module, _LaterModule):
                del sys.modules[name]  # whoever imports it from here on gets the real one
                parent, _, child = name.rpartition(".")
                if vars(sys.modules.get(parent, module)).get(child) is module:
                    delattr(sys.modules[parent], child)


def import_lightning() -> None:
    """Import Lightning, deferring what it rarely needs; do nothing if it is already imported."""
    if "lightning.pytorch" in sys.modules:
        return
    gc.disable()  # all that is made here stays; looking through it again and again takes a tenth of the time
    try:
        with deferred(*SELDOM):
            import lightning.pytorch
            import lightning.pytorch.cli  # noqa: F401
        gc.freeze()
    finally:
        gc.enable()

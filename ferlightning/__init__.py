"""Train, compare and ship facial-expression recognisers under one sound protocol.

The names are imported when they are first used, so that ``import ferlightning`` takes no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ferlightning.checkpoint import load as load
    from ferlightning.data import FER2013 as FER2013
    from ferlightning.data import RAFDB as RAFDB
    from ferlightning.data import AffectNet as AffectNet
    from ferlightning.data import CKPlus as CKPlus
    from ferlightning.data import FERPlus as FERPlus
    from ferlightning.data import ImageFolder as ImageFolder
    from ferlightning.data import Photos as Photos
    from ferlightning.data import SyntheticFaces as SyntheticFaces
    from ferlightning.data import Table as Table
    from ferlightning.deploy.recognizer import Recognizer as Recognizer
    from ferlightning.errors import FerlError as FerlError
    from ferlightning.evaluation.report import Report as Report
    from ferlightning.models.classifier import Classifier as Classifier
    from ferlightning.models.ensemble import Ensemble as Ensemble
    from ferlightning.models.network import Network as Network

__version__ = "0.1.0"

_HOMES = {
    "Classifier": "models.classifier",
    "Ensemble": "models.ensemble",
    "FerlError": "errors",
    "Network": "models.network",
    "Recognizer": "deploy.recognizer",
    "Report": "evaluation.report",
    "load": "checkpoint",
    **dict.fromkeys(
        ("AffectNet", "CKPlus", "FER2013", "FERPlus", "ImageFolder", "Photos", "RAFDB", "SyntheticFaces", "Table"),
        "data",
    ),
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ferlightning' has no attribute {name!r}")
    return getattr(import_module(f"ferlightning.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__

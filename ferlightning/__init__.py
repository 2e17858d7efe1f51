"""Train, compare and ship facial-expression recognisers under one sound protocol.

The names are imported when they are first used, so that ``import ferlightning`` takes no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ferlightning.api import Run as Run
    from ferlightning.api import Scores as Scores
    from ferlightning.api import audit as audit
    from ferlightning.api import compare as compare
    from ferlightning.api import components as components
    from ferlightning.api import embed as embed
    from ferlightning.api import explain as explain
    from ferlightning.api import fit as fit
    from ferlightning.api import from_arrays as from_arrays
    from ferlightning.api import inspect as inspect
    from ferlightning.api import predict as predict
    from ferlightning.api import prepare as prepare
    from ferlightning.api import test as test
    from ferlightning.api import validate as validate
    from ferlightning.checkpoint import load as load
    from ferlightning.data import FER2013 as FER2013
    from ferlightning.data import RAFDB as RAFDB
    from ferlightning.data import YOLO as YOLO
    from ferlightning.data import AffectNet as AffectNet
    from ferlightning.data import Arrays as Arrays
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
    from ferlightning.predictions import Predictions as Predictions

__version__ = "0.1.0"

_DATA = (
    "AffectNet", "Arrays", "CKPlus", "FER2013", "FERPlus", "ImageFolder", "Photos", "RAFDB", "SyntheticFaces", "Table",
    "YOLO",
)  # fmt: skip
_API = (
    "Run", "Scores", "audit", "compare", "components", "embed", "explain", "fit", "from_arrays", "inspect", "predict",
    "prepare", "test", "validate",
)  # fmt: skip
_HOMES = (
    {
        "Classifier": "models.classifier",
        "Ensemble": "models.ensemble",
        "FerlError": "errors",
        "Network": "models.network",
        "Predictions": "predictions",
        "Recognizer": "deploy.recognizer",
        "Report": "evaluation.report",
        "load": "checkpoint",
    }
    | {name: "data" for name in _DATA}
    | {name: "api" for name in _API}
)

LIGHT = ("checkpoint", "deploy.recognizer", "errors", "models.network", "predictions")
"""Homes that need no Lightning."""

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ferlightning' has no attribute {name!r}")
    try:
        if _HOMES[name] not in LIGHT:
            import_module("ferlightning.cli.deferred").import_lightning()  # which else takes twice as long
        return getattr(import_module(f"ferlightning.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:  # where ferlightning was installed without what it depends on
        raise ModuleNotFoundError(
            f"ferlightning.{name} needs packages that are not here: pip install ferlightning. {error}", name=error.name
        ) from error


def __dir__() -> list[str]:
    return __all__

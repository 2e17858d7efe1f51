"""What passes between the parts of a model, and the base class of each kind of part.

A part is a subclass of one of the classes here. Once it is imported, the command line finds it by its class name; a
plug-in needs nothing but its entry point.

The names are imported on first use: those that work on single images need no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ferlightning.contracts.images import Detection as Detection
    from ferlightning.contracts.images import FaceDetector as FaceDetector
    from ferlightning.contracts.images import GradedCorruption as GradedCorruption
    from ferlightning.contracts.images import Preprocess as Preprocess
    from ferlightning.contracts.modules import Augmentation as Augmentation
    from ferlightning.contracts.modules import Backbone as Backbone
    from ferlightning.contracts.modules import Batch as Batch
    from ferlightning.contracts.modules import Fitted as Fitted
    from ferlightning.contracts.modules import Head as Head
    from ferlightning.contracts.modules import Loss as Loss
    from ferlightning.contracts.modules import Output as Output
    from ferlightning.contracts.modules import Projection as Projection
    from ferlightning.contracts.modules import Recalibration as Recalibration
    from ferlightning.contracts.modules import Restorer as Restorer
    from ferlightning.contracts.modules import Stage as Stage
    from ferlightning.contracts.modules import Tokens as Tokens
    from ferlightning.contracts.modules import class_index as class_index
    from ferlightning.contracts.modules import has_label as has_label
    from ferlightning.contracts.modules import pool as pool
    from ferlightning.contracts.modules import sum_over_processes as sum_over_processes

ON_IMAGES = ("Detection", "FaceDetector", "GradedCorruption", "Preprocess")


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(name)
    home = "images" if name in ON_IMAGES else "modules"
    return getattr(import_module(f"ferlightning.contracts.{home}"), name)

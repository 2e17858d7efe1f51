"""Contract checks for parts: authors of plug-ins run them in a test, and ours run them over every part we ship.

A check takes what the slot of the network takes, a class or a function that builds the part:

    check_backbone(TinyNet)
    check_stage(functools.partial(LSTM, bidirectional=False))

It raises AssertionError with the promise that is broken and what was found instead. It takes about a second for a part
of modest width; nothing is trained.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ferlightning.testing.augmentation import check_augmentation as check_augmentation
    from ferlightning.testing.backbone import check_backbone as check_backbone
    from ferlightning.testing.backbone import check_recalibration as check_recalibration
    from ferlightning.testing.data import check_data as check_data
    from ferlightning.testing.fitted import check_fitted as check_fitted
    from ferlightning.testing.head import check_head as check_head
    from ferlightning.testing.images import check_corruption as check_corruption
    from ferlightning.testing.images import check_preprocess as check_preprocess
    from ferlightning.testing.loss import check_loss as check_loss
    from ferlightning.testing.restorer import check_restorer as check_restorer
    from ferlightning.testing.stage import check_stage as check_stage

HOMES = {
    "check_augmentation": "augmentation",
    "check_backbone": "backbone",
    "check_corruption": "images",
    "check_data": "data",
    "check_fitted": "fitted",
    "check_head": "head",
    "check_loss": "loss",
    "check_preprocess": "images",
    "check_recalibration": "backbone",
    "check_restorer": "restorer",
    "check_stage": "stage",
}


def __getattr__(name: str) -> Any:
    """Import a check on first use: those of images draw faces, for which the others need not wait."""
    if name not in HOMES:
        raise AttributeError(name)
    return getattr(import_module(f"ferlightning.testing.{HOMES[name]}"), name)

"""Data sets and augmentations. Importing this package makes their short names work, and those of ``images``."""

import ferlightning.images  # noqa: F401
from ferlightning.data.augment import CutMix, Erase, MixUp, Warp
from ferlightning.data.sources.affectnet import AffectNet
from ferlightning.data.sources.arrays import Arrays
from ferlightning.data.sources.ckplus import CKPlus
from ferlightning.data.sources.fer2013 import FER2013
from ferlightning.data.sources.ferplus import FERPlus
from ferlightning.data.sources.folder import ImageFolder
from ferlightning.data.sources.photos import Photos
from ferlightning.data.sources.rafdb import RAFDB
from ferlightning.data.sources.synthetic.datamodule import SyntheticFaces
from ferlightning.data.sources.table import Table
from ferlightning.data.sources.yolo import YOLO

__all__ = [
    "FER2013",
    "RAFDB",
    "YOLO",
    "AffectNet",
    "Arrays",
    "CKPlus",
    "CutMix",
    "Erase",
    "FERPlus",
    "ImageFolder",
    "MixUp",
    "Photos",
    "SyntheticFaces",
    "Table",
    "Warp",
]

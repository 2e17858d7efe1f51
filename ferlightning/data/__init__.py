"""Data sets, preprocessing, augmentations and corruptions. Importing this package makes their short names work."""

from ferlightning.data.augment import CutMix, Erase, MixUp, Warp
from ferlightning.data.sources.ckplus import CKPlus
from ferlightning.data.sources.fer2013 import FER2013
from ferlightning.data.sources.ferplus import FERPlus
from ferlightning.data.sources.folder import ImageFolder
from ferlightning.data.sources.photos import Photos
from ferlightning.data.sources.synthetic.datamodule import SyntheticFaces
from ferlightning.images import (
    CLAHE,
    JPEG,
    CannyEdges,
    EyesOcclusion,
    GaussianBlur,
    GaussianFilter,
    GaussianNoise,
    GlobalContrast,
    HistogramEqualization,
    KernelFilter,
    LocalBinaryPattern,
    LowLight,
    LowResolution,
    MedianFilter,
    MouthOcclusion,
    Resize,
    Rotation,
    SobelEdges,
)

__all__ = [
    "CLAHE",
    "FER2013",
    "JPEG",
    "CKPlus",
    "CannyEdges",
    "CutMix",
    "Erase",
    "EyesOcclusion",
    "FERPlus",
    "GaussianBlur",
    "GaussianFilter",
    "GaussianNoise",
    "GlobalContrast",
    "HistogramEqualization",
    "ImageFolder",
    "KernelFilter",
    "LocalBinaryPattern",
    "LowLight",
    "LowResolution",
    "MedianFilter",
    "MixUp",
    "MouthOcclusion",
    "Photos",
    "Resize",
    "Rotation",
    "SobelEdges",
    "SyntheticFaces",
    "Warp",
]

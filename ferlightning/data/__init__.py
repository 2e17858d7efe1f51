"""Data sets, preprocessing, augmentation and corruptions. Importing this makes their short names work."""

from ferlightning.data.augment import Blur, CutMix, Erase, Kornia, Light, MixUp, Noise, Warp
from ferlightning.data.sources.ckplus import CKPlus
from ferlightning.data.sources.fer2013 import FER2013
from ferlightning.data.sources.ferplus import FERPlus
from ferlightning.data.sources.folder import ImageFolder
from ferlightning.data.sources.photos import Photos
from ferlightning.data.sources.synthetic.datamodule import SyntheticFaces
from ferlightning.images.corruptions import (
    JPEG,
    EyesOcclusion,
    GaussianBlur,
    GaussianNoise,
    LowLight,
    LowResolution,
    MouthOcclusion,
    Rotation,
)
from ferlightning.images.preprocess import (
    CLAHE,
    CannyEdges,
    GaussianFilter,
    GlobalContrast,
    HistogramEqualization,
    KernelFilter,
    LocalBinaryPattern,
    MedianFilter,
    Resize,
    SobelEdges,
)

__all__ = [
    "CLAHE",
    "FER2013",
    "JPEG",
    "Blur",
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
    "Kornia",
    "Light",
    "LocalBinaryPattern",
    "LowLight",
    "LowResolution",
    "MedianFilter",
    "MixUp",
    "MouthOcclusion",
    "Noise",
    "Photos",
    "Resize",
    "Rotation",
    "SobelEdges",
    "SyntheticFaces",
    "Warp",
]

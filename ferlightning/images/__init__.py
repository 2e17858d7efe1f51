"""Work on single images in OpenCV and NumPy: decode, align, preprocess, corrupt.

Nothing here imports torch, so that a recogniser in use can prepare images as the training did.
"""

from ferlightning.images.align import AlignEyes
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
    "JPEG",
    "AlignEyes",
    "CannyEdges",
    "EyesOcclusion",
    "GaussianBlur",
    "GaussianFilter",
    "GaussianNoise",
    "GlobalContrast",
    "HistogramEqualization",
    "KernelFilter",
    "LocalBinaryPattern",
    "LowLight",
    "LowResolution",
    "MedianFilter",
    "MouthOcclusion",
    "Resize",
    "Rotation",
    "SobelEdges",
]

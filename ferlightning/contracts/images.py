"""The base class of each kind of part that works on single images, before there are tensors: NumPy only."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ferlightning.errors import FerlError


class Preprocess:
    """One image to one image, uint8 (H, W, C) to uint8 (H', W', C'), the same for every split and without chance.

    Applied once, when a data set is first opened. What a part keeps in its attributes, plain values only, is what tells
    one preprocessed copy from another.
    """

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        raise NotImplementedError


class GradedCorruption:
    """One kind of damage to a face image, at severities from 1; uint8 (H, W, C), C = 1 or 3, to the same.

    Applied to images that are evaluated, before preprocessing, to measure robustness. A higher severity spoils more.
    The result depends on nothing but the image and the severity: whatever is drawn is seeded by the image itself.

    Args:
        severity: how much, from 1 to 5; 0 leaves the images clean.
    """

    strengths: ClassVar[tuple[float, ...]]
    """What each severity means, from 1 up, in a unit of the part's own; five of them."""

    def __init__(self, severity: int) -> None:
        if not 0 <= severity <= len(self.strengths):
            raise FerlError(
                f"{type(self).__name__}: severity is {severity}, expected a number from 1 to {len(self.strengths)}, or "
                "0 for clean images"
            )
        self.severity = severity

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return self.corrupt(image, self.strengths[self.severity - 1]) if self.severity else image

    def corrupt(self, image: NDArray[np.uint8], strength: float) -> NDArray[np.uint8]:
        """The image, (H, W, C), spoiled by one of the strengths; the one that is given stays as it is."""
        raise NotImplementedError

"""The base classes of parts that work on single images, before there are tensors: NumPy only."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ferlightning.errors import FerlError


class Preprocess:
    """One image to one image, uint8 (H, W, C) to uint8 (H', W', C'), the same for every split and without chance.

    Applied once, when a data set is first opened. The attributes of a part, plain values only, tell one preprocessed
    copy from another.
    """

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        raise NotImplementedError


class GradedCorruption:
    """One kind of damage to a face image, at severities from 1 to 5; uint8 (H, W, C), C = 1 or 3, to the same.

    Applied in evaluation, before preprocessing, to measure robustness. A higher severity damages more. The result
    depends on nothing but the image and the severity: whatever is drawn is seeded by the image itself.

    Args:
        severity: how much damage, from 1 to 5; 0 leaves the images clean.
    """

    strengths: ClassVar[tuple[float, ...]]
    """What each of the five severities means, in a unit of the part's own."""

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
        """Return a damaged copy of the image, (H, W, C), by one of the strengths."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Detection:
    """A face in a picture.

    Attributes:
        box: left, top, right and bottom in pixels; it may reach beyond the picture.
        score: how sure the detector is, from 0 to 1.
        landmarks: the eye on the left of the picture, the other eye, the nose, the corners of the mouth, left and
            right; (5, 2), x and y in pixels. None from a detector without landmarks.
    """

    box: tuple[float, float, float, float]
    score: float
    landmarks: NDArray[np.float32] | None = None


class FaceDetector:
    """Finds the faces of a picture.

    Args:
        threads: how many it may use.
    """

    crop: ClassVar[float] = 1.0
    """Side of the square that FER2013 has of a face, as a share of the height of this detector's boxes."""
    min_score: ClassVar[float] = 0.5
    """What is less sure is no face, unless the user says otherwise."""

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads

    def __call__(self, image: NDArray[np.uint8], size: int, min_score: float) -> list[Detection]:
        """Find faces.

        Args:
            image: RGB, (H, W, 3).
            size: longer side, in pixels, to which the picture is reduced first.
            min_score: leave out what is less sure.

        Returns:
            The faces in the picture's own pixels, in no order.
        """
        raise NotImplementedError

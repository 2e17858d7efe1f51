"""Who is who from frame to frame: boxes are matched by their overlap with where each face is expected.

As SORT does it (Bewley et al. 2016), with a constant velocity instead of a Kalman filter; what is too unsure to be a
new face may still be one that is known, as in ByteTrack (Zhang et al. 2022).
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ferlightning.contracts.images import Detection

Array = NDArray[np.float64]
LEAST_OVERLAP = 0.2
"""Intersection over union from which a detection may be a face that is known."""
KEPT = 1.0
"""Seconds for which a face that is not found is remembered."""
SHOWN = 0.25
"""Seconds for which it is still shown where it is expected."""
DAMPING = 0.5
"""Share of a newly measured velocity in the estimate."""


@dataclass
class Track:
    """A face that is followed.

    Attributes:
        number: from 1, in the order of first sight, left to right.
        box: left, top, right and bottom where it was last found.
        velocity: of the four, in pixels a second.
        time: when it was last found, in seconds.
    """

    number: int
    box: Array
    time: float
    detection: Detection
    velocity: Array = field(default_factory=lambda: np.zeros(4))

    def expected(self, time: float) -> Array:
        """The box at a time after it was found."""
        return self.box + self.velocity * min(time - self.time, KEPT)


class Tracker:
    """Numbers for faces that last from frame to frame.

    Args:
        min_score: how sure the detector must be of a new face.
    """

    def __init__(self, min_score: float) -> None:
        self.min_score = min_score
        self.tracks: list[Track] = []
        self.last = 0

    def update(self, found: list[Detection], time: float) -> None:
        """Match the faces that were found in a frame with those that are known; the others are new if they are sure.

        Args:
            found: of this frame.
            time: of this frame, in seconds.
        """
        boxes = np.array([face.box for face in found], np.float64).reshape(-1, 4)
        expected = np.array([track.expected(time) for track in self.tracks]).reshape(-1, 4)
        free = set(range(len(found)))
        for i, j in _pairs(overlap(expected, boxes)):
            track = self.tracks[i]
            free.discard(j)
            if time > track.time:
                measured = (boxes[j] - track.box) / (time - track.time)
                track.velocity += DAMPING * (measured - track.velocity)
            track.box, track.time, track.detection = boxes[j], time, found[j]
        self.tracks = [track for track in self.tracks if time - track.time <= KEPT]
        new = [j for j in free if found[j].score >= self.min_score]
        for j in sorted(new, key=lambda j: found[j].box[0]):
            self.last += 1
            self.tracks.append(Track(self.last, boxes[j], time, found[j]))

    def shown(self, time: float) -> list[tuple[Track, Detection]]:
        """The faces of a frame, each where it was found in it or is expected."""
        faces = []
        for track in self.tracks:
            if time - track.time > SHOWN:
                continue
            box = track.expected(time)
            old = track.detection
            points = None
            if old.landmarks is not None:
                points = old.landmarks + ((box[:2] + box[2:] - track.box[:2] - track.box[2:]) / 2).astype(np.float32)
            left, top, right, bottom = box.tolist()
            faces.append((track, Detection((left, top, right, bottom), old.score, points)))
        return faces


def overlap(one: Array, other: Array) -> Array:
    """Intersection over union of every box with every other. Shape: (N, 4), (M, 4) -> (N, M)."""
    corner, end = np.maximum(one[:, None, :2], other[:, :2]), np.minimum(one[:, None, 2:], other[:, 2:])
    shared = np.clip(end - corner, 0, None).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (one, other)]
    ratio: Array = shared / np.maximum(areas[0][:, None] + areas[1] - shared, 1e-9)
    return ratio


def _pairs(shared: Array) -> list[tuple[int, int]]:
    """Pairs of row and column, the largest overlap first, each row and column once."""
    pairs: list[tuple[int, int]] = []
    shared = shared.copy()
    while shared.size and shared.max() >= LEAST_OVERLAP:
        i, j = divmod(int(shared.argmax()), shared.shape[1])
        pairs.append((i, j))
        shared[i], shared[:, j] = 0, 0
    return pairs

"""The geometry of a drawn face: who is shown, and what each action unit moves.

An expression is a table of action-unit intensities (FACS, Ekman and Friesen 1978) and each action unit moves the drawn
geometry, so classes differ by what distinguishes them on people: brows, lids, nose and mouth, several at once.

Face coordinates: x to the right of the picture, y down, origin in the middle of the head, crown -1 and chin +1.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

EXPRESSIONS: dict[str, dict[int, float]] = {
    "anger": {4: 1.0, 5: 0.4, 7: 0.8, 23: 1.0},
    "disgust": {9: 1.0, 15: 0.5, 16: 0.6},
    "fear": {1: 1.0, 2: 0.5, 4: 0.7, 5: 0.8, 20: 1.0, 26: 0.4},
    "happiness": {6: 0.9, 12: 1.0, 25: 0.7},
    "sadness": {1: 1.0, 4: 0.6, 15: 1.0},
    "surprise": {1: 0.9, 2: 1.0, 5: 0.9, 26: 1.0},
    "neutral": {},
    "contempt": {12: 0.6, 14: 1.0},  # of one half of the face
}
"""Intensity, 0 to 1, of each action unit (by its FACS number) at the apex of an expression."""

UNITS = sorted({unit for table in EXPRESSIONS.values() for unit in table})
ROWS = 28  # action units 0 to 27, indexed by their own numbers, so that the code reads like FACS

_T = np.linspace(-1, 1, 11)  # along a lid or a lip, from one corner to the other
_ARCH = 1 - _T**2
_ROUND = np.sqrt(_ARCH)
_CIRCLE = np.array([(np.cos(a), np.sin(a)) for a in np.linspace(0, 2 * np.pi, 28, endpoint=False)])

_FOLD = np.zeros(ROWS)  # how much an action unit deepens the fold from nose to mouth
_FOLD[[9, 12, 14, 15]] = 0.8, 0.8, 0.5, 0.3


class Shape(NamedTuple):
    """One stroke: points (n, 2) in face coordinates, filled if ``width`` is 0, else a line of that width."""

    points: Floats
    grey: float
    relief: float  # how far it stands out of the plane of the outline, and so how far it moves as the head turns
    width: float = 0.0


class Identity:
    """What is the same in all pictures of a subject; lengths in face coordinates, grey levels from 0 to 255."""

    def __init__(self, rng: np.random.Generator) -> None:
        u = rng.uniform
        self.head_width, self.jaw = u(0.68, 0.82), u(0.12, 0.32)
        self.eye_x, self.eye_y = u(0.28, 0.35), u(-0.17, -0.07)
        self.eye_width, self.eye_height = u(0.14, 0.19), u(0.065, 0.095)
        self.brow_gap, self.brow_thickness, self.brow_slope = u(0.19, 0.25), u(0.025, 0.06), u(-0.05, 0.04)
        self.nose_width, self.nose_y = u(0.1, 0.17), u(0.2, 0.3)
        self.mouth_y, self.mouth_width, self.lip = u(0.5, 0.58), u(0.23, 0.32), u(0.035, 0.075)
        self.skin, self.iris, self.shirt = u(105, 225), u(20, 90), u(20, 235)
        self.hair = u(15, min(0.75 * self.skin, 140))
        self.hair_style, self.hairline = int(rng.integers(4)), u(-0.72, -0.55)  # style 0 is bald, 3 is long
        self.furrows, self.glasses = u(0, 0.35), rng.random() < 0.15
        self.beard = u(0.55, 0.85) if rng.random() < 0.15 else 1.0


def path(*points: tuple[float, float]) -> Floats:
    return np.array(points)


def _curve(x: Floats, y: Floats) -> Floats:
    return np.array([x, y]).T


def _band(x: Floats, top: Floats, bottom: Floats) -> Floats:
    """Outline the area between two curves over the same x (n,). Shape: (2n, 2)."""
    return np.concatenate([_curve(x, top), _curve(x, bottom)[::-1]])


def ellipse(x: float, y: float, a: float, b: float) -> Floats:
    return _CIRCLE * (a, b) + (x, y)


def _head(who: Identity, jaw_drop: float) -> list[Shape]:
    """Draw shoulders, hair behind, neck, ears, head and beard; the jaw (AU26) lengthens the head."""
    w, skin = who.head_width, who.skin
    below = _CIRCLE[:, 1].clip(0)
    outline = _curve(w * _CIRCLE[:, 0] * (1 - who.jaw * below**2), _CIRCLE[:, 1] + 0.13 * jaw_drop * below)
    shirt = path((-1.6, 2.4), (-1.3, 1.45), (-0.4, 1.2), (0.4, 1.2), (1.3, 1.45), (1.6, 2.4))
    shapes = [Shape(shirt, who.shirt, -0.3)]
    if who.hair_style == 3:
        long = path((-w - 0.2, -0.3), (w + 0.2, -0.3), (w + 0.15, 1.2), (-w - 0.15, 1.2))
        shapes.append(Shape(long, who.hair, -0.5))
    if who.hair_style:
        shapes.append(Shape(ellipse(0, -0.32, w + 0.17, 0.86), who.hair, -0.3))
    shapes.append(Shape(path((-0.42, 0.6), (0.42, 0.6), (0.5, 1.5), (-0.5, 1.5)), 0.72 * skin, -0.3))
    shapes += [Shape(ellipse(sign * w, 0.05, 0.09, 0.2), 0.82 * skin, -0.4) for sign in (-1, 1)]
    shapes.append(Shape(outline, skin, 0.0))
    if who.beard < 1:
        top = path((-0.4, 0.45), (-0.2, 0.38), (0.2, 0.38), (0.4, 0.45))
        shapes.append(Shape(np.concatenate([outline[_CIRCLE[:, 1] > 0.3], top]), who.beard * skin, 0.0))
    return shapes


def _forehead(who: Identity, au: Floats) -> list[Shape]:
    """Draw lines across the forehead (AU1, 2) under the fringe, between the brows (AU4) and on the nose (AU9)."""
    shapes, y = [], who.eye_y - who.brow_gap
    if (raised := au[1] + au[2]) > 0.3:
        for dy in (-0.17, -0.26):
            line = _curve(0.36 * _T, y + dy - 0.04 * _ARCH - 0.04 * raised)
            shapes.append(Shape(line, who.skin * (1 - 0.1 * raised), 0.7, 0.02))
    for x in (-0.05, 0.05) if au[4] > 0.1 else ():
        shapes.append(Shape(path((x, y + 0.02), (0.8 * x, y + 0.16)), who.skin * (1 - 0.4 * au[4]), 1.0, 0.025))
    for dy in (0.16, 0.23, 0.3) if au[9] > 0.1 else ():
        line = path((-0.1, y + dy - 0.03), (0, y + dy + 0.01), (0.1, y + dy - 0.03))
        shapes.append(Shape(line, who.skin * (1 - 0.4 * au[9]), 1.2, 0.025))
    if who.hair_style:
        hairline = who.hairline + (0.0, 0.05, 0.16, 0.05)[who.hair_style] + 0.45 * np.abs(_T) ** 3
        area = _band((who.head_width + 0.04) * _T, -0.9 * _ROUND - 0.18, hairline.clip(max=-0.1))
        shapes.append(Shape(area, who.hair, 0.2))
    return shapes


def _eye(who: Identity, sign: int, au: Floats) -> list[Shape]:
    """Draw eye and brow of one side: lids AU5, 6, 7; brow AU1 (inner end up), 2 (outer end up), 4 (down, inwards)."""
    cx, cy, skin = sign * who.eye_x, who.eye_y, who.skin
    up = who.eye_height * max(0.2, 1 + 0.75 * au[5] - 0.5 * au[7] - 0.25 * au[6] - 0.3 * au[9])
    low = who.eye_height * max(0.1, 0.8 + 0.15 * au[5] - 0.5 * au[7] - 0.75 * au[6] - 0.3 * au[9])
    x, top, bottom = cx + who.eye_width * _T, cy - up * _ARCH, cy + low * _ARCH
    iris = ellipse(cx, cy - 0.01, 0.075, 0.085)
    iris[:, 1] = iris[:, 1].clip(np.interp(iris[:, 0], x, top), np.interp(iris[:, 0], x, bottom))
    base = cy - who.brow_gap + 0.11 * au[4] + 0.05 * au[9] + 0.02 * au[7]
    inner = base - 0.17 * au[1] + 0.05 * au[4] + 0.03 * au[9]
    middle, outer = base - 0.05 - 0.07 * au[1] - 0.13 * au[2], base + 0.02 + who.brow_slope - 0.13 * au[2]
    brow_x = cx + sign * np.array([-0.17 - 0.05 * au[4], -0.05, 0.09, 0.23])
    brow_y = np.array([inner, 0.5 * (inner + middle), middle, outer])
    half = who.brow_thickness * np.array([0.9, 1.0, 0.9, 0.4])
    brow = min(who.hair, 0.5 * skin) if who.hair_style else 0.4 * skin
    shapes = [
        Shape(_band(x, top - 0.06, bottom + 0.04), 0.88 * skin, 0.8),  # the socket
        Shape(_band(x, top, bottom), min(255.0, 150 + 0.4 * skin), 0.8),
        Shape(iris, min(who.iris, 0.6 * skin), 0.8),
        Shape(_curve(x, top), 0.3 * skin, 0.8, 0.03),
        Shape(_curve(x, bottom), 0.65 * skin, 0.8, 0.015),
        Shape(_band(brow_x, brow_y - half, brow_y + half), brow, 0.9),
    ]
    if au[6] > 0.1:  # raised cheek: a bag below the eye and crow's feet
        grey, out = skin * (1 - 0.35 * au[6]), cx + sign * (who.eye_width + 0.03)
        shapes.append(Shape(_curve(x, bottom + 0.09), grey, 0.8, 0.03))
        feet = [path((out, cy + 0.3 * dy), (out + sign * 0.1, cy + dy)) for dy in (-0.06, 0.06)]
        shapes += [Shape(line, grey, 0.6, 0.02) for line in feet]
    return shapes


def _nose(who: Identity, au: Floats) -> list[Shape]:
    """Draw bridge, wings and nostrils; AU9 pulls them up and widens them."""
    w, y = who.nose_width * (1 + 0.25 * au[9]), who.nose_y - 0.07 * au[9]
    bridge = path((0.03, who.eye_y), (-0.06, who.eye_y), (-w, y), (0.0, y + 0.03))
    wings = _curve(w * _T, y + 0.05 - 0.07 * np.abs(_T) ** 3)
    nostrils = [Shape(ellipse(sign * 0.55 * w, y + 0.025, 0.04, 0.022), 0.35 * who.skin, 1.3) for sign in (-1, 1)]
    return [Shape(bridge, 0.91 * who.skin, 1.0), Shape(wings, 0.7 * who.skin, 1.3, 0.02), *nostrils]


def _mouth(who: Identity, au: Floats) -> list[Shape]:
    """Draw lips, teeth, and the folds from nose to mouth; au (2, ROWS), one row for each half."""
    both, skin, shapes = au.mean(0), who.skin, []
    half = who.mouth_width + 0.11 * au[:, 12] + 0.12 * au[:, 20] - 0.05 * au[:, 23] - 0.03 * au[:, 14] - 0.1 * both[26]
    corner = -0.15 * au[:, 12] + 0.13 * au[:, 15] - 0.05 * au[:, 14] + 0.05 * (au[:, 20] + au[:, 26])
    for side, sign in enumerate((-1, 1)):
        fold = min(1.0, who.furrows + au[side] @ _FOLD)
        x, y = sign * (half[side] + 0.07), who.mouth_y + corner[side]
        start, end = (sign * (who.nose_width + 0.04), who.nose_y - 0.02 - 0.06 * both[9]), (x, y - 0.5 * corner[side])
        bow = (sign * (0.16 + 0.5 * half[side] + 0.06 * au[side, 12]), 0.5 * (start[1] + end[1]))
        shapes.append(Shape(path(start, bow, end), skin * (1 - 0.35 * fold), 1.0, 0.025))
        if au[side, 14] > 0.1:  # the dimple beside a tightened corner
            shapes.append(Shape(ellipse(x - sign * 0.04, y, 0.03, 0.06), skin * (1 - 0.5 * au[side, 14]), 1.0))
    right = (_T > 0).astype(np.int64)
    x, line = _T * half[right], who.mouth_y + 0.02 * both[12] - 0.04 * both[15] + corner[right] * _T**2
    above = 0.03 * both[25] + 0.06 * both[9] + 0.12 * both[26]
    below = 0.11 * both[25] + 0.1 * both[16] + 0.26 * both[26] + 0.04 * both[20]
    upper, lower = line - above * _ROUND, line + below * _ROUND
    lip = who.lip * (1 - 0.65 * both[23] - 0.25 * both[12] - 0.2 * both[20]).clip(0.2) * _ROUND
    teeth = upper + min(0.07, 0.5 * (above + below)) * _ARCH
    shapes.append(Shape(_band(x, upper - 0.85 * lip, lower + lip), 0.68 * skin, 1.0))
    shapes.append(Shape(_band(x, upper, lower), 0.2 * skin, 1.0))
    shapes.append(Shape(_curve(x, upper), 0.3 * skin, 1.0, 0.022))
    if above + below > 0.06:
        shapes.append(Shape(_band(x, upper, teeth)[1:-1], 225, 1.0))
    return shapes


def face_shapes(who: Identity, au: Floats) -> list[Shape]:
    """Draw all strokes of a face, back to front; au (2, ROWS), intensities of the picture's left and right half."""
    both = au.mean(0)
    shapes = _head(who, both[26]) + _forehead(who, both) + _eye(who, -1, au[0]) + _eye(who, 1, au[1])
    shapes += _nose(who, both) + _mouth(who, au)
    for x in (-who.eye_x, who.eye_x) if who.glasses else ():
        rim = ellipse(x, who.eye_y + 0.03, 0.25, 0.2)
        shapes.append(Shape(np.concatenate([rim, rim[:1]]), 40, 1.0, 0.03))
    return shapes

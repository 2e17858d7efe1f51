"""Drawn faces as a data set: nothing to download, no image of a person, known truth.

Identity, pose, light, noise and occlusion vary independently of the expression.
"""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ferlightning.data.datamodule import FaceData
from ferlightning.data.sources.synthetic.drawing import (
    EXPRESSIONS,
    ROWS,
    UNITS,
    Floats,
    Identity,
    Shape,
    ellipse,
    face_shapes,
    path,
)
from ferlightning.data.store import Store, open_store
from ferlightning.emotions import EMOTIONS, canonical
from ferlightning.errors import FerlError

SUPERSAMPLE = 3
SUBPIXEL = 4  # fractional bits of the coordinates given to OpenCV
_CORNERS = np.array([(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)])


class SyntheticFaces(FaceData):
    """Procedurally drawn grey faces, whose action units make the expression; splits share no subject.

    Args:
        classes: expressions to draw, from the eight of ``ferlightning.emotions.EMOTIONS``; null: all but contempt.
        items_per_class: stills or clips of each class, over all splits.
        subjects: drawn people, about 70 / 15 / 15 % of them in train / validation / test.
        frames: [shortest, longest] length of an onset-to-apex clip; null: stills.
        size: height and width in pixels.
        draw_seed: seed of the drawing.
        options: those of every data set.
    """

    def __init__(
        self,
        classes: Sequence[str] | None = None,
        items_per_class: int = 640,
        subjects: int = 100,
        frames: tuple[int, int] | None = None,
        size: int = 48,
        draw_seed: int = 0,
        **options: Any,
    ) -> None:
        if size < 1:
            raise FerlError(f"data.size is {size}: give a number of pixels from 1")
        super().__init__(**options)
        self.label_names = [canonical(name) for name in classes or EMOTIONS[:-1]]
        self.drawing: dict[str, Any] = {
            "class_names": self.label_names,
            "items_per_class": items_per_class,
            "subjects": subjects,
            "seed": draw_seed,
            "frames": frames,
            "size": size,
        }

    def read(self) -> Store:
        return open_store({"reader": "synthetic 3", **self.drawing}, lambda: draw_faces(**self.drawing))


def _occluder(rng: np.random.Generator, skin: float) -> list[Shape]:
    """Draw mostly nothing, else a bar across the face or a hand that reaches in from below."""
    kind = rng.random()
    if kind < 0.04:
        bar = _CORNERS * (0.8, rng.uniform(0.1, 0.22)) + rng.uniform((-1.2, -0.9), (1.2, 1.0))
        return [Shape(bar, float(rng.choice([15, 240])), 0.0)]
    if kind < 0.08:
        x, y = rng.choice([-1, 1]) * rng.uniform(0.3, 0.8), rng.uniform(0.75, 1.05)
        fingers = [path((x + dx, y), (1.1 * x + 1.3 * dx, y - 0.5)) for dx in (-0.21, -0.07, 0.07, 0.21)]
        palm = Shape(ellipse(x, y + 0.2, 0.3, 0.35), 0.8 * skin, 0.0)
        return [palm, *(Shape(finger, 0.85 * skin, 0.0, 0.12) for finger in fingers)]
    return []


def _paint(canvas: NDArray[np.uint8], shapes: list[Shape], pose: Floats) -> None:
    """Draw in place; pose (6,) is roll in radians, scale, centre x and y as shares of the canvas, yaw, pitch."""
    roll, scale, x, y = pose[:4]
    counts = [len(shape.points) for shape in shapes]
    relief = np.repeat([shape.relief for shape in shapes], counts)
    points = np.concatenate([shape.points for shape in shapes]) + relief[:, None] * pose[4:]
    turn = scale * np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])
    fixed = ((points @ turn + (x, y)) * len(canvas) - 0.5) * 2**SUBPIXEL
    pixels, stop = np.rint(fixed).astype(np.int32), 0
    for shape, count in zip(shapes, counts, strict=True):
        outline, stop = pixels[stop : stop + count], stop + count
        if shape.width:
            thickness = max(1, round(shape.width * scale * len(canvas)))
            cv2.polylines(canvas, [outline], False, shape.grey, thickness, cv2.LINE_AA, SUBPIXEL)
        else:
            cv2.fillPoly(canvas, [outline], shape.grey, cv2.LINE_AA, SUBPIXEL)


def _intensities(rng: np.random.Generator, expression: str) -> Floats:
    """Draw the action units at one apex, asymmetric and with weak stray units. Shape: (2, ROWS) in [0, 1]."""
    au, table = np.zeros((2, ROWS)), EXPRESSIONS[expression]
    au[:, list(table)] = rng.uniform(0.55, 1.0) * np.array(list(table.values())) * rng.uniform(0.75, 1.15, len(table))
    au *= rng.uniform(0.85, 1.0, (2, 1))
    if expression == "contempt":
        au[rng.integers(2)] = 0
    au[:, UNITS] += rng.uniform(-0.6, 0.2, len(UNITS)).clip(0)  # about three stray units
    return au.clip(0, 1)


def _perform(rng: np.random.Generator, who: Identity, expression: str, frames: int, size: int) -> NDArray[np.uint8]:
    """Draw one item: the apex if ``frames`` is 1, else from neutral to apex. Shape: (frames, size, size)."""
    time = np.linspace(0, 1, frames) if frames > 1 else np.ones(1)
    onset, apex = rng.uniform(0, 0.3), rng.uniform(0.6, 1.0)
    curve = ((time - onset) / (apex - onset)).clip(0, 1)
    curve = curve**2 * (3 - 2 * curve)
    au, occluder, backdrop = _intensities(rng, expression), _occluder(rng, who.skin), rng.uniform(20, 235)
    pose = rng.normal((0, 0.45, 0.5, 0.5, 0, 0), (0.08, 0.02, 0.02, 0.02, 0.05, 0.04))
    drift = rng.normal(0, (0.04, 0.01, 0.01, 0.01, 0.03, 0.02))
    x = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    y, slope = x[:, None], rng.normal(0, 0.4, 2)
    light = rng.uniform(0.75, 1.15) * (1 + slope[0] * x + slope[1] * y - 0.9 * (x**2 + y**2)).clip(0.15)
    gamma, noise, blur = rng.uniform(0.7, 1.4), rng.uniform(1, 8), rng.uniform(-0.4, 0.8) * size / 48
    clip = np.empty((frames, size, size), np.uint8)
    for n in range(frames):
        canvas = np.full((SUPERSAMPLE * size, SUPERSAMPLE * size), backdrop, np.uint8)
        _paint(canvas, face_shapes(who, curve[n] * au) + occluder, pose + time[n] * drift)
        small = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
        if blur > 0.2:
            small = cv2.GaussianBlur(small, (0, 0), blur)
        image = 255 * (small * light / 255).clip(0, 1) ** gamma
        clip[n] = (image + noise * rng.standard_normal(image.shape, np.float32)).clip(0, 255)
    return clip


def draw_faces(
    class_names: Sequence[str],
    items_per_class: int,
    subjects: int,
    seed: int = 0,
    frames: tuple[int, int] | None = None,
    size: int = 48,
) -> Store:
    """Draw a data set. Equal arguments give equal bytes.

    Args:
        class_names: expressions from ``EXPRESSIONS``; a label is an index into them.
        items_per_class: items of each class, dealt evenly to the subjects.
        subjects: how many people are shown, at least 3; about 70, 15 and 15 % go to train, val and test. At most
            ``items_per_class`` of them appear, so that each shows every class.
        seed: of everything that varies, >= 0.
        frames: shortest and longest onset-to-apex clip; None for stills of the apex.
        size: side of the square grey pictures in pixels.
    """
    expressions = [canonical(name) for name in class_names]
    for name, expression in zip(class_names, expressions, strict=True):
        if expression not in EXPRESSIONS:
            raise FerlError(f"no drawn face for class {name!r}; known: {', '.join(EXPRESSIONS)}")
    subjects = min(subjects, items_per_class)
    if subjects < 3:
        raise FerlError(
            f"train, val and test need one subject each: give at least 3 subjects and clips, not {subjects}"
        )
    # The third word keeps the subjects' random streams apart from those of the items, which have two.
    people = [Identity(np.random.default_rng([seed, person, 1])) for person in range(subjects)]
    held_out = max(1, round(0.15 * subjects))
    split_of = np.repeat(np.array([0, 1, 2], np.int8), [subjects - 2 * held_out, held_out, held_out])
    item = np.arange(items_per_class * len(expressions))
    take, label = np.divmod(item, len(expressions))
    take, person = np.divmod(take, subjects)
    clips = []
    for n, (p, k) in enumerate(zip(person, label, strict=True)):
        rng = np.random.default_rng([seed, n])
        length = 1 if frames is None else int(rng.integers(frames[0], frames[1], endpoint=True))
        clips.append(_perform(rng, people[p], expressions[k], length, size))
    return Store.of(
        images=np.concatenate(clips),
        start=np.cumsum([0, *map(len, clips)], dtype=np.int64),
        label=label,
        split=split_of[person],
        name=np.array([f"s{p:03}/{expressions[k]}/{t:03}" for p, k, t in zip(person, label, take, strict=True)]),
        subject=np.array([f"s{p:03}" for p in person]),
    )

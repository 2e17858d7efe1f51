"""Frames and photographs that the recogniser is measured on. Nothing of them is kept.

- **Streams**: real faces of FER2013's PublicTest, enlarged to 90 to 130 pixels, with soft borders, on a photograph of
  scikit-learn, 640 x 480. Each moves on a curve of its own at up to 120 pixels a second and breathes by 8 % in size;
  sensor noise (standard deviation 3) is new in every frame. The faces are those that YuNet finds at rest, where nothing
  else is; the true box is this one, moved along.
- **Photographs**: those with faces that the wheels and source archives of packages carry, with the number of faces in
  each, counted by eye; and some without.
"""

import math
import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ferlightning.images.decode import reduced
from ferlightning.images.detectors.yunet import YuNet

Image = NDArray[np.uint8]
RATE = 30
CENTRES = ((130, 200), (320, 290), (510, 200))
FACES = {
    "astronaut.png": 1, "grace_hopper.jpg": 1, "obama.jpg": 1, "obama2.jpg": 1, "obama3.jpg": 1, "biden.jpg": 1,
    "obama_partial_face.jpg": 1, "obama_partial_face2.jpg": 1, "Tom_Hanks_54745.png": 1, "t1.jpg": 6,
}  # fmt: skip
"""Photographs with faces: scikit-image, matplotlib, face_recognition and insightface have them."""
EMPTY = ("brick.png", "chelsea.png", "china.jpg", "coffee.png", "flower.jpg", "motorcycle_left.png", "rocket.jpg")
"""Photographs without: scikit-image and scikit-learn."""


@dataclass
class Scene:
    """Frames, RGB (480, 640, 3), with the true boxes of the faces, (N, 4), and the labels that these have."""

    frames: list[Image]
    boxes: list[NDArray[np.float64]]
    labels: list[int]


def real_faces() -> tuple[Image, NDArray[np.uint8]]:
    """FER2013's PublicTest: (N, 48, 48), and labels by FER2013's numbers."""
    stored = np.load(Path(os.environ["FERL_REAL_DATA"], "fer2013_public.npz"))
    return stored["pixels"], stored["emotion"]


def scene(n: int, seed: int = 0, faces: int = 3) -> Scene:
    """A stream of moving faces that YuNet finds at rest."""
    rng = np.random.default_rng(seed)
    pixels, emotions = real_faces()
    detector = YuNet()
    chosen: list[tuple[Image, NDArray[np.float64], int]] = []
    for i in rng.permutation(len(pixels)):
        still = np.full((480, 640, 3), 110, np.uint8)
        paste(still, pixels[i], 320, 240, 110)
        found = detector(still, 320, 0.8)
        if len(found) == 1:
            box = (np.array(found[0].box) - np.array([320, 240, 320, 240])) / 110
            chosen.append((pixels[i], box, int(emotions[i])))
        if len(chosen) == faces:
            break
    back = cv2.resize(photograph(), (640, 480))
    sizes, speeds = rng.uniform(90, 130, faces), rng.uniform(0.15, 0.35, (faces, 2))
    frames, boxes = [], []
    for t in np.arange(n) / RATE:
        frame, true = back.copy(), []
        for k, (face, box, _) in enumerate(chosen):
            x = CENTRES[k][0] + 55 * math.sin(2 * math.pi * speeds[k, 0] * t + k)
            y = CENTRES[k][1] + 50 * math.cos(2 * math.pi * speeds[k, 1] * t + 2 * k)
            size = round(sizes[k] * (1 + 0.08 * math.sin(t)))
            paste(frame, face, round(x), round(y), size)
            true.append(box * size + np.array([x, y, x, y]))
        noise = rng.normal(0, 3, frame.shape)
        frames.append(np.clip(frame + noise, 0, 255).astype(np.uint8))
        boxes.append(np.array(true))
    return Scene(frames, boxes, [label for _, _, label in chosen])


def photographs(folder: Path) -> dict[str, tuple[Image, int]]:
    """The photographs of a folder, RGB, at most 1280 pixels long, and how many faces each has."""
    found = {}
    for name, faces in {**FACES, **dict.fromkeys(EMPTY, 0)}.items():
        image = cv2.imread(str(folder / name), cv2.IMREAD_COLOR_RGB)
        if image is not None:
            found[name] = reduced(image, 1280)[0], faces
    return found


def paste(frame: Image, face: Image, x: int, y: int, size: int) -> None:
    """Draw a grey face around a point, with borders that fade."""
    large = cv2.resize(face, (size, size), interpolation=cv2.INTER_CUBIC)[:, :, None]
    away = np.abs(np.arange(size) - (size - 1) / 2) / (size / 2)
    alpha = np.clip((1 - np.maximum(away[:, None], away)) * 8, 0, 1)[:, :, None]
    top, left = y - size // 2, x - size // 2
    part = frame[top : top + size, left : left + size]
    part[:] = (alpha * large + (1 - alpha) * part).astype(np.uint8)


def photograph() -> Image:
    from sklearn.datasets import load_sample_image

    return np.asarray(load_sample_image("china.jpg"))

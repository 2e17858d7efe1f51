"""Draw 500 faces "of one's own", to train on, and some 2,800 to test on, as a folder of pictures.

    FERL_DATA=FOLDER python benchmarks/own_faces.py OUT

They are FER2013's PublicTest without its copies of training images, which ferl-small has not seen, as a cheap camera
in the evening would take them: dark, blurred, noisy and compressed. OUT gets train, val and test with a folder for
each class, the same ones in each run. Then ``ferl test ferl-small OUT`` and ``ferl fit OUT --from=ferl-small``.
"""

from pathlib import Path

import cv2
import numpy as np
from jsonargparse import auto_cli
from numpy.typing import NDArray

from ferlightning import FER2013

TRAIN, VAL = 400, 100


def evening(image: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """A face (H, W) in poor light: half the brightness, out of focus, with the noise of a sensor."""
    dark = cv2.GaussianBlur(image, (0, 0), 0.8).astype(np.float32) * random.uniform(0.4, 0.6)
    return np.clip(dark + random.normal(0, 3, image.shape), 0, 255).astype(np.uint8)


def own_faces(out: str, seed: int = 0) -> None:
    """Write the pictures.

    Args:
        out: folder, which must not exist.
        seed: of the drawing and of the noise.
    """
    random = np.random.default_rng(seed)
    data = FER2013()
    data.setup("validate")
    items = data.items["val"][~data.copied_from_training("val")]
    for place, item in enumerate(random.permutation(items)):
        split = "train" if place < TRAIN else "val" if place < TRAIN + VAL else "test"
        folder = Path(out, split, data.class_names[data.label[item]])
        folder.mkdir(parents=True, exist_ok=True)
        picture = evening(data.raw.images[item].squeeze(), random)
        cv2.imwrite(str(folder / f"{place:04}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 80])


if __name__ == "__main__":
    auto_cli(own_faces)

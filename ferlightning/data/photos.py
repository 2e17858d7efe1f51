"""Photographs without labels, to be predicted."""

import logging
from pathlib import Path

import numpy as np

from ferlightning.data.store import UNDECIDED, UNLABELLED, Store
from ferlightning.errors import FerlError
from ferlightning.images.decode import decode_image, list_images, resize_to_square

OBLONG = 1.25
"""Longer side over shorter side from which a photo is hardly a face that was cut out."""
log = logging.getLogger(__name__)


def read_photos(place: Path, size: int, color: bool) -> tuple[Store, list[str]]:
    """Read the images of a folder, at any depth, or a single image.

    Args:
        place: the folder or file.
        size: height and width to which images are resized, pixels.
        color: read RGB instead of grey.

    Returns:
        The images that can be read, and a sentence for each that cannot.

    Raises:
        FerlError: there is no such place, or no image in it that can be read.
    """
    place = place.expanduser()
    if not place.exists():
        raise FerlError(f"data.predict_folder: there is no folder or image {place}")
    files = list_images(place) if place.is_dir() else [place]
    if not files:
        raise FerlError(f"data.predict_folder: there are no images in {place}")
    images, names, oblong, unreadable = [], [], [], []
    for path in files:
        try:
            image = decode_image(path, color)
        except (FerlError, OSError) as error:
            unreadable.append(str(error))
            continue
        images.append(resize_to_square(image, size))
        names.append(str(path.relative_to(place)) if place.is_dir() else path.name)
        height, width = image.shape[:2]
        if max(height, width) > OBLONG * min(height, width):
            oblong.append(f"{names[-1]} ({width} x {height})")
    if oblong:
        log.warning(
            "%d of %d images are far from square, such as %s, and are squashed. A model expects faces, cut out as its "
            "training images were: crop them first",
            len(oblong), len(files), oblong[0],
        )  # fmt: skip
    if not images:
        raise FerlError(f"data.predict_folder: none of the {len(files)} images in {place} can be read: {unreadable[0]}")
    n = len(images)
    photos = Store.of(np.stack(images), np.full(n, UNLABELLED), np.full(n, UNDECIDED, np.int8), np.array(names))
    return photos, unreadable

"""Photographs without labels, to be predicted."""

import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ferlightning.data.sources.names import some
from ferlightning.data.store import UNDECIDED, UNLABELLED, Store, room
from ferlightning.errors import FerlError
from ferlightning.files import at_home
from ferlightning.images.decode import decode_image, image_names, is_pipe, read_all, resize_to_square

OBLONG = 1.25
"""Longer side over shorter side from which a photo is hardly a face that was cut out."""
MOST_IN_MEMORY = 1 << 30
"""Bytes of photos that are held where the disk cannot."""
log = logging.getLogger(__name__)


def read_photos(places: str | Path | Sequence[str], size: int, color: bool) -> tuple[Store, list[str]]:
    """Read the images of a folder, at any depth, or a single image, or several of these, onto the disk.

    Args:
        places: the folder or file, or several; of several the names of images are their whole paths.
        size: height and width to which images are resized, pixels.
        color: read RGB instead of grey.

    Returns:
        The images that can be read, and a sentence for each that cannot.

    Raises:
        FerlError: there is no such place, or no image in it that can be read.
    """
    given = [at_home(place) for place in ([places] if isinstance(places, str | Path) else places)]
    files: list[tuple[Path, str]] = []
    for place in given:
        if not place.exists():
            raise FerlError(f"data.predict_folder: there is no folder or image {place}")
        if not place.is_dir() and is_pipe(place):
            raise FerlError(f"data.predict_folder: {place} is a pipe or device, not an image")
        home = Path() if len(given) > 1 else place if place.is_dir() else place.parent
        if place.suffix.lower() in (".csv", ".txt"):
            raise FerlError(f"data.predict_folder: {place} is a list, not an image: give the images themselves")
        others: list[str] = []
        found = [*map(Path, image_names(place, others))] if place.is_dir() else [place]
        if found and others:
            log.warning("%d files in %s are no images and were left out: %s", len(others), place,
                        some([os.path.relpath(path, place) for path in others]))  # fmt: skip
        if not found:
            raise FerlError(f"data.predict_folder: there are no images in {place}")
        files += [(path, os.path.relpath(path, home) if len(given) == 1 else str(path)) for path in found]
    shape = (len(files), size, size) + (3,) * color
    try:
        images = room(shape)
    except FerlError:  # a cache that is only to be read, as in a container
        if math.prod(shape) > MOST_IN_MEMORY:
            raise
        images = np.empty(shape, np.uint8)
    names: list[str] = []
    oblong, unreadable = [], []

    def read(n: int) -> NDArray[np.uint8]:
        path, name = files[n]
        image = decode_image(path, color)
        height, width = image.shape[:2]
        if max(height, width) > OBLONG * min(height, width):
            oblong.append(f"{name} ({width} x {height})")
        return resize_to_square(image, size)

    for (_, name), image in zip(files, read_all(read, len(files)), strict=True):
        if isinstance(image, Exception):
            unreadable.append(str(image))
        else:
            images[len(names)] = image
            names.append(name)
    if oblong:
        log.warning(
            "%d of %d images are far from square, such as %s, and are squashed. A model expects faces, cut out as its "
            "training images were: crop them first",
            len(oblong), len(files), min(oblong),
        )  # fmt: skip
    if not names:
        raise FerlError(
            f"data.predict_folder: none of the {len(files)} images in {places} can be read: {unreadable[0]}"
        )
    n = len(names)
    photos = Store.of(images[:n], np.full(n, UNLABELLED), np.full(n, UNDECIDED, np.int8), np.array(names))
    return photos, unreadable

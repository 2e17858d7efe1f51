"""What the files of a data set are like, and how to train on them."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ferlightning.bounded_yaml import plain
from ferlightning.data.sources.files import ImageFiles, Listed
from ferlightning.errors import FerlError
from ferlightning.images.decode import decode_bytes
from ferlightning.images.detectors.haar import Haar

SAMPLE = 200  # files that are looked at
SEARCHED = 25  # of them are searched for faces, at most
PHOTO = 150
"""Pixels of the shorter side from which a picture may be a photograph with a face in it."""
SMALL = 0.45
"""Share of the picture's height below which a face is small: such pictures are not cut out."""
SIZES = (48, 64, 96, 112, 128, 160, 192, 224)
FEW = 5000
"""Training items below which weights that have seen faces are the better start: see lab_book in benchmarks/results."""
COLOURED = 0.1
"""Share of the files from which colour is worth reading."""


class Files(NamedTuple):
    """What the image files of a data set are like, from a sample."""

    least: tuple[int, int]
    """Width and height, pixels, of the smallest; of boxes where a table has them."""
    median: tuple[int, int]
    most: tuple[int, int]
    coloured: float
    """Share that has colour, not only three equal channels."""
    faces: list[float]
    """Height of the largest face as a share of the picture's, 0 without one, of those that may be photographs."""


def look_at(data: ImageFiles) -> Files | None:
    """Decode some of the files, evenly spread; None if none of them can be."""
    listed = data.listed()
    sample = listed[:: -(-len(listed) // SAMPLE) or 1]
    shapes, coloured, faces, haar = [], [], [], Haar()  # whose file needs not be fetched
    for n, file in enumerate(sample):
        try:
            image = decode_bytes(_content(file), True, file.path)
        except (FerlError, OSError):
            continue
        left, top, right, bottom = file.box or (0, 0, image.shape[1], image.shape[0])
        shapes.append((right - left, bottom - top))
        if n % -(-len(sample) // SEARCHED) == 0 and file.box is None and min(image.shape[:2]) >= PHOTO:
            boxes = [face.box for face in haar(image, 1280, haar.min_score)]
            faces.append(max((lower - upper for _, upper, _, lower in boxes), default=0) / image.shape[0])
        coloured.append(int(np.ptp(image.astype(np.int16), axis=2).max()) > 8)  # JPEG makes grey a little coloured
    if not shapes:
        return None
    shapes.sort(key=lambda shape: (shape[0] * shape[1], shape))
    return Files(shapes[0], shapes[len(shapes) // 2], shapes[-1], float(np.mean(coloured)), faces)


def _content(file: Listed) -> bytes:
    return Path(file.path).read_bytes() if file.content is None else file.content()


def command(data_set: str, options: dict[str, str], files: Files | None, items: int, clips: bool) -> str:
    """Write the command that trains on a data set.

    Args:
        data_set: name of its reader.
        options: of the reader, such as ``root``.
        files: from ``look_at``; None for a data set of one size.
        items: how many there are to train on.
        clips: whether they are clips.
    """
    few = "--config=ck_attn_pretrained" if clips or data_set == "CKPlus" else "--from=ferl-small"  # as measured on CK+
    start = few if items < FEW else "--config=models/cnn_bilstm" if clips else "--config=models/cnn"
    words = ["ferl", "fit", f"--data={data_set}"]
    words += [f"--data.{name}={plain(value)}" for name, value in options.items()]
    words.append(start)
    if files is not None and items >= FEW:
        side = min(files.median)
        words.append(f"--data.size={max([size for size in SIZES if size <= side], default=SIZES[0])}")
        words.append(f"--data.color={str(files.coloured > COLOURED).lower()}")
    return shlex.join(words)


def advise(files: Files | None, items: int) -> Sequence[str]:
    """Say why the command is what it is."""
    said = []
    if files is not None:
        least, median, most = (f"{width} x {height}" for width, height in (files.least, files.median, files.most))
        sizes = least if least == most else f"{least} to {most}, median {median}"
        said.append(f"Files as stored: {sizes}, {files.coloured:.0%} in colour, in a sample of at most {SAMPLE}.")
        small = sum(0 < share < SMALL for share in files.faces)
        if small or 0 in files.faces:
            said.append(
                f"Of {len(files.faces)} pictures that were searched, {files.faces.count(0)} have no face that is seen "
                f"at a glance, and in {small} it takes less than {SMALL:.0%} of the height."
                + (" Cut faces out first, by ferl data align FOLDER FACES, and train on FACES." if small else "")
            )
    if 0 < items < FEW:
        said.append(
            f"With {items:,} items to train on, weights that have seen faces are the better start: the command below "
            "takes those of ferl-small, for grey faces of 48 x 48 pixels."
        )
    return said

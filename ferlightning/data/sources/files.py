"""Data sets whose items are image files: the list of files, and how they become a store."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import compress
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ferlightning.data.datamodule import FaceData
from ferlightning.data.sources.layouts import Layout
from ferlightning.data.sources.names import readable, some
from ferlightning.data.store import SPLITS, UNDECIDED, UNLABELLED, Store, room
from ferlightning.errors import FerlError
from ferlightning.files import at_home
from ferlightning.images.decode import Box, read_all, read_image

OnBadImage = Literal["raise", "skip"]


class Listed(NamedTuple):
    """An image file with its class and split."""

    path: str
    name: str | None
    """Canonical name of its class; None without a label."""
    split: str | None
    subject: str = ""
    box: Box | None = None
    """The part of the image that is read; None for all of it."""
    sequence: str = ""
    """The recording that it is a frame of; empty if unknown, or for a photograph."""
    frame: float = 0
    """Its place in the recording; frames of one place stay in their order."""
    content: Callable[[], bytes] | None = None
    """Reads it where it is inside another file, and ``path`` a name for it."""


class ImageFiles(FaceData, ABC):
    """What data sets of image files share. A concrete one sets ``label_names`` and lists its files.

    Args:
        root: the folder; null: the environment variable FERL_DATA.
        size: height and width to which images are resized, pixels.
        color: read RGB instead of grey.
        on_bad_image: what to do with images that are missing or cannot be read: ``raise`` an error that counts and
            names them, or ``skip`` them with a remark in the report.
        options: those of every data set.
    """

    def __init__(
        self,
        root: str | None = None,
        size: int = 48,
        color: bool = False,
        on_bad_image: OnBadImage = "raise",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if size < 1:
            raise FerlError(f"data.size is {size}: give a number of pixels from 1")
        given = root or os.environ.get("FERL_DATA")
        if not given:
            raise FerlError(
                f"{type(self).__name__}: where is it? Set --data.root or the environment variable FERL_DATA"
            )
        self.root = at_home(given)
        self.remarks: list[str] = []
        """What is missing or odd."""
        self.size = size
        self.color = color
        self.on_bad_image = on_bad_image
        self.clips = False
        """Whether frames of one sequence, which are listed one after another, are one item."""
        self.told: dict[str, object] = {}
        """What options say about the files; a store of the same files told otherwise is another."""

    @abstractmethod
    def sources(self) -> Sequence[Path | str]:
        """Everything that is read: files of labels, and images."""

    @abstractmethod
    def listed(self) -> list[Listed]:
        """The images with their labels; may add to ``remarks``."""

    def read(self) -> Store:
        layout = Layout("files", self.root, self.sources, self._parse, 4)
        skip = self.on_bad_image == "skip"
        options = {"size": self.size, "color": self.color, "skip": skip, "names": self.label_names}
        return layout.open(type(self).__name__, **options, told=self.told, remarks=[*self.remarks])

    def _parse(self) -> Store:
        files = self.listed()
        return read_listed(
            self.root, files, self.label_names, self.size, self.color, self.on_bad_image, self.remarks, self.clips
        )


def decode_all(
    paths: Sequence[Path],
    read: Callable[[int], NDArray[np.uint8]],
    size: int,
    color: bool,
    on_bad_image: OnBadImage,
    root: Path,
) -> tuple[NDArray[np.uint8], NDArray[np.bool_], list[str]]:
    """Decode images onto the disk, in order.

    Args:
        paths: their files, for messages.
        read: reads the image of a number.
        size: its height and width, pixels.
        color: it is RGB instead of grey.
        on_bad_image: ``raise`` an error that counts and names all that are missing or cannot be read, or ``skip`` them.
        root: of the data, for messages.

    Returns:
        The images; which of the files they are, (n,); and remarks on those left out.

    Raises:
        FerlError: images cannot be read, and ``on_bad_image`` is ``raise``, or there are no others.
    """
    images = room((len(paths), size, size) + (3,) * color)
    good = np.zeros(len(paths), bool)
    errors: list[str] = []
    kept = 0
    for n, image in enumerate(read_all(read, len(paths))):
        if isinstance(image, Exception):
            errors.append(str(image))
        else:
            images[kept], good[n], kept = image, True, kept + 1
    if not errors:
        return images, good, []
    named = some([str(path)[:400] for path, read_well in zip(paths, good, strict=True) if not read_well], 20)
    what = f"{len(errors):,} of {len(paths):,} images cannot be read"
    if on_bad_image == "raise" or not kept:
        option = ", or leave {} out with --data.on_bad_image=skip" if kept else ""
        if len(errors) == 1:
            raise FerlError(errors[0] + option.format("it"))
        raise FerlError(f"{root}: {what}: {named}. First: {errors[0]}{option.format('them')}")
    return images[:kept], good, [f"{what} and were left out: {named}."]


def read_listed(
    root: Path,
    files: list[Listed],
    label_names: list[str],
    size: int,
    color: bool,
    on_bad_image: OnBadImage,
    remarks: Sequence[str] = (),
    clips: bool = False,
) -> Store:
    """Decode listed images.

    Args:
        root: the folder that the names of items are relative to.
        files: the images.
        label_names: the classes; a label is an index into them.
        size: height and width to which images are resized, pixels.
        color: read RGB instead of grey.
        on_bad_image: as in ``ImageFiles``.
        remarks: on the list.
        clips: an item is the frames of one sequence, which are listed one after another; else it is an image.

    Raises:
        FerlError: images cannot be read; the message counts and names them.
    """
    images, good, more = decode_all(
        [Path(file.path) for file in files],
        lambda n: read_image(Path(files[n].path), size, color, files[n].box, files[n].content),
        size, color, on_bad_image, root,
    )  # fmt: skip
    files = list(compress(files, good))
    before = ["", *(file.sequence for file in files)]
    first = [n for n, file in enumerate(files) if not (clips and file.sequence and file.sequence == before[n])]
    start = np.array([*first, len(files)], np.int64)
    files = [files[n] for n in first]
    index = {name: k for k, name in enumerate(label_names)}
    return Store.of(
        images=images,
        start=start,
        label=np.array([UNLABELLED if file.name is None else index[file.name] for file in files], np.int64),
        split=np.array([SPLITS.index(file.split) if file.split else UNDECIDED for file in files], np.int8),
        name=np.array(
            [file.sequence if clips and file.sequence else readable(os.path.relpath(file.path, root)) for file in files]
        ),
        subject=np.array([file.subject for file in files]),
        sequence=np.array([file.sequence for file in files]),
        remarks=[*remarks, *more],
    )

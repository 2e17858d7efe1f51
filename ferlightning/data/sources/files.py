"""Data sets whose items are image files: the list of files, and how they become a store."""

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from ferlightning.data.datamodule import FaceData
from ferlightning.data.sources.layouts import Layout
from ferlightning.data.sources.names import readable, some
from ferlightning.data.store import SPLITS, UNDECIDED, UNLABELLED, Store
from ferlightning.errors import FerlError
from ferlightning.images.decode import Box, read_image

OnBadImage = Literal["raise", "skip"]


class Listed(NamedTuple):
    """An image file with its class and split."""

    path: Path
    name: str | None
    """Canonical name of its class; None without a label."""
    split: str | None
    subject: str = ""
    box: Box | None = None
    """The part of the image that is read; None for all of it."""


class ImageFiles(FaceData, ABC):
    """What data sets of image files share. A concrete one sets ``label_names`` and lists its files.

    Args:
        root: the folder; null: the environment variable FERL_DATA.
        size: height and width to which images are resized, pixels.
        color: read RGB instead of grey.
        on_bad_image: what to do with images that cannot be read: ``raise`` an error that names them, or ``skip`` them
            with a remark in the report.
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
        self.root = Path(given).expanduser()
        self.remarks: list[str] = []
        """What is missing or odd."""
        self.size = size
        self.color = color
        self.on_bad_image = on_bad_image

    @abstractmethod
    def sources(self) -> list[Path]:
        """Everything that is read: files of labels, and images."""

    @abstractmethod
    def listed(self) -> list[Listed]:
        """The images with their labels; may add to ``remarks``."""

    def read(self) -> Store:
        layout = Layout("files", self.root, self.sources, self._parse, 4)
        skip = self.on_bad_image == "skip"
        options = {"size": self.size, "color": self.color, "skip": skip, "names": self.label_names}
        return layout.open(type(self).__name__, **options, remarks=[*self.remarks])

    def _parse(self) -> Store:
        files = self.listed()
        return read_listed(self.root, files, self.label_names, self.size, self.color, self.on_bad_image, self.remarks)


def read_listed(
    root: Path,
    files: list[Listed],
    label_names: list[str],
    size: int,
    color: bool,
    on_bad_image: OnBadImage | None = None,
    remarks: Sequence[str] = (),
) -> Store:
    """Decode listed images.

    Args:
        root: the folder that the names of items are relative to.
        files: the images.
        label_names: the classes; a label is an index into them.
        size: height and width to which images are resized, pixels.
        color: read RGB instead of grey.
        on_bad_image: as in ``ImageFiles``; None raises, too, where there is no such option.
        remarks: on the list.

    Raises:
        FerlError: images cannot be read; the message counts and names them.
    """
    images = np.empty((len(files), size, size) + (3,) * color, np.uint8)
    bad: dict[int, str] = {}
    for n, file in enumerate(files):
        try:
            images[n] = read_image(file.path, size, color, file.box)
        except FerlError as error:
            bad[n] = str(error)
    remarks = list(remarks)
    if bad:
        named = some([str(files[n].path) for n in bad], 20)
        if on_bad_image != "skip" or len(bad) == len(files):
            option = ", or leave them out with --data.on_bad_image=skip" if on_bad_image else ""
            if len(bad) == 1:
                raise FerlError(next(iter(bad.values())) + option.replace("them", "it"))
            raise FerlError(
                f"{root}: {len(bad):,} of {len(files):,} images cannot be read: {named}. Replace or remove them{option}"
            )
        remarks.append(f"{len(bad):,} of {len(files):,} images cannot be read and were left out: {named}.")
        good = np.array([n not in bad for n in range(len(files))])
        images, files = images[good], [file for n, file in enumerate(files) if n not in bad]
    index = {name: k for k, name in enumerate(label_names)}
    return Store.of(
        images=images,
        label=np.array([UNLABELLED if file.name is None else index[file.name] for file in files], np.int64),
        split=np.array([SPLITS.index(file.split) if file.split else UNDECIDED for file in files], np.int8),
        name=np.array([readable(os.path.relpath(file.path, root)) for file in files]),
        subject=np.array([file.subject for file in files]),
        remarks=remarks,
    )

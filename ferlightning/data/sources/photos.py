"""Photographs as a data set of their own: what a trained model predicts, without the data that it was trained on."""

from collections.abc import Sequence
from typing import Any

from ferlightning.data.datamodule import FaceData
from ferlightning.data.photos import read_photos
from ferlightning.data.store import Store


class Photos(FaceData):
    """Images without labels in a folder, or one image, or several of these, for ``predict``.

    Args:
        folder: the folder, searched at any depth, or the image; or a list of them.
        class_names: classes of the model.
        size: height and width to which images are resized, pixels, before ``preprocess``.
        color: read RGB instead of grey.
        options: those of every data set.
    """

    def __init__(
        self,
        folder: list[str] | str,
        class_names: Sequence[str],
        size: int = 48,
        color: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options, predict_folder=folder)
        self.label_names = list(class_names)
        self.size = size
        self.color = color

    def read(self) -> Store:
        photos, self.unreadable = read_photos(self.predict_folder or "", self.size, self.color)
        return photos

    @property
    def _unlabelled(self) -> Store:
        return self.raw

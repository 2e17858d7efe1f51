"""Faces in a file of NumPy's, with their labels: what ``ferlightning.from_arrays`` writes."""

from typing import Any
from zipfile import BadZipFile

import numpy as np

from ferlightning.data.datamodule import FaceData
from ferlightning.data.store import UNDECIDED, Store
from ferlightning.emotions import canonical, spelled
from ferlightning.errors import FerlError
from ferlightning.files import at_home


class Arrays(FaceData):
    """A .npz file with ``images`` (N, H, W[, 3]) uint8, ``labels`` (N,), and perhaps ``subjects`` (N,), who is shown.

    Items are split 70 / 15 / 15 %, by subject where subjects are known.

    Args:
        root: the file.
        options: those of every data set.
    """

    def __init__(self, root: str, **options: Any) -> None:
        super().__init__(**options)
        self.made_of: dict[str, Any] = {}
        """Its options as plain values, where ``from_arrays`` made it."""
        self.root = at_home(root)
        try:
            with np.load(self.root, allow_pickle=False) as file:
                names = [*file]
                self.arrays = {name: file[name] for name in ("images", "labels", "subjects") if name in file}
        except (OSError, ValueError, EOFError, BadZipFile) as error:
            raise FerlError(f"data.root: {root} cannot be read as a .npz file: {error}") from None
        images, labels = self.arrays.get("images"), self.arrays.get("labels")
        if labels is not None and labels.dtype.kind == "f" and (labels % 1 == 0).all():
            labels = labels.astype(np.int64)
        usable = images is not None and images.dtype == np.uint8 and images.ndim in (3, 4)
        if images is None or labels is None or not usable or labels.ndim != 1:
            there = [f"{name} {self.arrays[name].shape} {self.arrays[name].dtype}" for name in self.arrays]
            there += [name for name in names if name not in self.arrays]
            raise FerlError(f"{root}: expected images (N, H, W[, 3]) uint8 and labels (N,); it has {', '.join(there)}")
        if any(len(x) != len(images) for x in self.arrays.values()) or not len(images):
            raise FerlError(f"{root}: there are {len(images)} images and {len(labels)} labels")
        classes = [canonical(str(label)) for label in labels]
        self.label_names = sorted(set(classes))
        self.spelling = {canonical(str(x)): spelled(str(x)) for x in labels if canonical(str(x)) != spelled(str(x))}
        if len(self.label_names) < 2:
            raise FerlError(
                f"{root}: the labels are all {self.label_names[0]}; a classifier needs at least two classes"
            )
        self.numbers = np.array([self.label_names.index(name) for name in classes], np.int64)

    def read(self) -> Store:
        images, n = self.arrays["images"], len(self.numbers)
        names = np.array([f"{i:06d}" for i in range(n)])
        subjects = self.arrays.get("subjects")
        who = {} if subjects is None else {"subject": subjects.astype(np.str_)}
        return Store.of(images, self.numbers, np.full(n, UNDECIDED, np.int8), names, **who)

"""A torch data set over items of a store, which fetches a whole batch per call."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ferlightning.contracts.images import GradedCorruption, Preprocess
from ferlightning.contracts.modules import Batch
from ferlightning.data.preprocessed import preprocess_image
from ferlightning.data.store import Store
from ferlightning.data.transforms import apply_albumentations


class StoreDataset(Dataset[Batch]):
    """Some items of a store, fetched a whole batch per call.

    Args:
        store: where the frames are.
        numbers: (n,) numbers of the items within the store.
        label: (n,) class index or (n, K) class probabilities.
        augment: an ``albumentations.Compose`` that changes the frames of an item alike, seeded from torch's generator.
        preprocess: applied first, to each frame in turn, where the frames of the store are not preprocessed yet.
    """

    def __init__(
        self,
        store: Store,
        numbers: NDArray[np.int64],
        label: Tensor,
        augment: Any | None = None,
        preprocess: Sequence[Preprocess | GradedCorruption] = (),
    ) -> None:
        self.store = store
        self.numbers = numbers
        self.label = label
        self.augment = augment
        self.preprocess = preprocess

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Batch:
        return {key: x[0] for key, x in self.__getitems__([index]).items()}

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Fetch a batch: uint8 images (B, T, C, H, W), ``label``, ``index`` (B,), and ``mask`` (B, T) if clips differ.

        Short clips are padded with black frames.
        """
        store, index = self.store, torch.as_tensor(indices)
        items = self.numbers[index.numpy()]
        first, length = store.start[items], store.start[items + 1] - store.start[items]
        steps = np.arange(int(length.max()))
        real = steps < length[:, None]  # (B, T)
        frames = store.images[np.where(real, first[:, None] + steps, 0)]
        if self.preprocess:
            frames = np.stack([[preprocess_image(self.preprocess, frame) for frame in clip] for clip in frames])
        frames = frames[..., None] if frames.ndim == 4 else frames  # (B, T, H, W, C)
        if self.augment is not None:
            self.augment.set_random_seed(int(torch.randint(2**31, ())))
            frames = np.stack([apply_albumentations("data.worker_augment", self.augment, clip) for clip in frames])
        images = torch.from_numpy(frames).movedim(4, 2)
        batch = {"image": images, "label": self.label[index], "index": index}
        if not real.all():
            batch["mask"] = torch.from_numpy(real)
            images[~batch["mask"]] = 0
        return batch

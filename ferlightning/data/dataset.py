"""A torch data set over items of a store, which fetches a whole batch per call."""

from collections.abc import Mapping, Sequence
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
        others: more labels by name, each (n, K) class probabilities; the batch has them as ``label_NAME``.
        augment: an ``albumentations.Compose`` that changes the frames of an item alike. Its draws depend on the seed,
            the epoch and the items of the batch, not on the process that loads it.
        preprocess: applied to each frame in turn, where the frames of the store are not preprocessed yet.
        augment_first: whether ``augment`` comes before ``preprocess``.
        seed: of the draws of ``augment``.
    """

    def __init__(
        self,
        store: Store,
        numbers: NDArray[np.int64],
        label: Tensor,
        others: Mapping[str, Tensor],
        augment: Any | None = None,
        preprocess: Sequence[Preprocess | GradedCorruption] = (),
        augment_first: bool = False,
        seed: int = 0,
    ) -> None:
        self.store = store
        self.numbers = numbers
        self.label = label
        self.others = others
        self.augment = augment
        self.preprocess = preprocess
        self.augment_first = augment_first
        self.seed = seed
        self.resident: Batch = {}
        self.epoch = torch.zeros((), dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def plain(self) -> bool:
        """Whether batches are frames of the store as they are, as many for each item."""
        length = np.diff(self.store.start)[self.numbers]
        return self.augment is None and not self.preprocess and len(length) > 0 and bool((length == length[0]).all())

    def keep_on(self, device: torch.device) -> None:
        """Copy the items to a device once, which then gathers the batches there; for ``plain`` items."""
        whole = self.__getitems__(range(len(self)))
        self.resident = {key: x.contiguous().to(device) for key, x in whole.items() if key != "index"}

    def __getitem__(self, index: int) -> Batch:
        return {key: x[0] for key, x in self.__getitems__([index]).items()}

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Fetch a batch: uint8 images (B, T, C, H, W), ``label``, ``index`` (B,), and ``mask`` (B, T) if clips differ.

        Short clips are padded with black frames.
        """
        if self.resident:
            index = torch.tensor(indices, pin_memory=self.resident["image"].is_cuda)  # else the copy waits for the GPU
            index = index.to(self.resident["image"].device, non_blocking=True)
            return {key: x[index] for key, x in self.resident.items()} | {"index": index}
        store, index = self.store, torch.as_tensor(indices)
        items = self.numbers[index.numpy()]
        first, length = store.start[items], store.start[items + 1] - store.start[items]
        steps = np.arange(int(length.max()))
        real = steps < length[:, None]  # (B, T)
        frames = store.images[np.where(real, first[:, None] + steps, 0)]
        if self.augment_first:
            frames = self._preprocessed(self._augmented(frames, index[0]))
        else:
            frames = self._augmented(self._preprocessed(frames), index[0])
        images = torch.from_numpy(_with_channels(frames)).movedim(4, 2)
        batch = {"image": images, "label": self.label[index], "index": index}
        batch |= {f"label_{name}": label[index] for name, label in self.others.items()}
        if not real.all():
            batch["mask"] = torch.from_numpy(real)
            images[~batch["mask"]] = 0
        return batch

    def _preprocessed(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if not self.preprocess:
            return frames
        return np.stack([[preprocess_image(self.preprocess, frame) for frame in clip] for clip in frames])

    def _augmented(self, frames: NDArray[np.uint8], first: Tensor) -> NDArray[np.uint8]:
        """Augment clips (B, T, H, W[, C]); ``first`` is the number of the first item, which no other batch has."""
        if self.augment is None:
            return frames
        drawn = np.random.SeedSequence([self.seed, int(self.epoch), int(first)]).generate_state(1)
        self.augment.set_random_seed(int(drawn[0]))
        clips = _with_channels(frames)
        changed = np.stack([apply_albumentations("data.worker_augment", self.augment, clip) for clip in clips])
        return changed[..., 0] if frames.ndim == 4 else changed


def _with_channels(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey frames with an axis for their one channel: (B, T, H, W[, C]) -> (B, T, H, W, C)."""
    return frames[..., None] if frames.ndim == 4 else frames

"""Samplers: which training items an epoch has, in which order. Draws depend on seed and epoch alone."""

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import DistributedSampler

from ferlightning.data.dataset import StoreDataset


class ShuffledSampler(DistributedSampler[int]):
    """Draws the order of an epoch, and tells the data set which epoch it is; a resumed run repeats no draw."""

    dataset: StoreDataset

    def set_epoch(self, epoch: int) -> None:
        super().set_epoch(epoch)
        self.dataset.epoch.fill_(epoch)


class ClassBalancedSampler(ShuffledSampler):
    """Draws items with replacement, all classes equally likely; each process takes its part of one common draw.

    Args:
        data: n items.
        label: (n,) class of each item.
        processes: how many share an epoch.
        rank: number of this process.
        seed: of the draw, together with the epoch; the same in all processes.
    """

    def __init__(
        self, data: StoreDataset, label: Sequence[int] | torch.Tensor, processes: int, rank: int, seed: int
    ) -> None:
        super().__init__(data, processes, rank, seed=seed)
        label = torch.as_tensor(label)
        self.weights = 1 / torch.bincount(label).double()[label]

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        drawn = torch.multinomial(self.weights, self.total_size, replacement=True, generator=generator)
        return iter(drawn[self.rank :: self.num_replicas].tolist())

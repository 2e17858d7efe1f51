"""The base of the parts that scikit-learn solves: it gathers an epoch's features and labels over all processes."""

from abc import ABC, abstractmethod

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from ferlightning.contracts.modules import Fitted, class_index
from ferlightning.errors import FerlError


class Gathered(Fitted, ABC):
    """Keeps the features and labels of the epoch, 4 D bytes an image, and gives all of them to ``solve`` at a fit.

    Raises:
        FerlError: in a fit, the features are not finite.
    """

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[tuple[Tensor, Tensor]] = []

    @abstractmethod
    def solve(self, x: NDArray[np.float64], label: NDArray[np.int64]) -> None:
        """Write the solution for the features x (N, D) and their class indices (N,) into the buffers, in place."""

    def update(self, x: Tensor, label: Tensor) -> None:
        self.batches.append((x.float(), class_index(label)))

    def fit(self) -> None:
        if not self.batches:
            return
        x, label = (torch.cat(column) for column in zip(*self.batches, strict=True))
        if dist.is_available() and dist.is_initialized():
            from torchmetrics.utilities.distributed import gather_all_tensors  # late: only several processes need it

            x, label = torch.cat(gather_all_tensors(x)), torch.cat(gather_all_tensors(label))
        if not x.isfinite().all():
            raise FerlError(
                f"{type(self).__name__}: the features of this epoch are not finite. Training has probably diverged: "
                "lower the learning rate, or use another precision"
            )
        self.solve(x.cpu().double().numpy(), label.cpu().numpy())  # on the CPU, as MPS has no float64

    def reset(self) -> None:
        self.batches = []

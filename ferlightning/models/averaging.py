"""The moving average of the weights, updated by one operation for all tensors."""

from itertools import chain
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging


class EMA(EMAWeightAveraging):
    """Exponential moving average of the weights, which is what is validated, tested and saved.

    Until it begins, with ``update_starting_at_step`` or ``update_starting_at_epoch``, the weights themselves are.

    Lightning's, on the device that trains. Its own copies each tensor to the CPU and averages it there, which takes
    longer than a training step of a small network on a GPU; on a CPU it takes a dozen operations for each tensor.

    Args:
        decay: share of the average that stays in an update, in [0, 1).
        kwargs: of Lightning's ``EMAWeightAveraging``.
    """

    def __init__(self, decay: float = 0.999, **kwargs: Any) -> None:
        super().__init__(decay=decay, **kwargs)
        self.decay = decay

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._device = self._device or trainer.strategy.root_device  # the module itself is moved there later
        super().setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self._average_model is not None
        modules = (self._average_model.module, pl_module)
        tensors = [[x.detach() for x in chain(module.parameters(), module.buffers())] for module in modules]
        self._means, self._now = ([x for x in of if x.is_floating_point()] for of in tensors)
        self._counts, self._counts_now = ([x for x in of if not x.is_floating_point()] for of in tensors)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if self._latest_update_step == 0 or self._device != pl_module.device or not self._use_buffers:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        elif step > self._latest_update_step and self.should_update(step_idx=step - 1):
            assert self._average_model is not None
            torch._foreach_lerp_(self._means, self._now, 1 - self.decay)
            if self._counts:
                torch._foreach_copy_(self._counts, self._counts_now)
            self._average_model.n_averaged += 1
            self._latest_update_step = step

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._begun:
            super().on_train_end(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if self._average_model is not None and not self._begun:
            checkpoint["state_dict"] = checkpoint["current_model_state"]

    def _swap_models(self, pl_module: LightningModule) -> None:
        if self._begun:
            super()._swap_models(pl_module)

    @property
    def _begun(self) -> bool:
        """Whether there is an average; before, Lightning has a copy of the first weights in its place."""
        return self._average_model is not None and bool(self._average_model.n_averaged > 0)

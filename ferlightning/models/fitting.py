"""Fits the parts that are solved for, not learned, and measures anew what the layers after them normalise by."""

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ferlightning.contracts.modules import Batch, Fitted, class_index, has_label
from ferlightning.models.network import Network

RENEWED_ON = 2000
"""Images that the batch norms after a fitted part are measured on: the last ones of the epoch, or all it had."""


class Fitting:
    """The fitted parts of a network in training.

    The running statistics of the batch norms after a fitted part are those of its old solution. If they stay, what is
    validated is not the network that was trained: with LDA under a dense block, accuracy fell by up to 20 points. So a
    fit re-estimates them, as ``torch.optim.swa_utils.update_bn`` does for averaged weights.

    Args:
        network: what is trained.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.parts = [module for module in network.modules() if isinstance(module, Fitted)]
        self.gathered = False  # whether there is anything new to solve for
        self.recent: list[Batch] = []

    def gather(self, batch: Batch) -> None:
        """Give each part the features that it saw in a training step, with class indices, of the items with a label."""
        # Copies: where a step is replayed as a CUDA graph, the next one writes to the same memory.
        for part in self.parts:
            if part.seen is not None:
                known = slice(None) if batch["label"].ndim == 1 else has_label(batch["label"])
                part.update(part.seen[known].clone(), class_index(batch["label"])[known].clone())
                part.seen, self.gathered = None, True
        if self.gathered:
            self.recent.append({key: batch[key].clone() for key in ("image", "mask") if key in batch})
            while sum(len(one["image"]) for one in self.recent[1:]) >= RENEWED_ON:
                self.recent.pop(0)

    def fit(self) -> None:
        """Solve the parts, once for the same gathered items: a fit may take long."""
        if self.gathered:
            for part in self.parts:
                part.fit()
            self._renew_norms()
        self.gathered = False

    def reset(self) -> None:
        """Forget what was gathered."""
        for part in self.parts:
            part.reset()
        self.gathered, self.recent = False, []

    @torch.no_grad()
    def _renew_norms(self) -> None:
        """Estimate the statistics of the batch norms that run after a fitted part as the mean over recent batches."""
        modes = {module: module.training for module in self.network.modules()}
        norms: dict[_BatchNorm, float | None] = {}
        past = False

        def meet(module: nn.Module, _: object) -> None:
            nonlocal past
            past = past or isinstance(module, Fitted)
            if past and isinstance(module, _BatchNorm) and module.track_running_stats:
                norms[module] = module.momentum

        kinds = (Fitted, _BatchNorm)
        hooks = [module.register_forward_pre_hook(meet) for module in modes if isinstance(module, kinds)]
        self.network.eval()
        self.network(**self.recent[-1])
        for hook in hooks:
            hook.remove()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean over all batches
            norm.train()
        for batch in self.recent if norms else []:
            self.network(**batch)
        for norm, momentum in norms.items():
            norm.momentum = momentum
        for module, mode in modes.items():
            module.training = mode

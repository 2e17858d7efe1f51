"""What is validated after a fit is the network that was trained."""

from functools import partial
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from ferlightning import Classifier
from ferlightning.contracts.modules import Batch, Fitted
from ferlightning.models.fitting import Fitting
from ferlightning.models.network import Network
from ferlightning.parts import ConvStack, LinearHead, ProjectionHead


class _Jump(Callback):
    """Cross-entropy on the validation images before and after each fit."""

    def __init__(self, batches: DataLoader[Batch]) -> None:
        self.batches = batches
        self.jumps: list[float] = []

    def loss(self, model: LightningModule) -> float:
        terms = [cross_entropy(model(b["image"]).logits, b["label"], reduction="none") for b in self.batches]
        return float(torch.cat(terms).mean())

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.before = self.loss(pl_module)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self.jumps.append(self.loss(pl_module) - self.before)


def noisy(k: int, n: int, seed: int) -> DataLoader[Batch]:
    """Batches of n images of each of k patterns under noise as strong as they are."""
    pattern = torch.randn(k, 1, 1, 6, 6, generator=torch.Generator().manual_seed(k)).repeat_interleave(4, 3)
    pattern = pattern.repeat_interleave(4, 4)
    label = torch.arange(k).repeat(n)
    noise = torch.randn(k * n, 1, 1, 24, 24, generator=torch.Generator().manual_seed(seed))
    images = (0.5 + 0.1 * pattern[label] + 0.2 * noise).clamp(0, 1)
    items: Any = [{"image": image, "label": y} for image, y in zip(images, label, strict=True)]
    return DataLoader(items, batch_size=16)


@pytest.mark.parametrize("k", [3, 7])
def test_the_loss_does_not_jump_at_a_fit(k: int) -> None:
    torch.manual_seed(1)
    val = noisy(k, 10, seed=1)
    jump = _Jump(val)
    model = Classifier(
        [str(i) for i in range(k)], backbone=partial(ConvStack, channels=(16, 32), depth=1), head=ProjectionHead,
        optimizer=partial(torch.optim.Adam, lr=3e-3),
    )  # fmt: skip
    trainer = Trainer(
        max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[jump],
    )  # fmt: skip
    trainer.fit(model, noisy(k, 24, seed=0), val)
    assert len(jump.jumps) == 4 and max(jump.jumps) < 0.05


class _Turned(Fitted):
    """Adds a number that a fit changes by much."""

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__()
        self.out_features = in_features
        self.shift: Tensor
        self.register_buffer("shift", torch.zeros(()))

    def transform(self, x: Tensor) -> Tensor:
        return x + self.shift

    def update(self, x: Tensor, label: Tensor) -> None:
        pass

    def fit(self) -> None:
        self.shift.fill_(100)

    def reset(self) -> None:
        pass


@torch.no_grad()
def test_batch_norms_after_a_fitted_part_are_measured_anew_and_others_are_left() -> None:
    torch.manual_seed(0)
    network = Network(
        ["a", "b"], partial(ConvStack, channels=(4,), depth=1), partial(ProjectionHead, projection=_Turned)
    )
    fitting = Fitting(network)
    image = torch.rand(8, 1, 1, 16, 16)
    network(image)
    kept = {name: x.clone() for name, x in network.backbone.state_dict().items()}
    fitting.gather({"image": image, "label": torch.zeros(8, dtype=torch.int64)})
    modes = [module.training for module in network.modules()]
    fitting.fit()
    assert [module.training for module in network.modules()] == modes
    assert all(x.equal(kept[name]) for name, x in network.backbone.state_dict().items())

    head = network.head
    x = network.eval().backbone((image[:, 0] - network.mean) / network.std).mean((2, 3)) + 100
    first = head.reconstruction.first(x)
    norm = next(module for module in head.reconstruction.layers[0].modules() if isinstance(module, nn.BatchNorm1d))
    torch.testing.assert_close(norm.running_mean, first.mean(0))
    torch.testing.assert_close(norm.running_var, first.var(0))


def test_a_network_without_fitted_parts_keeps_nothing() -> None:
    fitting = Fitting(Network(["a", "b"], ConvStack, LinearHead))
    fitting.gather({"image": torch.rand(2, 1, 1, 16, 16), "label": torch.tensor([0, 1])})
    assert not fitting.recent

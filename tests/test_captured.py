"""A training step as a CUDA graph gives what a step that runs as usual does."""

import logging
import re
from functools import partial
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from timm.optim import Muon
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from ferlightning import Classifier, SyntheticFaces
from ferlightning.captured import Captured
from ferlightning.contracts.modules import Loss, Output
from ferlightning.data.augment import Erase, Light, Warp
from ferlightning.models.averaging import EMA
from ferlightning.parts import LSTM, CenterLoss, ConvStack, CrossEntropy, DenoisingAutoencoder, ProjectionHead

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
SGD = {
    "optimizer": partial(torch.optim.SGD, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "scheduler": partial(OneCycleLR, max_lr=0.05, cycle_momentum=False), "scheduler_interval": "step",
    "decay_vectors": False,
}  # fmt: skip
MUON = SGD | {
    "optimizer": partial(Muon, lr=2e-3, nesterov=True),
    "scheduler": partial(OneCycleLR, max_lr=2e-3, cycle_momentum=False),
}  # fmt: skip
FITTED = {
    "head": partial(ProjectionHead, dropout=0.2), "sequence": LSTM, "losses": [CrossEntropy, CenterLoss],
    "restorer": DenoisingAutoencoder,
}  # fmt: skip
FACES = torch.rand(16, 1, 1, 16, 16, generator=torch.Generator().manual_seed(0))


class Usual(Classifier):
    """Its training step computes the gradients, as one does that is replayed, but nothing is recorded."""

    def on_train_start(self) -> None:
        self.captured = Captured("The training step", self._with_gradients, dict)
        self.captured.refused = True


def trained(kind: type[Classifier], model: dict[str, Any], accelerator: str = "cpu", **options: Any) -> Classifier:
    seed_everything(3, verbose=False)
    torch.backends.cudnn.deterministic = True
    faces = SyntheticFaces(items_per_class=16, size=16, batch_size=8, augment=[Warp(), Light(), Erase()])
    trainer = Trainer(
        max_epochs=2, accelerator=accelerator, devices=1, logger=False, enable_progress_bar=False,
        enable_checkpointing=False, enable_model_summary=False, callbacks=[EMA(decay=0.9)], **options,
    )  # fmt: skip
    backbone = partial(ConvStack, channels=(8, 16), depth=1, dropout=0.2)
    classifier = kind(faces.class_names, faces.class_counts, backbone=backbone, **model)
    trainer.fit(classifier, faces)
    return classifier.cpu()


@pytest.mark.parametrize("model", [SGD, FITTED], ids=["SGD", "fitted part"])
def test_gradients_of_the_training_step_train_as_those_of_lightning(model: dict[str, Any]) -> None:
    usual, own = (trained(kind, model, gradient_clip_val=1.0).state_dict() for kind in (Classifier, Usual))
    assert [name for name in usual if not usual[name].equal(own[name])] == []


@on_gpu
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("model", [SGD, MUON, FITTED], ids=["SGD", "Muon", "fitted part"])
def test_a_replayed_step_trains_as_a_usual_one(
    model: dict[str, Any], precision: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "ferlightning.captured"):
        usual, replayed = (
            trained(Classifier, model | {"cuda_graph": graph}, "gpu", precision=precision).eval()(FACES).logits
            for graph in (False, True)
        )
    assert not caplog.records  # nothing was refused
    # What they answer is compared, not their parameters: biases in front of a batch norm are left to rounding. With its
    # rate in a tensor, Muon rounds the product of rate and update to bfloat16.
    torch.testing.assert_close(usual, replayed, atol=1e-2 if model is MUON else 1e-3, rtol=1e-3)


@on_gpu
def test_a_graph_draws_anew_at_each_replay_and_repeats_after_a_seed() -> None:
    captured = Captured("Noise", lambda batch: batch["x"] + torch.rand(4, device="cuda"), dict)
    batch = {"x": torch.zeros(4, device="cuda")}
    torch.manual_seed(1)
    usual = [captured.function(batch).clone() for _ in range(6)]
    torch.manual_seed(1)
    for _ in range(2):
        drawn: list[Tensor] = [captured(batch).clone() for _ in range(6)]
        assert captured.graph is not None or not captured.calls
        assert all(x.equal(y) for x, y in zip(usual, drawn, strict=True))
        torch.manual_seed(1)


@on_gpu
@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda batch: batch["x"] * batch["x"].sum().item(), r"it waits for the GPU at .*test_captured.py:\d+"),
        (lambda batch: batch["x"] * torch.rand(()), "it changes the state of torch's generator of the CPU"),
        (lambda batch: 1 / (1 - torch.cuda.is_current_stream_capturing()), "division by zero"),
        (lambda batch: torch.cuda.is_current_stream_capturing() and batch["x"].sum().item(), "captur"),
    ],
    ids=["item", "draws on the host", "fails while it is recorded", "spoils the recording"],
)
def test_what_cannot_be_recorded_runs_as_usual(function: Any, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    captured = Captured("It", function, dict)
    with caplog.at_level(logging.WARNING, "ferlightning.captured"):
        for _ in range(6):
            captured({"x": torch.ones(4, device="cuda")})
    assert captured.refused
    (record,) = caplog.records
    assert record.getMessage().startswith("It runs without a CUDA graph, more slowly: ")
    assert re.search(reason, record.getMessage())
    torch.rand(4, device="cuda")  # the generator is as before
    again = Captured("Another", lambda batch: batch["x"] + torch.rand(4, device="cuda"), dict)
    for _ in range(6):
        again({"x": torch.ones(4, device="cuda")})
    assert again.graph is not None


class _Annealed(Loss):
    """Cross-entropy whose weight is changed from outside, as a callback may."""

    def __init__(self, embed_features: int, class_counts: Any, weight: float = 1.0) -> None:
        super().__init__()
        self.weight, self.factor = weight, 1.0

    def forward(self, output: Output, batch: dict[str, Tensor]) -> Tensor:
        return self.factor * nn.functional.cross_entropy(output.logits, batch["label"])


@on_gpu
def test_a_graph_of_other_options_is_made_anew() -> None:
    loss = _Annealed(1, [1])
    captured = Captured("Loss", lambda batch: batch["x"] * loss.factor, lambda: {"factor": loss.factor})
    batch = {"x": torch.ones(2, device="cuda")}
    for _ in range(5):
        captured(batch)
    loss.factor = 3.0
    captured.refresh()
    assert [captured(batch).tolist() for _ in range(3)] == [[3.0, 3.0]] * 3
    assert captured.graph is not None

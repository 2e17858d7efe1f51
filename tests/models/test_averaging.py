"""The moving average of the weights against its formula, step by step."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from torch.utils.data import DataLoader

from ferlightning.models.averaging import EMA
from ferlightning.models.classifier import Classifier
from tests.models.test_classifier import fit, model

IMAGES = torch.rand(12, 1, 1, 16, 16, generator=torch.Generator().manual_seed(0))


class Spy(Callback):
    """Keeps the state of the model after each step."""

    def __init__(self) -> None:
        self.states: list[dict[str, Tensor]] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.states.append({name: x.detach().double().clone() for name, x in pl_module.state_dict().items()})


def test_the_average_is_that_of_the_formula() -> None:
    spy, classifier = Spy(), model()
    fit(classifier, epochs=2, callbacks=[spy, EMA(decay=0.7)])
    assert len(spy.states) == 6
    for name, found in classifier.state_dict().items():  # after a fit, the average
        expected = spy.states[0][name]
        for state in spy.states[1:]:
            expected = 0.7 * expected + 0.3 * state[name]
        if not found.is_floating_point():
            expected = spy.states[-1][name]  # a counter is not averaged
        torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=1e-5, msg=name)


def test_updates_may_be_rare_and_late() -> None:
    spy, classifier = Spy(), model()
    fit(classifier, epochs=2, callbacks=[spy, EMA(decay=0.7, update_every_n_steps=2, update_starting_at_step=2)])
    name = "network.head.classify.weight"
    expected = 0.7 * spy.states[2][name] + 0.3 * spy.states[4][name]
    torch.testing.assert_close(classifier.state_dict()[name].double(), expected, atol=1e-6, rtol=1e-5)


def test_until_the_average_begins_the_weights_are_validated_and_saved(tmp_path: Path) -> None:
    """Of 3 steps an epoch, the average begins in the third epoch."""
    name, found = "network.head.classify.weight", []

    class Look(Callback):
        def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
            if not trainer.sanity_checking:
                found.append(pl_module.state_dict()[name].clone())

    def run(average: EMA, epochs: int, **options: Any) -> tuple[Spy, Classifier]:
        spy, classifier = Spy(), model()
        items = [{"image": x, "label": torch.tensor(i % 3)} for i, x in enumerate(IMAGES)]
        saving = ModelCheckpoint(tmp_path, "epoch-{epoch}", save_top_k=-1, auto_insert_metric_name=False)
        trainer = Trainer(
            max_epochs=epochs, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
            callbacks=[spy, Look(), average, saving],
        )  # fmt: skip
        trainer.fit(classifier, DataLoader(items, 4), DataLoader(items, 12), **options)
        return spy, classifier

    spy, classifier = run(EMA(decay=0.7, update_starting_at_step=6), 3)
    average = spy.states[6][name]
    for state in spy.states[7:]:
        average = 0.7 * average + 0.3 * state[name]
    expected = [spy.states[2][name], spy.states[5][name], average]
    saved = [torch.load(tmp_path / f"epoch-{i}.ckpt", weights_only=True)["state_dict"][name] for i in range(3)]
    for wanted, validated, kept in zip(expected, found, saved, strict=True):
        torch.testing.assert_close(validated.double(), wanted)
        torch.testing.assert_close(kept.double(), wanted)
    whole = classifier.state_dict()[name]
    _, resumed = run(EMA(decay=0.7, update_starting_at_step=6), 3, ckpt_path=tmp_path / "epoch-1.ckpt")
    torch.testing.assert_close(resumed.state_dict()[name], whole)
    spy, never = run(EMA(decay=0.7, update_starting_at_step=100), 1)
    torch.testing.assert_close(never.state_dict()[name].double(), spy.states[-1][name])

"""The moving average of the weights against its formula, step by step."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from ferlightning.models.averaging import EMA
from tests.models.test_classifier import fit, model


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

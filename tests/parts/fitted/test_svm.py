"""The support vector machine on frozen features against scikit-learn's own pipeline."""

from functools import partial

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from torch.utils.data import DataLoader

from ferlightning.models.classifier import Classifier
from ferlightning.parts import SVM, ConvStack, SVMHead

RNG = np.random.default_rng(0)
LABEL = np.arange(200) % 4
X = (RNG.standard_normal((200, 6)) + RNG.standard_normal((4, 6))[LABEL]) * [1, 10, 100, 1, 1, 0.01] + 3


@pytest.mark.parametrize(("classes", "cost"), [([0, 1, 2, 3], 0.01), ([0, 1, 3], 1.0), ([1, 2], 1.0)])
@torch.no_grad()
def test_margins_are_those_of_scikit_learns_pipeline(classes: list[int], cost: float) -> None:
    part, own = SVM(6, 4, cost), np.isin(LABEL, classes)
    x, label = X[own], LABEL[own]
    for rows in np.split(np.arange(len(x)), [1, 30]):
        part.update(torch.tensor(x[rows]), torch.tensor(label[rows]))
    part.fit()
    found = part(torch.tensor(X, dtype=torch.float32)).numpy()
    expected = make_pipeline(StandardScaler(), LinearSVC(C=cost)).fit(x, label).decision_function(X)
    if len(classes) == 2:
        expected = np.stack([-expected, expected], 1)
    np.testing.assert_allclose(found[:, classes], expected, atol=0.02)
    for other in set(range(4)) - set(classes):
        assert (found[:, other] == -1).all()


def test_one_class_alone_leaves_the_weights_as_they_are() -> None:
    part = SVM(6, 4)
    before = part.weight.clone()
    part.update(torch.randn(5, 6), torch.ones(5, dtype=torch.int64))
    part.fit()
    assert part.weight.equal(before)


def test_on_a_frozen_backbone_it_decides_as_scikit_learn_on_its_features() -> None:
    torch.manual_seed(0)
    images = torch.rand(60, 1, 1, 16, 16)
    label = torch.arange(60) % 3
    images[label == 1, ..., :8] *= 0.2
    images[label == 2, ..., 8:, :] *= 0.2
    items = DataLoader([{"image": x, "label": y} for x, y in zip(images, label, strict=True)], batch_size=8)
    model = Classifier(
        ["a", "b", "c"], backbone=partial(ConvStack, channels=(4, 8), depth=1), head=SVMHead, lr_scale={"backbone": 0.0}
    )
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(model, items, items)
    with torch.no_grad():
        output = model.eval()(images)
    machine = make_pipeline(StandardScaler(), LinearSVC()).fit(output.embedding.numpy(), label.numpy())
    decided = output.logits.argmax(1).numpy()
    np.testing.assert_array_equal(decided, machine.predict(output.embedding.numpy()))
    assert (decided == label.numpy()).mean() > 0.9
    assert trainer.callback_metrics["val/accuracy"].item() == pytest.approx((decided == label.numpy()).mean())

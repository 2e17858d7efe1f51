"""A head of its own for a second set of labels: its loss by hand, and the view that a checkpoint keeps of it."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.nn.functional import cross_entropy, linear, one_hot
from torch.utils.data import DataLoader

from ferlightning import Classifier, FerlError, load
from ferlightning.contracts.modules import Output
from ferlightning.models.files import CheckpointFiles
from ferlightning.parts import (
    AuxiliaryHead,
    ConvStack,
    CosineHead,
    CrossEntropy,
    DANHead,
    LinearProjection,
    MLPHead,
    ProjectionHead,
    SVMHead,
)


def output(n: int = 5, e: int = 6) -> Output:
    return Output(torch.randn(n, 3), torch.randn(n, e), torch.empty(n), None)


def test_items_without_a_label_add_nothing() -> None:
    loss, given = AuxiliaryHead(6, [1, 1, 1], ["x", "y"], "other", label_smoothing=0.1), output()
    label = torch.tensor([0, 1, 1])
    known = cross_entropy(loss.classify(given.embedding[:3]), label, label_smoothing=0.1, reduction="sum")
    batch = {"label_other": torch.cat([one_hot(label, 2).float(), torch.zeros(2, 2)])}
    torch.testing.assert_close(loss(given, batch), known / 5)


def test_soft_labels_are_those_of_torch_and_zeros_are_none() -> None:
    given, label = output(), torch.rand(5, 3).softmax(1)
    expected = cross_entropy(given.logits, label, label_smoothing=0.2)
    found = CrossEntropy(6, [1, 1, 1], label_smoothing=0.2)
    torch.testing.assert_close(found(given, {"label": label}), expected)
    label[3:] = 0
    some = cross_entropy(given.logits[:3], label[:3], label_smoothing=0.2, reduction="sum")
    torch.testing.assert_close(found(given, {"label": label}), some / 5)


def test_data_without_the_labels_is_refused() -> None:
    loss, batch = AuxiliaryHead(6, [1, 1, 1], ["x", "y"], "other"), {"label": torch.zeros(5)}
    with pytest.raises(FerlError, match="no labels called 'other'; FERPlus has those of FER2013"):
        loss(output(), batch)
    assert loss.eval()(output(), batch) == 0  # in validation


def test_the_head_is_a_view_of_the_checkpoint_and_of_its_weights(tmp_path: Path) -> None:
    items: Any = [
        {"image": torch.rand(1, 1, 16, 16), "label": torch.tensor(i % 3), "label_other": torch.eye(2)[i % 2]}
        for i in range(8)
    ]
    auxiliary = partial(AuxiliaryHead, class_names=["x", "y"], labels="other")
    model = Classifier(
        ["a", "b", "c"], backbone=partial(ConvStack, channels=(4,), depth=1), losses=[CrossEntropy, auxiliary]
    )
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[ModelCheckpoint(tmp_path, "last")], plugins=[CheckpointFiles()],
    )  # fmt: skip
    trainer.fit(model, DataLoader(items, 4))
    image = torch.rand(2, 1, 1, 16, 16)
    model.eval()
    embedding = model(image).embedding
    head: Any = model.losses[1]
    expected = linear(embedding, head.classify.weight, head.classify.bias)
    for name in ("last.ckpt", "last.safetensors"):
        view = load(tmp_path / name, view="other")
        assert view.class_names == ["x", "y"]
        torch.testing.assert_close(view(image).logits, expected)
        torch.testing.assert_close(load(tmp_path / name)(image).logits, model(image).logits)
        with pytest.raises(FerlError, match="has no view 'others'; it has other"):
            load(tmp_path / name, view="others")


@pytest.mark.parametrize("classes", [["x", "y"], ["x", "y", "z"]])
@pytest.mark.parametrize(
    "head", [DANHead, CosineHead, SVMHead, ProjectionHead, partial(ProjectionHead, projection=LinearProjection)]
)
def test_heads_whose_place_it_could_not_take_are_refused_before_training(head: Any, classes: list[str]) -> None:
    def made(head: Any, auxiliary: bool = True) -> Classifier:
        other = [partial(AuxiliaryHead, class_names=classes, labels="other")] if auxiliary else []
        small = partial(ConvStack, channels=(4,), depth=1)
        return Classifier(["a", "b", "c"], backbone=small, head=head, losses=[CrossEntropy, *other])

    with pytest.raises(FerlError, match="model.losses: an AuxiliaryHead takes .*Head has more that is made for"):
        made(head).setup("fit")
    made(head).setup("test")  # what was trained before can be tested on its own classes
    made(head, auxiliary=False).setup("fit")
    for fitting in (MLPHead, partial(ProjectionHead, projection=None)):
        made(fitting).setup("fit")

"""The picture of restored faces in a report."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from torch import Tensor, nn

from ferlightning.contracts.modules import Restorer
from ferlightning.data import SyntheticFaces
from ferlightning.evaluation.plots import restoration
from ferlightning.evaluation.restoration import FACES, restored_faces
from ferlightning.parts import DenoisingAutoencoder
from tests.evaluation.test_explain import STILLS, model, run


class _Half(Restorer):
    def forward(self, images: Tensor) -> Tensor:
        return images / 2


class _Model(nn.Module):
    def __init__(self, restorer: Restorer | None) -> None:
        super().__init__()
        self.restorer = restorer
        self.eval()


@pytest.mark.parametrize("corrupt_eval", [False, True])
def test_an_autoencoder_restores_faces_that_were_corrupted_once(corrupt_eval: bool) -> None:
    restorer = DenoisingAutoencoder(width=4, corrupt_eval=corrupt_eval)
    image = torch.rand(12, 2, 1, 20, 24)
    stages = restored_faces(_Model(restorer), image)
    assert list(stages) == ["clean", "corrupted", "restored"]
    np.testing.assert_array_equal(stages["clean"], image[:FACES, 0, 0].numpy())
    assert (stages["corrupted"] != stages["clean"]).any()
    np.testing.assert_array_equal(stages["restored"], stages["corrupted"])  # a new autoencoder adds nothing
    again = restored_faces(_Model(restorer), image)
    np.testing.assert_array_equal(again["corrupted"], stages["corrupted"])


def test_a_restorer_in_half_precision_takes_what_loaders_give() -> None:
    """As of the trainer's bf16-true: the images of a report are in single precision."""
    image = torch.rand(3, 1, 1, 20, 24)
    found = restored_faces(_Model(DenoisingAutoencoder(width=4).bfloat16()), image)
    np.testing.assert_allclose(found["clean"], image[:, 0, 0].numpy(), atol=0.01)


def test_any_restorer_is_shown_and_none_is_not() -> None:
    image = torch.rand(3, 1, 3, 20, 24)
    stages = restored_faces(_Model(_Half()), image)
    assert list(stages) == ["clean", "restored"]
    np.testing.assert_allclose(stages["restored"], image[:, 0].permute(0, 2, 3, 1).numpy() / 2)
    assert restored_faces(_Model(None), image) is None
    assert restored_faces(nn.Linear(2, 2), image) is None


def test_the_picture_tells_the_error() -> None:
    rng = np.random.default_rng(0)
    clean, corrupted, restored = rng.random((3, 5, 8, 9))
    figure = restoration({"clean": clean, "corrupted": corrupted, "restored": restored})
    labels = [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()]
    errors = [np.mean([(a - b) ** 2 for a, b in zip(x.flat, clean.flat, strict=True)]) for x in (corrupted, restored)]
    assert labels == ["clean", f"corrupted\nMSE {errors[0]:.4f}", f"restored\nMSE {errors[1]:.4f}"]
    shown = [axes.images[0].get_array() for axes in figure.axes]
    np.testing.assert_array_equal(np.stack(shown), np.concatenate([clean, corrupted, restored]))
    restoration({"clean": clean[:1], "restored": restored[:1]})  # a single face


def test_a_report_has_the_picture_if_the_model_has_a_restorer(tmp_path: Path) -> None:
    data = SyntheticFaces(**STILLS)
    run(tmp_path, model(data, restorer=partial(DenoisingAutoencoder, width=4)), data, report=True)
    assert imread(tmp_path / "report" / "restoration.png").std() > 0.05
    assert "restoration" in (tmp_path / "report" / "report.html").read_text()
    assert json.loads((tmp_path / "report" / "metrics.json").read_text())["provenance"]["multiply_adds"] > 0

"""Where a model looked: maps of hand-made attentions, Grad-CAM by its formula, and the picture in the report."""

import json
import logging
import re
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from lightning import Trainer
from matplotlib.image import imread
from torch import Tensor, nn

from ferlightning.contracts.modules import Backbone, Head, Stage, Tokens, pool
from ferlightning.data import SyntheticFaces
from ferlightning.evaluation.explain import choose, explain_items, grad_cam, heat_map, part
from ferlightning.evaluation.report import Report
from ferlightning.models.classifier import Classifier
from ferlightning.parts import LSTM, AdditiveAttention, ConvStack
from tests.evaluation.test_report import Data

SMALL = partial(ConvStack, channels=(4, 4, 8), depth=1)  # 48 x 48 to 6 x 6 cells
STILLS = {"items_per_class": 10, "subjects": 5, "batch_size": 8}
CLIPS = {**STILLS, "frames": (2, 4)}


class _Corner(Stage):
    """Looks at a single cell: the last one in the first row of the first frame."""

    def __init__(self, in_features: int) -> None:
        super().__init__()
        self.out_features = in_features

    def forward(self, tokens: Tokens) -> Tokens:
        self.attention = torch.zeros(tokens.x.shape[:2])
        self.attention[:, tokens.grid[2] - 1] = 1
        return Tokens((self.attention[:, :, None] * tokens.x).sum(1, keepdim=True), None, (1, 1, 1))


class _Backbone(Backbone):
    """A convolution, for which the formulas are written out; every other row, so that the map is not square."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.out_features = 5
        self.conv = nn.Conv2d(in_channels, 5, 3, padding=1, stride=(2, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.conv(images)


class _NoGradient(Head):
    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__()
        self.embed_features = in_features
        self.linear = nn.Linear(in_features, num_classes)

    def forward(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        return self.linear(pool(tokens)).detach(), pool(tokens)


def model(data: SyntheticFaces | None = None, **parts) -> Classifier:
    torch.manual_seed(0)
    return Classifier(data.class_names if data else ["a", "b", "c"], **{"backbone": SMALL, **parts}).eval()


def run(folder: Path, model, data, report: bool = False, **options) -> Trainer:
    """Test a model; ``report`` leaves a report, whose pictures take most of the time."""
    trainer = Trainer(
        logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu",
        enable_model_summary=False, callbacks=[Report()] if report else [], default_root_dir=folder, **options,
    )  # fmt: skip
    trainer.test(model, data, verbose=False)
    return trainer


def everything(trainer: Trainer, model: Classifier, data: SyntheticFaces):
    """Explain the test split, with drawn probabilities."""
    label = data.label[data.items["test"]]
    probs = np.random.default_rng(0).dirichlet(np.ones(len(data.class_names)), len(label)).astype(np.float32)
    return explain_items(trainer, model, "test", np.arange(len(label)), label, probs, data.class_names), label, probs


# --- arrays -----------------------------------------------------------------------------------------------------------


def test_a_weight_in_a_corner_lights_that_corner() -> None:
    weights = np.zeros(2 * 3 * 4, np.float32)
    weights[12 + 3] = 1  # second frame, first row, last column
    heat = heat_map(weights.reshape(2, 3, 4), (30, 40))
    assert heat.shape == (2, 30, 40)
    assert (heat[0] == 0).all()
    assert (heat[1, :5, 35:] == 1).all() and (heat[1, 15:] == 0).all() and (heat[1, :, :25] == 0).all()


def test_heat_is_what_exceeds_the_mean_weight_enlarged_linearly() -> None:
    cells = np.random.default_rng(0).random((1, 4, 6)).astype(np.float32) ** 8  # its peak is far above twice the mean
    above = cells[0] / cells.mean() - 1
    expected = cv2.resize(above, (36, 32), interpolation=cv2.INTER_LINEAR) / above.max()
    np.testing.assert_allclose(heat_map(cells, (32, 36))[0], expected.clip(0), atol=1e-5)


def test_equal_weights_light_nothing_and_nearly_equal_ones_little() -> None:
    for value in (0.0, 0.01):
        assert (heat_map(np.full((3, 5, 5), value, np.float32), (20, 20)) < 1e-6).all()
    cells = np.full((1, 5, 5), 1.0, np.float32)
    cells[0, 2, 2] = 1.1
    assert 0.05 < heat_map(cells, (25, 25)).max() < 0.1


@pytest.mark.parametrize("n", [3, 100])
def test_the_most_confident_are_chosen_one_of_each_class_first(n: int) -> None:
    rng = np.random.default_rng(0)
    probs, label = rng.dirichlet(np.ones(3), 60), rng.integers(0, 3, 60)
    probs[10] = probs[20] = probs[5]  # equal confidence: the lower number comes first
    expected: list[int] = []
    for right in (True, False):
        left = [i for i in range(60) if (probs[i].argmax() == label[i]) == right]
        left.sort(key=lambda i: (-probs[i].max(), i))
        of_classes = [next(i for i in left if label[i] == k) for k in range(3)]
        of_classes.sort(key=lambda i: (-probs[i].max(), i))
        expected += [*of_classes, *(i for i in left if i not in of_classes)][:n]
    assert choose(label, probs, n).tolist() == expected


def test_a_perfect_model_has_only_right_ones() -> None:
    assert choose(np.array([0, 1, 2, 2]), np.eye(3)[[0, 1, 2, 2]], 6).tolist() == [0, 1, 2, 3]


# --- Grad-CAM ---------------------------------------------------------------------------------------------------------


def test_grad_cam_of_a_linear_model_is_its_formula() -> None:
    """Selvaraju et al. 2017: alpha = mean over cells of dy/dA (eq. 1), relu(sum alpha A) (eq. 2); y = w . mean(A)."""
    classifier = model(backbone=_Backbone)
    image = torch.rand(2, 3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    target = torch.tensor([2, 0])
    maps: list[Tensor] = []  # A of every frame, as the model computes it
    hook = part(classifier, "backbone").register_forward_hook(lambda module, args, features: maps.append(features))
    with torch.no_grad():
        classifier(image)
    hook.remove()
    a, weight = maps[0].view(2, 3, 5, 4, 8), part(classifier, "head").classify.weight.detach()
    for mask in (None, torch.tensor([[True, True, True], [True, False, False]])):
        found = grad_cam(classifier, image, mask, target)
        assert found.shape == (2, 3, 4, 8) and not found.requires_grad
        for b, t in np.ndindex(2, 3):
            frames = 3 if mask is None else int(mask[b].sum())
            # dy/dA is the same in every cell: y is w . the mean over all cells of all real frames.
            expected = (weight[target[b], :, None, None] / (frames * 4 * 8) * a[b, t]).sum(0).clamp(min=0)
            torch.testing.assert_close(found[b, t], expected if t < frames else torch.zeros(4, 8))
        assert (found > 0).sum() > 20


def test_grad_cam_of_frozen_parts_and_of_a_recurrent_stage_has_the_mean_gradient_as_weight() -> None:
    """dy/dA by finite differences, the model taken as a black box from the feature map on."""
    classifier = model(backbone=_Backbone, sequence=partial(LSTM, hidden=4)).double().requires_grad_(False)
    image = torch.rand(1, 1, 1, 4, 3, dtype=torch.double, generator=torch.Generator().manual_seed(2))
    found = grad_cam(classifier, image, None, torch.tensor([1]))[0, 0]
    backbone = part(classifier, "backbone")

    def y(change: Tensor) -> tuple[float, Tensor]:
        """Logit of class 1 with the feature map changed, and the map."""
        maps: list[Tensor] = []
        hook = backbone.register_forward_hook(lambda module, args, features: maps.append(features + change) or maps[0])
        with torch.no_grad():
            logit = classifier(image).logits[0, 1].item()
        hook.remove()
        return logit, maps[0][0]

    a = y(torch.zeros(1, 5, 2, 3))[1]  # (5, 2, 3)
    alpha = torch.zeros(5, dtype=torch.double)
    for k, i, j in np.ndindex(5, 2, 3):
        step = torch.zeros(1, 5, 2, 3, dtype=torch.double)
        step[0, k, i, j] = 1e-5
        alpha[k] += (y(step)[0] - y(-step)[0]) / 2e-5 / 6
    torch.testing.assert_close(found, (alpha[:, None, None] * a).sum(0).clamp(min=0), rtol=1e-5, atol=1e-9)


# --- looking again ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [STILLS, CLIPS], ids=["stills", "clips"])
def test_an_explanation_has_the_item_and_the_cell_that_the_attention_chose(tmp_path: Path, options) -> None:
    data = SyntheticFaces(**options)
    classifier = model(data, attention=_Corner)
    found, label, probs = everything(run(tmp_path, classifier, data), classifier, data)
    assert found.method == "weights of _Corner"
    n = 6 if options is STILLS else 3
    positions = choose(label, probs, n)
    assert len(found.items) == len(positions) > n
    assert len({len(item.image) for item in found.items}) == (1 if options is STILLS else 3), "clips differ in length"
    for shown, position in zip(found.items, positions, strict=True):
        item = data.items["test"][position]
        frames = data.store.images[data.store.start[item] : data.store.start[item + 1]]
        np.testing.assert_allclose(shown.image, frames / 255, atol=1e-6)
        assert (shown.true, shown.predicted) == tuple(
            data.class_names[k] for k in (label[position], probs[position].argmax())
        )
        assert shown.confidence == pytest.approx(probs[position].max())
        assert shown.weight.tolist() == [1.0] + [0.0] * (len(frames) - 1)
        assert shown.heat.shape == shown.image.shape
        assert np.unravel_index(shown.heat.argmax(), shown.heat.shape)[0] == 0
        assert (shown.heat[0, :4, -4:] == 1).all()
        assert shown.heat[0, 12:].max() == shown.heat[0, :, :-12].max() == 0
        assert (shown.heat[1:] == 0).all()


def test_frame_tokens_have_a_weight_a_frame_and_no_map(tmp_path: Path) -> None:
    data = SyntheticFaces(**CLIPS)
    classifier = model(data, frame_tokens=True, attention=AdditiveAttention)
    found, label, probs = everything(run(tmp_path, classifier, data), classifier, data)
    for shown, position in zip(found.items, choose(label, probs, 3), strict=True):
        assert shown.heat is None
        item = data.items["test"][position]
        frames = torch.tensor(data.store.images[data.store.start[item] : data.store.start[item + 1]])
        with torch.no_grad():
            alone = classifier(frames[None, :, None] / 255).attention[0]
        np.testing.assert_allclose(shown.weight, alone.numpy(), atol=1e-6)


def test_the_model_and_the_random_state_stay_as_they_are(tmp_path: Path) -> None:
    data = SyntheticFaces(**STILLS)
    classifier = model(data, sequence=LSTM)
    trainer = run(tmp_path, classifier, data)
    torch.manual_seed(1)
    random, before = torch.get_rng_state(), {name: x.clone() for name, x in classifier.state_dict().items()}
    part(classifier.train(), "backbone").eval()
    modes = [module.training for module in classifier.modules()]
    assert everything(trainer, classifier, data)[0] is not None
    assert torch.get_rng_state().equal(random)
    assert modes == [module.training for module in classifier.modules()]
    assert all(x.equal(before[name]) for name, x in classifier.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in classifier.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in classifier.modules())


def test_an_attention_over_a_single_token_says_nothing_so_grad_cam_does(tmp_path: Path) -> None:
    data = SyntheticFaces(**STILLS)
    classifier = model(data, frame_tokens=True, attention=AdditiveAttention)
    trainer = run(tmp_path, classifier, data, precision="bf16-mixed")
    assert everything(trainer, classifier, data)[0].method == "Grad-CAM of the predicted class"


# --- the report -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "parts"), [(STILLS, {"attention": _Corner}), (CLIPS, {"sequence": LSTM})], ids=["stills", "clips"]
)
def test_a_report_shows_where_the_model_looked(tmp_path: Path, options, parts) -> None:
    data = SyntheticFaces(**options)
    run(tmp_path, model(data, **parts), data, report=True)
    assert imread(tmp_path / "report" / "attention.png").std() > 0.1
    page = (tmp_path / "report" / "report.html").read_text()
    assert re.search(r'<figure class="attention"><div[^>]*><img alt="attention" src="data:image/png;base64,', page)
    assert "Where the model looked" in page


def test_items_that_do_not_lie_at_their_number_are_not_shown(tmp_path: Path) -> None:
    """The loader of the report's own tests goes backwards through the items."""
    run(tmp_path, model(backbone=partial(ConvStack, channels=(4,), depth=1)), Data(), report=True)
    assert (tmp_path / "report" / "metrics.json").is_file()
    assert not (tmp_path / "report" / "attention.png").exists()


def test_a_part_without_gradient_costs_the_picture_not_the_report(tmp_path: Path, caplog) -> None:
    data = SyntheticFaces(**STILLS)
    with caplog.at_level(logging.WARNING):
        run(tmp_path, model(data, head=_NoGradient), data, report=True)
    assert "no picture of where the model looked" in caplog.text
    assert json.loads((tmp_path / "report" / "metrics.json").read_text())["n"] > 0
    assert not (tmp_path / "report" / "attention.png").exists()

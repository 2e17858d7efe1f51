"""The classifier: padding, null parts, learning rates by prefix, and what it takes from checkpoints."""

import copy
import itertools
import math
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CyclicLR,
    LinearLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
)
from torch.utils.data import DataLoader

from ferlightning.contracts.modules import Output, Restorer, Stage
from ferlightning.errors import FerlError
from ferlightning.models import optim
from ferlightning.models.classifier import Classifier
from ferlightning.parts import (
    LSTM,
    AdditiveAttention,
    ConvStack,
    CrossEntropy,
    FocalLoss,
    MLPHead,
    ResNet,
    SelfCureWeighting,
    SVMHead,
    Timm,
)
from ferlightning.plugins import parts

CLASSES = ["happiness", "sadness", "surprise"]
LENGTHS = (4, 1, 3)
SMALL = partial(ConvStack, channels=(4, 8), depth=1)

STAGES = [part for part in parts("sequence, attention") if part.__module__.startswith("ferlightning.")]
POOLING = [part for part in STAGES if part.__module__.endswith(".attentions")]
SEQUENCES = [part for part in STAGES if part not in POOLING]


def model(**changes: Any) -> Classifier:
    torch.manual_seed(0)
    return Classifier(CLASSES, **{"backbone": SMALL, **changes})


def clips(filling: float = 0.0) -> tuple[Tensor, Tensor]:
    """Three clips of 4, 1 and 3 frames, padded to 4 with ``filling``."""
    image = torch.rand(3, 4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    mask = torch.arange(4) < torch.tensor(LENGTHS)[:, None]
    image[~mask] = filling
    return image, mask


def frozen_state(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name.removeprefix("network."): x.clone() for name, x in module.state_dict().items()}


def fit(module: Classifier, epochs: int = 1, **options: Any) -> Trainer:
    items = [{"image": torch.rand(1, 1, 16, 16), "label": torch.tensor(i % 3)} for i in range(12)]
    trainer = Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, **options,
    )  # fmt: skip
    trainer.fit(module, DataLoader(items, batch_size=4), DataLoader(items, batch_size=4))
    return trainer


# --- padding ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frame_tokens", [True, False], ids=["frames", "cells"])
@pytest.mark.parametrize("attention", [None, *POOLING])
@pytest.mark.parametrize("sequence", [None, *SEQUENCES])
@torch.no_grad()
def test_a_clip_alone_and_padded_in_a_batch_is_the_same(
    sequence: type[Stage] | None, attention: type[Stage] | None, frame_tokens: bool
) -> None:
    # In double precision, where a leak of a millionth part cannot hide in rounding.
    classifier = model(sequence=sequence, attention=attention, frame_tokens=frame_tokens).eval().double()
    image, mask = clips(filling=1e3)
    image = image.double()
    together: Output = classifier(image, mask)
    cells = 1 if frame_tokens else 16
    for item, length in enumerate(LENGTHS):
        alone: Output = classifier(image[item : item + 1, :length])
        for field in ("logits", "embedding"):
            found, expected = getattr(together, field)[item], getattr(alone, field)[0]
            torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)
        if attention:
            assert together.attention is not None
            assert alone.attention is not None
            weights = together.attention[item]
            torch.testing.assert_close(weights[: length * cells], alone.attention[0], atol=1e-10, rtol=0)
            assert (weights[length * cells :] == 0).all()


@pytest.mark.parametrize("stage", [None, LSTM, AdditiveAttention])
@torch.no_grad()
def test_of_a_clip_without_a_real_frame_the_first_counts(stage: type[Stage] | None) -> None:
    image, mask = clips()
    classifier = model(sequence=stage).eval()
    logits = classifier(image, mask.new_zeros(3, 4)).logits
    torch.testing.assert_close(logits, classifier(image[:, :1]).logits)


def test_padding_does_not_reach_batch_norm() -> None:
    states = []
    for filling in (0.0, 1e3):
        classifier = model().train()
        before = frozen_state(classifier)
        classifier(*clips(filling))
        after = frozen_state(classifier)
        states.append(after)
        changed = [name for name in before if not before[name].equal(after[name])]
        assert {name.rsplit(".", 1)[1] for name in changed} == {"running_mean", "running_var", "num_batches_tracked"}
    for name, x in states[0].items():
        assert x.equal(states[1][name]), name


def test_batch_norm_sees_exactly_the_real_frames() -> None:
    image, mask = clips()
    padded, flat = model().train(), model().train()
    padded(image, mask)
    flat(image[mask].unsqueeze(1))
    for name, x in padded.state_dict().items():
        torch.testing.assert_close(x, flat.state_dict()[name], atol=1e-6, rtol=0)


def test_padding_sends_no_gradient() -> None:
    image, mask = clips()
    image.requires_grad_()
    model(sequence=LSTM, attention=AdditiveAttention)(image, mask).logits.square().sum().backward()
    assert image.grad is not None
    assert (image.grad[~mask] == 0).all()
    assert (image.grad[mask].flatten(1).abs().sum(1) > 0).all()


@torch.no_grad()
def test_frame_tokens_are_one_a_frame() -> None:
    for frame_tokens, length in ((True, 4), (False, 64)):
        output = model(attention=AdditiveAttention, frame_tokens=frame_tokens).eval()(*clips())
        assert output.attention.shape == (3, length)


# --- parts ------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_without_stages_logits_are_the_head_of_the_mean_feature() -> None:
    """The whole forward, by hand; a still is a clip of one frame."""
    classifier = model(pixel_mean=[0.4], pixel_std=[0.2]).eval()
    images = torch.rand(5, 1, 16, 16)
    output = classifier(images.unsqueeze(1))
    features = classifier.network.backbone((images - 0.4) / 0.2).mean((2, 3))
    torch.testing.assert_close(output.embedding, features, atol=1e-6, rtol=0)
    torch.testing.assert_close(output.logits, classifier.network.head.classify(features), atol=1e-6, rtol=0)
    assert output.attention is None
    assert output.restored.equal(images.unsqueeze(1))


@torch.no_grad()
def test_a_clip_that_repeats_a_still_gives_the_result_of_the_still() -> None:
    classifier = model(attention=AdditiveAttention).eval()
    still = torch.rand(2, 1, 1, 16, 16)
    repeated = classifier(still.expand(2, 3, 1, 16, 16))
    torch.testing.assert_close(repeated.logits, classifier(still).logits, atol=1e-6, rtol=0)


@torch.no_grad()
def test_widths_travel_through_every_combination_of_parts() -> None:
    heads = [None, partial(MLPHead, hidden=5)]
    for sequence, attention, head in itertools.product([None, partial(LSTM, hidden=6)], [None, POOLING[0]], heads):
        classifier = model(sequence=sequence, attention=attention, **({"head": head} if head else {})).eval()
        output = classifier(*clips())
        assert output.logits.shape == (3, 3)
        assert output.embedding.shape == (3, classifier.network.head.embed_features)
        assert classifier.network.sequence is None or sequence is not None
        assert classifier.network.attention is None or attention is not None


class _Halving(Restorer):
    def forward(self, images: Tensor) -> Tensor:
        assert images.ndim == 4
        return images / 2


@torch.no_grad()
def test_restored_is_what_the_restorer_returns_with_zeros_for_padding() -> None:
    image, mask = clips(filling=1e3)
    restored = model(restorer=_Halving).eval()(image, mask).restored
    assert restored.shape == image.shape
    assert restored[mask].equal(image[mask] / 2)
    assert (restored[~mask] == 0).all()


def test_other_channels_are_refused() -> None:
    with pytest.raises(FerlError, match="built for 1 channels, the images have 3"):
        model()(torch.rand(2, 1, 3, 16, 16))


def test_a_model_can_be_copied_between_training_steps() -> None:
    classifier = model(sequence=AdditiveAttention, attention=AdditiveAttention)
    classifier(*clips()).logits.sum().backward()
    twin = copy.deepcopy(classifier).eval()
    assert twin(*clips()).logits.equal(classifier.eval()(*clips()).logits)


def test_the_training_loss_is_the_weighted_sum() -> None:
    classifier = model(losses=[partial(CrossEntropy, weight=0.5), partial(FocalLoss, weight=2.0)]).eval()
    classifier.log = classifier.log_dict = lambda *args, **kwargs: None  # type: ignore[method-assign,assignment]
    image, mask = clips()
    batch = {"image": image, "mask": mask, "label": torch.tensor([0, 1, 2])}
    output = classifier(image, mask)
    expected = 0.5 * CrossEntropy(1, [1] * 3)(output, batch) + 2 * FocalLoss(1, [1] * 3)(output, batch)
    torch.testing.assert_close(classifier.training_step(batch, 0), expected)


def test_one_kernel_for_all_parameters_gives_torchs_own_update() -> None:
    """In float64, because Adam divides small gradients by themselves and so magnifies what is rounded."""
    found = []
    for kind in (torch.optim.Adam, torch.optim.AdamW, partial(torch.optim.SGD, momentum=0.9)):
        for chosen in ({}, {"foreach": False}):
            classifier = model(sequence=LSTM, optimizer=partial(kind, lr=0.01, **chosen)).double()
            optimizer = classifier.configure_optimizers()
            assert bool(optimizer.param_groups[0]["fused"]) == (not chosen)
            generator = torch.Generator().manual_seed(1)
            for _ in range(3):
                output = classifier(torch.rand(4, 1, 1, 16, 16, generator=generator, dtype=torch.float64))
                optimizer.zero_grad()
                output.logits.square().sum().backward()
                optimizer.step()
            found.append(list(classifier.parameters()))
        ours, torchs = found[-2:]
        torch.testing.assert_close(ours, torchs, rtol=1e-12, atol=1e-14)


# --- learning rates ---------------------------------------------------------------------------------------------------


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1)


def rates(classifier: Classifier) -> dict[str, float]:
    """Name of a parameter to its present rate."""
    optimizer = classifier.optimizers().optimizer if classifier._trainer else classifier.configure_optimizers()
    owner = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    named = ((name.removeprefix("network."), p) for name, p in classifier.named_parameters())
    return {name: owner[id(p)] for name, p in named if id(p) in owner}


def test_lr_scale_gives_each_prefix_its_rate_the_longest_wins() -> None:
    classifier = model(optimizer=sgd, lr_scale={"backbone": 0.1, "backbone.layers.1": 0.5, "head": 2.0}, sequence=LSTM)
    found = rates(classifier)
    assert found.keys() == dict(classifier.network.named_parameters()).keys()
    assert found["backbone.layers.0.weight"] == pytest.approx(0.01)
    assert found["backbone.layers.1.weight"] == pytest.approx(0.05)
    assert found["head.classify.weight"] == pytest.approx(0.2)
    assert found["sequence.rnn.weight_ih_l0"] == pytest.approx(0.1)


def test_an_unknown_prefix_is_refused_with_the_known_ones() -> None:
    with pytest.raises(FerlError, match=r"model.lr_scale: .* below 'backbon_'.*'backbone', 'head'"):
        model(lr_scale={"backbon_": 0.1})


def test_a_prefix_ends_where_a_name_does() -> None:
    deep = partial(ConvStack, channels=(4, 8), depth=2)
    found = rates(model(optimizer=sgd, backbone=deep, lr_scale={"backbone.layers.1": 0.5}))
    assert found["backbone.layers.1.weight"] == pytest.approx(0.05)
    assert found["backbone.layers.11.weight"] == pytest.approx(0.1)


def test_zero_freezes_weights_and_batch_norm_through_a_fit() -> None:
    classifier = model(optimizer=sgd, lr_scale={"backbone": 0.0})
    before = frozen_state(classifier)
    fit(classifier, epochs=2)
    for name, x in classifier.network.state_dict().items():
        # Validation switches modes, and back again, between the epochs.
        assert x.equal(before[name]) == name.startswith(("backbone", "mean", "std")), name


def test_a_longer_prefix_trains_part_of_what_is_frozen() -> None:
    classifier = model(optimizer=sgd, lr_scale={"backbone": 0.0, "backbone.layers.6": 1.0})
    before = frozen_state(classifier)
    assert isinstance(classifier.network.backbone.layers[6], torch.nn.BatchNorm2d)
    fit(classifier)
    after = frozen_state(classifier)
    assert after["backbone.layers.1.running_mean"].equal(before["backbone.layers.1.running_mean"])
    for name in ("weight", "running_mean"):
        assert not after[f"backbone.layers.6.{name}"].equal(before[f"backbone.layers.6.{name}"])


STEPS = 12

SCHEDULES: dict[str, Callable[..., Any]] = {
    "OneCycleLR": partial(OneCycleLR, max_lr=0.1, total_steps=STEPS),
    "CosineAnnealingLR": partial(CosineAnnealingLR, T_max=STEPS),
    "SequentialLR": lambda optimizer: SequentialLR(
        optimizer, [LinearLR(optimizer, 0.1, total_iters=3), CosineAnnealingLR(optimizer, STEPS)], [3]
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_keeps_the_factors_all_along(name: str) -> None:
    schedule = SCHEDULES[name]
    plain = torch.nn.Linear(1, 1)
    reference_optimizer = sgd(plain.parameters())
    reference = schedule(reference_optimizer)
    classifier = model(optimizer=sgd, scheduler=schedule, lr_scale={"backbone": 0.1, "head": 0.5}, sequence=LSTM)
    configured = classifier.configure_optimizers()
    optimizer, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    for _ in range(STEPS - 1):
        rate = reference_optimizer.param_groups[0]["lr"]
        found = [group["lr"] for group in optimizer.param_groups]
        assert found == pytest.approx([rate * 0.1, rate, rate * 0.5])  # backbone, sequence, head
        for x in (reference_optimizer, optimizer):
            x.step()
        reference.step()
        scheduler.step()


def test_a_schedule_that_would_ignore_the_factors_is_refused() -> None:
    classifier = model(optimizer=sgd, scheduler=partial(CyclicLR, base_lr=0.1, max_lr=1.0), lr_scale={"head": 0.5})
    with pytest.raises(FerlError, match="lr_scale.*CyclicLR"):
        classifier.configure_optimizers()


def test_two_losses_of_one_class_both_count() -> None:
    batch = {"image": torch.rand(4, 1, 1, 16, 16), "label": torch.tensor([0, 1, 2, 0])}
    twice = model(losses=[CrossEntropy, partial(CrossEntropy, weight=10.0)])
    twice.log = twice.log_dict = lambda *args, **options: None  # there is no trainer
    logits = twice(batch["image"]).logits
    found = twice.training_step(batch, 0)
    torch.testing.assert_close(found, 11 * torch.nn.functional.cross_entropy(logits, batch["label"]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_losses_with_layers_take_the_precision_of_the_model(dtype: torch.dtype) -> None:
    """As Lightning converts it for 64-true and bf16-true; the reference is the loss of the same numbers in float32."""
    batch = {"image": torch.rand(4, 1, 1, 16, 16), "label": torch.tensor([0, 1, 2, 0])}
    converted, reference = (model(losses=[SelfCureWeighting]).eval() for _ in range(2))
    found = converted.to(dtype).training_step(batch, 0)
    torch.testing.assert_close(found.float(), reference.training_step(batch, 0), atol=0.02, rtol=0.02)
    found.backward()
    assert converted.losses[0].importance.weight.grad.dtype == dtype


def test_a_schedule_by_step_steps_by_step_in_a_fit() -> None:
    schedule = partial(CosineAnnealingLR, T_max=STEPS)
    classifier = model(optimizer=sgd, scheduler=schedule, scheduler_interval="step", lr_scale={"backbone": 0.1})
    trainer = fit(classifier, epochs=2)
    assert trainer.global_step == 6
    # Half of the cosine.
    assert rates(classifier)["head.classify.weight"] == pytest.approx(0.05)
    assert rates(classifier)["backbone.layers.0.weight"] == pytest.approx(0.005)


@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_a_warm_up_scales_the_rates_of_any_schedule_and_leaves_the_schedule_alone(interval: Any) -> None:
    """Of three steps an epoch, one and two thirds of an epoch are five steps; cosine's rates by its own formula."""
    used: list[float] = []

    class Told(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            done = super().step(closure)
            used.append(self.param_groups[0]["lr"])
            return done

    schedule = partial(CosineAnnealingLR, T_max=STEPS)
    fit(model(optimizer=partial(Told, lr=0.1), scheduler=schedule, scheduler_interval=interval, warmup=5 / 3), epochs=3)
    ticks = [step if interval == "step" else step // 3 for step in range(9)]
    cosine = [0.05 * (1 + math.cos(math.pi * tick / STEPS)) for tick in ticks]
    assert used == pytest.approx([rate * min(1, (step + 1) / 5) for step, rate in enumerate(cosine)])


def test_a_warm_up_below_zero_is_refused() -> None:
    with pytest.raises(FerlError, match="model.warmup is -1"):
        model(warmup=-1)


def test_plateau_watches_validation() -> None:
    def schedule(optimizer: torch.optim.Optimizer) -> ReduceLROnPlateau:
        return ReduceLROnPlateau(optimizer, threshold=10, threshold_mode="abs", patience=0, factor=0.5)

    classifier = model(optimizer=sgd, scheduler=schedule)
    fit(classifier, epochs=3)
    assert rates(classifier)["head.classify.weight"] == pytest.approx(0.025)  # the first value is the best by default


def test_plateau_knows_which_values_of_its_metric_are_better() -> None:
    """Of an accuracy that rises in each step, and a loss that falls, no rate is reduced; the other way all are."""
    for monitor, mode, rates in (
        ("val/accuracy", None, [1.0, 0.001]), ("val/nll", None, [0.001, 1.0]), ("val/loss", None, [0.001, 1.0]),
        ("val/loss", "max", [1.0, 0.001]),
    ):  # fmt: skip
        for values, rate in zip(([1, 2, 3, 4], [4, 3, 2, 1]), rates, strict=True):
            optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
            schedule = optim.ReduceLROnPlateau(optimizer, monitor, mode, patience=0, factor=0.1)  # type: ignore[arg-type]
            for value in values:
                schedule.step(value)
            assert optimizer.param_groups[0]["lr"] == pytest.approx(rate)


def test_plateau_steps_after_validations_alone() -> None:
    """Of 6 epochs, 3 have a validation; the first of these is the best."""
    schedule = partial(ReduceLROnPlateau, threshold=10, threshold_mode="abs", patience=0, factor=0.5)
    classifier = model(optimizer=sgd, scheduler=schedule)
    fit(classifier, epochs=6, check_val_every_n_epoch=2)
    assert rates(classifier)["head.classify.weight"] == pytest.approx(0.025)


def test_a_plateau_of_what_is_not_logged_is_refused() -> None:
    class Of(ReduceLROnPlateau):
        monitor = "val/los"

    with pytest.raises(FerlError, match=r"model.scheduler: it monitors 'val/los', which is not logged; .*val/loss"):
        fit(model(optimizer=sgd, scheduler=Of))


def test_images_without_a_label_do_not_count_in_training_accuracy_nor_in_fitted_parts() -> None:
    """LDA and SVM are solved on the others, as without them; the accuracy of a head that says class 0 is 0."""
    label = torch.eye(3)[torch.arange(12) % 3]
    label[:, 0] = 0  # class 0 is never the right one
    items = [{"image": x, "label": y} for x, y in zip(torch.rand(12, 1, 1, 16, 16), label, strict=True)]
    said = model(lr_scale={"backbone": 0.0})
    torch.nn.init.zeros_(said.network.head.classify.weight)
    said.network.head.classify.bias.data = torch.tensor([9.0, 0.0, 0.0])
    frozen = {"optimizer": partial(torch.optim.SGD, lr=0.0), "lr_scale": {"backbone": 0.0}}
    solved = []
    for data in (items, [item for item in items if item["label"].any()]):
        for classifier in (said, model(head=SVMHead, **frozen)):
            trainer = Trainer(
                max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
                enable_model_summary=False,
            )  # fmt: skip
            trainer.fit(classifier, DataLoader(data, batch_size=4))
            if classifier is said:
                assert trainer.callback_metrics["train/accuracy"] == 0
        solved.append(classifier.network.head.svm.weight)
    torch.testing.assert_close(*solved)


# --- checkpoints ------------------------------------------------------------------------------------------------------


def saved(classifier: Classifier, path: Path) -> Path:
    checkpoint: dict[str, Any] = {"state_dict": classifier.state_dict()}
    classifier.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, path)
    return path


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_images_are_taken_in_the_precision_of_the_network(dtype: torch.dtype) -> None:
    """As of the trainer's bf16-true, which changes the network and leaves the images."""
    images = torch.rand(2, 1, 1, 48, 48)
    logits = model().network.eval()(images).logits
    found = model().network.eval().to(dtype)(images).logits
    assert found.dtype == dtype and found.shape == logits.shape


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (partial(CrossEntropy, weight=-1.0), "the weight of CrossEntropy is -1.0, expected one from 0"),
        (partial(FocalLoss, gamma=-2.0), "FocalLoss: gamma is -2.0, expected a number from 0"),
        (partial(CrossEntropy, class_weights=dict.fromkeys(CLASSES, 0)), "class_weights: all are 0"),
    ],
)
def test_a_loss_that_would_teach_the_opposite_or_nothing_is_refused(loss: Any, said: str) -> None:
    with pytest.raises(FerlError, match=said):
        model(losses=[loss])


def test_init_from_takes_what_fits_and_leaves_the_rest(tmp_path: Path) -> None:
    old = model(head=MLPHead)
    torch.nn.init.ones_(old.network.backbone.layers[0].weight)
    new = model(init_from=str(saved(old, tmp_path / "old.ckpt")))
    assert (new.network.backbone.layers[0].weight == 1).all()
    assert new.network.head.classify.weight.equal(model().network.head.classify.weight)
    assert new.network.head.classify.weight.shape != old.network.head.classify.weight.shape


@pytest.mark.parametrize("before", ["", "_orig_mod.", "module.model.", "encoder_q."])
def test_init_from_takes_what_other_code_saves(tmp_path: Path, before: str) -> None:
    """A backbone under another name, as of torch.compile or another wrapper, in dictionaries of two depths."""
    old = model()
    torch.nn.init.ones_(old.network.backbone.layers[0].weight)
    state = {f"{before}{name}": x for name, x in old.network.backbone.state_dict().items()}
    torch.save(
        {"epoch": 3, "checkpoint": {"model": state | {f"{before}fc.weight": torch.zeros(9, 3)}}}, tmp_path / "a.pth"
    )
    new = model(init_from=str(tmp_path / "a.pth"))
    assert all(
        x.equal(new.state_dict()[f"network.backbone.{name}"]) for name, x in old.network.backbone.state_dict().items()
    )
    assert "; 1 others of the file not used" in str(new.started_from)


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_vit", "test_efficientnet", "test_nfnet"])
def test_init_from_takes_what_timm_saves_of_each_family(name: str, tmp_path: Path) -> None:
    """Its feature extractors have other names than its networks: ``stages_0`` for ``stages.0``, or one level more."""
    original = timm.create_model(name, in_chans=1)
    if not hasattr(original, "forward_intermediates"):
        pytest.skip("an older timm, which does not tell what this one gives")
    torch.save({"model": {f"module.{key}": x for key, x in original.state_dict().items()}}, tmp_path / "a.pth")
    new = model(backbone=partial(Timm, name=name), init_from=str(tmp_path / "a.pth"))
    images = torch.rand(1, 1, 160, 160)
    theirs = original.eval().forward_intermediates(images, intermediates_only=True)[-1]
    torch.testing.assert_close(new.network.backbone.eval()(images), theirs)


def test_init_from_refuses_weights_that_are_no_numbers(tmp_path: Path) -> None:
    state = model().network.backbone.state_dict()
    torch.save(state | {"layers.0.weight": state["layers.0.weight"] * float("nan")}, tmp_path / "a.pth")
    with pytest.raises(FerlError, match="1 of the .* tensors .* no numbers, such as backbone.layers.0.weight"):
        model(init_from=str(tmp_path / "a.pth"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"class_names": "abc"}, "class_names is 'abc', expected a list"),
        ({"class_names": 7}, "class_names is 7, expected a list"),
        ({"backbone": SMALL(1)}, "model.backbone is a ConvStack that is made already; give its class"),
        ({"head": torch.nn.Linear(3, 2)}, "model.head is a Linear that is made already"),
        ({"losses": CrossEntropy}, r"model.losses is <class .*CrossEntropy'>, expected a list"),
        ({"losses": ["CrossEntropy"]}, r"model.losses is \['CrossEntropy'\], expected a list of classes"),
        ({"losses": [torch.nn.CrossEntropyLoss()]}, "CrossEntropyLoss is no Loss of ours, or is made already"),
        ({"optimizer": "Adam"}, "model.optimizer is 'Adam', expected a class"),
    ],
    ids=str,
)
def test_what_a_classifier_cannot_be_made_of_is_told(options: dict[str, Any], said: str) -> None:
    with pytest.raises(FerlError, match=said):
        Classifier(**{"class_names": CLASSES, "backbone": SMALL} | options)


def test_init_from_takes_the_only_tensors_that_there_are(tmp_path: Path) -> None:
    """Under whatever name; those of an optimiser are not meant, and of several it is not clear which are."""
    old = model()
    torch.nn.init.ones_(old.network.backbone.layers[0].weight)
    state, beside = old.network.backbone.state_dict(), torch.optim.Adam(old.parameters()).state_dict()
    for content in ({"params_ema": state}, {"ema": {"module": state}, "optimizer": beside, "head": {}}):
        torch.save(content, tmp_path / "a.pth")
        assert (model(init_from=str(tmp_path / "a.pth")).network.backbone.layers[0].weight == 1).all()
    torch.save({"student": state, "teacher": state}, tmp_path / "a.pth")
    with pytest.raises(FerlError, match="its keys are student, teacher. Save the state_dict of one network"):
        model(init_from=str(tmp_path / "a.pth"))


@pytest.mark.parametrize("zipped", [True, False])
def test_init_from_takes_tensors_that_stand_beside_numpy_arguments_and_paths(tmp_path: Path, zipped: bool) -> None:
    old = model()
    torch.nn.init.ones_(old.network.backbone.layers[0].weight)
    beside = {
        "best_acc": np.float64(0.7),
        "curve": np.arange(3.0),
        "words": np.array(["a", None], object),
        "args": Namespace(lr=0.1, out=tmp_path, seed=np.int64(3)),
        "of": OrderedDict(a=np.bool_(True)),
    }
    content = beside | {"state_dict": old.network.backbone.state_dict()}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    assert (model(init_from=str(tmp_path / "a.pth")).network.backbone.layers[0].weight == 1).all()


class _Runs:
    """Is pickled as a call, as of a file that means harm."""

    def __init__(self, call: Callable[..., Any], *args: Any) -> None:
        self.call = (call, args)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


@pytest.mark.parametrize("inside", [list, lambda x: Namespace(a=x), lambda x: np.array([x], object)])
def test_init_from_runs_nothing_beside_the_tensors(tmp_path: Path, inside: Callable[..., Any]) -> None:
    trace = tmp_path / "ran"
    for harm in (_Runs(Path.touch, trace), _Runs(np.savetxt, trace, [1]), _Runs(exec, f"open({str(trace)!r}, 'w')")):
        content = {"args": inside([harm] if inside is list else harm), "state_dict": model().state_dict()}
        torch.save(content, tmp_path / "a.pth")
        with pytest.raises(FerlError, match="would run code"):
            model(init_from=str(tmp_path / "a.pth"))
        assert not trace.exists()


def test_init_from_says_what_an_intact_file_holds_instead(tmp_path: Path) -> None:
    for content, message in (
        ([1, 2], "holds a list, not tensors by name"),
        (torch.nn.Linear(2, 2), r"torch.nn.modules.linear.Linear"),
    ):
        torch.save(content, tmp_path / "a.pth")
        with pytest.raises(FerlError, match=message):
            model(init_from=str(tmp_path / "a.pth"))
    np.savez(tmp_path / "a.npz", a=np.ones(3))
    torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)).save(tmp_path / "script.pt")  # type: ignore[no-untyped-call]
    (tmp_path / "keras.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99))
    (tmp_path / "none.pth").touch()
    for name, message in {
        "a.npz": "but a program or an archive", "script.pt": "but a program or an archive",
        "keras.h5": ": torch.save has not written it", "none.pth": ": it is empty",
    }.items():  # fmt: skip
        with pytest.raises(FerlError, match=f"{name} is no checkpoint ?{message}"):
            model(init_from=str(tmp_path / name))


@pytest.mark.parametrize("name", ["w.ckpt", "w.safetensors"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "is a pointer of Git LFS: .*lfs pull"),
        (b"\n<!DOCTYPE html>\n<html><body>Sign in</body></html>", "is a web page: the download failed"),
    ],
)
def test_init_from_says_what_stands_in_place_of_weights(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FerlError, match=f"model.init_from: .*{name} {message}"):
        model(init_from=str(tmp_path / name))


def test_init_from_takes_other_classes_all_but_the_last_layer(tmp_path: Path) -> None:
    path = saved(model(), tmp_path / "old.ckpt")
    new = Classifier(["a", "b"], backbone=SMALL, init_from=str(path))
    assert new.network.backbone.layers[0].weight.equal(model().network.backbone.layers[0].weight)


def test_init_from_takes_the_classes_that_it_knows_by_name(tmp_path: Path) -> None:
    old = Classifier(["happiness", "anger", "wink"], backbone=SMALL)
    path = saved(old, tmp_path / "old.ckpt")
    new = Classifier(["angry", "bored", "happy", "sad"], backbone=SMALL, init_from=str(path))
    rows, before = new.network.head.classify.weight, old.network.head.classify.weight
    assert rows[0].equal(before[1]) and rows[2].equal(before[0])
    assert not any(row.equal(other) for row in rows[[1, 3]] for other in before)
    assert "2 of 4 classes" in new.started_from


def test_init_from_does_not_bring_class_weights_of_other_data(tmp_path: Path) -> None:
    weighted = [partial(CrossEntropy, class_weights="inverse")]
    path = saved(model(class_counts=[50, 1, 1], losses=weighted), tmp_path / "old.ckpt")
    new = model(class_counts=[1, 1, 50], losses=weighted, init_from=str(path))
    assert new.losses[0].class_weights.argmin() == 2


@pytest.mark.parametrize("part", [CrossEntropy, FocalLoss])
def test_class_weights_by_name_are_those_of_the_same_list(part: type[CrossEntropy | FocalLoss]) -> None:
    logits, label = torch.randn(8, 3), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    by_name, by_place = (
        model(losses=[partial(part, class_weights=given)]).losses[0](
            Output(logits, logits, logits, None), {"label": label}
        )
        for given in ({"Sad": 3, "happy": 0.5}, [0.5, 3.0, 1.0])
    )
    assert by_name.equal(by_place)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"suprise": 2}, r"no class 'suprise'; the classes are happiness, sadness, surprise. Did you mean surprise\?"),
        ({"fear": 2}, "no class 'fear'"),
        ({"happy": 2, "happiness": 3}, "happiness is there twice"),
        ({"sad": -1}, "sadness has the weight -1"),
        ({"sad": float("nan")}, "sadness has the weight nan"),
    ],
)
def test_class_weights_by_name_that_cannot_be_meant_are_refused(given: dict[str, float], message: str) -> None:
    with pytest.raises(FerlError, match=message):
        model(losses=[partial(CrossEntropy, class_weights=given)])


def test_init_from_refuses_a_checkpoint_of_which_nothing_fits(tmp_path: Path) -> None:
    path = saved(Classifier(["a", "b"], backbone=partial(ResNet, channels=(16,), blocks=(1,))), tmp_path / "old.ckpt")
    with pytest.raises(FerlError, match=r"model.init_from: no parameter of .*old.ckpt has the name and shape"):
        model(init_from=str(path))


def test_init_from_refuses_a_file_that_is_missing_or_cut_off(tmp_path: Path) -> None:
    with pytest.raises(FerlError, match=r"model.init_from: there is no checkpoint .*none.ckpt"):
        model(init_from=str(tmp_path / "none.ckpt"))
    whole = saved(model(), tmp_path / "whole.ckpt").read_bytes()
    for share in (0.0, 0.01, 0.5, 0.99):
        (tmp_path / "cut.ckpt").write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(FerlError, match=r"model.init_from: .*cut.ckpt is no checkpoint"):
            model(init_from=str(tmp_path / "cut.ckpt"))


def checkpoint_of(classifier: Classifier) -> dict[str, Any]:
    checkpoint: dict[str, Any] = {"state_dict": classifier.state_dict()}
    classifier.on_save_checkpoint(checkpoint)
    return checkpoint


def test_a_checkpoint_of_other_classes_is_refused() -> None:
    other = Classifier(CLASSES[::-1], backbone=SMALL)
    with pytest.raises(FerlError, match=r"trained on the classes \['surprise', 'sadness', 'happiness'\], the data has"):
        model().on_load_checkpoint(checkpoint_of(other))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sequence": LSTM}, "sequence.rnn.weight_ih_l0 is only in the checkpoint"),
        ({"backbone": partial(ConvStack, channels=(4, 9), depth=1)}, r"has shape \(9, 4, 3, 3\) in the checkpoint and"),
    ],
)
def test_a_checkpoint_of_another_architecture_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(FerlError, match=f"another architecture.*{message}.*init_from"):
        model().on_load_checkpoint(checkpoint_of(model(**change)))


def test_a_checkpoint_that_lacks_tensors_is_refused() -> None:
    with pytest.raises(FerlError, match=r"sequence.rnn.weight_ih_l0 is not in the checkpoint.*and 8 more"):
        model(sequence=LSTM).on_load_checkpoint(checkpoint_of(model(head=partial(MLPHead, hidden=16))))

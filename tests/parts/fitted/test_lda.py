"""LDA against its definition and scikit-learn, when the classifier fits, and what the check finds in broken parts."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import sklearn.decomposition
import torch
from lightning.pytorch import Trainer
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ferlightning.contracts.modules import Fitted, Head, Tokens, pool
from ferlightning.errors import FerlError
from ferlightning.models.classifier import Classifier
from ferlightning.parts import LDA, PCA, SVM, ConvStack, ProjectionHead
from ferlightning.testing import check_fitted

Array = NDArray[np.float64]


def features(n: int = 300, d: int = 12, k: int = 5, seed: int = 0) -> tuple[Array, NDArray[np.int64]]:
    """Correlated features with a mean far from 0, of k unequal classes."""
    rng = np.random.default_rng(seed)
    label = rng.choice(k, n, p=np.arange(1, k + 1) / np.arange(1, k + 1).sum())
    label[: 2 * k] = np.arange(2 * k) % k
    x = (rng.standard_normal((n, d)) + rng.standard_normal((k, d))[label]) @ rng.standard_normal((d, d)) + 5
    return x.astype(np.float32).astype(np.float64), label


def fitted(x: Array, label: NDArray[np.int64], part: LDA | None = None, **options: Any) -> LDA:
    """An LDA that was fed in uneven batches."""
    part = part or LDA(x.shape[1], 5, **options)
    for rows in np.split(np.arange(len(x)), [1, 65, 129]):
        part.update(torch.tensor(x[rows], dtype=torch.float32), torch.tensor(label[rows]))
    part.fit()
    return part.eval()


def projected(part: LDA, x: Array) -> Array:
    return part(torch.tensor(x, dtype=torch.float32)).numpy().astype(np.float64)


def solution(x: Array, label: NDArray[np.int64], shrinkage: float = 0.0, components: int = 4) -> Array:
    """By definition: generalised eigenvectors of the covariances between and within, each shrunk; then centred."""
    within = np.zeros((x.shape[1], x.shape[1]))
    for k in np.unique(label):
        own = x[label == k] - x[label == k].mean(0)
        within += sum(np.outer(row, row) for row in own) / len(x)
    total = sum(np.outer(row, row) for row in x - x.mean(0)) / len(x)
    total, within = ((1 - shrinkage) * c + shrinkage * np.trace(c) / len(c) * np.eye(len(c)) for c in (total, within))
    vectors = scipy.linalg.eigh(total - within, within)[1][:, ::-1][:, :components]
    return (x - x.mean(0)) @ vectors


def assert_equal_up_to_a_rotation(found: Array, expected: Array, scale: float = 1.0) -> None:
    """Equal distances between all items, and one place of the mean."""
    np.testing.assert_allclose(found @ found.T, scale * expected @ expected.T, atol=2e-3)


# --- the solution -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"shrinkage": 0.1}, {"shrinkage": 0.0}, {"components": 2}, {"shrinkage": 1.0}])
def test_the_projection_is_the_definition_up_to_a_rotation(options: dict[str, Any]) -> None:
    x, label = features()
    expected = solution(x, label, **({"shrinkage": 0.1} | options))
    # Without shrinkage scikit-learn brings the unbiased covariance within the classes to the identity.
    found = projected(fitted(x, label, **options), x)
    scale = (found**2).sum() / (expected**2).sum()
    assert scale == pytest.approx(1, abs=0.02 if options.get("shrinkage") == 0 else 1e-4)
    assert_equal_up_to_a_rotation(found, expected, scale)


def test_a_class_without_items_leaves_its_axis_at_zero() -> None:
    x, label = features()
    x, label = x[label != 2], label[label != 2]
    part = fitted(x, label)
    assert np.linalg.matrix_rank(part.axes.numpy(), tol=1e-5) == 3
    assert_equal_up_to_a_rotation(projected(part, x), solution(x, label, 0.1, components=3))


def test_features_without_variance_and_copies_of_features_change_nothing() -> None:
    x, label = features()
    wide = np.concatenate([x, np.full((len(x), 1), 3.0), 100 * x[:, :2], np.zeros((len(x), 1))], 1)
    found, expected = (projected(fitted(rows, label, shrinkage=0.0), rows) for rows in (wide, x))
    assert_equal_up_to_a_rotation(found, expected)


# --- the part ---------------------------------------------------------------------------------------------------------


def test_the_rotation_is_the_one_closest_to_the_projection_before() -> None:
    x, label = features()
    part = LDA(12, 5)
    for seed in (0, 1):  # from the random projection, and from a fit to other items
        before = projected(part.eval(), x)
        fitted(x, label, part)
        expected = solution(x, label, 0.1)
        rotation, _ = scipy.linalg.orthogonal_procrustes(expected, before - before.mean(0))
        np.testing.assert_allclose(projected(part, x), expected @ rotation, atol=2e-4)
        part.reset()
        x, label = features(seed=seed + 1)


@torch.no_grad()
def test_a_refit_does_not_flip_or_turn_what_the_layers_behind_read() -> None:
    """Classes equally far apart, as in a trained network: any rotation of the axes is an equally good solution."""
    means = 6 * np.eye(5, 12)

    def draw(seed: int) -> tuple[Array, NDArray[np.int64]]:
        label = np.arange(1000) % 5
        return np.random.default_rng(seed).standard_normal((1000, 12)) + means[label], label

    part = fitted(*draw(0))
    x, label = draw(1)
    before = projected(part, x)
    part.reset()
    fitted(x, label, part)
    assert np.abs(projected(part, x) - before).mean() < 0.1 * np.abs(before).mean()
    own = LinearDiscriminantAnalysis(solver="eigen", shrinkage=0.1).fit(x, label).transform(x)
    own = (own - own.mean(0)) * np.sign(((own - own.mean(0)) * before).sum(0))
    assert np.abs(own - before).mean() > 0.5 * np.abs(before).mean(), "aligned signs alone would not do here"


def test_items_added_after_a_fit_count_with_those_before() -> None:
    """Like a validation within an epoch."""
    x, label = features()
    part = fitted(x[:150], label[:150])
    fitted(x[150:], label[150:], part)
    assert_equal_up_to_a_rotation(projected(part, x), solution(x, label, 0.1))


@torch.no_grad()
def test_before_any_fit_it_is_an_orthonormal_projection_which_autocast_does_not_round() -> None:
    part, x = LDA(12, 5), torch.randn(50, 12)
    torch.testing.assert_close(part.axes.T @ part.axes, torch.eye(4), atol=1e-6, rtol=0)
    with torch.autocast("cpu", torch.bfloat16):
        found = part(x)
    torch.testing.assert_close(found, x @ part.axes, atol=1e-6, rtol=0)


def test_warmup_leaves_out_the_first_fits() -> None:
    x, label = features()
    part = LDA(12, 5, warmup=2)
    before = part.axes.clone()
    for _ in range(2):
        fitted(x, label, part)
        part.reset()
    assert part.axes.equal(before)
    late = LDA(12, 5)
    late.load_state_dict(part.state_dict())  # like a run that is resumed after its warm-up
    for waited in (part, late):
        assert_equal_up_to_a_rotation(projected(fitted(x, label, waited), x), solution(x, label, 0.1))


@pytest.mark.parametrize("shrinkage", [0.0, 0.1])
@pytest.mark.parametrize(
    ("x", "label"),
    [
        (torch.randn(5, 12), torch.arange(5)),
        (torch.randn(8, 12), torch.full((8,), 3)),
        (torch.randn(5, 12).repeat(8, 1), torch.arange(40) % 5),
    ],
    ids=["one item a class", "one class", "classes that are points"],
)
def test_data_without_a_solution_leave_the_axes_as_they_are(x: Tensor, label: Tensor, shrinkage: float) -> None:
    part = LDA(12, 5, shrinkage=shrinkage)
    before = part.axes.clone()
    part.update(x, label)
    part.fit()
    assert part.axes.equal(before)


def test_pca_is_that_of_scikit_learn_whitened_up_to_a_rotation() -> None:
    x, label = features()
    part = PCA(12, 5)
    part.update(torch.tensor(x, dtype=torch.float32), torch.tensor(label))
    part.fit()
    expected = sklearn.decomposition.PCA(4, whiten=True).fit_transform(x)
    assert_equal_up_to_a_rotation(projected(part.eval(), x), expected)


@pytest.mark.parametrize("part", [LDA, PCA, SVM])
def test_features_that_are_not_finite_are_named(part: type[LDA] | type[PCA] | type[SVM]) -> None:
    broken = part(12, 5)
    broken.update(torch.full((8, 12), torch.inf), torch.arange(8) % 5)
    with pytest.raises(FerlError, match=f"{part.__name__}: the features of this epoch are not finite.*learning rate"):
        broken.fit()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"components": 5}, "components is 5; 5 classes of 12 features have 1 to 4"),
        ({"components": 0}, "components is 0"),
        ({"shrinkage": 1.5}, r"shrinkage is 1.5, it must be in \[0, 1\]"),
        ({"warmup": -1}, "warmup is -1"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(FerlError, match=message):
        LDA(12, 5, **options)


# --- within the classifier --------------------------------------------------------------------------------------------


class _Recorder(Fitted):
    """Records the calls that it gets."""

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__()
        self.out_features = in_features
        self.calls: list[str] = []
        self.items: list[tuple[Tensor, Tensor]] = []

    def transform(self, x: Tensor) -> Tensor:
        if not self.training:
            self.calls.append("eval")
        return x

    def update(self, x: Tensor, label: Tensor) -> None:
        self.calls.append(f"update {len(x)}")
        self.items.append((x, label))

    def fit(self) -> None:
        self.calls.append("fit")

    def reset(self) -> None:
        self.calls.append("reset")


def classifier(**options: Any) -> Classifier:
    torch.manual_seed(0)
    head = options.pop("head", partial(ProjectionHead, projection=_Recorder, reconstruction=None))
    return Classifier(["a", "b", "c"], backbone=partial(ConvStack, channels=(4, 8), depth=1), head=head, **options)


def loader(n: int, batch_size: int = 4) -> DataLoader[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(n)
    images = torch.rand(n, 1, 1, 16, 16, generator=generator)
    items = [{"image": image, "label": torch.tensor(i % 3)} for i, image in enumerate(images)]
    return DataLoader(items, batch_size=batch_size)  # type: ignore[arg-type]


def trainer(**options: Any) -> Trainer:
    return Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        **({"max_epochs": 1, "enable_checkpointing": False} | options),
    )  # fmt: skip


def test_parts_are_fitted_before_validation_and_start_anew_with_the_epoch() -> None:
    model = classifier()
    fit = trainer(max_epochs=2)
    fit.fit(model, loader(12), loader(4))
    epoch = ["update 4"] * 3 + ["fit", "eval", "eval", "reset"]  # one of them looks for batch norms after the part
    assert model.network.head.projection.calls == ["reset", "eval", *epoch, *epoch]  # the first is the sanity check
    fit.validate(model, loader(4), verbose=False)
    assert model.network.head.projection.calls[-1] == "eval", "validation by itself changes nothing"


def test_a_validation_within_the_epoch_fits_to_the_epoch_so_far() -> None:
    model = classifier()
    trainer(val_check_interval=2, num_sanity_val_steps=0, accumulate_grad_batches=2).fit(model, loader(20), loader(4))
    twice = ["update 4", "update 4", "fit", "eval", "eval"]
    assert model.network.head.projection.calls == ["reset", *twice, *twice, "update 4", "fit", "eval", "reset"]


def test_without_validation_parts_are_fitted_at_the_end_of_the_epoch() -> None:
    model = classifier()
    trainer(limit_val_batches=0).fit(model, loader(8))
    assert model.network.head.projection.calls == ["reset", "update 4", "update 4", "fit", "eval", "reset"]


def test_a_frozen_part_is_not_fitted() -> None:
    model = classifier(lr_scale={"head": 0.0})
    trainer(num_sanity_val_steps=0).fit(model, loader(8), loader(4))
    assert model.network.head.projection.calls == ["reset", "eval", "eval", "eval", "reset"]


def test_parts_see_the_features_and_labels_of_every_item() -> None:
    model = classifier(lr_scale={"backbone": 0.0})
    trainer().fit(model, loader(10), loader(4))
    seen, label = (torch.cat(column) for column in zip(*model.network.head.projection.items, strict=True))
    assert label.tolist() == [i % 3 for i in range(10)]
    with torch.no_grad():
        expected = torch.cat([model(batch["image"]).embedding for batch in loader(10)])
    torch.testing.assert_close(seen, expected, atol=1e-6, rtol=0)


def test_a_resumed_fit_ends_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    def run(epochs: int, folder: str, checkpoint: Path | None = None) -> tuple[Classifier, Path]:
        model = classifier(head=partial(ProjectionHead, dropout=0.0))
        fit = trainer(max_epochs=epochs, enable_checkpointing=True, default_root_dir=tmp_path / folder)
        fit.fit(model, loader(32, 8), loader(8), ckpt_path=checkpoint, weights_only=True)
        return model, Path(fit.checkpoint_callback.best_model_path)  # type: ignore[union-attr]

    whole, _ = run(3, "whole")
    _, checkpoint = run(2, "half")
    resumed, _ = run(3, "resumed", checkpoint)
    for name, x in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], x, msg=name)


@pytest.mark.slow
def test_two_processes_fit_what_one_does(tmp_path: Path) -> None:
    x, label = features()
    torch.manual_seed(0)
    one = LDA(12, 5)
    start = {name: buffer.clone() for name, buffer in one.state_dict().items()}
    rows = torch.tensor(x, dtype=torch.float32)
    for part in (slice(0, 200), slice(200, None)):
        one.update(rows[part], torch.tensor(label)[part])
        one.fit()
    context: Any = torch.multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    given = (f"file://{tmp_path}/meeting", rows, torch.tensor(label), start, results)
    torch.multiprocessing.spawn(_fit_share, given, nprocs=2)  # type: ignore[no-untyped-call]
    for _ in range(2):
        axes_of, mean = results.get()
        np.testing.assert_allclose(axes_of, one.axes.numpy(), atol=1e-6)
        np.testing.assert_allclose(mean, one.mean.numpy(), atol=1e-6)


def _fit_share(rank: int, meeting: str, x: Tensor, label: Tensor, start: dict[str, Tensor], results: Any) -> None:
    """A process with its uneven share of the items."""
    torch.distributed.init_process_group("gloo", meeting, rank=rank, world_size=2)
    part = LDA(12, 5)
    part.load_state_dict(start)
    # Fitted twice: the sums of all must not have come into those of one.
    for share in [slice(0, 80), slice(200, 290)] if rank == 0 else [slice(80, 200), slice(290, None)]:
        part.update(x[share], label[share])
        part.fit()
    results.put((part.axes.tolist(), part.mean.tolist()))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


# --- broken parts; a leading underscore keeps them out of the table of parts ------------------------------------------


class _NotInPlace(LDA):
    def fit(self) -> None:
        super().fit()
        self.axes = self.axes * 1.0


class _StatisticsInBuffers(LDA):
    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__(in_features, num_classes)
        self.register_buffer("count", torch.zeros(()))

    def update(self, x: Tensor, label: Tensor) -> None:
        super().update(x, label)
        self.count += len(x)


class _LastBatchOnly(LDA):
    def update(self, x: Tensor, label: Tensor) -> None:
        self.reset()
        super().update(x, label)


class _NeverForgets(LDA):
    def reset(self) -> None:
        pass


class _ForgetsAll(LDA):
    def reset(self) -> None:
        super().reset()
        self.axes.zero_()


class _NeverSolves(LDA):
    def fit(self) -> None:
        pass


class _Unaligned(LDA):
    def fit(self) -> None:
        super().fit()
        if self.batches:
            self.axes.neg_()


class _SpreadsSoftLabels(LDA):
    def update(self, x: Tensor, label: Tensor) -> None:
        super().update(x, label if label.ndim == 1 else label.argmin(1))


class _OverridesForward(LDA):
    def forward(self, x: Tensor) -> Tensor:
        return self.transform(x)


class _KeepsGraph(LDA):
    def forward(self, x: Tensor) -> Tensor:
        self.seen = x if self.training else None
        return self.transform(x)


class _Detached(LDA):
    def transform(self, x: Tensor) -> Tensor:
        return super().transform(x.detach()) + 0 * x.sum()


class _Learned(LDA):
    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__(in_features, num_classes)
        self.scale = nn.Parameter(torch.ones(()))


class _WrongWidth(LDA):
    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__(in_features, num_classes)
        self.out_features = num_classes


class _FailsOnOneItem(LDA):
    def fit(self) -> None:
        super().fit()
        if sum(len(x) for x, _ in self.batches) == 1:
            self.axes.fill_(torch.inf)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (_NotInPlace, "no gradient after a fit, which must write in place"),
        (_StatisticsInBuffers, "update must not change buffers"),
        (_LastBatchOnly, "one batch instead of several gives another result"),
        (_NeverForgets, "after a reset only what came since must count"),
        (_ForgetsAll, "a reset must keep the result"),
        (_NeverSolves, "a fit changes no buffer"),
        (_Unaligned, "a second fit on equal statistics must keep the result"),
        (_SpreadsSoftLabels, "soft labels must count as their most probable class"),
        (_OverridesForward, "must leave its input, detached, in `seen` in train mode"),
        (_KeepsGraph, "must leave its input, detached"),
        (_Detached, "no gradient reaches the features"),
        (_Learned, "must be a buffer, not a parameter"),
        (_WrongWidth, "out_features is 2, but the result has width 1"),
        (_FailsOnOneItem, "the result in train mode is not finite"),
    ],
)
def test_broken_fitted_parts(part: type[LDA], message: str) -> None:
    with pytest.raises(AssertionError, match=message) as caught:
        check_fitted(part)
    assert str(caught.value).startswith(part.__name__)


def test_a_head_of_a_plugin_may_hold_a_fitted_part_anywhere() -> None:
    class _Own(Head):
        def __init__(self, in_features: int, num_classes: int) -> None:
            super().__init__()
            self.embed_features = in_features
            self.inner = nn.ModuleDict({"deep": _Recorder(in_features, num_classes)})
            self.classify = nn.Linear(in_features, num_classes)

        def forward(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
            x = self.inner["deep"](pool(tokens))
            return self.classify(x), x

    model = classifier(head=_Own)
    trainer(limit_val_batches=0).fit(model, loader(4))
    assert model.network.head.inner["deep"].calls == ["reset", "update 4", "fit", "eval", "reset"]

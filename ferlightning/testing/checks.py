"""Contract checks for parts: the author of a plug-in runs them in a test, and ours run them over every part we ship.

Each check takes what the slot of the classifier takes, a class or a function that builds the part:

    check_backbone(TinyNet)
    check_stage(functools.partial(LSTM, bidirectional=False))

and raises AssertionError, with the promise that is broken and what was found instead. A part of modest width is checked
in about a second; nothing is trained.
"""

import copy
import inspect
import io
import json
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ferlightning.contracts.images import GradedCorruption, Preprocess
from ferlightning.contracts.modules import (
    Augmentation,
    Backbone,
    Batch,
    Fitted,
    Head,
    Loss,
    Output,
    Recalibration,
    Restorer,
    Stage,
    Tokens,
)
from ferlightning.errors import FerlError

P = TypeVar("P", bound=nn.Module)
GARBAGE = 1e3
"""What padding holds in the checks: zeros would hide that it was read."""


@contextmanager
def _seeded() -> Iterator[None]:
    """As a decorator: equal checks in every run, and the caller's random state left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@_seeded()
def check_restorer(build: Callable[[], Restorer], in_channels: int = 1) -> None:
    """Check that a restorer keeps the shape and the range of images, and returns the same in every eval run.

    Args:
        build: makes the restorer, as the slot ``restorer`` does.
        in_channels: C of the images; a restorer that depends on it has it among its own options.
    """
    images = torch.rand(3, in_channels, 48, 40)
    restorer = _built(build, Restorer)
    name = type(restorer).__name__
    for mode in ("train", "eval"):
        with torch.no_grad():
            restored = _run(restorer.train(mode == "train"), images)[0]
        _require(restored.shape == images.shape, f"{name}: images {_shape(images)} became {_shape(restored)}")
        low, high = float(restored.min()), float(restored.max())
        span = f"{name}: images in [0, 1] must stay there; in {mode} mode they span [{low:.3g}, {high:.3g}]"
        _require(low >= -1e-5 and high <= 1 + 1e-5, span)
    _check_each_alone(restorer, images)
    _check_module(build, images)


@_seeded()
def check_backbone(
    build: Callable[[int], Backbone], sizes: Sequence[tuple[int, int]] = ((48, 48), (64, 64), (80, 96))
) -> None:
    """Check that a backbone makes feature maps of the width it declares, from grey and RGB images of several sizes.

    Args:
        build: makes the backbone from the number of channels, as the slot ``backbone`` does.
        sizes: heights and widths of the images; pass your own for a backbone of one fixed size.
    """
    for channels in (1, 3):
        backbone = _built(partial(build, channels), Backbone).eval()
        name = type(backbone).__name__
        for height, width in sizes:
            images = torch.randn(3, channels, height, width)
            with torch.no_grad():
                features = _run(backbone, images)[0]
            _require(
                features.ndim == 4 and len(features) == 3 and min(features.shape) > 0,
                f"{name}: images {_shape(images)} must become a feature map (3, D, H', W'); found {_shape(features)}",
            )
            _require_width(backbone, "out_features", features.shape[1], "the feature map has")
        _check_each_alone(backbone, images)
        _check_module(partial(build, channels), images)


@_seeded()
def check_recalibration(
    build: Callable[[int], Recalibration],
    in_features: int = 32,
    sizes: Sequence[tuple[int, int]] = ((12, 12), (5, 7), (1, 1)),
) -> None:
    """Check that a recalibration keeps the shape of feature maps of several sizes, each image for itself.

    Args:
        build: makes the part from the width of the feature map, as the option ``recalibration`` of backbones does.
        in_features: D of the feature maps.
        sizes: their heights and widths.
    """
    part = _built(partial(build, in_features), Recalibration).eval()
    for height, width in sizes:
        features = torch.randn(3, in_features, height, width)
        with torch.no_grad():
            result = _run(part, features)[0]
        kept = f"{type(part).__name__}: must keep the shape; {_shape(features)} became {_shape(result)}"
        _require(result.shape == features.shape, kept)
        _check_each_alone(part, features)
        _check_module(partial(build, in_features), features)


@_seeded()
def check_stage(build: Callable[[int], Stage], in_features: int = 32) -> None:
    """Check a sequence stage or an attention: widths, weights, masks, and that padding never changes a result.

    Args:
        build: makes the stage from the width of its tokens, as the slots ``sequence`` and ``attention`` do.
        in_features: D of the tokens.
    """
    stage = _built(partial(build, in_features), Stage).eval()
    for t, h, w in ((3, 2, 2), (5, 1, 1)):
        length = t * h * w
        lengths = torch.tensor([t, 1, 2]) * h * w
        x, mask = torch.randn(3, length, in_features), torch.arange(length) < lengths[:, None]
        padded = Tokens(x.masked_fill(~mask.unsqueeze(2), GARBAGE), mask, (t, h, w))
        for tokens in (Tokens(x, None, (t, h, w)), padded):
            with torch.no_grad():
                _check_tokens(stage, tokens, _call(stage, tokens))
            _check_module(partial(build, in_features), tokens)
        _check_padding(stage, padded, lengths.tolist())


@_seeded()
def check_head(build: Callable[[int, int], Head], in_features: int = 32) -> None:
    """Check that a head returns logits and an embedding of the declared widths, and that padding changes neither.

    Args:
        build: makes the head from the width of its tokens and the number of classes, as the slot ``head`` does.
        in_features: D of the tokens.
    """
    for k in (2, 7):
        head = _built(partial(build, in_features, k), Head).eval()
        name = type(head).__name__
        for t, h, w in ((6, 1, 1), (3, 2, 2), (1, 1, 1)):
            length = t * h * w
            lengths = torch.tensor([t, 1, (t + 1) // 2]) * h * w
            x, mask = torch.randn(3, length, in_features), torch.arange(length) < lengths[:, None]
            padded = Tokens(x.masked_fill(~mask.unsqueeze(2), GARBAGE), mask, (t, h, w))
            for tokens in (Tokens(x, None, (t, h, w)), padded):
                with torch.no_grad():
                    results = _run(head, tokens)
                _require(len(results) == 2, f"{name}: must return (logits, embedding); found {len(results)} tensors")
                logits, embedding = results
                found = f"{name}: logits of 3 items and {k} classes have shape {_shape(logits)}"
                _require(logits.shape == (3, k), found)
                found = f"{name}: embedding {_shape(embedding)} is not (3, E)"
                _require(embedding.ndim == 2 and len(embedding) == 3, found)
                _require_width(head, "embed_features", embedding.shape[1], "the embedding has")
                _check_module(partial(build, in_features, k), tokens)
            _check_padding(head, padded, lengths.tolist())


@_seeded()
def check_fitted(build: Callable[[int, int], Fitted], in_features: int = 16) -> None:
    """Check that a fitted part is of use before any fit, and that a fit solves from the statistics since the reset.

    Also that the statistics are not in buffers and the result is; that batches may be of any size, of half precision
    and with soft labels; and that neither no data nor a single item harms the result.

    Args:
        build: makes the part from the width of its features and the number of classes, as the option ``projection`` of
            ``ProjectionHead`` does.
        in_features: D of the features.
    """
    for k in (2, 5):
        label = torch.arange(30 * k) % k
        x, other = (torch.randn(len(label), in_features) + 2 * torch.randn(k, in_features)[label] for _ in range(2))
        part = _built(partial(build, in_features, k), Fitted)
        name = type(part).__name__
        _require(not list(part.parameters()), f"{name}: what is fitted must be a buffer, not a parameter")
        _check_seen(part, x)
        _check_module(partial(build, in_features, k), x)

        first = _buffers(part)
        part.fit()
        _require_same(_buffers(part), first, f"{name}: a fit without data must leave the result as it is")
        alone = copy.deepcopy(part)
        alone.update(x[:1], label[:1])
        alone.fit()
        _run(alone, x)

        for start, stop in ((0, 1), (1, 40), (40, None)):
            part.update(x[start:stop], label[start:stop])
        _require_same(_buffers(part), first, f"{name}: update must not change buffers, where statistics would be lost")
        with torch.inference_mode():  # as a validation may run
            part.fit()
        fitted = _buffers(part)
        _require(any(not fitted[key].equal(first[key]) for key in first), f"{name}: a fit changes no buffer")
        leaf = x.clone().requires_grad_()
        try:
            part(leaf).square().sum().backward()
        except RuntimeError as error:
            raise AssertionError(f"{name}: no gradient after a fit, which must write in place: {error}") from error
        _require(leaf.grad is not None and bool((leaf.grad != 0).any()), f"{name}: no gradient reaches the features")

        def refitted(before: dict[str, Tensor], features: Tensor, labels: Tensor) -> Fitted:
            """A new part after a fit of one batch, from the result before."""
            new = build(in_features, k)  # noqa: B023, called within the loop
            new.load_state_dict(before)
            new.update(features, labels)
            new.fit()
            return new.eval()

        found = _run(part.eval(), x)[0]
        soft = 0.6 * torch.eye(k)[label] + 0.4 / k
        for what, twin in {
            "one batch instead of several gives another result": refitted(first, x, label),
            "soft labels must count as their most probable class": refitted(first, x, soft),
            "a second fit on equal statistics must keep the result": refitted(fitted, x, label),
        }.items():
            _require_close(_run(twin, x)[0], found, f"{name}: {what}", 1e-3)
        half = _run(refitted(first, x.bfloat16(), label), x)[0]
        _require_close(half, found, f"{name}: features of half precision give quite another result", 0.1)

        part.reset()
        _require_same(_buffers(part), fitted, f"{name}: a reset must keep the result")
        part.update(other, label)
        part.fit()
        anew = _run(refitted(fitted, other, label), x)[0]
        _require_close(_run(part, x)[0], anew, f"{name}: after a reset only what came since must count", 1e-3)


@_seeded()
def check_loss(
    build: Callable[[int, Sequence[int]], Loss], embed_features: int = 16, class_counts: Sequence[int] = (40, 5, 20)
) -> None:
    """Check that a loss is a finite, differentiable scalar of class indices and of soft labels.

    A loss that makes no sense of soft labels raises FerlError for them.

    Args:
        build: makes the loss from the width of the embedding and the training images of each class, as the slot
            ``losses`` does.
        embed_features: E of the embedding.
        class_counts: training images of each class, (K,).
    """
    b, t, k = 4, 2, len(class_counts)
    loss = _built(partial(build, embed_features, class_counts), Loss)
    name, weight = type(loss).__name__, getattr(loss, "weight", None)
    _require(isinstance(weight, int | float), f"{name}: weight must be a number; found {weight!r}")
    batch: Batch = {"image": torch.rand(b, t, 1, 16, 16), "index": torch.arange(b)}
    index, soft = torch.arange(b) % k, torch.rand(b, k).softmax(1)

    def output(scale: float) -> Output:
        leaves = [scale * torch.randn(b, k), torch.randn(b, embed_features), torch.rand(b, t, 1, 16, 16)]
        logits, embedding, restored = (x.requires_grad_() for x in leaves)
        return Output(logits, embedding, restored, torch.full((b, t), 1 / t))

    for what, label in (("class indices", index), ("soft labels", soft)):
        for scale in (1.0, 100.0):  # unsure, and so sure that probabilities round to 0 and 1
            case, fields = f"for {what} and logits around {scale:g}", output(scale)
            try:
                value = loss.train()(fields, {**batch, "label": label})
            except FerlError as error:
                _require(label is soft, f"{name}: may refuse soft labels, but refuses {what}: {error}")
                break
            except Exception as error:
                raise AssertionError(f"{name}: fails {case}: {type(error).__name__}: {error}") from error
            _require(value.ndim == 0, f"{name}: must return a scalar; found shape {_shape(value)} {case}")
            _require(bool(value.isfinite()), f"{name}: is {value.item()} {case}")
            _require(value.requires_grad, f"{name}: is not differentiable, no gradient can reach the output")
            value.backward()
            grads = [x.grad for x in fields[:3] if x is not None and x.grad is not None]
            _require(len(grads) > 0, f"{name}: no gradient reaches logits, embedding or restored {case}")
            _require(all(bool(grad.isfinite().all()) for grad in grads), f"{name}: the gradient is not finite {case}")
    _check_module(partial(build, embed_features, class_counts), output(1.0), {**batch, "label": index})


def check_preprocess(
    build: Callable[[], Preprocess],
    channels: Sequence[int] = (1, 2, 3, 5),
    sizes: Sequence[tuple[int, int]] = ((48, 40), (64, 64)),
) -> None:
    """Check that a preprocessing part makes uint8 images, the same of the same image, and can be told by its options.

    Args:
        build: makes the part, as an entry of ``preprocess`` does.
        channels: C of the images; parts before may have appended channels to grey or RGB.
        sizes: heights and widths of the images; pass your own for a part for one fixed size.
    """
    part = build()
    name = type(part).__name__
    _require(isinstance(part, Preprocess), f"{name} is no subclass of ferlightning.contracts.Preprocess")
    kept = copy.deepcopy(vars(part))
    for option in inspect.signature(type(part)).parameters.values():
        several = option.kind in (option.VAR_POSITIONAL, option.VAR_KEYWORD)
        message = f"{name}: must keep the option {option.name} in an attribute of that name, by which copies are told"
        _require(several or option.name in kept, message)
    try:
        json.dumps(kept)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"{name}: its attributes must be plain values, but: {error}") from error

    rng = np.random.default_rng(0)
    for c in channels:
        for height, width in sizes:
            large = rng.integers(0, 256, (height + 2, width + 2, c), np.uint8)
            crop = large[1:-1, 1:-1]
            crop.flags.writeable = False  # as images of a store are
            image = crop.copy()
            result = _preprocessed(part, image)
            _require(bool((image == crop).all()), f"{name}: writes into the image it is given")
            flat = _preprocessed(part, np.full_like(image, 77)).shape
            alike = f"{name}: images of one shape must keep one shape; {image.shape} became {result.shape} and {flat}"
            _require(flat == result.shape, alike)
            for how, found in {
                "a second run": _preprocessed(part, image),
                "a second part with the same options": _preprocessed(build(), image),
                "a crop of a larger image, not to be written to,": _preprocessed(part, crop),
            }.items():
                same = found.shape == result.shape and bool((found == result).all())
                _require(same, f"{name}: {how} gives another result on {image.shape}")
    _require(vars(part) == kept, f"{name}: changes its attributes when called, from {kept} to {vars(part)}")


def check_corruption(
    build: Callable[[int], GradedCorruption],
    channels: Sequence[int] = (1, 3),
    sizes: Sequence[tuple[int, int]] = ((48, 48), (64, 56)),
) -> None:
    """Check that a corruption is the same of the same image, keeps its shape, and spoils drawn faces by degrees.

    Args:
        build: makes the corruption from its severity, as the slot ``corrupt`` does.
        channels: C of the images.
        sizes: heights and widths of the images.
    """
    clean, *graded = (build(severity) for severity in range(6))
    name = type(clean).__name__
    _require(isinstance(clean, GradedCorruption), f"{name} is no subclass of ferlightning.contracts.GradedCorruption")
    _require(len(clean.strengths) == 5, f"{name}: must have 5 strengths; found {len(clean.strengths)}")
    for severity in (-1, 6):
        try:
            build(severity)
        except FerlError:
            continue
        raise AssertionError(f"{name}: must refuse severity {severity} by a FerlError")

    from ferlightning.data.sources.synthetic.datamodule import draw_faces  # late: parts are checked without data

    faces = draw_faces(["happiness", "anger"], items_per_class=3, subjects=3, size=64).images
    for c in channels:
        for height, width in sizes:
            images = [np.stack([face[:height, :width] // (1 + n) for n in range(c)], axis=2) for face in faces]
            for image in images:
                image.flags.writeable = False  # as images of a store are
            _require(bool((clean(images[0]) == images[0]).all()), f"{name}: severity 0 must leave the image as it is")
            errors = [0.0]
            for severity, part in enumerate(graded, 1):
                case = f"{images[0].shape} at severity {severity}"
                spoiled = [_preprocessed(part, image) for image in images]
                kept = spoiled[0].shape == images[0].shape
                _require(kept, f"{name}: must keep the shape of {case}; found {spoiled[0].shape}")
                again = [_preprocessed(build(severity), image) for image in reversed(images)][::-1]
                same = all(bool((one == other).all()) for one, other in zip(spoiled, again, strict=True))
                _require(same, f"{name}: a second part in another order gives another result on {case}")
                difference = np.stack(spoiled) - np.stack(images).astype(np.float64)
                errors.append(float((difference**2).mean()))
            rises = all(low < high for low, high in pairwise(errors))
            _require(rises, f"{name}: a higher severity must spoil more; the squared errors are {np.round(errors, 1)}")


@_seeded()
def check_augmentation(build: Callable[[], Augmentation], channels: Sequence[int] = (1, 3)) -> None:
    """Check that an augmentation returns a sound batch, repeats by torch's seed, and reads no padding.

    Also that what it draws at random differs between the items of a batch, and is the same for all frames of a clip.

    Args:
        build: makes the augmentation, as an entry of ``augment`` does.
        channels: C of the images.
    """
    part = build()
    name = type(part).__name__
    _require(isinstance(part, Augmentation), f"{name} is no subclass of ferlightning.contracts.Augmentation")
    b, t, k = 16, 4, 5
    index, soft = torch.arange(b) % k, torch.rand(b, k).softmax(1)
    mask = torch.arange(t) < (torch.arange(b) % t + 1)[:, None]
    for c in channels:
        clips, other = torch.rand(2, b, t, c, 24, 20)
        padding = ~mask[:, :, None, None, None]
        padded, garbage = clips.masked_fill(padding, 0), torch.where(padding, other, clips)
        alike = clips[:1, :1].expand(b, t, -1, -1, -1)
        drawn = []
        for seed in range(8):
            for label in (index, soft):
                one, same = (_augmented(part, {"image": clips[:, :1], "label": label}, k, seed) for _ in range(2))
                for key in ("image", "label"):
                    _require_close(one[key], same[key], f"{name}: equal seeds of torch must give equal batches", 0)
            blank, dirty = (
                _augmented(part, {"image": x, "label": index, "mask": mask}, k, seed) for x in (padded, garbage)
            )
            real = blank["mask"]
            read = f"{name}: what padding holds changes the real frames"
            _require_close(blank["image"][real], dirty["image"][real], read, 1e-5)
            image = _augmented(part, {"image": alike, "label": index}, k, seed)["image"]
            held = f"{name}: equal frames of a clip must stay equal: draw once for all of them"
            _require_close(image, image[:, :1].expand_as(image), held, 1e-5)
            drawn.append(image)
        varies = any(not torch.equal(image, drawn[0]) for image in drawn)
        each = any(not torch.equal(image, image[:1].expand_as(image)) for image in drawn)
        _require(each or not varies, f"{name}: draws once for a batch; it must draw anew for every item")


# --- promises of stages ----------------------------------------------------------------------------------------------


def _check_tokens(stage: Stage, tokens: Tokens, out: Tokens) -> None:
    name, (b, length, _) = type(stage).__name__, tokens.x.shape
    _require(isinstance(out, Tokens), f"{name}: must return Tokens; found {type(out).__name__}")
    kept = f"{name}: {length} tokens must stay {length} or be pooled to 1; {_shape(tokens.x)} became {_shape(out.x)}"
    _require(out.x.ndim == 3 and len(out.x) == b and out.x.shape[1] in (1, length), kept)
    _require_width(stage, "out_features", out.x.shape[2], "the tokens have")
    if out.x.shape[1] == 1:
        _require(out.grid == (1, 1, 1), f"{name}: pooled tokens must have the grid (1, 1, 1); found {out.grid}")
        _require(out.mask is None, f"{name}: pooled tokens are all real, so their mask must be None")
        _require(stage.attention is not None, f"{name}: pools, so it must leave its weights (B, L) in `attention`")
    else:
        _require(out.grid == tokens.grid, f"{name}: keeps its tokens but turns their grid {tokens.grid} to {out.grid}")
        same = out.mask is None if tokens.mask is None else out.mask is not None and out.mask.equal(tokens.mask)
        _require(same, f"{name}: keeps its tokens but does not pass on their mask")
    weights = stage.attention
    if weights is None:
        return
    _require(weights.shape == (b, length), f"{name}: attention must be (B, L) = {(b, length)}; is {_shape(weights)}")
    if tokens.mask is not None:
        padding = float(weights[~tokens.mask].abs().max())
        _require(padding == 0, f"{name}: attention on padding must be 0; found {padding:.3g}: does it heed the mask?")
    _require_close(weights.sum(1), torch.ones(b), f"{name}: attention over real tokens must sum to 1", 1e-5)


def _check_padding(part: Stage | Head, padded: Tokens, lengths: Sequence[int]) -> None:
    """A clip alone gives what it gives padded in a batch; what padding holds is never read, not even in training."""
    assert padded.mask is not None
    name, (_, h, w) = type(part).__name__, padded.grid

    def results_of(tokens: Tokens) -> list[Tensor]:
        result = part.eval()(tokens)
        return [result.x] if isinstance(result, Tokens) else list(result)

    with torch.no_grad():
        together = results_of(padded)
        for i, length in enumerate(lengths):
            alone = results_of(Tokens(padded.x[i : i + 1, :length], None, (length // (h * w), h, w)))
            for one, other in zip(together, alone, strict=True):
                changed = f"{name}: padding changes a result; {length} tokens alone and in a batch"
                _require_close(one[i : i + 1, : other.shape[1]], other, changed)

        results = []
        for garbage in (GARBAGE, -3.0):
            tokens = padded._replace(x=padded.x.masked_fill(~padded.mask.unsqueeze(2), garbage))
            twin = copy.deepcopy(part).train()
            torch.manual_seed(0)  # equal dropout
            results.append([*_run(twin, tokens), *twin.buffers()])
    for one, other in zip(*results, strict=True):
        _require_close(one, other, f"{name}: what padding holds changes results or buffers in train mode")


# --- promises of fitted parts ----------------------------------------------------------------------------------------


def _check_seen(part: Fitted, x: Tensor) -> None:
    """Width of the result, and that the input is left for the classifier in train mode only."""
    name, leaf = type(part).__name__, x.clone().requires_grad_()
    for training in (True, False):
        part.seen = None
        result = _run(part.train(training), leaf)[0]
        _require(result.ndim == 2 and len(result) == len(x), f"{name}: {_shape(x)} became {_shape(result)}")
        _require_width(part, "out_features", result.shape[1], "the result has")
        seen: Tensor | None = part.seen
        if training:
            left = seen is not None and seen.equal(x) and not seen.requires_grad
            _require(left, f"{name}: must leave its input, detached, in `seen` in train mode; is forward overridden?")
        else:
            _require(seen is None, f"{name}: must not leave its input in `seen` in eval mode")
    part.train()


def _buffers(part: nn.Module) -> dict[str, Tensor]:
    return {key: x.clone() for key, x in part.named_buffers()}


def _require_same(found: dict[str, Tensor], expected: dict[str, Tensor], message: str) -> None:
    _require(found.keys() == expected.keys() and all(x.equal(expected[key]) for key, x in found.items()), message)


# --- promises of every part ------------------------------------------------------------------------------------------


def _check_module(build: Callable[[], nn.Module], *inputs: Any) -> None:
    """Gradients, finite and repeatable results, and copies that behave as the original."""
    part = build().train()
    name = type(part).__name__
    outputs = _run(part, *inputs)
    learned = {key: parameter for key, parameter in part.named_parameters() if parameter.requires_grad}
    # An output may hang on no parameter: the embedding of a linear head is its input.
    learning = [x for x in outputs if x.requires_grad]
    if learned and learning:
        torch.autograd.backward(learning, [torch.randn_like(x) for x in learning])
    for key, parameter in learned.items():
        _require(parameter.grad is not None, f"{name}: no gradient reaches the parameter {key}")
        _require(bool(torch.as_tensor(parameter.grad).isfinite().all()), f"{name}: the gradient of {key} is not finite")

    part.eval()
    with torch.no_grad():
        expected = _run(part, *inputs)
        again = _run(part, *inputs)
        # A second part differs at random, so that a state missing from the dictionary shows.
        restored = build().eval()
        file = io.BytesIO()
        torch.save(part.state_dict(), file)
        file.seek(0)
        restored.load_state_dict(torch.load(file, weights_only=True))
        copies = {"state_dict": restored}
        try:
            copies |= {"deepcopy": copy.deepcopy(part), "pickle": pickle.loads(pickle.dumps(part))}
        except Exception as error:
            raise AssertionError(f"{name}: cannot be copied: {type(error).__name__}: {error}") from error
        results = {f"a copy by {how}": _run(twin, *inputs) for how, twin in copies.items()}
        for how, found in {"a second run": again, **results}.items():
            for one, other in zip(found, expected, strict=True):
                _require_close(one, other, f"{name}: {how} in eval mode gives another result", 0)


def _check_each_alone(part: nn.Module, images: Tensor) -> None:
    name = type(part).__name__
    with torch.no_grad():
        together, alone = _run(part.eval(), images)[0], _run(part, images[:1])[0]
    # Other batch sizes take other kernels, with other rounding.
    _require_close(
        together[:1], alone, f"{name}: in eval mode an image's result depends on the others' in its batch", 1e-4
    )


def _built(build: Callable[[], P], base: type[P]) -> P:
    part = build()
    _require(isinstance(part, base), f"{type(part).__name__} is no subclass of ferlightning.contracts.{base.__name__}")
    return part


def _call(part: nn.Module, *inputs: Any) -> Any:
    try:
        return part(*inputs)
    except Exception as error:
        shapes = ", ".join(_shape(x) for x in inputs if isinstance(x, Tensor))
        what = f"{type(part).__name__}: fails in {_mode(part)} mode" + (f" on {shapes}" if shapes else "")
        raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error


def _run(part: nn.Module, *inputs: Any) -> list[Tensor]:
    """All tensors that a part returns, finite; of Tokens the real ones, as padding may hold anything."""
    result = _call(part, *inputs)
    if isinstance(result, Tokens):
        tensors = [result.x if result.mask is None else result.x[result.mask]]
    else:
        tensors = [result] if isinstance(result, Tensor) else list(result)
    finite = all(bool(x.isfinite().all()) for x in tensors)
    _require(finite, f"{type(part).__name__}: the result in {_mode(part)} mode is not finite")
    return tensors


def _preprocessed(part: Preprocess | GradedCorruption, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    name = type(part).__name__
    try:
        result = part(image)
    except Exception as error:
        raise AssertionError(f"{name}: fails on {image.shape}: {type(error).__name__}: {error}") from error
    kind = f"{result.dtype} {result.shape}" if isinstance(result, np.ndarray) else type(result).__name__
    kept = isinstance(result, np.ndarray) and result.dtype == np.uint8 and result.ndim == 3 and result.size > 0
    _require(kept, f"{name}: must make uint8 (H, W, C) of {image.shape}; found {kind}")
    _require(result.flags.c_contiguous, f"{name}: the result on {image.shape} must be contiguous in memory")
    return result


def _augmented(part: Augmentation, batch: Batch, k: int, seed: int) -> Batch:
    """The batch that a part makes of a copy of this one, found sound."""
    name, mask, label = type(part).__name__, batch.get("mask"), batch["label"]
    given = {"index": torch.arange(len(label))} | {key: x.clone() for key, x in batch.items()}
    torch.manual_seed(seed)
    try:
        made = part(given, k)
    except Exception as error:
        what = f"{name}: fails on images {_shape(batch['image'])} with labels {_shape(label)}"
        raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
    lost = ({"index"} | batch.keys()) - made.keys()
    _require(not lost, f"{name}: the batch has lost {', '.join(sorted(lost))}")
    image = made["image"]
    kept = f"{name}: images {_shape(batch['image'])} float32 became {_shape(image)} {image.dtype}"
    _require(image.shape == batch["image"].shape and image.dtype == torch.float32, kept)
    _require(bool(image.isfinite().all()), f"{name}: images are not finite")
    low, high = float(image.min()), float(image.max())
    span = f"{name}: images in [0, 1] must stay there; they span [{low:.3g}, {high:.3g}]"
    _require(low >= -1e-5 and high <= 1 + 1e-5, span)
    _require(torch.equal(made["index"], torch.arange(len(label))), f"{name}: changes the index of items")
    found = made["label"]
    if found.ndim == 1 and label.ndim == 1:
        sound = found.shape == label.shape and bool(((found >= 0) & (found < k)).all()) and found.dtype == torch.int64
    else:
        sound = found.shape == (len(label), k) and bool((found >= 0).all()) and found.is_floating_point()
        sound = sound and bool(((found.sum(1) - 1).abs() < 1e-4).all())
    _require(sound, f"{name}: labels must be class indices (B,) or class probabilities (B, K); they are {found}")
    if mask is None:
        _require("mask" not in made or bool(made["mask"].all()), f"{name}: masks frames of clips that are all real")
    else:
        sound = made["mask"].dtype == torch.bool and made["mask"].shape == mask.shape
        _require(
            sound and bool((made["mask"] | ~mask).all()), f"{name}: mask must be bool (B, T), real frames stay real"
        )
    return made


def _mode(part: nn.Module) -> str:
    return "train" if part.training else "eval"


def _require(kept: bool, message: str) -> None:
    if not kept:  # no assert statement, which python -O would take away
        raise AssertionError(message)


def _require_width(part: nn.Module, attribute: str, width: int, what: str) -> None:
    declared = getattr(part, attribute, None)
    _require(declared == width, f"{type(part).__name__}: {attribute} is {declared}, but {what} width {width}")


def _require_close(found: Tensor, expected: Tensor, message: str, tolerance: float = 1e-6) -> None:
    """Absolute for values up to 1, relative to the largest beyond."""
    _require(found.shape == expected.shape, f"{message}: shapes {_shape(found)} and {_shape(expected)}")
    gap = float((found - expected).abs().max()) / max(1.0, float(expected.abs().max()))
    _require(gap <= tolerance, f"{message}: they differ by {gap:.3g}, allowed is {tolerance:g}")


def _shape(x: Tensor) -> str:
    return str(tuple(x.shape))

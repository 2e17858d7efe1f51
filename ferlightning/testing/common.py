"""What the checks share: how a part is run, and the promises of every part that is a module."""

import copy
import io
import pickle
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.utils._pytree import tree_leaves, tree_map

from ferlightning.contracts.modules import Head, Stage, Tokens, not_exported

P = TypeVar("P", bound=nn.Module)
GARBAGE = 1e3
"""The value of padding in the checks: zeros would hide that a part reads it."""

CALLED = {
    "Restorer": ("", "images (N, C, H, W)"),
    "Backbone": ("in_channels", "images (N, C, H, W)"),
    "Recalibration": ("in_features", "features (N, D, H', W')"),
    "Stage": ("in_features", "tokens"),
    "Head": ("in_features, num_classes", "tokens"),
    "Projection": ("in_features, num_classes", "x (B, D)"),
    "Loss": ("embed_features, class_counts", "output, batch"),
}
"""By slot class: what a part is built with, and what its forward is called with."""


@contextmanager
def seeded() -> Iterator[None]:
    """Make a check the same in every run, and leave the caller's random state alone; used as a decorator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


# --- how a promise is required ---------------------------------------------------------------------------------------


def require(kept: bool, message: str) -> None:
    if not kept:  # not an assert statement, which python -O would remove
        raise AssertionError(message)


def require_width(part: nn.Module, attribute: str, width: int, what: str) -> None:
    declared = getattr(part, attribute, None)
    require(declared == width, f"{type(part).__name__}: {attribute} is {declared}, but {what} width {width}")


def require_close(found: Tensor, expected: Tensor, message: str, tolerance: float = 1e-6) -> None:
    """Require a small difference: absolute for values up to 1, relative to the largest beyond."""
    require(found.shape == expected.shape, f"{message}: shapes {shape(found)} and {shape(expected)}")
    gap = float((found - expected).abs().max()) / max(1.0, float(expected.abs().max()))
    require(gap <= tolerance, f"{message}: they differ by {gap:.3g}, allowed is {tolerance:g}")


def shape(x: Tensor) -> str:
    return str(tuple(x.shape))


# --- how a part is run -----------------------------------------------------------------------------------------------


def built(build: Callable[[], P], base: type[P]) -> P:
    try:
        part = build()
    except Exception as error:
        named = [x for x in (getattr(build, "func", build), *getattr(build, "args", ())) if callable(x)]
        name = getattr(named[-1], "__name__", "the part")  # a helper of the checks goes before it
        if not isinstance(error, TypeError):
            raise AssertionError(f"{name}: cannot be built: {type(error).__name__}: {error}") from error
        raise AssertionError(
            f"{name} is built as {name}({CALLED[base.__name__][0]}); other arguments need defaults. It said: {error}"
        ) from error
    require(isinstance(part, base), f"{type(part).__name__} is no subclass of ferlightning.contracts.{base.__name__}")
    return part


def call(part: nn.Module, *inputs: Any) -> Any:
    try:
        return part(*inputs)
    except Exception as error:
        shapes = ", ".join(shape(x) for x in inputs if isinstance(x, Tensor))
        what = f"{type(part).__name__}: fails in {_mode(part)} mode" + (f" on {shapes}" if shapes else "")
        kind = next((base.__name__ for base in type(part).__mro__ if base.__name__ in CALLED), None)
        if kind and isinstance(error, TypeError):
            what += f", where forward is called with ({CALLED[kind][1]})"
        raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error


def run(part: nn.Module, *inputs: Any) -> list[Tensor]:
    """Return all tensors of a part's result, which must be finite; of Tokens the real ones only."""
    before = tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, inputs)
    result, name = call(part, *inputs), type(part).__name__
    for one, other in zip(tree_leaves(before), tree_leaves(inputs), strict=True):
        kept = not isinstance(one, Tensor) or torch.equal(one, other)
        require(kept, f"{name}: writes into what it is given; work on a copy, and use no inplace=True there")
    if isinstance(result, Tokens):
        tensors = [result.x if result.mask is None else result.x[result.mask]]
    else:
        tensors = list(result) if isinstance(result, list | tuple) else [result]
    for x in tensors:
        require(isinstance(x, Tensor), f"{name}: the result in {_mode(part)} mode has {x!r:.40}, expected tensors")
    finite = all(bool(x.isfinite().all()) for x in tensors)
    require(finite, f"{name}: the result in {_mode(part)} mode is not finite")
    return tensors


def _mode(part: nn.Module) -> str:
    return "train" if part.training else "eval"


def padded_tokens(t: int, h: int, w: int, in_features: int, lengths: Sequence[int]) -> tuple[Tokens, Tokens]:
    """Make tokens of equally long clips, and the same with garbage after ``lengths`` tokens of each clip."""
    length = t * h * w
    x, mask = torch.randn(len(lengths), length, in_features), torch.arange(length) < torch.tensor(lengths)[:, None]
    padded = Tokens(x.masked_fill(~mask.unsqueeze(2), GARBAGE), mask, (t, h, w))
    return Tokens(x, None, (t, h, w)), padded


# --- promises of several kinds of parts ------------------------------------------------------------------------------


def check_module(build: Callable[[], nn.Module], *inputs: Any) -> None:
    """Check gradients, dtypes, finite and repeatable results, and copies that behave like the original."""
    part = build().train()
    name = type(part).__name__
    for key, x in part.state_dict().items():
        require(x.dtype != torch.float64, f"{name}: {key} is float64, which MPS does not have; keep it as float32")
    outputs = run(part, *inputs)
    learned = {key: parameter for key, parameter in part.named_parameters() if parameter.requires_grad}
    # An output may depend on no parameter: the embedding of a linear head is its input.
    learning = [x for x in outputs if x.requires_grad]
    if learned and learning:
        torch.autograd.backward(learning, [torch.randn_like(x) for x in learning])
    for key, parameter in learned.items():
        require(parameter.grad is not None, f"{name}: no gradient reaches the parameter {key}")
        require(bool(torch.as_tensor(parameter.grad).isfinite().all()), f"{name}: the gradient of {key} is not finite")

    part.eval()
    with torch.no_grad():
        expected = run(part, *inputs)
        for x in expected:
            require(
                x.dtype in (torch.float32, torch.bool, torch.int64), f"{name}: the result is {x.dtype}, not float32"
            )
        again = run(part, *inputs)
        # A new part starts with other random weights, which shows a state that is missing from the dictionary.
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
        results = {f"a copy by {how}": run(twin, *inputs) for how, twin in copies.items()}
        for how, found in {"a second run": again, **results}.items():
            for one, other in zip(found, expected, strict=True):
                require_close(one, other, f"{name}: {how} in eval mode gives another result", 0)


def check_export(build: Callable[[], nn.Module], *inputs: Any) -> None:
    """Check that torch.export takes a part in eval mode, with any batch, and makes something of the same result.

    A part that declares ``not_exported`` is let off.
    """
    part = build().eval()
    name = type(part).__name__
    if not_exported(part):
        return
    batches = tree_map(lambda x: {0: Dim.DYNAMIC} if isinstance(x, Tensor) else None, inputs)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a stage leaves its attention in an attribute, which the network takes away
        try:
            exported = torch.export.export(part, inputs, dynamic_shapes=batches, strict=False).module()
        except Exception as error:
            raise AssertionError(
                f"{name}: cannot be exported: in eval mode there must be no branch on values, no shape that depends on "
                "them and no len() of a tensor, which fixes the batch. If it must be so, say why in a class attribute "
                f"not_exported. {type(error).__name__}: {error}"
            ) from error
        for one, other in zip(run(exported, *inputs), run(part, *inputs), strict=True):
            require_close(one, other, f"{name}: the exported part gives another result", 1e-5)


def check_autocast(build: Callable[[], nn.Module], *inputs: Any) -> None:
    """Check that a part trains in mixed precision: it runs, and gradients are finite."""
    part = build().train()
    with torch.autocast("cpu", torch.bfloat16):
        outputs = [x.float() for x in run(part, *inputs)]
    if learning := [x for x in outputs if x.requires_grad]:
        torch.autograd.backward(learning, [torch.randn_like(x) for x in learning])
    for key, parameter in part.named_parameters():
        finite = parameter.grad is None or bool(parameter.grad.isfinite().all())
        require(finite, f"{type(part).__name__}: under autocast the gradient of {key} is not finite")


def check_each_alone(part: nn.Module, images: Tensor) -> None:
    """Check that an image gives the same result alone and in a batch."""
    name = type(part).__name__
    with torch.no_grad():
        together, alone = run(part.eval(), images)[0], run(part, images[:1])[0]
    # Other batch sizes use other kernels, which round differently.
    require_close(
        together[:1], alone, f"{name}: in eval mode an image's result depends on the others in its batch", 1e-4
    )


def check_padding(part: Stage | Head, padded: Tokens, lengths: Sequence[int]) -> None:
    """Check that a clip gives the same result alone and padded in a batch, and that training never reads padding."""
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
                require_close(one[i : i + 1, : other.shape[1]], other, changed)

        results = []
        for garbage in (GARBAGE, -3.0):
            tokens = padded._replace(x=padded.x.masked_fill(~padded.mask.unsqueeze(2), garbage))
            twin = copy.deepcopy(part).train()
            torch.manual_seed(0)  # equal dropout
            results.append([*run(twin, tokens), *twin.buffers()])
    for one, other in zip(*results, strict=True):
        require_close(one, other, f"{name}: what padding holds changes results or buffers in train mode")

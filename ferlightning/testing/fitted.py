"""The contract check of parts that are fitted, not learned."""

import copy
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from ferlightning.contracts.modules import Fitted
from ferlightning.testing.common import built, check_module, require, require_close, require_width, run, seeded, shape


@seeded()
def check_fitted(build: Callable[[int, int], Fitted], in_features: int = 16) -> None:
    """Check that a fitted part is useful before any fit, and that a fit solves from the statistics since the reset.

    Also check that the result is in buffers and the statistics are not, that batches may be of any size, of half
    precision and with soft labels, and that a fit without data or with a single item does no harm.

    Args:
        build: makes the part from the width of its features and the number of classes, like the option ``projection``
            of ``ProjectionHead``.
        in_features: D of the features.
    """
    for k in (2, 5):
        label = torch.arange(30 * k) % k
        x, other = (torch.randn(len(label), in_features) + 2 * torch.randn(k, in_features)[label] for _ in range(2))
        part = built(partial(build, in_features, k), Fitted)  # type: ignore[type-abstract]
        name = type(part).__name__
        require(not list(part.parameters()), f"{name}: what is fitted must be a buffer, not a parameter")
        _check_seen(part, x)
        check_module(partial(build, in_features, k), x)

        first = _buffers(part)
        part.fit()
        _require_same(_buffers(part), first, f"{name}: a fit without data must leave the result as it is")
        alone = copy.deepcopy(part)
        alone.update(x[:1], label[:1])
        alone.fit()
        run(alone, x)

        for start, stop in ((0, 1), (1, 40), (40, None)):
            part.update(x[start:stop], label[start:stop])
        _require_same(_buffers(part), first, f"{name}: update must not change buffers, where statistics would be lost")
        with torch.inference_mode():  # as a validation may run
            part.fit()
        fitted = _buffers(part)
        require(any(not fitted[key].equal(first[key]) for key in first), f"{name}: a fit changes no buffer")
        leaf = x.clone().requires_grad_()
        try:
            part(leaf).square().sum().backward()
        except RuntimeError as error:
            raise AssertionError(f"{name}: no gradient after a fit, which must write in place: {error}") from error
        require(leaf.grad is not None and bool((leaf.grad != 0).any()), f"{name}: no gradient reaches the features")

        def refitted(before: dict[str, Tensor], features: Tensor, labels: Tensor) -> Fitted:
            """Fit a new part, which starts from the result ``before``, to one batch."""
            new = build(in_features, k)  # noqa: B023, called within the loop
            new.load_state_dict(before)
            new.update(features, labels)
            new.fit()
            return new.eval()

        found = run(part.eval(), x)[0]
        soft = 0.6 * torch.eye(k)[label] + 0.4 / k
        for what, twin in {
            "one batch instead of several gives another result": refitted(first, x, label),
            "soft labels must count as their most probable class": refitted(first, x, soft),
            "a second fit on equal statistics must keep the result": refitted(fitted, x, label),
        }.items():
            require_close(run(twin, x)[0], found, f"{name}: {what}", 1e-3)
        half = run(refitted(first, x.bfloat16(), label), x)[0]
        require_close(half, found, f"{name}: features of half precision give quite another result", 0.1)

        part.reset()
        _require_same(_buffers(part), fitted, f"{name}: a reset must keep the result")
        part.update(other, label)
        part.fit()
        anew = run(refitted(fitted, other, label), x)[0]
        require_close(run(part, x)[0], anew, f"{name}: after a reset only what came since must count", 1e-3)


def _check_seen(part: Fitted, x: Tensor) -> None:
    """Check the width of the result, and that the input is left for the classifier in train mode only."""
    name, leaf = type(part).__name__, x.clone().requires_grad_()
    for training in (True, False):
        part.seen = None
        result = run(part.train(training), leaf)[0]
        require(result.ndim == 2 and result.shape[0] == x.shape[0], f"{name}: {shape(x)} became {shape(result)}")
        require_width(part, "out_features", result.shape[1], "the result has")
        seen: Tensor | None = part.seen
        if training:
            left = seen is not None and seen.equal(x) and not seen.requires_grad
            require(left, f"{name}: must leave its input, detached, in `seen` in train mode; is forward overridden?")
        else:
            require(seen is None, f"{name}: must not leave its input in `seen` in eval mode")
    part.train()


def _buffers(part: nn.Module) -> dict[str, Tensor]:
    return {key: x.clone() for key, x in part.named_buffers()}


def _require_same(found: dict[str, Tensor], expected: dict[str, Tensor], message: str) -> None:
    require(found.keys() == expected.keys() and all(x.equal(expected[key]) for key, x in found.items()), message)

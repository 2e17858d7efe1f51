"""The contract check of losses."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from ferlightning.contracts.modules import Batch, Loss, Output
from ferlightning.errors import FerlError
from ferlightning.testing.common import built, check_module, require, seeded, shape


@seeded()
def check_loss(
    build: Callable[[int, Sequence[int]], Loss], embed_features: int = 16, class_counts: Sequence[int] = (40, 5, 20)
) -> None:
    """Check that a loss is a finite, differentiable scalar of class indices and of soft labels.

    A loss that cannot use soft labels must raise FerlError for them.

    Args:
        build: makes the loss from the width of the embedding and the training images of each class, like the slot
            ``losses``.
        embed_features: E of the embedding.
        class_counts: training images of each class, (K,).
    """
    t, k = 2, len(class_counts)
    loss = built(partial(build, embed_features, class_counts), Loss)
    name, weight = type(loss).__name__, getattr(loss, "weight", None)
    require(isinstance(weight, int | float), f"{name}: weight must be a number; found {weight!r}")

    def output(b: int, scale: float) -> Output:
        leaves = [scale * torch.randn(b, k), torch.randn(b, embed_features), torch.rand(b, t, 1, 16, 16)]
        logits, embedding, restored = (x.requires_grad_() for x in leaves)
        return Output(logits, embedding, restored, torch.full((b, t), 1 / t))

    for b in (4, 1):
        batch: Batch = {"image": torch.rand(b, t, 1, 16, 16), "index": torch.arange(b)}
        index, soft = torch.arange(b) % k, torch.rand(b, k).softmax(1)
        for what, label in (("class indices", index), ("soft labels", soft)):
            for scale in (1.0, 100.0):  # unsure, then so sure that probabilities round to 0 and 1
                case, fields = f"for {what} and logits around {scale:g} in a batch of {b}", output(b, scale)
                try:
                    value = loss.train()(fields, {**batch, "label": label})
                except FerlError as error:
                    require(label is soft, f"{name}: may refuse soft labels, but refuses {what}: {error}")
                    break
                except Exception as error:
                    called = "; forward is called with (output, batch)" if isinstance(error, TypeError) else ""
                    raise AssertionError(f"{name}: fails {case}{called}: {type(error).__name__}: {error}") from error
                found = shape(value) if isinstance(value, Tensor) else type(value).__name__
                require(found == "()", f"{name}: must return a scalar; found shape {found} {case}")
                require(bool(value.isfinite()), f"{name}: is {value.item()} {case}")
                require(value.requires_grad, f"{name}: is not differentiable, no gradient can reach the output")
                value.backward()
                grads = [x.grad for x in fields[:3] if x is not None and x.grad is not None]
                require(len(grads) > 0, f"{name}: no gradient reaches logits, embedding or restored {case}")
                require(
                    all(bool(grad.isfinite().all()) for grad in grads), f"{name}: the gradient is not finite {case}"
                )
    batch, label = {"image": torch.rand(4, t, 1, 16, 16), "index": torch.arange(4)}, torch.arange(4) % k
    check_module(partial(build, embed_features, class_counts), output(4, 1.0), {**batch, "label": label})

"""The contract check of heads."""

from collections.abc import Callable
from functools import partial

import torch

from ferlightning.contracts.modules import Head
from ferlightning.testing.common import (
    built,
    check_autocast,
    check_export,
    check_module,
    check_padding,
    padded_tokens,
    require,
    require_width,
    run,
    seeded,
    shape,
)


@seeded()
def check_head(build: Callable[[int, int], Head], in_features: int = 32) -> None:
    """Check that a head returns logits and an embedding of the declared widths, and that padding changes neither.

    Args:
        build: makes the head from the width of its tokens and the number of classes, like the slot ``head``.
        in_features: D of the tokens.
    """
    for k, grids in ((2, [(3, 2, 2)]), (7, [(6, 1, 1), (3, 2, 2), (1, 1, 1)])):
        head = built(partial(build, in_features, k), Head).eval()
        name = type(head).__name__
        for t, h, w in grids:
            lengths = [frames * h * w for frames in (t, 1, (t + 1) // 2)]
            whole, padded = padded_tokens(t, h, w, in_features, lengths)
            for tokens in (whole, padded):
                with torch.no_grad():
                    results = run(head, tokens)
                require(len(results) == 2, f"{name}: must return (logits, embedding); found {len(results)} tensors")
                logits, embedding = results
                found = f"{name}: logits of 3 items and {k} classes have shape {shape(logits)}"
                require(logits.shape == (3, k), found)
                found = f"{name}: embedding {shape(embedding)} is not (3, E)"
                require(embedding.ndim == 2 and embedding.shape[0] == 3, found)
                require_width(head, "embed_features", embedding.shape[1], "the embedding has")
                check_module(partial(build, in_features, k), tokens)
            check_padding(head, padded, lengths)
    check_export(partial(build, in_features, k), padded)
    check_autocast(partial(build, in_features, k), padded)

"""The contract check of sequence stages and attentions."""

from collections.abc import Callable
from functools import partial

import torch

from ferlightning.contracts.modules import Stage, Tokens
from ferlightning.testing.common import (
    built,
    call,
    check_autocast,
    check_export,
    check_module,
    check_padding,
    padded_tokens,
    require,
    require_close,
    require_width,
    seeded,
    shape,
)


@seeded()
def check_stage(build: Callable[[int], Stage], in_features: int = 32) -> None:
    """Check a sequence stage or an attention: widths, weights, masks, and that padding never changes a result.

    Args:
        build: makes the stage from the width of its tokens, like the slots ``sequence`` and ``attention``.
        in_features: D of the tokens.
    """
    stage = built(partial(build, in_features), Stage).eval()
    for t, h, w in ((3, 2, 2), (5, 1, 1)):
        lengths = [frames * h * w for frames in (t, 1, 2)]
        whole, padded = padded_tokens(t, h, w, in_features, lengths)
        for tokens in (whole, padded):
            with torch.no_grad():
                _check_tokens(stage, tokens, call(stage, tokens))
            check_module(partial(build, in_features), tokens)
        check_padding(stage, padded, lengths)
    check_export(partial(build, in_features), whole)
    check_autocast(partial(build, in_features), padded)


def _check_tokens(stage: Stage, tokens: Tokens, out: Tokens) -> None:
    name, (b, length, _) = type(stage).__name__, tokens.x.shape
    require(isinstance(out, Tokens), f"{name}: must return Tokens; found {type(out).__name__}")
    kept = f"{name}: {length} tokens must stay {length} or be pooled to 1; {shape(tokens.x)} became {shape(out.x)}"
    require(out.x.ndim == 3 and out.x.shape[0] == b and out.x.shape[1] in (1, length), kept)
    require_width(stage, "out_features", out.x.shape[2], "the tokens have")
    if out.x.shape[1] == 1:
        require(out.grid == (1, 1, 1), f"{name}: pooled tokens must have the grid (1, 1, 1); found {out.grid}")
        require(out.mask is None, f"{name}: pooled tokens are all real, so their mask must be None")
        require(stage.attention is not None, f"{name}: pools, so it must leave its weights (B, L) in `attention`")
    else:
        require(out.grid == tokens.grid, f"{name}: keeps its tokens but turns their grid {tokens.grid} into {out.grid}")
        same = out.mask is None if tokens.mask is None else out.mask is not None and out.mask.equal(tokens.mask)
        require(same, f"{name}: keeps its tokens but does not pass on their mask")
    weights = stage.attention
    if weights is None:
        return
    require(weights.shape == (b, length), f"{name}: attention must be (B, L) = {(b, length)}; is {shape(weights)}")
    if tokens.mask is not None:
        padding = float(weights[~tokens.mask].abs().max())
        require(padding == 0, f"{name}: attention on padding must be 0; found {padding:.3g}: does it ignore the mask?")
    require_close(weights.sum(1), torch.ones(b), f"{name}: attention over real tokens must sum to 1", 1e-5)

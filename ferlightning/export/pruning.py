"""Structured pruning: whole channels of a trained backbone go, until a share of its multiply-adds is gone."""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from ferlightning.checkpoint import ENDS, HEADER
from ferlightning.errors import FerlError
from ferlightning.evaluation.provenance import multiply_adds
from ferlightning.export.deployed import Member, member_of
from ferlightning.export.traced import NO_NUMBERS, quiet
from ferlightning.parts.backbones.pruned import Pruned, channels

ROUND_TO = 8
"""Widths are multiples of it, as processors compute eight or more channels at once."""


def prune(stored: dict[str, Any], path: str, share: float, trust: bool = False) -> tuple[dict[str, Any], str]:
    """Take channels out of a backbone: those of the smallest weights, compared over all its layers.

    Channels that are added or joined go together, Fang et al. 2023 (DepGraph), https://arxiv.org/abs/2301.12900.

    Args:
        stored: what ``read_members`` has read of one network.
        path: what to call it in errors.
        share: of the multiply-adds to take away, in (0, 1).
        trust: build parts of any package.

    Returns:
        The same of the smaller network, whose backbone is ``Pruned``, and a line that says what went.

    Raises:
        FerlError: torch-pruning is missing, or cannot follow the channels through the network.
    """
    try:
        from torch_pruning import importance, pruner
    except ModuleNotFoundError as error:
        raise FerlError("prune needs torch-pruning: pip install 'ferlightning[export]'") from error
    from timm.layers.cbam import SpatialAttn  # late: importing timm takes seconds

    if not 0 < share < 1:
        raise FerlError(f"prune is {share:g}, expected the share of multiply-adds to take away, between 0 and 1")
    header, whole = stored[HEADER], member_of(stored, path, trust)
    shape = header.get("input", {})
    image = torch.rand(1, 1, shape.get("channels", 1), *shape.get("size", (48, 48)))
    before = multiply_adds(whole, image)
    with torch.no_grad():
        if not all(x.isfinite().all() for x in whole(image)):
            raise FerlError(NO_NUMBERS)

    def cut(percent: int) -> tuple[Member, int]:
        """A copy without so many of the channels, and its multiply-adds."""
        member = deepcopy(whole).requires_grad_(True)
        inside = {*member.network.backbone.modules()}
        spatial = [(x, name, y) for x in inside for name, y in x.named_children() if isinstance(y, SpatialAttn)]
        for module, name, _ in spatial:  # one map for all channels: the graph would take it for one of them
            setattr(module, name, nn.Identity())
        pruner.BasePruner(
            member, image, importance.GroupMagnitudeImportance(), global_pruning=True,
            pruning_ratio=percent / 100, max_pruning_ratio=0.9, round_to=ROUND_TO,
            ignored_layers=[x for x in member.modules() if x not in inside and not any(x.children())],
        ).step()  # fmt: skip
        for module, name, attention in spatial:
            setattr(module, name, attention)
        backbone = member.network.backbone
        backbone.out_features = backbone(image[0]).shape[1]
        return member, multiply_adds(member, image)

    most = (1 - share) * before
    try:
        with quiet():
            # In small steps: a layer that would lose all of its channels loses none.
            member, left = next(found for found in map(cut, range(1, 80)) if found[1] <= most)
    except StopIteration:
        raise FerlError(f"{path} cannot lose {share:.0%} of its multiply-adds by pruning its backbone") from None
    except Exception as error:  # of any kind, from deep within
        raise FerlError(
            f"{path} cannot be pruned: torch-pruning cannot follow its channels up to the head: {error}"
        ) from error
    smaller = _described(member, whole, header, image)
    refused = f"{path} cannot be pruned: its backbone has more that depends on widths than convolutions, linear layers "
    refused += "and batch norms, such as layer norms"
    try:
        rebuilt = member_of(smaller, path, trust)
        with torch.no_grad():
            same = [one.allclose(x, atol=1e-6) for one, x in zip(member(image), rebuilt(image), strict=True)]
    except Exception as error:  # of any kind, as above
        raise FerlError(refused) from error
    if not all(same):
        raise FerlError(refused)
    return smaller, f"{left / 1e6:.1f} M multiply-adds instead of {before / 1e6:.1f} M"


def _described(member: Member, whole: Member, header: dict[str, Any], image: Tensor) -> dict[str, Any]:
    """A pruned network as ``read_members`` gives it."""
    before = {name: channels(layer) for name, layer in whole.network.backbone.named_modules()}
    after = {name: channels(layer) for name, layer in member.network.backbone.named_modules()}
    options = {
        "backbone": header["network"]["backbone"],
        "widths": {name: sizes for name, sizes in after.items() if sizes != before[name]},
        "out_features": member.network.backbone.out_features,
    }
    backbone = {"class_path": f"{Pruned.__module__}.{Pruned.__qualname__}", "init_args": options}
    state = {
        f"network.{name.replace('backbone.', 'backbone.backbone.', 1)}": x
        for name, x in member.network.state_dict().items()
    }
    for name, head in member.views.items():
        state |= {f"{header['views'][name]['head']}.{end}": getattr(head, end).detach() for end in ENDS}
    return {HEADER: header | {"network": header["network"] | {"backbone": backbone}}, "state_dict": state}

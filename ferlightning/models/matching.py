"""How stored tensors match those of a model: the same architecture, or a starting point that fits in part."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from ferlightning.emotions import canonical
from ferlightning.errors import FerlError

PREFIXES = ("", "network.", "network.backbone.", "network.backbone.model.", "network.backbone.model.model.")
"""What may stand before the names of other code: those of a backbone alone, or of a network without its wrappers."""


def own_name(name: str) -> str:
    """The name of a parameter or module within the network; that of a loss is left as it is."""
    return name.removeprefix("network.")


def check_architecture(stored: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Refuse the tensors of another architecture.

    Raises:
        FerlError: a name or shape differs; the message names the first three.
    """
    wrong = [f"{own_name(name)} is not in the checkpoint" for name in own if name not in stored]
    wrong += [f"{own_name(name)} is only in the checkpoint" for name in stored if name not in own]
    wrong += [
        f"{own_name(name)} has shape {tuple(stored[name].shape)} in the checkpoint and {tuple(x.shape)} in the model"
        for name, x in own.items()
        if name in stored and stored[name].shape != x.shape
    ]
    if wrong:
        raise FerlError(
            "the checkpoint is of another architecture than the configured model: "
            + "; ".join(wrong[:3])
            + (f"; and {len(wrong) - 3} more" if len(wrong) > 3 else "")
            + ". Leave out the model options that you changed, or use model.init_from to start from what fits"
        )


def what_fits(stored: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the stored tensors that have a name and shape of the model's own, by the prefixes that fit the most.

    Up to two parts before the names of other code are left out, such as ``_orig_mod.`` or ``model.encoder.``. A feature
    extractor of timm has ``stages_0`` for ``stages.0``: dots and underscores are the same.
    """
    names = {_flat(name): name for name in own}
    parts = [name.split(".") for name in stored]
    before = dict.fromkeys(["", *(".".join([*name[:n], ""]) for n in (1, 2) for name in parts if len(name) > n)])
    found = [
        {now: x for name, x in inner.items() if (now := names.get(_flat(prefix) + name)) and own[now].shape == x.shape}
        for first in before
        if (inner := {_flat(name[len(first) :]): x for name, x in stored.items() if name.startswith(first)})
        for prefix in PREFIXES
    ]
    return max(found, key=len, default={})


def _flat(name: str) -> str:
    return name.replace(".", "_")


def by_class(
    stored: Mapping[str, Tensor], own: Mapping[str, Tensor], before: Sequence[str], now: Sequence[str]
) -> dict[str, Tensor]:
    """Return the stored tensors with the rows of the head, one for each class, in the order of the model's classes.

    Args:
        stored: tensors by name.
        own: those of the model; a class that is new keeps its rows.
        before: the classes of what is stored.
        now: the classes of the model.
    """
    row = {canonical(name): i for i, name in enumerate(before)}
    known = [(i, row[canonical(name)]) for i, name in enumerate(now) if canonical(name) in row]
    found = dict(stored)
    for name, rows in stored.items():
        x = own.get(name)
        if x is None or not name.startswith("network.head.") or rows.shape[:1] != (len(before),):
            continue
        if x.shape == (len(now), *rows.shape[1:]):
            found[name] = x.clone()
            for i, i_before in known:
                found[name][i] = rows[i_before]
    return found if known else {name: x for name, x in found.items() if not name.startswith("network.head.")}

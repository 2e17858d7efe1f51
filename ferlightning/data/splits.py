"""Splits into training, validation and test where the source has none, and folds."""

import numpy as np
from numpy.typing import NDArray

from ferlightning.data.store import SPLITS

Labels = NDArray[np.int64]
Names = NDArray[np.str_]


def draw_split(label: Labels, group: Names, by_group: bool, seed: int) -> NDArray[np.int8]:
    """Split 70 / 15 / 15 % of the groups, or of every class, with at least one item each if a class has three.

    Args:
        label: (N,) class index; an item below 0 stays in training.
        group: (N,) equal for items that must stay together: those of a subject, or copies of one image.
        by_group: deal groups, which are subjects; else items, and every copy goes where the first one went.
        seed: of the draw.

    Returns:
        (N,) index into ``SPLITS``.
    """
    split = np.zeros(len(label), np.int8)
    counts = np.bincount(label[label >= 0], minlength=1)
    label = np.where(counts[label] >= 3, label, -1)  # where a label is -1 it stays -1
    for name, share in (("test", 0.15), ("val", 0.15 / 0.85)):
        left = np.flatnonzero(split == SPLITS.index("train"))
        chosen = choose(label[left], group[left], by_group, share, seed + SPLITS.index(name))
        split[left[chosen]] = SPLITS.index(name)
    return split


def choose(label: Labels, group: Names, by_group: bool, fraction: float, seed: int) -> NDArray[np.bool_]:
    """Choose items to hold out: whole groups, or the same share of every class that has two. Shape: (n,).

    Args:
        label: (n,) class index; an item below 0 is not held out.
        group: (n,) equal for items that must stay together: those of a subject, or copies of one image.
        by_group: choose groups, which are subjects; else items, and their copies go with them.
        fraction: share to hold out, in (0, 1).
        seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    groups = rng.permutation(np.unique(group))
    if by_group and len(groups) > 1:
        n = min(max(1, round(fraction * len(groups))), len(groups) - 1)
        return np.isin(group, groups[:n])
    chosen = np.zeros(len(label), bool)
    for k in range(label.max(initial=-1) + 1):
        members = rng.permutation(np.flatnonzero(label == k))
        if len(members) > 1:
            chosen[members[: min(max(1, round(fraction * len(members))), len(members) - 1)]] = True
    _, first, of = np.unique(group, return_index=True, return_inverse=True)
    return chosen if by_group else chosen[first][of]


def subject_folds(subject: Names, folds: int) -> NDArray[np.int64]:
    """Deal the standard folds: subjects sorted by id, every ``folds``-th to one fold. Shape: (N,) fold number.

    These are the ten folds of Liu et al. 2014 (https://doi.org/10.1109/CVPR.2014.233) and of most work on CK+ since.
    """
    _, rank = np.unique(subject, return_inverse=True)
    return rank % folds


def stratified_subject_folds(label: Labels, subject: Names, folds: int, seed: int) -> NDArray[np.int64]:
    """Deal folds that keep subjects whole, and classes as balanced as that allows. Shape: (N,) fold number."""
    from sklearn.model_selection import StratifiedGroupKFold  # late: it takes a second to import

    fold = np.empty(len(label), np.int64)
    parts = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(label, label, subject)
    for number, (_, held_out) in enumerate(parts):
        fold[held_out] = number
    return fold


def image_folds(label: Labels, folds: int, seed: int) -> NDArray[np.int64]:
    """Deal folds by item, balanced by class, that ignore who is shown. Shape: (N,) fold number."""
    from sklearn.model_selection import StratifiedKFold

    fold = np.empty(len(label), np.int64)
    for number, (_, held_out) in enumerate(StratifiedKFold(folds, shuffle=True, random_state=seed).split(label, label)):
        fold[held_out] = number
    return fold

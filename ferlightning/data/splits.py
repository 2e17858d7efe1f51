"""How items are dealt to training, validation and test where the source does not say, and to folds."""

import numpy as np
from numpy.typing import NDArray

from ferlightning.data.store import SPLITS

Labels = NDArray[np.int64]
Names = NDArray[np.str_]


def draw_split(label: Labels, seed: int) -> NDArray[np.int8]:
    """70 / 15 / 15 % of every class, at least one item each where a class has three.

    Args:
        label: (N,) class index; what is below 0 stays in training.
        seed: of the draw.

    Returns:
        (N,) index into ``SPLITS``.
    """
    rng = np.random.default_rng(seed)
    split = np.zeros(len(label), np.int8)
    for k in range(label.max(initial=-1) + 1):
        members = rng.permutation(np.flatnonzero(label == k))
        n = max(1, round(0.15 * len(members))) if len(members) > 2 else 0
        split[members[:n]], split[members[n : 2 * n]] = SPLITS.index("test"), SPLITS.index("val")
    return split


def choose_validation(label: Labels, subject: Names, fraction: float, seed: int) -> NDArray[np.bool_]:
    """Which training items become validation: whole subjects if known, else the same share of every class.

    Args:
        label: (n,) class index of the training items.
        subject: (n,) who is shown, or empty strings.
        fraction: share that becomes validation, in (0, 1).
        seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    chosen = np.zeros(len(label), bool)
    subjects = rng.permutation(np.unique(subject))
    if (subject != "").all() and len(subjects) > 1:
        return np.isin(subject, subjects[: max(1, round(fraction * len(subjects)))])
    for k in np.unique(label):
        members = rng.permutation(np.flatnonzero(label == k))
        chosen[members[: max(1, round(fraction * len(members))) if len(members) > 1 else 0]] = True
    return chosen


def subject_folds(subject: Names, folds: int) -> NDArray[np.int64]:
    """The standard folds: subjects sorted by id, every ``folds``-th goes to one fold. Shape: (N,) fold number.

    So the ten folds of Liu et al. 2014 (https://doi.org/10.1109/CVPR.2014.233) and most work on CK+ after it.
    """
    _, rank = np.unique(subject, return_inverse=True)
    return rank % folds


def stratified_subject_folds(label: Labels, subject: Names, folds: int, seed: int) -> NDArray[np.int64]:
    """Folds that keep subjects whole and classes as balanced as that allows. Shape: (N,) fold number."""
    from sklearn.model_selection import StratifiedGroupKFold  # late: it takes a second to import

    fold = np.empty(len(label), np.int64)
    parts = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(label, label, subject)
    for number, (_, held_out) in enumerate(parts):
        fold[held_out] = number
    return fold


def image_folds(label: Labels, folds: int, seed: int) -> NDArray[np.int64]:
    """Folds by item, balanced by class, that take no notice of who is shown. Shape: (N,) fold number."""
    from sklearn.model_selection import StratifiedKFold

    fold = np.empty(len(label), np.int64)
    for number, (_, held_out) in enumerate(StratifiedKFold(folds, shuffle=True, random_state=seed).split(label, label)):
        fold[held_out] = number
    return fold

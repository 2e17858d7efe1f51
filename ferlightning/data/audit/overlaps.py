"""Which items of a split are copies of which, of the same split or another.

An item, which may be a clip, is a copy of another if it has a frame that is one.

Shapes: n items of a split, F frames of them, P pairs.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ferlightning.data.audit.copies import AUGMENTED, STRAIGHT, Ints, View, alike, contents, groups, looks
from ferlightning.data.datamodule import FaceData
from ferlightning.data.fingerprints import frames_of, telling_frames
from ferlightning.data.store import Store

Bools = NDArray[np.bool_]


class Part(NamedTuple):
    """A split."""

    name: str
    items: Ints
    """(n,) numbers in the store."""
    label: Ints
    """(n,) index into the class names."""
    owner: Ints
    """(F,) position in ``items`` of what a frame is of."""
    frame: Ints
    """(F,) position in the store's ``images``."""
    content: Ints
    """(F,) equal where pixels are, in all splits."""
    blank: Bools
    """(F,) of one grey value."""

    def compared(self) -> Bools:
        """(F,) frames that make a copy."""
        return telling_frames(self.owner, self.blank)


class Copies(NamedTuple):
    """Items of split ``b`` that are copies of items of split ``a``, which may be the same one; pairs of them."""

    a: Part
    b: Part
    first: Ints
    """(P,) index of a frame of ``a``."""
    second: Ints
    """(P,) index of a frame of ``b``."""
    similarity: NDArray[np.float32]
    """(P,) correlation, 1 for exact copies."""
    view: list[View]
    """(P,) how the second was looked at."""

    def items(self) -> Ints:
        """Positions of the copies in ``b.items``, each once; within a split, of both items of each pair."""
        second = self.b.owner[self.second]
        return np.unique(np.append(second, self.a.owner[self.first]) if self.a is self.b else second)

    def other_label(self) -> Bools:
        """(P,) whether the two have different labels."""
        differ: Bools = self.a.label[self.a.owner[self.first]] != self.b.label[self.b.owner[self.second]]
        return differ


def split_parts(data: FaceData) -> list[Part]:
    """The splits, without test where it is validation again."""
    store, items = data.raw, dict(data.items)
    if items["test"] is items["val"]:
        del items["test"]
    numbers = np.concatenate(list(items.values()))
    lengths = store.start[numbers + 1] - store.start[numbers]
    starts = np.cumsum([0, *lengths])
    frame = frames_of(store, numbers)
    content, blank = contents(store.images, frame)
    parts, n, f = [], 0, 0
    for name, own in items.items():
        stop = int(starts[n + len(own)])
        owner = np.repeat(np.arange(len(own)), lengths[n : n + len(own)])
        parts.append(Part(name, own, data.label[own], owner, frame[f:stop], content[f:stop], blank[f:stop]))
        n, f = n + len(own), stop
    return parts


def exact_groups(*parts: Part) -> Ints:
    """Group of every item of some splits, one split after the other; exact copies of one another are in one group."""
    starts = np.cumsum([0, *(len(part.items) for part in parts)])
    compared = [part.compared() for part in parts]
    owner = [part.owner[some] + start for part, some, start in zip(parts, compared, starts, strict=False)]
    content = [part.content[some] for part, some in zip(parts, compared, strict=True)]
    return groups(np.concatenate(owner), np.concatenate(content), int(starts[-1]))


def count_groups(*parts: Part) -> tuple[int, int]:
    """How many groups of exact copies have items in each of some splits, and how many of these more than one label."""
    group, label = exact_groups(*parts), np.concatenate([part.label for part in parts])
    count = int(group.max(initial=-1)) + 1
    shared = np.bincount(group, minlength=count) > 1
    for own in np.split(group, np.cumsum([len(part.items) for part in parts])[:-1]):
        shared &= np.bincount(own, minlength=count) > 0
    labels = np.bincount(np.unique(np.stack([group, label]), axis=1)[0], minlength=count)
    return int(shared.sum()), int((shared & (labels > 1)).sum())


def exact_copies(a: Part, b: Part) -> Copies:
    """Items of ``b`` with a frame of an item of ``a``, one pair each, with one of another label if there is.

    Within a split these are the items that repeat an earlier one.
    """
    seen: dict[int, dict[int, int]] = {}  # content to label to frame
    if a is not b:
        for i in np.flatnonzero(a.compared()).tolist():
            seen.setdefault(int(a.content[i]), {}).setdefault(int(a.label[a.owner[i]]), i)
    best: dict[int, tuple[int, int, bool]] = {}
    for j in np.flatnonzero(b.compared()).tolist():
        item, same = int(b.owner[j]), seen.setdefault(int(b.content[j]), {})
        label = int(b.label[item])
        for other, i in same.items():
            itself = a is b and a.owner[i] == item
            if not itself and (item not in best or (other != label and not best[item][2])):
                best[item] = i, j, other != label
        if a is b:
            same.setdefault(label, j)
    first, second, _ = np.array(list(best.values()), np.int64).reshape(-1, 3).T
    return Copies(a, b, first, second, np.ones(len(first), np.float32), [STRAIGHT] * len(first))


def alike_within(store: Store, part: Part) -> Copies:
    """Pairs of items of a split that are near copies and not exact ones.

    Frames of one sequence are near copies by nature, and are passed over.
    """
    frames = np.flatnonzero(~part.blank)
    pairs = alike(looks(store.images, part.frame[frames]), kin=_kin(store, part)[frames])
    group = exact_groups(part)[part.owner[frames]]
    different = group[pairs.first] != group[pairs.second]
    first, second, similarity = (array[different] for array in pairs)
    return _best(Copies(part, part, frames[first], frames[second], similarity, [STRAIGHT] * len(first)))


def alike_across(store: Store, a: Part, b: Part, known: Ints, augmented: bool) -> Copies:
    """Pairs of items of two splits that are near copies.

    Args:
        store: of the images.
        a: a split.
        b: another.
        known: positions in ``b.items`` of copies that are known already, and not to be looked at.
        augmented: compare those of ``b`` mirrored and turned, and not as they are.
    """
    frames_a = np.flatnonzero(~a.blank)
    frames_b = np.flatnonzero(~b.blank & ~np.isin(b.owner, known))
    plain = looks(store.images, a.frame[frames_a], STRAIGHT if augmented else None)
    ways = AUGMENTED if augmented else [None]
    found = [alike(plain, looks(store.images, b.frame[frames_b], way)) for way in ways]
    first, second, similarity = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    view = [way or STRAIGHT for way, pairs in zip(ways, found, strict=True) for _ in pairs.first]
    return _best(Copies(a, b, frames_a[first], frames_b[second], similarity, view))


def _kin(store: Store, part: Part) -> Ints:
    """(F,) equal for frames of one sequence, where it is known, or else of one item."""
    sequences, kin = np.unique(store.sequence[part.items], return_inverse=True)
    alone = len(sequences) + np.arange(len(part.items))
    return np.where(store.sequence[part.items] == "", alone, kin)[part.owner]


def _best(copies: Copies) -> Copies:
    """The most similar frames of each pair of items."""
    one, other = copies.a.owner[copies.first], copies.b.owner[copies.second]
    order = np.lexsort((-copies.similarity, other, one))
    pairs = np.stack([one, other])[:, order]
    kept = order[np.diff(pairs, prepend=-1).any(0)]
    view = [copies.view[i] for i in kept]
    return copies._replace(
        first=copies.first[kept], second=copies.second[kept], similarity=copies.similarity[kept], view=view
    )

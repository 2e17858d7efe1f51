"""Copies of items within a split and across splits.

An item, which may be a clip, is a copy of another if one of its frames is a copy of one of the other's.

Shapes: n items of a split, F frames of them, P pairs.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ferlightning.data.audit.copies import (
    AUGMENTED,
    STRAIGHT,
    Ints,
    View,
    copy_groups,
    descriptors_of,
    near_copies,
)
from ferlightning.data.datamodule import FaceData
from ferlightning.data.fingerprints import blank_frames, frames_of, telling_frames
from ferlightning.data.store import Store

Bools = NDArray[np.bool_]


class SplitFrames(NamedTuple):
    """The n items and F frames of a split."""

    name: str
    items: Ints
    """(n,) numbers of the items in the store."""
    label: Ints
    """(n,) index into the class names."""
    owner: Ints
    """(F,) position in ``items`` of the item that a frame belongs to."""
    frame: Ints
    """(F,) position in the store's ``images``."""
    content: Ints
    """(F,) numbers that are equal where the pixels are equal, over all splits."""
    blank: Bools
    """(F,) whether a frame has one grey value throughout."""

    def compared(self) -> Bools:
        """Tell which frames can make their item a copy, (F,)."""
        return telling_frames(self.owner, self.blank)


class Copies(NamedTuple):
    """P pairs of an item of split ``a`` and its copy in split ``b``, which may be the same split."""

    a: SplitFrames
    b: SplitFrames
    first: Ints
    """(P,) index of a frame of ``a``."""
    second: Ints
    """(P,) index of a frame of ``b``."""
    similarity: NDArray[np.float32]
    """(P,) correlation, 1 for exact copies."""
    view: list[View]
    """(P,) the view of the second image."""

    def items(self) -> Ints:
        """Return the positions in ``b.items`` of the copies, each once; within a split, of both items of each pair."""
        second = self.b.owner[self.second]
        return np.unique(np.append(second, self.a.owner[self.first]) if self.a is self.b else second)

    def other_label(self) -> Bools:
        """Tell which pairs have different labels, (P,)."""
        differ: Bools = self.a.label[self.a.owner[self.first]] != self.b.label[self.b.owner[self.second]]
        return differ


def split_frames(data: FaceData) -> list[SplitFrames]:
    """Return the splits of a data set, without test where it is validation again."""
    store, items = data.raw, dict(data.items)
    if items["test"] is items["val"]:
        del items["test"]
    numbers = np.concatenate(list(items.values()))
    lengths = store.start[numbers + 1] - store.start[numbers]
    starts = np.cumsum([0, *lengths])
    frame = frames_of(store, numbers)
    content: Ints = np.unique(store.hashes[frame], return_inverse=True)[1]
    blank = blank_frames(store, frame)
    parts, n, f = [], 0, 0
    for name, own in items.items():
        stop = int(starts[n + len(own)])
        owner = np.repeat(np.arange(len(own)), lengths[n : n + len(own)])
        parts.append(SplitFrames(name, own, data.label[own], owner, frame[f:stop], content[f:stop], blank[f:stop]))
        n, f = n + len(own), stop
    return parts


def exact_groups(*parts: SplitFrames) -> Ints:
    """Group the items of some splits, one split after the other, so that exact copies are in one group."""
    starts = np.cumsum([0, *(len(part.items) for part in parts)])
    compared = [part.compared() for part in parts]
    owner = [part.owner[some] + start for part, some, start in zip(parts, compared, starts, strict=False)]
    content = [part.content[some] for part, some in zip(parts, compared, strict=True)]
    return copy_groups(np.concatenate(owner), np.concatenate(content), int(starts[-1]))


def count_groups(*parts: SplitFrames) -> tuple[int, int]:
    """Count the groups of exact copies with items in each of some splits, and those of them with several labels."""
    group, label = exact_groups(*parts), np.concatenate([part.label for part in parts])
    count = int(group.max(initial=-1)) + 1
    shared = np.bincount(group, minlength=count) > 1
    for own in np.split(group, np.cumsum([len(part.items) for part in parts])[:-1]):
        shared &= np.bincount(own, minlength=count) > 0
    labels = np.bincount(np.unique(np.stack([group, label]), axis=1)[0], minlength=count)
    return int(shared.sum()), int((shared & (labels > 1)).sum())


def exact_copies(a: SplitFrames, b: SplitFrames) -> Copies:
    """Find the items of ``b`` that copy an item of ``a``, one pair each: with one of another label if there is one.

    Within a split, these are the items that repeat an earlier one.
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


def near_copies_within(store: Store, part: SplitFrames) -> Copies:
    """Find the pairs of items of a split that are near copies but not exact ones.

    Frames of one sequence are near copies by nature, and are skipped.
    """
    frames = np.flatnonzero(~part.blank)
    pairs = near_copies(descriptors_of(store.images, part.frame[frames]), kin=_kin(store, part)[frames])
    group = exact_groups(part)[part.owner[frames]]
    different = group[pairs.first] != group[pairs.second]
    first, second, similarity = (array[different] for array in pairs)
    return _best(Copies(part, part, frames[first], frames[second], similarity, [STRAIGHT] * len(first)))


def near_copies_across(store: Store, a: SplitFrames, b: SplitFrames, known: Ints, augmented: bool) -> Copies:
    """Find the pairs of items of two splits that are near copies.

    Args:
        store: of the images.
        a: a split.
        b: another.
        known: positions in ``b.items`` of copies that are known already, and skipped.
        augmented: compare the images of ``b`` mirrored and turned, instead of as they are.
    """
    frames_a = np.flatnonzero(~a.blank)
    frames_b = np.flatnonzero(~b.blank & ~np.isin(b.owner, known))
    plain = descriptors_of(store.images, a.frame[frames_a], STRAIGHT if augmented else None)
    ways = AUGMENTED if augmented else [None]
    found = [near_copies(plain, descriptors_of(store.images, b.frame[frames_b], way)) for way in ways]
    first, second, similarity = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    view = [way or STRAIGHT for way, pairs in zip(ways, found, strict=True) for _ in pairs.first]
    return _best(Copies(a, b, frames_a[first], frames_b[second], similarity, view))


def _kin(store: Store, part: SplitFrames) -> Ints:
    """Number the frames of a split, (F,), alike within one sequence, or within one item if its sequence is unknown."""
    sequences, kin = np.unique(store.sequence[part.items], return_inverse=True)
    alone = len(sequences) + np.arange(len(part.items))
    return np.where(store.sequence[part.items] == "", alone, kin)[part.owner]


def _best(copies: Copies) -> Copies:
    """Keep the most similar frames of each pair of items."""
    one, other = copies.a.owner[copies.first], copies.b.owner[copies.second]
    order = np.lexsort((-copies.similarity, other, one))
    pairs = np.stack([one, other])[:, order]
    kept = order[np.diff(pairs, prepend=-1).any(0)]
    view = [copies.view[i] for i in kept]
    return copies._replace(
        first=copies.first[kept], second=copies.second[kept], similarity=copies.similarity[kept], view=view
    )

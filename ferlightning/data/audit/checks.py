"""Checks for what makes results on a data set too good or misleading: copies, shared people, drift of classes."""

from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferlightning.data.audit.copies import AUGMENTED, CORRELATION, DISTANCE
from ferlightning.data.audit.overlaps import (
    Copies,
    SplitFrames,
    count_groups,
    exact_copies,
    exact_groups,
    near_copies_across,
    near_copies_within,
    split_frames,
)
from ferlightning.data.datamodule import FaceData
from ferlightning.data.store import Store

Found = dict[str, Any]
"""Values for JSON."""

OK, LEAK, NOTE = "ok", "LEAK", "note"
LISTED = 50  # names or pairs that a check lists; its counts are complete
DRIFT = 0.1  # Cramer's V of a small effect (Cohen 1988, Statistical Power Analysis, chapter 7)


def audit(data: FaceData) -> Found:
    """Run all checks on the images as they were read, before any preprocessing.

    Returns:
        ``data``, the number of ``items`` of each split, ``notes``, ``thresholds``, and ``checks``: title to ``verdict``
        (ok, LEAK or note), ``findings`` in words, and the figures and names behind it.
    """
    store, names, parts = data.raw, data.spelled_names, split_frames(data)
    inner = [exact_copies(part, part) for part in parts]
    inner_near = [near_copies_within(store, part) for part in parts]
    exact, near, augmented = [], [], []
    for a, b in combinations(parts, 2):
        exact.append(exact_copies(a, b))
        known = exact[-1].items()
        near.append(near_copies_across(store, a, b, known, augmented=False))
        known = np.append(known, near[-1].items())
        augmented.append(near_copies_across(store, a, b, known, augmented=True))
    checks = {
        "exact copies across splits": _across(store, names, exact, "have an exact copy in"),
        "near copies across splits": _across(store, names, near, "have a near copy in"),
        "augmented copies across splits": _across(store, names, augmented, "have a mirrored or turned copy in"),
        "subjects across splits": _shared("subjects", store.subject, parts),
        "sequences across splits": _shared("sequences", store.sequence, parts),
        "exact copies within splits": _exact_within(store, names, inner),
        "near copies within splits": _near_within(store, names, inner_near),
        "blank images": _blank(store, parts),
        "class balance": _balance(names, parts),
    }
    for a, b in combinations(parts, 2):
        checks["exact copies across splits"][f"{b.name} in {a.name}"] |= _groups(a, b)
    return {
        "data": type(data).__name__,
        "items": {part.name: len(part.items) for part in parts},
        "notes": data.notes("test"),
        "thresholds": {
            "hash_bits": DISTANCE,
            "correlation": CORRELATION,
            "degrees": sorted({view.degrees for view in AUGMENTED}),
        },
        "checks": checks,
    }


def _check(verdict: str, findings: list[str], figures: Found) -> Found:
    return {"verdict": verdict, "findings": findings, **figures}


def _of(count: int, part: SplitFrames) -> str:
    """Write a count as a share of the items of a split."""
    share = 100 * count / len(part.items)
    return f"{count:,} of {len(part.items):,} {part.name} items ({f'{share:.1f}' if share >= 0.05 else 'under 0.1'} %)"


def _across(store: Store, names: list[str], found: list[Copies], where: str) -> Found:
    findings, figures = [], {}
    for copies in found:
        a, b, items = copies.a, copies.b, copies.items()
        figures[f"{b.name} in {a.name}"] = {
            "items": len(items),
            "items_of_another_label": len(np.unique(b.owner[copies.second[copies.other_label()]])),
            "names": store.name[b.items[items[:LISTED]]].tolist(),
        }
        if len(items):
            differ = figures[f"{b.name} in {a.name}"]["items_of_another_label"]
            findings.append(
                f"{_of(len(items), b)} {where} {a.name}" + (f", {differ:,} with another label" * (differ > 0))
            )
    return _check(LEAK if findings else OK, findings, figures | {"pairs": _listed(store, names, found)})


def _groups(*parts: SplitFrames) -> Found:
    return dict(zip(("groups", "groups_of_different_labels"), count_groups(*parts), strict=True))


def _exact_within(store: Store, names: list[str], found: list[Copies]) -> Found:
    findings, figures = [], {}
    for copies in found:
        part, count = copies.a, len(copies.second)
        figures[part.name] = {"redundant": count, **_groups(part)}
        if count:
            differ = figures[part.name]["groups_of_different_labels"]
            findings.append(
                f"{_of(count, part)} repeat an earlier one; groups of copies that differ in label: {differ:,}"
            )
    return _check(NOTE if findings else OK, findings, figures | {"pairs": _listed(store, names, found)})


def _near_within(store: Store, names: list[str], found: list[Copies]) -> Found:
    findings, figures = [], {}
    for copies in found:
        part, pairs, items, differ = copies.a, len(copies.first), len(copies.items()), int(copies.other_label().sum())
        figures[part.name] = {"pairs": pairs, "items": items, "pairs_of_different_labels": differ}
        if pairs:
            findings.append(f"{_of(items, part)} are near copies; of {pairs:,} pairs, {differ:,} differ in label")
    return _check(NOTE if findings else OK, findings, figures | {"pairs": _listed(store, names, found)})


def _listed(store: Store, names: list[str], found: list[Copies]) -> list[Found]:
    """List the worst pairs: those of different labels first, then the most similar."""
    pairs = []
    for copies in found:
        for p in np.lexsort((-copies.similarity, ~copies.other_label()))[:LISTED]:
            ends = ((copies.a, copies.first[p]), (copies.b, copies.second[p]))
            pairs.append(
                {
                    "splits": [part.name for part, _ in ends],
                    "names": [str(store.name[part.items[part.owner[i]]]) for part, i in ends],
                    "labels": [names[part.label[part.owner[i]]] for part, i in ends],
                    "frames": [int(part.frame[i]) for part, i in ends],
                    "similarity": round(float(copies.similarity[p]), 4),
                    **copies.view[p]._asdict(),
                }
            )
    return sorted(pairs, key=lambda pair: (pair["labels"][0] == pair["labels"][1], -pair["similarity"]))[:LISTED]


def _shared(what: str, names: NDArray[np.str_], parts: list[SplitFrames]) -> Found:
    """Find the subjects or sequences, (N,) names that are empty where unknown, that are in two splits."""
    findings, figures = [], {}
    for a, b in combinations(parts, 2):
        shared = np.setdiff1d(np.intersect1d(names[a.items], names[b.items]), [""])
        items = int(np.isin(names[b.items], shared).sum())
        figures[f"{b.name} in {a.name}"] = {"shared": len(shared), "items": items, "names": shared[:LISTED].tolist()}
        if len(shared):
            findings.append(f"{_of(items, b)} are of {len(shared):,} {what} of {a.name}")
    verdict = LEAK if findings else OK
    unknown, total = sum(int((names[part.items] == "").sum()) for part in parts), sum(len(p.items) for p in parts)
    if unknown:
        findings.append(f"unknown of {'all' if unknown == total else f'{unknown:,} of {total:,}'} items")
        verdict = LEAK if verdict == LEAK else NOTE
    return _check(verdict, findings, figures | {"unknown": unknown})


def _blank(store: Store, parts: list[SplitFrames]) -> Found:
    findings, figures = [], {}
    group, first, copied = exact_groups(*parts), 0, 0
    for part in parts:
        items = np.unique(part.owner[part.blank])
        copied += int((np.bincount(group)[group[first + items]] > 1).sum())
        first += len(part.items)
        figures[part.name] = {"items": len(items), "names": store.name[part.items[items[:LISTED]]].tolist()}
        if len(items):
            findings.append(_of(len(items), part))
    if findings:
        findings.append(f"{copied:,} of these are exact copies")
    return _check(NOTE if findings else OK, findings, figures | {"exact_copies": copied})


def _balance(names: list[str], parts: list[SplitFrames]) -> Found:
    """Test whether the shares of the classes differ between splits: chi-square test and Cramer's V."""
    from scipy.stats import chi2_contingency

    counts = np.array([np.bincount(part.label, minlength=len(names)) for part in parts])
    figures: Found = {
        part.name: dict(zip(names, own.tolist(), strict=True)) for part, own in zip(parts, counts, strict=True)
    }
    table = counts[counts.any(1)][:, counts.any(0)]
    if min(table.shape) < 2:
        return _check(NOTE, ["there is only one split or class"], figures)
    test = chi2_contingency(table, correction=False)
    v = float(np.sqrt(test.statistic / table.sum() / (min(table.shape) - 1)))
    figures |= {"chi_square": float(test.statistic), "p": float(test.pvalue), "cramers_v": v}
    finding = f"Cramer's V {v:.3f}, chi-square {test.statistic:.1f}, p {test.pvalue:.2g}"
    drifts = v >= DRIFT
    return _check(
        NOTE if drifts else OK,
        [finding + (": the shares of the classes differ between splits" if drifts else "")],
        figures,
    )

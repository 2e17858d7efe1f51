"""Two systems on the same items: which was right where the other was wrong.

Predictions hold labels and names of a data set, which not everyone may publish. The counts are kept beside them in
comparisons.json, from which the report is made again where the predictions are gone.
"""

import json
from dataclasses import asdict
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np

from ferlightning.bench.comparison import Counts
from ferlightning.bench.results import Repeat, Result, Results, read_predictions

FILE = "comparisons.json"

Pair = tuple[str, str, str]
"""Column, row a and row b."""


def count_pairs(results: Results) -> dict[Pair, tuple[int, Counts]]:
    """Seed and counts of every pair of rows on every column, on the items that both were tested on.

    Folds are put together, since each item is in one of them; seeds are not, or every item would count as several. The
    seed is the first that both have most folds of. Pairs without predictions or kept counts are left out.
    """
    kept = _read(results)
    # A column's predictions are read once for all its pairs.
    predictions = cache(lambda column, row, repeat: read_predictions(results.of(row, column)[repeat]))
    found, counted = {}, []
    for column in results.columns:
        for a, b in combinations(results.rows, 2):
            left, right = results.of(a, column), results.of(b, column)
            seeds = [seed for _, seed in left if any(seed == other for _, other in right)]
            repeats: dict[int, list[Repeat]] = {
                seed: [repeat for repeat in left if repeat in right and repeat[1] == seed] for seed in seeds
            }
            if not any(repeats.values()):
                continue
            seed = max(repeats, key=lambda seed: len(repeats[seed]))
            total = []
            for repeat in repeats[seed]:
                key = {"column": column, "a": a, "b": b, "fold": repeat[0], "seed": seed}
                counts = _count(predictions(column, a, repeat), predictions(column, b, repeat))
                if counts is None:
                    counts = kept.get(tuple(key.values()))
                    if counts is None or not _fits(counts, left[repeat], right[repeat]):
                        continue
                counted.append(key | asdict(counts))
                total.append(counts)
            if len(total) == len(repeats[seed]):
                found[column, a, b] = (seed, sum(total[1:], total[0]))
        predictions.cache_clear()
    if counted:
        path = results.folder / FILE
        temporary = path.with_suffix(".tmp")
        temporary.write_text("[\n" + ",\n".join(map(json.dumps, counted)) + "\n]\n", encoding="utf-8")
        temporary.rename(path)
    return found


def _count(a: dict[str, Any] | None, b: dict[str, Any] | None) -> Counts | None:
    if a is None or b is None:
        return None
    names = a.keys() & b.keys()
    if not names:
        return None
    right_a, right_b = (np.array([found[name][0] == found[name][1] for name in names]) for found in (a, b))
    both, neither = int((right_a & right_b).sum()), int((~right_a & ~right_b).sum())
    return Counts(both, int((right_a & ~right_b).sum()), int((~right_a & right_b).sum()), neither)


def _read(results: Results) -> dict[tuple[Any, ...], Counts]:
    path = results.folder / FILE
    if not path.is_file():
        return {}
    keys = ("column", "a", "b", "fold", "seed")
    kept = json.loads(path.read_text("utf-8"))
    return {
        tuple(entry[key] for key in keys): Counts(**{k: v for k, v in entry.items() if k not in keys}) for entry in kept
    }


def _fits(counts: Counts, a: Result, b: Result) -> bool:
    """Whether kept counts are of these results and no older ones."""
    right = (counts.both + counts.only_a, counts.both + counts.only_b)
    return right == (np.trace(a.confusion), np.trace(b.confusion)) and counts.n == a.report["n"]

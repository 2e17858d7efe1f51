"""The sections on whether systems differ: ablations, ranks and pairs.

Pairs are counted from predictions, which name the images of a data set and cannot always be published. The counts are
kept in X.pairs.csv, from which the report is made again where the predictions are gone.
"""

import csv
from collections.abc import Iterable
from dataclasses import asdict
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from ferlightning.bench import plots, statistics
from ferlightning.bench.collect import write_csv
from ferlightning.bench.results import Repeat, Result, Results, read_predictions, read_repeat
from ferlightning.bench.statistics import NOISE, Counts, Estimate
from ferlightning.bench.tables import Entry, Section, Table, interval, metric_name, number, p_value, percent
from ferlightning.evaluation.statistics import Interval

Estimates = dict[tuple[str, str], Estimate]
"""By row and column; cells without a result are absent."""
Pairs = dict[tuple[str, str, str], tuple[int, Counts]]
"""Seed and counts, by column, row a and row b."""

ABOUT_PAIRS = (
    "McNemar's test compares two trained networks on the same images, not two methods: another training may give "
    "another answer. Images are matched by name. The test is exact below 25 images that only one network gets "
    "right, else chi-squared with continuity correction. Folds are put together; of several seeds, the first with "
    "the most folds is used. Holm's correction is over the pairs of a data set. Effect sizes: the ratio of the "
    "images that only one gets right (Clopper and Pearson's interval), and the difference in accuracy (Agresti and "
    "Min's interval)."
)


# --- pairs of networks ----------------------------------------------------------------------------------------------


def count_pairs(results: Results) -> Pairs:
    """Count, for every pair of rows on every column, which network was right where the other was wrong.

    Folds are put together, since each item is in one of them; seeds are not, or every item would count several times.
    The seed is the first of those with the most folds. Pairs without predictions or kept counts are left out.
    """
    path = results.path.with_suffix(".pairs.csv")
    kept = _read_pairs(path)
    # The predictions of a column are read once for all its pairs.
    predictions = cache(lambda column, row, repeat: read_predictions(results.of(row, column)[repeat].folder))
    found: Pairs = {}
    lines, new = [], False
    for column in results.columns:
        for a, b in combinations(results.rows, 2):
            left, right = results.of(a, column), results.of(b, column)
            shared: dict[int, list[Repeat]] = {}
            for repeat in left:
                if repeat in right:
                    shared.setdefault(repeat[1], []).append(repeat)
            if not shared:
                continue
            seed = max(shared, key=lambda seed: len(shared[seed]))
            total = []
            for repeat in shared[seed]:
                counts = _count(predictions(column, a, repeat), predictions(column, b, repeat))
                new = new or counts is not None
                if counts is None:
                    counts = kept.get((column, a, b, repeat))
                    if counts is None or not _fits(counts, left[repeat], right[repeat]):
                        continue
                lines.append({"data": column, "a": a, "b": b, "fold": repeat[0], "seed": seed} | asdict(counts))
                total.append(counts)
            if len(total) == len(shared[seed]):
                found[column, a, b] = (seed, sum(total[1:], total[0]))
        predictions.cache_clear()
    if new:
        write_csv(path, lines)
    return found


def _count(a: dict[str, Any] | None, b: dict[str, Any] | None) -> Counts | None:
    """Counts of the items that both have; None if there are none."""
    if a is None or b is None or not (names := a.keys() & b.keys()):
        return None
    right_a, right_b = (np.array([found[name][0] == found[name][1] for name in names]) for found in (a, b))
    both, neither = int((right_a & right_b).sum()), int((~right_a & ~right_b).sum())
    return Counts(both, int((right_a & ~right_b).sum()), int((~right_a & right_b).sum()), neither)


def _read_pairs(path: Path) -> dict[tuple[str, str, str, Repeat], Counts]:
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    return {
        (line["data"], line["a"], line["b"], read_repeat(line)): Counts(
            *(int(line[name]) for name in ("both", "only_a", "only_b", "neither"))
        )
        for line in lines
    }


def _fits(counts: Counts, a: Result, b: Result) -> bool:
    """Whether kept counts are those of these results and not of older ones."""
    right = (counts.both + counts.only_a, counts.both + counts.only_b)
    return right == (np.trace(a.confusion), np.trace(b.confusion)) and counts.n == a.n


def make_pairs(results: Results, estimates: Estimates, pairs: Pairs) -> Section:
    """Test each two networks on each data set by McNemar's test, with effect sizes.

    Args:
        results: to report.
        estimates: of accuracy.
        pairs: as ``count_pairs`` returns them.
    """
    rows, unclear, uncounted = [], dict[tuple[str, str], None](), 0
    for column in results.sound:
        here = []
        for a, b in combinations(results.rows, 2):
            if results.of(a, column).keys().isdisjoint(results.of(b, column)):
                continue
            if doubts := [(row, column) for row in (a, b) if estimates[row, column].doubt]:
                unclear |= dict.fromkeys(doubts)
            elif (column, a, b) not in pairs:
                uncounted += 1
            else:
                here.append((a, b, *pairs[column, a, b]))
        p = [statistics.mcnemar(counts) for *_, counts in here]
        for (a, b, seed, counts), single, corrected in zip(here, p, statistics.holm(p), strict=True):
            odds, odds_around = statistics.odds_ratio(counts)
            difference, around = statistics.accuracy_difference(counts)
            line = [Entry(column), Entry(a), Entry(b), number(seed, 0), number(counts.n, 0)]
            line += [number(counts.only_a, 0), number(counts.only_b, 0), number(odds), interval(odds_around)]
            line += [number(100 * difference, sign=True), interval(percent(around)), p_value(single)]
            rows.append([*line, p_value(corrected), Entry(NOISE if corrected >= 0.05 else "outside")])
    title = "Pairs: two trained networks on the same images"
    text = [ABOUT_PAIRS] if rows or uncounted else []
    if unclear:
        text.append(f"Left out are the pairs of {_reasons(estimates, unclear)}.")
    if uncounted:
        text.append(
            f"Left out: {uncounted} pairs with no item in common, as images and clips have none, or whose predictions "
            "are gone and have no counts in the file of pairs."
        )
    head = ["data", "a", "b", "seed", "images", "only a right", "only b right", "odds ratio", "95 % of odds ratio"]
    head += ["a minus b, points", "95 % of difference", "p", "p by Holm", "verdict"]
    tables = [Table("mcnemar", "McNemar's test of each pair", head, rows)] if rows else []
    return Section(title, text or ["No two systems have a result on the same data, fold and seed."], tables)


# --- systems over their repeats -------------------------------------------------------------------------------------


def _reasons(estimates: Estimates, places: Iterable[tuple[str, str]]) -> str:
    """List why there is no rank or pair, as ``A on CK+ (too few repeats to tell)``."""
    return ", ".join(f"{row} on {column} ({estimates[row, column].doubt})" for row, column in places)


def make_ablations(results: Results, metric: str, pairs: Pairs) -> Section | None:
    """Show what a system loses without one of its parts; None if the suite has no such rows.

    Args:
        results: to report.
        metric: that is compared.
        pairs: as ``count_pairs`` returns them.
    """
    rows = []
    for row in results.suite.rows:
        for column in results.columns:
            if row.ablates is None:
                continue
            part, whole = results.of(row.name, column), results.of(row.ablates, column)
            both = [repeat for repeat in part if repeat in whole]
            if not both:
                continue
            delta = np.array([part[repeat].score(metric) - whole[repeat].score(metric) for repeat in both])
            mean = statistics.mean_over_repeats(delta, statistics.mean_overlap(part[repeat] for repeat in both))
            images = _over_images(pairs, column, row.name, row.ablates) if metric == "accuracy" else None
            line = [Entry(row.name), Entry(row.ablates), Entry(column), number(len(both), 0)]
            line += [number(100 * mean.value, sign=True), interval(percent(mean.interval)), interval(percent(images))]
            converged = all(of_row[repeat].converged for of_row in (part, whole) for repeat in both)
            said = statistics.verdict(0, mean, images, converged) if column in results.sound else statistics.LEAKING
            rows.append([*line, Entry(said)])
    if not rows:
        return None
    head = ["system", "compared with", "data", "repeats", "difference", "95 % over repeats", "95 % over images"]
    note = "Paired by fold and seed; the interval over images is of one pair of networks, as under Pairs. "
    note += f"{NOISE.capitalize()}: one interval holds 0."
    title = f"Difference in {metric_name(metric)}, points"
    return Section("Ablations", [], [Table("ablations", title, [*head, "verdict"], rows, note)])


def _over_images(pairs: Pairs, column: str, a: str, b: str) -> Interval | None:
    """Interval of the accuracy of a minus that of b."""
    if (column, a, b) in pairs:
        return statistics.accuracy_difference(pairs[column, a, b][1])[1]
    if (column, b, a) in pairs:
        low, high = statistics.accuracy_difference(pairs[column, b, a][1])[1]
        return -high, -low
    return None


def make_ranks(results: Results, estimates: Estimates, metric: str, folder: Path) -> Section:
    """Rank the systems by Friedman's and Nemenyi's tests, with the critical-difference diagram.

    Args:
        results: to report.
        estimates: of the metric.
        metric: that systems are ranked by.
        folder: that the diagram is written to.
    """
    places = [(row, column) for column in results.sound for row in results.rows if (row, column) in estimates]
    unclear = [place for place in places if estimates[place].doubt]
    told = {*places} - {*unclear}
    rows = [row for row in results.rows if any((row, column) in told for column in results.sound)]
    columns = [column for column in results.sound if all((row, column) in told for row in rows)]
    text = []
    if absent := [row for row in results.rows if not any((row, column) in estimates for column in results.columns)]:
        text.append(f"Left out, without a result: {', '.join(absent)}.")
    if unclear:
        text.append(f"Left out: {_reasons(estimates, unclear)}.")
    blocks = [
        [results.of(row, column)[repeat].score(metric) for row in rows]
        for column in columns
        for repeat in (results.of(rows[0], column) if rows else ())
        if all(repeat in results.of(row, column) for row in rows)
    ]
    if len(rows) < 3 or len(blocks) < statistics.REPEATS:
        text.append(
            "Ranks need three systems, and three blocks (data set, fold and seed) on which all of them have a result; "
            f"there are {len(rows)} and {len(blocks)}."
        )
        return Section("Ranks", text)
    found = statistics.friedman(np.array(blocks))
    plots.save(plots.critical_difference(found, rows), folder / "critical_difference.png")
    text.append(
        f"Friedman's test over {found.blocks} blocks (data set, fold and seed on which all systems have a result): "
        f"χ² = {found.chi2:.2f} with {len(rows) - 1} degrees of freedom, {_p(found.p)} (if all blocks "
        f"agreed, {_p(found.least)}); Iman and Davenport's "
        f"F = {number(found.f).text}, {_p(found.p_f)}; Kendall's W = {found.kendall_w:.2f}. By Nemenyi's test, two "
        f"systems differ if their mean ranks are {found.critical_difference:.2f} or more apart (Demšar 2006). Folds "
        "and seeds of one data set are not independent blocks, so the true p are larger."
        + (" With fewer than ten blocks, all these p are rough." if found.blocks < 10 else "")
    )
    order = np.argsort(found.ranks, kind="stable")
    ranks = [[Entry(rows[i]), number(float(found.ranks[i]))] for i in order]
    p = [[Entry(rows[i]), *(p_value(float(found.nemenyi[i, j])) if i != j else Entry() for j in order)] for i in order]
    tables = [
        Table("ranks", f"Mean rank by {metric_name(metric)}", ["system", "mean rank"], ranks, "1 is the best."),
        Table("nemenyi", "p of Nemenyi's test", ["system", *(rows[i] for i in order)], p),
    ]
    return Section("Ranks", text, tables, [("critical_difference.png", "A bar joins systems that do not differ.")])


def _p(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"

"""The sections on whether systems differ: ablations, ranks and pairs."""

from itertools import combinations
from pathlib import Path

import numpy as np

from ferlightning.bench import comparison, plots
from ferlightning.bench.comparison import Counts, mean_over_repeats
from ferlightning.bench.measures import NOISE, label, overlap, percent, verdict
from ferlightning.bench.pairs import Pair
from ferlightning.bench.results import Results
from ferlightning.bench.tables import Entry, Section, Table, interval, number, p_value
from ferlightning.evaluation.statistics import Interval

SeedAndCounts = tuple[int, Counts]

PAIRS = (
    "McNemar's test of two trained systems on the same images, matched by name: exact below 25 images that only one "
    "got right, else chi-squared with continuity correction. It speaks of these models, the tables above of repeats. "
    "Folds are put together; of several seeds it takes the first that has most folds. Holm's correction is "
    "over the pairs of a data set. Effect sizes: the ratio of the images that only one got right (Clopper and "
    "Pearson's interval), and the difference in accuracy (Agresti and Min's)."
)


def make_ablations(results: Results, metric: str, pairs: dict[Pair, SeedAndCounts]) -> Section | None:
    """What a system loses without one of its parts; None if the suite has no such rows.

    Args:
        results: to report.
        metric: that is compared.
        pairs: of ``pairs.count_pairs``.
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
            mean = mean_over_repeats(100 * delta, overlap(part[repeat] for repeat in both))
            images = _over_images(pairs, column, row.name, row.ablates) if metric == "accuracy" else None
            line = [Entry(row.name), Entry(row.ablates), Entry(column), number(len(both), 0)]
            line += [number(mean.value, sign=True), interval(mean.interval), interval(images)]
            rows.append([*line, verdict(0, mean.interval, images)])
    if not rows:
        return None
    head = [
        "system",
        "compared with",
        "data",
        "repeats",
        "difference",
        "95 % over repeats",
        "95 % over images",
        "verdict",
    ]
    note = f"Paired by fold and seed; over images: as of the pairs below. {NOISE.capitalize()}: one interval holds 0."
    return Section("Ablations", [], [Table("ablations", f"Difference in {label(metric)}, points", head, rows, note)])


def _over_images(pairs: dict[Pair, SeedAndCounts], column: str, a: str, b: str) -> Interval | None:
    """Interval of the accuracy of a less that of b, in points."""
    if (column, a, b) in pairs:
        return percent(comparison.accuracy_difference(pairs[column, a, b][1])[1])
    if (column, b, a) in pairs:
        low, high = comparison.accuracy_difference(pairs[column, b, a][1])[1]
        return -100 * high, -100 * low
    return None


def make_ranks(results: Results, metric: str, folder: Path) -> Section:
    """Friedman's and Nemenyi's tests of all systems, with the critical-difference diagram.

    Args:
        results: to report.
        metric: that systems are ranked by.
        folder: that the diagram is written to.
    """
    rows = [row for row in results.rows if any(results.of(row, column) for column in results.columns)]
    blocks = [
        [results.of(row, column)[repeat].score(metric) for row in rows]
        for column in results.columns
        for repeat in (results.of(rows[0], column) if rows else ())
        if all(repeat in results.of(row, column) for row in rows)
    ]
    absent = [row for row in results.rows if row not in rows]
    text = [f"Without a result, and left out here: {', '.join(absent)}."] if absent else []
    if len(rows) < 3 or len(blocks) < 2:
        counted = f"there are {len(rows)} and {len(blocks)}"
        text.append(
            f"It takes three systems and two blocks (data set, fold and seed) that all have a result of; {counted}."
        )
        return Section("Ranks", text)
    found = comparison.friedman(np.array(blocks))
    plots.save(plots.critical_difference(found, rows), folder / "critical_difference.png")
    text.append(
        f"Friedman's test over {found.blocks} blocks (data set, fold and seed that all systems have a result of): "
        f"χ² = {found.chi2:.2f} with {len(rows) - 1} degrees of freedom, {_p(found.p)}; Iman and Davenport's "
        f"F = {number(found.f).text}, {_p(found.p_f)}; Kendall's W = {found.kendall_w:.2f}. By Nemenyi's test two "
        f"systems differ where their mean ranks are {found.critical_difference:.2f} or more apart (Demšar 2006). Folds "
        "and seeds of one data set are no independent blocks: true p are rather larger."
        + (" Of fewer than ten blocks all these p are rough." if found.blocks < 10 else "")
    )
    order = np.argsort(found.ranks, kind="stable")
    ranks = [[Entry(rows[i]), number(float(found.ranks[i]))] for i in order]
    p = [[Entry(rows[i]), *(p_value(float(found.nemenyi[i, j])) if i != j else Entry() for j in order)] for i in order]
    tables = [
        Table("ranks", f"Mean rank by {label(metric)}", ["system", "mean rank"], ranks, "1 is the best."),
        Table("nemenyi", "p of Nemenyi's test", ["system", *(rows[i] for i in order)], p),
    ]
    return Section("Ranks", text, tables, [("critical_difference.png", "A bar joins systems that do not differ.")])


def _p(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def make_pairs(results: Results, pairs: dict[Pair, SeedAndCounts]) -> Section:
    """McNemar's test of each two systems on each data set, with effect sizes.

    Args:
        results: to report.
        pairs: of ``pairs.count_pairs``.
    """
    rows, possible = [], 0
    for column in results.columns:
        for a, b in combinations(results.rows, 2):
            possible += not results.of(a, column).keys().isdisjoint(results.of(b, column))
        here = [(a, b, *found) for (place, a, b), found in pairs.items() if place == column]
        p = [comparison.mcnemar(counts) for *_, counts in here]
        for (a, b, seed, counts), single, corrected in zip(here, p, comparison.holm(p), strict=True):
            odds, odds_around = comparison.odds_ratio(counts)
            difference, around = comparison.accuracy_difference(counts)
            line = [Entry(column), Entry(a), Entry(b), number(seed, 0), number(counts.n, 0)]
            line += [number(counts.only_a, 0), number(counts.only_b, 0), number(odds), interval(odds_around)]
            line += [number(100 * difference, sign=True), interval(percent(around)), p_value(single)]
            rows.append([*line, p_value(corrected), Entry(NOISE if corrected >= 0.05 else "outside")])
    if not possible:
        return Section("Pairs", ["No two systems have a result of the same data, fold and seed."])
    text = [PAIRS]
    if missing := possible - len(rows):
        text.append(
            f"Left out: {missing} pairs with no item in common, as images and clips have none, or whose "
            "predictions.csv is gone and which no comparisons.json fits."
        )
    head = ["data", "a", "b", "seed", "images", "only a right", "only b right", "odds ratio", "95 % of odds ratio"]
    head += ["a less b, points", "95 % of difference", "p", "p by Holm", "verdict"]
    return Section("Pairs", text, [Table("mcnemar", "McNemar's test of each pair", head, rows)] if rows else [])

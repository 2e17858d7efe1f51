"""The sections on whether systems differ: ablations, ranks and pairs."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from ferlightning.bench import plots, statistics
from ferlightning.bench.results import Result, Results
from ferlightning.bench.statistics import NOISE, Counts, Estimate
from ferlightning.bench.tables import Entry, Section, Table, interval, metric_name, number, p_value, percent
from ferlightning.evaluation.statistics import Interval, design_effect

Estimates = dict[tuple[str, str], Estimate]
"""By row and column; cells without a result are absent."""
Pairs = dict[tuple[str, str, str], "Pair"]
"""By column, row a and row b."""

ABOUT_PAIRS = (
    "McNemar's test compares two trained networks on the same images, not two methods: another training may give "
    "another answer. The test is exact below 25 images that only one network gets right, else chi-squared with "
    "continuity correction. Folds are put together; of several seeds, the first with the most folds is used. Where "
    "one person has several images, the counts go into test and intervals divided by the design effect of the "
    "difference (Cochran 1977). Holm's correction is over the pairs of a data set. Effect sizes: the ratio of the "
    "images that only one gets right (Clopper and Pearson's interval), and the difference in accuracy (Agresti and "
    "Min's interval)."
)


# --- pairs of networks ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """Two networks on the same images.

    Attributes:
        seed: of both.
        counts: how often each was right.
        worth: the counts of as many independent images as these are worth.
    """

    seed: int
    counts: Counts
    worth: Counts


def compare_pairs(results: Results) -> Pairs:
    """Compare each two rows on every column, where it is known which of the same images were right.

    Folds are put together, since each item is in one of them; seeds are not, or every item would count several times.
    The seed is the first of those with the most folds.
    """
    found: Pairs = {}
    for column in results.columns:
        for a, b in combinations(results.rows, 2):
            by_seed = dict[int, list[tuple[Result, Result]]]()
            for repeat, one in results.of(a, column).items():
                other = results.of(b, column).get(repeat)
                if other is not None and _same_images(one, other):
                    by_seed.setdefault(repeat[1], []).append((one, other))
            if by_seed:
                seed = max(by_seed, key=lambda seed: len(by_seed[seed]))
                found[column, a, b] = _pair(seed, by_seed[seed])
    return found


def _same_images(one: Result, other: Result) -> bool:
    same = all(one.line.get(name) == other.line.get(name) for name in ("test_items", "test_sha256"))
    return same and one.right is not None and other.right is not None


def _pair(seed: int, folds: list[tuple[Result, Result]]) -> Pair:
    a, b = (np.concatenate([fold[i].right for fold in folds]) for i in (0, 1))
    people = [numbers + 10**6 * i for i, (one, _) in enumerate(folds) if (numbers := one.person) is not None]
    group = np.concatenate(people) if len(people) == len(folds) else None  # nobody is in two folds
    counts = Counts.of(a, b)
    return Pair(seed, counts, counts.worth(design_effect(a.astype(float) - b, group)))


def make_pairs(results: Results, estimates: Estimates, pairs: Pairs) -> Section:
    """Test each two networks on each data set by McNemar's test, with effect sizes.

    Args:
        results: to report.
        estimates: of accuracy.
        pairs: as ``compare_pairs`` returns them.
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
                here.append((a, b, pairs[column, a, b]))
        p = [statistics.mcnemar(pair.worth) for *_, pair in here]
        for (a, b, pair), single, corrected in zip(here, p, statistics.holm(p), strict=True):
            counts = pair.counts
            odds, odds_around = statistics.odds_ratio(pair.worth)
            difference, around = statistics.accuracy_difference(pair.worth)
            line = [Entry(column), Entry(a), Entry(b), number(pair.seed, 0), number(sum(counts), 0)]
            line += [number(counts.only_a, 0), number(counts.only_b, 0), number(odds), interval(odds_around)]
            line += [number(100 * difference, sign=True), interval(percent(around)), p_value(single)]
            rows.append([*line, p_value(corrected), Entry(NOISE if corrected >= 0.05 else "outside")])
    title = "Pairs: two trained networks on the same images"
    text = [ABOUT_PAIRS] if rows or uncounted else []
    if unclear:
        text.append(f"Left out are the pairs of {_reasons(estimates, unclear)}.")
    if uncounted:
        text.append(
            f"Left out: {uncounted} pairs that were not tested on the same images, as stills and clips are not, or of "
            "which it was not kept which images were right."
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
        pairs: as ``compare_pairs`` returns them.
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
        return statistics.accuracy_difference(pairs[column, a, b].worth)[1]
    if (column, b, a) in pairs:
        low, high = statistics.accuracy_difference(pairs[column, b, a].worth)[1]
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

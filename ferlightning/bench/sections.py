"""What a report on many runs says: its sections, from results."""

from collections import Counter
from pathlib import Path

import numpy as np

from ferlightning.bench import plots
from ferlightning.bench.comparison import mean_over_repeats
from ferlightning.bench.differences import make_ablations, make_pairs, make_ranks
from ferlightning.bench.measures import INTERVALS, NOISE, Measured, label, measure, percent, shown, verdict
from ferlightning.bench.pairs import count_pairs
from ferlightning.bench.results import Corruption, Results, read_curves
from ferlightning.bench.suite import SEVERITIES
from ferlightning.bench.tables import Entry, Section, Table, interval, number

Cells = dict[tuple[str, str], Measured]
"""What was measured, by row and column; cells without a result are absent."""


def make_sections(results: Results, metric: str, folder: Path) -> list[Section]:
    """Everything that Markdown, LaTeX and the page have in common.

    Args:
        results: to report.
        metric: that systems are compared by; one that a confusion matrix determines.
        folder: that pictures are written to.
    """
    cells = _measure(results, metric)
    accuracies = cells if metric == "accuracy" else _measure(results, "accuracy")
    counts = count_pairs(results)
    sections = [
        _main(results, cells, metric, folder),
        _claims(results, accuracies),
        _classes(results),
        _cost(results),
        _across(results, metric),
        _robustness(results, metric, folder),
        make_ablations(results, metric, counts),
        make_ranks(results, metric, folder),
        make_pairs(results, counts),
        _curves(results, folder),
        _made(results),
    ]
    return [section for section in sections if section is not None]


def _measure(results: Results, metric: str) -> Cells:
    places = ((row, column) for row in results.rows for column in results.columns)
    return {place: found for place in places if (found := measure(results.of(*place), metric))}


def _main(results: Results, cells: Cells, metric: str, folder: Path) -> Section:
    copies = {
        column
        for row, column in cells
        if any(result.report["deduplicated"] for result in results.of(row, column).values())
    }
    head = ["system"]
    for column in results.columns:
        head += [column, f"{column} without copies"] if column in copies else [column]
    rows = []
    for row in results.rows:
        line = [Entry(row)]
        for column in results.columns:
            line += [_state(results, cells, row, column)]
            line += [_without_copies(results, row, column, metric)] if column in copies else []
        rows.append(line)
    note = "Mean ± standard deviation over repeats. Empty: not run."
    note += " Without copies: on test images that are not pixel for pixel in training." if copies else ""

    details = []
    for (row, column), found in cells.items():
        images = sum(result.report["n"] for result in results.of(row, column).values())
        line = [Entry(row), Entry(column), number(found.n, 0), number(images, 0), number(100 * found.mean.value)]
        line += [number(None if found.mean.sd is None else 100 * found.mean.sd)]
        details.append([*line, interval(percent(found.mean.interval)), interval(percent(found.images))])
    head_details = ["system", "data", "repeats", "images", "mean", "sd", "95 % over repeats", "95 % over images"]

    done, failed = sum(found.n for found in cells.values()), results.failed.total()
    state = f"{done} of {results.planned.total()} cells have a result" + (f", {failed} failed." if failed else ".")
    trained = results.budget.note.strip().rstrip(".") or "as the suite says"
    budget = f"Trained by budget {results.budget_name}: {trained}. {state}"
    about = [results.suite.about] if results.suite.about else []
    title = f"Test {label(metric)}"
    claims = _claimed(results) if metric == "accuracy" else {}
    plots.save(plots.scores(cells, claims, results.rows, results.columns, label(metric)), folder / "scores.png")
    caption = f"{title}. Thick: interval over repeats; thin: over images; diamond: claimed."
    return Section(
        results.suite.title,
        [*about, INTERVALS, budget],
        [
            Table("results", f"{title}, %", head, rows, note),
            Table("intervals", f"{title} with intervals, %", head_details, details, "Images: of all repeats."),
        ],
        [("scores.png", caption)],
    )


def _state(results: Results, cells: Cells, row: str, column: str) -> Entry:
    """A cell's number, and how far it is from done."""
    failed, planned = results.failed[row, column], results.planned[row, column]
    if (row, column) not in cells:
        return Entry("failed" if failed else "")
    found = cells[row, column]
    entry = shown(found.mean)
    if found.n == planned:
        return entry
    missing = f"{found.n} of {planned}" + (f", {failed} failed" if failed else "")
    return Entry(f"{entry.text} ({missing})", entry.value)


def _without_copies(results: Results, row: str, column: str, metric: str) -> Entry:
    reports = [result.report["deduplicated"] for result in results.of(row, column).values()]
    values = [report["metrics"][metric]["value"] for report in reports if report is not None]
    return shown(mean_over_repeats(np.array(values))) if values else Entry()


def _claimed(results: Results) -> dict[tuple[str, str], float]:
    return {(row.name, column): value for row in results.suite.rows for column, value in row.claimed.items()}


def _claims(results: Results, accuracies: Cells) -> Section | None:
    rows = []
    for place, claimed in _claimed(results).items():
        if place not in accuracies:
            continue
        found = accuracies[place]
        repeats, images = percent(found.mean.interval), percent(found.images)
        line = [*map(Entry, place), number(claimed), shown(found.mean)]
        line += [number(100 * found.mean.value - claimed, sign=True), interval(repeats), interval(images)]
        rows.append([*line, verdict(claimed, repeats, images)])
    head = ["system", "data", "claimed", "measured", "difference", "95 % over repeats", "95 % over images", "verdict"]
    note = f"Intervals are of the measured accuracy. {NOISE.capitalize()}: one of them holds the claim."
    return Section("Claimed and measured", [], [Table("claims", "Accuracy, %", head, rows, note)]) if rows else None


def _classes(results: Results) -> Section:
    tables = []
    for i, column in enumerate(results.columns, 1):
        found = {row: list(results.of(row, column).values()) for row in results.rows if results.of(row, column)}
        classes = list(dict.fromkeys(name for repeats in found.values() for r in repeats for name in r.classes))
        rows = []
        for row, repeats in found.items():
            line = [Entry(row)]
            for name in classes:
                known = [r.report["per_class"][name] for r in repeats if name in r.classes]
                support = sum(of_class["support"] for of_class in known)
                hits = sum(of_class["support"] * of_class["recall"] for of_class in known if of_class["support"])
                line.append(number(100 * hits / support if support else None))
            rows.append(line)
        if rows:
            head, note = ["system", *classes], "Of all repeats together."
            tables.append(Table(f"recall-{i}", f"Recall on {column}, %", head, rows, note))
    return Section("Recall of each class", [], tables)


def _cost(results: Results) -> Section:
    rows = []
    for row in results.rows:
        for column in results.columns:
            found = list(results.of(row, column).values())
            if not found:
                continue
            made = [result.report["provenance"] for result in found]
            speed, seconds = [facts["images_per_second"] for facts in made], [result.seconds for result in found]
            line = [Entry(row), Entry(column), number(made[0]["parameters"], 0)]
            line += [number(made[0]["multiply_adds"] / 1e6)]
            rows.append([*line, number(float(np.mean(speed)), 0), number(float(np.mean(seconds)), 0)])
    head = ["system", "data", "parameters", "multiply-adds, million", "test images/s", "seconds"]
    note = "Multiply-adds: of one item. Seconds: to train, pre-training included, and to test. Means of the repeats."
    if len(devices := results.facts("device")) > 1:
        note += f" Times and speeds do not compare, since not all ran on one device: {', '.join(devices)}."
    return Section("Cost", [], [Table("cost", "Size, speed and time", head, rows, note)])


def _across(results: Results, metric: str) -> Section | None:
    targets = list(dict.fromkeys([*results.columns, *(test.name for test in results.suite.tests)]))
    rows = []
    for row in results.rows:
        for column in results.columns:
            found = [measure(results.of(row, column, target), metric) for target in targets]
            if any(found):
                rows.append([Entry(row), Entry(column), *(shown(m.mean) if m else Entry() for m in found)])
    if not results.suite.tests or not rows:
        return None
    note = "Classes are matched by name; what that leaves out is in the notes at the end. Empty: not run."
    title = f"{label(metric).capitalize()} of what was trained on one data set, tested on each, %"
    return Section("Across data sets", [], [Table("across", title, ["system", "trained on", *targets], rows, note)])


def _robustness(results: Results, metric: str, folder: Path) -> Section | None:
    rows = []
    curves: dict[tuple[str, str], dict[str, list[float]]] = {}
    for column in results.columns:
        for kind in results.suite.corruptions:
            for row in results.rows:
                graded: list[Corruption | None] = [None, *((kind, severity) for severity in SEVERITIES)]
                found = [measure(results.of(row, column, None, corruption), metric) for corruption in graded]
                if not any(found[1:]):
                    continue
                scores = [100 * m.mean.value if m else float("nan") for m in found]
                curves.setdefault((column, kind), {})[row] = scores
                line = [Entry(row), Entry(column), Entry(kind), *map(number, scores)]
                rows.append([*line, number(float(np.mean(scores[1:])))])
    if not rows:
        return None
    plots.save(plots.robustness(curves, results.rows, label(metric)), folder / "robustness.png")
    head = ["system", "data", "corruption", "severity 0", *map(str, SEVERITIES), "mean of 1 to 5"]
    table = Table("robustness", f"Test {label(metric)} under graded corruptions, %", head, rows)
    return Section("Robustness", [], [table], [("robustness.png", f"Test {label(metric)} by severity of corruption.")])


def _curves(results: Results, folder: Path) -> Section | None:
    curves: dict[str, dict[str, list[dict[str, dict[int, float]]]]] = {}
    for column in results.columns:
        for row in results.rows:
            if found := [curve for r in results.of(row, column).values() if (curve := read_curves(r))]:
                curves.setdefault(column, {})[row] = found
    if not curves:
        return None
    plots.save(plots.learning_curves(curves, results.rows), folder / "learning_curves.png")
    caption = "Mean of the repeats that lasted to an epoch. Full: validation; dashed: training."
    return Section("Learning curves", pictures=[("learning_curves.png", caption)])


def _made(results: Results) -> Section:
    notes: Counter[str] = Counter()
    versions: dict[str, dict[str, None]] = {}
    for result in results.all:
        notes.update(list(dict.fromkeys(result.report["notes"])))  # in their order, unlike a set
        for package, version in result.report["provenance"]["versions"].items():
            versions.setdefault(package, {})[version] = None
    listed = ", ".join(f"{package} {' and '.join(found)}" for package, found in versions.items())
    facts = ("device", "devices", "precision", "git_revision")
    text = [f"{fact.replace('_', ' ').capitalize()}: {', '.join(results.facts(fact))}" for fact in facts]
    tables = []
    if notes:
        rows = [[Entry(note), number(n, 0)] for note, n in notes.items()]
        tables.append(Table("notes", "What to know about these numbers", ["note", "results"], rows))
    if results.failures:
        rows = [[Entry(cell), Entry(reason)] for cell, reason in results.failures.items()]
        tables.append(Table("failures", "Failed cells", ["cell", "last line of its output"], rows))
    return Section("How this was made", [*text, f"Versions: {listed}"], tables)

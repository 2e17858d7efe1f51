"""The sections of a report on a suite, made from its results."""

from collections import Counter
from json import loads
from pathlib import Path

import numpy as np

from ferlightning.bench import plots, statistics
from ferlightning.bench.differences import Estimates, compare_pairs, make_ablations, make_pairs, make_ranks
from ferlightning.bench.results import Corruption, Results
from ferlightning.bench.statistics import NOISE, estimate, mean_over_repeats
from ferlightning.bench.suite import SEVERITIES, TRAINING
from ferlightning.bench.tables import Entry, Section, Table, interval, mean_score, metric_name, number, percent
from ferlightning.evaluation.curves import Curves, read_curves

ABOUT_INTERVALS = (
    "Intervals are at 95 %. Over repeats (folds and seeds): Student's t; folds share training images, so its "
    "variance is corrected as proposed by Nadeau and Bengio 2003. Over images, for the networks as they are: "
    "Wilson's for accuracy, a bootstrap for the rest, by people where one has several images; those of folds are put "
    "together as proposed by Zou and Donner 2008, those of seeds averaged. Seeds on one split say nothing about "
    f"other images, and images nothing about other seeds: what either interval holds is {NOISE}. There is no verdict, "
    "rank or pair with fewer than three repeats, with an interval wider than ten points, or where a training had not "
    "come to its end (the learning rate decayed to zero, or early stopping fired): the interval over images stands "
    "alone."
)


UNITS = {"loss": "nats", "latency": "ms"}
"""Of the measures that are no shares."""


def make_sections(results: Results, metric: str, folder: Path) -> list[Section]:
    """Make everything that Markdown, LaTeX and the page have in common.

    Args:
        results: to report.
        metric: that systems are compared by; one that a confusion matrix determines.
        folder: that pictures are written to.
    """
    estimates = _estimate(results, metric)
    accuracies = estimates if metric == "accuracy" else _estimate(results, "accuracy")
    pairs = compare_pairs(results)
    sections = [
        _main(results, estimates, metric, folder),
        _claims(results),
        _classes(results),
        _cost(results),
        _across(results, metric),
        _robustness(results, metric, folder),
        make_ablations(results, metric, pairs),
        make_ranks(results, estimates, metric, folder),
        make_pairs(results, accuracies, pairs),
        _curves(results, folder),
        _provenance(results),
    ]
    return [section for section in sections if section is not None]


def _estimate(results: Results, metric: str) -> Estimates:
    places = ((row, column) for row in results.rows for column in results.columns)
    return {place: found for place in places if (found := estimate(results.of(*place), metric))}


def _main(results: Results, estimates: Estimates, metric: str, folder: Path) -> Section:
    copies = {column for row, column in estimates if any(r.without_copies for r in results.of(row, column).values())}
    head = ["system"]
    for column in results.columns:
        head += [column, *([f"{column} without copies"] if column in copies else [])]
        head += [f"{column}, training"] if results.suite.training else []
    rows = []
    for row in results.rows:
        line = [Entry(row)]
        for column in results.columns:
            line += [_state(results, estimates, row, column)]
            line += [_without_copies(results, row, column, metric)] if column in copies else []
            line += [_on_training(results, row, column, metric)] if results.suite.training else []
        rows.append(line)
    note = "Mean ± standard deviation over repeats. Empty: not run."
    note += " Without copies: on test images that are not pixel for pixel in training." if copies else ""
    note += " Training: on the images that were trained on, as they are." if results.suite.training else ""
    note += " Leaking: people or images of the test part are trained on." if results.sound != results.columns else ""

    details = []
    for (row, column), found in estimates.items():
        images = sum(result.n for result in results.of(row, column).values())
        line = [Entry(row), Entry(column), number(found.n, 0), number(images, 0), number(100 * found.mean.value)]
        line += [number(None if found.mean.sd is None else 100 * found.mean.sd)]
        details.append([*line, interval(percent(found.mean.interval)), interval(percent(found.images))])
    head_details = ["system", "data", "repeats", "images", "mean", "sd", "95 % over repeats", "95 % over images"]

    done, failed = sum(found.n for found in estimates.values()), results.failed.total()
    state = f"{done} of {results.planned.total()} cells have a result" + (f", {failed} failed." if failed else ".")
    trained = results.budget.note.strip().rstrip(".") or "as the suite says"
    budget = f"Trained with budget {results.budget_name}: {trained}. {state}"
    about = [results.suite.about] if results.suite.about else []
    title = f"Test {metric_name(metric)}"
    claims = {(row.name, name): row.claims(name) for row in results.suite.rows for name in results.columns}
    shown = {place: found[metric] for place, found in claims.items() if metric in found}
    figure = plots.scores(estimates, shown, results.rows, results.columns, metric_name(metric))
    plots.save(figure, folder / "scores.png")
    caption = f"{title}. Thick: interval over repeats; thin: over images; diamond: claimed."
    return Section(
        results.suite.title,
        [*about, ABOUT_INTERVALS, budget],
        [
            Table("results", f"{title}, %", head, rows, note),
            Table("intervals", f"{title} with intervals, %", head_details, details, "Images: of all repeats."),
        ],
        [("scores.png", caption)],
    )


def _state(results: Results, estimates: Estimates, row: str, column: str) -> Entry:
    """The score of a row on a column, and what is missing."""
    failed, planned = results.failed[row, column], results.planned[row, column]
    if (row, column) not in estimates:
        return Entry("failed" if failed else "")
    found = estimates[row, column]
    entry = mean_score(found.mean)
    if found.n == planned:
        return entry
    missing = f"{found.n} of {planned}" + (f", {failed} failed" if failed else "")
    return Entry(f"{entry.text} ({missing})", entry.value)


def _without_copies(results: Results, row: str, column: str, metric: str) -> Entry:
    lines = [result.without_copies for result in results.of(row, column).values()]
    values = [float(line[metric]) for line in lines if line is not None]
    return mean_score(mean_over_repeats(np.array(values))) if values else Entry()


def _on_training(results: Results, row: str, column: str, metric: str, scale: float = 100) -> Entry:
    found = estimate(results.of(row, column, TRAINING), metric)
    return mean_score(found.mean, scale) if found else Entry()


def _claims(results: Results) -> Section | None:
    rows, used = [], set[str]()
    for row in results.suite.rows:
        for column in results.columns:
            for measure, claimed in row.claims(column).items():
                if (found := estimate(results.of(row.name, column), measure)) is None:
                    continue
                used.add(measure)
                scale, widest = (1, float("inf")) if measure in UNITS else (100, statistics.WIDEST)
                value, around = claimed / scale, (found.mean, found.images, found.converged, widest)
                said = statistics.verdict(value, *around) if column in results.sound else statistics.LEAKING
                line = [Entry(row.name), Entry(column), Entry(f"{metric_name(measure)}, {UNITS.get(measure, '%')}")]
                line += [
                    number(claimed),
                    mean_score(found.mean, scale),
                    number(scale * found.mean.value - claimed, sign=True),
                ]
                line += [interval(percent(pair, scale)) for pair in (found.mean.interval, found.images)]
                if results.suite.training:
                    line.append(_on_training(results, row.name, column, measure, scale))
                rows.append([*line, Entry(said)])
    if not rows:
        return None
    head = ["system", "data", "measure", "claimed", "measured", "difference", "95 % over repeats", "95 % over images"]
    head += ["on training images"] if results.suite.training else []
    note = f"Intervals are of what was measured. {NOISE.capitalize()}: one of them holds the claim."
    note += " Loss: cross-entropy in nats." if "loss" in used else ""
    note += " Latency: of an image in a batch, with reading it, without finding the face." if "latency" in used else ""
    return Section(
        "Claimed and measured", [], [Table("claims", "Claims of the papers", [*head, "verdict"], rows, note)]
    )


def _classes(results: Results) -> Section:
    tables = []
    for i, column in enumerate(results.columns, 1):
        found = {row: list(results.of(row, column).values()) for row in results.rows if results.of(row, column)}
        classes = list(dict.fromkeys(name for repeats in found.values() for r in repeats for name in r.classes))
        rows = []
        for row, repeats in found.items():
            hits, support = Counter[str](), Counter[str]()
            for result in repeats:
                hits.update(dict(zip(result.classes, result.confusion.diagonal().tolist(), strict=True)))
                support.update(dict(zip(result.classes, result.confusion.sum(1).tolist(), strict=True)))
            recalls = [number(100 * hits[name] / support[name] if support[name] else None) for name in classes]
            rows.append([Entry(row), *recalls])
        if rows:
            head, note = ["system", *classes], "Of all repeats together."
            tables.append(Table(f"recall-{i}", f"Recall on {column}, %", head, rows, note))
    return Section("Recall of each class", [], tables)


def _cost(results: Results) -> Section:
    rows = []
    for row, column, found in results.places:
        speed = [float(result.line["images_per_second"]) for result in found]
        line = [Entry(row), Entry(column), number(float(found[0].line["parameters"]), 0)]
        line += [number(float(found[0].line["multiply_adds"]) / 1e6), number(float(np.mean(speed)), 0)]
        rows.append([*line, number(float(np.mean([result.seconds for result in found])), 0)])
    head = ["system", "data", "parameters", "multiply-adds, million", "test images/s", "seconds"]
    note = "Multiply-adds: for one item. Seconds: to train, with pre-training, and to test. Means over the repeats."
    if len(devices := results.facts("device")) > 1:
        note += f" The runs used different devices, so times and speeds do not compare: {', '.join(devices)}."
    return Section("Cost", [], [Table("cost", "Size, speed and time", head, rows, note)])


def _across(results: Results, metric: str) -> Section | None:
    targets = list(dict.fromkeys([*results.columns, *(test.name for test in results.suite.tests)]))
    rows = []
    for row in results.rows:
        for column in results.columns:
            found = [estimate(results.of(row, column, target), metric) for target in targets]
            if any(found):
                rows.append([Entry(row), Entry(column), *(mean_score(e.mean) if e else Entry() for e in found)])
    if not results.suite.tests or not rows:
        return None
    note = "Classes are matched by name; the notes at the end say which ones are left out. Empty: not run."
    title = f"{metric_name(metric).capitalize()} when trained on one data set and tested on each, %"
    return Section("Across data sets", [], [Table("across", title, ["system", "trained on", *targets], rows, note)])


def _robustness(results: Results, metric: str, folder: Path) -> Section | None:
    rows = []
    curves: dict[tuple[str, str], dict[str, list[float]]] = {}
    for column in results.columns:
        for kind in results.suite.corruptions:
            for row in results.rows:
                graded: list[Corruption | None] = [None, *((kind, severity) for severity in SEVERITIES)]
                found = [estimate(results.of(row, column, None, corruption), metric) for corruption in graded]
                if not any(found[1:]):
                    continue
                scores = [100 * e.mean.value if e else float("nan") for e in found]
                curves.setdefault((column, kind), {})[row] = scores
                line = [Entry(row), Entry(column), Entry(kind), *map(number, scores)]
                rows.append([*line, number(float(np.mean(scores[1:])))])
    if not rows:
        return None
    plots.save(plots.robustness(curves, results.rows, metric_name(metric)), folder / "robustness.png")
    head = ["system", "data", "corruption", "severity 0", *map(str, SEVERITIES), "mean of 1 to 5"]
    title = f"Test {metric_name(metric)}"
    table = Table("robustness", f"{title} under graded corruptions, %", head, rows)
    return Section("Robustness", [], [table], [("robustness.png", f"{title} by severity of corruption.")])


def _curves(results: Results, folder: Path) -> Section | None:
    curves: dict[str, dict[str, list[Curves]]] = {}
    for row, column, repeats in results.places:
        if found := [curve for result in repeats if (curve := read_curves(result.folder))]:
            curves.setdefault(column, {})[row] = found
    if not curves:
        return None
    plots.save(plots.learning_curves(curves, results.rows), folder / "learning_curves.png")
    caption = "Mean of the repeats that lasted to an epoch. Solid: validation; dashed: training."
    return Section("Learning curves", pictures=[("learning_curves.png", caption)])


def _provenance(results: Results) -> Section:
    notes: Counter[str] = Counter()
    versions: dict[str, dict[str, None]] = {}
    for result in results.all:
        notes.update(list(dict.fromkeys(loads(result.line["notes"]))))  # in their order, unlike a set
        for package, version in loads(result.line["versions"]).items():
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

"""``ferl bench report``: from the results of a suite to tables and a page."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markdown import Markdown

from ferlightning.bench.results import Results, collect, home_of, read_results, results_csv
from ferlightning.bench.sections import make_sections
from ferlightning.bench.suite import Shares
from ferlightning.bench.tables import Entry, Section, Table, latex, markdown, markdown_table, number, to_csv
from ferlightning.errors import FerlError
from ferlightning.files import replacing
from ferlightning.predictions import read_predictions

MISTAKES = 5
"""Listed for each system on each data set."""
WIDTH = 480
"""Pixels of a picture of where a model looked; a few dozen of them make one or two megabytes."""


def report(results: str, metric: Shares = "accuracy", pictures: bool = True) -> None:
    """Make tables and a page of what ``ferl bench run`` has done so far.

    The report has report.html, which needs no other file, report.md, report.tex, and tables/*.csv. Nothing is trained
    or tested.

    Args:
        results: the OUT of ``ferl bench run``: a folder, with the report in OUT/report; or a csv of results, X.csv,
            with the report in X/report.
        metric: that systems are compared by.
        pictures: false leaves out what shows or names single images, which a data set may not allow to publish.
    """
    try:
        import scikit_posthocs  # noqa: F401
    except ImportError:
        raise FerlError("the report needs scikit-posthocs: pip install 'ferlightning[bench]'") from None
    console, path = Console(soft_wrap=True), results_csv(Path(results))
    final = home_of(path) / "report"
    # Without cells, the csv is a copy of somebody's results.
    for problem in collect(path) if (home_of(path) / "cells").is_dir() else ():
        console.print(f"Warning: {problem}", markup=False)
    read = read_results(path)
    if final.exists() and not (final / "report.md").exists():
        raise FerlError(f"{final} exists and is not a report of ferlightning; move it")

    with replacing(final) as temporary:
        (temporary / "tables").mkdir(parents=True)
        sections = make_sections(read, metric, temporary)
        (temporary / "report.md").write_text(markdown(sections), encoding="utf-8")
        (temporary / "report.tex").write_text(latex(sections), encoding="utf-8")
        for table in (table for section in sections for table in section.tables):
            (temporary / "tables" / f"{table.name}.csv").write_text(to_csv(table), encoding="utf-8")
        (temporary / "report.html").write_text(_page(sections, read, temporary, pictures), encoding="utf-8")

    console.print(f"{sections[0].title}: {sections[0].tables[0].title}", markup=False)
    console.print(Markdown(markdown_table(sections[0].tables[0])))
    console.print(f"Report: {final / 'report.html'}", markup=False)


def _page(sections: list[Section], results: Results, folder: Path, pictures: bool) -> str:
    """The page as HTML: all sections, and what only a page has room for. It needs no other file."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["inline"] = lambda file: base64.b64encode((folder / file).read_bytes()).decode()
    template = environment.from_string(Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8"))
    return template.render(
        sections=sections,
        confusions=_confusions(results),
        mistakes=_mistakes(results) if pictures else None,
        overlays=_overlays(results) if pictures else [],
        pictures=pictures,
    )


def _confusions(results: Results) -> list[dict[str, Any]]:
    """Title, names of classes, counts (K, K) with true classes in rows, and these in percent of the true class."""
    made = []
    for row, column, found in results.places:
        counts = np.sum([result.confusion for result in found], 0)
        shares = np.round(100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)).astype(int)
        made.append({"title": f"{row} on {column}", "classes": found[0].classes, "counts": counts, "shares": shares})
    return made


def _mistakes(results: Results) -> Table:
    rows = []
    for row, column, found in results.places:
        wrong = [item for item in read_predictions(found[0].folder / "report") if item.label != item.prediction]
        for name, true, predicted, confidence in sorted(wrong, key=lambda item: -item.confidence)[:MISTAKES]:
            rows.append([*map(Entry, (row, column, name, true, predicted)), number(100 * confidence, 1)])
    head = ["system", "data", "image", "true", "predicted", "confidence, %"]
    return Table("mistakes", "Most confident mistakes", head, rows, "Of the first repeat.")


def _overlays(results: Results) -> list[tuple[str, str]]:
    """Caption and base64 of the pictures of where the models of the first repeats looked."""
    from PIL import Image

    made = []
    for row, column, found in results.places:
        path = found[0].folder / "report" / "attention.png"
        if path.is_file():
            image, code = Image.open(path).convert("RGB"), io.BytesIO()
            image.thumbnail((WIDTH, 10 * WIDTH))
            image.save(code, "JPEG", quality=75)
            made.append((f"{row} on {column}", base64.b64encode(code.getvalue()).decode()))
    return made

"""``ferl bench report``: from the folder of a run to tables and a page."""

import shutil
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table as TerminalTable

from ferlightning.bench.tables import Table, latex, markdown, to_csv
from ferlightning.errors import FerlError

Metric = Literal[
    "accuracy", "balanced_accuracy", "macro_f1", "macro_precision", "weighted_f1", "weighted_precision"
]  # what a confusion matrix determines


def report(out: list[str], metric: Metric = "accuracy", pictures: bool = True) -> None:
    """Make tables and a page of what ``ferl bench run`` has done so far, into OUT/report.

    These are report.html, which needs no other file, report.md, report.tex, and tables/*.csv. Nothing is trained or
    tested. OUT/comparisons.json keeps what the tests of pairs need, for when predictions.csv is not at hand.

    Args:
        out: folders of ``ferl bench run``; each gets a report of its own.
        metric: that systems are compared by.
        pictures: false leaves out of the page what shows or names single images, as data sets may not be published.
    """
    for folder in map(Path, out):
        _report(folder, metric, pictures)


def _report(folder: Path, metric: Metric, pictures: bool) -> None:
    try:
        import scikit_posthocs  # noqa: F401
    except ImportError:
        raise FerlError("the report needs scikit-posthocs: pip install 'ferlightning[bench]'") from None
    from ferlightning.bench.page import make_page
    from ferlightning.bench.results import read_results
    from ferlightning.bench.sections import make_sections

    results = read_results(folder)
    final = folder / "report"
    if final.exists() and not (final / "report.md").exists():
        raise FerlError(f"{final} exists and is not a report of ferlightning. Move it.")

    # Written beside and renamed, so that an interruption leaves the old report or the new one, never half of one.
    temporary = folder / ".report.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    (temporary / "tables").mkdir(parents=True)
    sections = make_sections(results, metric, temporary)
    (temporary / "report.md").write_text(markdown(sections), encoding="utf-8")
    (temporary / "report.tex").write_text(latex(sections), encoding="utf-8")
    for table in (table for section in sections for table in section.tables):
        (temporary / "tables" / f"{table.name}.csv").write_text(to_csv(table), encoding="utf-8")
    (temporary / "report.html").write_text(make_page(sections, results, temporary, pictures), encoding="utf-8")
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)

    console = Console()
    console.print(_terminal(sections[0].tables[0]))
    console.print(f"Report: {final / 'report.html'}", markup=False, soft_wrap=True)


def _terminal(table: Table) -> TerminalTable:
    shown = TerminalTable(title=escape(table.title), title_justify="left")
    for i, head in enumerate(table.head):
        shown.add_column(escape(head), justify="right" if i else "left")
    for row in table.rows:
        shown.add_row(*(escape(entry.text) for entry in row))
    return shown

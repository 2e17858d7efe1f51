"""``ferl bench report``: from the results of a suite to tables and a page."""

import shutil
from pathlib import Path
from typing import Literal

from ferlightning.errors import FerlError

Metric = Literal[
    "accuracy", "balanced_accuracy", "macro_f1", "macro_precision", "weighted_f1", "weighted_precision"
]  # those that a confusion matrix determines


def report(results: str, metric: Metric = "accuracy", pictures: bool = True) -> None:
    """Make tables and a page of what ``ferl bench run`` has done so far.

    The report has report.html, which needs no other file, report.md, report.tex, and tables/*.csv. Nothing is trained
    or tested.

    Args:
        results: a folder of ``ferl bench run``, OUT, with the report in OUT/report; or a csv of results, X.csv, with
            the report in X/report.
        metric: that systems are compared by.
        pictures: false leaves out what shows or names single images, which a data set may not allow to publish.
    """
    try:
        import scikit_posthocs  # noqa: F401
    except ImportError:
        raise FerlError("the report needs scikit-posthocs: pip install 'ferlightning[bench]'") from None
    # Imported late: they load matplotlib and SciPy.
    from rich.console import Console

    from ferlightning.bench.collect import collect
    from ferlightning.bench.page import make_page
    from ferlightning.bench.results import read_results
    from ferlightning.bench.sections import make_sections
    from ferlightning.bench.tables import latex, markdown, terminal, to_csv

    console, path = Console(soft_wrap=True), Path(results)
    if path.is_dir():
        for problem in collect(path):
            console.print(f"Warning: {problem}", markup=False)
        final, path = path / "report", path / "results.csv"
    else:
        final = path.with_suffix("") / "report"
    read = read_results(path)
    if final.exists() and not (final / "report.md").exists():
        raise FerlError(f"{final} exists and is not a report of ferlightning; move it")

    # Written beside it and renamed, so that an interruption leaves the old report or the new one, never half of one.
    temporary = final.with_name(".report.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    (temporary / "tables").mkdir(parents=True)
    sections = make_sections(read, metric, temporary)
    (temporary / "report.md").write_text(markdown(sections), encoding="utf-8")
    (temporary / "report.tex").write_text(latex(sections), encoding="utf-8")
    for table in (table for section in sections for table in section.tables):
        (temporary / "tables" / f"{table.name}.csv").write_text(to_csv(table), encoding="utf-8")
    (temporary / "report.html").write_text(make_page(sections, read, temporary, pictures), encoding="utf-8")
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)

    console.print(terminal(sections[0].tables[0]))
    console.print(f"Report: {final / 'report.html'}", markup=False)

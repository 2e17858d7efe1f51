"""Writes benchmarks/results/README.md from the results beside it: ``python benchmarks/results_readme.py``.

X.csv and X.yaml are what ``ferl bench run`` wrote; X.md says in words what the table shows. The README has the
beginning of each report, up to the claims, and what corruptions cost.
"""

import shutil
from itertools import takewhile
from pathlib import Path
from textwrap import fill

from ferlightning.bench.report import report
from ferlightning.bench.sections import ABOUT_INTERVALS

RESULTS = Path(__file__).parent / "results"
END = "Recall of each class\n"
"""The first section of a report that the README leaves out."""
CORRUPTED = "Robustness\n"
"""One after it that it has."""

HEAD = f"""# Results

What was really run; what was not run stays empty. `X.csv` has a line for each report of each trained model: scores with
intervals, confusion counts, where they come from, and for each system its resolved configuration; `{{cell}}` stands for
the folder of the cell. `X.yaml` is the suite.
The whole report, with a page and with the tables as LaTeX and CSV, comes from

    ferl bench report benchmarks/results/X.csv

Single measurements (speed, audits, the denoising autoencoder, single trainings) are in the [lab book](lab_book.md).

{fill(ABOUT_INTERVALS, 120)}

Written by `benchmarks/results_readme.py`: change the results or their `X.md`, not this file.
"""


def readme(results: Path) -> str:
    """Report on every suite of a folder, and make the text of its README and the pictures X.png that it shows."""
    parts = [HEAD]
    for path in sorted(path.with_suffix(".csv") for path in results.glob("*.yaml")):
        report(str(path), pictures=False)
        made = path.with_suffix("") / "report"
        first, *sections = (made / "report.md").read_text("utf-8").removeprefix("# ").split("\n## ")
        shown = [*takewhile(lambda text: not text.startswith(END), sections)]
        shown += [text for text in sections if text.startswith(CORRUPTED)]
        title, tables = "\n### ".join([first, *shown]).split("\n", 1)
        for picture, name in (("robustness.png", f"{path.stem}_corrupted.png"), ("scores.png", f"{path.stem}.png")):
            if f"]({picture}" in tables:
                shutil.copy(made / picture, path.with_name(name))
                tables = tables.replace(f"]({picture}", f"]({name}")
        tables = "\n\n".join(text for text in tables.split("\n\n") if not text.startswith("Intervals are at"))
        reading = path.with_suffix(".md").read_text("utf-8").strip()
        parts.append(f"## {title}\n\n{reading}\n{tables.rstrip()}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    (RESULTS / "README.md").write_text(readme(RESULTS), encoding="utf-8")

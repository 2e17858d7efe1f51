"""Writes benchmarks/results/README.md from the results beside it: ``python benchmarks/results_readme.py``.

X.csv and X.yaml are what ``ferl bench run`` wrote; X.md says in words what the table shows. The README has the
beginning of each report, up to the claims.
"""

import shutil
from pathlib import Path
from textwrap import fill

from ferlightning.bench.report import report
from ferlightning.bench.sections import ABOUT_INTERVALS

RESULTS = Path(__file__).parent / "results"
END = "\n## Recall of each class\n"
"""The first section of a report that the README leaves out."""

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
        shutil.copy(made / "scores.png", path.with_suffix(".png"))
        title, tables = (made / "report.md").read_text("utf-8").split(END)[0].removeprefix("# ").split("\n", 1)
        tables = tables.replace("\n## ", "\n### ").replace("](scores.png", f"]({path.stem}.png")
        tables = "\n\n".join(text for text in tables.split("\n\n") if not text.startswith("Intervals are at"))
        reading = path.with_suffix(".md").read_text("utf-8").strip()
        parts.append(f"## {title}\n\n{reading}\n{tables.rstrip()}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    (RESULTS / "README.md").write_text(readme(RESULTS), encoding="utf-8")

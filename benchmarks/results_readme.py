"""Writes benchmarks/results/README.md from the results beside it: ``python benchmarks/results_readme.py``.

A folder there is one of ``ferl bench run``, without weights and images, and holds a reading.md: what its table says, in
words. Its report is made anew; the README has the report's beginning, up to the claims. What single scripts measured is
in lab_book.md, written by hand.
"""

from pathlib import Path

from ferlightning.cli.main import main

RESULTS = Path(__file__).parent / "results"
END = "\n## Recall of each class\n"
"""The first section of a report that the README leaves to it."""

HEAD = """# Results

What was really run; what was not stays empty. Each folder is what `ferl bench run SUITE --out=FOLDER` leaves, without
weights, pictures and names of images: `metrics.json` of a cell has its provenance, `metrics.csv` its training. Run
again with the same `--out`, a suite goes on where it ended. Single measurements (speed, audits, the denoising
autoencoder, single trainings) are in the [lab book](lab_book.md). `ferl bench report FOLDER` makes the page, and the
tables as LaTeX and CSV.

Written by `benchmarks/results_readme.py`: change the results or their `reading.md`, not this file.
"""


def readme(results: Path) -> str:
    """Reports on every suite of a folder, and the text of its README."""
    parts = [HEAD]
    for folder in sorted(path.parent for path in results.glob("*/suite.yaml")):
        main(["bench", "report", str(folder), "--pictures=false"])
        report = (folder / "report" / "report.md").read_text("utf-8").split(END)[0]
        title, tables = report.removeprefix("# ").split("\n", 1)
        tables = tables.replace("\n## ", "\n### ").replace("](", f"]({folder.name}/report/")
        reading = (folder / "reading.md").read_text("utf-8").strip()
        parts.append(f"## {title}\n\n{reading}\n{tables.rstrip()}\n\n[Whole report]({folder.name}/report/report.md)\n")
    return "\n".join(parts)


if __name__ == "__main__":
    (RESULTS / "README.md").write_text(readme(RESULTS), encoding="utf-8")

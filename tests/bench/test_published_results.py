"""The committed results: their README is made of them, and no place of a machine is among them."""

import re
import shutil
from pathlib import Path

from benchmarks.results_readme import RESULTS, readme


def test_the_readme_is_made_of_the_results(tmp_path: Path) -> None:
    made = readme(shutil.copytree(RESULTS, tmp_path / "results"))
    assert made == (RESULTS / "README.md").read_text("utf-8"), "run python benchmarks/results_readme.py"


def test_no_published_cell_names_a_place_of_a_machine() -> None:
    cells = [path for name in ("metrics.json", "step.json") for path in RESULTS.glob(f"*/cells/**/{name}")]
    assert cells
    assert [path for path in cells if re.search('["=]/', path.read_text("utf-8"))] == []

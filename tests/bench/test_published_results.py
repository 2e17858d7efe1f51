"""The committed results: their README is made of them, and they name no place of a machine."""

import re
import shutil
from pathlib import Path

from benchmarks.results_readme import RESULTS, readme


def test_the_readme_is_made_of_the_results(tmp_path: Path) -> None:
    copy = shutil.copytree(
        RESULTS, tmp_path / "results", ignore=lambda at, names: [n for n in names if Path(at, n).is_dir()]
    )
    assert readme(copy) == (RESULTS / "README.md").read_text("utf-8"), "run python benchmarks/results_readme.py"


def test_published_results_name_no_place_of_a_machine() -> None:
    paths = sorted(RESULTS.glob("*.csv"))
    assert paths
    assert [path for path in paths if re.search('["=]/', path.read_text("utf-8"))] == []

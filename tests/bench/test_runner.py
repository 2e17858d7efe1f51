"""``ferl bench run``: cells end up the same however they were interrupted, and one that fails stops no other."""

import csv
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from ferlightning.cli.main import main
from tests.bench.written import finish_all, start, suite_of

TINY = ["--data=SyntheticFaces", "--data.items_per_class=6", "--data.subjects=5", "--data.batch_size=16"]
TINY += ["--model.backbone=ConvStack", "--model.backbone.channels=[4]", "--model.backbone.depth=1"]
TINY += ["--trainer.accelerator=cpu", "--trainer.precision=32-true"]
SECONDS = 240
"""Longer than any cell here takes, on a machine with other jobs."""


def small(folder: Path, **changes: Any) -> Path:
    """Two systems on drawn faces, one epoch."""
    rows = [{"name": "A", "args": TINY}, {"name": "B", "args": [*TINY, "--model.attention=AdditiveAttention"]}]
    suite = {"title": "Small", "rows": rows, "columns": [{"name": "Drawn"}], "seeds": [1]}
    suite["budgets"] = {"cpu": {"args": ["--trainer.max_epochs=1"]}}
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(suite | changes))
    return path


def run(suite: Path, out: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "ferlightning", "bench", "run", str(suite), "--budget=cpu", f"--out={out}", *words]


def wait_for(path: Path) -> None:
    until = time.monotonic() + SECONDS
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.05)


def numbers(out: Path) -> dict[str, Any]:
    """What the table is made of: every report, without where and when it was made."""
    return {
        str(path.relative_to(out)): {k: v for k, v in json.loads(path.read_text()).items() if k != "provenance"}
        for path in sorted(out.glob("cells/**/report/metrics.json"))
    }


def test_a_failed_cell_is_recorded_and_the_rest_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = {"name": "broken", "args": ["--config=none.yaml"]}
    suite, out = small(tmp_path, rows=[broken, {"name": "A", "args": TINY}]), tmp_path / "out"
    words = ["bench", "run", str(suite), "--budget=cpu", f"--out={out}"]
    with pytest.raises(SystemExit):
        main(words)
    assert "1 of 2 cells failed" in capsys.readouterr().err
    assert "none.yaml" in (out / "cells" / "broken" / "Drawn" / "seed-1" / "failed.txt").read_text()
    with (out / "results.csv").open(newline="") as file:
        failed, val, test = csv.DictReader(file)
    assert failed["system"] == "broken" and "none.yaml" in failed["error"] and failed["accuracy"] == ""
    report = json.loads((out / "cells" / "A" / "Drawn" / "seed-1" / "main" / "report" / "metrics.json").read_text())
    assert (test["system"], test["split"], val["split"]) == ("A", "test", "val")
    assert float(test["accuracy"]) == pytest.approx(report["metrics"]["accuracy"]["value"], abs=1e-8)
    assert shlex.split(report["provenance"]["command"])[:2] == ["ferl", "fit"]
    assert json.loads(val["configuration"])["trainer"]["max_epochs"] == 1

    with pytest.raises(SystemExit):
        main([*words, '--only=["x*"]'])
    assert "cells have names such as broken/Drawn/seed-1" in capsys.readouterr().err


def test_results_of_other_arguments_are_not_mixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, suite = tmp_path / "out", suite_of(["A"], ["X"])
    finish_all(start(out, suite), {"A": 0.5})
    suite["budgets"]["cpu"]["args"] = ["--trainer.max_epochs=2"]
    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump(suite))
    with pytest.raises(SystemExit):
        main(["bench", "run", str(path), "--budget=cpu", f"--out={out}"])
    assert "made with other arguments" in capsys.readouterr().err


@pytest.mark.slow
def test_killed_in_a_cell_and_started_again_gives_the_same_table(tmp_path: Path) -> None:
    suite = small(tmp_path)
    subprocess.run(run(suite, tmp_path / "whole"), check=True)
    whole = numbers(tmp_path / "whole")
    assert len(whole) == 2

    process = subprocess.Popen(run(suite, tmp_path / "killed"))
    wait_for(tmp_path / "killed" / "cells" / "B" / "Drawn" / "seed-1" / "main" / "metrics.csv")
    process.send_signal(signal.SIGKILL)
    process.wait()
    first = tmp_path / "killed" / "cells" / "A" / "Drawn" / "seed-1" / "main" / "step.json"
    before = first.stat().st_mtime_ns
    assert len(numbers(tmp_path / "killed")) == 1, "killed within the second cell"

    again = subprocess.run(run(suite, tmp_path / "killed"), check=True, capture_output=True, text=True)
    assert "2 cells, 1 done" in again.stdout
    assert numbers(tmp_path / "killed") == whole
    assert first.stat().st_mtime_ns == before, "what was done is not done again"


@pytest.mark.slow
def test_two_runs_share_a_folder_and_a_cell_dies_with_its_run(tmp_path: Path) -> None:
    suite, out = small(tmp_path, budgets={"cpu": {"args": ["--trainer.max_epochs=1000"]}}), tmp_path / "out"
    log = out / "cells" / "A" / "Drawn" / "seed-1" / "main" / "metrics.csv"
    first = subprocess.Popen(run(suite, out))
    try:
        wait_for(log)
        (log.parent / "mark").touch()
        second = subprocess.run(
            run(suite, out, "--only=A/*"), capture_output=True, text=True, check=True, timeout=SECONDS
        )
        assert "A/Drawn/seed-1: skipped, another run is working on it" in second.stdout
        assert (log.parent / "mark").exists() and first.poll() is None, "the first goes on as if there were no second"
        children = [task / "children" for task in Path(f"/proc/{first.pid}/task").glob("*")]
        pids = [pid for path in children if path.exists() for pid in path.read_text().split()]
    finally:
        first.kill()
        first.wait()
    if not children:
        pytest.skip("needs Linux's /proc to find the child")
    assert pids
    until = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["--workers=2", "--ray=local"])
def test_cells_run_side_by_side(tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # other numbers of threads add in another order
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    suite = small(tmp_path)
    for out, more in (("one", []), ("two", [how])):
        main(["bench", "run", str(suite), "--budget=cpu", f"--out={tmp_path}/{out}", *more])
    assert numbers(tmp_path / "two") == numbers(tmp_path / "one")
    assert len(numbers(tmp_path / "two")) == 2

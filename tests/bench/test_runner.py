"""``ferl bench run``: cells end up the same however they were interrupted, and one that fails stops no other."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from ferlightning.cli.main import main

SMOKE = Path(__file__).parents[2] / "benchmarks" / "suites" / "smoke.yaml"
pytestmark = pytest.mark.slow


def small(folder: Path, **changes: Any) -> Path:
    """The smoke suite with two rows and one seed; paths are those of this checkout."""
    text = SMOKE.read_text().replace("--config=configs", f"--config={SMOKE.parents[2]}/configs")
    suite = yaml.safe_load(text)
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(suite | {"rows": suite["rows"][:2], "seeds": [1]} | changes))
    return path


def numbers(out: Path) -> dict[str, Any]:
    """What the table is made of: every report, without where and when it was made."""
    return {
        str(path.relative_to(out)): {k: v for k, v in json.loads(path.read_text()).items() if k != "provenance"}
        for path in sorted(out.glob("cells/**/report/metrics.json"))
    }


def test_killed_in_a_cell_and_started_again_gives_the_same_table(tmp_path: Path) -> None:
    suite = small(tmp_path)
    command = [sys.executable, "-m", "ferlightning", "bench", "run", str(suite), "--budget=cpu"]
    subprocess.run([*command, f"--out={tmp_path}/whole"], check=True)
    whole = numbers(tmp_path / "whole")
    assert len(whole) == 2

    process = subprocess.Popen([*command, f"--out={tmp_path}/killed"])
    second = tmp_path / "killed" / "cells" / "without_BiLSTM" / "Drawn" / "seed-1" / "main" / "metrics.csv"
    until = time.monotonic() + 240
    while not second.exists() and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    first = tmp_path / "killed" / "cells" / "CNN-BiLSTM" / "Drawn" / "seed-1" / "main" / "step.json"
    before = first.stat().st_mtime_ns
    assert len(numbers(tmp_path / "killed")) == 1, "killed within the second cell"

    again = subprocess.run([*command, f"--out={tmp_path}/killed"], check=True, capture_output=True, text=True)
    assert "2 cells, 1 done" in again.stdout
    assert numbers(tmp_path / "killed") == whole
    assert first.stat().st_mtime_ns == before, "what was done is not done again"


def test_two_runs_on_one_folder_share_its_cells(tmp_path: Path) -> None:
    suite = small(tmp_path, budgets={"cpu": {"args": ["--trainer.max_epochs=1000"]}})
    out = tmp_path / "out"
    command = [sys.executable, "-m", "ferlightning", "bench", "run", str(suite), "--budget=cpu", f"--out={out}"]
    log = out / "cells" / "CNN-BiLSTM" / "Drawn" / "seed-1" / "main" / "metrics.csv"
    first = subprocess.Popen(command)
    try:
        until = time.monotonic() + 240
        while not log.exists() and time.monotonic() < until:
            time.sleep(0.05)
        (log.parent / "mark").touch()
        words = [*command, "--only=CNN-BiLSTM/*"]
        second = subprocess.run(words, capture_output=True, text=True, check=True, timeout=240)
        assert "CNN-BiLSTM/Drawn/seed-1: left out, another run is at it" in second.stdout
        assert (log.parent / "mark").exists() and first.poll() is None, "the first goes on as if there were no second"
    finally:
        first.kill()
        first.wait()


def test_a_cell_dies_with_the_command_that_started_it(tmp_path: Path) -> None:
    suite = small(tmp_path, budgets={"cpu": {"args": ["--trainer.max_epochs=1000"]}})
    process = subprocess.Popen(
        [sys.executable, "-m", "ferlightning", "bench", "run", str(suite), "--budget=cpu", f"--out={tmp_path}/out"]
    )
    log = tmp_path / "out" / "cells" / "CNN-BiLSTM" / "Drawn" / "seed-1" / "main" / "metrics.csv"
    until = time.monotonic() + 240
    while not log.exists() and time.monotonic() < until:
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        process.kill()
        pytest.skip("needs Linux's /proc to find the child")
    pids = [
        int(pid)
        for task in Path(f"/proc/{process.pid}/task").iterdir()
        for pid in (task / "children").read_text().split()
    ]
    assert pids
    process.kill()
    process.wait()
    until = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_failed_cell_is_recorded_and_the_rest_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = yaml.safe_load(small(tmp_path).read_text())["rows"]
    broken = {"name": "broken", "args": [*rows[0]["args"], "--model.backbone.channels=[]"]}
    whole = rows[1] | {"ablates": None}
    suite = small(tmp_path, rows=[broken, whole])
    words = ["bench", "run", str(suite), "--budget=cpu", f"--out={tmp_path}/out"]
    with pytest.raises(SystemExit):
        main(words)
    assert "1 of 2 cells failed" in capsys.readouterr().err
    assert len(numbers(tmp_path / "out")) == 1
    failed = tmp_path / "out" / "cells" / "broken" / "Drawn" / "seed-1" / "failed.txt"
    assert "channels" in failed.read_text()

    with pytest.raises(SystemExit):
        main([*words, '--only=["x*"]'])
    assert "a cell is named as broken/Drawn/seed-1" in capsys.readouterr().err
    small(tmp_path, rows=[broken | {"args": rows[0]["args"]}, whole])
    main([*words, "--only=broken/*"])
    assert not failed.exists()
    assert len(numbers(tmp_path / "out")) == 2


def test_results_of_other_arguments_are_not_mixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "run", str(small(tmp_path)), "--budget=cpu", f"--out={tmp_path}/out"]
    main([*words, "--limit_cells=1"])
    assert len(numbers(tmp_path / "out")) == 1
    small(tmp_path, budgets={"cpu": {"args": ["--trainer.max_epochs=2"]}})
    with pytest.raises(SystemExit):
        main(words)
    assert "made with other arguments" in capsys.readouterr().err


@pytest.mark.parametrize("how", ["--workers=2", "--ray=local"])
def test_cells_run_side_by_side(tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # sums are of another order with other numbers of threads
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    suite = small(tmp_path)
    for out, more in (("one", []), ("two", [how])):
        main(["bench", "run", str(suite), "--budget=cpu", f"--out={tmp_path}/{out}", *more])
    assert numbers(tmp_path / "two") == numbers(tmp_path / "one")
    assert len(numbers(tmp_path / "two")) == 2

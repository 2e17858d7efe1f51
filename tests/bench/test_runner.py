"""``ferl bench run``: cells end up the same however they were interrupted, and one that fails stops no other."""

import contextlib
import csv
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from ferlightning.bench.cell import converged, resumed
from ferlightning.bench.results import collect, read_lines
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


def children(process: "subprocess.Popen[Any]") -> list[int]:
    """The processes that one has started and that still run."""
    tasks = [task / "children" for task in Path(f"/proc/{process.pid}/task").glob("*")]
    if not tasks:
        pytest.skip("needs Linux's /proc to find the child")
    return [int(pid) for path in tasks if path.exists() for pid in path.read_text().split()]


TIMES = ("step_seconds", "evaluation_seconds", "images_per_second")


def numbers(csv_file: Path) -> list[dict[str, str]]:
    """The lines of a csv without what the clock has measured."""
    with csv_file.open(newline="") as file:
        return [{name: value for name, value in line.items() if name not in TIMES} for line in csv.DictReader(file)]


@pytest.mark.parametrize("only", ["B/*", "B b/*", '["B b/*", "A*"]'])
def test_the_command_that_goes_on_runs_the_same_cells(
    only: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"name": name, "args": TINY} for name in ("A", "B", "B b")]
    suite = small(tmp_path, rows=rows)
    main(["bench", "run", str(suite), "--budget=cpu", "--minutes=0", f"--only={only}"])
    said = capsys.readouterr().out
    again = shlex.split(" ".join(said.partition("Go on with: ")[2].split()))
    main(again[1:])
    assert capsys.readouterr().out.partition("done.")[0] == said.partition("done.")[0] and "cells, 0" in said


@pytest.mark.slow
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


def test_what_the_csv_knows_is_not_run_again_and_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = suite_of(["A"], ["X"]) | {"seeds": [1, 2]}
    finish_all(start(tmp_path / "elsewhere", suite), {"A": 0.5})
    collect(tmp_path / "elsewhere" / "results.csv")
    path, out = tmp_path / "suite.yaml", tmp_path / "ours.csv"
    shutil.copy(tmp_path / "elsewhere" / "results.csv", out)
    before = out.read_bytes()

    def bench(*words: str, **changes: Any) -> str:
        path.write_text(yaml.safe_dump(suite | changes))
        with contextlib.suppress(SystemExit):
            main(["bench", "run", str(path), "--budget=cpu", f"--out={out}", "--minutes=0", *words])
        shown = capsys.readouterr()
        return shown.out + shown.err

    assert "2 cells, 2 done" in bench() and out.read_bytes() == before
    said = bench(seeds=[1, 2, 3])
    assert "3 cells, 2 done" in said and f"ferl bench run {path} --out={out} --budget=cpu --minutes=0" in said
    assert out.read_bytes() == before and not (tmp_path / "ours").exists()
    assert "A/X/2/main is not in the suite" in bench(seeds=[1])
    assert "A/X/1/main was made with other arguments" in bench(budgets={"cpu": {"args": ["--trainer.max_epochs=2"]}})
    assert out.read_bytes() == before
    assert "--redo: " in bench("--redo=B/*") and out.read_bytes() == before
    said = bench("--redo=*/seed-1", rows=[{"name": "A", "args": ["--trainer.max_epochs=2"]}], seeds=[1])
    assert "A/X/2/main is not in the suite" in said and out.read_bytes() == before
    assert "2 cells, 1 done" in bench("--redo=*/seed-1") and "redo" not in bench()
    assert {line["seed"] for line in read_lines(out)} == {"2"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"corruptions": ["GausianBlur"]}, "corruptions: data.corrupt: there is no part called 'GausianBlur' (did you"),
        ({"tests": [{"name": "own", "args": ["--data=ImageFolder", "--data.root=nowhere"]}]}, "tests, own: data.root:"),
        ({"tests": [{"name": "own", "args": ["--data.draw_sed=3"]}]}, "tests, own: data has no option 'draw_sed'"),
    ],
)
def test_a_test_that_cannot_work_is_told_before_anything_is_trained(
    changes: dict[str, Any], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump(suite_of(["A"], ["X"]) | changes))
    with pytest.raises(SystemExit, match="2"):
        main(["bench", "run", str(path), "--budget=cpu", f"--out={tmp_path}/out"])
    assert f"{path}: {said}" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_results_of_other_arguments_are_not_mixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, suite = tmp_path / "out", suite_of(["A"], ["X"])
    finish_all(start(out, suite), {"A": 0.5})
    suite["budgets"]["cpu"]["args"] = ["--trainer.max_epochs=2"]
    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump(suite))
    with pytest.raises(SystemExit):
        main(["bench", "run", str(path), "--budget=cpu", f"--out={out}"])
    assert "made with other arguments" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wait", "rate", "said"), [(2, 1.0, True), (1, 1.0, False), (0, 0.01, True), (0, 0.02, False), (0, 0.0, True)]
)
def test_a_training_came_to_its_end_if_early_stopping_fired_or_its_rate_decayed(
    tmp_path: Path, wait: int, rate: float, said: bool
) -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: rate)
    stored = {"state_dict": {"weight": weight.data}, "optimizer_states": [optimizer.state_dict()]}
    stored["callbacks"] = {"EarlyStopping{'monitor': 'val/loss'}": {"wait_count": wait, "patience": 2}}
    torch.save(stored, tmp_path / "last.ckpt")
    assert converged(tmp_path / "last.ckpt") is said


def test_a_resumed_training_is_told_no_more_than_the_places() -> None:
    words = [
        "fit",
        "--config",
        "a.yaml",
        "--trainer.callbacks+=EarlyStopping",
        "--model.init_from",
        "{cell}/pretrain/b",
    ]
    words += ["--test_after_fit=true", "--trainer.default_root_dir={cell}/main"]
    assert resumed("main", words) == [
        "fit", "--ckpt_path={cell}/main/checkpoints/last.ckpt", "--model.init_from", "{cell}/pretrain/b",
        "--trainer.default_root_dir={cell}/main", "--test_after_fit=true",
    ]  # fmt: skip


@pytest.mark.slow
def test_stopped_killed_and_continued_elsewhere_gives_the_same_csv(tmp_path: Path) -> None:
    """A dies with its run, B is stopped twice; what goes elsewhere is the csv, which knows A, and the folder of B."""
    schedule = ["--model.scheduler=CosineAnnealingLR", "--model.scheduler.T_max=40", "--trainer.max_epochs=40"]
    suite = small(tmp_path, budgets={"cpu": {"args": schedule}})
    here, there, place = tmp_path / "here", tmp_path / "there.csv", Path("cells", "{}", "Drawn", "seed-1")
    subprocess.run(run(suite, tmp_path / "whole"), check=True)
    whole = numbers(tmp_path / "whole" / "results.csv")
    assert [(line["system"], line["split"], line["converged"]) for line in whole] == [
        ("A", "val", "True"), ("A", "test", "True"), ("B", "val", "True"), ("B", "test", "True"),
    ]  # fmt: skip

    def interrupt(cell: str, how: signal.Signals) -> tuple[int, str]:
        """Run until the cell has a checkpoint to go on from, newer than the one it may have already."""
        last = here / str(place).format(cell) / "main" / "checkpoints" / "last.ckpt"
        before = last.stat().st_mtime_ns if last.exists() else 0
        process = subprocess.Popen(run(suite, here), stdout=subprocess.PIPE, text=True)
        until = time.monotonic() + SECONDS
        while (last.stat().st_mtime_ns if last.exists() else 0) == before and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(how)
        out, _ = process.communicate(timeout=SECONDS)
        assert not (here / str(place).format(cell) / "main" / "report").exists(), "interrupted before its end"
        return process.returncode, out

    interrupt("A", signal.SIGKILL)
    for how in (signal.SIGTERM, signal.SIGINT):
        status, said = interrupt("B", how)
        assert status == 128 + how and "1 of 2 cells are done, 1 left" in said
        assert f"Go on with: ferl bench run {suite} --out={here} --budget=cpu" in said
    spent = json.loads((here / str(place).format("B") / "main" / "step.json").read_text())["spent"]
    assert spent > 0, "what went into the first part counts"

    ended = subprocess.run(run(suite, here, "--minutes=0"), check=True, capture_output=True, text=True)
    assert "1 of 2 cells are done, 1 left" in ended.stdout
    shutil.copy(here / "results.csv", there)
    shutil.copytree(here / str(place).format("B"), tmp_path / "there" / str(place).format("B"))
    ended = subprocess.run(run(suite, there), check=True, capture_output=True, text=True)
    assert "2 cells, 1 done" in ended.stdout and "Go on" not in ended.stdout
    assert not (tmp_path / "there" / "cells" / "A").exists()
    assert numbers(there) == whole


@pytest.mark.slow
def test_a_cell_that_a_signal_ends_failed_and_the_next_one_runs(tmp_path: Path) -> None:
    """Run again, it goes on from its checkpoint."""
    suite, out = small(tmp_path, budgets={"cpu": {"args": ["--trainer.max_epochs=40"]}}), tmp_path / "out"
    folder = out / "cells/A/Drawn/seed-1"
    process = subprocess.Popen(run(suite, out), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(folder / "main/checkpoints/last.ckpt")
    (cell,) = children(process)
    os.kill(cell, signal.SIGTERM)
    said, error = process.communicate(timeout=SECONDS)
    assert process.returncode == 2 and "1 of 2 cells failed" in error
    assert "B/Drawn/seed-1: accuracy" in said and "exit status 143" in (folder / "failed.txt").read_text()
    lines = numbers(out / "results.csv")
    assert [(line["system"], bool(line["error"]), bool(line["accuracy"])) for line in lines] == [
        ("A", True, False), ("B", False, True), ("B", False, True),
    ]  # fmt: skip
    subprocess.run(run(suite, out, "--only=A/*"), check=True, timeout=SECONDS)
    lines = numbers(out / "results.csv")
    assert len(lines) == 4 and not any(line.get("error") for line in lines)
    assert json.loads((folder / "main/step.json").read_text())["spent"] > 0


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
        pids = children(first)
    finally:
        first.kill()
        first.wait()
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
    one, two = (numbers(tmp_path / out / "results.csv") for out in ("one", "two"))
    assert two == one and len(two) == 4

"""A search runs what its file says, and survives what happens to its workers."""

import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import product
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest

from ferlightning.cli.main import main
from ferlightning.sweep.file import read
from ferlightning.sweep.report import table
from ferlightning.sweep.search import Search
from tests.conftest import SMALL, TINY
from tests.sweep.test_file import ROOT
from tests.sweep.test_file import write as write_to

STAND_IN = """
import os, pathlib, signal, sys, time
words = dict(word.removeprefix("--").split("=", 1) for word in sys.argv[1:])
x, y = float(words["x"]), words["y"]
with open("started.txt", "a") as file:
    file.write(f"{os.getppid()} {os.getpid()} {x:g} {y}\\n")
print("trains with", x, y, os.environ["WANDB_MODE"])
if y == "bad":
    sys.exit("no such y")
folder = pathlib.Path(words["trainer.default_root_dir"])
for epoch in range(6):
    with (folder / "metrics.csv").open("a") as file:
        if epoch == 0:
            file.write("epoch,step,train/loss,val/accuracy\\n")
        file.write(f"{epoch},{epoch},0.5,\\n{epoch},{epoch},,{x - abs(epoch - 4)}\\n")
    time.sleep(float(words.get("pause", 0)))
if y == "resumed":
    (folder / "metrics.csv").rename(folder / "metrics.001.csv")
if y.startswith("SIG"):
    os.kill(os.getpid(), getattr(signal, y))
if y == "waits" and x < 5:
    time.sleep(600)
"""
"""A program that trains like ``ferl fit`` and takes no time: its accuracy is x - 4, ..., x - 1, x, x - 1."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WANDB_MODE")
    Path("stand_in.py").write_text(STAND_IN)
    return tmp_path


def write(path: str = "search.yaml", **changes: Any) -> Path:
    """Write a sweep file for the stand-in."""
    return write_to(Path(path), **{"program": "stand_in.py"} | changes)


def search(path: Path, trials: int | None = None, workers: int = 1, out: str = "runs/sweeps/search") -> pd.DataFrame:
    """Run a search without a report; return its table."""
    sweep = read(path)
    found = Search(sweep, Path(out), sweep.total(trials))
    found.run(workers)
    return table(found)


def rows(out: str = "runs/sweeps/search") -> list[dict[str, str]]:
    with Path(out, "trials.csv").open() as file:
        return list(csv.DictReader(file))


def started() -> list[list[str]]:
    """Of each run of the stand-in: the worker's process, its own, x and y."""
    return (
        [line.split() for line in Path("started.txt").read_text().splitlines()] if Path("started.txt").exists() else []
    )


def test_a_grid_runs_each_point_once_and_reports_the_best_epoch(folder: Path, capsys) -> None:
    main(["sweep", str(write()), "--workers=1"])
    assert [line[2:] for line in started()] == [[x, y] for x, y in product("123", "ab")]
    found = rows()
    assert [row["trial"] for row in found] == [*"012345"]
    for row in found:
        assert (row["state"], row["epochs"], float(row["val/accuracy"])) == ("complete", "6", float(row["x"]))
        assert (folder / "runs/sweeps/search/trials" / f"000{row['trial']}" / "metrics.csv").exists()
    for name in ("trials.png", "parameters.png"):
        assert (folder / "runs/sweeps/search" / name).read_bytes().startswith(b"\x89PNG")
    shown = capsys.readouterr().out
    assert "Best: trial 4, in runs/sweeps/search/trials/0004" in shown
    assert "  env WANDB_MODE=offline python stand_in.py --x=3 --y=a\n" in shown

    main(["sweep", "search.yaml"])
    assert len(started()) == 6, "a search that is done only reports"
    assert "Best: trial 4" in capsys.readouterr().out


def test_a_trial_that_a_signal_ends_failed_and_the_others_go_on(folder: Path) -> None:
    """It has logged all its epochs by then, which does not make it complete; a log that has moved does not fail it."""
    endings = {"SIGTERM": "failed", "SIGHUP": "failed", "SIGKILL": "failed", "resumed": "complete"}
    found = search(write(parameters={"x": {"value": 1}, "y": {"values": [*endings]}}))
    assert dict(zip(found["y"], found["state"], strict=True)) == endings


def test_a_search_goes_on_to_a_greater_number_and_random_ones_are_reproducible(folder: Path) -> None:
    path = write(method="random", parameters={"x": {"min": 0.0, "max": 1.0}, "y": {"values": ["a", "b"]}})
    search(path, trials=1)
    found = search(path, trials=3)
    assert list(found["trial"]) == [0, 1, 2]
    again = search(path, trials=3, workers=3, out="other")
    assert found[["x", "y", "val/accuracy"]].equals(again[["x", "y", "val/accuracy"]])
    assert found["x"].nunique() == 3


@pytest.mark.slow
def test_bayes_comes_nearer_than_chance(folder: Path) -> None:
    """The second half of the values has a mean that 12 uniform ones have in one case of a thousand."""
    path = write(method="bayes", parameters={"x": {"min": 0.0, "max": 100.0}, "y": {"value": "a"}})
    assert search(path, trials=24)["x"][12:].mean() > 75


def test_a_search_to_minimise_takes_the_least(folder: Path) -> None:
    found = search(write(metric={"name": "val/accuracy"}, parameters={"x": {"values": [2, 1]}, "y": {"value": "a"}}))
    assert list(found["val/accuracy"]) == [2 - 4, 1 - 4]


def test_a_trial_that_is_behind_is_stopped(folder: Path) -> None:
    parameters = {"x": {"values": [5, 1, 9]}, "y": {"value": "waits"}}
    found = search(write(parameters=parameters, early_terminate={"type": "hyperband", "min_iter": 5, "eta": 2}))
    assert list(found["state"]) == ["complete", "stopped early", "complete"]
    assert list(found["val/accuracy"]) == [5, 1, 9], "the best epoch, not the last one"
    assert list(found["epochs"]) == [6, 6, 6], "min_iter=5 looks at the sixth value, as W&B does"
    assert not Path(f"/proc/{started()[1][1]}").exists()


def test_a_failing_trial_is_recorded_and_the_rest_goes_on(folder: Path, capsys) -> None:
    found = search(write(parameters={"x": {"value": 1}, "y": {"values": ["bad", "good"]}}))
    assert list(found["state"]) == ["failed", "complete"]
    assert "trial 0 failed: exit status 1" in capsys.readouterr().out

    with pytest.raises(SystemExit):
        main(["sweep", str(write("all.yaml", parameters={"x": {"value": 1}, "y": {"value": "bad"}}))])
    message = capsys.readouterr().err
    assert "all 1 trials failed" in message and "no such y" in message
    assert rows("runs/sweeps/all")[0]["state"] == "failed"


def test_a_stopped_search_prints_the_command_that_goes_on_with_it(folder: Path) -> None:
    write(parameters={"x": {"values": [1, 2]}, "y": {"value": "waits"}})
    words = ["sweep", "search.yaml", "--trials=1", "--workers=2"]
    process = subprocess.Popen([sys.executable, "-m", "ferlightning", *words], stdout=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while not started() and time.monotonic() < until:
        time.sleep(0.1)
    process.terminate()
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 143
    assert "To go on: ferl sweep search.yaml --out=runs/sweeps/search --trials=1 --workers=2\n" in said


def test_a_metric_that_is_not_logged_ends_the_search_at_once(folder: Path, capsys) -> None:
    with pytest.raises(SystemExit):
        main(["sweep", str(write(metric={"name": "val/acuracy"}))])
    said = capsys.readouterr().err
    assert "which trial 0 did not log (did you mean val/accuracy?); it logged epoch, step, train/loss" in said
    assert len(started()) == 1


@pytest.mark.parametrize("metric", [{"name": "val/accuracy"}, {"name": "val/loss", "goal": "maximize"}])
def test_a_search_for_the_worst_is_refused(metric: dict[str, str], folder: Path, capsys) -> None:
    """W&B minimises a metric that has no goal."""
    with pytest.raises(SystemExit):
        main(["sweep", str(write(metric=metric))])
    better = {"val/accuracy": "maximize", "val/loss": "minimize"}[metric["name"]]
    assert f"is the worst of {metric['name']}: write goal: {better}" in capsys.readouterr().err
    assert not started()


def test_a_program_that_is_nowhere_is_told_before_any_trial(folder: Path, capsys) -> None:
    with pytest.raises(SystemExit):
        main(["sweep", str(write(program="trian.py", command=["${program}", "${args}"]))])
    assert "search.yaml: command: there is no program 'trian.py' to run" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_another_search_in_the_same_folder_is_refused(folder: Path, capsys) -> None:
    search(write(), trials=1)
    with pytest.raises(SystemExit):
        main(["sweep", str(write(metric={"name": "val/loss"}))])
    assert "holds a search with another metric than the file" in capsys.readouterr().err


def test_a_trial_that_lost_its_worker_is_tried_again(folder: Path) -> None:
    path = write(parameters={"x": {"values": [1, 2, 3]}, "y": {"value": "a"}})
    search(path, trials=1)
    out = folder / "runs/sweeps/search"
    storage = optuna.storages.RDBStorage(f"sqlite:///{out}/study.db")
    study = optuna.load_study(study_name="sweep", storage=storage)
    for x in (2, 3):  # one worker dies before its first heartbeat, the other one in the middle of the run
        study.enqueue_trial({"x": x, "y": "a"})
        trial = study.ask()
    storage.record_heartbeat(trial._trial_id)
    with closing(sqlite3.connect(out / "study.db")) as database, database:
        database.execute("update trial_heartbeats set heartbeat = '2020-01-01 00:00:00'")
    (out / "trials/0002").mkdir()

    found = search(path)
    assert sorted(found["x"]) == [1, 2, 3] and set(found["state"]) == {"complete"}
    assert list(found["trial"]) == [0, 3, 4] and len(started()) == 3
    assert {path.name for path in (out / "trials").iterdir()} == {"0000", "0003", "0004"}


@pytest.fixture
def start() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Start ``ferl sweep`` as a process of its own, which does not outlive the test."""
    processes = []

    def run(*words: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "ferlightning", "sweep", *words]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return processes[-1]

    yield run
    for process in processes:
        process.kill()
        process.wait()


def wait_for(condition: Callable[[], Any], process: "subprocess.Popen[str]") -> Any:
    until = time.monotonic() + 180
    while not (found := condition()):
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.02)
    return found


@pytest.mark.slow
def test_trials_of_killed_and_of_sleeping_workers_are_tried_again(folder: Path, start) -> None:
    """Of three processes on one search one is killed and one stopped during a trial; the third does the rest."""
    write(parameters={"x": {"values": [1, 2, 3, 4]}, "y": {"values": [*"abc"]}, "pause": {"value": 0.4}})
    killed, asleep, other = start("search.yaml"), start("search.yaml"), start("search.yaml", "--workers=2")

    def runs_of(process: "subprocess.Popen[str]") -> list[list[str]]:
        return [line[1:] for line in started() if line[0] == str(process.pid)]

    strikes = {killed: signal.SIGKILL, asleep: signal.SIGSTOP}

    def strike() -> bool:
        for process in [process for process in strikes if runs_of(process)]:
            process.send_signal(strikes.pop(process))
        return not strikes

    wait_for(strike, other)
    (run, *point), (_, *other_point) = runs_of(killed)[0], runs_of(asleep)[0]
    other.communicate(timeout=240)
    asleep.send_signal(signal.SIGCONT)
    asleep.communicate(timeout=60)
    assert other.returncode == asleep.returncode == 0
    assert not Path(f"/proc/{run}").exists(), "the run of a killed worker ends with it"
    points = [line[2:] for line in started()]
    assert points.count(point) == points.count(other_point) == 2
    assert len(points) == 14 and len(set(map(tuple, points))) == 12, "and nothing else was run twice"
    assert all(row["state"] == "complete" for row in rows())
    assert sorted([row["x"], row["y"]] for row in rows()) == [[x, y] for x, y in product("1234", "abc")]
    kept = {int(path.name) for path in (folder / "runs/sweeps/search/trials").iterdir()}
    assert kept == {int(row["trial"]) for row in rows()}, "what the dead one left half done is gone"


@pytest.mark.slow
def test_a_search_that_is_asked_to_end_ends_its_trials_and_goes_on_later(folder: Path, start) -> None:
    path = write(parameters={"x": {"values": [1, 2, 3]}, "y": {"value": "a"}, "pause": {"value": 0.5}})
    process = start("search.yaml", "--workers=2")
    wait_for(lambda: len(started()) == 2, process)
    runs = [Path(f"/proc/{line[1]}") for line in started()]
    assert all(run.exists() for run in runs), "two workers"
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=60) == 129
    assert not any(run.exists() for run in runs)
    found = search(path)
    assert sorted(found["x"]) == [1, 2, 3] and set(found["state"]) == {"complete"}


@pytest.mark.slow
def test_a_search_over_real_trainings(folder: Path, start) -> None:
    """Four trials by two workers; the best trial is repeated by the command that is printed."""
    write(
        command=["${env}", "ferl", "fit", f"--config={ROOT}/configs/loggers/wandb.yaml", *TINY, *SMALL,
                 "--model.optimizer=torch.optim.Adam",
                 "--trainer.max_epochs=2", "${args}"],
        parameters={
            "model.optimizer.lr": {"values": [0.003, 0.03]},
            "model.sequence": {"values": [None, "GRU"]},
            "model.backbone.channels": {"value": [4, 8]},
        },
    )  # fmt: skip
    process = start("search.yaml", "--workers=2")
    shown, _ = process.communicate(timeout=1800)
    assert process.returncode == 0
    trials, found = folder / "runs/sweeps/search/trials", rows()
    assert {(row["model.optimizer.lr"], row["model.sequence"]) for row in found} == {
        (rate, sequence) for rate in ("0.003", "0.03") for sequence in ("None", "GRU")
    }
    assert len(found) == 4 and all(row["state"] == "complete" for row in found)
    assert list(trials.glob("*/wandb/offline-run-*"))

    best = max(found, key=lambda row: float(row["val/accuracy"]))
    reported = json.loads((trials / f"{int(best['trial']):04}" / "report_val" / "metrics.json").read_text())
    assert reported["metrics"]["accuracy"]["value"] == pytest.approx(float(best["val/accuracy"]), abs=1e-6)
    command = shown.splitlines()[-1]
    subprocess.run(
        ["bash", "-c", command],
        check=True,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    again = next(path for path in Path("runs").glob("*/*/metrics.csv") if path.parts[1] != "sweeps")
    assert again.read_text() == (trials / f"{int(best['trial']):04}" / "metrics.csv").read_text(), command

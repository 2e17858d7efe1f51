"""Sweep files are W&B's and mean here what they mean there; a search survives what happens to its workers."""

import csv
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from wandb import wandb_agent

from ferlightning.cli.main import main
from ferlightning.errors import FerlError
from ferlightning.sweep.file import Sweep, read
from tests.conftest import SMALL, TINY
from tests.data.ckplus_layouts import write_ck48
from tests.data.fer2013_layouts import draw, write_csv, write_votes

Ferl = Callable[..., Path]
ROOT = Path(__file__).parent.parent
SWEEPS = sorted(ROOT.glob("configs/sweeps/*.yaml"))

STAND_IN = """
import os, pathlib, sys, time
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
    if y == "waits" and x < 5 and epoch == 1:
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
    """A sweep file for the stand-in, with keys changed, or left out if None."""
    config = {
        "method": "grid",
        "program": "stand_in.py",
        "metric": {"name": "val/accuracy", "goal": "maximize"},
        "parameters": {"x": {"values": [1, 2, 3]}, "y": {"values": ["a", "b"]}},
    } | changes
    Path(path).write_text(yaml.safe_dump({key: value for key, value in config.items() if value is not None}))
    return Path(path)


def rows(out: str = "runs/sweeps/search") -> list[dict[str, str]]:
    with Path(out, "trials.csv").open() as file:
        return list(csv.DictReader(file))


def started() -> list[list[str]]:
    """Of each run of the stand-in: the worker's process, its own, x and y."""
    return (
        [line.split() for line in Path("started.txt").read_text().splitlines()] if Path("started.txt").exists() else []
    )


def wandb_command(sweep: Sweep, parameters: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What W&B's own agent would start for a run."""
    built: list[list[str]] = []

    class Process:
        def __init__(self, command: list[str], **options: Any) -> None:
            built.append(command)

    monkeypatch.setattr(wandb_agent, "AgentProcess", Process)
    agent = wandb_agent.Agent(api=None, queue=None, sweep_id="abc")
    agent._sweep_command = list(sweep.search.get("command", []))
    args = {name: {"value": value} for name, value in parameters.items()}
    agent._process_command({"type": "run", "run_id": "r", "program": sweep.search.get("program"), "args": args})
    return built[0]


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameter", "meaning"),
    [
        ({"value": 3}, CategoricalDistribution(["3"])),
        ({"values": [None, True, 1.5, "G"]}, CategoricalDistribution(["null", "true", "1.5", '"G"'])),
        ({"values": [[8, 16], [8]]}, CategoricalDistribution(["[8, 16]", "[8]"])),
        ({"values": [1, 1, 2]}, CategoricalDistribution(["1", "2"])),
        ({"distribution": "categorical", "values": ["a"]}, CategoricalDistribution(['"a"'])),
        ({"min": 1, "max": 9}, IntDistribution(1, 9)),
        ({"min": 1, "max": 9.0}, FloatDistribution(1, 9)),
        ({"distribution": "uniform", "min": 1, "max": 9}, FloatDistribution(1, 9)),
        ({"distribution": "q_uniform", "min": 32, "max": 96, "q": 32}, IntDistribution(32, 96, step=32)),
        ({"distribution": "q_uniform", "min": 0.0, "max": 0.6, "q": 0.2}, FloatDistribution(0, 0.6, step=0.2)),
        ({"distribution": "log_uniform_values", "min": 0.001, "max": 0.1}, FloatDistribution(0.001, 0.1, log=True)),
        ({"distribution": "log_uniform", "min": -3, "max": 0}, FloatDistribution(math.exp(-3), 1, log=True)),
    ],
)  # fmt: skip
def test_parameters_mean_what_they_mean_in_wandb(parameter, meaning: BaseDistribution, folder: Path) -> None:
    assert read(write(method="random", parameters={"x": parameter})).space == {"x": meaning}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metric": None}, "needs the keys method, metric and parameters"),
        ({"method": "bayesian"}, "method: bayesian is not supported; did you mean bayes?"),
        ({"controller": {"type": "local"}}, "controller is not supported"),
        ({"metric": {"name": "val/loss", "target": 1}}, "metric.target is not supported"),
        ({"metric": {"name": "val/loss", "goal": "minimise"}}, "did you mean minimize?"),
        ({"run_cap": 0}, "run_cap is 0"),
        ({"command": "ferl fit ${args}"}, "command must be a list"),
        ({"command": ["ferl", "fit"]}, "with ${args} among them"),
        ({"command": ["ferl", "fit", "${args_json_file}"]}, "command: ${args_json_file} is not supported"),
        ({"program": None}, "no key program"),
        ({"parameters": {"x": {"parameters": {"z": {"value": 1}}}}}, "is nested; write the whole name, as x.z"),
        ({"parameters": {"x": {"value": 1, "mu": 2}}}, "parameters.x.mu is not supported"),
        ({"parameters": {"x": {"distribution": "normal", "min": 1, "max": 2}}}, "distribution: normal is not"),
        ({"parameters": {"x": {"min": "1e-4", "max": 1}}}, "parameters.x.min is '1e-4', expected a number; in YAML"),
        ({"parameters": {"x": {"min": 2, "max": 1}}}, "a min that is not above its max"),
        ({"parameters": {"x": {"distribution": "q_uniform", "min": 1, "max": 4, "q": 2}}}, "multiples of it"),
        ({"parameters": {"x": {"distribution": "int_uniform", "min": 1, "max": 4.5}}}, "int_uniform does not fit"),
        ({"parameters": {"x": {"min": 0.0, "max": 1.0}}}, "parameters.x has no end of values"),
        ({"early_terminate": {"type": "envelope"}}, "only hyperband is known"),
        ({"early_terminate": {"type": "hyperband", "s": 2}}, "needs min_iter, or else both s and a max_iter"),
        ({"early_terminate": {"type": "hyperband", "min_iter": 2, "eta": 1.5}}, "early_terminate.eta is 1.5"),
    ],
)  # fmt: skip
def test_what_would_be_searched_otherwise_than_by_wandb_is_refused(changes, message: str, folder: Path) -> None:
    with pytest.raises(FerlError, match=re.escape(message)) as refused:
        read(write(**changes))
    assert "search.yaml" in str(refused.value)


def test_a_grid_has_every_combination_and_other_searches_need_a_number(folder: Path) -> None:
    parameters = {"b": {"values": [1, 2]}, "a": {"distribution": "q_uniform", "min": 0.1, "max": 0.3, "q": 0.1}}
    grid = read(write(parameters=parameters))
    assert [grid.decode(point) for point in grid.points()] == [
        {"a": a, "b": b} for a, b in product([0.1, 0.2, 0.3], [1, 2])
    ]
    assert (grid.total(None), grid.total(4), grid.total(9)) == (6, 4, 6)
    assert read(write(run_cap=4)).total(None) == 4
    assert read(write(run_cap=4, method="random")).total(9) == 9, "what the user types wins"
    with pytest.raises(FerlError, match="give run_cap in it, or --trials"):
        read(write(method="bayes")).total(None)


@pytest.mark.parametrize(
    ("first", "keys"), [(3, {"max_iter": 27, "s": 2}), (1, {"max_iter": 27, "s": 9}), (11, {"max_iter": 100, "s": 2})]
)
def test_the_steps_of_hyperband_can_be_given_from_their_end(first: int, keys: dict[str, int], folder: Path) -> None:
    from_end = read(write(early_terminate={"type": "hyperband", **keys})).pruner()
    assert vars(from_end) == vars(read(write(early_terminate={"type": "hyperband", "min_iter": first})).pruner())


@pytest.mark.parametrize(
    "command",
    [
        None,
        ["${env}", "ferl", "fit", "--config=a b.yaml", "${args}"],
        ["ferl", 3, "${args_no_hyphens}", "--seed=${envvar:SEED}-${envvar:NOT_SET}"],
        ["${interpreter}", "${program}", "${args_no_equals}"],
        ["ferl", "${args_no_boolean_flags}"],
        ["ferl", "${args_json}"],
    ],
)
def test_the_words_are_those_of_wandbs_own_agent(command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEED", "7")
    monkeypatch.setenv("PATH", "")
    sweep = read(write(command=command))
    parameters = {"m.x": 1e-05, "m.y": None, "yes": True, "no": False, "list": [1, 2], "word": "a b"}
    assert sweep.words(parameters) == wandb_command(sweep, parameters, monkeypatch)


# --- shipped files --------------------------------------------------------------------------------------------------


def corners(sweep: Sweep) -> list[dict[str, Any]]:
    """The parameters all at their first or least value, and all at their last or greatest."""
    ends = [
        (kind.choices[0], kind.choices[-1]) if isinstance(kind, CategoricalDistribution) else (kind.low, kind.high)  # type: ignore[attr-defined]
        for kind in sweep.space.values()
    ]
    return [sweep.decode(dict(zip(sweep.space, corner, strict=True))) for corner in zip(*ends, strict=True)]


def test_there_are_the_searches_that_the_papers_name() -> None:
    found = {path.stem: read(path) for path in SWEEPS}
    assert {name: sweep.method for name, sweep in found.items()} == {
        "p4_grid": "grid", "p4_random": "random", "p4_bayes": "bayes", "p5_bayes": "bayes",
    }  # fmt: skip
    for sweep in found.values():
        assert sweep.total(None) <= 40
        assert {"model.sequence.hidden", "model.optimizer.lr"} < sweep.space.keys()
        assert (sweep.metric, sweep.direction) == ("val/accuracy", "maximize")


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_ferl_accepts_what_wandbs_agent_builds(path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    sweep = read(path)
    for parameters in corners(sweep):
        with monkeypatch.context() as patch:
            patch.setenv("WANDB_DIR", os.environ["FERL_CACHE"])  # the agent leaves a file
            command = wandb_command(sweep, parameters, patch)
        assert command[:3] == ["/usr/bin/env", "ferl", "fit"]
        with pytest.raises(SystemExit) as ended:
            main([*command[2:], "--print_config"])
        assert not ended.value.code
        config = yaml.safe_load(capsys.readouterr().out)
        assert [logger["class_path"].split(".")[-1] for logger in config["trainer"]["logger"]] == [
            "CSVLogger",
            "WandbLogger",
        ]
        for name, value in parameters.items():
            part = config
            for key in name.split("."):
                part = part.get("init_args", part)[key]
            assert part == value or part["class_path"].endswith(f".{value}"), name


@pytest.mark.slow
@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_what_wandbs_agent_builds_trains(path: Path, ferl: Ferl, monkeypatch: pytest.MonkeyPatch) -> None:
    (Path.cwd() / "configs").symlink_to(ROOT / "configs")
    if path.stem.startswith("p4"):
        write_ck48(Path())
    else:
        write_csv(Path(), draw())
        write_votes(Path(), draw())
    for parameters in corners(read(path)):
        command = wandb_command(read(path), parameters, monkeypatch)
        ferl(*command[2:], "--data.root=.", "--data.batch_size=8", "--trainer.fast_dev_run=1")


# --- searches -------------------------------------------------------------------------------------------------------


def test_a_grid_runs_each_point_once_and_reports_the_best_epoch(folder: Path, capsys) -> None:
    main(["sweep", str(write()), "--workers=1"])
    assert [line[2:] for line in started()] == [[x, y] for x, y in product("123", "ab")]
    found = rows()
    assert [row["trial"] for row in found] == [*"012345"]
    for row in found:
        assert (row["state"], row["epochs"], float(row["val/accuracy"])) == ("complete", "6", float(row["x"]))
        assert (folder / "runs/sweeps/search/trials" / f"000{row['trial']}" / "metrics.csv").exists()
    assert (folder / "runs/sweeps/search/trials.png").read_bytes().startswith(b"\x89PNG")
    shown = capsys.readouterr().out
    assert "Best: trial 4, in runs/sweeps/search/trials/0004" in shown
    assert "  env WANDB_MODE=offline python stand_in.py --x=3 --y=a\n" in shown

    main(["sweep", "search.yaml"])
    assert len(started()) == 6, "a search that is done only reports"
    assert "Best: trial 4" in capsys.readouterr().out


def test_a_search_goes_on_to_a_greater_number_and_random_ones_are_reproducible(folder: Path) -> None:
    write(method="random", parameters={"x": {"min": 0.0, "max": 1.0}, "y": {"values": ["a", "b"]}}, run_cap=1)
    main(["sweep", "search.yaml"])
    main(["sweep", "search.yaml", "--trials=3"])
    assert [row["trial"] for row in rows()] == [*"012"]
    main(["sweep", "search.yaml", "--trials=3", "--out=other"])
    drawn = [(row["x"], row["y"], row["val/accuracy"]) for row in rows()]
    assert drawn == [(row["x"], row["y"], row["val/accuracy"]) for row in rows("other")]
    assert len(set(drawn)) == 3


@pytest.mark.slow
def test_bayes_comes_nearer_than_chance(folder: Path) -> None:
    """The second half of the values has a mean that 12 uniform ones have in one case of a thousand."""
    write(method="bayes", parameters={"x": {"min": 0.0, "max": 100.0}, "y": {"value": "a"}}, run_cap=24)
    main(["sweep", "search.yaml"])
    late = [float(row["x"]) for row in rows()[12:]]
    assert sum(late) / len(late) > 75


def test_a_search_to_minimise_takes_the_least(folder: Path, capsys) -> None:
    parameters = {"x": {"values": [2, 1]}, "y": {"value": "a"}}
    main(["sweep", str(write(metric={"name": "val/accuracy"}, parameters=parameters))])
    assert [float(row["val/accuracy"]) for row in rows()] == [2 - 4, 1 - 4]
    assert "Best: trial 1" in capsys.readouterr().out


def test_a_trial_that_is_behind_is_stopped(folder: Path) -> None:
    parameters = {"x": {"values": [5, 1, 9]}, "y": {"value": "waits"}}
    early = {"type": "hyperband", "min_iter": 1, "eta": 2}
    main(["sweep", str(write(parameters=parameters, early_terminate=early))])
    assert [(row["state"], float(row["val/accuracy"])) for row in rows()] == [
        ("complete", 5), ("stopped early", 1 - 3), ("complete", 9),
    ]  # fmt: skip
    assert rows()[1]["epochs"] == "2", "min_iter=1 looks at the second value, as W&B does"
    assert not Path(f"/proc/{started()[1][1]}").exists()


def test_a_failing_trial_is_recorded_and_the_rest_goes_on(folder: Path, capsys) -> None:
    main(["sweep", str(write(parameters={"x": {"value": 1}, "y": {"values": ["bad", "good"]}}))])
    assert [row["state"] for row in rows()] == ["failed", "complete"]
    assert "trial 0 failed: exit status 1" in capsys.readouterr().out

    with pytest.raises(SystemExit):
        main(["sweep", str(write("all.yaml", parameters={"x": {"value": 1}, "y": {"value": "bad"}}))])
    message = capsys.readouterr().err
    assert "all 1 trials failed" in message and "no such y" in message
    assert rows("runs/sweeps/all")[0]["state"] == "failed"

    with pytest.raises(SystemExit):
        main(["sweep", str(write("metric.yaml", metric={"name": "val/acc"}))])
    assert (
        "no finite value of val/acc; its columns are epoch, step, train/loss, val/accuracy" in capsys.readouterr().err
    )


def test_another_search_in_the_same_folder_is_refused(folder: Path, capsys) -> None:
    main(["sweep", str(write()), "--trials=1"])
    with pytest.raises(SystemExit):
        main(["sweep", str(write(metric={"name": "val/loss"}))])
    assert "holds a search with another metric than search.yaml" in capsys.readouterr().err


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
def test_a_killed_workers_trial_is_tried_again(folder: Path, start) -> None:
    """Two processes on one search; one is killed while its trial runs, the other one does the rest."""
    write(parameters={"x": {"values": [1, 2, 3, 4]}, "y": {"values": [*"abc"]}, "pause": {"value": 0.1}})
    killed = start("search.yaml")
    other = start("search.yaml", "--workers=2")
    _, run, *point = wait_for(lambda: [line for line in started() if line[0] == str(killed.pid)][1:2], killed)[0]
    killed.kill()
    other.communicate(timeout=120)
    assert other.returncode == 0
    assert not Path(f"/proc/{run}").exists(), "the run of a killed worker ends with it"
    points = [line[2:] for line in started()]
    assert len({line[0] for line in started()}) == 3, "the other process had two workers"
    assert points.count(point) == 2
    assert len(points) == 13 and len(set(map(tuple, points))) == 12, "and nothing else was run twice"
    assert all(row["state"] == "complete" for row in rows())
    assert sorted([row["x"], row["y"]] for row in rows()) == [[x, y] for x, y in product("1234", "abc")]
    kept = {int(path.name) for path in (folder / "runs/sweeps/search/trials").iterdir()}
    assert kept == {int(row["trial"]) for row in rows()}, "what the dead one left half done is gone"


@pytest.mark.slow
def test_a_search_that_is_asked_to_end_ends_its_trials_and_goes_on_later(folder: Path, start) -> None:
    write(parameters={"x": {"values": [1, 2, 3]}, "y": {"value": "a"}, "pause": {"value": 0.3}})
    search = start("search.yaml", "--workers=2")
    wait_for(lambda: len(started()) == 2, search)
    search.send_signal(signal.SIGTERM)
    assert search.wait(timeout=60) == 130
    assert not any(Path(f"/proc/{line[1]}").exists() or Path(f"/proc/{line[0]}").exists() for line in started())
    main(["sweep", "search.yaml"])
    assert sorted((row["state"], row["x"]) for row in rows()) == [("complete", x) for x in "123"]


@pytest.mark.slow
def test_a_search_over_real_trainings(folder: Path, start) -> None:
    """Two workers, twelve trials, one worker killed; the best trial is repeated by the command that is printed."""
    write(
        command=["${env}", "ferl", "fit", f"--config={ROOT}/configs/loggers/wandb.yaml", *TINY, *SMALL,
                 "--model.optimizer=torch.optim.Adam",
                 "--trainer.max_epochs=3", "${args}"],
        parameters={
            "model.optimizer.lr": {"values": [0.003, 0.03, 0.1]},
            "model.sequence": {"values": [None, "GRU"]},
            "model.backbone.channels": {"values": [[8, 8], [4, 8]]},
        },
    )  # fmt: skip
    killed = start("search.yaml")
    trials = folder / "runs/sweeps/search/trials"
    wait_for((trials / "0000").exists, killed)
    other = start("search.yaml", "--workers=2")
    wait_for((trials / "0001" / "metrics.csv").exists, other)
    killed.kill()
    shown, _ = other.communicate(timeout=1800)
    assert other.returncode == 0
    found = rows()
    names = ("model.optimizer.lr", "model.sequence", "model.backbone.channels")
    assert len({tuple(row[name] for name in names) for row in found}) == len(found) == 12
    assert all(row["state"] == "complete" for row in found)
    assert {row["model.sequence"] for row in found} == {"None", "GRU"}
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

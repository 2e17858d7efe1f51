"""Sweep files are W&B's and mean here what they mean there."""

import math
import os
import re
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

ROOT = Path(__file__).parents[2]
SWEEPS = sorted(ROOT.glob("configs/sweeps/*.yaml"))


def write(path: Path, **changes: Any) -> Path:
    """Write a sweep file with keys changed, or left out if None."""
    config = {
        "method": "grid",
        "program": "train.py",
        "metric": {"name": "val/accuracy", "goal": "maximize"},
        "parameters": {"x": {"values": [1, 2, 3]}, "y": {"values": ["a", "b"]}},
    } | changes
    path.write_text(yaml.safe_dump({key: value for key, value in config.items() if value is not None}))
    return path


def wandb_command(sweep: Sweep, parameters: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What W&B's own agent would start for a run."""
    built: list[list[str]] = []

    class Process:
        def __init__(self, command: list[str], **options: Any) -> None:
            built.append(command)

    monkeypatch.setattr(wandb_agent, "AgentProcess", Process)
    monkeypatch.setenv("WANDB_SWEEP_ID", "abc")
    agent = wandb_agent.Agent(api=None, queue=None, sweep_id="abc")
    agent._sweep_command = sweep.command if "command" in sweep.model_fields_set else []
    args = {name: {"value": value} for name, value in parameters.items()}
    agent._process_command({"type": "run", "run_id": "r", "program": sweep.program, "args": args})
    return built[0]


@pytest.mark.parametrize(
    ("parameter", "meaning"),
    [
        ({"value": 3}, CategoricalDistribution([3])),
        ({"values": [None, True, 1.5, "G"]}, CategoricalDistribution([None, True, 1.5, "G"])),
        ({"values": [[8, 16], [8]]}, CategoricalDistribution(["[8, 16]", "[8]"])),
        ({"values": [1, 1, 2]}, CategoricalDistribution([1, 2])),
        ({"min": 1, "max": 9}, IntDistribution(1, 9)),
        ({"min": 1, "max": 9.0}, FloatDistribution(1, 9)),
        ({"distribution": "uniform", "min": 1, "max": 9}, FloatDistribution(1, 9)),
        ({"distribution": "q_uniform", "min": 32, "max": 96, "q": 32}, IntDistribution(32, 96, step=32)),
        ({"distribution": "q_uniform", "min": 0.0, "max": 0.6, "q": 0.2}, FloatDistribution(0, 0.6, step=0.2)),
        ({"distribution": "log_uniform_values", "min": 0.001, "max": 0.1}, FloatDistribution(0.001, 0.1, log=True)),
        ({"distribution": "log_uniform", "min": -3, "max": 0}, FloatDistribution(math.exp(-3), 1, log=True)),
    ],
)  # fmt: skip
def test_parameters_mean_what_they_mean_in_wandb(parameter, meaning: BaseDistribution, tmp_path: Path) -> None:
    assert read(write(tmp_path / "s.yaml", method="random", parameters={"x": parameter})).space == {"x": meaning}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metric": None}, "metric: is missing"),
        ({"method": "bayesian"}, "method: Input should be 'grid', 'random' or 'bayes'"),
        ({"controller": {"type": "local"}}, "controller: is not supported"),
        ({"metric": {"name": "val/loss", "target": 1}}, "metric.target: is not supported"),
        ({"run_cap": 0}, "run_cap: Input should be greater than 0"),
        ({"command": "ferl fit ${args}"}, "command: Input should be a valid list"),
        ({"command": ["ferl", "fit"]}, "expected ${args} among the words"),
        ({"command": ["ferl", "fit", "${args_json_file}"]}, "${args_json_file} is not supported"),
        ({"program": None}, "search.yaml: command: it has ${program}, but there is no key program"),
        ({"parameters": {}}, "parameters: "),
        ({"parameters": {"x": {"parameters": {"z": {"value": 1}}}}}, "parameters.x.parameters: is not supported"),
        ({"parameters": {"x": {"values": []}}}, "parameters.x.values: "),
        ({"parameters": {"x": {"values": [1, True]}}}, "does not tell two of the values apart"),
        ({"parameters": {"x": {"value": 1, "values": [1]}}}, "parameters.x: a distribution constant is given by value"),
        ({"parameters": {"x": {"min": 1, "max": 2, "q": 1}}}, "int_uniform is given by min, max, not max, min, q"),
        ({"parameters": {"x": {}}}, "parameters.x: a distribution uniform is given by min, max, not nothing"),
        ({"parameters": {"x": {"distribution": "normal", "mu": 1}}}, "parameters.x.distribution: Input should be"),
        ({"parameters": {"x": {"min": "1e-4", "max": 1}}}, "parameters.x.min: '1e-4' is not a number; in YAML"),
        ({"parameters": {"x": {"min": True, "max": 1}}}, "parameters.x.min: True is not a number"),
        ({"parameters": {"x": {"min": 2, "max": 1}}}, "parameters.x: "),
        ({"parameters": {"x": 0.1}}, "parameters.x: expected what it may be, such as {values: [1, 2]}"),
        (
            {"parameters": {"x": {"distribution": "log_uniform", "min": 0.001, "max": 0.1}}},
            "parameters.x: log_uniform takes exponents of e, so that 0.001 to 0.1 are 1.001 to 1.105; write log_unif",
        ),
        ({"parameters": {"x": {"distribution": "q_uniform", "min": 1, "max": 4, "q": 2}}}, "multiples of its q"),
        ({"parameters": {"x": {"distribution": "int_uniform", "min": 1, "max": 4.5}}}, "needs whole numbers"),
        ({"parameters": {"x": {"min": 0.0, "max": 1.0}}}, "parameters.x has no end of values"),
        ({"early_terminate": {"type": "envelope"}}, "early_terminate.type: Input should be 'hyperband'"),
        ({"early_terminate": {"type": "hyperband", "s": 2}}, "either min_iter, or both s and max_iter"),
        ({"early_terminate": {"type": "hyperband", "min_iter": 2, "eta": 1}}, "early_terminate.eta: "),
    ],
)  # fmt: skip
def test_what_would_be_searched_otherwise_than_by_wandb_is_refused(changes, message: str, tmp_path: Path) -> None:
    with pytest.raises(FerlError, match=re.escape(message)) as refused:
        read(write(tmp_path / "search.yaml", **changes))
    assert "search.yaml" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "is not YAML"),
        ("", "search.yaml is no sweep: expected the keys"),
        ("[]", "is no sweep"),
        (None, "cannot read"),
    ],
)
def test_what_is_no_sweep_file_is_refused(text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "search.yaml").write_text(text)
    with pytest.raises(FerlError, match=message):
        read(tmp_path / "search.yaml")


def test_a_grid_has_every_combination_and_other_searches_need_a_number(tmp_path: Path) -> None:
    path = tmp_path / "search.yaml"
    parameters = {
        "b": {"values": [1, 2]},
        "a": {"distribution": "q_uniform", "min": 0.1, "max": 0.3, "q": 0.1},
        "c": {"distribution": "q_uniform", "min": 8, "max": 16, "q": 8},
    }
    grid = read(write(path, parameters=parameters))
    assert grid.points() == [{"a": a, "b": b, "c": c} for a, b, c in product([0.1, 0.2, 0.3], [1, 2], [8, 16])]
    assert (grid.total(None), grid.total(4), grid.total(20)) == (12, 4, 12)
    assert read(write(path, run_cap=4)).total(None) == 4
    assert read(write(path, run_cap=4, method="random")).total(9) == 9, "what the user types wins"
    with pytest.raises(FerlError, match="give run_cap in the file, or --trials"):
        read(write(path, method="bayes")).total(None)


@pytest.mark.parametrize(
    ("first", "keys"), [(3, {"max_iter": 27, "s": 2}), (1, {"max_iter": 27, "s": 9}), (11, {"max_iter": 100, "s": 2})]
)
def test_the_steps_of_hyperband_can_be_given_from_their_end(first: int, keys: dict[str, int], tmp_path: Path) -> None:
    from_end, from_first = (
        read(write(tmp_path / "s.yaml", early_terminate={"type": "hyperband", **given})).pruner()
        for given in (keys, {"min_iter": first})
    )
    assert vars(from_end) == vars(from_first)


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
def test_the_words_are_those_of_wandbs_own_agent(command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the agent leaves a file
    monkeypatch.setenv("SEED", "7")
    monkeypatch.setenv("PATH", "")
    parameters = {"list": [1, 2], "m.x": 1e-05, "m.y": None, "no": False, "word": "a b", "yes": True}
    names = {name: {"values": [value, "another"]} for name, value in parameters.items()}
    sweep = read(write(tmp_path / "s.yaml", command=command, parameters=names))
    assert sweep.words(sweep.points()[0]) == wandb_command(sweep, parameters, monkeypatch)


def corner(sweep: Sweep, last: bool) -> dict[str, Any]:
    """The parameters all at their first or least value, or all at their last or greatest."""
    return {
        name: kind.choices[-last] if isinstance(kind, CategoricalDistribution) else (kind.low, kind.high)[last]  # type: ignore[attr-defined]
        for name, kind in sweep.space.items()
    }


def test_there_are_the_searches_that_the_papers_name() -> None:
    found = {path.stem: read(path) for path in SWEEPS}
    assert {name: sweep.method for name, sweep in found.items()} == {
        "p4_grid": "grid", "p4_random": "random", "p4_bayes": "bayes", "p5_bayes": "bayes",
    }  # fmt: skip
    for sweep in found.values():
        assert sweep.total(None) <= 40
        assert {"model.sequence.hidden", "model.optimizer.lr"} < sweep.space.keys()
        assert (sweep.metric.name, sweep.metric.goal) == ("val/accuracy", "maximize")


@pytest.mark.parametrize(
    ("name", "last"),
    [("p4_bayes", True), ("p4_grid", True), ("p4_random", False), ("p5_bayes", True), ("p5_bayes", False)],
)
def test_ferl_accepts_what_wandbs_agent_builds(
    name: str, last: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    sweep = read(ROOT / "configs" / "sweeps" / f"{name}.yaml")
    parameters = corner(sweep, last)
    with monkeypatch.context() as patch:
        patch.setenv("WANDB_DIR", os.environ["FERL_CACHE"])  # the agent leaves a file
        command = wandb_command(sweep, parameters, patch)
    assert command[:3] == ["/usr/bin/env", "ferl", "fit"]
    with pytest.raises(SystemExit) as ended:
        main([*command[2:], "--print_config"])
    assert not ended.value.code
    config = yaml.safe_load(capsys.readouterr().out)
    loggers = [logger["class_path"].split(".")[-1] for logger in config["trainer"]["logger"]]
    assert loggers == ["CSVLogger", "WandbLogger"]
    for name, value in parameters.items():
        part = config
        for key in name.split("."):
            part = part.get("init_args", part)[key]
        assert part == value or part["class_path"].endswith(f".{value}"), name


@pytest.mark.slow
@pytest.mark.parametrize("name", ["p4_random", "p5_bayes"])
def test_what_wandbs_agent_builds_trains(name: str, ferl, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.data.ckplus_layouts import write_ck48  # late: the other tests need no data
    from tests.data.fer2013_layouts import draw, write_csv, write_votes

    (Path.cwd() / "configs").symlink_to(ROOT / "configs")
    if name.startswith("p4"):
        write_ck48(Path())
    else:
        write_csv(Path(), draw())
        write_votes(Path(), draw())
    sweep = read(ROOT / "configs" / "sweeps" / f"{name}.yaml")
    command = wandb_command(sweep, corner(sweep, last=True), monkeypatch)
    ferl(*command[2:], "--data.root=.", "--data.batch_size=8", "--trainer.fast_dev_run=1")

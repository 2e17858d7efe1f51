"""The precision of a run: chosen by what the device is fast at, unless the user says one."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from ferlightning.checkpoint import HEADER
from ferlightning.cli.precision import cpu_has_bf16
from tests.conftest import NO_REPORT, SMALL, TINY

Ferl = Callable[..., Path]
CPU = [*TINY, *SMALL, *NO_REPORT, "--trainer.accelerator=cpu", "--trainer.max_epochs=1"]


def precision(run: Path) -> str:
    found: str = yaml.safe_load((run / "config.yaml").read_text())["trainer"]["precision"]
    return found


def test_the_choice_is_said_and_in_the_resolved_configuration(ferl: Ferl, capsys: pytest.CaptureFixture[str]) -> None:
    expected = "bf16-mixed" if cpu_has_bf16() else "32-true"
    run = ferl("fit", *CPU)
    assert precision(run) == expected and f"Precision: {expected}" in capsys.readouterr().out
    assert precision(ferl("fit", *CPU, "--trainer.precision=64-true")) == "64-true", "what the user says wins"


@pytest.mark.skipif(cpu_has_bf16(), reason="this CPU can do it")
def test_what_the_cpu_cannot_do_is_refused_in_words(ferl: Ferl, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        ferl("fit", *CPU, "--trainer.precision=bf16-true")
    assert "trainer.precision is bf16-true, but this CPU" in capsys.readouterr().err


@pytest.mark.skipif(cpu_has_bf16() or torch.cuda.is_available(), reason="this machine is fast at bf16")
def test_a_run_of_another_machine_is_tested_at_what_this_one_is_fast_at(ferl: Ferl, capsys) -> None:
    run = ferl("fit", *CPU)
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["trainer"]["precision"] = "bf16-mixed"
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    best = run / "checkpoints" / "best.ckpt"
    stored = torch.load(best, weights_only=True)
    stored[HEADER]["device"] = "cuda"
    torch.save(stored, best)
    capsys.readouterr()
    ferl("test", f"--ckpt_path={run}/checkpoints/best.ckpt")
    assert "Precision: 32-true" in capsys.readouterr().out


def test_no_more_processes_are_started_than_the_cpu_has_processors_for(ferl: Ferl, capsys) -> None:
    with pytest.raises(SystemExit):
        ferl("fit", *CPU, "--trainer.devices=100000", "--trainer.default_root_dir=run")
    assert "trainer.devices is 100000 on a CPU: this machine has" in capsys.readouterr().err
    run = ferl("fit", *CPU)
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["trainer"]["devices"] = 1024  # a run of a large machine
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    ferl("predict", f"--ckpt_path={run}/checkpoints/best.ckpt")
    assert (run / "predictions.csv").is_file() and "(devices: 1024), which is not here" in capsys.readouterr().out

"""A training that was stopped, and what goes on from it: owners of a folder, changed options, signals, damage."""

import csv
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from filelock import FileLock

from ferlightning.cli.main import main
from ferlightning.cli.tracking import go_offline_if_unreachable
from tests.conftest import NO_REPORT, SMALL, TINY

Ferl = Callable[..., Path]
WORDS = [*TINY, *SMALL, "--trainer.default_root_dir=run"]
JOB = {"JOB_ID": "4242", "JOB_NAME": "train", "NTASKS": "1", "NTASKS_PER_NODE": "1", "NNODES": "1"}
JOB |= {"PROCID": "0", "LOCALID": "0", "NODEID": "0", "NODELIST": "localhost"}
"""What SLURM tells a job of itself, each name after SLURM_."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    main(["fit", *TINY, *SMALL, "--trainer.max_epochs=1", f"--trainer.default_root_dir={folder}"])
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of a finished run of one epoch."""
    return shutil.copytree(trained, tmp_path / "run")


def refused(ferl: Ferl, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as end:
        ferl(*words)
    assert end.value.code == 2
    return capsys.readouterr().err


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_finished_run_says_so_and_stays_as_it_is(run: Path, ferl: Ferl, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(run)
    ferl("fit", f"--ckpt_path={run}/checkpoints/last.ckpt")
    assert "run has finished its 1 epochs: nothing is left to train" in capsys.readouterr().out
    assert contents(run) == before


def test_a_run_that_has_taken_all_its_steps_says_so(ferl: Ferl, capsys: pytest.CaptureFixture[str]) -> None:
    ferl("fit", *WORDS, "--trainer.max_epochs=3", "--trainer.max_steps=2")  # of two an epoch
    before = contents(Path("run"))
    ferl("fit", "--ckpt_path=run/checkpoints/last.ckpt")
    assert (
        "run has finished its 2 steps: nothing is left to train. Raise --trainer.max_steps" in capsys.readouterr().out
    )
    ferl("fit", "--ckpt_path=run/checkpoints/last.ckpt", "--trainer.max_steps=1")
    assert "its 2 steps: nothing is left to train. Raise --trainer.max_steps above 2" in capsys.readouterr().out
    assert contents(Path("run")) == before


def test_a_run_that_was_ended_early_says_so_and_goes_on_with_more_patience(
    ferl: Ferl, capsys: pytest.CaptureFixture[str]
) -> None:
    stop = ["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val/loss"]
    ferl("fit", *WORDS, *stop, "--trainer.callbacks.patience=1", "--model.optimizer.lr=1e-9", "--trainer.max_epochs=50")
    done, before = len(epochs(Path("run"))), contents(Path("run"))
    assert done < 50
    resumed = ["fit", "--ckpt_path=run/checkpoints/last.ckpt"]
    ferl(*resumed)
    said = capsys.readouterr().out
    assert f"run was ended early after {done} epochs: nothing is left to train" in said and "patience" in said
    assert contents(Path("run")) == before
    ferl(*resumed, "--trainer.callbacks.patience=50", f"--trainer.max_epochs={done + 2}")
    assert epochs(Path("run")) == [*range(done + 2)]


def test_a_run_whose_time_is_up_keeps_its_log(run: Path, ferl: Ferl) -> None:
    log = (run / "metrics.csv").read_bytes()
    ferl("fit", f"--ckpt_path={run}", "--trainer.max_epochs=9", "--trainer.max_time=00:00:00:00")
    assert (run / "metrics.csv").read_bytes() == log and [*run.glob("metrics*.csv")] == [run / "metrics.csv"]


@pytest.mark.parametrize("word", ["--data.classes=[happiness,sadness]", "--model.backbone.channels=[4]"])
def test_what_does_not_fit_the_checkpoint_leaves_the_run_as_it_is(
    word: str, run: Path, ferl: Ferl, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(run)
    refused(ferl, capsys, "fit", f"--ckpt_path={run}", "--trainer.max_epochs=2", word)
    assert contents(run) == before


def test_a_checkpoint_alone_goes_on_in_a_folder_of_its_own(
    run: Path, ferl: Ferl, capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    shutil.copy(run / "checkpoints/last.ckpt", "alone.ckpt")
    shutil.rmtree(run)
    ferl("fit", "--ckpt_path=alone.ckpt")
    assert "alone.ckpt has finished its 1 epochs: nothing is left to train" in capsys.readouterr().out
    assert not Path("runs").exists()
    made = ferl("fit", "--ckpt_path=alone.ckpt", "--trainer.max_epochs=2")
    assert made is not None and (made / "report_val/metrics.json").is_file() and epochs(made) == [1]
    assert not [warning for warning in recwarn if "dirpath has changed" in str(warning.message)]


def test_epochs_that_are_validated_within_are_gone_on_with_as_others(ferl: Ferl) -> None:
    """The last checkpoint is that of a whole epoch; one of a part is gone on with, too."""
    words = [*WORDS, "--trainer.callbacks=[tests.conftest.NoReportCallback]", "--data.batch_size=8"]
    words += ["--trainer.val_check_interval=2", "--trainer.limit_train_batches=3"]
    ferl("fit", *words, "--trainer.max_epochs=2", "--trainer.default_root_dir=whole")
    ferl("fit", *words, "--trainer.max_epochs=1")
    ferl("fit", "--ckpt_path=run", "--trainer.max_epochs=2")
    one, other = (torch.load(f"{run}/checkpoints/last.ckpt", weights_only=True) for run in ("whole", "run"))
    assert one["global_step"] == other["global_step"] == 6
    assert all(torch.equal(x, other["state_dict"][name]) for name, x in one["state_dict"].items())
    ferl("fit", "--ckpt_path=run/checkpoints/best.ckpt", "--trainer.max_epochs=3")


@pytest.mark.parametrize(("how", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_the_report_of_a_fit_and_the_run_makes_it_later(
    how: signal.Signals, status: int, ferl: Ferl, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["fit", *WORDS, "--trainer.max_epochs=1"]
    with pytest.raises(SystemExit) as end:
        ferl(*words, f"--trainer.callbacks+=tests.conftest.Sent{how.name}Callback")
    assert end.value.code == status and not Path("run/report_val").exists()
    assert "ferl fit --ckpt_path=" in capsys.readouterr().out
    ferl("fit", "--ckpt_path=run/checkpoints/last.ckpt", "--trust")
    assert Path("run/report_val/metrics.json").is_file()


def test_a_finished_run_without_its_report_makes_it(run: Path, ferl: Ferl) -> None:
    """It was killed between its last epoch and its report."""
    shutil.rmtree(run / "report_val")
    ferl("fit", f"--ckpt_path={run}/checkpoints/last.ckpt")
    assert (run / "report_val/metrics.json").is_file()


@pytest.mark.parametrize("word", ["--model.optimizer.lr=0.5", "--model.optimizer=SGD", "--model.scheduler=ConstantLR"])
def test_another_optimizer_is_refused(word: str, run: Path, ferl: Ferl, capsys: pytest.CaptureFixture[str]) -> None:
    error = refused(ferl, capsys, "fit", f"--ckpt_path={run}/checkpoints/last.ckpt", "--trainer.max_epochs=2", word)
    assert "--model." in error and "learning rate" in error and "by --from in place of" in error


def test_two_trainings_do_not_share_a_folder(ferl: Ferl, capsys: pytest.CaptureFixture[str]) -> None:
    Path("run").mkdir()
    with FileLock("run/.lock"):
        assert "another training is at work in the folder" in refused(ferl, capsys, "fit", *WORDS)
    assert [path.name for path in Path("run").iterdir()] == [".lock"]


def test_a_kill_between_the_checkpoints_of_the_first_epoch_starts_again(ferl: Ferl) -> None:
    """The best one may be of a part of the epoch: what goes on from it would not end where a whole training does."""
    words = ["fit", *WORDS, *NO_REPORT, "--trainer.val_check_interval=1"]
    ferl(*words, "--trainer.max_epochs=1")
    ferl(*words, "--trainer.max_epochs=1", "--trainer.default_root_dir=other")
    for again in ([], ["--ckpt_path=last"]):
        for name in ("last.ckpt", "last.safetensors"):
            Path("run/checkpoints", name).unlink()
        ferl(*words, "--trainer.max_epochs=1", *again)
        one, other = (torch.load(f"{run}/checkpoints/last.ckpt", weights_only=True) for run in ("run", "other"))
        assert all(torch.equal(x, other["state_dict"][name]) for name, x in one["state_dict"].items())


def test_a_finished_run_without_its_last_checkpoint_is_kept(
    run: Path, ferl: Ferl, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "checkpoints/last.ckpt").unlink()
    before = contents(run)
    error = refused(ferl, capsys, "fit", *TINY, *SMALL, f"--trainer.default_root_dir={run}")
    assert f"--ckpt_path={run}/checkpoints/best.ckpt" in error
    assert contents(run) == before


def test_an_average_that_no_checkpoint_has_is_told(ferl: Ferl, capsys: pytest.CaptureFixture[str], caplog: Any) -> None:
    words = ["--trainer.callbacks+=StochasticWeightAveraging", "--trainer.callbacks.swa_lrs=0.01"]
    ferl("fit", *WORDS, *NO_REPORT, *words, "--trainer.max_epochs=2")
    assert "No checkpoint and no report is of the average of StochasticWeightAveraging" in caplog.text
    error = refused(ferl, capsys, "fit", "--ckpt_path=run/checkpoints/last.ckpt", "--trainer.max_epochs=3", "--trust")
    assert "cannot go on, since no checkpoint has its average; that of WeightAveraging, and of EMA" in error


def test_a_run_without_a_checkpoint_starts_again(ferl: Ferl) -> None:
    """It was killed in its first epoch."""
    Path("run").mkdir()
    Path("run/config.yaml").write_text("model: {}\n")
    ferl("fit", *WORDS, *NO_REPORT, "--trainer.max_epochs=1")
    assert Path("run/checkpoints/last.ckpt").is_file()


def test_zeroed_bytes_in_weights_are_found(run: Path, ferl: Ferl, capsys: pytest.CaptureFixture[str]) -> None:
    path = run / "checkpoints/best.safetensors"
    with path.open("r+b") as file:
        file.seek(-1000, 2)
        file.write(bytes(900))
    assert "best.safetensors is damaged" in refused(ferl, capsys, "test", f"--ckpt_path={path}")


def test_zeroed_bytes_in_a_checkpoint_are_found(run: Path, ferl: Ferl, capsys: pytest.CaptureFixture[str]) -> None:
    path = run / "checkpoints/best.ckpt"
    largest = max(zipfile.ZipFile(path).infolist(), key=lambda entry: entry.file_size)
    with path.open("r+b") as file:
        file.seek(largest.header_offset + 200)
        file.write(bytes(largest.file_size // 2))
    assert "best.ckpt is" in refused(ferl, capsys, "test", f"--ckpt_path={path}")


def test_a_training_that_diverges_stops_and_leaves_no_best(ferl: Ferl, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=1e30", "--trainer.max_epochs=4"]
    error = refused(ferl, capsys, "fit", *WORDS, *words)
    assert "the training loss of epoch 0 is not finite (step " in error and "learning rate 1e+30" in error
    for path in Path("run/checkpoints").glob("best.ckpt"):
        assert all(x.isfinite().all() for x in torch.load(path, weights_only=True)["state_dict"].values())


def begin(
    *words: str, out: int = subprocess.PIPE, wait: Callable[[], object] = lambda: time.sleep(0.2), **options: Any
) -> "subprocess.Popen[str]":
    """A training in a process of its own, once it has a checkpoint."""
    command = [sys.executable, "-m", "ferlightning", "fit", *WORDS, "--trainer.max_epochs=500", *words]
    # A shell's background job ignores Ctrl-C, and so would what it starts.
    options.setdefault("preexec_fn", partial(signal.signal, signal.SIGINT, signal.SIG_DFL))
    process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, text=True, **options)
    until = time.monotonic() + 120
    while not Path("run/checkpoints/last.ckpt").is_file():
        assert process.poll() is None and time.monotonic() < until
        wait()
    return process


def ended(process: "subprocess.Popen[str]") -> int:
    """The status of a training that was asked to end."""
    said, _ = process.communicate(timeout=120)
    assert "go on from the last whole epoch by: ferl fit --ckpt_path=" in said
    return process.returncode


@pytest.mark.slow
def test_ctrl_c_ends_a_training_with_its_status(ferl: Ferl) -> None:
    process = begin()
    process.send_signal(signal.SIGINT)
    assert ended(process) == 130


SLOWLY = """import time
from pathlib import Path
from lightning.pytorch import Callback
class Slowly(Callback):
    def on_predict_batch_start(self, *args, **options):
        Path("begun").touch()
        time.sleep(1)
    on_test_batch_start = on_predict_batch_start
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "how", "status"),
    [("test", signal.SIGTERM, 143), ("predict", signal.SIGTERM, 143), ("predict", signal.SIGHUP, 129),
     ("predict", signal.SIGINT, 130)],
)  # fmt: skip
def test_a_signal_ends_an_evaluation_with_its_status(
    command: str, how: signal.Signals, status: int, ferl: Ferl
) -> None:
    ferl("fit", *WORDS, "--trainer.max_epochs=1", "--trainer.callbacks=[ModelCheckpoint]")
    Path("photos").mkdir()
    for i in range(30):
        cv2.imwrite(f"photos/{i}.png", np.full((48, 48), i, np.uint8))
    Path("slowly.py").write_text(SLOWLY)
    checkpoint = next(Path("run/checkpoints").glob("*.ckpt"))
    words = [command, f"--ckpt_path={checkpoint}", "--trainer.default_root_dir=out", "--data.batch_size=1"]
    words += ["--trainer.callbacks+=slowly.Slowly", *(["--data.predict_folder=photos"] if command == "predict" else [])]
    process = subprocess.Popen(
        [sys.executable, "-m", "ferlightning", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    while not Path("begun").is_file():
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(how)
    said, _ = process.communicate(timeout=20)
    assert process.returncode == status, said
    assert not [*Path("out").glob("*")], "no report or predictions of a part of the items"


def epochs(run: Path) -> list[int]:
    """The epochs that a run has validated, in their order, over all its logs."""
    logs = sorted(run.glob("metrics*.csv"))  # metrics.001.csv before metrics.csv
    return [int(row["epoch"]) for log in logs for row in csv.DictReader(log.open()) if row.get("val/accuracy")]


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in JOB.items():
        monkeypatch.setenv(f"SLURM_{name}", value)


def test_a_slurm_job_that_starts_again_goes_on(ferl: Ferl, slurm: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its script has two trainings, which differ by a word alone; lists that it adds to are not added to twice."""
    words = ["fit", *TINY, *SMALL, "--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val/loss"]
    ferl(*words, "--trainer.max_epochs=2", "--trainer.limit_train_batches=1")
    first = ferl(*words, "--trainer.max_epochs=2")
    assert first is not None and first.name.startswith("slurm-4242-")
    assert len([*Path("runs/default").glob("*-*")]) == 2
    before = yaml.safe_load((first / "config.yaml").read_text())["trainer"]
    shutil.rmtree(first / "report_val")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    ferl(*words, "--trainer.max_epochs=2")
    assert (first / "report_val/metrics.json").is_file()
    assert yaml.safe_load((first / "config.yaml").read_text())["trainer"] == before
    assert epochs(first) == [0, 1]
    assert len([*Path("runs/default").glob("*-*")]) == 2


def test_a_slurm_job_that_was_ended_in_its_first_epoch_starts_in_the_same_folder(
    ferl: Ferl, slurm: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["fit", *TINY, *SMALL, *NO_REPORT, "--trainer.max_epochs=1"]
    run = ferl(*words)
    assert run is not None
    shutil.rmtree(run / "checkpoints")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    assert ferl(*words) == run and epochs(run) == [0, 0]


@pytest.mark.slow
def test_a_slurm_job_is_put_back_and_finishes_in_one_folder(
    ferl: Ferl, slurm: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """SLURM warns by SIGUSR1; Lightning saves and has the job put back; SIGTERM ends it."""
    scontrol = tmp_path / "bin/scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f"#!/bin/sh\necho $* > {tmp_path}/asked\n")
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{scontrol.parent}{os.pathsep}{os.environ['PATH']}")
    process = begin("--trainer.max_epochs=12")
    process.send_signal(signal.SIGUSR1)
    while not (tmp_path / "asked").is_file():
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == 143 and (tmp_path / "asked").read_text() == "requeue 4242\n"
    assert Path("run/hpc_ckpt_1.ckpt").is_file()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    ferl("fit", *WORDS, "--trainer.max_epochs=12")
    assert epochs(Path("run")) == [*range(12)]
    shutil.rmtree("run/checkpoints")
    ferl("validate", "--ckpt_path=run/hpc_ckpt_1.ckpt")
    assert Path("run/report_val/metrics.json").is_file()


def test_the_last_checkpoint_goes_on_or_there_is_none_and_a_run_starts(
    ferl: Ferl, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["fit", *TINY, *SMALL, *NO_REPORT, "--ckpt_path=last"]
    run = ferl(*words, "--trainer.max_epochs=1")
    assert run is not None and ferl(*words, "--trainer.max_epochs=2") == run
    assert "Going on from" in capsys.readouterr().out and epochs(run) == [0, 1]
    again = ferl(*words, "--trainer.max_epochs=3", "--trainer.default_root_dir=other", "--model.optimizer.lr=0.1")
    assert again == run and epochs(Path("other")) == [0, 1, 2]
    assert "learning rate" in refused(ferl, capsys, *words, "--trainer.max_epochs=3", "--model.optimizer.lr=0.1")
    ferl("test", "--ckpt_path=last")
    assert (run / "report/metrics.json").is_file()
    ferl("fit", "--ckpt_path=last", "--trainer.max_epochs=3")  # no word says of which run
    assert epochs(run) == [0, 1, 2]
    assert "there is no checkpoint in none" in refused(
        ferl, capsys, "test", "--ckpt_path=last", "--trainer.default_root_dir=none"
    )


def test_a_command_that_comes_to_nothing_leaves_no_folder(ferl: Ferl, capsys: pytest.CaptureFixture[str]) -> None:
    refused(ferl, capsys, "fit", "--data.root=none", "--data=FER2013")
    assert not Path("runs").exists()


@pytest.mark.parametrize("name", ["", "..", "a/b"])
def test_a_name_is_that_of_a_folder_in_runs(ferl: Ferl, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert "without slashes" in refused(ferl, capsys, "fit", *TINY, *SMALL, f"--name={name}")
    assert not [*Path().glob("*")]


def test_folders_chosen_at_the_same_moment_differ(ferl: Ferl) -> None:
    """Eight processes wait for a word each, and then choose within the same second."""
    code = "from ferlightning.cli.run_folder import choose; print(flush=True); input(); print(choose(['fit'], None)[0])"
    command = [sys.executable, "-c", code]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    chosen = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert len(chosen) == 8 and all(Path(folder).is_dir() for folder in chosen)


@pytest.mark.slow
def test_a_closed_terminal_ends_a_training(ferl: Ferl) -> None:
    """The progress bar has nowhere to write to from then on, which must not change how it ends."""
    master, terminal = pty.openpty()
    os.set_blocking(master, False)

    def read() -> None:
        time.sleep(0.2)
        with suppress(BlockingIOError):
            os.read(master, 1 << 20)

    process = begin(out=terminal, wait=read, preexec_fn=partial(os.login_tty, terminal))
    os.close(terminal)
    os.close(master)
    assert process.wait(timeout=120) == 129


@pytest.mark.slow
def test_a_closed_terminal_does_not_end_what_nohup_runs(ferl: Ferl) -> None:
    process = begin(preexec_fn=partial(signal.signal, signal.SIGHUP, signal.SIG_IGN))
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    assert ended(process) == 143


def test_a_training_goes_on_offline_if_the_tracker_is_out_of_reach(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # not listening: a closed port
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{taken.getsockname()[1]}")
        monkeypatch.setenv("WANDB_MODE", "online")
        go_offline_if_unreachable()
        assert os.environ["WANDB_MODE"] == "offline" and "W&B is out of reach" in caplog.text
        taken.listen()
        monkeypatch.setenv("WANDB_MODE", "online")
        go_offline_if_unreachable()
        assert os.environ["WANDB_MODE"] == "online"


ONE_CYCLE = ["--model.scheduler=OneCycleLR", "--model.scheduler.max_lr=0.01", "--model.scheduler_interval=step"]


def test_a_one_cycle_schedule_is_not_trained_beyond(ferl: Ferl, capsys: pytest.CaptureFixture[str]) -> None:
    """Two batches an epoch. A resume that has no more epochs is as any other, one with more leaves all as it was."""
    words = [*WORDS, *NO_REPORT, *ONE_CYCLE]
    error = refused(ferl, capsys, "fit", *words, "--trainer.max_epochs=3", "--model.scheduler.total_steps=5")
    assert "model.scheduler: total_steps of OneCycleLR is 5 steps, and this training has 6 steps" in error
    error = refused(ferl, capsys, "fit", *words, "--model.scheduler.pct_start=3", "--trainer.fast_dev_run=true")
    assert "model.scheduler cannot be made: Expected float between 0 and 1 pct_start" in error
    shutil.rmtree("run")
    error = refused(ferl, capsys, "fit", *words, "--data.size=3", "--trainer.fast_dev_run=true")
    assert "the images are too small for this network" in error
    by_epoch = ["--model.scheduler_interval=epoch", "--model.scheduler.epochs=1", "--model.scheduler.steps_per_epoch=2"]
    error = refused(ferl, capsys, "fit", *words, "--trainer.max_epochs=3", *by_epoch)
    assert "epochs times steps_per_epoch of OneCycleLR is 2 epochs, and this training has 3 epochs" in error
    assert not Path("run/config.yaml").exists()

    ferl("fit", *WORDS, *ONE_CYCLE, "--trainer.max_epochs=2")
    before = contents(Path("run"))
    resumed = ["fit", "--ckpt_path=run/checkpoints/last.ckpt"]
    ferl(*resumed)
    assert "nothing is left to train. To train on, start a new run from these weights" in capsys.readouterr().out
    error = refused(ferl, capsys, *resumed, "--trainer.max_epochs=3")
    assert "the OneCycleLR of this run ends after 4 steps, and this training has 6 steps" in error
    assert "--from=run/checkpoints/last.ckpt" in error
    assert contents(Path("run")) == before
    more = ["--trainer.default_root_dir=more", "--trainer.max_epochs=1"]
    ferl("fit", "--model.init_from=run/checkpoints/last.ckpt", *words, *more)


def test_a_run_that_was_stopped_ends_its_one_cycle_schedule(ferl: Ferl) -> None:
    words = [*WORDS, *NO_REPORT, *ONE_CYCLE, "--model.scheduler.total_steps=6"]
    ferl("fit", *words, "--trainer.max_epochs=2")
    ferl("fit", "--ckpt_path=run/checkpoints/last.ckpt", "--trainer.max_epochs=3")
    assert epochs(Path("run")) == [0, 1, 2]
    ferl("fit", *words, "--trainer.default_root_dir=short", "--trainer.max_steps=4", "--trainer.max_epochs=9")


def test_a_cosine_that_rises_again_is_told(ferl: Ferl, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*WORDS, *NO_REPORT, "--model.scheduler=CosineAnnealingLR", "--model.scheduler.T_max=2"]
    note = "Note: CosineAnnealingLR falls for model.scheduler.T_max=2 epochs, and this training has 3 epochs"
    ferl("fit", *words, "--trainer.max_epochs=2")
    assert "Note: Cosine" not in capsys.readouterr().out
    ferl("fit", "--ckpt_path=run/checkpoints/last.ckpt", "--trainer.max_epochs=3")
    assert f"{note}: from there on the learning rate rises again. To train on, start a new" in capsys.readouterr().out


def test_the_bare_name_of_a_plateau_takes_a_monitor_and_waits_for_validations(
    ferl: Ferl, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of three epochs one is validated; without a word the loss is watched."""
    words = [*WORDS, *NO_REPORT, "--trainer.max_epochs=3", "--trainer.check_val_every_n_epoch=2"]
    bare = "--model.scheduler=ReduceLROnPlateau"
    assert "limit_val_batches is 0" in refused(ferl, capsys, "fit", *words, bare, "--trainer.limit_val_batches=0")
    schedule = {"class_path": "ReduceLROnPlateau", "init_args": {"monitor": "val/accuracy", "patience": 0}}
    Path("a.yaml").write_text(yaml.safe_dump({"model": {"init_args": {"scheduler": schedule}}}))
    for folder, more, monitor in (
        ("run", [bare, "--model.scheduler.patience=0"], "val/loss"),
        ("words", ["--model.scheduler.monitor=val/accuracy", bare], "val/accuracy"),
        ("yaml", ["--config=a.yaml"], "val/accuracy"),
    ):
        ferl("fit", *words, *more, f"--trainer.default_root_dir={folder}")
        saved = yaml.safe_load(Path(folder, "config.yaml").read_text())["model"]["init_args"]["scheduler"]
        assert saved["init_args"]["monitor"] == monitor
        state = torch.load(f"{folder}/checkpoints/last.ckpt", weights_only=True)["lr_schedulers"][0]
        assert (state["monitor"], state["last_epoch"]) == (monitor, 1)
    ferl("validate", "--ckpt_path=yaml/checkpoints/last.ckpt")  # without --trust


def test_a_checkpoint_wins_over_other_weights_and_says_so(
    run: Path, ferl: Ferl, capsys: pytest.CaptureFixture[str]
) -> None:
    start = [f"--ckpt_path={run}/checkpoints/last.ckpt", f"--model.init_from={run}/checkpoints/best.ckpt"]
    note = f"--model.init_from={run}/checkpoints/best.ckpt is not used beside it"
    for words in (["fit", "--trainer.max_epochs=2"], ["test"]):
        ferl(*words, *start)
        assert note in capsys.readouterr().out
    ferl("test", start[0])
    assert "is not used" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "pattern", [".*(?P<label>happy|sad).*", "[a-z]*(?P<label>happy|sad)", "(?P<label>happy|sad)_*"]
)
def test_a_test_with_another_pattern_leaves_the_report_of_the_run(pattern: str, ferl: Ferl) -> None:
    Path("faces").mkdir()
    for i, image in enumerate(np.random.default_rng(0).integers(0, 256, (24, 48, 48), np.uint8)):
        cv2.imwrite(f"faces/{'happy' if i % 2 else 'sad'}_s{i // 4}_{i}.png", image)
    data = ["--data=ImageFolder", "--data.root=faces", r"--data.pattern=(?P<label>happy|sad)_(?P<subject>s\d+)"]
    ferl("fit", *data, *SMALL, *NO_REPORT, "--trainer.max_epochs=1", "--trainer.default_root_dir=run")
    ferl("test", "run")
    before = contents(Path("run/report"))
    ferl("test", "run", f"--data.pattern={pattern}")
    assert contents(Path("run/report")) == before
    assert [path.name for path in Path("run").glob("report_pattern*")]

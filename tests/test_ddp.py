"""Two processes on the CPU (gloo) train and evaluate as one does."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.conftest import NO_REPORT, SMALL, TINY

TWO = ["--trainer.accelerator=cpu", "--trainer.devices=2", "--trainer.strategy=ddp"]


def ferl(*words: str) -> str:
    done = subprocess.run([sys.executable, "-m", "ferlightning", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_two_processes_evaluate_to_what_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # 9 items a class leave the splits uneven, so that a sampler that repeats items would be found out.
    words = [*TINY, *SMALL, "--data.items_per_class=9", "--model.sequence=LSTM", "--trainer.max_epochs=1"]
    ferl("fit", *words, *TWO, "--test_after_fit=true")
    (run,) = tmp_path.glob("runs/default/20*")  # one folder for both processes
    # The epoch's validation metrics are over all items: equal to those of the report, which gathers every item.
    logged = next(row for row in csv.DictReader((run / "metrics.csv").open()) if row["val/accuracy"])
    validated = json.loads((run / "report_val" / "metrics.json").read_text())["metrics"]
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "nll", "calibration_error"):
        assert float(logged[f"val/{name}"]) == pytest.approx(validated[name]["value"], abs=1e-5)
    reports = [json.loads((run / "report" / "metrics.json").read_text())]
    for devices in (["--trainer.devices=1", "--trainer.strategy=auto"], TWO):
        out = ferl("test", f"--ckpt_path={run}/checkpoints/best.ckpt", *devices)
        assert out.count("Report: ") == 1
        reports.append(json.loads((run / "report" / "metrics.json").read_text()))
    two_after_fit, one, two = reports
    assert one["n"] % 2 == 1, "an even number of items would hide a repeated one"
    assert (one["provenance"]["devices"], two["provenance"]["devices"]) == (1, 2)
    for other in (two_after_fit, two):
        assert other["n"] == one["n"]
        assert other["confusion_matrix"] == one["confusion_matrix"]
        for name, entry in one["metrics"].items():
            assert other["metrics"][name]["value"] == pytest.approx(entry["value"], abs=1e-5)


@pytest.mark.slow
def test_two_processes_share_one_balanced_draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes with half the batch each take the steps that one takes; batch norm is frozen, so that they can."""
    monkeypatch.chdir(tmp_path)
    words = [*TINY, *SMALL, "--data.balanced_sampling=true", "--model.lr_scale={backbone: 0}", "--trainer.max_epochs=2"]
    words += ["--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=0.1", *NO_REPORT]
    words += ["--trainer.precision=32-true"]  # coarser, the order in which gradients are summed would count
    for folder, how in (("one", ["--data.batch_size=16"]), ("two", ["--data.batch_size=8", *TWO])):
        ferl("fit", *words, *how, f"--trainer.default_root_dir={folder}")
    one, two = (torch.load(f"{name}/checkpoints/last.ckpt", weights_only=True)["state_dict"] for name in ("one", "two"))
    torch.testing.assert_close(
        one["network.head.classify.weight"], two["network.head.classify.weight"], rtol=1e-4, atol=1e-5
    )


def node(rank: int, port: int, *words: str) -> subprocess.Popen[str]:
    """One of two machines, as far as torchrun can tell: a launcher with one process."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", f"--node-rank={rank}", "--nproc-per-node=1"]
    command += ["--master-addr=127.0.0.1", f"--master-port={port}", "-m", "ferlightning", *words]
    command += ["--trainer.accelerator=cpu", "--trainer.num_nodes=2", "--trainer.devices=1", "--trainer.strategy=ddp"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
def test_two_machines_train_as_one_does_and_neither_outlives_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batch norm is frozen, so that they can; centre loss moves its centres by the items of both."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FERL_RUN_FOLDER", raising=False)  # of a training in this process
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["fit", *TINY, *SMALL, "--model.lr_scale={backbone: 0}", "--model.losses=[CrossEntropy,CenterLoss]"]
    words += ["--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=0.1", *NO_REPORT]
    words += ["--trainer.precision=32-true"]  # coarser, the order in which gradients are summed would count
    ferl(*words, "--trainer.max_epochs=2", "--data.batch_size=16", "--trainer.default_root_dir=one")
    words.append("--data.batch_size=8")

    refused = [node(rank, port, *words, "--trainer.max_epochs=2") for rank in (0, 1)]
    for process in refused:  # neither waits for the other
        out, _ = process.communicate(timeout=120)
        assert process.returncode and "give them one with --trainer.default_root_dir" in out

    nodes = [node(rank, port, *words, "--trainer.max_epochs=2", "--trainer.default_root_dir=two") for rank in (0, 1)]
    for process in nodes:
        out, _ = process.communicate(timeout=240)
        assert process.returncode == 0, out
    one, two = (torch.load(f"{name}/checkpoints/last.ckpt", weights_only=True)["state_dict"] for name in ("one", "two"))
    for name in one:
        torch.testing.assert_close(
            one[name], two[name], rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )

    nodes = [node(rank, port, *words, "--trainer.max_epochs=9999", "--trainer.default_root_dir=cut") for rank in (0, 1)]
    while not Path("cut/checkpoints/last.ckpt").exists():
        assert all(process.poll() is None for process in nodes)
        time.sleep(0.2)
    for process in subprocess.check_output(["pgrep", "-P", str(nodes[1].pid)], text=True).split():
        os.kill(int(process), signal.SIGKILL)
    nodes[1].kill()
    out, _ = nodes[0].communicate(timeout=30)
    assert (
        nodes[0].returncode
        and "another process of this training has ended" in out
        and "Traceback" not in out.split("ferl: error")[0]
    )
    nodes[1].communicate()


@pytest.mark.slow
def test_two_tasks_of_a_slurm_job_have_it_put_back_once_whatever_each_is_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SLURM signals each task when it comes to it; SIGTERM to all follows, once the job is put back."""
    monkeypatch.chdir(tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    scontrol = tmp_path / "bin/scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f"#!/bin/sh\necho $* >> {tmp_path}/asked\n")
    scontrol.chmod(0o755)
    job = {"JOB_ID": "4242", "JOB_NAME": "train", "NTASKS": "2", "NTASKS_PER_NODE": "1", "NNODES": "2", "LOCALID": "0"}
    job |= {"NODELIST": "localhost"}
    paths = f"{scontrol.parent}{os.pathsep}{os.environ['PATH']}"
    command = [sys.executable, "-m", "ferlightning", "fit", *TINY, *SMALL, *NO_REPORT, "--trainer.max_epochs=9999"]
    command += ["--trainer.accelerator=cpu", "--trainer.num_nodes=2", "--trainer.devices=1", "--trainer.strategy=ddp"]
    environment = {f"SLURM_{name}": value for name, value in job.items()}
    environment |= {"PATH": paths, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    tasks = [
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env=os.environ | environment | {"SLURM_PROCID": rank, "SLURM_NODEID": rank},
        )
        for rank in "01"
    ]  # fmt: skip
    while not [*Path("runs").glob("*/slurm-*/checkpoints/last.ckpt")]:
        assert all(process.poll() is None for process in tasks)
        time.sleep(0.2)
    for process in tasks:
        process.send_signal(signal.SIGUSR1)
        time.sleep(0.5)
    for process in tasks:
        process.send_signal(signal.SIGTERM)
    for process in tasks:
        out, _ = process.communicate(timeout=60)
        assert process.returncode
        assert "o on from the last whole epoch" in out  # stopped by the signal, or by the end of the other
    assert 143 in [process.returncode for process in tasks]
    assert Path("asked").read_text() == "requeue 4242\n"

"""How a training that was stopped goes on: who owns a run folder, what may change, and what is left to do."""

import json
import math
import shlex
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from filelock import FileLock, Timeout
from jsonargparse import Namespace
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.utilities.exceptions import SIGTERMException

from ferlightning.checkpoint import read_checkpoint
from ferlightning.cli.messages import WARM_UP
from ferlightning.cli.run_folder import run_of, slurm_job
from ferlightning.errors import FerlError
from ferlightning.files import remove_unfinished

OPTIMIZATION = ("optimizer", "scheduler", "scheduler_interval", "warmup", "lr_scale", "decay_vectors")
"""Options of a model whose state is in a checkpoint, and would silently win."""


def own(folder: Path) -> FileLock:
    """Own a run folder until the lock is released, or the process ends, and clear it of what a kill left unfinished.

    Raises:
        FerlError: another training is at work in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise FerlError(
            f"--trainer.default_root_dir: another training is at work in the folder {folder}; choose another"
        ) from None
    for written in (folder, folder / "checkpoints"):
        remove_unfinished(written)
    return lock


def refuse_another_optimizer(options: Any, saved: Mapping[str, Any]) -> None:
    """Refuse a resumed training with another optimiser or schedule than the one whose state it takes up."""
    before = saved.get("model", {}).get("init_args", {})
    for name in OPTIMIZATION:
        now = options.get(name)
        if name in before and _plain(now) != _plain(before[name]):
            raise FerlError(
                f"--model.{name}: a resumed training goes on with the learning rate, optimizer and schedule of its "
                "checkpoint, so they cannot be changed. To train on with others, start a new run from these weights, "
                "by --from in place of --ckpt_path"
            )


def check_schedule(options: Any, trainer: Trainer, steps: int, checkpoint: str | None) -> str:
    """Refuse a schedule that ends before its training.

    Args:
        options: of the model.
        trainer: with the number of epochs.
        steps: of the optimiser in an epoch.
        checkpoint: that the training goes on from, if it does.

    Returns:
        What is odd but possible, in a sentence; empty if nothing is.

    Raises:
        FerlError: it is a ``OneCycleLR`` of fewer steps, or waits for validations that are switched off.
    """
    scheduler = options.get("scheduler")
    name = scheduler.class_path.rpartition(".")[2] if scheduler else ""
    given = scheduler.get("init_args", {}) if scheduler else {}
    if name == "ChainedScheduler":
        raise FerlError(f"model.scheduler: {WARM_UP}")
    for key in ("T_max", "step_size"):
        if given.get(key, 1) < 1:
            raise FerlError(f"model.scheduler.{key} is {given[key]}, expected a number from 1")
    of_training = str(given.get("monitor", "")).startswith("train/")
    if name == "OneCycleLR" and (given.get("epochs") is None) != (given.get("steps_per_epoch") is None):
        raise FerlError(
            "model.scheduler: OneCycleLR reads epochs and steps_per_epoch together alone. Leave both out, and it is as "
            "long as the training"
        )
    if name == "ReduceLROnPlateau" and not trainer.limit_val_batches and not of_training:
        raise FerlError(
            "model.scheduler: ReduceLROnPlateau steps after validations, and trainer.limit_val_batches is 0: leave "
            "that out, or choose another scheduler"
        )
    if name not in ("OneCycleLR", "CosineAnnealingLR"):
        return ""
    stored = read_checkpoint(checkpoint, device="meta") if checkpoint else {}
    state: dict[str, Any] = next(iter(stored.get("lr_schedulers", [])), {})
    left = math.inf if trainer.max_epochs in (None, -1) else (trainer.max_epochs - stored.get("epoch", -1) - 1) * steps
    if trainer.max_steps != -1:
        left = min(left, trainer.max_steps - stored.get("global_step", 0))
    by_step = options.get("scheduler_interval") == "step"
    unit = "steps" if by_step else "epochs"
    needed = state.get("last_epoch", 0) + max(left if by_step or left == math.inf else left // steps, 0)
    made = f"this training has {needed:,} {unit}" if needed < math.inf else "this training has no end"
    if name == "CosineAnnealingLR":
        if needed <= given["T_max"]:
            return ""
        return (
            f"CosineAnnealingLR falls for model.scheduler.T_max={given['T_max']} {unit}, and {made}: from there on the "
            "learning rate rises again. "
            + (_new_run(checkpoint) if checkpoint else "Give T_max that number for one that falls to the end")
        )
    product = (given.get("epochs") or 0) * (given.get("steps_per_epoch") or 0)
    total = state.get("total_steps") or given.get("total_steps") or product or math.inf
    if needed <= total:
        return ""
    if checkpoint:
        raise FerlError(
            f"--trainer.max_epochs: the OneCycleLR of this run ends after {total:,} {unit}, and {made}: it is bound to "
            f"the number of epochs that the run began with. {_new_run(checkpoint)}"
        )
    option = "total_steps" if given.get("total_steps") else "epochs times steps_per_epoch"
    raise FerlError(
        f"model.scheduler: {option} of OneCycleLR is {total:,} {unit}, and {made}. Leave it out, and it is as long as "
        "the training; or give fewer --trainer.max_epochs"
    )


def _new_run(checkpoint: str) -> str:
    return f"To train on, start a new run from these weights: without --ckpt_path, by --from={shlex.quote(checkpoint)}"


def early_stopped(callback: object, waited: int) -> bool:
    """Whether a callback is an ``EarlyStopping`` that has waited for too many validations."""
    return isinstance(callback, EarlyStopping) and waited >= max(callback.patience, 1)


def nothing_left(config: Any, trainer: Trainer, checkpoint: str, folder: Path) -> bool:
    """Whether a checkpoint's run has trained to its end and made its report, or lies elsewhere; then say so."""
    stored = read_checkpoint(checkpoint, device="meta")
    done = {"epochs": stored.get("epoch", -1) + 1, "steps": stored.get("global_step", 0)}
    most = {unit: config.trainer[f"max_{unit}"] for unit in done}
    over = [unit for unit in done if most[unit] not in (None, -1) and done[unit] >= most[unit]]
    states, callbacks = stored.get("callbacks", {}), trainer.callbacks  # type: ignore[attr-defined]
    early = any(early_stopped(x, states.get(x.state_key, {}).get("wait_count", 0)) for x in callbacks)
    at_home = run_of(checkpoint) == folder
    wanted = ["report_val", *(["report"] if config.test_after_fit else [])] if at_home else []
    if not (over or early) or not all((folder / name / "metrics.json").is_file() for name in wanted):
        return False
    scheduler = config.model.get("init_args", {}).get("scheduler")
    if scheduler is not None and scheduler.class_path.endswith(".OneCycleLR"):
        how = _new_run(checkpoint)
    else:
        raised = [f"--trainer.max_{unit} above {done[unit]:,}" for unit in over]
        raised += ["the patience of EarlyStopping"] * early
        how = f"Raise {' and '.join(raised)} to go on"
    end = f"has finished its {done[over[0]]:,} {over[0]}" if over else f"was ended early after {done['epochs']} epochs"
    print(f"{folder if at_home else checkpoint} {end}: nothing is left to train. {how}")
    return True


def stopped(folder: Path, signum: signal.Signals) -> None:
    """End the command as a signal ends one, and say how to go on."""
    last = folder / "checkpoints" / "last.ckpt"
    how = f"go on from the last whole epoch by: ferl fit --ckpt_path={shlex.quote(str(last))}"
    print(f"Stopped by {signum.name}; {how if last.is_file() else 'no epoch was finished: start again'}")
    if signum == signal.SIGINT:
        raise KeyboardInterrupt from None  # from Python, too, it is what Ctrl-C is called
    raise SystemExit(128 + signum)


class EndAlone(Callback):
    """Ends each of several processes as soon as SIGTERM comes to it.

    Lightning has each wait for the others then and there. They are at other operations, such as the sum of the
    gradients, so that they would wait for ever. Nothing is lost: the run goes on from its last whole epoch.
    """

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        def end(number: int, _: object) -> NoReturn:
            if trainer.strategy.launcher is not None:
                trainer.strategy.launcher.kill(number)
            raise SIGTERMException

        signal.signal(signal.SIGTERM, end)  # Lightning has set its own just before

    on_train_start = on_sanity_check_start


def puts_back() -> signal.Signals | None:
    """The signal at which SLURM has to be asked to put the job back, where several processes train.

    Lightning saves first, for which they wait for each other, as at SIGTERM; it leaves a signal alone that is handled.
    """
    return signal.SIGUSR1 if SLURMEnvironment.detect() and SLURMEnvironment().world_size() > 1 else None


def put_back(_: int) -> None:
    """Have SLURM put the job back, which ends it; the first process does."""
    if SLURMEnvironment().global_rank() == 0:
        command = ["scontrol", "requeue", str(slurm_job())]
        try:
            status: object = subprocess.call(command)
        except OSError as error:
            status = error.strerror
        outcome = f"failed: {status}" if status else "it goes on from the last whole epoch"
        print(f"The time of the job is nearly up. {' '.join(command)}: {outcome}", flush=True)


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value.as_dict() if isinstance(value, Namespace) else value, default=str))

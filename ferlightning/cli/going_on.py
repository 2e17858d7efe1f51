"""How a training that was stopped goes on: who owns a run folder, what may change, and what is left to do."""

import json
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from jsonargparse import Namespace

from ferlightning.checkpoint import read_checkpoint
from ferlightning.errors import FerlError
from ferlightning.files import remove_unfinished

OPTIMIZATION = ("optimizer", "scheduler", "scheduler_interval", "lr_scale", "decay_vectors")
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
                "checkpoint, so they cannot be changed. To train on with others, start a new run from these weights by "
                "--model.init_from"
            )


def nothing_left(config: Any, checkpoint: str, folder: Path) -> bool:
    """Whether the run of a checkpoint has trained all its epochs and made its report; then say so."""
    done = read_checkpoint(checkpoint, device="meta").get("epoch", -1) + 1
    most = config.trainer.max_epochs
    wanted = ["report_val", *(["report"] if config.test_after_fit else [])]
    if most in (None, -1) or done < most or not all((folder / name / "metrics.json").is_file() for name in wanted):
        return False
    print(f"{folder} has finished its {most} epochs: nothing is left to train. Raise --trainer.max_epochs to go on")
    return True


def stopped(folder: Path, signum: signal.Signals) -> None:
    """End the command as a signal ends one, and say how to go on."""
    last = folder / "checkpoints" / "last.ckpt"
    how = f"go on from the last whole epoch by: ferl fit --ckpt_path={last}"
    print(f"Stopped by {signum.name}; {how if last.is_file() else 'no epoch was finished: start again'}")
    raise SystemExit(128 + signum)


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value.as_dict() if isinstance(value, Namespace) else value, default=str))

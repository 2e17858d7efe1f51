"""A worker of a search: takes a trial, runs it as a process of its own, follows it, stops it early.

The storage of Optuna is SQLite: a write is there or not even if its process is killed. A worker holds a lock on the
trial it runs, which the system frees when it dies, whatever of; a running trial that nobody holds is tried again.
Unlike Optuna's heartbeats, this is seen at once, takes no clock, and does not take a stopped process for a dead one.
"""

import csv
import ctypes
import math
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.trial import FrozenTrial, Trial, TrialState

from ferlightning.errors import FerlError
from ferlightning.sweep.file import Sweep

POLL = 0.5  # seconds between looks at a running trial
PATIENCE = 30.0  # seconds that a trial which is told to stop gets
OUTPUT = "output"
"""User attribute of a trial that failed: the end of what it said. One without it died with its worker."""

optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


class Search:
    """A search in a folder, which any number of workers share.

    Args:
        sweep: what is searched.
        out: folder: ``study.db`` and ``trials/<number>/``, the run folders.
        total: number of trials of all workers together.

    Raises:
        FerlError: another search is in the folder.
    """

    def __init__(self, sweep: Sweep, out: Path, total: int) -> None:
        self.sweep, self.out, self.total = sweep, out, total
        self._asked_to_end = False
        (out / ".locks").mkdir(parents=True, exist_ok=True)
        self.lock = FileLock(out / ".locks" / "study")
        with self.lock:
            storage = optuna.storages.RDBStorage(
                f"sqlite:///{(out / 'study.db').resolve()}", engine_kwargs={"connect_args": {"timeout": 60}}
            )
            self.study = optuna.create_study(
                storage=storage,
                study_name="sweep",
                direction=sweep.direction,
                pruner=sweep.pruner(),
                load_if_exists=True,
            )
            stored = self.study.user_attrs.get("search")
            if stored is None:
                self.study.set_user_attr("search", sweep.search)
            elif stored != sweep.search:
                changed = [key for key in stored.keys() | sweep.search if stored.get(key) != sweep.search.get(key)]
                raise FerlError(
                    f"{out} holds a search with another {' and '.join(sorted(changed))} than {sweep.path}: give "
                    "another folder with --out, or delete this one"
                )

    def trials(self) -> list[FrozenTrial]:
        """The trials by number, without those that died with their worker."""
        return [
            trial
            for trial in self.study.get_trials(deepcopy=False)
            if trial.state != TrialState.FAIL or OUTPUT in trial.user_attrs
        ]

    def folder(self, number: int) -> Path:
        """The run folder of a trial."""
        return self.out / "trials" / f"{number:04}"

    def work(self) -> None:
        """Run trials until all are done, those of other workers included: one of these may yet die.

        Raises:
            KeyboardInterrupt: asked to end, by SIGINT or SIGTERM; the trial it was running is tried again another time.
        """
        before = {number: signal.signal(number, self._ask_to_end) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            while True:
                trial, lock = self._take()
                if trial is not None:
                    try:
                        self._run(trial)
                    finally:
                        lock.release()
                elif all(trial.state.is_finished() for trial in self.trials()):
                    return
                else:
                    time.sleep(POLL)
                    self._end_if_asked()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _ask_to_end(self, number: int, frame: FrameType | None) -> None:
        # An exception raised from here would be lost where Python ignores them, as while it collects garbage.
        self._asked_to_end = True

    def _end_if_asked(self) -> None:
        if self._asked_to_end:
            raise KeyboardInterrupt

    def _take(self) -> tuple[Trial | None, FileLock]:
        """The next trial with its lock held; None if all have been started. One worker at a time."""
        with self.lock:
            self._retire_dead()
            trials = self.trials()
            if not any(trial.state == TrialState.WAITING for trial in trials):
                if len(trials) >= self.total:
                    return None, self.lock
                if self.sweep.method == "grid":  # Optuna's GridSampler may give one point to two workers
                    taken = [trial.params for trial in trials]
                    self.study.enqueue_trial(next(point for point in self.sweep.points() if point not in taken))
            # Seeded by the trial, so that a random search is the same for any number of workers.
            self.study.sampler = self.sweep.sampler(seed=len(trials))
            trial = self.study.ask(self.sweep.space)
            lock = self._trial_lock(trial.number)
            lock.acquire(timeout=0)
            return trial, lock

    def _trial_lock(self, number: int) -> FileLock:
        return FileLock(self.out / ".locks" / f"{number:04}")

    def _retire_dead(self) -> None:
        """Put what dead workers were running back into the queue, and remove what is left of it."""
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            with suppress(Timeout), self._trial_lock(trial.number).acquire(timeout=0):
                if self.study.get_trials(deepcopy=False)[trial.number].state.is_finished():
                    continue  # just now
                self.study.tell(trial.number, state=TrialState.FAIL)
                if OUTPUT in trial.user_attrs:
                    continue  # it had failed before
                shutil.rmtree(self.folder(trial.number), ignore_errors=True)
                if trial.params.keys() == self.sweep.space.keys():
                    self.study.enqueue_trial(trial.params)
                print(f"trial {trial.number} died with its worker; it is tried again", flush=True)

    def _run(self, trial: Trial) -> None:
        folder, parameters = self.folder(trial.number), self.sweep.decode(trial.params)
        folder.mkdir(parents=True)
        words = [*self.sweep.words(parameters), f"--trainer.default_root_dir={folder}"]
        said = ", ".join(f"{name}={value}" for name, value in parameters.items())
        print(f"trial {trial.number} starts: {said}", flush=True)
        with (folder / "output.txt").open("wb") as output:
            try:
                child = subprocess.Popen(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=_environment(),
                    start_new_session=True,  # so that its own processes can be stopped with it
                    preexec_fn=die_with_parent,
                )
            except OSError as error:
                raise FerlError(f"{self.sweep.path}: command: cannot run {words[0]}: {error.strerror}") from None
            try:
                status = self._follow(child, trial, folder / "metrics.csv")
            finally:
                _stop(child)
        self._tell(trial, status, folder)

    def _follow(self, child: "subprocess.Popen[bytes]", trial: Trial, log: Path) -> int | None:
        """Report each epoch until the run ends; its exit status, or None if it shall be stopped for its values."""
        reported, status = 0, None
        while status is None:
            with suppress(subprocess.TimeoutExpired):
                status = child.wait(timeout=POLL)
            self._end_if_asked()
            values = metric_values(log, self.sweep.metric)
            # Steps count from 0: as in W&B, min_iter=3 looks at the fourth value, so that the last one stops nothing.
            for step, value in enumerate(values[reported:], reported):
                trial.report(value, step)
                if trial.should_prune() and status is None:
                    return None
            reported = max(reported, len(values))
        return status

    def _tell(self, trial: Trial, status: int | None, folder: Path) -> None:
        values = [x for x in metric_values(folder / "metrics.csv", self.sweep.metric) if math.isfinite(x)]
        best = (max if self.sweep.direction == "maximize" else min)(values, default=math.nan)
        if status is None:
            self.study.tell(trial, state=TrialState.PRUNED)
            print(f"trial {trial.number} stopped early: {self.sweep.metric} {best:.4f}", flush=True)
        elif status == 0 and values:
            self.study.tell(trial, best)
            print(f"trial {trial.number} done: {self.sweep.metric} {best:.4f}", flush=True)
        else:
            lines = (folder / "output.txt").read_text(errors="replace").splitlines()[-20:]
            lines.append(f"exit status {status}" if status else _what_was_logged(folder, self.sweep.metric))
            trial.set_user_attr(OUTPUT, "\n".join(lines))
            self.study.tell(trial, state=TrialState.FAIL)
            print(f"trial {trial.number} failed: {lines[-1]}; see {folder}/output.txt", flush=True)


def metric_values(log: Path, metric: str) -> list[float]:
    """The values of a metric in the order they were logged.

    Args:
        log: ``metrics.csv`` of a run, which may be being written.
        metric: its column.
    """
    if not log.exists():
        return []
    complete, _, _ = log.read_text().rpartition("\n")
    return [float(row[metric]) for row in csv.DictReader(complete.splitlines()) if row.get(metric)]


def _what_was_logged(folder: Path, metric: str) -> str:
    log = folder / "metrics.csv"
    columns = log.read_text().partition("\n")[0].split(",") if log.exists() else []
    return f"{log} has no finite value of {metric}; its columns are {', '.join(columns) or 'none'}"


def reproduce(sweep: Sweep, parameters: Mapping[str, Any]) -> list[str]:
    """The words that repeat a trial, in a run folder of its own, and like it without an account of W&B."""
    words = sweep.words(parameters)
    words = words[1:] if words[0] == "/usr/bin/env" else words
    return words if "WANDB_MODE" in os.environ else ["env", "WANDB_MODE=offline", *words]


def _environment() -> dict[str, str]:
    """Of this process; ``ferl`` and ``python`` are those that run this, W&B needs no account."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {"WANDB_MODE": "offline"} | os.environ | {"PATH": path}


def die_with_parent() -> None:
    """Have the system kill this process with its parent. Linux only: elsewhere it goes on to its end, uncounted."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def _stop(child: "subprocess.Popen[bytes]") -> None:
    """End a run and the processes it has started, kindly at first."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGTERM)
        try:
            child.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()

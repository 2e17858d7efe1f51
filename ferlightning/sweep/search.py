"""A search in a folder: takes trials from an Optuna study, runs each as a process, follows it, stops it early.

Optuna's heartbeats tell which trials lost their worker; these are tried again. Several threads, and several processes,
may work on one folder on a local disk.
"""

import csv
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path

import optuna
from filelock import FileLock
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, Trial, TrialState

from ferlightning.errors import FerlError
from ferlightning.signals import HANG_UP, asked_to_end
from ferlightning.sweep.file import Sweep

POLL = 0.5  # seconds between looks at a running trial
PATIENCE = 30.0  # seconds that a run which is told to stop gets
HEARTBEAT, GRACE = 5, 30  # seconds between heartbeats, and without any until a worker counts as dead
OUTPUT = "output"  # user attribute of a failed trial: the end of what it said

# Linux kills a run with its worker when asked to. In a process with threads it must not be asked between fork and exec.
RUN = """
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9)
os.execvp(sys.argv[1], sys.argv[1:])
"""


class Search:
    """A search in a folder, which any number of workers share.

    Args:
        sweep: what to search.
        out: folder for ``study.db`` and the run folders, ``trials/<number>``.
        total: number of trials of all workers together.

    Raises:
        FerlError: another search is in the folder.
    """

    def __init__(self, sweep: Sweep, out: Path, total: int) -> None:
        self.sweep, self.out, self.total = sweep, out, total
        self.lock = FileLock(out / ".lock")
        self._stop = threading.Event()
        self._misnamed = ""
        """Why no trial can have a value; empty if one may."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        out.mkdir(parents=True, exist_ok=True)
        with self.lock:
            storage = optuna.storages.RDBStorage(
                f"sqlite:///{(out / 'study.db').resolve()}",
                engine_kwargs={"connect_args": {"timeout": 60}},
                heartbeat_interval=HEARTBEAT,
                grace_period=GRACE,
                heartbeat_stale_trial_callback=self._retry,
            )
            self.study = optuna.create_study(
                storage=storage,
                study_name="sweep",
                direction=sweep.metric.goal,
                pruner=sweep.pruner(),
                load_if_exists=True,
            )
            wanted = sweep.identity()
            stored = self.study.user_attrs.get("search", wanted)
            if changed := [key for key in stored.keys() | wanted if stored.get(key) != wanted.get(key)]:
                raise FerlError(
                    f"{out} holds a search with another {' and '.join(sorted(changed))} than the file: give another "
                    "folder with --out, or delete this one"
                )
            self.study.set_user_attr("search", wanted)

    def folder(self, number: int) -> Path:
        """Return the run folder of a trial."""
        return self.out / "trials" / f"{number:04}"

    def trials(self) -> list[FrozenTrial]:
        """List the trials by number, without those that lost their worker and were queued again."""
        trials = self.study.get_trials(deepcopy=False)
        lost = {number for trial in trials for number in RetryHeartbeatStaleTrialCallback.retry_history(trial)}
        return [trial for trial in trials if trial.number not in lost]

    def run(self, workers: int) -> int | None:
        """Run trials until all are done, including those of other processes, which may still die.

        Args:
            workers: trials to run at a time.

        Returns:
            The signal that asked for the end, if one came; the trials that were running are queued again.

        Raises:
            FerlError: trials do not log the metric.
        """
        # A handler that raises would interrupt the ending of a run; this one only asks for it.
        with (
            asked_to_end(lambda _: self._stop.set(), signal.SIGINT, signal.SIGTERM, HANG_UP) as came,
            ThreadPoolExecutor(workers) as pool,
        ):
            futures = [pool.submit(self._work) for _ in range(workers)]
            if wait(futures, return_when=FIRST_EXCEPTION).not_done:
                self._stop.set()
            for future in futures:
                future.result()
        if self._misnamed:
            raise FerlError(self._misnamed)
        return came[0] if came else None

    def _work(self) -> None:
        number = -1

        def objective(trial: Trial) -> float:
            nonlocal number
            number = trial.number
            self.sweep.suggest(trial)
            self.folder(number).mkdir(parents=True)
            self.lock.release()
            return self._run(trial)

        while not self._stop.is_set():
            with self.lock:  # one worker at a time takes a trial, so that no point of a grid is taken twice
                optuna.storages.fail_stale_trials(self.study)
                for trial in self.study.get_trials(states=(TrialState.RUNNING,)):
                    if not self.folder(trial.number).exists():  # died while it had the lock, before its first heartbeat
                        self._retry(self.study, trial)
                        self.study.tell(trial.number, state=TrialState.FAIL)
                trials = self.trials()
                waiting = any(trial.state == TrialState.WAITING for trial in trials)
                if waiting or len(trials) < self.total:
                    if self.sweep.method == "grid" and not waiting:
                        self.study.enqueue_trial(self.sweep.points()[len(trials)])
                    # Seeded by the trial, so that a random search is the same for any number of workers.
                    self.study.sampler = self.sweep.sampler(seed=len(trials))
                    try:
                        self.study.optimize(objective, n_trials=1, catch=(FerlError,))
                    except KeyboardInterrupt:
                        self._retry(self.study, self.study.get_trials(deepcopy=False)[number])
                    except Exception:
                        # Optuna refuses the value if this process slept and others took it for dead.
                        if number in [trial.number for trial in self.trials()]:
                            raise
                    continue
            if all(trial.state.is_finished() for trial in trials):
                return
            self._stop.wait(POLL)

    def _retry(self, study: optuna.Study, trial: FrozenTrial) -> None:
        shutil.rmtree(self.folder(trial.number), ignore_errors=True)
        RetryHeartbeatStaleTrialCallback()(study, trial)
        print(f"trial {trial.number} lost its worker; it is tried again", flush=True)

    def _run(self, trial: Trial) -> float:
        folder = self.folder(trial.number)
        words = self.sweep.words(trial.params)
        said = ", ".join(f"{name}={value}" for name, value in trial.params.items())
        print(f"trial {trial.number} starts: {said}", flush=True)
        with (folder / "output.txt").open("wb") as output:
            child = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", RUN, *words, f"--trainer.default_root_dir={folder}"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={"WANDB_RUN_GROUP": self.out.name, "WANDB_TAGS": folder.name} | _environment(),
                start_new_session=True,  # so that its own processes can be stopped with it
            )
            try:
                return self._follow(child, trial)
            except optuna.TrialPruned:
                print(f"trial {trial.number} stopped early", flush=True)
                raise
            finally:
                _stop(child)

    def _follow(self, child: "subprocess.Popen[bytes]", trial: Trial) -> float:
        """Report each epoch until the run ends; return the best value."""
        folder, metric, status = self.folder(trial.number), self.sweep.metric, None
        values: list[float] = []
        while status is None:
            with suppress(subprocess.TimeoutExpired):
                status = child.wait(timeout=POLL)
            if self._stop.is_set():
                raise KeyboardInterrupt
            # Steps count from 0. As in W&B, min_iter=3 looks at the fourth value, so that the last one stops nothing.
            new = metric_values(folder, metric.name)[len(values) :]
            for value in new:
                trial.report(value, len(values))
                values.append(value)
                if (
                    trial.should_prune() and status is None
                ):  # asked each time: it is what notes the value to compare with
                    raise optuna.TrialPruned
        best = (max if metric.goal == "maximize" else min)(filter(math.isfinite, values), default=math.nan)
        if status or math.isnan(best):
            lines = (folder / "output.txt").read_text(errors="replace").splitlines()[-20:]
            lines.append(f"exit status {status}" if status else f"{folder} has no finite value of {metric.name}")
            logged = {name for log in _logs(folder) for name in log.read_text().partition("\n")[0].split(",") if name}
            if not status and metric.name not in logged and not self.study.get_trials(states=(TrialState.COMPLETE,)):
                close = get_close_matches(metric.name, sorted(logged))
                self._misnamed = (
                    f"metric.name is {metric.name}, which trial {trial.number} did not log"
                    f"{f' (did you mean {close[0]}?)' if close else ''}; it logged {', '.join(sorted(logged))}. "
                    f"Correct the file, and delete {self.out}"
                )
                self._stop.set()
            trial.set_user_attr(OUTPUT, "\n".join(lines))
            print(f"trial {trial.number} failed: {lines[-1]}; see {folder}/output.txt", flush=True)
            raise FerlError(lines[-1])
        print(f"trial {trial.number} done: {metric.name} {best:.4f}", flush=True)
        return best


def metric_values(folder: Path, metric: str) -> list[float]:
    """Read the values of a metric in the order they were logged.

    Args:
        folder: of a run, whose logs may still be growing; one that was resumed has several.
        metric: their column.
    """
    values: list[float] = []
    for log in _logs(folder):
        complete, _, _ = log.read_text().rpartition("\n")
        values += [float(row[metric]) for row in csv.DictReader(complete.splitlines()) if row.get(metric)]
    return values


def _logs(folder: Path) -> list[Path]:
    """The logs of a run, oldest first: metrics.001.csv of what was resumed comes before metrics.csv."""
    return sorted(folder.glob("metrics*.csv"))


def _environment() -> dict[str, str]:
    """Make ``ferl`` and ``python`` those that run this process, and let W&B work without an account."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {"WANDB_MODE": "offline"} | os.environ | {"PATH": path}


def _stop(child: "subprocess.Popen[bytes]") -> None:
    """End a run and the processes it has started: first ask, then kill."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGTERM)
        try:
            child.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()

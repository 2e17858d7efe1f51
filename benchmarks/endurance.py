"""What trainings endure: SIGKILL at any moment, and thousands of steps and cells.

    python benchmarks/endurance.py [--only=kills] [--n=60] [--seed=1]

``kills``: trainings on drawn faces are killed with all their processes, in turn before the first checkpoint, after it,
and while a file is half written; every other one with ``$TMPDIR`` on another file system. The same command, or one that
names the last checkpoint, then goes on; with 0, 1 or 2 loader processes. The result is compared with a training that
ran through, to the bit: weights, the metrics of each epoch, and the report on the test split. The same happens to the
example of Lightning's own command line, of which only the weights are compared, as it is and with its items shuffled.

``memory``: resident memory of a training and of ``ferl bench run``, whose cells copy the results of a real one.

Several processes, faults and odd files are in the tests: ``tests/test_ddp.py``, ``tests/fuzz`` and beside each reader.

On the CPU, under Linux. Prints a table in Markdown, keeps the folders and output of what failed in runs/endurance, and
writes ``runs/endurance.json``.
"""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any, Literal, NamedTuple

import torch
import yaml
from jsonargparse import auto_cli
from lab import ROOT, machine, print_result, result_of, save
from lightning.pytorch import Callback
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.demos.boring_classes import BoringDataModule, DemoModel
from torch.utils.data import DataLoader

from ferlightning.evaluation.curves import read_curves

WORK = ROOT / "runs" / "endurance"
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1", "NO_ALBUMENTATIONS_UPDATE": "1", "FERL_CACHE": str(WORK / "cache"), "WANDB_MODE": "offline"
}  # fmt: skip
OTHER_FILE_SYSTEM = Path("/dev/shm")
EPOCHS = {"ferl": 8, "demo": 30}
CPU = "--trainer.accelerator=cpu"
FERL = [sys.executable, "-m", "ferlightning"]
QUICK = ["fit", "--config=quickstart", CPU, "--data.items_per_class=40", "--data.subjects=10", "--data.batch_size=16"]
DEMO = [
    "fit", CPU, "--seed_everything=1", "--model.out_dim=10000", "--model.learning_rate=0.0001",
    "--trainer.callbacks=ModelCheckpoint", "--trainer.callbacks.save_last=true", "--trainer.enable_progress_bar=false",
    "--trainer.logger=CSVLogger",
]  # fmt: skip
FIRST, LAST = 250, 5250  # steps
EARLY, CELLS = 50, 500
Part = Literal["kills", "memory"]
Row = tuple[str, str, str]
"""What was measured, the value, and the target."""


# --- Lightning's own command line, in a process of its own ----------------------------------------------------------


class Shuffled(BoringDataModule):  # type: ignore[misc]
    """The data of Lightning's example, drawn in another order each epoch, as trainings do."""

    def train_dataloader(self) -> Any:
        return DataLoader(self.random_train, shuffle=True)


def demo(data: type, words: list[str]) -> None:
    LightningCLI(DemoModel, data, args=words)


# --- kills ----------------------------------------------------------------------------------------------------------


class Kind(NamedTuple):
    """A training to be killed.

    Attributes:
        command: words that train, by run folder, checkpoint to go on from (None: start) and loader processes.
        again: whether the first command, given again, goes on.
        digest: of all that is compared of a complete run; empty if the run is not complete.
    """

    command: Callable[[Path, Path | None, int], list[str]]
    again: bool
    digest: Callable[[Path], str]


def fit(run: Path, last: Path | None, workers: int) -> list[str]:
    if last:
        return [*FERL, "fit", f"--ckpt_path={last}"]
    epochs = [f"--trainer.max_epochs={EPOCHS['ferl']}", f"--model.scheduler.T_max={EPOCHS['ferl']}"]
    place = ["--ckpt_path=last", f"--trainer.default_root_dir={run}"]
    return [*FERL, *QUICK, *epochs, f"--data.workers={workers}", *place]


def example(arm: str) -> Callable[[Path, Path | None, int], list[str]]:
    def command(run: Path, last: Path | None, workers: int) -> list[str]:
        words = [*DEMO, f"--trainer.max_epochs={EPOCHS['demo']}", f"--trainer.default_root_dir={run}"]
        words += [f"--trainer.logger.save_dir={run}", *([f"--ckpt_path={last}"] if last else [])]
        return arm_of(arm, words)

    return command


def arm_of(arm: str, words: list[str]) -> list[str]:
    return [sys.executable, __file__, f"--arm={arm}", f"--words={json.dumps(words)}"]


def digest(run: Path, epochs: int, *also: object) -> str:
    last = newest(run)
    state = torch.load(last, weights_only=True) if last else {"epoch": -1}
    if state["epoch"] != epochs - 1 or unfinished(run):
        return ""
    found = hashlib.sha256(json.dumps(also, sort_keys=True).encode())
    for name, weight in sorted(state["state_dict"].items()):
        found.update(name.encode() + weight.contiguous().numpy().tobytes())
    return found.hexdigest()


def digest_of_fit(run: Path) -> str:
    report = run / "report" / "metrics.json"
    also = [read_curves(run), json.loads(report.read_text())["metrics"]] if report.is_file() else []
    return digest(run, EPOCHS["ferl"], *also) if also else ""


def digest_of_demo(run: Path) -> str:
    return digest(run, EPOCHS["demo"])


KINDS = {
    "ferl fit": Kind(fit, True, digest_of_fit),
    "LightningCLI's example": Kind(example("demo"), False, digest_of_demo),
    "the same, its items shuffled": Kind(example("shuffled"), False, digest_of_demo),
}


def newest(run: Path) -> Path | None:
    return max(run.rglob("last.ckpt"), key=lambda path: path.stat().st_mtime, default=None)


def unfinished(*folders: Path) -> bool:
    """Whether a file that is being written lies there: ours under a hidden name, Lightning's in ``$TMPDIR``."""
    return any(x.name.endswith(".tmp") or x.name.startswith("tmp") for place in folders for x in place.rglob("*"))


def start(command: list[str], run: Path, temporary: Path) -> "subprocess.Popen[bytes]":
    with run.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(
            command, cwd=WORK, stdout=log, stderr=log, start_new_session=True,
            env=os.environ | ENVIRONMENT | {"TMPDIR": str(temporary)},
        )  # fmt: skip


def times(kind: Kind, run: Path) -> tuple[float, float]:
    """Seconds to the first checkpoint, and to the end, of a training that is left alone."""
    first, begin = 0.0, time.perf_counter()
    process = start(kind.command(run, None, 0), run, run)
    while process.poll() is None:
        time.sleep(0.02)
        if not first and newest(run):
            first = time.perf_counter() - begin
    if not kind.digest(run):
        raise SystemExit(f"the training without a kill failed; see {run.with_suffix('.log')}")
    return first, time.perf_counter() - begin


def killed(command: list[str], run: Path, temporary: Path, turn: int, rng: Random, seconds: tuple[float, float]) -> str:
    """Kill a training; return what was there then, or nothing if it had ended."""
    first, whole = seconds
    trained = turn == 1 or (turn == 2 and rng.random() < 0.7)  # else the first checkpoint itself may be half written
    wait = rng.uniform(0, 0.9 * (whole - first) if trained else first)
    late = rng.choice([0.0, rng.uniform(0, 0.02)])  # into the writing of the file
    process = start(command, run, temporary)
    until = 0.0 if trained else time.monotonic() + wait
    while process.poll() is None:
        if not until and newest(run):
            until = time.monotonic() + wait
        if until and time.monotonic() >= until and (turn < 2 or unfinished(run, temporary)):
            time.sleep(late if turn == 2 else 0)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                state = "after a checkpoint" if newest(run) else "before the first checkpoint"
                return state + (", amid a file" if unfinished(run, temporary) else "")
        time.sleep(0.001)
    return ""


def trial(name: str, n: int, seed: int, seconds: tuple[float, float], expected: str) -> tuple[str, bool, bool]:
    """Kill one training and go on; return what was there, whether it came to its end, and whether as expected."""
    kind, rng = KINDS[name], Random(f"{seed} {name} {n}")
    run, workers = WORK / f"{list(KINDS).index(name)}-{n}", rng.choice([0, 1, 2])
    command = kind.command(run, None, workers)
    with tempfile.TemporaryDirectory(dir=OTHER_FILE_SYSTEM if n % 2 else WORK) as folder:
        temporary, state = Path(folder), ""
        while not state:
            shutil.rmtree(run, ignore_errors=True)
            run.mkdir()
            state = killed(command, run, temporary, n % 3, rng, seconds)
        last = newest(run)
        words = command if kind.again and rng.random() < 0.5 else kind.command(run, last, workers)
        process = start(words, run, temporary)
        status = process.wait()
    try:
        found = kind.digest(run) if status == 0 else ""
    except Exception as error:  # a damaged checkpoint
        found, state = "", f"{state}: {error}"
    if found == expected:
        shutil.rmtree(run)
        run.with_suffix(".log").unlink()
    else:
        print(f"{run.name}: {state}; {words[3:]} ended with {status}; equal: no", file=sys.stderr, flush=True)
    return state, bool(found), found == expected


def kills(n: int, seed: int) -> Iterator[Row]:
    for name, kind in KINDS.items():
        count = n if kind.again else max(n // 6, 1)
        whole = WORK / f"{list(KINDS).index(name)}-whole"
        whole.mkdir()
        seconds = times(kind, whole)
        expected = kind.digest(whole)
        with ThreadPoolExecutor(2) as pool:
            args = [[name] * count, range(count), [seed] * count, [seconds] * count, [expected] * count]
            states, survived, equal = zip(*pool.map(trial, *args), strict=True)
        target = f"{count}/{count}" if kind.again else ""
        yield f"{name}: survived SIGKILL", f"{sum(survived)}/{count}", target
        yield f"{name}: equal to the bit to one that ran through", f"{sum(equal)}/{count}", target
        yield f"{name}: killed", "; ".join(f"{k} {state}" for state, k in sorted(Counter(states).items())), ""


# --- memory ---------------------------------------------------------------------------------------------------------


def resident(process: object = "self") -> float:
    """Resident memory of a process in MiB."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


class Resident(Callback):
    """Prints the resident memory after step ``FIRST`` and after step ``LAST``."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == FIRST:
            self.before = resident()
        if trainer.global_step == LAST:
            print_result([self.before, resident()])


def memory_of_fit() -> list[float]:
    more = [f"--trainer.max_steps={LAST}", "--trainer.max_epochs=-1", "--model.scheduler=null"]
    words = [*QUICK, "--data.items_per_class=600", *more, "--trainer.callbacks+=endurance.Resident"]
    found: list[float] = result_of(arm_of("ferl", words), env=os.environ | ENVIRONMENT)
    return found


def memory_of_demo() -> list[float]:
    words = [*DEMO, f"--trainer.max_steps={LAST}", "--trainer.max_epochs=-1", "--trainer.logger.save_dir=."]
    words += ["--trainer.callbacks+=endurance.Resident"]
    found: list[float] = result_of(arm_of("shuffled", words), env=os.environ | ENVIRONMENT)
    return found


STAND_IN = """#!{python} -IS
import json, pathlib, shutil, sys
given = json.loads(sys.stdin.readline())
for step in given["steps"]:
    folder = pathlib.Path(given["cell"], step["name"])
    shutil.copytree("{real}", folder)
    record = step["facts"] | {{"words": step["words"], "seconds": 1.0, "spent": 0.0, "converged": False}}
    (folder / "step.json").write_text(json.dumps(record))
"""


def memory_of_bench() -> list[float]:
    """Of the runner, after cell ``EARLY`` and after cell ``CELLS``; all but one of the cells are copies."""
    suite = {
        "title": "Drawn", "rows": [{"name": "A", "args": ["--config=quickstart", CPU]}], "seeds": [*range(CELLS + 1)],
        "columns": [{"name": "Drawn", "args": ["--data.items_per_class=20"]}],
        "budgets": {"full": {"args": ["--trainer.max_epochs=1"]}},
    }  # fmt: skip
    (WORK / "suite.yaml").write_text(yaml.safe_dump(suite))
    words, environment = ["bench", "run", "suite.yaml", "--out=bench"], os.environ | ENVIRONMENT
    first = [*FERL, *words, "--only=*/seed-0"]
    subprocess.run(first, cwd=WORK, env=environment, check=True, capture_output=True)
    real = shutil.copytree(
        WORK / "bench/cells/A/Drawn/seed-0/main",
        WORK / "real",
        ignore=lambda _, names: {"checkpoints", "step.json"} & {*names},
    )
    (WORK / "stand_in").write_text(STAND_IN.format(python=sys.executable, real=real))
    (WORK / "stand_in").chmod(0o755)
    command = arm_of("bench", [str(WORK / "stand_in"), *words, "--workers=2"])
    with subprocess.Popen(command, cwd=WORK, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        found = {int(n[1]): resident(process.pid) for x in process.stdout if (n := re.search(rf"\((\d+)/{CELLS},", x))}
    return [found[EARLY], found[CELLS]]


def memory() -> Iterator[Row]:
    steps, run = f"steps {FIRST:,} to {LAST:,}", f"cells {EARLY} to {CELLS}, stand-ins that copy a real one's results"
    measured = {
        f"ferl fit, {steps}": (memory_of_fit, "< 2 %"),
        f"ferl bench run, {run}": (memory_of_bench, "< 2 %"),
        f"LightningCLI's example, {steps}": (memory_of_demo, ""),
    }
    for what, (measure, target) in measured.items():
        before, after = measure()
        yield what, f"{100 * (after / before - 1):+.2f} % ({before:.0f} to {after:.0f} MiB)", target


def endurance(
    only: Part | None = None,
    n: int = 60,
    seed: int = 1,
    arm: Literal["demo", "shuffled", "ferl", "bench"] | None = None,
    words: list[str] | None = None,
) -> None:
    """Measure what trainings endure.

    Args:
        only: the part to measure; null: both.
        n: trainings to kill; of each of Lightning's, a sixth as many.
        seed: of the moments at which they are killed.
        arm: run one arm in this process; used by the benchmark itself.
        words: arguments of that arm.
    """
    if arm in ("demo", "shuffled"):
        demo(BoringDataModule if arm == "demo" else Shuffled, words or [])
        return
    if arm:
        from ferlightning.cli.main import main

        if arm == "bench":
            sys.executable, *words = words or []
        main(words)
        return
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    measures: dict[Part, Callable[[], Iterable[Row]]] = {"kills": lambda: kills(n, seed), "memory": memory}
    print(f"Seed {seed}\n\n| part | what | value | target |\n|---|---|---|---|", flush=True)
    rows, seconds = [], {}
    for part in [only] if only else measures:
        begin = time.perf_counter()
        for row in measures[part]():
            rows.append((part, *row))
            print(f"| {' | '.join(rows[-1])} |", flush=True)
        seconds[part] = round(time.perf_counter() - begin)
    print("\nSeconds: " + ", ".join(f"{part} {taken}" for part, taken in seconds.items()))
    about = machine("torch", "lightning", "ferlightning")
    save(WORK.with_suffix(".json"), {"command": " ".join(sys.argv), "machine": about, "seconds": seconds, "rows": rows})


if __name__ == "__main__":
    auto_cli(endurance)

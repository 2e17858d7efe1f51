"""``ferl bench run``: runs the cells of a suite, on this machine or on a cluster, and goes on where it was stopped.

A cell runs in a process of its own, ``python -m ferlightning.bench.cell``.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import yaml
from filelock import FileLock, Timeout
from rich.console import Console

from ferlightning.bench.results import collect, forget, home_of, key_of, read_lines, results_csv
from ferlightning.bench.suite import Cell, Key, cells, read_json, read_suite
from ferlightning.errors import FerlError
from ferlightning.files import replacing
from ferlightning.signals import HANG_UP, asked_to_end

TAIL = 40
"""Lines of output kept for a failed cell."""
CELLS_PER_GPU = 4
"""These networks are small: one alone leaves most of a GPU idle."""
GRACE = 10
"""Seconds that a cell has to end by itself before it is killed."""
MARGIN = GRACE + 5
"""Seconds of ``--minutes`` that are kept for the end."""
COLLECTING = 0.05
"""Share of the time that may go into writing the csv, which takes longer with each cell."""

BUSY = "skipped, another run is working on it"
STOPPED = "stopped"
"""Outcomes of a cell that is neither done nor failed here."""

_stop = threading.Event()
"""Set when the run shall end."""


def run(
    suite: str,
    out: str | None = None,
    budget: str = "full",
    only: list[str] | str = "*",
    redo: list[str] | str | None = None,
    minutes: float | None = None,
    workers: int | None = None,
    ray: str | None = None,
) -> None:
    """Train and test every cell of a suite; run again, it goes on where it was stopped, inside a cell too.

    The csv has everything measured so far; ``ferl bench report`` makes the tables. A cell whose lines are complete in
    the csv is not run again, even if its folder is on another machine: to go on elsewhere, take the csv along, and the
    folders of cells that are not done.

    Args:
        suite: the suite file; those of the project are in benchmarks/suites.
        out: folder for the results, OUT/results.csv; or the csv itself, X.csv, with the cells in the folder X; null:
            runs/bench/SUITE-BUDGET.
        budget: one of the suite's budgets.
        only: a pattern, or a list of patterns, of the cells to run: 'P1/*', '*/fold-0/*'.
        redo: the same of cells to run anew, whose results are deleted first.
        minutes: stop after this time; what a cell has done by then is kept.
        workers: number of cells that run at a time; null: four on each GPU, or one without GPUs.
        ray: address of a Ray cluster whose machines see this folder under the same path, or 'local'; null: without Ray.
    """
    start, until = time.monotonic(), float("inf")
    if minutes is not None:
        until = time.time() + max(60 * minutes - MARGIN, 0)
    console, path = Console(soft_wrap=True), Path(suite)
    found = read_suite(path)
    if budget not in found.budgets:
        raise FerlError(f"--budget: {path} has no budget {budget!r}; it has {', '.join(found.budgets)}")
    csv = results_csv(Path(out or f"runs/bench/{path.stem}-{budget}"))
    every = cells(found, found.budgets[budget], home_of(csv))
    chosen = _matching(every, only, f"--only: {path}")
    again = _matching(chosen, redo, f"--redo: {path}") if redo else []
    _check(every, csv, {step.key for cell in again for step in cell.steps})
    csv.parent.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump({"budget": budget, "suite": yaml.safe_load(path.read_text("utf-8"))}, sort_keys=False)
    with replacing(csv.with_suffix(".yaml")) as temporary:
        temporary.write_text(text, encoding="utf-8")

    _forget(again, csv)
    left = _missing(chosen, csv)
    console.print(f"{path.stem}, budget {budget}: {len(chosen)} cells, {len(chosen) - len(left)} done. Results: {csv}")
    failed, due, begun = 0, 0.0, time.monotonic()
    _stop.clear()
    # A handler that raises would interrupt the ending of a cell; this one only asks for it.
    with asked_to_end(lambda _: _stop.set(), signal.SIGINT, signal.SIGTERM, HANG_UP) as came:
        for n, (cell, outcome) in enumerate(_results(left, workers, ray, until), 1):
            if outcome == STOPPED:
                continue
            if (now := time.monotonic()) >= due:
                collect(csv)
                due = now + (time.monotonic() - now) / COLLECTING
            failed += outcome not in (None, BUSY)
            seconds = (time.monotonic() - begun) / n * (len(left) - n)
            rest = f"{n}/{len(left)}, about {timedelta(seconds=round(seconds))} left"
            console.print(f"{cell.name}: {outcome or _outcome(cell)} ({rest})", markup=False, highlight=False)
    collect(csv)
    if missing := len(_missing(chosen, csv)):
        options = {"out": out, "budget": budget, "minutes": minutes, "workers": workers, "ray": ray}
        words = [f"--{name}={value}" for name, value in options.items() if value is not None]
        words += [] if only == "*" else [f"--only={only if isinstance(only, str) else json.dumps(only)}"]
        console.print(
            f"{len(chosen) - missing} of {len(chosen)} cells are done, {missing} left, after "
            f"{(time.monotonic() - start) / 60:.1f} minutes. Go on with: "
            + shlex.join(["ferl", "bench", "run", suite, *words]),
            markup=False,
            highlight=False,
        )
    if came:
        raise SystemExit(128 + came[0])
    if failed:
        raise FerlError(
            f"{failed} of {len(left)} cells failed; the failed.txt of each, below {home_of(csv)}, has the end of its "
            "output"
        )


def _matching(every: list[Cell], patterns: list[str] | str, where: str) -> list[Cell]:
    """The cells that a pattern or a list of patterns names."""
    wanted = [patterns] if isinstance(patterns, str) else patterns
    found = [cell for cell in every if any(fnmatchcase(cell.name, pattern) for pattern in wanted)]
    if not found:
        names = ", ".join(map(repr, wanted))
        raise FerlError(f"{where}: no cell is called {names}; cells have names such as {every[0].name!r}")
    return found


def _forget(again: list[Cell], csv: Path) -> None:
    """Delete what cells have left, unless another run is working on one."""
    for cell in again:
        if cell.folder.exists():
            try:
                with FileLock(cell.folder / "lock", timeout=0):
                    shutil.rmtree(cell.folder)
            except Timeout:
                raise FerlError(f"--redo: another run is working on {cell.name}") from None
    forget(csv, {key for cell in again for key in (cell.key, *(step.key for step in cell.steps))})


def _check(every: list[Cell], csv: Path, redone: set[Key]) -> None:
    """Refuse results of other arguments, which must not end up in one table."""
    steps = {step.key: step for cell in every for step in cell.steps}
    names = {step.key: shlex.quote(cell.name) for cell in every for step in cell.steps}
    made = {key_of(line): line["command"] for line in read_lines(csv) if line.get("command")}
    for key, step in steps.items():
        if record := read_json(step.folder / "step.json"):
            made[key] = shlex.join(["ferl", *record["words"]])
    for key, command in made.items():
        name = "/".join(filter(None, key))
        if key not in steps:
            raise FerlError(f"{csv}: {name} is not in the suite; delete its lines, or choose another --out")
        if command != steps[key].command and key not in redone:
            raise FerlError(
                f"{name} was made with other arguments than the suite has now; run it again by --redo={names[key]}, or "
                "choose another --out"
            )


def _missing(chosen: list[Cell], csv: Path) -> list[Cell]:
    """The cells that are not done, neither here nor by the csv."""
    known = {(*key_of(line), line["split"]) for line in read_lines(csv) if not line.get("error")}
    return [cell for cell in chosen if not all(s.done or (*s.key, s.split) in known for s in cell.steps)]


Outcomes = Iterator[tuple[Cell, str | None]]
"""Each cell as it ends, with the outcome that ``run_cell`` returns."""


def _results(left: list[Cell], workers: int | None, ray: str | None, until: float) -> Outcomes:
    if ray is not None:
        yield from _over_ray(left, ray, workers, until)
        return
    import torch

    gpus = _gpus(torch.cuda.device_count())
    workers = workers or max(CELLS_PER_GPU * len(gpus), 1)
    threads = max((os.cpu_count() or 1) // workers, 1)
    slots: SimpleQueue[int] = SimpleQueue()
    for slot in range(workers):
        slots.put(slot)

    def work(cell: Cell) -> str | None:
        slot = slots.get()
        try:
            device = {"CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]} if gpus else {}
            environment = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}
            return run_cell(cell, device | environment, until)
        finally:
            slots.put(slot)

    with ThreadPoolExecutor(workers) as pool:
        futures = {pool.submit(work, cell): cell for cell in left}
        for future in as_completed(futures):
            yield futures[future], future.result()


def _gpus(n: int) -> list[str]:
    """Return what CUDA_VISIBLE_DEVICES calls each of the n GPUs."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [name.strip() for name in named.split(",")][:n] if named else [str(i) for i in range(n)]


def _over_ray(left: list[Cell], address: str, workers: int | None, until: float) -> Outcomes:
    """As ``_results``; Ray decides where a cell runs, and gives each a GPU if the cluster has one."""
    try:
        import ray
    except ImportError:
        raise FerlError("--ray: Ray is not installed; pip install 'ferlightning[cluster]'") from None
    ray.init(address=None if address == "local" else address, log_to_driver=False)
    here = Path.cwd()

    def there(cell: Cell) -> str | None:
        os.chdir(here)
        return run_cell(cell, {}, until)

    try:
        gpus = 1 if ray.cluster_resources().get("GPU") else 0
        remote = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=1)(there)
        waiting, running = list(left), dict[Any, Cell]()
        most = workers or len(left)
        while (waiting or running) and not _stop.is_set():
            while waiting and len(running) < most:
                cell = waiting.pop(0)
                running[remote.remote(cell)] = cell
            for ended in ray.wait(list(running), timeout=1)[0]:
                yield running.pop(ended), ray.get(ended)
    finally:
        ray.shutdown()


def run_cell(cell: Cell, environment: dict[str, str], until: float) -> str | None:
    """Run the steps that are left of a cell in a process of its own.

    Args:
        cell: to run.
        environment: added to that of this process.
        until: time, as ``time.time`` gives it, at which the cell is stopped.

    Returns:
        None if the cell is done, ``BUSY``, ``STOPPED``, or the last line of its output if it failed.
    """
    if _stop.is_set() or time.time() >= until:
        return STOPPED
    cell.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(cell.folder / "lock", timeout=0):  # two runs may share a folder, but not a cell
            return _run_steps(cell, environment, until)
    except Timeout:
        return BUSY


def _run_steps(cell: Cell, environment: dict[str, str], until: float) -> str | None:
    record = cell.folder / "failed.txt"
    record.unlink(missing_ok=True)
    steps = [{"name": s.name, "words": s.words, "facts": s.facts} for s in cell.steps if not s.done]
    if not steps:  # another run has done them in the meantime
        return None
    home = next(path for path in cell.folder.parents if path.name == "cells")
    # What W&B takes from here if a suite logs there, unless the user has said it.
    labels = {"WANDB_RUN_GROUP": home.parent.name, "WANDB_TAGS": ",".join(cell.folder.relative_to(home).parts)}
    log = cell.folder / "log.txt"
    with log.open("w", encoding="utf-8") as output:
        command = [sys.executable, "-m", "ferlightning.bench.cell"]
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            env=labels | os.environ | environment,
            start_new_session=True,  # Ctrl-C reaches this process alone, which ends the cell
        ) as process:
            assert process.stdin is not None
            try:
                process.stdin.write(json.dumps({"cell": str(cell.folder), "steps": steps}) + "\n")
                process.stdin.flush()  # not closed: its end tells the cell that this process has died
                status = _wait(process, until)
            except BaseException:
                process.kill()
                raise
    if status is None:
        return STOPPED
    if status == 0:
        return None
    lines = log.read_text("utf-8", errors="replace").splitlines()[-TAIL:]
    with replacing(record) as temporary:
        temporary.write_text("\n".join([*lines, f"exit status {status}"]) + "\n", encoding="utf-8")
    return f"failed: {lines[-1] if lines else f'exit status {status}'}"


def _wait(process: "subprocess.Popen[str]", until: float) -> int | None:
    """Return the exit status of a cell; None if it was stopped, by SIGTERM or, if it goes on after that, by SIGKILL."""
    while not _stop.is_set() and time.time() < until:
        try:
            return process.wait(0.5)
        except subprocess.TimeoutExpired:
            pass
    process.terminate()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
    return None


def _outcome(cell: Cell) -> str:
    step = next(step for step in cell.steps if step.facts["test"])
    report = read_json(step.reports["test"])
    return f"accuracy {100 * report['metrics']['accuracy']['value']:.1f} %" if report else "no report"

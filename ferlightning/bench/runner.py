"""``ferl bench run``: runs the cells of a suite, on this machine or on a cluster, and resumes where it was stopped.

A cell runs in a process of its own, ``python -m ferlightning.bench.runner``: one process for all its steps, since
importing torch takes longer than a test on a few hundred images.
"""

import json
import os
import runpy
import shutil
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

from ferlightning.bench.collect import collect
from ferlightning.bench.suite import Cell, cells, read_json, read_suite
from ferlightning.errors import FerlError

TAIL = 40
"""Lines of output kept for a failed cell."""

BUSY = "skipped, another run is working on it"
"""Outcome of a cell that is neither done nor failed here."""


def run(
    suite: str,
    out: str | None = None,
    budget: str = "full",
    only: list[str] | str = "*",
    limit_cells: int | None = None,
    workers: int | None = None,
    ray: str | None = None,
) -> None:
    """Train and test every cell of a suite; run again, it continues with the cells that are not done or failed.

    An interrupted cell starts afresh, so that no number depends on an interruption. OUT/results.csv has everything
    measured so far; ``ferl bench report`` makes the tables.

    Args:
        suite: the suite file; those of the project are in benchmarks/suites.
        out: folder for the results; null: runs/bench/SUITE-BUDGET.
        budget: one of the suite's budgets.
        only: a pattern, or a list of patterns, of the cells to run: 'P1/*', '*/fold-0/*'.
        limit_cells: run at most this many cells, and leave the rest for another time.
        workers: number of cells that run at a time; null: one for each GPU, or one without GPUs.
        ray: address of a Ray cluster whose machines see this folder under the same path, or 'local'; null: without Ray.
    """
    console, path = Console(soft_wrap=True), Path(suite)
    found = read_suite(path)
    if budget not in found.budgets:
        raise FerlError(f"--budget: {path} has no budget {budget!r}; it has {', '.join(found.budgets)}")
    folder = Path(out or f"runs/bench/{path.stem}-{budget}")
    every = cells(found, found.budgets[budget], folder)
    _check(every)
    folder.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump({"budget": budget, "suite": yaml.safe_load(path.read_text("utf-8"))}, sort_keys=False)
    (folder / "results.yaml.tmp").write_text(text, encoding="utf-8")
    (folder / "results.yaml.tmp").rename(folder / "results.yaml")

    patterns = [only] if isinstance(only, str) else only
    chosen = [cell for cell in every if any(fnmatchcase(cell.name, pattern) for pattern in patterns)]
    if not chosen:
        raise FerlError(f"--only: {only} matches no cell of {path}; cells have names such as {every[0].name}")
    left = [cell for cell in chosen if not cell.done]
    console.print(
        f"{path.stem}, budget {budget}: {len(chosen)} cells, {len(chosen) - len(left)} done. Results: {folder}"
    )
    left = left[:limit_cells]
    failed, start = 0, time.monotonic()
    for n, (cell, error) in enumerate(_results(left, workers, ray), 1):
        collect(folder)
        failed += error not in (None, BUSY)
        seconds = (time.monotonic() - start) / n * (len(left) - n)
        rest = f"{n}/{len(left)}, about {timedelta(seconds=round(seconds))} left"
        console.print(f"{cell.name}: {error or _outcome(cell)} ({rest})", markup=False, highlight=False)
    collect(folder)
    if failed:
        raise FerlError(
            f"{failed} of {len(left)} cells failed; the failed.txt of each, below {folder}, has the end of its output"
        )


def _check(every: list[Cell]) -> None:
    """Refuse results of other arguments, which must not end up in one table."""
    for cell in every:
        for step in cell.steps:
            made = read_json(step.folder / "step.json")
            if made is not None and made["words"] != step.words:
                raise FerlError(
                    f"{step.folder} was made with other arguments than the suite has now; delete {cell.folder} to "
                    "run it again, or choose another --out"
                )


def _results(left: list[Cell], workers: int | None, ray: str | None) -> Iterator[tuple[Cell, str | None]]:
    """Yield each cell as it ends, with the outcome that ``run_cell`` returns."""
    if ray is not None:
        yield from _over_ray(left, ray, workers)
        return
    import torch

    gpus = torch.cuda.device_count()
    workers = workers or max(gpus, 1)
    threads = max((os.cpu_count() or 1) // workers, 1)
    slots: SimpleQueue[int] = SimpleQueue()
    for slot in range(workers):
        slots.put(slot)

    def work(cell: Cell) -> str | None:
        slot = slots.get()
        try:
            device = {"CUDA_VISIBLE_DEVICES": str(slot % gpus)} if gpus else {}
            return run_cell(cell, device | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))})
        finally:
            slots.put(slot)

    with ThreadPoolExecutor(workers) as pool:
        futures = {pool.submit(work, cell): cell for cell in left}
        for future in as_completed(futures):
            yield futures[future], future.result()


def _over_ray(left: list[Cell], address: str, workers: int | None) -> Iterator[tuple[Cell, str | None]]:
    """As ``_results``; Ray decides where a cell runs, and gives each a GPU if the cluster has one."""
    try:
        import ray
    except ImportError:
        raise FerlError("--ray: Ray is not installed; pip install 'ferlightning[cluster]'") from None
    ray.init(address=None if address == "local" else address, log_to_driver=False)
    here = Path.cwd()

    def there(cell: Cell) -> str | None:
        os.chdir(here)
        return run_cell(cell, {})

    try:
        gpus = 1 if ray.cluster_resources().get("GPU") else 0
        remote = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=1)(there)
        waiting, running = list(left), dict[Any, Cell]()
        most = workers or len(left)
        while waiting or running:
            while waiting and len(running) < most:
                cell = waiting.pop(0)
                running[remote.remote(cell)] = cell
            for ended in ray.wait(list(running))[0]:
                yield running.pop(ended), ray.get(ended)
    finally:
        ray.shutdown()


def run_cell(cell: Cell, environment: dict[str, str]) -> str | None:
    """Run the steps that are left of a cell in a process of its own.

    Returns:
        None if the cell is done, ``BUSY``, or the last line of its output if it failed.
    """
    cell.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(cell.folder / "lock", timeout=0):  # two runs may share a folder, but not a cell
            return _run_steps(cell, environment)
    except Timeout:
        return BUSY


def _run_steps(cell: Cell, environment: dict[str, str]) -> str | None:
    record = cell.folder / "failed.txt"
    record.unlink(missing_ok=True)
    steps = [{"folder": str(s.folder), "words": s.words, "facts": s.facts} for s in cell.steps if not s.done]
    if not steps:  # another run has done them in the meantime
        return None
    log = cell.folder / "log.txt"
    with log.open("w", encoding="utf-8") as output:
        command = [sys.executable, "-m", "ferlightning.bench.runner"]
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | environment,
        ) as process:
            assert process.stdin is not None
            try:
                process.stdin.write(json.dumps(steps) + "\n")
                process.stdin.flush()  # not closed: its end tells the cell that this process has died
                status = process.wait()
            except BaseException:
                process.kill()
                raise
    if status == 0:
        return None
    lines = log.read_text("utf-8").splitlines()[-TAIL:]
    temporary = record.with_suffix(".tmp")
    temporary.write_text("\n".join([*lines, f"exit status {status}"]) + "\n", encoding="utf-8")
    temporary.rename(record)
    return f"failed: {lines[-1] if lines else f'exit status {status}'}"


def _outcome(cell: Cell) -> str:
    step = next(step for step in cell.steps if step.facts["test"])
    report = read_json(step.reports["test"])
    return f"accuracy {100 * report['metrics']['accuracy']['value']:.1f} %" if report else "no report"


def work() -> None:
    """Run the steps given in the first line of stdin, a JSON list of {folder, words, facts}."""
    steps = json.loads(sys.stdin.readline())
    # The pipe ends when the process that started this one dies, however it dies; else two could come to write one cell.
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(1)), daemon=True).start()
    for step in steps:
        folder = Path(step["folder"])
        shutil.rmtree(folder, ignore_errors=True)  # left by an interrupted run; a resumed fit would draw other numbers
        start = time.perf_counter()
        sys.argv = ["ferl", *step["words"]]
        runpy.run_module("ferlightning", run_name="__main__")
        done = step["facts"] | {"words": step["words"], "seconds": time.perf_counter() - start}
        temporary = folder / "step.json.tmp"
        temporary.write_text(json.dumps(done, indent=2) + "\n", encoding="utf-8")
        temporary.rename(folder / "step.json")


if __name__ == "__main__":
    work()

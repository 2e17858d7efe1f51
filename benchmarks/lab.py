"""Shared by the benchmarks: facts about the machine, processes that measure, spreads, and writing of results."""

import json
import os
import platform
import re
import statistics
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULT = "result "


def print_result(result: Any) -> None:
    """Print what an arm of a benchmark has measured, for ``result_of``."""
    print(f"\n{RESULT}{json.dumps(result)}", flush=True)


def result_of(command: Sequence[str], **options: Any) -> Any:
    """Run an arm of a benchmark, in an empty folder, and return what it printed by ``print_result``.

    Args:
        command: the words of the command.
        options: more of ``subprocess.run``.
    """
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, **options)
    found = [line.removeprefix(RESULT) for line in done.stdout.splitlines() if line.startswith(RESULT)]
    if not found:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(found[0])


def machine(*packages: str) -> dict[str, Any]:
    """Return processor, cores, Python, and the versions of packages."""
    cpuinfo = Path("/proc/cpuinfo")
    cpu = re.search(r"model name\s*: (.*)", cpuinfo.read_text() if cpuinfo.exists() else "")
    return {
        "processor": cpu.group(1) if cpu else platform.machine(),
        "cores": os.cpu_count(),
        "versions": {name: version(name) for name in packages},
        "python": platform.python_version(),
    }


def spread(values: Iterable[float]) -> dict[str, Any]:
    """Return median, minimum and maximum of values, and the values."""
    found = list(values)
    return {"median": statistics.median(found), "min": min(found), "max": max(found), "pairs": found}


def save(path: Path, results: dict[str, Any]) -> None:
    """Write results as JSON; an interruption leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(results, indent=2) + "\n")
    temporary.rename(path)

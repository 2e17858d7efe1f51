"""Shared by the benchmarks: facts about the machine, spreads, and writing of results."""

import json
import os
import platform
import re
import statistics
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any


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

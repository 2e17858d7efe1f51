"""The process of a cell, ``python -m ferlightning.bench.cell``: one for all its steps.

To import torch takes longer than a test on a few hundred images. The first line of stdin says what to run.
"""

import json
import os
import runpy
import shutil
import signal
import sys
import threading
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from ferlightning.bench.suite import read_json
from ferlightning.checkpoint import read_checkpoint
from ferlightning.files import replacing

DECAYED = 0.01
"""A learning rate of at most this share of the first one is the end of a schedule."""


def main() -> None:
    """Run the steps of {cell, steps: [{name, words, facts}]}; a training goes on from its last checkpoint."""
    given = json.loads(sys.stdin.readline())
    # The pipe ends when the process that started this one dies, however it dies; else two could come to write one cell.
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(1)), daemon=True).start()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    for step in given["steps"]:
        folder = Path(given["cell"], step["name"])
        words, last = step["words"], folder / "checkpoints/last.ckpt"
        record = step["facts"] | {"words": words, "spent": 0.0}
        if words[0] == "fit" and last.is_file():
            words = resumed(step["name"], words)
            record |= _before(folder)
        else:
            shutil.rmtree(folder, ignore_errors=True)  # left by an interrupted run
        _write(folder / "step.json", record)
        start = time.perf_counter()
        sys.argv = ["ferl", *(word.replace("{cell}", given["cell"]) for word in words)]
        runpy.run_module("ferlightning", run_name="__main__")
        record["seconds"] = record["spent"] + time.perf_counter() - start
        if words[0] == "fit":
            record["converged"] = converged(last)
        _write(folder / "step.json", record)


def resumed(name: str, words: Sequence[str]) -> list[str]:
    """Return the words that resume a training; its folder knows everything but the paths, which may have moved.

    The others must not be said again: ``--trainer.callbacks+=...`` would add a second one.
    """
    places = []
    for before, word in pairwise(words):
        if "{cell}" in word:
            places += [word] if word.startswith("-") else [before, word]
    tests = [word for word in words if word.startswith("--test_after_fit")]
    return ["fit", f"--ckpt_path={{cell}}/{name}/checkpoints/last.ckpt", *places, *tests]


def converged(last: Path) -> bool:
    """Whether a training is finished: early stopping fired, or the learning rate was at or near zero.

    Args:
        last: its last checkpoint.
    """
    stored = read_checkpoint(last)
    for name, state in stored.get("callbacks", {}).items():
        if name.startswith("EarlyStopping") and state["wait_count"] >= state["patience"]:
            return True
    groups = [group for state in stored.get("optimizer_states", []) for group in state["param_groups"]]
    moving = [group for group in groups if group.get("initial_lr")]  # a schedule notes the rate that it started from
    return bool(moving) and all(group["lr"] <= DECAYED * group["initial_lr"] for group in moving)


def _before(folder: Path) -> dict[str, Any]:
    """Return what an interrupted training adds to the record of the resumed one.

    That is its configuration, which a second command writes in more words, and the seconds that went into what the last
    checkpoint holds, without what was lost after it.
    """
    record, last = folder / "step.json", folder / "checkpoints/last.ckpt"
    before = read_json(record) or {}
    config = before.get("config") or yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
    took = last.stat().st_mtime - record.stat().st_mtime if before else 0.0
    return {"config": config, "spent": before.get("spent", 0.0) + max(took, 0.0)}


def _write(path: Path, record: dict[str, Any]) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""A process that does the steps of one cell: ``python -m ferlightning.bench.cell``, which ``ferl bench run`` starts.

One process for all steps, since importing torch takes longer than a test on a few hundred images.
"""

import json
import os
import shutil
import sys
import threading
import time
from pathlib import Path

from ferlightning.cli.main import main


def work() -> None:
    """Do the steps on the first line of stdin, a JSON list of {folder, words, facts}."""
    steps = json.loads(sys.stdin.readline())
    # The pipe ends when the process that started this one does, however that dies: else two would come to write a cell.
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(1)), daemon=True).start()
    for step in steps:
        folder = Path(step["folder"])
        shutil.rmtree(
            folder, ignore_errors=True
        )  # what an interrupted run left: a resumed fit would draw other numbers
        start = time.perf_counter()
        main(step["words"])
        done = step["facts"] | {"words": step["words"], "seconds": time.perf_counter() - start}
        temporary = folder / "step.json.tmp"
        temporary.write_text(json.dumps(done, indent=2) + "\n", encoding="utf-8")
        temporary.rename(folder / "step.json")


if __name__ == "__main__":
    work()

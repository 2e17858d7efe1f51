"""Images per second of the training steps of the papers' configurations: this checkout against another one.

    python benchmarks/steps.py --other=FOLDER [--pairs=5] [--recipes=[configs/papers/kurmi_bilstm.yaml]]

Each figure is that of ``ferl fit`` in a process of its own, with the package of one of the two checkouts and the same
configurations, those of this one. The two take turns, and the ratio is the median over the pairs. The time of a step is
the processor's, on one thread, so that other jobs on the machine count for little; it is the median over the steps,
without the first ten. In float32, on the CPU; FER2013, FER+ and CK+ come from FERL_DATA, FER2013's images at their own
48 pixels. Writes ``runs/steps.json``.
"""

import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import auto_cli
from lab import ROOT, machine, print_result, result_of, save, spread
from lightning.pytorch import Callback
from rich.console import Console
from rich.table import Table

WARM_UP = 10  # steps
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
AT_48 = "--data.preprocess=[MedianFilter,GlobalContrast]"
RECIPES = {
    "configs/papers/singh2025_ldanet.yaml": [AT_48],
    "configs/papers/sriranjani_denoising_bilstm.yaml": [],
    "configs/papers/lamichhane2024_cnn_bilstm.yaml": [],
    "configs/papers/kurmi_bilstm.yaml": [],
    "configs/papers/abdullahi2024_cnn_rnn.yaml": [],
    "configs/ck_attn.yaml": [],
}


class Stopwatch(Callback):
    """Prints the median seconds of processor time from the end of one step to that of the next."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.ends.append(time.process_time())

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        seconds = [after - before for before, after in zip(self.ends, self.ends[1:], strict=False)]
        rate = trainer.datamodule.batch_size / statistics.median(seconds[WARM_UP:])
        print_result([rate, float(trainer.callback_metrics["train/loss"])])


def rate(checkout: Path, recipe: str, words: Sequence[str], steps: int) -> tuple[float, float]:
    """Images per second of a fit with a checkout's package, and its mean training loss."""
    command = [
        sys.executable, "-m", "ferlightning", "fit", f"--config={ROOT / recipe}", *words,
        "--trainer.accelerator=cpu", "--trainer.precision=32-true", "--trainer.max_epochs=1",
        f"--trainer.limit_train_batches={steps}", "--trainer.limit_val_batches=1",
        "--trainer.callbacks+=steps.Stopwatch",
    ]  # fmt: skip
    path = os.pathsep.join([str(checkout), str(ROOT / "benchmarks")])
    found, loss = result_of(command, env=os.environ | ONE_THREAD | {"PYTHONPATH": path})
    return found, loss


def steps(other: Path, pairs: int = 5, steps: int = 40, recipes: Sequence[str] = tuple(RECIPES)) -> None:
    """Compare the training steps of two checkouts.

    Args:
        other: folder of the checkout to compare with, such as a ``git worktree`` of an earlier commit.
        pairs: how often the two take turns.
        steps: steps of each fit. Data of fewer batches end it earlier.
        recipes: configurations, relative to this checkout.
    """
    table = Table("configuration", "images/s there", "here", "ratio", "min", "max", "loss differs by")
    results: dict[str, Any] = {}
    for recipe in recipes:
        measured = [
            [rate(checkout, recipe, RECIPES.get(recipe, []), steps) for checkout in (other.resolve(), ROOT)]
            for _ in range(pairs)
        ]
        ratio = spread(here[0] / there[0] for there, here in measured)
        there, here = (statistics.median(pair[i][0] for pair in measured) for i in (0, 1))
        loss = abs(measured[0][1][1] / measured[0][0][1] - 1)  # of the mean over the steps, from the same seed
        results[recipe] = {"there": there, "here": here, "ratio": ratio, "loss": loss}
        table.add_row(
            Path(recipe).stem, f"{there:.0f}", f"{here:.0f}",
            *(f"{ratio[key]:.3f}" for key in ("median", "min", "max")), f"{loss:.1e}",
        )  # fmt: skip
    Console().print(table)
    overall = statistics.median(found["ratio"]["median"] for found in results.values())
    print(f"median over the configurations: {overall:.3f}")
    about = {"command": " ".join(sys.argv), "machine": machine("torch", "lightning"), "pairs": pairs, "steps": steps}
    save(ROOT / "runs" / "steps.json", about | {"median": overall, "configurations": results})


if __name__ == "__main__":
    auto_cli(steps, as_positional=False)

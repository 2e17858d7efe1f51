"""Images per second of ``ferl fit`` against a bare PyTorch loop with the same model, data, augmentation and batch.

    python benchmarks/overhead.py [--pairs 5] [--recipe configs/fer2013_cnn_bilstm.yaml]

Each figure comes from a process of its own; the two kinds take turns, and the ratio is the median over the pairs.
Start-up, the first steps and validation are not timed. The output is no terminal, so the progress bar is kept but not
drawn. On the CPU. Writes ``runs/overhead.json``.
"""

import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Literal

import torch
from jsonargparse import auto_cli
from lab import ROOT, machine, print_result, result_of, save, spread
from lightning.pytorch import Callback
from rich.console import Console
from rich.table import Table

RESULT = ROOT / "runs" / "overhead.json"
WARM_UP = 10  # steps
CPU = "--trainer.accelerator=cpu"
TINY = ["--model.backbone=ConvStack", "--model.backbone.channels=[8,8]", "--model.backbone.depth=1"]


class Stopwatch(Callback):
    """Prints the seconds from the end of step ``WARM_UP`` to that of step ``steps``."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx + 1 == WARM_UP:
            self.start = time.perf_counter()
        if batch_idx + 1 == self.steps:
            print_result(time.perf_counter() - self.start)


def fit(words: list[str], steps: int) -> None:
    """The command itself, with its loggers, callbacks and progress bar."""
    from ferlightning.cli.main import main

    stopwatch = ["--trainer.callbacks+=overhead.Stopwatch", f"--trainer.callbacks.steps={steps}"]
    main(["fit", *words, CPU, f"--trainer.limit_train_batches={steps}", "--trainer.limit_val_batches=1",
          "--trainer.max_epochs=1", *stopwatch])  # fmt: skip


def bare(words: list[str], steps: int) -> None:
    """What one would write without a framework; the command line only builds the model and the data."""
    from ferlightning.cli.trainer import FerlCLI
    from ferlightning.plugins import load_plugins

    load_plugins()
    cli = FerlCLI(["fit", *words, CPU, "--trainer.max_epochs=0"])
    model, data = cli.model.train(), cli.datamodule
    data.trainer = None
    configured = model.configure_optimizers()
    optimizer = configured["optimizer"] if isinstance(configured, dict) else configured
    half = str(cli.trainer.precision) == "bf16-mixed"
    start = 0.0
    for step, batch in enumerate(data.train_dataloader(), 1):
        batch = data.augment_batch(batch | {"image": batch["image"].float() / 255})
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            output = model(batch["image"])
            output = output._replace(logits=output.logits.float())
            loss = sum(loss.weight * loss(output, batch) for loss in model.losses)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step == WARM_UP:
            start = time.perf_counter()
        if step == steps:
            print_result(time.perf_counter() - start)
            return


def measure(kind: str, words: list[str], steps: int) -> float:
    """Seconds a step in a process of its own."""
    words = [f"--arm={kind}", f"--words={json.dumps(words)}", f"--steps={steps}"]
    seconds: float = result_of([sys.executable, __file__, *words])
    return seconds / (steps - WARM_UP)


def overhead(
    pairs: int = 5,
    steps: int = 60,
    recipe: str = "configs/fer2013_cnn_bilstm.yaml",
    arm: Literal["fit", "bare"] | None = None,
    words: list[str] | None = None,
) -> None:
    """Compare ``ferl fit`` with a bare loop.

    Args:
        pairs: how often the two take turns.
        steps: steps of each process, of which the first ten are not timed.
        recipe: configuration of the model and the data; drawn faces stand in for the data where FERL_DATA is not set.
        arm: run one arm in this process; used by the benchmark itself.
        words: arguments of that arm.
    """
    if arm:
        {"fit": fit, "bare": bare}[arm](words or [], steps)
        return
    batch = 128
    drawn = ["--data=SyntheticFaces", "--data.items_per_class=4000", f"--data.batch_size={batch}"]
    own = [f"--config={Path(recipe).resolve()}", f"--data.batch_size={batch}"]
    real = own if os.environ.get("FERL_DATA") else [*own, *drawn]
    cases = {Path(recipe).stem: (real, steps), "tiny": ([*TINY, *drawn], 2 * steps)}  # its steps are short
    table = Table("model", "bare images/s", "ferl fit images/s", "ratio", "min", "max", "ms a step more")
    results = {}
    for name, (case, n) in cases.items():
        times = [(measure("fit", case, n), measure("bare", case, n)) for _ in range(pairs)]
        ratio = spread(b / f for f, b in times)
        fitted, plain = (statistics.median(column) for column in zip(*times, strict=True))
        results[name] = {
            "images_per_second": {"bare": batch / plain, "ferl fit": batch / fitted},
            "ratio": ratio,
            "milliseconds_a_step_more": statistics.median(1000 * (f - b) for f, b in times),
        }
        table.add_row(
            name, f"{batch / plain:.0f}", f"{batch / fitted:.0f}",
            *(f"{ratio[key]:.3f}" for key in ("median", "min", "max")),
            f"{results[name]['milliseconds_a_step_more']:.2f}",
        )  # fmt: skip
    Console().print(table)
    about = machine("torch", "lightning", "ferlightning") | {"threads": torch.get_num_threads()}
    facts = {"command": " ".join(sys.argv), "machine": about, "pairs": pairs, "steps": steps, "batch": batch}
    save(RESULT, facts | results)


if __name__ == "__main__":
    auto_cli(overhead)

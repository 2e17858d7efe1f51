"""The training step on a GPU: whether CUDA graphs change what is learned, and how fast ``ferl fit`` is with them.

    FERL_DATA=FOLDER python benchmarks/gpu_steps.py [--parts=[equal,refused,times,quick]] [--recipes=[strong/small]]

- equal: a few dozen steps of different networks, losses, optimisers and precisions, once as usual and once replayed:
  the largest difference of parameters and buffers, relative to the largest entry of each.
- refused: functions that cannot be recorded, each followed by one that can.
- times: images per second of each recipe as usual and replayed, in fp32 and bf16, with no wait for the GPU between the
  first and the last step that count; the share of time in which the GPU was busy, as its driver says; what the host
  does in a step of the first recipe.
- quick: ``ferl fit --config strong/small_quick`` in a process of its own, with the time from its start.

FERL_DATA has fer2013.csv and fer2013new.csv. Writes ``runs/gpu_steps.json``.
"""

import cProfile
import io
import logging
import os
import pstats
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jsonargparse import auto_cli
from lab import ROOT, machine, save
from lightning.pytorch import Callback, Trainer, seed_everything
from rich.console import Console
from rich.table import Table
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR

from ferlightning import Classifier, SyntheticFaces
from ferlightning.captured import Captured
from ferlightning.cli.main import main
from ferlightning.cli.trainer import FerlCLI
from ferlightning.data.augment import CutMix, Erase, Light, MixUp, Warp
from ferlightning.models.averaging import EMA
from ferlightning.parts import (
    LSTM,
    AdditiveAttention,
    CenterLoss,
    ConvStack,
    CrossEntropy,
    DenoisingAutoencoder,
    LinearHead,
    MLPHead,
    ProjectionHead,
    Reconstruction,
    ResNet,
)

RECIPES = (
    "strong/small", "strong/small --trainer.benchmark=true", "strong/small_quick", "fer2013_cnn_bilstm",
    "papers/singh2025_ldanet", "papers/sriranjani_denoising_bilstm", "papers/lamichhane2024_cnn_bilstm",
    "papers/kurmi_bilstm",
    "papers/abdullahi2024_cnn_rnn", "models/timm_resnet18",
)  # fmt: skip
CLIPS = (
    "--data=SyntheticFaces", "--data.frames=[3,3]", "--data.items_per_class=500", "--data.batch_size=16",
    "--data.augment=[Warp]",
)  # fmt: skip
RESNET = ("--config=data/fer2013", "--model.backbone.pretrained=false")
WORDS = {"papers/kurmi_bilstm": CLIPS, "models/timm_resnet18": RESNET}
QUIET = (
    "--trainer.max_epochs=1", "--trainer.limit_val_batches=1", "--trainer.num_sanity_val_steps=0",
    "--trainer.enable_checkpointing=false", "--trainer.logger=false",
)  # fmt: skip
STEPS, FIRST = 160, 30
console = Console(width=160)


class Watch(Callback):
    """Counts images between a first step and the end of the epoch, and asks the driver whether the GPU is busy."""

    def __init__(self, profile: bool = False) -> None:
        self.images, self.seconds, self.busy, self.on = 0, 0.0, [], False
        self.profile = cProfile.Profile() if profile else None
        self.graphs: dict[str, bool] = {}
        self.alone = float("nan")  # ms

    def sample(self) -> None:
        while self.on:
            try:
                self.busy.append(torch.cuda.utilization())
            except Exception:  # without the driver's Python package
                return
            time.sleep(0.1)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == FIRST:
            torch.cuda.synchronize()
            self.on, self.begin = True, time.perf_counter()
            threading.Thread(target=self.sample, daemon=True).start()
            if self.profile:
                self.profile.enable()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx >= FIRST:
            self.images += len(batch["label"])
            self.steps = batch_idx + 1 - FIRST

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        if not self.on:
            return
        if self.profile:
            self.profile.disable()
        torch.cuda.synchronize()
        self.seconds, self.on = time.perf_counter() - self.begin, False
        captured, data = pl_module.captured, getattr(trainer.datamodule, "_augmented", None)
        self.graphs = {"step": bool(captured and captured.graph), "augment": bool(data and data.graph)}
        if captured and captured.graph:  # the GPU's own time: replays that nothing delays
            torch.cuda.synchronize()
            begin = time.perf_counter()
            for _ in range(50):
                captured.graph.replay()
            torch.cuda.synchronize()
            self.alone = (time.perf_counter() - begin) * 20


def fit(words: Sequence[str], watch: Watch) -> None:
    """``ferl fit`` within this process, with a callback more."""
    run = Trainer._run

    def watched(self: Any, *args: Any, **options: Any) -> Any:
        self.callbacks.append(watch)
        return run(self, *args, **options)

    Trainer._run = watched  # type: ignore[method-assign]
    try:
        main(["fit", *words])
    finally:
        Trainer._run = run  # type: ignore[method-assign]


# --- equal ------------------------------------------------------------------------------------------------------------

SGD = {
    "optimizer": partial(torch.optim.SGD, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "scheduler": partial(OneCycleLR, max_lr=0.05, cycle_momentum=False), "scheduler_interval": "step",
    "decay_vectors": False, "normalise_each": True, "head": partial(LinearHead, dropout=0.2),
    "backbone": partial(ResNet, channels=(16, 32), blocks=(1, 1), averaged_shortcut=True, start_as_shortcut=True),
}  # fmt: skip
ADAM = {"optimizer": partial(torch.optim.Adam, lr=1e-3), "scheduler": partial(CosineAnnealingLR, T_max=3)}


def muon() -> dict[str, Any]:
    import timm.optim

    options = {"lr": 2e-3, "momentum": 0.95, "nesterov": True, "adjust_lr_fn": "match_rms_adamw"}
    schedule = partial(OneCycleLR, max_lr=2e-3, cycle_momentum=False)
    return SGD | {"optimizer": partial(timm.optim.Muon, **options), "scheduler": schedule}


CASES: dict[str, Callable[[], dict[str, Any]]] = {
    "SGD, one-cycle, two groups, dropout": lambda: SGD,
    "SGD, bf16": lambda: SGD | {"precision": "bf16-mixed"},
    "SGD, gradients clipped": lambda: SGD | {"gradient_clip_val": 0.5},
    "LDA, BiLSTM, centre loss, Adam": lambda: ADAM | {
        "head": ProjectionHead, "sequence": LSTM, "losses": [CrossEntropy, CenterLoss],
    },
    "autoencoder, attention, weights, AdamW": lambda: {
        "restorer": DenoisingAutoencoder, "sequence": partial(LSTM, hidden=32), "attention": AdditiveAttention,
        "head": partial(MLPHead, dropout=0.3), "lr_scale": {"restorer": 0.1},
        "losses": [partial(CrossEntropy, class_weights=0.99), Reconstruction],
    },
    "autoencoder, bf16": lambda: CASES["autoencoder, attention, weights, AdamW"]() | {"precision": "bf16-mixed"},
    "mixtures": lambda: ADAM | {"augment": [MixUp(p=0.5), CutMix(p=0.5)]},
    "Muon": muon,
}  # fmt: skip


def state_after(graph: bool, options: dict[str, Any]) -> tuple[dict[str, torch.Tensor], str]:
    """State after three epochs, and whether graphs were used."""
    options = dict(options)
    trainer_options = {key: options.pop(key) for key in ("precision", "gradient_clip_val") if key in options}
    augment = options.pop("augment", [Warp(), Light(), Erase()])
    seed_everything(3, verbose=False)
    faces = SyntheticFaces(items_per_class=32, size=24, batch_size=16, augment=augment)
    trainer = Trainer(
        max_epochs=3, accelerator="gpu", devices=1, logger=False, enable_progress_bar=False,
        enable_checkpointing=False, enable_model_summary=False, callbacks=[EMA(decay=0.9)], **trainer_options,
    )  # fmt: skip
    options = {"backbone": partial(ConvStack, channels=(8, 16), depth=1, dropout=0.2)} | options
    classifier = Classifier(faces.class_names, faces.class_counts, cuda_graph=graph, **options)
    used: dict[str, bool] = {}

    class Ask(Callback):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            captured, data = pl_module.captured, faces._augmented
            used.update(step=bool(captured and captured.graph), augment=bool(data and data.graph))

    trainer.callbacks.append(Ask())
    trainer.fit(classifier, faces)
    losses = {"train/loss": trainer.callback_metrics["train/loss"], "val/loss": trainer.callback_metrics["val/loss"]}
    state = {name: x.detach().double().cpu() for name, x in (classifier.state_dict() | losses).items()}
    return state, str([name for name, yes in used.items() if yes])


def equal() -> dict[str, Any]:
    """Compare trainings as usual and replayed; the distance of two usual ones is what the GPU itself leaves open."""
    torch.backends.cudnn.deterministic = True
    table = Table("case", "as usual twice", "as usual / replayed", "worst", "train loss", "graphs", "s")
    results = {}
    for number, (name, case) in enumerate(CASES.items()):
        begin = time.time()
        try:
            usual, _ = state_after(False, case())
            again = state_after(False, case())[0] if number < 2 else usual
            replayed, used = state_after(True, case())
            apart = [
                {key: float((x - other[key]).abs().max() / x.abs().max().clamp(min=1e-6)) for key, x in usual.items()}
                for other in (again, replayed)
            ]
            worst = max(apart[1], key=lambda key: apart[1][key])
            figures = [f"{max(one.values()):.1e}" for one in apart]
            loss = f"{float(usual['train/loss']):.5f} {float(replayed['train/loss']):.5f}"
            table.add_row(name, *figures, worst, loss, used, f"{time.time() - begin:.1f}")
            results[name] = {"twice": max(apart[0].values()), "replayed": max(apart[1].values()), "graphs": used}
        except Exception:
            traceback.print_exc()
            table.add_row(name, "failed", "", "", "", "", "")
    torch.backends.cudnn.deterministic = False
    console.print(table)
    return results


def refused() -> dict[str, Any]:
    """What cannot be recorded says why and goes on; afterwards another function is recorded, with fresh draws."""
    cases: dict[str, Callable[[dict[str, torch.Tensor]], Any]] = {
        "item": lambda batch: batch["x"] * batch["x"].sum().item(),
        "mask": lambda batch: batch["x"][batch["x"] > 0],
        "draw on the host": lambda batch: batch["x"] * torch.rand(()),
        "raises while recorded": lambda batch: 1 / (1 - torch.cuda.is_current_stream_capturing()),
        "waits while recorded": lambda batch: torch.cuda.is_current_stream_capturing() and batch["x"].sum().item(),
    }
    found: dict[str, Any] = {}
    for name, function in cases.items():
        captured, batch = Captured(name, function, dict), {"x": torch.ones(4, device="cuda")}
        try:
            for _ in range(6):
                captured(batch)
            found[name] = captured.refused
            torch.rand(4, device="cuda")
            again = Captured("another", lambda batch: batch["x"] + torch.rand(4, device="cuda"), dict)
            torch.manual_seed(1)
            usual = [again.function(batch).clone() for _ in range(6)]
            torch.manual_seed(1)
            drawn = [again(batch).clone() for _ in range(6)]
            exact = [bool(x.equal(y)) for x, y in zip(usual, drawn, strict=True)]
            found[f"{name}, then another"] = {"recorded": again.graph is not None, "draws as usual": exact}
        except Exception:
            traceback.print_exc()
            found[name] = "failed"
    for name, result in found.items():
        print(name, result)
    return found


# --- times ------------------------------------------------------------------------------------------------------------


def words_of(recipe: str) -> list[str]:
    """The words of a configuration's name, which may have options behind it."""
    name, *more = recipe.split()
    return [f"--config={name}", *WORDS.get(name, ()), *more]


def times(recipes: Sequence[str]) -> dict[str, Any]:
    """Measure each recipe as usual and replayed, in two precisions."""
    table = Table("recipe", "precision", "as usual", "GPU", "replayed", "GPU", "ratio", "graph alone ms", "graphs")
    results: dict[str, Any] = {}
    usual = float("nan")
    for recipe in recipes:
        for precision in ("32-true", "bf16-mixed"):
            row: list[str] = []
            found = {}
            for graph in (False, True) if precision == "32-true" else (True,):
                watch = Watch()
                try:
                    fit(
                        [
                            *words_of(recipe), *QUIET, f"--trainer.precision={precision}",
                            f"--trainer.limit_train_batches={STEPS}", f"--model.cuda_graph={str(graph).lower()}",
                        ],
                        watch,
                    )  # fmt: skip
                    rate = watch.images / watch.seconds
                except (Exception, SystemExit):
                    traceback.print_exc()
                    rate = float("nan")
                busy = sum(watch.busy) / max(1, len(watch.busy))
                found[graph] = {"rate": rate, "busy": busy, "graphs": watch.graphs}
                row += [f"{rate:,.0f}", f"{busy:.0f} %"]
                print(recipe, precision, graph, found[graph], f"{watch.alone:.2f} ms", flush=True)
            used = ", ".join(name for name, yes in watch.graphs.items() if yes)
            usual = usual if len(row) == 2 else found[False]["rate"]
            row = row if len(row) == 4 else ["", "", *row]
            table.add_row(recipe, precision, *row, f"{found[True]['rate'] / usual:.2f}", f"{watch.alone:.2f}", used)
            results[f"{recipe} {precision}"] = {str(graph): one for graph, one in found.items()}
    console.print(table)
    watch = Watch(profile=True)
    words = [*words_of(recipes[0]), *QUIET, f"--trainer.limit_train_batches={STEPS}"]
    fit(words, watch)
    assert watch.profile
    for order, lines in (("tottime", 32), ("cumtime", 60)):
        text = io.StringIO()
        pstats.Stats(watch.profile, stream=text).sort_stats(order).print_stats(lines)
        print(f"--- host, {watch.steps} steps of {recipes[0]}, {1000 * watch.seconds / watch.steps:.2f} ms each ---")
        for line in text.getvalue().splitlines()[6:]:
            print(line.replace(str(Path(torch.__file__).parents[1]), "").strip()[:110])
    return results


# --- quick ------------------------------------------------------------------------------------------------------------


def quick() -> dict[str, Any]:
    """Time a short training from the start of its process."""
    begin = time.time()
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-X", "importtime", "-m", "ferlightning", "fit", "--config=strong/small_quick",
            "--trainer.check_val_every_n_epoch=10", f"--trainer.default_root_dir={folder}/run",
            "--trainer.enable_progress_bar=false",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        seconds = time.time() - begin
        imports = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
        said = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
        print(done.stdout[-2500:], "\n".join(said)[-3000:])
        for line in sorted(imports[1:], key=lambda line: -int(line.split("|")[1]))[:25]:
            print(line)
        metrics = Path(folder, "run", "metrics.csv")
        print(metrics.read_text() if metrics.exists() else "no metrics.csv")
    print(f"quick: {seconds:.1f} s from start to end")
    return {"seconds": seconds}


def gpu_steps(parts: Sequence[str] = ("equal", "refused", "times", "quick"), recipes: Sequence[str] = RECIPES) -> None:
    """Check and measure the training step on a GPU.

    Args:
        parts: what to do.
        recipes: configurations by name.
    """
    FerlCLI.after_fit = lambda self: None  # type: ignore[method-assign]  # no report
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("ferlightning").setLevel(logging.WARNING)
    root = Path.cwd()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name, part in {
            "equal": equal,
            "refused": refused,
            "times": partial(times, recipes),
            "quick": quick,
        }.items():
            if name in parts:
                begin = time.time()
                try:
                    results[name] = part()
                except BaseException:
                    traceback.print_exc()
                print(f"=== {name}: {time.time() - begin:.0f} s", flush=True)
        os.chdir(root)
    about = machine("torch", "lightning", "timm") | {"gpu": torch.cuda.get_device_name()}
    save(ROOT / "runs" / "gpu_steps.json", {"machine": about} | results)


if __name__ == "__main__":
    auto_cli(gpu_steps, as_positional=False)

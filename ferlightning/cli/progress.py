"""Progress of a training: a bar on a terminal, else a line per epoch, such as in the log of a job."""

import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from rich import get_console

FIRST_TOLD = 10
"""Seconds of training after which the expected time is told."""
SHOWN = ("train/loss", "val/loss", "train/accuracy", "val/accuracy")
"""Metrics of a line."""
WORTH_TELLING = 60
"""Seconds that a training must take for that."""


class Progress(RichProgressBar):
    """Lightning's bar with images a second, the best epoch and the time left; without a terminal a line an epoch."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        console = get_console()
        if not (console.is_terminal or console.is_jupyter):
            self.disable()
        self._begin(trainer)
        super().setup(trainer, pl_module, stage)

    def _begin(self, trainer: Trainer) -> None:
        self._first_epoch = trainer.current_epoch
        self._epoch: int | None = None
        self._told = False
        self._start = 0.0  # after the first batch, which takes longer than those that follow
        self._batches = 0
        # Here, too: an epoch that is gone on with does not start.
        self._in_epoch, self._epoch_start, self._trained_for = 0, time.perf_counter(), 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin(trainer)  # first: the bar asks for the metrics at once
        super().on_train_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_start(trainer, pl_module)
        self._tell_epoch(trainer)
        self._epoch, self._in_epoch, self._epoch_start, self._trained_for = (
            trainer.current_epoch, 0, time.perf_counter(), 0.0,
        )  # fmt: skip

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        now = time.perf_counter()
        self._in_epoch += len(batch["label"]) if isinstance(batch, dict) and "label" in batch else 1
        self._trained_for = now - self._epoch_start
        if not self._start:
            self._start = now
            return
        self._batches += 1
        self._expect(trainer, now)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._tell_epoch(trainer)
        super().on_train_end(trainer, pl_module)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        metrics: dict[str, Any] = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        if trainer.training and self._batches:
            metrics["images/s"] = f"{self._speed(trainer):,.0f}"
        checkpoint: Any = trainer.checkpoint_callback
        if (best := getattr(checkpoint, "best_model_score", None)) is not None:
            metrics["best"] = f"{best:.3f}"
        if (left := self._left(trainer)) is not None:
            metrics["left"] = duration(left)
        return metrics

    def _speed(self, trainer: Trainer) -> float:
        """Images a second of all processes in the epoch so far, validation not counted."""
        return self._in_epoch * trainer.world_size / max(self._trained_for, 1e-9)

    def _left(self, trainer: Trainer) -> float | None:
        """Remaining seconds, validation included; None if unknown."""
        epochs, batches = trainer.max_epochs, trainer.num_training_batches
        if not self._batches or epochs in (None, -1) or batches == float("inf"):
            return None
        done = self._batches + 1
        most = min(batches * (epochs - self._first_epoch), trainer.max_steps if trainer.max_steps > 0 else float("inf"))
        return max(most - done, 0) * (time.perf_counter() - self._start) / self._batches

    def _expect(self, trainer: Trainer, now: float) -> None:
        """Print once, after the first steps, how long the training will take."""
        if self._told or now - self._start < FIRST_TOLD:
            return
        self._told = True
        left = self._left(trainer)
        if left is not None and left > WORTH_TELLING and trainer.is_global_zero:
            epoch = trainer.num_training_batches * (now - self._start) / self._batches
            print(f"Expected: {duration(epoch)} an epoch and its validation, {duration(left)} in all", flush=True)

    def _tell_epoch(self, trainer: Trainer) -> None:
        """Print the line of the epoch that has ended, where there is no bar."""
        if self.is_enabled or not trainer.is_global_zero or self._epoch is None:
            return
        known = trainer.callback_metrics
        words = [f"{name} {known[name]:.3f}" for name in SHOWN if name in known]
        checkpoint: Any = trainer.checkpoint_callback
        if (best := getattr(checkpoint, "best_model_score", None)) is not None:
            words.append(f"best {best:.3f}")
        words.append(f"{self._speed(trainer):,.0f} images/s")
        if left := self._left(trainer):
            words.append(f"{duration(left)} left")
        last = "" if trainer.max_epochs in (None, -1) else f"/{trainer.max_epochs}"
        print(f"Epoch {self._epoch + 1}{last}: {', '.join(words)}", flush=True)


def duration(seconds: float) -> str:
    """Format seconds for people."""
    minutes, hours = seconds / 60, seconds / 3600
    return f"{seconds:.0f} s" if seconds < 100 else f"{minutes:.0f} min" if minutes < 100 else f"{hours:.1f} h"

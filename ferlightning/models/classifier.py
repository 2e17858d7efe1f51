"""The one model: restorer -> backbone -> tokens -> sequence -> attention -> head, and its training step."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import CyclicLR, OneCycleLR, ReduceLROnPlateau
from torchmetrics.classification import MulticlassAccuracy

from ferlightning.checkpoint import read_checkpoint
from ferlightning.contracts.modules import (
    Backbone,
    Batch,
    Fitted,
    Head,
    Loss,
    Output,
    Restorer,
    Stage,
    Tokens,
    class_index,
)
from ferlightning.errors import FerlError
from ferlightning.evaluation.metrics import classification_metrics
from ferlightning.parts import ConvStack, CrossEntropy, LinearHead

log = logging.getLogger(__name__)


def adamw(parameters: Any) -> torch.optim.Optimizer:
    """AdamW with a learning rate of 0.001 (Loshchilov and Hutter 2019)."""
    return torch.optim.AdamW(parameters, lr=1e-3)


class Classifier(LightningModule):
    """A facial-expression recogniser put together from parts; null leaves a part out.

    Args:
        class_names: the K classes; comes from the data.
        class_counts: training images of each class, (K,); comes from the data.
        pixel_mean: mean of each channel over the training images, (C,), in [0, 1]; comes from the data.
        pixel_std: standard deviation of each channel, (C,); comes from the data.
        backbone: images to a feature map.
        restorer: images to cleaner images, before normalisation.
        sequence: stage that relates the tokens to each other.
        attention: stage that weighs the tokens.
        head: tokens to logits and embedding.
        losses: summed, each times its weight.
        optimizer: made over the trained parameters.
        scheduler: learning-rate schedule.
        scheduler_interval: when the schedule steps. ``ReduceLROnPlateau`` always steps after a validation.
        lr_scale: name of a module or parameter, as ``backbone`` or ``backbone.layers.0``, to factor of the learning
            rate of all below it; the longest name counts; 0 freezes, batch norm included.
        frame_tokens: average the cells of each frame, so that the tokens are frames instead of cells.
        init_from: checkpoint whose tensors of equal name and shape are the starting point, its normalisation included.
        compile: compile ``forward`` with torch.compile.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        class_counts: Sequence[int] | None = None,
        pixel_mean: Sequence[float] = (0.5,),
        pixel_std: Sequence[float] = (0.25,),
        backbone: Callable[[int], Backbone] = ConvStack,
        restorer: Callable[[], Restorer] | None = None,
        sequence: Callable[[int], Stage] | None = None,
        attention: Callable[[int], Stage] | None = None,
        head: Callable[[int, int], Head] = LinearHead,
        losses: Sequence[Callable[[int, Sequence[int]], Loss]] = (CrossEntropy,),
        optimizer: OptimizerCallable = adamw,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_interval: Literal["epoch", "step"] = "epoch",
        lr_scale: dict[str, float] | None = None,
        frame_tokens: bool = False,
        init_from: str | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__()
        self.class_names = list(class_names)
        k = len(self.class_names)
        counts = [1] * k if class_counts is None else list(class_counts)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(pixel_mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(pixel_std).view(-1, 1, 1))

        self.restorer = restorer() if restorer else None
        # Channels last is the faster layout of convolutions on CPUs and on tensor cores.
        self.backbone = backbone(len(pixel_mean)).to(memory_format=torch.channels_last)
        width = self.backbone.out_features
        self.sequence = sequence(width) if sequence else None
        width = self.sequence.out_features if self.sequence else width
        self.attention = attention(width) if attention else None
        width = self.attention.out_features if self.attention else width
        self.head = head(width, k)
        self.losses = nn.ModuleList(loss(self.head.embed_features, counts) for loss in losses)

        self.optimizer = optimizer
        self.scheduler = scheduler
        self.scheduler_interval = scheduler_interval
        self.lr_scale = lr_scale or {}
        self.frame_tokens = frame_tokens
        self.compile_forward = compile
        self._gathered = False  # whether fitted parts have seen batches since their last fit

        self.train_accuracy = MulticlassAccuracy(k, average="micro")
        self.val_metrics = classification_metrics(k).clone(prefix="val/")
        self.test_metrics = classification_metrics(k).clone(prefix="test/")
        for prefix in self.lr_scale:
            if not any(_below(name, prefix) for name, _ in self.named_parameters()):
                parts = sorted({name.split(".")[0] for name, _ in self.named_parameters()})
                raise FerlError(f"model.lr_scale: there is no parameter below {prefix!r}; the top names are {parts}")
        for name, parameter in self.named_parameters():
            if self._scale(name) == 0:
                parameter.requires_grad_(False)
        if init_from:
            self._init_from(Path(init_from))
        self.train()  # the trainer keeps the modes it finds, so what is frozen must be in eval mode from the start

    # --- what is computed -------------------------------------------------------------------------------------------

    def forward(self, image: Tensor, mask: Tensor | None = None) -> Output:
        """Classify clips; a still is a clip of one frame.

        Args:
            image: (B, T, C, H, W) in [0, 1].
            mask: (B, T) bool, True = real frame; None if all are. Padding comes last.
        """
        b, t, c, _, _ = image.shape
        if c != len(self.mean):
            raise FerlError(f"the model was built for {len(self.mean)} channels, the images have {c}")
        # Padding is left out, not masked, so that it can never enter a batch norm's statistics.
        frames = image.flatten(0, 1) if mask is None else image[mask]  # (N, C, H, W)
        restored = self.restorer(frames) if self.restorer else frames
        features = self.backbone(((restored - self.mean) / self.std).contiguous(memory_format=torch.channels_last))
        tokens = self._tokens(features, b, t, mask)
        if self.sequence:
            tokens = self.sequence(tokens)
        if self.attention:
            tokens = self.attention(tokens)
        logits, embedding = self.head(tokens)
        weights = None
        if self.attention:
            # Taken away, not read: a tensor with a graph would keep the step's memory, and deepcopy refuses it.
            weights, self.attention.attention = self.attention.attention, None
        return Output(logits, embedding, _unpack(restored, b, t, mask), weights)

    def _tokens(self, features: Tensor, b: int, t: int, mask: Tensor | None) -> Tokens:
        """Feature maps of the real frames, (N, D, H', W'), to tokens (B, L, D)."""
        if self.frame_tokens:
            features = features.mean((2, 3), keepdim=True)
        d, h, w = features.shape[1:]
        cells = _unpack(features.flatten(2).transpose(1, 2), b, t, mask)  # (B, T, H' * W', D)
        token_mask = None if mask is None else mask.repeat_interleave(h * w, 1)
        return Tokens(cells.reshape(b, t * h * w, d), token_mask, (t, h, w))

    def _step(self, batch: Batch, split: Literal["train", "val", "test"]) -> dict[str, Tensor]:
        output: Output = self(batch["image"], batch.get("mask"))
        # Losses in full precision: half-precision log-softmax loses the tail.
        output = output._replace(
            logits=output.logits.float(), embedding=output.embedding.float(), restored=output.restored.float()
        )
        terms = [cast(Loss, loss).weight * loss(output, batch) for loss in self.losses]
        loss = torch.stack(terms).sum()
        n = len(output.logits)
        self.log(f"{split}/loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=n, sync_dist=True)
        if len(terms) > 1:
            self.log_dict(
                {f"{split}/loss_{i}_{type(part).__name__}": terms[i].detach() for i, part in enumerate(self.losses)},
                on_step=False, on_epoch=True, batch_size=n, sync_dist=True,
            )  # fmt: skip
        label = class_index(batch["label"])
        if split == "train":
            self._gather(label)
            self.train_accuracy.update(output.logits.detach(), label)
            self.log("train/accuracy", self.train_accuracy, on_step=False, on_epoch=True, prog_bar=True)
        else:
            metrics = self.val_metrics if split == "val" else self.test_metrics
            metrics.update(output.logits.softmax(1), label)
            self.log_dict(cast(dict[str, Any], metrics), on_step=False, on_epoch=True)
        return {"loss": loss, "logits": output.logits.detach()}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self._step(batch, "train")["loss"]

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        return self._step(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        return self._step(batch, "test")

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        return {"logits": self(batch["image"], batch.get("mask")).logits.float()}

    # --- what is fitted, not learned --------------------------------------------------------------------------------

    def _fitted(self) -> list[Fitted]:
        return [module for module in self.modules() if isinstance(module, Fitted)]

    def _gather(self, label: Tensor) -> None:
        for part in self._fitted():
            if part.seen is not None:
                part.update(part.seen, label)
                part.seen, self._gathered = None, True

    def _fit(self) -> None:
        """Solve the fitted parts, once for what was gathered: a fit may take long."""
        if self._gathered:
            for part in self._fitted():
                part.fit()
        self._gathered = False

    def _reset(self) -> None:
        for part in self._fitted():
            part.reset()
        self._gathered = False

    def on_fit_start(self) -> None:
        self._reset()  # an earlier fit may have been interrupted

    def on_validation_start(self) -> None:
        # Validation runs within the epoch: at its end would be too late. By itself it changes nothing.
        if self.trainer.state.fn == TrainerFn.FITTING:
            self._fit()

    def on_train_epoch_end(self) -> None:
        self._fit()
        self._reset()

    # --- how it is trained ------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        if self.compile_forward:
            self.compile()

    def train(self, mode: bool = True) -> "Classifier":
        """As in torch, but what ``lr_scale`` freezes stays in eval mode: frozen batch norm must not drift."""
        super().train(mode)
        for name, module in self.named_modules():
            if name and self._scale(name) == 0:
                module.training = False  # not eval(), which would reach into parts that a longer prefix trains
        return self

    def _scale(self, name: str) -> float:
        """Factor of the learning rate of a parameter or module: that of the longest prefix that it is below."""
        fitting = [prefix for prefix in self.lr_scale if _below(name, prefix)]
        return self.lr_scale[max(fitting, key=len)] if fitting else 1.0

    def configure_optimizers(self) -> OptimizerLRScheduler:
        groups: dict[float, list[nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                groups.setdefault(self._scale(name), []).append(parameter)
        optimizer = self.optimizer([{"params": parameters} for parameters in groups.values()])
        for factor, group in zip(groups, optimizer.param_groups, strict=True):
            group["lr"] *= factor
        if self.scheduler is None:
            return optimizer
        scheduler = self.scheduler(optimizer)
        if isinstance(scheduler, CyclicLR) and self.lr_scale:
            raise FerlError("model.lr_scale: CyclicLR sets every rate itself; use another scheduler, as OneCycleLR")
        if isinstance(scheduler, OneCycleLR):
            # It has put rates of its own in the place of those scaled above.
            for factor, group in zip(groups, optimizer.param_groups, strict=True):
                group.update({key: group[key] * factor for key in ("lr", "initial_lr", "max_lr", "min_lr")})
        if isinstance(scheduler, ReduceLROnPlateau):
            monitor = getattr(scheduler, "monitor", "val/loss")
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": monitor}}
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": self.scheduler_interval},
        }

    # --- checkpoints ------------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["class_names"] = self.class_names
        data: Any = getattr(self._trainer, "datamodule", None)
        if hasattr(data, "training_frames"):
            # As int64, which every version of torch reads; a test tells by them which images the model has seen.
            checkpoint["training_frames"] = torch.from_numpy(data.training_frames.view("int64").copy())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of other classes or another architecture, in words."""
        names = checkpoint.get("class_names", self.class_names)
        data: Any = getattr(self._trainer, "datamodule", None)
        if hasattr(data, "trained_on") and "training_frames" in checkpoint:
            data.trained_on = checkpoint["training_frames"].numpy().view("uint64")
        if names != self.class_names:
            raise FerlError(
                f"the checkpoint was trained on the classes {names}, the data has {self.class_names}: use the data it "
                "was trained on"
            )
        stored, own = checkpoint["state_dict"], self.state_dict()
        wrong = [f"{name} is not in the checkpoint" for name in own if name not in stored]
        wrong += [f"{name} is only in the checkpoint" for name in stored if name not in own]
        wrong += [
            f"{name} has shape {tuple(stored[name].shape)} in the checkpoint and {tuple(own[name].shape)} in the model"
            for name in own
            if name in stored and stored[name].shape != own[name].shape
        ]
        if wrong:
            raise FerlError(
                "the checkpoint is of another architecture than the configured model: "
                + "; ".join(wrong[:3])
                + (f"; and {len(wrong) - 3} more" if len(wrong) > 3 else "")
                + ". Leave out the model options that you changed, or use model.init_from to start from what fits"
            )

    def _init_from(self, path: Path) -> None:
        try:
            stored = read_checkpoint(path)["state_dict"]
        except FerlError as error:
            raise FerlError(f"model.init_from: {error}") from error
        own = self.state_dict()
        fitting = {name: x for name, x in stored.items() if name in own and own[name].shape == x.shape}
        # Buffers do not count: the pixel moments and the counters of batch norm fit any model.
        if not fitting.keys() & dict(self.named_parameters()).keys():
            raise FerlError(f"model.init_from: no parameter of {path} has the name and shape of one of this model")
        self.load_state_dict(fitting, strict=False)
        log.info(
            "init_from %s: %d of %d tensors taken; left as initialised: %s",
            path, len(fitting), len(own), sorted(set(own) - set(fitting)) or "none",
        )  # fmt: skip


def _below(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def _unpack(x: Tensor, b: int, t: int, mask: Tensor | None) -> Tensor:
    """Per-frame results of the real frames, (N, ...), to (B, T, ...) with zeros where there is padding."""
    if mask is None:
        return x.view(b, t, *x.shape[1:])
    full = x.new_zeros(b, t, *x.shape[1:])
    full[mask] = x
    return full

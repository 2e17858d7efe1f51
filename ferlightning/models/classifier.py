"""The Lightning module around a network: losses, metrics, fitted parts, optimiser, checkpoints."""

import logging
import math
import os
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Self, cast

import numpy as np
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.loops.loop import _Loop
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.utilities.types import LRSchedulerTypeUnion, OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import LBFGS, AdamW, Optimizer, SparseAdam
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ferlightning.captured import Captured, constants
from ferlightning.checkpoint import (
    HEADER,
    header_of,
    read_checkpoint,
    read_header,
    read_start,
    require_plugins,
    take_view,
)
from ferlightning.contracts.modules import Backbone, Batch, Head, Loss, Output, Restorer, Stage, class_index, has_label
from ferlightning.described import describe, rebuild
from ferlightning.emotions import canonical
from ferlightning.errors import FerlError
from ferlightning.evaluation.metrics import Means, classification_metrics
from ferlightning.models.fitting import Fitting
from ferlightning.models.matching import by_class, check_architecture, own_name, what_fits
from ferlightning.models.network import Network
from ferlightning.models.optim import (
    check_scale,
    factor,
    fuse,
    parameter_groups,
    replay,
    scale_rates,
    scale_schedule,
)
from ferlightning.parts import ConvStack, CrossEntropy, LinearHead
from ferlightning.parts.losses.auxiliary import views

log = logging.getLogger(__name__)

Split = Literal["train", "val", "test"]


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
        warmup: epochs, or a fraction of one, in which the learning rate of any schedule rises evenly from 0. The log
            has the rate of the schedule.
        lr_scale: name of a module or parameter, such as ``backbone`` or ``backbone.layers.0``, to factor of the
            learning rate of all below it; the longest name counts; 0 freezes, batch norm included.
        decay_vectors: whether weight decay, if the optimiser has any, reaches biases and batch norms, too.
        frame_tokens: average the cells of each frame, so that the tokens are frames instead of cells.
        normalise_each: normalise each image by its own mean and deviation instead of those of the training images.
        init_from: checkpoint, or weights saved by other code, whose tensors of equal name and shape are the starting
            point, the normalisation included. Names may be those of the whole network or of its backbone alone. Of the
            last layer, the classes that it knows by name are taken.
        compile: compile ``forward`` with torch.compile.
        cuda_graph: on a GPU, replay the training step as a CUDA graph where that is safe. The result is the same; small
            networks train several times as fast.
        mirror: test and predict with the mean of the probabilities of each image and its mirror image.
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
        optimizer: OptimizerCallable = AdamW,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_interval: Literal["epoch", "step"] = "epoch",
        warmup: float = 0,
        lr_scale: dict[str, float] | None = None,
        decay_vectors: bool = True,
        frame_tokens: bool = False,
        normalise_each: bool = False,
        init_from: str | None = None,
        compile: bool = False,
        cuda_graph: bool = True,
        mirror: bool = False,
    ) -> None:
        super().__init__()
        network: dict[str, Any] = {
            "class_names": class_names, "backbone": backbone, "head": head, "restorer": restorer,
            "sequence": sequence, "attention": attention, "pixel_mean": list(pixel_mean),
            "pixel_std": list(pixel_std), "frame_tokens": frame_tokens,
            "normalise_each": normalise_each,
        }  # fmt: skip
        self.network = Network(**network)
        network["class_names"] = self.network.class_names
        k = len(self.class_names)
        counts = [1] * k if class_counts is None else list(class_counts)
        if not isinstance(losses, Sequence) or not all(map(callable, losses)):
            raise FerlError(f"model.losses is {losses!r:.80}, expected a list of classes, such as [CrossEntropy]")
        if not losses:
            raise FerlError("model.losses is empty: give at least one, such as [CrossEntropy]")
        if modules := [type(loss).__name__ for loss in losses if isinstance(loss, nn.Module)]:
            raise FerlError(
                f"model.losses: {modules[0]} is no Loss of ours, or is made already; give classes, such as CrossEntropy"
            )
        for made, name in ((optimizer, "optimizer"), (scheduler, "scheduler")):
            if made is not None and not callable(made):
                raise FerlError(f"model.{name} is {made!r:.80}, expected a class, or a functools.partial of one")
        self.losses = nn.ModuleList(loss(self.network.head.embed_features, counts) for loss in losses)
        for loss in cast(Sequence[Loss], self.losses):
            if not 0 <= loss.weight < math.inf:
                raise FerlError(
                    f"model.losses: the weight of {type(loss).__name__} is {loss.weight}, expected one from 0"
                )
            loss.for_classes(self.class_names)
        training: dict[str, Any] = {
            "class_counts": counts, "losses": list(losses), "optimizer": optimizer, "scheduler": scheduler,
            "scheduler_interval": scheduler_interval, "warmup": warmup, "lr_scale": lr_scale,
            "decay_vectors": decay_vectors, "compile": compile, "cuda_graph": cuda_graph,
        }  # fmt: skip
        # Not described before it is saved: what cannot be written into a checkpoint can still be trained.
        self._made_of = {"network": network, "training": training}

        self.optimizer = optimizer
        self.scheduler = scheduler
        self.scheduler_interval = scheduler_interval
        if not 0 <= warmup < math.inf:
            raise FerlError(f"model.warmup is {warmup}, expected a number of epochs from 0")
        self.warmup = warmup
        self.lr_scale = lr_scale or {}
        self.decay_vectors = decay_vectors
        self.compile_forward = compile
        self.cuda_graph = cuda_graph
        self.captured: Captured | None = None
        """Loss and gradients of a training batch as a CUDA graph; None where steps run as usual."""
        self._has_gradients = False  # whether the training step of the current batch has computed the gradients, too
        self.mirror = mirror
        self._fitting = Fitting(self.network)

        each = [f"loss_{i}_{type(loss).__name__}" for i, loss in enumerate(self.losses)] if len(self.losses) > 1 else []
        names = {"train": ["loss", *each, "accuracy", "labelled"], "val": ["loss", *each], "test": ["loss", *each]}
        self.means = nn.ModuleDict({f"{split}_means": Means(of) for split, of in names.items()})
        self.val_metrics = classification_metrics(k).clone(prefix="val/")
        self.test_metrics = classification_metrics(k).clone(prefix="test/")
        check_scale(self._parameters_by_name(), self.lr_scale)
        for name, parameter in self._parameters_by_name():
            if factor(name, self.lr_scale) == 0:
                parameter.requires_grad_(False)
        taught = (getattr(loss, "trained_on", None) for loss in self.losses)
        self._seen: list[Tensor] = [frames for frames in taught if frames is not None]
        """Hashes of the frames that its start and its teachers were trained on, as far as they tell."""
        self.started_from = ""
        """What was taken of ``init_from``, in words."""
        if init_from:
            self._init_from(Path(init_from))
        self.train()  # the trainer keeps the modes it finds, so what is frozen must be in eval mode from the start

    @property
    def class_names(self) -> list[str]:
        """The K classes."""
        return self.network.class_names

    # --- what is computed -------------------------------------------------------------------------------------------

    def forward(self, image: Tensor, mask: Tensor | None = None) -> Output:
        """Classify clips, as ``Network`` does: image (B, T, C, H, W) in [0, 1], mask (B, T) bool, True = real frame."""
        output: Output = self.network(image, mask)
        return output

    def notes(self) -> list[str]:
        """What readers of its results must know."""
        return ["Tested on each image and its mirror image: the mean of the two probabilities."] if self.mirror else []

    def _mirrored(self, output: Output, batch: Batch) -> Output:
        """The output with the logits whose softmax is the mean over images and mirror images, if that is asked for."""
        if not self.mirror:
            return output
        other = self(batch["image"].flip(-1), batch.get("mask")).logits
        return output._replace(logits=torch.logaddexp(output.logits.log_softmax(1), other.log_softmax(1)) - math.log(2))

    def _step(self, batch: Batch, split: Split) -> tuple[Tensor, list[Tensor], Tensor]:
        """The loss; the loss and its terms as numbers to log; and the logits (B, K)."""
        output: Output = self(batch["image"], batch.get("mask"))
        if split == "test":
            output = self._mirrored(output, batch)
        # Losses in full precision: half-precision log-softmax loses the tail.
        output = output._replace(
            logits=output.logits.float(), embedding=output.embedding.float(), restored=output.restored.float()
        )
        terms = []
        for loss in cast(Sequence[Loss], self.losses):
            layer = next(loss.parameters(), output.embedding)  # of half or double precision where all of the model is
            terms.append(loss.weight * loss(output._replace(embedding=output.embedding.to(layer.dtype)), batch))
        total = torch.stack(terms).sum()
        return total, [total.detach(), *(term.detach() for term in terms if len(terms) > 1)], output.logits.detach()

    def _evaluated(self, batch: Batch, split: Literal["val", "test"]) -> dict[str, Tensor]:
        loss, means, logits = self._step(batch, split)
        label = class_index(batch["label"])
        metrics = self.val_metrics if split == "val" else self.test_metrics
        metrics.update(logits.softmax(1), label)
        cast(Means, self.means[f"{split}_means"]).update(means, len(label))
        return {"loss": loss, "logits": logits}

    def _log_means(self, split: Split) -> None:
        means = cast(Means, self.means[f"{split}_means"])
        found = means.compute()
        if split == "train":
            found["accuracy"] = found["accuracy"] / found.pop("labelled")
        numbers, training = {f"{split}/{name}": value for name, value in found.items()}, split == "train"
        for name, value in numbers.items():
            self.log(
                name, value, prog_bar=name.endswith(("/loss", "/accuracy")), logger=not training, on_step=False,
                on_epoch=True, sync_dist=True,
            )  # fmt: skip
        if training:  # here, since Lightning does it after last.ckpt is there: a kill in between would lose the row
            row = {name: value.item() for name, value in numbers.items()} | {"epoch": self.current_epoch}
            for logger in self.loggers:
                logger.log_metrics(row, self.global_step - 1)
                logger.save()
        means.reset()

    def _check_finite(self) -> None:
        """End a training that has diverged before it replaces the best epoch."""
        if not cast(Means, self.means["train_means"]).compute()["loss"].isfinite():
            rates = ", ".join(f"{group['lr']:g}" for group in self.trainer.optimizers[0].param_groups)
            kept = "; best.ckpt is of an epoch before" if self.current_epoch else ""
            raise FerlError(
                f"the training loss of epoch {self.current_epoch} is not finite (step {self.global_step}, learning "
                f"rate {rates}): it has diverged. Lower the learning rate, or use another precision{kept}"
            )

    def _trained(self, batch: Batch) -> dict[str, Any]:
        """The loss of a training batch, and the numbers to log."""
        loss, means, logits = self._step(batch, "train")
        known = has_label(batch["label"])
        right = (logits.argmax(1) == class_index(batch["label"])) & known
        return {"loss": loss, "means": [*means, right.float().mean(), known.float().mean()]}

    def _with_gradients(self, batch: Batch) -> dict[str, Any]:
        """The same with gradients and what fitted parts have seen: everything that a graph leaves in its own memory."""
        found = self._trained(batch)
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        for parameter in trained:
            parameter.grad = None
        with torch.autocast(self.device.type, enabled=False):  # as Lightning does: only the way forward has it
            found["loss"].backward()
        return {
            "loss": found["loss"].detach(), "means": found["means"],
            "gradients": [(parameter, parameter.grad) for parameter in trained],
            "seen": [(part, part.seen) for part in self._fitting.parts],
        }  # fmt: skip

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        # Padding is left out of a training step, which makes shapes depend on values.
        self._has_gradients = (
            self.captured is not None and "mask" not in batch and self.trainer.accumulate_grad_batches == 1
        )
        found = self.captured(batch) if self.captured and self._has_gradients else self._trained(batch)
        for parameter, gradient in found.get("gradients", ()):
            parameter.grad = gradient
        for part, seen in found.get("seen", ()):
            part.seen = seen
        self._logged: list[Tensor] = found["means"]
        loss: Tensor = found["loss"]
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        cast(Means, self.means["train_means"]).update(self._logged, len(batch["label"]))
        self._fitting.gather(batch)

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Callable[[], Any] | None = None
    ) -> None:
        """Update the parameters, in a warm-up at a part of the rate that the schedule says."""
        done = epoch + (batch_idx + 1) / self.trainer.num_training_batches
        if done >= self.warmup:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
            return
        rates = [group["lr"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * done / self.warmup
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate  # from which schedules compute the next

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        if not self._has_gradients:
            super().optimizer_zero_grad(epoch, batch_idx, optimizer)

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        if not self._has_gradients:
            super().backward(loss, *args, **kwargs)

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        return self._evaluated(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        return self._evaluated(batch, "test")

    # Once an epoch: at each step, to log would take milliseconds.

    def on_validation_epoch_end(self) -> None:
        self._log_means("val")
        self.log_dict(cast(dict[str, Any], self.val_metrics))
        if self.trainer.state.fn == "fit" and not self.trainer.sanity_checking:
            # Before the checkpoint is saved, else a resumed run would miss a step.
            self._step_plateau(of_training=False)

    def on_test_epoch_end(self) -> None:
        self._log_means("test")
        self.log_dict(cast(dict[str, Any], self.test_metrics))

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        return {"logits": self._mirrored(self(batch["image"], batch.get("mask")), batch).logits.float()}

    # --- what is fitted, not learned --------------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        self.captured = None
        self._fitting.reset()  # an earlier fit may have been interrupted
        for means in self.means.values():
            cast(Means, means).reset()
        data: Any = getattr(self._trainer, "datamodule", None)
        if self._seen and hasattr(data, "trained_on") and data.trained_on is None:
            data.trained_on = np.unique(torch.cat(self._seen).numpy().view("uint64"))
        self._seed = int(os.environ.get("PL_GLOBAL_SEED", torch.initial_seed()))  # the first is left by seed_everything

    def on_train_start(self) -> None:
        """Choose how steps run: as CUDA graphs on one GPU, where nothing scales the loss."""
        trainer: Any = self.trainer
        loop = trainer.fit_loop
        if loop.restarted_on_epoch_end:  # with max_steps, where Lightning would end the last epoch again, as one more
            loop.epoch_progress.increment_completed()
            loop.reset_restart_stage()
            _Loop.restarting.fset(loop, False)  # type: ignore[attr-defined]
        if (
            self.cuda_graph and self.device.type == "cuda" and not self.compile_forward
            and isinstance(trainer.strategy, SingleDeviceStrategy)
            and getattr(trainer.precision_plugin, "scaler", None) is None
        ):  # fmt: skip
            self.captured = Captured("The training step", self._with_gradients, self._constants)
            replay(trainer.optimizers[0])

    def on_train_end(self) -> None:
        self.captured = None

    def _constants(self) -> dict[str, object]:
        """What a graph of the training step keeps: options, modes, and where parameters and buffers are."""
        parts = {name: module for name, module in self.named_modules() if name.startswith(("network", "losses"))}
        tensors = [*self.network.named_parameters(), *self.network.named_buffers(), *self.losses.named_parameters()]
        places = {name: (x.data_ptr(), x.requires_grad) for name, x in [*tensors, *self.losses.named_buffers()]}
        return constants(parts) | places

    def on_train_epoch_start(self) -> None:
        """Seed the draws of an epoch, such as dropout, so that a resumed run repeats those of no other epoch."""
        place = [self._seed, self.current_epoch, self.global_rank]
        torch_seed, numpy_seed, python_seed = np.random.SeedSequence(place).generate_state(3).tolist()
        torch.manual_seed(torch_seed)
        np.random.seed(numpy_seed)  # noqa: NPY002  # for augmentations that draw from it
        random.seed(python_seed)
        if self.captured is not None:
            self.captured.refresh()

    def on_validation_start(self) -> None:
        self._fit()  # validation runs within the epoch: at its end would be too late

    def on_train_epoch_end(self) -> None:
        self._check_finite()
        self._log_means("train")
        self._fit()
        self._fitting.reset()
        self._step_plateau(of_training=True)

    def _step_plateau(self, of_training: bool) -> None:
        """Step a ``ReduceLROnPlateau`` of what training, or validation, has just logged."""
        found = self.trainer.callback_metrics
        for config in self.trainer.lr_scheduler_configs:
            monitor = str(config.monitor)
            if isinstance(config.scheduler, ReduceLROnPlateau) and monitor.startswith("train/") == of_training:
                if monitor not in found:
                    raise FerlError(
                        f"model.scheduler: it monitors {monitor!r}, which is not logged; logged are "
                        f"{', '.join(sorted(found))}"
                    )
                config.scheduler.step(found[monitor])

    def lr_scheduler_step(self, scheduler: LRSchedulerTypeUnion, metric: Any | None) -> None:
        if not isinstance(scheduler, ReduceLROnPlateau):  # which steps after a validation
            super().lr_scheduler_step(scheduler, metric)

    def _fit(self) -> None:
        with self.trainer.precision_plugin.forward_context():
            self._fitting.fit()

    def check_training(self) -> None:
        """Refuse what could be trained but not used afterwards; the command line asks before it writes anything.

        Raises:
            FerlError: the optimizer cannot be made; the head of an ``AuxiliaryHead`` could not take the place of the
                network's own.
        """
        self._make_optimizer()
        if not views(self.losses) or not (broken := self._other_than_linear()):
            return
        raise FerlError(
            f"model.losses: an AuxiliaryHead takes the place of the last layer when its classes are tested, and "
            f"{type(self.network.head).__name__} has more that is made for its own classes ({', '.join(broken)}). "
            "Choose a head that ends in a linear layer, such as LinearHead or MLPHead, or leave AuxiliaryHead out"
        )

    def _other_than_linear(self) -> list[str]:
        """What a head has beside the last linear layer that depends on the number of its classes."""
        head, k = self.network.head, len(self.class_names)
        with torch.random.fork_rng(devices=[]):
            other = self._made_of["network"]["head"](self.network.head_features, k + 1).state_dict()
        own = head.state_dict()
        more = [name for name, x in own.items() if name not in other or other[name].shape != x.shape]
        last = {"classify.weight", "classify.bias"}
        return sorted({*more} - last or ([] if last <= {*more} else [*own]))

    # --- how it is trained ------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        if stage == "fit":
            self.check_training()
        if self.compile_forward:
            self.compile()

    def train(self, mode: bool = True) -> Self:
        """Switch modes, but leave what ``lr_scale`` freezes in eval mode: its batch norm must not drift."""
        super().train(mode)
        for name, module in self.named_modules():
            if name and factor(own_name(name), self.lr_scale) == 0:
                module.training = False  # not eval(), which would reach into parts that a longer name trains
        return self

    def _parameters_by_name(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Parameters by the names that ``lr_scale`` uses: ``backbone.…``, ``losses.0.…``."""
        return ((own_name(name), parameter) for name, parameter in self.named_parameters())

    def _make_optimizer(self) -> tuple[Optimizer, list[float]]:
        """Make the optimizer; returns what the rates of its groups are multiplied by, too."""
        groups, factors = parameter_groups(self._parameters_by_name(), self.lr_scale, self.decay_vectors)
        try:
            optimizer = self.optimizer(groups)
        except (AttributeError, TypeError, ValueError) as error:  # the first of one that wraps another optimizer
            raise FerlError(f"model.optimizer cannot be made: {error}") from error
        if isinstance(optimizer, LBFGS | SparseAdam):
            wants = "all images in every step" if isinstance(optimizer, LBFGS) else "sparse gradients"
            name = type(optimizer).__name__
            raise FerlError(f"model.optimizer: {name} wants {wants}; take another, such as SGD or AdamW")
        return optimizer, factors

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer, factors = self._make_optimizer()
        fuse(optimizer)
        scale_rates(optimizer, factors)
        if self.scheduler is None:
            return optimizer
        scheduler = self._scheduled(self.scheduler, optimizer)
        if isinstance(scheduler, ReduceLROnPlateau):
            monitor = getattr(scheduler, "monitor", "val/loss")
            # To Lightning a schedule like any other, else it would want a validation in every epoch.
            return {
                "optimizer": optimizer,
                "lr_scheduler": {"scheduler": scheduler, "monitor": monitor, "reduce_on_plateau": False},
            }
        scale_schedule(scheduler, factors)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": self.scheduler_interval},
        }

    def _scheduled(self, scheduler: Any, optimizer: Optimizer) -> LRSchedulerTypeUnion:
        """Make the schedule, with the number of all steps for those that need it, such as ``OneCycleLR``."""
        try:
            return cast(LRSchedulerTypeUnion, scheduler(optimizer))
        except (TypeError, ValueError) as error:
            if "total_steps" not in str(error):
                raise FerlError(f"model.scheduler cannot be made: {error}") from error
        by_step = self.scheduler_interval == "step"
        steps = self.trainer.estimated_stepping_batches if by_step else self.trainer.max_epochs
        if steps is None or not 0 < steps < float("inf"):
            raise FerlError(
                "model.scheduler: it needs the number of steps. Give total_steps, or limit the training by "
                "trainer.max_epochs"
            )
        try:
            return cast(LRSchedulerTypeUnion, scheduler(optimizer, total_steps=int(steps)))
        except ValueError as error:
            raise FerlError(f"model.scheduler cannot be made: {error}") from error

    # --- checkpoints ------------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for group in (group for state in checkpoint.get("optimizer_states", ()) for group in state["param_groups"]):
            if "capturable" in group:
                group["capturable"] = False  # so that a run that began on a GPU goes on anywhere
        data: Any = getattr(self._trainer, "datamodule", None)
        try:
            made_of = {name: describe(options) for name, options in self._made_of.items()}
        except FerlError as error:
            log.warning("The checkpoint cannot be rebuilt without the code that made the model: %s", error)
        else:
            made_of["input"] = self.network.input | getattr(data, "input", {})
            made_of["views"] = views(self.losses)
            checkpoint[HEADER] = header_of(**made_of, device=self.device.type)
        if hasattr(data, "training_frames"):
            # As int64, which every version of torch reads; a test tells by them which images the model has seen.
            frames = data.training_frames
            if data.trained_on is not None:  # before: by the run that this one goes on from, or starts from
                frames = np.union1d(frames, data.trained_on)
            checkpoint["training_frames"] = torch.from_numpy(frames.view("int64").copy())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of other classes or another architecture."""
        if self._trainer is not None and self._trainer.state.fn != "fit":
            take_view(checkpoint, self.class_names)
        header = checkpoint.get(HEADER, {})
        names = header.get("network", {}).get("class_names", self.class_names)
        data: Any = getattr(self._trainer, "datamodule", None)
        if hasattr(data, "trained_on") and "training_frames" in checkpoint:
            data.trained_on = checkpoint["training_frames"].numpy().view("uint64")
        if names != self.class_names:
            raise FerlError(
                f"the checkpoint was trained on the classes {names}, the data has {self.class_names}: use the data it "
                "was trained on"
            )
        self.network.input = header.get("input", {})
        if self._trainer is not None and self._trainer.precision == "64-true":
            self.double()  # before its weights are loaded, which Lightning would round to 32 bits
        check_architecture(checkpoint["state_dict"], self.state_dict())

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]  # Lightning's takes what it needs from hyper-parameters
        cls, checkpoint_path: str | Path, map_location: Any = "cpu", *, trust: bool = False, **changed: Any
    ) -> Self:
        """Rebuild a classifier, with its losses and optimiser, from a checkpoint alone.

        Args:
            checkpoint_path: of the file.
            map_location: device, or anything else that ``torch.load`` takes.
            trust: build parts of packages that are neither ours nor installed plug-ins; this runs their code.
            changed: arguments of ``Classifier`` that replace the stored ones.

        Raises:
            FerlError: the file is missing, damaged, or does not say how it was built.
        """
        stored = read_checkpoint(checkpoint_path, map_location)
        header = read_header(stored, checkpoint_path)
        if not trust:
            require_plugins(header, checkpoint_path)
        options = {name: rebuild(header.get(name, {}), trust) for name in ("network", "training")}
        model = cls(**{**options["network"], **options["training"], **changed})
        model.on_load_checkpoint(stored)
        model.load_state_dict(stored["state_dict"])
        return model

    def _init_from(self, path: Path) -> None:
        try:
            stored, names, frames = read_start(path, self.class_names)
        except FerlError as error:
            raise FerlError(f"model.init_from: {error}") from error
        if frames is not None:
            self._seen.append(frames)
        own = self.state_dict()
        fitting = what_fits(by_class(stored, own, names, self.class_names) if names else stored, own)
        # Buffers do not count: the pixel moments and the counters of batch norm fit any model.
        if not fitting.keys() & dict(self.named_parameters()).keys():
            raise FerlError(
                f"model.init_from: no parameter of {path} has the name and shape of one of this model. Its names begin "
                f"like {next(iter(stored), 'nothing')!r}, those of this model like "
                f"{own_name(next(name for name, _ in self.named_parameters()))!r}"
            )
        broken = [name for name, _ in self.named_parameters() if name in fitting and fitting[name].isnan().any()]
        if broken:
            raise FerlError(
                f"model.init_from: {len(broken)} of the {len(fitting)} tensors of {path} that fit have values that are "
                f"no numbers, such as {own_name(broken[0])}: its training has diverged; use an earlier file"
            )
        self.load_state_dict(fitting, strict=False)
        left = sorted({".".join(own_name(name).split(".")[:2]) for name in set(own) - set(fitting)})
        known = {canonical(name) for name in names} & {canonical(name) for name in self.class_names}
        self.started_from = (
            f"{path}: {len(fitting)} of {len(own)} tensors taken"
            + (f"; {unused} others of the file not used" if (unused := len(stored) - len(fitting)) > 0 else "")
            + (f"; left as initialised: {', '.join(left[:8])}{' and others' if len(left) > 8 else ''}" if left else "")
            + (f"; its last layer knows {len(known)} of {len(self.class_names)} classes by name" if known else "")
            + ("; which images it was trained on is not known" * (frames is None))
        )
        log.info("init_from %s", self.started_from)

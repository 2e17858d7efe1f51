"""Several trained models as one: the mean of their probabilities."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from ferlightning.checkpoint import checkpoint_of, frames_of, network_of, read_checkpoint
from ferlightning.contracts.modules import Batch, Output, class_index
from ferlightning.errors import FerlError
from ferlightning.evaluation.metrics import classification_metrics
from ferlightning.models.network import NetworkEnsemble
from ferlightning.weights import find_weights


class Ensemble(LightningModule):
    """The mean of the probabilities of trained models, for validate, test and predict.

    A member may be any network that was trained here, whatever its parts, if it tells the same classes apart. The
    images are those of the configured data: preprocess them in the way that the members' training images were.

    Args:
        class_names: the K classes; comes from the data.
        checkpoints: one of each member: a checkpoint, its safetensors file, a run folder, or a name such as
            ``ferl-small``. Of a member that has a view of just the data's classes, it is the view.
        mirror: take the mean over mirror images, too.

    Raises:
        FerlError: there is no checkpoint, one cannot be rebuilt, or it tells other classes apart.
    """

    def __init__(self, class_names: Sequence[str], checkpoints: Sequence[str] = (), mirror: bool = False) -> None:
        super().__init__()
        if not checkpoints:
            raise FerlError(
                "model.checkpoints: name the checkpoints of the members, as [RUN/checkpoints/best.ckpt, ...]"
            )
        self.class_names = list(class_names)
        self.checkpoints = list(checkpoints)
        paths = [find_weights(checkpoint_of(path)) for path in checkpoints]
        stored = [read_checkpoint(path) for path in paths]
        members = [network_of(x, path, self.class_names) for x, path in zip(stored, paths, strict=True)]
        for path, member in zip(checkpoints, members, strict=True):
            for name in ("size", "channels", "preprocess"):
                one, other = members[0].input.get(name), member.input.get(name)
                if None not in (one, other) and one != other:
                    raise FerlError(
                        f"model.checkpoints: {path} was trained on images of {name} {other}, "
                        f"{checkpoints[0]} of {one}: all members get the same images, so choose members of one kind"
                    )
            names = member.class_names
            if sorted(names) != sorted(self.class_names):
                raise FerlError(
                    f"model.checkpoints: {path} tells {', '.join(names)} apart, the data has "
                    f"{', '.join(self.class_names)}: choose members of the same classes, or those of the data by "
                    f"--data.classes=[{','.join(names)}]"
                )
        found = [frames_of(x, path) for x, path in zip(stored, paths, strict=True)]
        self._frames = [frames for frames in found if frames is not None]
        self.network = NetworkEnsemble(members, self.class_names, mirror)
        k = len(self.class_names)
        self.val_metrics = classification_metrics(k).clone(prefix="val/")
        self.test_metrics = classification_metrics(k).clone(prefix="test/")

    def notes(self) -> list[str]:
        """What readers of its results must know."""
        images = " on each image and its mirror image" if self.network.mirror else ""
        n = sum(len(getattr(member, "members", [member])) for member in self.network.members)
        return [f"An ensemble: the mean of the probabilities of {n}{images}: {', '.join(self.checkpoints)}."]

    def setup(self, stage: str) -> None:
        """Tell the data which images the members have seen, as far as they say."""
        data: Any = getattr(self.trainer, "datamodule", None)
        if self._frames and hasattr(data, "trained_on"):
            data.trained_on = np.unique(torch.cat(self._frames).numpy().view("uint64"))

    def forward(self, image: Tensor, mask: Tensor | None = None) -> Output:
        """Classify clips, as ``NetworkEnsemble`` does: image (B, T, C, H, W) in [0, 1], mask (B, T) bool."""
        output: Output = self.network(image, mask)
        return output

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        logits = self(batch["image"], batch.get("mask")).logits
        metrics = self.test_metrics if self.trainer.testing else self.val_metrics
        metrics.update(logits.softmax(1), class_index(batch["label"]))
        return {"loss": nn.functional.cross_entropy(logits, batch["label"]), "logits": logits}

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        self.log_dict(cast(dict[str, Any], self.val_metrics))

    def on_test_epoch_end(self) -> None:
        self.log_dict(cast(dict[str, Any], self.test_metrics))

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        return {"logits": self(batch["image"], batch.get("mask")).logits}

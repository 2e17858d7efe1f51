"""Knowledge distillation: a small model learns from what a trained one says."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ferlightning.checkpoint import checkpoint_of, frames_of, network_of, read_checkpoint
from ferlightning.contracts.modules import Batch, Loss, Output
from ferlightning.emotions import canonical
from ferlightning.errors import FerlError


class Distillation(Loss):
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), the mean over the batch.

    Hinton et al. 2015, https://arxiv.org/abs/1503.02531, section 2: T^2 keeps the size of the gradient when T changes.
    Theirs is the cross-entropy with the teacher's probabilities, which has the same gradient; the divergence is 0 where
    student and teacher agree. Put it beside a cross-entropy of the labels; alone it reads none.

    The teacher sees the images that the student sees, augmented alike. It is no part of the student: it is not trained,
    and no checkpoint of the student has it, so every command that computes this loss needs the teacher's file.
    ``ferlightning.load`` of the student does not.

    Args:
        embed_features: E, unused; comes from the head.
        class_counts: training images of each class, (K,); comes from the data.
        teacher: checkpoint or safetensors file of a network for the same classes; they are matched by name.
        weight: factor of this loss in the sum.
        temperature: T, > 0; the larger, the more the classes count that are not the most probable.

    Raises:
        FerlError: the teacher tells other classes apart, or the temperature is not above 0.
    """

    order: Tensor

    def __init__(
        self,
        embed_features: int,
        class_counts: Sequence[int],
        teacher: str,
        weight: float = 1.0,
        temperature: float = 4.0,
    ) -> None:
        super().__init__()
        if not 0 < temperature < math.inf:
            raise FerlError(f"Distillation: temperature is {temperature}, expected a number above 0")
        self.weight, self.temperature, self.place = weight, temperature, teacher
        path = checkpoint_of(teacher)
        stored = read_checkpoint(path)
        model = network_of(stored, path).requires_grad_(False)
        names = model.class_names
        if len(names) != len(class_counts):
            raise FerlError(
                f"Distillation: the teacher {teacher} tells {len(names)} classes apart ({', '.join(names)}), the data "
                f"has {len(class_counts)}: both need the same classes"
            )
        # In a list, so that it is no sub-module: not trained, not saved, not set to train mode.
        self.teacher = [model]
        self.trained_on = frames_of(stored, path)
        """Hashes of the frames that the teacher was trained on, if it tells; whoever learns from it has seen them."""
        # A buffer, because an index from the host could not be part of a CUDA graph.
        self.register_buffer("order", torch.arange(len(names)), persistent=False)

    def for_classes(self, class_names: Sequence[str]) -> None:
        """Bring what the teacher says into the order of the student's classes; spellings of an emotion are one name."""
        own, theirs = [canonical(name) for name in class_names], [canonical(x) for x in self.teacher[0].class_names]
        if sorted(own) != sorted(theirs):
            missing, more = sorted({*own} - {*theirs}), sorted({*theirs} - {*own})
            raise FerlError(
                f"Distillation: the teacher {self.place} tells other classes apart than the data has: it does not know "
                f"{', '.join(missing) or 'nothing'}, and the data does not have {', '.join(more) or 'nothing'}. Choose "
                "another teacher, or rename classes by --data.classes"
            )
        self.order = torch.tensor([theirs.index(name) for name in own], device=self.order.device)

    def forward(self, output: Output, batch: Batch) -> Tensor:
        image, t = batch["image"], self.temperature
        teacher = self.teacher[0].to(image)  # device and precision; nothing to do after the first batch
        try:
            with torch.no_grad():
                logits = teacher(image, batch.get("mask")).logits.float().index_select(1, self.order)
        except FerlError as error:
            raise FerlError(
                f"Distillation: the teacher {self.place} cannot read the student's images: {error}"
            ) from error
        student, target = (output.logits / t).log_softmax(1), (logits / t).log_softmax(1)
        return t**2 * F.kl_div(student, target, reduction="batchmean", log_target=True)

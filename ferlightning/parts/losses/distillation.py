"""Knowledge distillation: a small model learns from what a trained one says."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ferlightning.checkpoint import load_network
from ferlightning.contracts.modules import Batch, Loss, Output
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
        teacher: checkpoint or safetensors file of a network for the same classes in the same order.
        weight: factor of this loss in the sum.
        temperature: T, > 0; the larger, the more the classes count that are not the most probable.
    """

    def __init__(
        self,
        embed_features: int,
        class_counts: Sequence[int],
        teacher: str,
        weight: float = 1.0,
        temperature: float = 4.0,
    ) -> None:
        super().__init__()
        self.weight, self.temperature = weight, temperature
        model = load_network(teacher).requires_grad_(False)
        names = model.class_names
        if len(names) != len(class_counts):
            raise FerlError(
                f"Distillation: the teacher {teacher} tells {len(names)} classes apart ({', '.join(names)}), the data "
                f"has {len(class_counts)}: both need the same classes"
            )
        # In a list, so that it is no sub-module: not trained, not saved, not set to train mode.
        self.teacher = [model]

    def forward(self, output: Output, batch: Batch) -> Tensor:
        image, t = batch["image"], self.temperature
        teacher = self.teacher[0].to(image)  # device and precision; nothing to do after the first batch
        with torch.no_grad():
            logits = teacher(image, batch.get("mask")).logits.float()
        student, target = (output.logits / t).log_softmax(1), (logits / t).log_softmax(1)
        return t**2 * F.kl_div(student, target, reduction="batchmean", log_target=True)

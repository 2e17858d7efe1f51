"""A linear support vector machine on frozen features, solved by scikit-learn."""

import torch
import torch.distributed as dist
from sklearn.svm import LinearSVC
from torch import Tensor, nn
from torchmetrics.utilities.distributed import gather_all_tensors

from ferlightning.contracts.modules import Fitted, Head, Tokens, class_index, pool


class SVM(Fitted):
    """Linear support vector machine, one class against the rest, squared hinge loss: (B, D) to margins (B, K).

    Scikit-learn's ``LinearSVC`` on the features of the epoch, each brought to mean 0 and variance 1, which are kept
    until the epoch's end: 4 D bytes an image. A class that has not been seen has the margin -1. Until the first fit,
    random orthonormal weights.

    Args:
        in_features: D, comes from the head.
        num_classes: K, comes from the data.
        cost: price of a violated margin against the norm of the weights, > 0: scikit-learn's C.
    """

    def __init__(self, in_features: int, num_classes: int, cost: float = 1.0) -> None:
        super().__init__()
        self.out_features = num_classes
        self.cost = cost
        self.weight: Tensor
        self.bias: Tensor
        self.register_buffer("weight", nn.init.orthogonal_(torch.empty(num_classes, in_features)))
        self.register_buffer("bias", torch.zeros(num_classes))
        self.batches: list[tuple[Tensor, Tensor]] = []

    def transform(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight, self.bias)

    def update(self, x: Tensor, label: Tensor) -> None:
        self.batches.append((x.float(), class_index(label)))

    def fit(self) -> None:
        if not self.batches:
            return
        x, label = (torch.cat(column) for column in zip(*self.batches, strict=True))
        if dist.is_available() and dist.is_initialized():
            x, label = torch.cat(gather_all_tensors(x)), torch.cat(gather_all_tensors(label))
        if (label == label[0]).all():
            return
        x = x.cpu().double()
        mean, std = x.mean(0), x.std(0, correction=0)
        std = std.where(std > 0, 1)
        machine = LinearSVC(C=self.cost, dual=False).fit((x - mean) / std, label.cpu())
        coef, intercept = torch.from_numpy(machine.coef_), torch.from_numpy(machine.intercept_)
        if len(coef) == 1:  # of two classes, only the second is told
            coef, intercept = torch.cat([-coef, coef]), torch.cat([-intercept, intercept])
        coef = coef / std
        weight, bias = torch.zeros_like(self.weight), torch.full_like(self.bias, -1)
        weight[machine.classes_] = coef.to(weight)
        bias[machine.classes_] = (intercept - coef @ mean).to(bias)
        self.weight.copy_(weight)
        self.bias.copy_(bias)

    def reset(self) -> None:
        self.batches = []


class SVMHead(Head):
    """A linear support vector machine on the mean token, for features that are not trained.

    Freeze what comes before by ``lr_scale: {backbone: 0}`` and take it from a trained network by ``init_from``: the
    machine is solved on the features of one epoch. What is left to learn is one number, the scale from margins to
    logits (temperature scaling, Guo et al. 2017, https://arxiv.org/abs/1706.04599), which changes no decision; being
    learned on the training images it leaves the probabilities too sure.

    Args:
        in_features: D, comes from the stage before.
        num_classes: K, comes from the data.
        cost: price of a violated margin against the norm of the weights, > 0: scikit-learn's C.
    """

    def __init__(self, in_features: int, num_classes: int, cost: float = 1.0) -> None:
        super().__init__()
        self.embed_features = in_features
        self.svm = SVM(in_features, num_classes, cost)
        self.log_scale = nn.Parameter(torch.zeros(()))

    def forward(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        embedding = pool(tokens)  # (B, D)
        return self.log_scale.exp() * self.svm(embedding), embedding

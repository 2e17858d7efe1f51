"""A linear support vector machine on frozen features."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ferlightning.contracts.modules import Head, Tokens, pool
from ferlightning.parts.fitted.gathered import Gathered


class SVM(Gathered):
    """Linear support vector machine, one class against the rest, squared hinge loss: (B, D) to margins (B, K).

    Solved by scikit-learn's ``LinearSVC`` on the features of the epoch, each brought to mean 0 and variance 1. A class
    without images has the margin -1. Before the first fit, the weights are random and orthonormal.

    Args:
        in_features: D, comes from the head.
        num_classes: K, comes from the data.
        cost: price of a violated margin against the norm of the weights, > 0: scikit-learn's C.

    Raises:
        FerlError: in a fit, the features are not finite.
    """

    def __init__(self, in_features: int, num_classes: int, cost: float = 1.0) -> None:
        super().__init__()
        self.out_features = num_classes
        self.cost = cost
        self.weight: Tensor
        self.bias: Tensor
        self.register_buffer("weight", nn.init.orthogonal_(torch.empty(num_classes, in_features)))
        self.register_buffer("bias", torch.zeros(num_classes))

    def transform(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight, self.bias)

    def solve(self, x: NDArray[np.float64], label: NDArray[np.int64]) -> None:
        from sklearn.preprocessing import StandardScaler  # late: scikit-learn takes a second
        from sklearn.svm import LinearSVC

        if np.unique(label).size < 2:
            return
        scaler = StandardScaler().fit(x)
        machine = LinearSVC(C=self.cost, dual=False).fit(scaler.transform(x), label)
        coef, intercept = machine.coef_ / scaler.scale_, machine.intercept_
        if coef.shape[0] == 1:  # of two classes, scikit-learn gives the second only
            coef, intercept = np.concatenate([-coef, coef]), np.concatenate([-intercept, intercept])
        self.weight.zero_()
        self.bias.fill_(-1)
        self.weight[machine.classes_] = torch.from_numpy(coef).to(self.weight)
        self.bias[machine.classes_] = torch.from_numpy(intercept - coef @ scaler.mean_).to(self.bias)


class SVMHead(Head):
    """A linear support vector machine on the mean token, for features that are not trained.

    Freeze the parts before it by ``lr_scale: {backbone: 0}`` and take them from a trained network by ``init_from``. The
    machine is solved on the features of one epoch. What is left to learn is one number, the scale from margins to
    logits (temperature scaling, Guo et al. 2017, https://arxiv.org/abs/1706.04599). It changes no decision; because it
    is learned on the training images, the probabilities stay too confident.

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

"""Linear discriminant analysis as a part: axes that are solved for, not learned, from what passes through it."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ferlightning.contracts.modules import Fitted, class_index, sum_over_processes
from ferlightning.errors import FerlError

TOLERANCE = 1e-4
"""Directions with less than this share of the spread are noise: scikit-learn's threshold."""


class LDA(Fitted):
    """Linear discriminant analysis: the at most K - 1 axes along which the classes lie furthest apart.

    Fisher 1936, https://doi.org/10.1111/j.1469-1809.1936.tb02137.x, for K classes as Rao 1948. The result has the mean
    of the training features at 0 and, with ``shrinkage: 0``, the covariance within the classes at the identity, as that
    of scikit-learn's ``LinearDiscriminantAnalysis`` has: it is the same up to a rotation.

    The rotation is the one that brings the new features closest to those of the last fit, over the training features.
    The layers behind have learned to read those, whereas the axes of a solution are arbitrary in sign, and in direction
    too where classes lie about equally far apart, as they come to do in training. It leaves all distances as they are.

    A fit takes the features of the epoch so far: weights move meanwhile, so the early ones are those of an older
    network. A run that is resumed within an epoch fits to the rest of it. Until the first fit, a random orthonormal
    projection, into which the features learn to tell the classes apart.

    Args:
        in_features: D, comes from the head.
        num_classes: K, comes from the data.
        components: axes that are kept, at most K - 1 and D; null for all.
        shrinkage: share in [0, 1] of the covariance within the classes that is replaced by a multiple of the identity
            of equal trace (Friedman 1989): above 0, directions in which the training features hardly vary do not
            dominate.
        warmup: fits that are left out at first, one an epoch. Features that do not tell the classes apart yet give
            other axes at each fit, and what is behind has to learn anew; with few images that may go on for long.

    Raises:
        FerlError: an option is out of range; in a fit, the features are not finite.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        components: int | None = None,
        shrinkage: float = 0.1,
        warmup: int = 0,
    ) -> None:
        super().__init__()
        most = min(num_classes - 1, in_features)
        if components is not None and not 1 <= components <= most:
            raise FerlError(
                f"LDA: components is {components}; {num_classes} classes of {in_features} features have 1 to {most}"
            )
        if not 0 <= shrinkage <= 1:
            raise FerlError(f"LDA: shrinkage is {shrinkage}, it must be in [0, 1]")
        if warmup < 0:
            raise FerlError(f"LDA: warmup is {warmup}, it must be a number from 0")
        self.num_classes = num_classes
        self.shrinkage = shrinkage
        self.out_features = components or most
        self.mean: Tensor
        self.axes: Tensor
        self.waiting: Tensor
        self.register_buffer("mean", torch.zeros(in_features))
        self.register_buffer("axes", nn.init.orthogonal_(torch.empty(in_features, self.out_features)))
        self.register_buffer("waiting", torch.tensor(warmup))  # in the checkpoint: a resumed run waits no longer
        self.gram: Tensor | None = None  # (K + D, K + D), of one-hot labels and features side by side

    def transform(self, x: Tensor) -> Tensor:
        # No matrix product: autocast would round it to half precision, and the axes magnify small differences.
        return ((x - self.mean).unsqueeze(2) * self.axes).sum(1)

    def update(self, x: Tensor, label: Tensor) -> None:
        one_hot = F.one_hot(class_index(label), self.num_classes)
        if x.device.type == "mps":  # has no float64, without which the sums of an epoch lose the small differences
            x, one_hot = x.cpu(), one_hot.cpu()
        rows = torch.cat([one_hot.double(), x.double()], 1)  # (B, K + D)
        gram = rows.T @ rows
        self.gram = gram if self.gram is None else self.gram + gram

    def fit(self) -> None:
        if self.gram is None:
            return
        if self.waiting > 0:
            self.waiting -= 1
            return
        gram, k = sum_over_processes(self.gram).cpu(), self.num_classes
        if not gram.isfinite().all():
            raise FerlError(
                "LDA: the features of this epoch are not finite. Training has probably diverged: lower the learning "
                "rate, or use another precision"
            )
        counts, sums, moment = gram[:k, :k].diagonal(), gram[:k, k:], gram[k:, k:]
        if counts.sum() <= (counts > 0).sum():
            return  # a covariance needs a class of two
        axes = discriminant_axes(counts, sums, moment, self.out_features, self.shrinkage)
        mean = sums.sum(0) / counts.sum()
        total = moment / counts.sum() - mean.outer(mean)
        # Orthogonal Procrustes of new onto old features, https://doi.org/10.1007/BF02289451, with X^T X = total.
        u, _, vt = torch.linalg.svd(axes.T @ total @ self.axes.cpu().double())
        self.mean.copy_(mean)
        self.axes.copy_(axes @ u @ vt)

    def reset(self) -> None:
        self.gram = None


def discriminant_axes(counts: Tensor, sums: Tensor, moment: Tensor, components: int, shrinkage: float = 0.0) -> Tensor:
    """Axes of linear discriminant analysis, the most discriminative first, from sums over the items x.

    Args:
        counts: items of each class, (K,) float64; at least one class has two.
        sums: sum of x over each class, (K, D) float64.
        moment: sum of the outer product of x with itself over all items, (D, D) float64.
        components: axes wanted, C.
        shrinkage: share of the covariance within the classes that is replaced by a multiple of the identity.

    Returns:
        (D, C), scaled so that the covariance within the classes along the axes is the identity; zeros in place of axes
        beyond those that the classes span.
    """
    n = counts.sum()
    means = sums / counts.clamp(min=1)[:, None]
    within = (moment - sums.T @ means) / n
    within = (1 - shrinkage) * within + shrinkage * within.diagonal().mean() * torch.eye(len(within)).to(within)
    # As scikit-learn, standardise first, so that what counts as no variance at all does not hang on units.
    std = within.diagonal().clamp(min=0).sqrt()
    std = std.where(std > 0, 1)
    values, vectors = torch.linalg.eigh(within / std.outer(std))
    real = values > TOLERANCE**2
    whiten = vectors[:, real] / values[real].sqrt() / std[:, None]  # (D, R)
    between = counts.sqrt()[:, None] * (means - sums.sum(0) / n) @ whiten  # (K, R)
    _, spread, directions = torch.linalg.svd(between, full_matrices=False)
    chosen = directions[spread > TOLERANCE * spread[:1]][:components]  # spread is largest first
    return F.pad(whiten @ chosen.T, (0, components - len(chosen)))

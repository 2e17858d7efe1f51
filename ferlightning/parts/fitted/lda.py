"""Projections whose axes are solved for, not learned, from the features that pass: LDA, and PCA beside it."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ferlightning.errors import FerlError
from ferlightning.parts.fitted.gathered import Gathered


class _Axes(Gathered):
    """What LDA and PCA share: centring, a rotation towards the axes of before, and those of before the first fit.

    The rotation is the one that brings the new projections of the training features closest to the old ones. The
    layers after it have learned to read those, whereas the axes of a solution are arbitrary in sign, and even in
    direction where classes lie about equally far apart, as they do in a trained network. It keeps all distances.

    Before the first fit it is a random orthonormal projection, into which the features learn to separate the classes.
    """

    def __init__(self, in_features: int, num_classes: int, components: int | None) -> None:
        super().__init__()
        most = min(num_classes - 1, in_features)
        if components is not None and not 1 <= components <= most:
            raise FerlError(
                f"{type(self).__name__}: components is {components}; {num_classes} classes of {in_features} features "
                f"have 1 to {most}"
            )
        self.out_features = components or most
        self.mean: Tensor
        self.axes: Tensor
        self.register_buffer("mean", torch.zeros(in_features))
        self.register_buffer("axes", nn.init.orthogonal_(torch.empty(in_features, self.out_features)))

    def transform(self, x: Tensor) -> Tensor:
        # No matrix product: autocast would round it to half precision, and the axes magnify small differences.
        return ((x - self.mean).unsqueeze(2) * self.axes).sum(1)

    def found(self, x: NDArray[np.float64], label: NDArray[np.int64]) -> NDArray[np.float64] | None:
        """At most ``out_features`` axes (D, ...) for features (N, D) of class indices (N,); None if there are none."""
        raise NotImplementedError

    def solve(self, x: NDArray[np.float64], label: NDArray[np.int64]) -> None:
        from scipy.linalg import orthogonal_procrustes  # late: it takes a second

        found = self.found(x, label)
        if found is None:
            return
        axes = np.pad(found, ((0, 0), (0, self.out_features - found.shape[1])))  # zeros for classes that are absent
        mean = x.mean(0)
        rotation, _ = orthogonal_procrustes((x - mean) @ axes, x @ self.axes.cpu().double().numpy())
        self.mean.copy_(torch.from_numpy(mean))
        self.axes.copy_(torch.from_numpy(axes @ rotation))


class LDA(_Axes):
    """Linear discriminant analysis: projects on the at most K - 1 axes along which the classes lie furthest apart.

    Fisher 1936, https://doi.org/10.1111/j.1469-1809.1936.tb02137.x; Rao 1948 for K classes. Solved by scikit-learn's
    ``LinearDiscriminantAnalysis`` on the features of the epoch so far, then centred and rotated towards the axes of
    before. Weights move during an epoch, so the early features are those of an older network. A run that is resumed
    within an epoch fits to the rest of it.

    Args:
        in_features: D, comes from the head.
        num_classes: K, comes from the data.
        components: number of axes, at most K - 1 and D; null for all.
        shrinkage: share in [0, 1] of each covariance that is replaced by a multiple of the identity of equal trace
            (Friedman 1989). Above 0, directions in which the training features hardly vary do not dominate.
        warmup: number of first fits that are skipped, one an epoch. Features that do not separate the classes yet give
            other axes at each fit, and the layers after them must learn anew; with few images that can go on for long.

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
        super().__init__(in_features, num_classes, components)
        if not 0 <= shrinkage <= 1:
            raise FerlError(f"LDA: shrinkage is {shrinkage}, it must be in [0, 1]")
        if warmup < 0:
            raise FerlError(f"LDA: warmup is {warmup}, it must be a number from 0")
        self.shrinkage = shrinkage
        self.waiting: Tensor
        self.register_buffer("waiting", torch.tensor(warmup))  # in the checkpoint: a resumed run does not wait again

    def found(self, x: NDArray[np.float64], label: NDArray[np.int64]) -> NDArray[np.float64] | None:
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis  # late: it takes a second

        if self.waiting > 0:
            self.waiting -= 1
            return None
        classes = np.unique(label)
        varies = any(np.ptp(x[label == k], axis=0).any() for k in classes)
        if classes.size < 2 or not varies:
            return None
        solver = {"solver": "eigen", "shrinkage": self.shrinkage} if self.shrinkage else {"solver": "svd"}
        solution = LinearDiscriminantAnalysis(**solver).fit(x, label)
        axes: NDArray[np.float64] = solution.scalings_[:, : min(classes.size - 1, self.out_features)]
        return axes


class PCA(_Axes):
    """Principal component analysis: projects on the axes along which the features vary most, each scaled to variance 1.

    It knows no classes: what LDA adds to it is that it looks at them. Solved by scikit-learn's ``PCA``, then centred
    and rotated as LDA is.

    Args:
        in_features: D, comes from the head.
        num_classes: K, comes from the data.
        components: number of axes, at most K - 1 and D, as LDA has; null for all of these.

    Raises:
        FerlError: an option is out of range; in a fit, the features are not finite.
    """

    def __init__(self, in_features: int, num_classes: int, components: int | None = None) -> None:
        super().__init__(in_features, num_classes, components)

    def found(self, x: NDArray[np.float64], label: NDArray[np.int64]) -> NDArray[np.float64] | None:
        from sklearn import decomposition  # late: it takes a second

        if len(x) <= self.out_features:
            return None
        solution = decomposition.PCA(self.out_features).fit(x)
        varies = solution.explained_variance_ > 1e-12 * solution.explained_variance_.max(initial=1e-12)
        axes: NDArray[np.float64] = solution.components_[varies].T / np.sqrt(solution.explained_variance_[varies])
        return axes if varies.any() else None

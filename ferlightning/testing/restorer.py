"""The contract check of restorers."""

from collections.abc import Callable

import torch

from ferlightning.contracts.modules import Restorer
from ferlightning.testing.common import (
    built,
    check_autocast,
    check_each_alone,
    check_export,
    check_module,
    require,
    run,
    seeded,
    shape,
)


@seeded()
def check_restorer(build: Callable[[], Restorer], in_channels: int = 1) -> None:
    """Check that a restorer keeps the shape and the range of images, and returns the same in every eval run.

    Args:
        build: makes the restorer, like the slot ``restorer``.
        in_channels: C of the images; a restorer that depends on it has its own option for it.
    """
    images = torch.rand(3, in_channels, 48, 40)
    restorer = built(build, Restorer)
    name = type(restorer).__name__
    for mode in ("train", "eval"):
        with torch.no_grad():
            restored = run(restorer.train(mode == "train"), images)[0]
        require(restored.shape == images.shape, f"{name}: images {shape(images)} became {shape(restored)}")
        low, high = float(restored.min()), float(restored.max())
        span = f"{name}: images in [0, 1] must stay there; in {mode} mode they span [{low:.3g}, {high:.3g}]"
        require(low >= -1e-5 and high <= 1 + 1e-5, span)
    check_each_alone(restorer, images)
    check_module(build, images)
    check_export(build, images)
    check_autocast(build, images)

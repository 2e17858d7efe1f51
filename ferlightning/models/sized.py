"""A network that a small file describes is small: its parts are counted while they are built."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

from ferlightning.errors import FerlError

ALLOWED = 100_000_000
"""Parameters that a file of any size may describe: a part may replace some that it was built with."""
MODULE = 10_000
"""Parameters that a module counts as, by the time and memory that it takes to build."""


@contextmanager
def at_most_of(size: int) -> Iterator[None]:
    """Refuse to build, within the block, networks that a file of so many bytes cannot have weights for.

    A parameter registers before its values are drawn, so that its memory is only reserved by then.

    Raises:
        FerlError: there are more parameters, or more modules.
    """
    left = ALLOWED + 4 * size

    def count(_: nn.Module, name: str, new: Tensor | nn.Module | None) -> None:
        nonlocal left
        left -= new.numel() if isinstance(new, Tensor) else MODULE
        if left < 0:
            raise FerlError(
                f"the network that the file describes is far larger than its {size:,} bytes can fill (at {name}): the "
                "file is damaged, or was written by hand"
            )

    hooks = [register_module_parameter_registration_hook(count), register_module_module_registration_hook(count)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()

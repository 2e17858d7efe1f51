"""The loss of a restorer, against a loop."""

import numpy as np
import pytest
import torch

from ferlightning.contracts.modules import Output
from ferlightning.errors import FerlError
from ferlightning.parts import Reconstruction

B, T, C, H, W = 3, 4, 2, 5, 6
IMAGE, RESTORED = torch.rand(2, B, T, C, H, W, generator=torch.Generator().manual_seed(0))


def value(restored: torch.Tensor, mask: torch.Tensor | None) -> float:
    output = Output(torch.zeros(B, 3), torch.zeros(B, 8), restored, None)
    batch = {"image": IMAGE} if mask is None else {"image": IMAGE, "mask": mask}
    with torch.no_grad():
        return Reconstruction(8, [1, 1, 1])(output, batch).item()


def test_it_is_the_mean_squared_error_of_real_frames() -> None:
    lengths = [4, 1, 2]
    errors = [
        np.mean((RESTORED[b, t].double() - IMAGE[b, t].double()).numpy() ** 2) for b in range(B) for t in range(T)
    ]
    assert value(RESTORED, None) == pytest.approx(np.mean(errors), rel=1e-5)
    real = [errors[b * T + t] for b in range(B) for t in range(lengths[b])]
    mask = torch.arange(T) < torch.tensor(lengths)[:, None]
    assert value(RESTORED, mask) == pytest.approx(np.mean(real), rel=1e-5)
    padding = ~mask[:, :, None, None, None]
    assert value(RESTORED.masked_fill(padding, 0), mask) == pytest.approx(np.mean(real), rel=1e-5)


def test_a_model_without_a_restorer_is_refused_in_training() -> None:
    output = Output(torch.zeros(B, 3, requires_grad=True), torch.zeros(B, 8), IMAGE, None)
    with pytest.raises(FerlError, match="set model.restorer"):
        Reconstruction(8, [1, 1, 1])(output, {"image": IMAGE})
    assert value(IMAGE, None) == 0

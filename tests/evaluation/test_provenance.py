"""The count of multiply-adds against sizes known by hand."""

import pytest
import torch
from torch import Tensor, nn

from ferlightning.evaluation.provenance import git_revision, multiply_adds


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x, x, x)[0]


@pytest.mark.parametrize(
    ("model", "item", "expected"),
    [
        (nn.Linear(16, 32), (1, 16), 16 * 32),
        (nn.Conv2d(3, 8, 3, padding=1), (1, 3, 16, 16), 8 * 16 * 16 * 3 * 3 * 3),
        (nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8), (1, 8, 16, 16), 8 * 8 * 8 * 3 * 3),
        (nn.LSTM(5, 6, bidirectional=True, batch_first=True), (1, 10, 5), 2 * 10 * 4 * 6 * (5 + 6)),
        (nn.GRU(5, 6, batch_first=True), (1, 10, 5), 10 * 3 * 6 * (5 + 6)),
        (Attention(), (1, 10, 16), 4 * 10 * 16 * 16 + 2 * 10 * 10 * 16),
        (nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), (1, 10, 16), 4 * 2560 + 3200 + 2 * 10 * 16 * 32),
    ],
)
@pytest.mark.parametrize("inference", [False, True])
def test_multiply_adds(model: nn.Module, item: tuple[int, ...], expected: int, inference: bool) -> None:
    before = (torch.backends.mkldnn.enabled, torch.backends.mha.get_fastpath_enabled())
    model.train()
    with torch.inference_mode(inference):
        assert multiply_adds(model, torch.randn(item)) == expected
    assert model.training
    assert (torch.backends.mkldnn.enabled, torch.backends.mha.get_fastpath_enabled()) == before


def test_no_git(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert git_revision() is None

"""The count of multiply-adds against sizes known by hand, and versions without an installation."""

import copy
import sys

import pytest
import torch
from torch import Tensor, nn

import ferlightning
from ferlightning.evaluation.provenance import git_revision, multiply_adds, versions


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x, x, x)[0]


class FusedAttention(nn.Module):
    """What the transformers of timm call."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(x, x, x)


@pytest.mark.parametrize(
    ("model", "item", "expected"),
    [
        (nn.Linear(16, 32), (1, 16), 16 * 32),
        (nn.Conv2d(3, 8, 3, padding=1), (1, 3, 16, 16), 8 * 16 * 16 * 3 * 3 * 3),
        (nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8), (1, 8, 16, 16), 8 * 8 * 8 * 3 * 3),
        (nn.LSTM(5, 6, bidirectional=True, batch_first=True), (1, 10, 5), 2 * 10 * 4 * 6 * (5 + 6)),
        (nn.GRU(5, 6, batch_first=True), (1, 10, 5), 10 * 3 * 6 * (5 + 6)),
        (Attention(), (1, 10, 16), 4 * 10 * 16 * 16 + 2 * 10 * 10 * 16),
        (FusedAttention(), (1, 4, 10, 16), 4 * 2 * 10 * 10 * 16),
        (nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), (1, 10, 16), 4 * 2560 + 3200 + 2 * 10 * 16 * 32),
    ],
)
def test_multiply_adds(model: nn.Module, item: tuple[int, ...], expected: int) -> None:
    def switches() -> tuple[bool, ...]:
        cuda = torch.backends.cuda
        return (
            torch.backends.mkldnn.enabled, torch.backends.mha.get_fastpath_enabled(), cuda.flash_sdp_enabled(),
            cuda.mem_efficient_sdp_enabled(), cuda.math_sdp_enabled(),
        )  # fmt: skip

    before = switches()
    for inference in (False, True):
        counted = copy.deepcopy(model).train()  # what was counted once is not counted again
        with torch.inference_mode(inference):
            assert multiply_adds(counted, torch.randn(item)) == expected
        assert counted.training and switches() == before


def test_versions_without_an_installed_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])  # where importlib.metadata looks
    found = versions()
    assert found["ferlightning"] == ferlightning.__version__ and found["torch"] == torch.__version__
    assert "unknown" not in found.values()


def test_no_git(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert git_revision() is None

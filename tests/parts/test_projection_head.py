"""The head of LDA, dense block and linear layer: by hand, and through the command line."""

import csv
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from ferlightning.contracts.modules import Tokens
from ferlightning.parts import LDA, LinearHead, LinearProjection, ProjectionHead
from ferlightning.parts.projection_head import DenseBlock
from ferlightning.testing import check_head
from tests.conftest import NO_REPORT, SMALL, TINY
from tests.test_ddp import TWO
from tests.test_ddp import ferl as new_process

Ferl = Callable[..., Path]

PIPELINE = [
    *TINY, *SMALL, "--model.sequence=LSTM", "--model.sequence.hidden=8", "--model.attention=DotProductAttention",
    "--model.head=ProjectionHead", "--model.losses=[CrossEntropy,CenterLoss]", "--trainer.max_epochs=2",
]  # fmt: skip


def tokens(n: int = 6, d: int = 10) -> Tokens:
    return Tokens(torch.randn(n, 1, d), None, (1, 1, 1))


@torch.no_grad()
@pytest.mark.parametrize("training", [True, False])
def test_each_layer_reads_all_before_it(training: bool) -> None:
    """Equation 2 of Huang et al. 2017, x_l = H_l([x_0, ..., x_(l-1)]), with H of batch norm, ReLU, linear."""
    block = DenseBlock(5, growth=3, layers=4).train(training)
    for name, buffer in block.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 2)

    def norm(features: torch.Tensor, layer: torch.nn.BatchNorm1d) -> torch.Tensor:
        mean = features.mean(0) if training else layer.running_mean
        var = features.var(0, correction=0) if training else layer.running_var
        return torch.relu((features - mean) / (var + layer.eps).sqrt() * layer.weight + layer.bias)

    x = torch.randn(8, 5)
    states = [module for module in block.modules() if isinstance(module, torch.nn.BatchNorm1d)]
    linears = [module for module in block.modules() if isinstance(module, torch.nn.Linear)]
    assert [layer.in_features for layer in linears] == [5, 6, 9, 12, 15]
    made = [x @ linears[0].weight.T + linears[0].bias]
    before = [{key: buffer.clone() for key, buffer in state.named_buffers()} for state in states]
    found = block(x)
    for state, old in zip(states, before, strict=True):
        state.load_state_dict(old, strict=False)
    for state, linear in zip(states, linears[1:], strict=False):
        features = norm(torch.cat(made, 1), state)
        made.append(features @ linear.weight.T + linear.bias)
    torch.testing.assert_close(found, norm(torch.cat(made, 1), states[-1]), atol=1e-5, rtol=1e-5)
    assert block.out_features == 18


@torch.no_grad()
@pytest.mark.parametrize(
    ("projection", "reconstruction"),
    [(LDA, DenseBlock), (partial(LDA, components=2), None), (None, partial(DenseBlock, growth=3)), (None, None)],
)
def test_each_step_can_be_left_out(projection, reconstruction) -> None:
    head, given = ProjectionHead(10, 5, projection, reconstruction).eval(), tokens()
    x = given.x.squeeze(1)
    if projection:
        x = x @ head.projection.axes
    if reconstruction:
        x = head.reconstruction(x)
    logits, embedding = head(given)
    torch.testing.assert_close(embedding, x, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logits, F.linear(x, head.classify.weight, head.classify.bias), atol=1e-5, rtol=1e-5)
    assert head.embed_features == embedding.shape[1]
    if not projection and not reconstruction:
        plain = LinearHead(10, 5)
        assert head.state_dict().keys() == plain.state_dict().keys()


@torch.no_grad()
def test_a_block_that_convolves_reads_the_projected_map_of_each_real_frame() -> None:
    """By hand, frame by frame: project each cell, 3x3 convolutions of all maps before, mean over cells, then frames."""
    head = ProjectionHead(10, 4, reconstruction=partial(DenseBlock, growth=3, layers=2, convolve=True)).eval()
    head.projection.mean.normal_()
    lengths, x = (3, 1), torch.randn(2, 3 * 20, 10)
    mask = (torch.arange(3) < torch.tensor(lengths)[:, None]).repeat_interleave(20, 1)
    embedding = head(Tokens(x, mask, (3, 4, 5)))[1]
    block, scale = head.reconstruction, (1 + 1e-5) ** -0.5  # of a new batch norm
    for item, length in enumerate(lengths):
        frames = []
        for frame in x[item].view(3, 4, 5, 10)[:length]:
            maps = ((frame - head.projection.mean) @ head.projection.axes).permute(2, 0, 1)
            made = F.conv2d(maps, block.first.weight, block.first.bias, padding=1)
            for layer in block.layers:
                made = torch.cat([made, F.conv2d((scale * made).relu(), layer[1].weight, layer[1].bias, padding=1)])
            frames.append((scale * made).relu().mean((1, 2)))
        torch.testing.assert_close(embedding[item], torch.stack(frames).mean(0), atol=1e-5, rtol=1e-5)


def test_lda_is_fitted_to_mean_tokens_whether_the_block_convolves_or_not() -> None:
    x, label = torch.randn(30, 4, 10), torch.arange(30) % 5
    heads = [ProjectionHead(10, 5, reconstruction=partial(DenseBlock, convolve=convolve)) for convolve in (False, True)]
    heads[1].projection.load_state_dict(heads[0].projection.state_dict())
    for head in heads:
        head(Tokens(x, None, (1, 2, 2)))
        head.projection.update(head.projection.seen, label)
        head.projection.fit()
    assert heads[0].projection.mean.any()
    torch.testing.assert_close(heads[1].projection.axes, heads[0].projection.axes)


@pytest.mark.parametrize(
    "options",
    [{"projection": LinearProjection}, {"reconstruction": partial(DenseBlock, growth=4, layers=2, convolve=True)}],
)
def test_other_steps_keep_the_contract_of_a_head(options) -> None:
    check_head(partial(ProjectionHead, **options))


def metrics(folder: Path) -> dict[str, float]:
    report = json.loads((folder / "metrics.json").read_text())
    return {name: entry["value"] for name, entry in report["metrics"].items()}


def last_logged(run: Path, name: str) -> float:
    return [float(row[name]) for row in csv.DictReader((run / "metrics.csv").open()) if row.get(name)][-1]


@pytest.mark.slow
def test_a_checkpoint_gives_the_numbers_of_its_validation(ferl: Ferl) -> None:
    """The numbers that the last epoch logged, which only a checkpoint with the axes of that validation can give."""
    run = ferl("fit", *PIPELINE)
    checkpoint = f"--ckpt_path={run}/checkpoints/last.ckpt"
    ferl("validate", checkpoint)
    found = metrics(run / "report_val")
    for name in ("accuracy", "macro_f1", "nll"):
        assert found[name] == pytest.approx(last_logged(run, f"val/{name}"), abs=1e-5)
    stored = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert {"network.head.projection.axes", "network.head.projection.mean", "losses.1.centers"} <= stored.keys()
    assert stored["network.head.projection.mean"].any(), "the projection was never fitted"


def test_ablations_by_null(ferl: Ferl) -> None:
    words = ["--model.head.projection=null", "--model.head.reconstruction=null", "--trainer.max_epochs=1"]
    run = ferl("fit", *PIPELINE, *words, *NO_REPORT)
    stored = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert {key for key in stored if key.startswith("network.head.")} == {
        "network.head.classify.weight",
        "network.head.classify.bias",
    }


def test_options_of_the_steps_are_set_from_the_command_line(ferl: Ferl) -> None:
    words = ["--model.head.projection.components=3", "--model.head.reconstruction.growth=4", "--trainer.max_epochs=1"]
    words += ["--model.head.reconstruction.layers=2", "--model.head.dropout=.2", *NO_REPORT]
    run = ferl("fit", *PIPELINE, *words)
    stored = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert stored["network.head.projection.axes"].shape == (16, 3)
    assert stored["network.head.classify.weight"].shape == (7, (2 + 2) * 4)


def test_a_wrong_projection_is_answered_with_the_right_ones(ferl: Ferl, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        ferl("fit", *PIPELINE, "--model.head.projection=LDAA")
    error = capsys.readouterr().err
    assert "projection: there is no part called 'LDAA' (did you mean LDA?)" in error


@pytest.mark.slow
def test_two_processes_solve_one_projection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes with half the batch each end where one does; batch norm sees other batches, so it is left out."""
    monkeypatch.chdir(tmp_path)
    words = [*PIPELINE, "--model.head.reconstruction=null", "--model.lr_scale={backbone: 0}"]
    words += ["--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=0.05", "--data.balanced_sampling=true"]
    for folder, how in (("one", ["--data.batch_size=16"]), ("two", ["--data.batch_size=8", *TWO])):
        new_process("fit", *words, *how, f"--trainer.default_root_dir={folder}")
    one, two = (torch.load(f"{name}/checkpoints/last.ckpt", weights_only=True)["state_dict"] for name in ("one", "two"))
    assert one["network.head.projection.mean"].any()
    for name in (
        "network.head.projection.mean",
        "network.head.projection.axes",
        "losses.1.centers",
        "network.head.classify.weight",
    ):
        # By the largest entry: LDA divides by the spread within a class, which magnifies what float32 rounds in batches
        # of another size. Axes of up to 90 differ by 0.004 where weights differ by 1e-7; without gathering, by 99.
        atol = 1e-3 * float(one[name].abs().max())
        torch.testing.assert_close(
            two[name], one[name], rtol=0, atol=atol, msg=lambda text, name=name: f"{name}: {text}"
        )
    reports = [metrics(Path(name, "report_val")) for name in ("one", "two")]
    assert reports[1] == pytest.approx(reports[0], abs=1e-4)

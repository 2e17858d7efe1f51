"""Centre loss against the equations of Wen et al. 2016, written out by loops."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ferlightning.contracts.modules import Output
from ferlightning.parts import CenterLoss

COUNTS = [10, 10, 10, 10]
RNG = np.random.default_rng(0)
STEPS = [(RNG.standard_normal((6, 3)), np.array(label)) for label in ([0, 1, 1, 3, 3, 3], [1] * 6, [2, 0, 1, 2, 0, 1])]


def loss_of(loss: CenterLoss, x: Any, label: Any) -> Tensor:
    x = torch.as_tensor(x, dtype=torch.float32)
    value: Tensor = loss(Output(torch.zeros(len(x), 4), x, x, None), {"label": torch.as_tensor(label)})
    return value


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_loss_and_centres_follow_equations_2_and_4(alpha: float) -> None:
    loss, centers = CenterLoss(3, COUNTS, alpha=alpha), np.zeros((4, 3))
    for x, label in STEPS:
        expected = sum(0.5 * ((x[i] - centers[label[i]]) ** 2).sum() for i in range(6)) / 6
        assert loss_of(loss, x, label).item() == pytest.approx(expected, rel=1e-5)
        for j in range(4):
            members = [i for i in range(6) if label[i] == j]
            move = sum((centers[j] - x[i] for i in members), np.zeros(3)) / (1 + len(members))
            centers[j] = centers[j] - alpha * move
        np.testing.assert_allclose(loss.centers.numpy(), centers, atol=1e-6)


def test_the_gradient_is_equation_3_from_the_centres_before_the_step() -> None:
    loss = CenterLoss(3, COUNTS)
    loss_of(loss, *STEPS[0])
    before, label = loss.centers.clone(), torch.tensor(STEPS[2][1])
    x = torch.tensor(STEPS[2][0], dtype=torch.float32, requires_grad=True)
    loss_of(loss, x, label).backward()
    torch.testing.assert_close(x.grad, (x.detach() - before[label]) / 6)
    assert not loss.centers.equal(before)
    assert not loss.centers.requires_grad


def test_centres_rest_in_eval_mode() -> None:
    loss = CenterLoss(3, COUNTS)
    loss_of(loss, *STEPS[0])
    before = loss.centers.clone()
    loss_of(loss.eval(), *STEPS[1])
    assert loss.centers.equal(before)


def test_soft_labels_count_as_their_most_probable_class() -> None:
    hard, soft = CenterLoss(3, COUNTS), CenterLoss(3, COUNTS)
    x, label = STEPS[0]
    probabilities = 0.7 * F.one_hot(torch.tensor(label), 4) + 0.075
    assert loss_of(soft, x, probabilities).equal(loss_of(hard, x, label))
    assert soft.centers.equal(hard.centers)


def test_centres_are_part_of_a_checkpoint_and_not_learned() -> None:
    loss = CenterLoss(3, COUNTS)
    assert loss.state_dict().keys() == {"centers"}
    assert not list(loss.parameters())


@pytest.mark.slow
def test_the_centres_of_two_processes_move_as_those_of_one(tmp_path: Path) -> None:
    one = CenterLoss(3, COUNTS)
    for x, label in STEPS:
        loss_of(one, x, label)
    context: Any = torch.multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    torch.multiprocessing.spawn(_move_share, (f"file://{tmp_path}/meeting", results), nprocs=2)  # type: ignore[no-untyped-call]
    for _ in range(2):
        np.testing.assert_allclose(results.get(), one.centers.numpy(), atol=1e-6)


def _move_share(rank: int, meeting: str, results: Any) -> None:
    torch.distributed.init_process_group("gloo", meeting, rank=rank, world_size=2)
    loss = CenterLoss(3, COUNTS)
    share = slice(0, 2) if rank == 0 else slice(2, None)
    for x, label in STEPS:
        loss_of(loss, x[share], label[share])
    results.put(loss.centers.tolist())
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()

"""The denoising autoencoder: what it does in which mode, and the two steps of its training by the command line."""

import csv
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ferlightning.data.sources.synthetic.datamodule import draw_faces
from ferlightning.errors import FerlError
from ferlightning.parts import DenoisingAutoencoder
from ferlightning.parts.degradation import Degradation
from ferlightning.testing import check_restorer
from tests.conftest import SMALL, TINY

Ferl = Callable[..., Path]
ROOT = Path(__file__).parent.parent.parent
PRETRAINING = f"--config={ROOT}/configs/papers/sriranjani_autoencoder.yaml"
NARROW = "--model.restorer.width=8"
DRAWN = ["--data=SyntheticFaces", *TINY]


def faces(seed: int = 0, items_per_class: int = 20) -> Tensor:
    """Drawn faces, (2 * items_per_class, 1, 48, 48) in [0, 1]."""
    images = draw_faces(["happiness", "fear"], items_per_class, 10, seed).images
    return torch.from_numpy(images).unsqueeze(1) / 255


def trained(**options: object) -> DenoisingAutoencoder:
    """With a last layer that is not zero, as after some training: a new one returns its input."""
    restorer = DenoisingAutoencoder(width=8, **options)
    nn.init.normal_(restorer.correct.weight, std=0.05)
    return restorer


@pytest.mark.parametrize("channels", [1, 3])
def test_a_trained_one_keeps_the_contract(channels: int) -> None:
    check_restorer(partial(trained, in_channels=channels), channels)


@pytest.mark.parametrize("size", [(48, 48), (45, 31), (9, 64), (1, 1)])
def test_images_of_any_size(size: tuple[int, int]) -> None:
    images = torch.rand(2, 1, *size)
    with torch.no_grad():
        restored = trained().eval()(images)
    assert restored.shape == images.shape
    assert not restored.equal(images)


def test_images_of_other_channels_are_refused() -> None:
    with pytest.raises(FerlError, match=r"built for 1 channels.* set model.restorer.in_channels to 3"):
        DenoisingAutoencoder()(torch.rand(1, 3, 48, 48))


def test_it_corrupts_its_input_in_train_mode_only() -> None:
    """A new one adds nothing, so it shows what it reads."""
    images, corruption = faces(), Degradation(noise=0.2)
    restorer = DenoisingAutoencoder(width=8, corruption=corruption)
    assert restorer.eval()(images).equal(images)
    torch.manual_seed(1)
    found = restorer.train()(images)
    torch.manual_seed(1)
    assert found.equal(corruption(images))
    assert not found.equal(images)


def test_it_corrupts_every_evaluation_alike_if_told_to() -> None:
    images, restorer = faces(), DenoisingAutoencoder(width=8, corrupt_eval=True).eval()
    state = torch.get_rng_state()
    one = restorer(images)
    assert restorer(images).equal(one)
    assert not one.equal(images)
    assert restorer.restore(images).equal(images)
    assert torch.get_rng_state().equal(state)
    restorer.train()
    assert not restorer(images).equal(restorer(images)), "in train mode every batch has a draw of its own"


def test_a_short_training_halves_the_error_of_faces_it_has_not_seen() -> None:
    torch.manual_seed(0)
    corruption = Degradation(p=0.9, light=0.0, noise=0.2, quality=100)  # uneven light takes longer to learn
    restorer, seen, unseen = DenoisingAutoencoder(width=8, corruption=corruption), faces(0, 50), faces(1)
    optimizer = torch.optim.Adam(restorer.parameters(), 0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 60)
    for _ in range(60):
        clean = seen[torch.randperm(len(seen))[:16]]
        optimizer.zero_grad()
        (restorer(clean) - clean).square().mean().backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        corrupted = corruption(unseen)
        before, after = ((x - unseen).square().mean() for x in (corrupted, restorer.eval()(corrupted)))
    assert after < 0.5 * before


# --- by the command line ---------------------------------------------------------------------------------------------


def restorer_of(run: Path) -> dict[str, Tensor]:
    state = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    return {
        name.removeprefix("network.restorer."): x for name, x in state.items() if name.startswith("network.restorer.")
    }


def column(run: Path, name: str) -> list[float]:
    return [float(row[name]) for row in csv.DictReader((run / "metrics.csv").open()) if row.get(name)]


@pytest.mark.slow
def test_pre_training_then_joint_training(ferl: Ferl) -> None:
    # A rate so large that the error goes up and down.
    run = ferl("fit", PRETRAINING, *DRAWN, NARROW, "--trainer.max_epochs=4", "--model.optimizer.lr=0.05")
    losses = column(run, "val/loss")
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    assert losses[best["epoch"]] == min(losses), "chosen by the error of what is restored, not by accuracy"

    joint = [*TINY, *SMALL, "--model.restorer=DenoisingAutoencoder", NARROW, "--trainer.max_epochs=1"]
    joint.append(f"--model.init_from={run}/checkpoints/best.ckpt")
    pretrained, kept = restorer_of(run), restorer_of(ferl("fit", *joint, "--model.lr_scale={restorer: 0}"))
    assert all(kept[name].equal(x) for name, x in pretrained.items()) and kept.keys() == pretrained.keys()
    both = ferl("fit", *joint, "--model.losses=[CrossEntropy]", "--model.losses+=Reconstruction")
    assert not restorer_of(both)["correct.weight"].equal(pretrained["correct.weight"]), "trained further"
    terms = [column(both, f"train/loss_{name}")[0] for name in ("0_CrossEntropy", "1_Reconstruction")]
    assert column(both, "train/loss")[0] == pytest.approx(sum(terms), rel=1e-5) and min(terms) > 0


def test_a_frozen_restorer_has_nothing_to_reconstruct(ferl: Ferl, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model.restorer=DenoisingAutoencoder", NARROW, "--model.losses+=Reconstruction"]
    with pytest.raises(SystemExit):
        ferl("fit", *TINY, *SMALL, *words, "--model.lr_scale={restorer: 0}")
    assert "there is no restorer to train" in capsys.readouterr().err


@pytest.mark.slow
def test_clips_restore_their_real_frames(ferl: Ferl) -> None:
    words = ["--data.frames=[2,5]", "--model.restorer=DenoisingAutoencoder", NARROW, "--model.losses+=Reconstruction"]
    run = ferl("fit", *TINY, *SMALL, *words, "--trainer.max_epochs=1", "--trainer.limit_train_batches=2")
    assert (run / "report_val" / "restoration.png").is_file()


@pytest.mark.slow
def test_two_processes_pre_train(tmp_path: Path) -> None:
    """What has no gradient in pre-training is frozen, which a distributed run asks for."""
    words = [PRETRAINING, *DRAWN, NARROW, "--trainer.max_epochs=1", "--trainer.accelerator=cpu"]
    words += ["--trainer.devices=2", "--trainer.strategy=ddp", "--data.batch_size=4"]  # the second step would fail
    done = subprocess.run(
        [sys.executable, "-m", "ferlightning", "fit", *words], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("runs/*/*/checkpoints/best.ckpt"))

"""A model rebuilt from its run folder gives what the run's own commands give."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from ferlightning.cli.main import main
from ferlightning.data import SyntheticFaces
from ferlightning.errors import FerlError
from ferlightning.restore import restore
from tests.conftest import SMALL, TINY

Ferl = Callable[..., Path]
ONE_EPOCH = [*TINY, *SMALL, "--trainer.max_epochs=1"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small run, to be left as it is."""
    folder = tmp_path_factory.mktemp("run") / "run"
    main(["fit", *ONE_EPOCH, "--model.attention=AdditiveAttention", f"--trainer.default_root_dir={folder}"])
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy, to be changed."""
    return shutil.copytree(trained, tmp_path / "copy")


def best(run: Path) -> Path:
    return run / "checkpoints" / "best.ckpt"


def predicted(run: Path) -> np.ndarray:
    """Probabilities of ``ferl predict``, (N, K)."""
    rows = list(csv.DictReader((run / "predictions.csv").open()))
    return np.array([[float(value) for name, value in row.items() if name.startswith("p_")] for row in rows])


def own(run: Path, **data: object) -> np.ndarray:
    """Probabilities of the restored model on the same items, (N, K)."""
    module = SyntheticFaces(items_per_class=10, subjects=5, batch_size=16, **data)
    module.prepare_data()
    module.setup("test")
    model, parts = restore(best(run)), []
    with torch.inference_mode():
        for batch in module.test_dataloader():
            image = batch["image"]
            image = image.float() / 255 if image.dtype == torch.uint8 else image
            parts.append(model(image, batch.get("mask")).logits.softmax(1))
    return torch.cat(parts).numpy()


def test_it_predicts_what_the_command_predicts(run: Path, ferl: Ferl) -> None:
    ferl("predict", f"--ckpt_path={best(run)}")
    np.testing.assert_allclose(own(run), predicted(run), atol=1e-5)
    assert not restore(best(run)).training


def test_it_predicts_what_the_command_predicts_of_clips(ferl: Ferl) -> None:
    run = ferl("fit", *ONE_EPOCH, "--data.frames=[2,5]", "--model.sequence=GRU", "--model.sequence.hidden=8")
    ferl("predict", f"--ckpt_path={best(run)}")
    np.testing.assert_allclose(own(run, frames=[2, 5]), predicted(run), atol=1e-5)


def test_what_serves_training_alone_is_not_needed(ferl: Ferl, tmp_path: Path) -> None:
    """Losses with buffers, their learning rates, a starting point and a schedule."""
    first = ferl("fit", *ONE_EPOCH)
    words = [
        "--model.losses+=CenterLoss",
        f"--model.init_from={best(first)}",
        "--model.lr_scale={backbone.layers.0: 0}",
    ]
    run = ferl(
        "fit", *ONE_EPOCH, *words, "--model.scheduler=torch.optim.lr_scheduler.StepLR", "--model.scheduler.step_size=1"
    )
    ferl("predict", f"--ckpt_path={best(run)}")
    shutil.rmtree(first)
    model = restore(best(run))
    assert not list(model.losses) and all(parameter.requires_grad for parameter in model.parameters())
    np.testing.assert_allclose(own(run), predicted(run), atol=1e-5)


def test_the_models_facts_come_from_the_checkpoint(ferl: Ferl) -> None:
    run = ferl("fit", *ONE_EPOCH, "--data.classes=[surprise,anger,happiness]")
    stored = torch.load(best(run), weights_only=True)
    model = restore(str(best(run)))
    assert model.class_names == stored["class_names"] and len(model.class_names) == 3
    state = model.state_dict()
    assert set(state) == set(stored["state_dict"])
    assert all(state[name].equal(x) for name, x in stored["state_dict"].items())


def test_a_run_goes_on_with_its_own_random_numbers(trained: Path) -> None:
    state = torch.get_rng_state()
    restore(best(trained))
    assert torch.get_rng_state().equal(state)


def test_what_cannot_be_restored_is_told(run: Path, tmp_path: Path) -> None:
    config = run / "config.yaml"
    with pytest.raises(FerlError, match="there is no checkpoint .*other.ckpt"):
        restore(run / "checkpoints" / "other.ckpt")
    shutil.copy(best(run), tmp_path / "alone.ckpt")
    with pytest.raises(FerlError, match="alone.ckpt is in no run folder: there is no .*config.yaml"):
        restore(tmp_path / "alone.ckpt")

    whole, damaged = best(run).read_bytes(), run / "checkpoints" / "damaged.ckpt"
    for content in (whole[: len(whole) // 2], b"", b"no checkpoint"):
        damaged.write_bytes(content)
        with pytest.raises(FerlError, match="damaged.ckpt is no checkpoint that can be read, or is cut short"):
            restore(damaged)
    torch.save({"state_dict": {}}, damaged)
    with pytest.raises(FerlError, match="damaged.ckpt does not tell its classes"):
        restore(damaged)

    good = config.read_text()
    changed = yaml.safe_load(good)
    changed["model"]["init_args"]["backbone"]["init_args"]["channels"] = [8, 16]
    config.write_text(yaml.safe_dump(changed))
    with pytest.raises(FerlError, match="another architecture.*backbone.layers"):
        restore(best(run))
    config.write_text(good.replace("ConvStack", "ConvHeap"))
    with pytest.raises(FerlError, match=r"(?s)config.yaml: .*ConvHeap"):
        restore(best(run))
    config.write_text("data: {}\n")
    with pytest.raises(FerlError, match="config.yaml is not the configuration of a run"):
        restore(best(run))

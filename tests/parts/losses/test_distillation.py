"""Knowledge distillation, against Hinton's formula by scipy and by a student's training."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy
from torch import Tensor, nn

from ferlightning.checkpoint import load
from ferlightning.cli.main import main
from ferlightning.contracts.modules import Output
from ferlightning.errors import FerlError
from ferlightning.parts import Distillation
from ferlightning.testing import check_loss
from tests.conftest import NO_REPORT, SMALL, TINY

Ferl = Callable[..., Path]
FEW = [*TINY, *SMALL, "--trainer.max_epochs=1"]
THREE = "--data.classes=[anger,happiness,sadness]"
COUNTS = [5, 5, 5]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The checkpoint of a small run for three classes."""
    folder = tmp_path_factory.mktemp("teacher")
    main(["fit", *FEW, *NO_REPORT, THREE, f"--trainer.default_root_dir={folder}"])
    return f"{folder}/checkpoints/best.ckpt"


def output(logits: Tensor) -> Output:
    return Output(logits, torch.zeros(len(logits), 4), torch.zeros(0), None)


def test_it_keeps_the_contract(teacher: str) -> None:
    check_loss(partial(Distillation, teacher=teacher))


@pytest.mark.parametrize("t", [1.0, 4.0])
def test_it_is_the_formula_of_hinton_et_al(t: float, teacher: str) -> None:
    """Stills and padded clips; the teacher's logits are those of the restored model, asked by itself."""
    torch.manual_seed(0)
    model, loss = load(teacher), Distillation(4, COUNTS, teacher, temperature=t)
    mask = torch.tensor([[True, True], [True, False], [True, True]])
    for batch in ({"image": torch.rand(3, 1, 1, 16, 16)}, {"image": torch.rand(3, 2, 1, 16, 16), "mask": mask}):
        logits = 3 * torch.randn(3, 3, requires_grad=True)
        logits.retain_grad()
        with torch.no_grad():
            told = model(batch["image"], batch.get("mask")).logits
        p, q = (softmax(x.detach().double().numpy() / t, axis=1) for x in (told, logits))
        value = loss(output(logits), batch)
        assert value.item() == pytest.approx(t**2 * entropy(p, q, axis=1).mean(), rel=1e-4)
        value.backward()
        # Their equation 2, of the cross-entropy with soft targets, times T^2 and over the mean of the batch.
        np.testing.assert_allclose(logits.grad.numpy(), t * (q - p) / 3, rtol=1e-3, atol=1e-6)


def test_it_is_zero_where_student_and_teacher_agree(teacher: str) -> None:
    image = torch.rand(4, 1, 1, 16, 16)
    with torch.no_grad():
        told = load(teacher)(image).logits
    assert Distillation(4, COUNTS, teacher)(output(told + 7.0), {"image": image}).item() == pytest.approx(0, abs=1e-5)


def test_the_teacher_is_no_part_of_the_student(teacher: str) -> None:
    loss = Distillation(4, COUNTS, teacher)
    student = nn.ModuleList([loss]).train()
    assert not list(student.parameters()) and not student.state_dict() and list(student.modules()) == [student, loss]
    model, image = loss.teacher[0], torch.rand(4, 1, 1, 16, 16)
    before = {name: x.clone() for name, x in model.state_dict().items()}
    logits = torch.zeros(4, 3, requires_grad=True)
    loss(output(logits), {"image": image}).backward()
    assert not model.training and all(parameter.grad is None for parameter in model.parameters())
    assert all(before[name].equal(x) for name, x in model.state_dict().items()), "batch norm must not move"


def test_a_teacher_for_other_classes_is_refused(teacher: str, ferl: Ferl, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FerlError, match=r"tells 3 classes apart \(anger, happiness, sadness\), the data has 7"):
        Distillation(4, [1] * 7, teacher)
    with pytest.raises(SystemExit):
        ferl("fit", *FEW, "--model.losses+=Distillation", f"--model.losses.teacher={teacher}")
    assert "the data has 7" in capsys.readouterr().err


def test_classes_are_matched_by_name(teacher: str, ferl: Ferl, capsys: pytest.CaptureFixture[str]) -> None:
    """In the student's order and spelling: sad, angry and happy are classes 2, 0 and 1 of the teacher."""
    image, logits = torch.rand(4, 1, 1, 16, 16), torch.randn(4, 3)
    loss = Distillation(4, COUNTS, teacher, temperature=1.0)
    loss.for_classes(["sad", "0_angry", "Happy"])
    with torch.no_grad():
        told = load(teacher)(image).logits[:, [2, 0, 1]]
    p, q = (softmax(x.double().numpy(), axis=1) for x in (told, logits))
    assert loss(output(logits), {"image": image}).item() == pytest.approx(entropy(p, q, axis=1).mean(), rel=1e-4)
    with pytest.raises(SystemExit):
        other = "--data.classes=[anger,happiness,surprise]"
        ferl("fit", *FEW, other, "--model.losses+=Distillation", f"--model.losses.teacher={teacher}")
    assert "does not know surprise, and the data does not have sadness" in capsys.readouterr().err


def test_a_temperature_that_is_not_above_0_is_refused(teacher: str) -> None:
    with pytest.raises(FerlError, match="Distillation: temperature is 0.0, expected a number above 0"):
        Distillation(4, COUNTS, teacher, temperature=0.0)


@pytest.mark.parametrize("t", [float("inf"), float("nan")])
def test_a_temperature_that_is_no_number_is_refused(teacher: str, t: float) -> None:
    with pytest.raises(FerlError, match="Distillation: temperature is"):
        Distillation(4, COUNTS, teacher, temperature=t)


def test_a_teacher_of_grey_images_is_named_where_the_student_sees_colours(teacher: str) -> None:
    loss = Distillation(4, COUNTS, teacher)
    with pytest.raises(FerlError, match=rf"the teacher {teacher} cannot read the student's images: .*1 channels"):
        loss(output(torch.zeros(4, 3)), {"image": torch.rand(4, 1, 3, 16, 16)})


def test_an_export_is_no_teacher(tmp_path: Path) -> None:
    (tmp_path / "teacher.onnx").write_bytes(b"\x08\x0a\x12\x07")
    with pytest.raises(
        FerlError, match=r"teacher.onnx is an export, .* give the run folder or checkpoint that it is of"
    ):
        Distillation(4, COUNTS, str(tmp_path / "teacher.onnx"))


def test_a_student_learns_by_the_command_line(teacher: str, ferl: Ferl) -> None:
    words = [*FEW, *NO_REPORT, THREE, "--model.losses+=Distillation", f"--model.losses.teacher={teacher}"]
    run = ferl("fit", *words)
    best = run / "checkpoints" / "best.ckpt"
    state = torch.load(best, weights_only=True)["state_dict"]
    assert not [name for name in state if "teacher" in name or name.startswith("losses")]
    ferl("test", f"--ckpt_path={best}")
    (run / "config.yaml").write_text((run / "config.yaml").read_text().replace(teacher, "gone.ckpt"))
    load(best)  # the student alone needs no teacher

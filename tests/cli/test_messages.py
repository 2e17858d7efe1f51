"""What the parser itself refuses is told in one sentence too."""

from pathlib import Path

import pytest

from ferlightning.cli.main import main
from tests.conftest import TINY


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("--model.scheduler=ReduceLROnPlateau", ["torch.optim.lr_scheduler.ReduceLROnPlateau"]),
        ("--config=warm.yaml", ["warm-up", "OneCycleLR"]),
        ("--model.losses=[{class_path: CrossEntropy, init_args: {class_weights: balanced}}]", ["'inverse'", "float"]),
        ("--model.optimizer=AdmaW", ["model.optimizer", "AdamW"]),
        ("--trainer.callbacks+=EarlyStoping", ["trainer.callbacks", "EarlyStopping"]),
        ("--trainer.callbacks=[{class_path: EarlyStopping, init_args: {monitr: x}}]", ["'monitr'"]),
        ("--model.scheduler_interval=epochs", ["model.scheduler_interval", "'epoch' or 'step'"]),
        ("--model.backbone.channels=[a,b]", ["model.backbone.channels", "'a'", "int"]),
    ],
)
def test_a_long_account_becomes_a_sentence(
    word: str, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("warm.yaml").write_text(
        "model: {scheduler: {class_path: torch.optim.lr_scheduler.SequentialLR, init_args: {milestones: [2], "
        "schedulers: [{class_path: torch.optim.lr_scheduler.LinearLR}]}}}\n"
    )
    with pytest.raises(SystemExit) as stop:
        main(["fit", word])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    message = error[error.index("ferl: error:") :]
    for part in expected:
        assert part in message
    assert message.count("\n") == 1 and len(message) < 400
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["fitt"], "fit"),
        (["data", "inspct", "x"], "inspect"),
        (["data", "inspect", "nowhere"], "nowhere"),
        (["data", "audit", "nowhere"], "nowhere"),
        (["data", "audit", "--outptu=x"], "output"),
        (["bench", "rnu"], "run"),
        (["bench", "run", "smok"], "smoke"),
        (["bench", "run", "smoke", "--budgt=cpu"], "budget"),
        (["bench", "run", "smoke", "--workers=two"], "workers"),
        (["sweep", "p4_rndom"], "p4_random"),
        (["sweep", "p4_random", "--trial=3"], "trials"),
        (["components", "--slot=head"], "slot"),
    ],
    ids=" ".join,
)
def test_every_command_answers_a_mistake_the_same_way(
    words: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("ferl: error:") and error.count("\n") == 1
    assert expected in error
    assert not list(tmp_path.iterdir())


def test_a_monitor_that_is_not_logged_is_refused_before_the_first_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["fit", *TINY, "--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val_acc"])
    assert stop.value.code == 2
    assert "EarlyStopping monitors 'val_acc' (did you mean val/accuracy?)" in capsys.readouterr().err
    assert not Path("runs").exists()

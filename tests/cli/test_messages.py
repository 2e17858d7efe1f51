"""What the parser itself refuses is told in one sentence too."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from ferlightning.cli.main import main
from tests.conftest import TINY


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("--config=warm.yaml", ["warm-up", "--model.warmup=EPOCHS"]),
        ("--model.losses=[{class_path: CrossEntropy, init_args: {class_weights: even}}]", ["'inverse'", "float"]),
        ("--model.optimizer=AdmaW", ["model.optimizer", "AdamW"]),
        ("--trainer.callbacks+=EarlyStoping", ["trainer.callbacks", "EarlyStopping"]),
        ("--trainer.callbacks=[{class_path: EarlyStopping, init_args: {monitr: x}}]", ["'monitr'"]),
        ("--model.scheduler_interval=epochs", ["model.scheduler_interval", "'epoch' or 'step'"]),
        ("--epochs=3", ["did you mean --trainer.max_epochs?"]),
        ("--model=resnet18", ["give --model.backbone=Timm --model.backbone.name=resnet18"]),
        ("--model=ResNet", ["ResNet is a backbone: give --model.backbone=ResNet"]),
        ("--batch-size=3", ["did you mean --data.batch_size?"]),
        ("--label-smoothing=0.1", ["--model.losses=[CrossEntropy] --model.losses.label_smoothing=0.1"]),
        ("--model.losses.label_smoothing=0.1", ["give --model.losses=[NAME] first"]),
        pytest.param(
            "--trainer.logger+=MLFlowLogger",
            ["MLFlowLogger cannot be made: ", "pip install"],
            marks=pytest.mark.skipif(find_spec("mlflow") is not None, reason="it is here"),
        ),
        ("--data.classes=[happy,happiness]", ["at least two names, each once"]),
        ("--data.classes=[happy]", ["at least two names"]),
        ("--data.img_size=9", ["data has no option 'img_size' (did you mean --data.size?)"]),
        ("-b", ["no option -b (did you mean --data.batch_size?)"]),
        ("--warmup_epochs=3", ["--model.warmup=EPOCHS"]),
        ("--model.learning_rate=1", ["did you mean --model.optimizer.lr?"]),
        ("--model.backbone=resnet18", ["--model.backbone=Timm --model.backbone.name=resnet18"]),
        ("--model.attention=none", ["--model.attention=null leaves it out"]),
        ("--trainer.logger=wandb", ["WandbLogger"]),
        ("--trainer.callbacks+=BackboneFinetuning", ["--model.lr_scale.backbone=0", "--from"]),
        ("--trainer.callbacks+=LearningRateFinder", ["LearningRateFinder", "ferl sweep"]),
        ("--trainer.fast_dev_run", ["--trainer.fast_dev_run=true"]),
        ("--trainer.accumulate_grad_batches=0", ["accumulate_grad_batches is 0"]),
        ("--config=twice.yaml", ["twice.yaml, line 2: trainer is given twice"]),
        ("--config=five.yaml", ["trainer is 5, expected its options"]),
        ("--model.losses=[]", ["model.losses is empty"]),
        ("--model.backbone.channels=[]", ["channels=[] must be numbers from 1"]),
        ("--model.lr_scale={backbone: -1}", ["backbone has the factor -1"]),
        ("--model.optimizer.learning_rate=1", ["model.optimizer has no", "did you mean --model.optimizer.lr?"]),
        ("--model.optimizer.momentum=0.9", ["RMSprop, SGD: choose that class first, --model.optimizer="]),
        ("--model.scheduler.step_size=3", ["it is one of StepLR", "--model.scheduler=StepLR"]),
        ("--trainer.callbacks.patience=3", ["it is one of EarlyStopping", "--trainer.callbacks+=EarlyStopping"]),
        ("--config=unsaid.yaml", ["unsaid.yaml: model is None, expected its options"]),
        ("--config=chained.yaml", ["warm-up", "--model.warmup=EPOCHS"]),
        ("--config=never.yaml", ["model.scheduler.step_size is 0, expected a number from 1"]),
        ("--config=steps.yaml", ["model.scheduler.milestones is '1,2', expected a list"]),
        ("--model.backbone.channels=[a,b]", ["model.backbone.channels", "'a'", "int"]),
        ("--model.backbone.channels=(8,8)", ["write [8, 8]"]),
        ("--model.losses+=CrossEntropy,FocalLoss", ["--model.losses+=[CrossEntropy,FocalLoss] to add"]),
        ("--model.optimizer.lr=1e-3x", ["model.optimizer.lr is '1e-3x', expected a number"]),
        ("--model.optimizer=SGD(lr=0.1)", ["--model.optimizer=SGD --model.optimizer.lr=VALUE"]),
        ("--model.optimizer={name: SGD, lr: 0.1}", ["model.optimizer: a class is named by class_path, not by 'name'"]),
        ("--model.backbone={type: ResNet}", ["model.backbone: a class is named by class_path, not by 'type'"]),
        ("--model.backbone=timm.resnet18", ["give --model.backbone=Timm --model.backbone.name=resnet18"]),
        ("--model.scheduler=CosineAnnealingLR", ["T_max is missing; give it by --model.scheduler.T_max=VALUE"]),
        (
            "--model.scheduler=timm.scheduler.CosineLRScheduler",
            ["no class that fits there", "torch.optim"],
        ),
        ("--config=cycle.yaml", ["OneCycleLR reads epochs and steps_per_epoch together"]),
        ("--config=tuple.yaml", ["tuple.yaml, line 1: tags such as !!python/tuple are not read", "[8, 16]"]),
        ("--config=level.yaml", ["there is no option 'fit'; it is the command: take this level out"]),
        ("--config=dotted.yaml", ["write its steps below each other, trainer: {max_epochs: ...}"]),
        ("--trainer.logger=csv", ["CSVLogger"]),
        ("--model.losses=[torch.nn.CrossEntropyLoss]", ["CrossEntropyLoss is no Loss of ours", "CrossEntropy"]),
        ("--model.losses=[nn.CrossEntropyLoss]", ["no class 'nn.CrossEntropyLoss'", "did you mean CrossEntropy"]),
        ("--no-trainer.logger", ["did you mean --trainer.logger=false?"]),
        ("--trainer.no_logger", ["did you mean --trainer.logger=false?"]),
        ("--trainer.checkpoint_callback=false", ["did you mean --trainer.enable_checkpointing?"]),
        ("--trainer.accumulate_grad_batches={0: 2}", ["GradientAccumulationScheduler --trainer.callbacks.scheduling="]),
        ("--trainer.gradient_clip_val=-1", ["gradient_clip_val is -1"]),
        ("--trainer.gradient_clip_algorithm=value", ["give --trainer.gradient_clip_val"]),
        ("--trainer.min_epochs=99", ["min_epochs is 99, and the training ends after 30"]),
        ("--trainer.accelerator=cuda:0", ["give --trainer.accelerator=cuda --trainer.devices=[0]"]),
        ("--trainer.devices=cuda", ["give --trainer.accelerator=cuda"]),
        ("\u2014-trainer.max_epochs=1", ["options begin with two dashes"]),
        ("--model.init_from=https://example.com/a.pth", ["init_from: https://... is an address: fetch the file first"]),
        ("--data.color=true", ["of the data sets, AffectNet, ", " take it: choose one, --data=ImageFolder"]),
        ("--config=shares.yaml", ["names folders, tables or values, such as {train: a, val: b}", "val_fraction=0.2"]),
        ("--val_split=0.1", ["did you mean --data.val_fraction=0.2?"]),
        ("--dataset=FER2013", ["did you mean --data=NAME?"]),
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
    Path("twice.yaml").write_text("trainer: {max_epochs: 1}\ntrainer: {max_epochs: 2}\n")
    Path("five.yaml").write_text("trainer: 5\n")
    Path("unsaid.yaml").write_text("model:\n")
    Path("tuple.yaml").write_text("model: {backbone: {init_args: {channels: !!python/tuple [8, 8]}}}\n")
    Path("level.yaml").write_text("fit: {trainer: {max_epochs: 1}}\n")
    Path("shares.yaml").write_text(
        "data: {class_path: ImageFolder, init_args: {root: ., split: {train: 0.8, val: 0.2}}}\n"
    )
    Path("dotted.yaml").write_text("trainer.max_epochs: 1\n")
    for name, options in {
        "chained": "ChainedScheduler", "never": "StepLR, init_args: {step_size: 0}",
        "steps": 'MultiStepLR, init_args: {milestones: "1,2"}',
        "cycle": "OneCycleLR, init_args: {max_lr: 1, epochs: 9}",
    }.items():  # fmt: skip
        text = f"model: {{scheduler: {{class_path: torch.optim.lr_scheduler.{options}}}}}\n"
        Path(f"{name}.yaml").write_text(text)
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--data=SyntheticFaces", *TINY, word])
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
        (["--seed_everything=1", "fit"], "options come after the command: ferl fit ... --seed_everything=1"),
        ([""], "there is no command '': the commands are"),
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
        (["new", "--part=loss", "mine"], "options come after the command: ferl new plugin ... --part=loss"),
        (["bench", "--minutes=1", "run", "smoke"], "options come after the command: ferl bench run ... --minutes=1"),
        (["export", "--model=r", "m.onnx"], "model is a word, and no option: leave out --model="),
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


def test_a_working_folder_that_is_gone_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(SystemExit) as stop:
        main(["fit", *TINY])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "ferl: error: the working folder: No such file or directory\n"


STOP = ["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor"]
PLATEAU = "--model.scheduler=ReduceLROnPlateau"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([STOP[0], f"{STOP[1]}=val_acc"], "EarlyStopping monitors 'val_acc' (did you mean val/accuracy?)"),
        ([STOP[0], f"{STOP[1]}=loss"], "EarlyStopping monitors 'loss' (did you mean val/loss"),
        ([STOP[0], f"{STOP[1]}=val/loss", "--trainer.limit_val_batches=0"], "trainer.limit_val_batches is 0"),
        (["--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.filename={epoch}-{val_acc:.2f}"],
         "the filename of ModelCheckpoint has 'val_acc' (did you mean val/accuracy?)"),
        ([STOP[0], f"{STOP[1]}=val/accuracy"], "monitors val/accuracy with mode=min, as if it were the better the "
         "smaller: give --trainer.callbacks.mode=max"),
        ([STOP[0], f"{STOP[1]}=val/loss", "--trainer.callbacks.mode=max"], "give --trainer.callbacks.mode=min"),
        ([PLATEAU, "--model.scheduler.monitor=val_loss"], "ReduceLROnPlateau monitors 'val_loss' (did you mean val/"),
        ([PLATEAU, "--model.scheduler.monitor=val/macro_f1", "--model.scheduler.mode=min"],
         "--model.scheduler.mode=max"),
        (["--model.losses=FocalLoss,CrossEntropy"], "is a list: give --model.losses=[FocalLoss,CrossEntropy]"),
        (["trainer.max_epochs=1"], "'trainer.max_epochs=1' is no data set; options begin with two dashes"),
    ],
)  # fmt: skip
def test_habits_that_would_train_otherwise_than_meant_are_refused_before_the_first_epoch(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["fit", *TINY, *words])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not Path("runs").exists()


def test_what_was_not_foreseen_is_one_sentence_that_says_where_its_traceback_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--data=SyntheticFaces", *TINY, "--trainer.callbacks+=tests.conftest.BrokenCallback"])
    assert stop.value.code == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("ferl: error:")]
    found = re.search(r"RuntimeError: broken \((\S+), line (\d+)\)\. The traceback is in (\S+);", line)
    assert found and Path(found[1]).name == "conftest.py"
    text = Path(found[3]).read_text()
    Path(found[3]).unlink()
    assert "Traceback (most recent call last)" in text and f'conftest.py", line {found[2]}' in text


@pytest.mark.parametrize(
    ("name", "expected"),
    [("SparseAdam", "SparseAdam wants sparse gradients"), ("timm.optim.Lookahead", "model.optimizer cannot be made")],
)
def test_an_optimizer_for_others_than_parameters_and_dense_gradients_is_told(
    name: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--data=SyntheticFaces", *TINY, f"--model.optimizer={name}"])
    assert stop.value.code == 2 and expected in capsys.readouterr().err
    assert not [*Path("runs").glob("*/*")]  # no run folder was begun


def test_an_unknown_backend_of_processes_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    strategy = ["--trainer.strategy=DDPStrategy", "--trainer.strategy.process_group_backend=foo"]
    with pytest.raises(SystemExit, match="2"):
        main(["fit", "--data=SyntheticFaces", *TINY, *strategy])
    assert "process_group_backend is 'foo', expected gloo, or nccl" in capsys.readouterr().err

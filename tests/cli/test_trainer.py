"""The command line from outside: what a user types, sees and finds on disk."""

import csv
import json
import shutil
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import cv2
import pytest
import torch
import yaml
from rich import reconfigure

from ferlightning.cli.check import check
from ferlightning.cli.main import main
from ferlightning.cli.short import checkpoint_in
from ferlightning.data import SyntheticFaces
from tests.conftest import NO_REPORT, SMALL, TINY, write_fer2013

Ferl = Callable[..., Path]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small run, trained for two epochs, to be left as it is."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    words = ["--model.sequence=GRU", "--model.sequence.hidden=8", "--trainer.max_epochs=2"]
    main(["fit", *TINY, *SMALL, *words, f"--trainer.default_root_dir={folder}"])
    return folder


@pytest.fixture(scope="module")
def tested(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a test of it."""
    folder = tmp_path_factory.mktemp("tested")
    main(["test", f"--ckpt_path={trained}/checkpoints/best.ckpt", f"--trainer.default_root_dir={folder}"])
    return folder / "report"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("command", "shown"), [("fit", "report_val"), ("fit --test_after_fit=true", "report"), ("test", "report")]
)
def test_open_shows_the_newest_report_or_says_that_no_browser_could(
    command: str,
    shown: str,
    fitted: Path,
    ferl: Ferl,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: bool(opened.append(url)))  # as without a display
    if command == "test":
        folder = fitted
        ferl("test", str(fitted), "--open")
    else:
        ferl(*command.split(), *TINY, *SMALL, "--trainer.max_epochs=1", "--open", "--trainer.default_root_dir=new")
        folder = Path("new")
    page = (folder / shown / "report.html").resolve()
    assert opened == [page.as_uri()]
    assert "no browser could be started" in caplog.text and f"{shown}/report.html" in caplog.text


@pytest.fixture
def fitted(trained: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(trained, tmp_path / "runs" / "copied" / "run")


def metrics(folder: Path) -> dict[str, float]:
    report = json.loads((folder / "metrics.json").read_text())
    return {name: entry["value"] for name, entry in report["metrics"].items()}


def test_components_shows_every_part_with_its_line(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    main(["components"])
    shown = capsys.readouterr().out
    for name in ("ConvStack", "ResNet", "Timm", "LSTM", "GRU", "SelfAttention", "AdditiveAttention",
                 "DotProductAttention", "LinearHead", "MLPHead", "CrossEntropy", "FocalLoss", "FER2013",
                 "ImageFolder", "SyntheticFaces", "EMA", "EarlyStopping"):  # fmt: skip
        assert name in shown
    assert "Any convolutional or hierarchical model of timm" in shown


def test_fit_leaves_a_self_contained_run_folder(fitted: Path) -> None:
    for name in ("config.yaml", "metrics.csv", "checkpoints/best.ckpt", "checkpoints/last.ckpt"):
        assert (fitted / name).is_file()
    assert not (fitted / "report").exists(), "fit must not see the test split unless asked to"
    assert (fitted / "report_val" / "metrics.json").is_file()
    config = yaml.safe_load((fitted / "config.yaml").read_text())
    assert config["seed_everything"] == 42
    assert config["model"]["init_args"]["sequence"]["init_args"]["hidden"] == 8
    assert config["data"]["init_args"]["items_per_class"] == 10
    assert str(fitted) not in (fitted / "config.yaml").read_text(), "a run folder can be moved"
    check(["fit", f"--config={fitted}/config.yaml"])  # a resolved configuration is a configuration


def test_the_best_checkpoint_is_the_best_epoch_on_validation(fitted: Path) -> None:
    logged = [row for row in rows(fitted / "metrics.csv") if row.get("val/accuracy")]
    accuracy = {int(row["epoch"]): float(row["val/accuracy"]) for row in logged}
    stored = torch.load(fitted / "checkpoints" / "best.ckpt", weights_only=True)["epoch"]
    assert accuracy[stored] == max(accuracy.values())
    assert metrics(fitted / "report_val")["accuracy"] == pytest.approx(max(accuracy.values()), abs=1e-6)


def test_a_checkpoint_restores_by_itself_even_when_its_folder_was_moved(
    fitted: Path, tested: Path, ferl: Ferl, tmp_path: Path
) -> None:
    moved = fitted.rename(tmp_path / "elsewhere")
    config = (moved / "config.yaml").read_text()  # from a machine that has what this one has not
    (moved / "config.yaml").write_text(config.replace("accelerator: auto", "accelerator: tpu"))
    log = (moved / "metrics.csv").read_text()
    ferl("test", f"--ckpt_path={moved}/checkpoints/best.ckpt")
    assert metrics(moved / "report") == metrics(tested)
    assert (moved / "metrics.csv").read_text() == log, "test must not touch the log of the fit"


def test_what_the_trainer_is_to_do_without_is_left_out(ferl: Ferl) -> None:
    off = [f"--trainer.{name}=false" for name in ("logger", "enable_progress_bar", "enable_checkpointing")]
    run = ferl("fit", *TINY, *SMALL, *off, "--trainer.max_epochs=1")
    assert {path.name for path in run.glob("[!.]*")} == {"config.yaml", "report_val"}


def test_a_callback_given_in_place_of_ours_is_added_to_them(ferl: Ferl) -> None:
    stop = ["--trainer.callbacks=EarlyStopping", "--trainer.callbacks.monitor=val/loss"]
    run = ferl("fit", *TINY, *SMALL, *stop, "--trainer.max_epochs=1", "--trainer.logger=CSVLogger")
    assert {path.name for path in run.glob("[!.]*")} == {"config.yaml", "metrics.csv", "checkpoints", "report_val"}
    assert (run / "checkpoints" / "best.ckpt").is_file()
    assert "EarlyStopping" in (run / "config.yaml").read_text()


def test_a_warm_up_that_outlasts_the_training_is_noted(ferl: Ferl, capsys: pytest.CaptureFixture[str]) -> None:
    ferl("fit", *TINY, *SMALL, *NO_REPORT, "--trainer.max_epochs=1", "--model.warmup=1.5")
    assert (
        "Note: model.warmup is 1.5 epochs: the training ends before the full learning rate" in capsys.readouterr().out
    )


@pytest.mark.parametrize("sign", ["=", "+="])
def test_checkpoints_that_a_user_asks_for_are_beside_ours(sign: str, ferl: Ferl) -> None:
    """With the monitor of ours, and in a folder of their own; best.ckpt is by their monitor, and the run goes on."""
    words = [f"--trainer.callbacks{sign}ModelCheckpoint", "--trainer.callbacks.monitor=val/accuracy"]
    words += ["--trainer.callbacks.mode=max", "--trainer.callbacks.save_top_k=-1", "--trainer.callbacks.dirpath=kept"]
    run = ferl("fit", *TINY, *SMALL, *words, "--trainer.max_epochs=2")
    assert {path.name for path in (run / "checkpoints").glob("*.ckpt")} == {"best.ckpt", "last.ckpt"}
    assert len([*Path("kept").glob("*.ckpt")]) == 2
    ferl("fit", f"--ckpt_path={run}", "--trainer.max_epochs=3")
    assert len([*Path("kept").glob("*.ckpt")]) == 3
    ferl("test", f"--ckpt_path={checkpoint_in(str(run))}")


def test_the_best_checkpoint_is_by_the_monitor_of_the_one_given_in_place_of_ours(ferl: Ferl) -> None:
    words = ["--trainer.callbacks=ModelCheckpoint", "--trainer.callbacks.monitor=val/loss"]
    run = ferl("fit", *TINY, *SMALL, *words, "--trainer.max_epochs=3", "--model.optimizer.lr=0.01")
    losses = [float(row["val/loss"]) for row in rows(run / "metrics.csv") if row["val/loss"]]
    stored = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    assert stored["epoch"] == losses.index(min(losses))


@pytest.mark.parametrize("callbacks", [[], ["--trainer.callbacks=null"]])
def test_another_logger_leaves_the_checkpoints_in_the_run_folder(callbacks: list[str], ferl: Ferl) -> None:
    """Lightning's own logger has a folder of its own, where it would put them, and no command would find them."""
    run = ferl("fit", *TINY, *SMALL, *callbacks, "--trainer.max_epochs=1", "--trainer.logger=true")
    assert {path.parent for path in run.rglob("*.ckpt")} == {run / "checkpoints"}
    ferl("validate", f"--ckpt_path={checkpoint_in(str(run))}")


def test_a_bar_that_is_added_takes_the_place_of_ours(ferl: Ferl) -> None:
    run = ferl("fit", *TINY, *SMALL, *NO_REPORT, "--trainer.max_epochs=1", "--trainer.callbacks+=RichProgressBar")
    config = (run / "config.yaml").read_text()
    assert "RichProgressBar" in config
    assert "progress.Progress" not in config


def test_the_bar_of_a_terminal_shows_speed_best_and_time_left(ferl: Ferl, capsys: pytest.CaptureFixture[str]) -> None:
    reconfigure(force_terminal=True)
    try:
        ferl("fit", *TINY, *SMALL, *NO_REPORT, "--trainer.max_epochs=2")
    finally:
        reconfigure()
    shown = capsys.readouterr().out
    assert all(f"{name}: " in shown for name in ("images/s", "best", "left"))


def test_equal_seeds_give_equal_numbers(ferl: Ferl) -> None:
    words = ["fit", *TINY, *SMALL, *NO_REPORT, "--trainer.max_epochs=2", "--data.augment+=Warp"]
    one, other = ferl(*words), ferl(*words)
    assert one != other
    assert (one / "metrics.csv").read_text() == (other / "metrics.csv").read_text()
    different = ferl(*words, "--seed_everything=1")
    assert (one / "metrics.csv").read_text() != (different / "metrics.csv").read_text()


def test_what_the_user_types_beats_the_run(fitted: Path, ferl: Ferl) -> None:
    """And the report of what the run itself was made of stays."""

    def made(report: str) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads((fitted / report / "metrics.json").read_text())["provenance"]
        return facts

    checkpoint = f"--ckpt_path={fitted}/checkpoints/best.ckpt"
    ferl("test", checkpoint, "--data=SyntheticFaces", "--data.batch_size=9")
    before = made("report")
    ferl("test", checkpoint, "--data.draw_seed=5", "--data.tested=train")
    assert made("report") == before
    changed = made("report_draw_seed-5_train")
    assert changed["config"]["data"]["init_args"]["draw_seed"] == 5 and before["data"] != changed["data"]
    assert before["config"]["data"]["init_args"]["draw_seed"] == 0


def test_random_weights_are_tested_when_asked_for(fitted: Path, ferl: Ferl, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        ferl("test", *TINY, *SMALL)
    assert "or --untrained" in capsys.readouterr().err
    report = json.loads((ferl("test", *TINY, *SMALL, "--untrained") / "report" / "metrics.json").read_text())
    assert "The network is untrained: its weights are random." in report["notes"]
    with pytest.raises(SystemExit, match="2"):
        ferl("test", str(fitted), "--untrained")
    assert "leave it out" in capsys.readouterr().err


def test_fit_resumes_in_its_folder(fitted: Path, ferl: Ferl) -> None:
    again = ferl("fit", f"--ckpt_path={fitted}/checkpoints/last.ckpt", "--trainer.max_epochs=3")
    assert again == fitted
    assert {row["epoch"] for row in rows(fitted / "metrics.001.csv") if row["epoch"]} == {"0", "1"}
    assert {row["epoch"] for row in rows(fitted / "metrics.csv") if row["epoch"]} == {"2"}


@pytest.mark.filterwarnings("error:The dirpath has changed")
def test_a_moved_run_that_early_stopping_ended_trains_no_further_and_keeps_its_best(ferl: Ferl) -> None:
    stop = ["EarlyStopping", ".monitor=val/loss", ".patience=1", ".min_delta=9"]  # the second epoch cannot be as good
    words = ["--trainer.callbacks+=" + stop[0], *(f"--trainer.callbacks{word}" for word in stop[1:])]
    run = ferl("fit", *TINY, *SMALL, *NO_REPORT, *words, "--trainer.max_epochs=9")
    moved = run.rename(run.with_name("moved"))
    best = (moved / "checkpoints/best.ckpt").read_bytes()
    ferl("fit", f"--ckpt_path={moved}/checkpoints/last.ckpt")
    last = torch.load(moved / "checkpoints/last.ckpt", weights_only=True)
    assert last["epoch"] == 1 and (moved / "checkpoints/best.ckpt").read_bytes() == best


def test_predict_writes_a_row_an_item_that_agrees_with_test(fitted: Path, tested: Path, ferl: Ferl) -> None:
    ferl("predict", f"--ckpt_path={fitted}/checkpoints/best.ckpt")
    assert rows(fitted / "predictions.csv") == rows(tested / "predictions.csv")


def test_predict_reads_a_folder_of_unlabelled_images(fitted: Path, tested: Path, ferl: Ferl) -> None:
    """Images that were drawn from the test split get the probabilities that the test split got."""
    faces = SyntheticFaces(items_per_class=10, subjects=5)
    Path("photos/inside").mkdir(parents=True)
    for i, item in enumerate(faces.items["test"][:3]):
        cv2.imwrite(f"photos/inside/{i}.png", faces.store.images[item])
    ferl("predict", f"--ckpt_path={fitted}/checkpoints/best.ckpt", "--data.predict_folder=photos")
    predicted = rows(fitted / "predictions.csv")
    assert [row["name"] for row in predicted] == ["inside/0.png", "inside/1.png", "inside/2.png"]
    assert "label" not in predicted[0]
    for row, true in zip(predicted, rows(tested / "predictions.csv"), strict=False):
        assert row["prediction"] == true["prediction"]
        assert float(row["confidence"]) == pytest.approx(float(true["confidence"]), abs=1e-5)


def test_predictions_that_take_the_place_of_others_say_so(
    fitted: Path, ferl: Ferl, capsys: pytest.CaptureFixture[str]
) -> None:
    for said in ("predictions.csv\n", "predictions.csv, in place of those that were there\n"):
        ferl("predict", f"--ckpt_path={fitted}/checkpoints/best.ckpt")
        assert capsys.readouterr().out.endswith(said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["test", "RUN", "--trainer.limit_test_batches=0"], "limit_test_batches is 0, so there is nothing to report"),
        (["validate", "RUN", "--trainer.limit_val_batches=0"], "limit_val_batches is 0, so there is nothing to report"),
        (["test", "FACES", "RUN"], "the model comes first: ferl test RUN FACES"),
        (["test", "RUN", "--from=RUN"], "ferl test takes the model as its first word, or by --ckpt_path"),
        (["fit", "--test_after_fit=true", "--trainer.limit_test_batches=0"], "leave one of them out"),
        (["fit", "--trainer.val_check_interval=99"], "trainer: `val_check_interval` (99) must be less than or equal"),
        (
            ["fit", "--trainer.callbacks+=GradientAccumulationScheduler", "--trainer.callbacks.scheduling={0: 2}",
             "--trainer.accumulate_grad_batches=2"],
            "both say how many batches",
        ),
    ],
    ids=" ".join,
)  # fmt: skip
def test_what_would_end_without_a_result_is_refused(
    words: list[str], said: str, fitted: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(fitted.parent)
    fitted.rename("RUN")
    Path("FACES").mkdir()
    with pytest.raises(SystemExit) as stop:
        main([*words, *TINY, *SMALL, "--data=SyntheticFaces"] if words[0] == "fit" else words)
    assert stop.value.code == 2 and said in capsys.readouterr().err


def test_predict_says_that_a_folder_has_no_images(fitted: Path, ferl: Ferl, capsys) -> None:
    Path("photos").mkdir()
    with pytest.raises(SystemExit):
        ferl("predict", f"--ckpt_path={fitted}/checkpoints/best.ckpt", "--data.predict_folder=photos")
    assert "no images in photos" in capsys.readouterr().err
    assert not (fitted / "predictions.csv").exists()


def test_configurations_compose_and_null_leaves_a_part_out(ferl: Ferl, tmp_path: Path) -> None:
    Path("a.yaml").write_text("model: {sequence: LSTM, attention: AdditiveAttention}\n")
    Path("b.yaml").write_text("model: {attention: null, sequence: {class_path: GRU, init_args: {hidden: 4}}}\n")
    words = ["fit", "--config=a.yaml", "--config=b.yaml", *TINY, *SMALL, *NO_REPORT, "--trainer.max_epochs=1"]
    run = ferl(*words, "--model.losses+=FocalLoss", "--model.losses.weight=.5")
    assert run.parent.name == "a+b"
    model = yaml.safe_load((run / "config.yaml").read_text())["model"]["init_args"]
    assert model["attention"] is None
    assert model["sequence"]["class_path"].endswith("GRU")
    assert [loss["init_args"]["weight"] for loss in model["losses"] if "FocalLoss" in str(loss)] == [0.5]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["fit", "--model.sequence=LSTM", "--model.sequence.hidden=wide"], ["model.sequence.hidden", "'wide'", "int"]),
        (["fit", *TINY, "--model.lr_scale={bakbone: 0}"], ["lr_scale", "'bakbone'", "backbone"]),
        (["fit", "--data.classes=[happy,wink]"], ["'wink'", "happiness"]),
        (
            ["fit", *TINY, "--model.losses=[FocalLoss]", "--model.losses.class_weights={angry: 2, no: 1}"],
            ["no class 'no'"],
        ),
        (["fit", "--trainer.max_epochs="], ["trainer.max_epochs is '', expected int"]),
        (["fit", "--data=FER2013"], ["FER2013", "FERL_DATA", "--data.root"]),
        (["fit", "--data=FER2013", "--data.root=nowhere"], ["looked in nowhere", "FERL_DATA"]),
        (["test", "--ckpt_path=no.ckpt"], ["no.ckpt"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_is_answered_in_words(words, expected, ferl: Ferl, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        ferl(*words)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    message = error[error.index("ferl: error:") :]
    for part in expected:
        assert part in message
    assert "Traceback" not in error
    assert message.count("\n") == 1, "one sentence, not the usage of everything"
    assert not Path("runs").exists(), "nothing is left behind"


def test_a_mapping_of_classes_keeps_the_models_order(fitted: Path, ferl: Ferl) -> None:
    where = [f"--data.root={write_fer2013(Path('fer2013.csv'))}", f"--trainer.default_root_dir={fitted}/own"]
    words = ["test", f"--ckpt_path={fitted}/checkpoints/best.ckpt", "--data=FER2013", *where]
    ferl(*words)
    plain = rows(fitted / "own" / "report" / "predictions.csv")
    ferl(*words, "--data.classes={surprise: anger, anger: surprise, fear: null}")
    mapped = {row["name"]: row for row in rows(fitted / "own" / "report" / "predictions.csv")}
    new = {"surprise": "anger", "anger": "surprise"}
    assert [*mapped] == [row["name"] for row in plain if row["label"] != "fear"]
    for row in (row for row in plain if row["name"] in mapped):
        own = mapped[row["name"]]
        assert own["label"] == new.get(row["label"], row["label"])
        assert own["prediction"] == row["prediction"], "what the model says does not depend on what labels are called"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--model.sequence.hidden=9"], "another architecture"),
        (["--model.sequence=null"], "another architecture"),
        (["--data.classes=[happiness,sadness]"], "trained on the classes"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused(words, expected, fitted: Path, ferl: Ferl, capsys) -> None:
    before = sorted(path.relative_to(fitted) for path in fitted.rglob("*"))
    with pytest.raises(SystemExit) as stop:
        ferl("test", f"--ckpt_path={fitted}/checkpoints/best.ckpt", *words)
    assert stop.value.code == 2
    assert expected in capsys.readouterr().err
    assert sorted(path.relative_to(fitted) for path in fitted.rglob("*")) == before, "nothing is left behind"


def test_a_file_that_is_no_checkpoint_is_refused(fitted: Path, ferl: Ferl, capsys) -> None:
    cut, photos = fitted / "checkpoints" / "cut.ckpt", fitted / "checkpoints" / "photos.zip"
    cut.write_bytes((fitted / "checkpoints" / "best.ckpt").read_bytes()[:1000])
    with ZipFile(photos, "w") as archive:
        archive.writestr("notes.txt", "no weights")
    for path in (cut, photos):
        with pytest.raises(SystemExit) as stop:
            ferl("test", f"--ckpt_path={path}")
        assert stop.value.code == 2
        assert path.name in capsys.readouterr().err


def test_a_second_run_into_a_folder_is_refused(ferl: Ferl, capsys) -> None:
    words = ["fit", *TINY, *SMALL, *NO_REPORT, "--trainer.max_epochs=1", "--trainer.default_root_dir=mine"]
    ferl(*words)
    before = {path: path.stat().st_mtime_ns for path in Path("mine").rglob("*")}
    with pytest.raises(SystemExit) as stop:
        ferl(*words)
    assert stop.value.code == 2
    assert "mine holds a run already" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in Path("mine").rglob("*")} == before

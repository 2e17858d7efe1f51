"""Commands as people type them: a folder to train on, a model and photographs by their places."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from jsonargparse import ArgumentParser

from ferlightning.cli.check import check
from ferlightning.cli.main import main
from ferlightning.cli.short import spell_out
from ferlightning.cli.words import in_order
from ferlightning.data import SyntheticFaces
from tests.conftest import NO_REPORT, SMALL


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with photographs of three classes, written as people write them."""
    monkeypatch.chdir(tmp_path)
    faces = SyntheticFaces(items_per_class=6, subjects=6)
    for i, label in enumerate(faces.label):
        if label < 3:
            path = Path("photos", ["Happy", "0_Sad", "Rolling Eyes"][label], f"{i}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), cv2.resize(faces.store.images[i], (60, 70)))
    for run in ("runs/photos/one", "broken"):
        Path(run, "checkpoints").mkdir(parents=True)
    for name in ("last", "best"):
        Path(f"runs/photos/one/checkpoints/{name}.ckpt").touch()
    Path("begun").mkdir()
    for empty in ("small.onnx", "begun/config.yaml"):
        Path(empty).touch()
    return tmp_path


def test_places_become_options(home: Path) -> None:
    best = "--ckpt_path=runs/photos/one/checkpoints/best.ckpt"
    folder = ["--data=ImageFolder", "--data.root=photos/"]
    for words, options in {
        "fit photos/ --trainer.max_epochs 3": ["fit", *folder, "--name=photos", "--trainer.max_epochs=3"],
        "fit --data photos/ --name=a": ["fit", *folder, "--name=a"],
        "fit --data=ImageFolder --data.root photos": [
            "fit", "--name=photos", "--data=ImageFolder", "--data.root=photos",
        ],
        "fit --data=SyntheticFaces": ["fit", "--data=SyntheticFaces"],
        "test runs/photos/one": ["test", best],
        "validate runs/photos/one/checkpoints/best.ckpt --quiet": ["validate", best, "--quiet"],
        "test --ckpt_path runs/photos/one": ["test", best],
        "fit --ckpt_path runs/photos/one": ["fit", best.replace("best.ckpt", "last.ckpt")],
        "predict ferl-small photos": ["predict", "--ckpt_path=ferl-small", "--data.predict_folder=photos"],
        "predict ferl-small a.png": ["predict", "--ckpt_path=ferl-small", "--data.predict_folder=a.png"],
        "predict runs/photos/one --data.batch_size 2": ["predict", best, "--data.batch_size=2"],
        "predict ferl-small a.p*": ["predict", "--ckpt_path=ferl-small", "--data.predict_folder=a.png"],
        "predict --ckpt_path=ferl-small --data.predict_folder=[ab].png": [
            "predict", "--ckpt_path=ferl-small", "--data.predict_folder=['a.png']",
        ],
        "predict ferl-small a.png photos": [
            "predict", "--ckpt_path=ferl-small", "--data.predict_folder=['a.png', 'photos']",
        ],
    }.items():  # fmt: skip
        Path("a.png").touch()
        spelled = spell_out(words.split())
        assert spelled.words == options and not spelled.exports and spelled.start is None, words
    assert spell_out(["predict", "small.onnx", "photos"])[:2] == (["predict"], ["small.onnx", "photos"])


@pytest.mark.parametrize(
    "name", ["null", "None", "a=None", "1e3", "~x", "[a]", "{x}", "a: b", "b #c", "new\nline", "'q'"]
)
def test_a_folder_may_have_any_name(home: Path, name: str) -> None:
    Path("photos").rename(name)
    parser = ArgumentParser()
    parser.add_argument("--root", type=str | None)
    for words in (["fit", name], ["predict", "ferl-small", name]):
        spelled = in_order(spell_out(words).words)
        check(spelled)
        path = next(word for word in spelled if word.startswith(("--data.root", "--data.predict"))).partition("=")[2]
        assert Path(path).expanduser().is_dir() and parser.parse_args([f"--root={path}"]).root == path


def test_from_starts_from_weights_and_takes_their_network_where_no_configuration_has_one(home: Path) -> None:
    Path("m.yaml").write_text("model: {backbone: ConvStack}")
    given = ["fit", "--data=SyntheticFaces", "--from", "runs/photos/one"]
    best = "runs/photos/one/checkpoints/best.ckpt"
    assert spell_out(given) == (["fit", "--data=SyntheticFaces", f"--model.init_from={best}"], [], best)
    assert spell_out([*given, "--config=m.yaml"]).start is None
    data = ["--data=ImageFolder", "--data.root=photos"]
    for typed in (["photos"], ["--data=photos"], data):
        words = spell_out(["test", "runs/photos/one", *typed]).words
        assert sorted(words) == sorted(["test", f"--ckpt_path={best}", *data])


@pytest.mark.parametrize(
    ("words", "expected"),
    {
        "fit": ["drawn faces", "ferl fit FACES", "--config quickstart"],
        "fit --model.backbone=ResNet": ["ferl fit FACES"],
        "fit nowhere": ["no file or folder nowhere"],
        "fit photos --from": ["--from has no value"],
        "fit --ckpt_path=runs/photos/one --from=ferl-small": ["give one of them"],
        "predict a.pt2 photos": ["a.pt2 is an export", ".onnx"],
        "predict runs/photos/one runs/photos/one": ["takes one model", "is a run folder"],
        "predict small.onnx": ["needs images"],
        "fit quickstart": ["--config quickstart"],
        "fit photos other": ["one data set"],
        "test runs": ["runs is no run folder", "did you mean runs/photos/one?"],
        "test broken": ["broken is no run folder"],
        "test ferl-nano": ["ferl test: on what?", "ferl test RUN FACES"],
        "test begun": ["begun has no checkpoint yet"],
        "test": ["ferl test RUN", "--ckpt_path"],
        "predict photos runs/photos/one": ["ferl predict runs/photos/one photos"],
        "predict photos ferl-small": ["ferl predict ferl-small photos"],
        "predict photos/Happy/0.png": [
            "ferl predict ferl-small photos/Happy/0.png",
            "ferl recognize photos/Happy/0.png",
        ],
        "predict ferl-small photos --detector-path=x": ["no option 'detector-path'; ferl recognize has it"],
        "predict ferl-small photos --data.predict_folder=more": ["photos, not both"],
        "test runs/photos/one/config.yaml": ["give its run folder, runs/photos/one"],
        "fit runs/photos/one": ["no data", "--ckpt_path=runs/photos/one"],
        "fit photos epochs=3": ["--trainer.max_epochs"],
        "train photos": ["did you mean ferl fit?"],
        "photos": ["did you mean ferl fit photos?"],
        "audit photos": ["did you mean ferl data audit?"],
        "data verify photos": ["photos is no cache", "ferl data inspect photos"],
        "bench begun/config.yaml": ["did you mean ferl bench run begun/config.yaml?"],
        "bench smoke": ["did you mean ferl bench run smoke?"],
        "data photos": ["did you mean ferl data inspect photos?"],
        "test small.onnx": ["export", "predict"],
        "test runs/photos/one runs/photos/one": ["one model"],
        "test runs/photos/one nowhere": ["no file or folder nowhere to test on"],
        "predict runs/photos/one nowhere": ["no file or folder nowhere"],
        "predict small.onnx photos --data.batch_size=2": ["--data.batch_size"],
    }.items(),
)
def test_what_cannot_be_meant_is_answered_in_words(words: str, expected: list[str], home: Path, capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(words.split())
    error = capsys.readouterr().err
    assert all(part in error for part in expected), error
    assert error.count("\n") == 1


def rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "predictions.csv").open()))


def test_a_folder_is_trained_on_and_the_names_of_its_classes_stay(home: Path, capsys) -> None:
    main(["fit", "photos", *SMALL, "--trainer.max_epochs=1", "--data.batch_size=8"])
    (run,) = Path("runs/photos").glob("20*")
    shown = capsys.readouterr().out
    for part in ("Happy", "Rolling Eyes", "60 x 70, grey", "48 x 48", "ConvStack → LinearHead", str(run),
                 "CrossEntropy", "Epoch 1/1: train/loss ", f"ferl test {run}",
                 f"ferl predict {run} FACES"):  # fmt: skip
        assert part in shown
    assert Path("runs/photos/latest").resolve() == run.resolve()
    with (run / "report_val" / "predictions.csv").open() as file:
        assert csv.DictReader(file).fieldnames[-3:] == ["p_Happy", "p_Rolling Eyes", "p_Sad"]

    sad = str(next(iter(Path("photos/0_Sad").glob("*.png"))))
    main(["predict", "runs/photos/latest", "photos/Happy", sad, "--quiet"])
    assert capsys.readouterr().out == f"{run}/predictions.csv\n"
    found = rows(run)
    assert [row["name"] for row in found][-1] == sad and len(found) == 7
    assert {row["prediction"] for row in found} <= {"Happy", "Rolling Eyes", "Sad"}


def test_an_export_predicts_what_its_checkpoint_predicts_and_so_do_arrays(home: Path) -> None:
    from ferlightning import Recognizer

    Path("photos/Happy/no.png").write_bytes(b"no image")
    for model in ("ferl-small", "ferl-small.onnx"):
        with pytest.raises(SystemExit, match="2"):  # one image is left out
            words = ["--trainer.precision=32-true"] if model == "ferl-small" else []  # that of the export
            main(["predict", model, "photos/Happy", f"--name={model.replace('.', '')}", *words])
    one, other = (next(iter(Path("runs", name).glob("20*"))) for name in ("ferl-small", "ferl-smallonnx"))
    for row, same in zip(rows(one), rows(other), strict=True):
        assert row["name"] == same["name"] and row["prediction"] == same["prediction"]
        assert float(row["confidence"]) == pytest.approx(float(same["confidence"]), abs=1e-5)

    recognizer = Recognizer("ferl-small", detector="none")
    files = [Path("photos/Happy", row["name"]) for row in rows(one)]
    grey = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in files]
    expected = recognizer.predict(files)
    assert expected.labels == [row["prediction"] for row in rows(one)]
    for arrays in (grey, np.stack(grey), [x / 255 for x in grey], [x[:, :, None] for x in grey],
                   [np.repeat(x[:, :, None], 3, 2) for x in grey]):  # fmt: skip
        np.testing.assert_allclose(recognizer.predict(arrays).probabilities, expected.probabilities, atol=1e-6)
    np.testing.assert_allclose(recognizer.predict(grey[0]).probabilities, expected.probabilities[:1], atol=1e-6)
    assert recognizer.predict([]).probabilities.shape == (0, 8)


def test_a_fit_from_weights_says_how_many_tensors_it_took(home: Path, capsys) -> None:
    main(["fit", "photos", "--from", "ferl-small", "--trainer.fast_dev_run=1", *NO_REPORT])
    shown = " ".join(capsys.readouterr().out.split())
    assert "ResNet → LinearHead" in shown and "ferl-small: 88 of 88 tensors taken" in shown
    assert "its last layer knows 2 of 3 classes by name" in shown


def test_a_fit_from_weights_is_gentle_and_takes_their_images_unless_something_else_is_said(home: Path, capsys) -> None:
    Path("mine.yaml").write_text("data: {class_path: ImageFolder, init_args: {root: photos, size: 64}}")

    def resolved(*words: str) -> tuple[float, int]:
        with pytest.raises(SystemExit):
            main(["fit", *words, "--from=ferl-small", "--print_config"])
        config = yaml.safe_load(capsys.readouterr().out)
        return config["model"]["init_args"]["optimizer"]["init_args"]["lr"], config["data"]["init_args"]["size"]

    assert resolved("photos") == (0.0001, 48)
    assert resolved("photos", "--model.optimizer.lr=0.1", "--data.size=32") == (0.1, 32)
    assert resolved("photos", "--config=mine.yaml") == (0.0001, 64)


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (("S1/happy_{}", "S2/happy_{}", "S1/sad_{}", "S2/sad_{}"), "--data.pattern"),
        (("train/happy/{}", "train_2/happy/{}", "train/sad/{}", "test/sad/{}"), "--data.split"),
        (("day1/happy/{}", "day1/sad/{}", "day2/happy/{}", "day2/sad/{}"), "--data.pattern"),
    ],
)
def test_what_a_message_says_of_a_folder_is_heard_beside_its_name(
    home: Path, capsys: pytest.CaptureFixture[str], folders: tuple[str, ...], said: str
) -> None:
    """The reader was told from the folder alone, which was refused again, whatever the options said."""
    for n, name in enumerate(folder.format(i) for folder in folders for i in range(4)):
        Path("faces", name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(f"faces/{name}.png", np.arange(64, dtype=np.uint8).reshape(8, 8) + n)
    with pytest.raises(SystemExit):
        main(["fit", "faces", *SMALL])
    value = capsys.readouterr().err.partition(said)[2].split("'")[1].replace(", ...}", ", test: test}")
    main(["fit", "faces", *SMALL, "--trainer.fast_dev_run=true", f"{said}={value}"])

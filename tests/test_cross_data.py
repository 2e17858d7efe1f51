"""A model of one data set is tested on another by class name."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ferlightning.cli.main import main
from ferlightning.data import CKPlus
from ferlightning.data.sources.ferplus import majority_label
from tests.conftest import NO_REPORT, SMALL
from tests.data.ckplus_layouts import write_ck48
from tests.data.fer2013_layouts import FER2013_CLASSES, VOTES, draw, write_csv, write_votes

Ferl = Callable[..., Path]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with FER2013's csv and FER+'s votes."""
    folder = tmp_path_factory.mktemp("data")
    write_csv(folder, draw())
    write_votes(folder, draw())
    return folder


@pytest.fixture(scope="module")
def trained(data: Path) -> str:
    """A model of FER2013."""
    words = ["--data=FER2013", f"--data.root={data}/fer2013.csv", "--data.batch_size=8", "--trainer.max_epochs=1"]
    words += ["--model.losses+=FocalLoss", "--model.losses.class_weights=inverse", *NO_REPORT]
    words += ["--data.preprocess=[GlobalContrast,{class_path: Resize, init_args: {size: 24}}]"]
    main(["fit", *words, *SMALL, f"--trainer.default_root_dir={data / 'run'}"])
    return f"--ckpt_path={data}/run/checkpoints/best.ckpt"


OUT = ["--trainer.default_root_dir=out", "--trainer.callbacks=[Report]"]


def report(run: Path = Path("out")) -> dict:  # type: ignore[type-arg]
    return json.loads((run / "report" / "metrics.json").read_text())  # type: ignore[no-any-return]


def predictions() -> list[dict[str, str]]:
    with Path("out/report/predictions.csv").open() as file:
        return list(csv.DictReader(file))


def test_other_order_of_classes(trained: str, data: Path, ferl: Ferl) -> None:
    ferl("test", trained, "--data=FERPlus", f"--data.root={data}", *OUT)
    drawn = draw()
    truth = {
        f"row {row + 1}": VOTES[k]
        for row, k in enumerate(majority_label(drawn.votes.astype(np.uint8)))
        if drawn.usage[row] == 2 and 0 <= k < 7
    }
    rows = predictions()
    assert {" ".join(row["name"].split()[:2]): row["label"] for row in rows} == truth
    assert [key for key in rows[0] if key.startswith("p_")] == [f"p_{name}" for name in FER2013_CLASSES]
    assert all(float(row[f"p_{row['prediction']}"]) == pytest.approx(float(row["confidence"])) for row in rows)


def test_other_data_is_preprocessed_as_the_network_takes_its_images(trained: str, data: Path, ferl: Ferl) -> None:
    found = []
    for words in ([], ["--data=FERPlus", f"--data.root={data}"]):  # the same images
        ferl("test", trained, *words, *OUT)
        found.append({" ".join(row["name"].split()[:2]): float(row["p_anger"]) for row in predictions()})
    own, other = found
    assert other and other == {name: pytest.approx(own[name], abs=1e-4) for name in other}


def test_classes_that_the_other_data_lack_and_classes_that_the_model_lacks(data: Path, ferl: Ferl) -> None:
    words = ["--data=SyntheticFaces", "--data.classes=[contempt,sad,happy]", "--data.items_per_class=5"]
    run = ferl("fit", *words, *SMALL, *NO_REPORT, "--trainer.max_epochs=1", "--data.subjects=5")
    csv_file = f"--data.root={data}/fer2013.csv"
    ferl("test", f"--ckpt_path={run}/checkpoints/best.ckpt", "--data=FER2013", csv_file, *OUT)
    found = report()
    assert list(found["per_class"]) == ["contempt", "sadness", "happiness"]
    assert found["per_class"]["contempt"]["support"] == 0 and found["n"] == 2
    assert any("no images of contempt" in note for note in found["notes"])
    assert any("left out of all splits: 6 anger" in note for note in found["notes"])


def test_classes_typed_by_hand_that_are_not_the_models_are_refused(
    trained: str, ferl: Ferl, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        ferl("test", trained, "--data.classes=[happy,sad]", *OUT)
    assert "trained on the classes" in capsys.readouterr().err


def test_both_the_whole_and_the_deduplicated_test_are_reported(trained: str, ferl: Ferl) -> None:
    drawn = draw()
    test = np.flatnonzero(drawn.usage == 2)
    drawn.images[test[:2]] = drawn.images[[3, 17]]
    write_csv(Path(), drawn)
    ferl("test", trained, "--data.root=fer2013.csv", *OUT)
    found = report()
    rows = predictions()
    right = [row["label"] == row["prediction"] for row in rows]
    assert found["n"] == 7 and found["deduplicated"]["n"] == 5
    assert found["metrics"]["accuracy"]["value"] == pytest.approx(np.mean(right))
    assert found["deduplicated"]["metrics"]["accuracy"]["value"] == pytest.approx(np.mean(right[2:]))
    page = Path("out/report/report.html").read_text()
    assert "without copies" in page and "the 5 items" in page


def test_a_test_on_images_that_the_model_was_trained_on_is_found_out(ferl: Ferl) -> None:
    write_ck48(Path())
    words = ["--data=CKPlus", "--data.root=.", "--trainer.max_epochs=1", "--data.batch_size=16"]
    run = ferl("fit", *words, *SMALL, *NO_REPORT)
    ferl("test", f"--ckpt_path={run}/checkpoints/best.ckpt", *OUT)
    assert not any("has seen" in note for note in report()["notes"]) and report()["deduplicated"] is None
    ferl("test", f"--ckpt_path={run}/checkpoints/best.ckpt", "--data.fold=null", *OUT)
    found = report()
    held_out = CKPlus(".", fold=0).items
    n = len(held_out["train"])
    note = f"has seen {n:,} of these {found['n']:,} items"
    assert any(note in told for told in found["notes"])
    members = ["--model=Ensemble", f"--model.checkpoints=[{run},{run}/checkpoints/last.safetensors]"]
    ferl("test", *members, *words[:2], "--data.fold=null", "--trainer.default_root_dir=together")
    assert any(note in told for told in report(Path("together"))["notes"])
    assert found["deduplicated"]["n"] == len(held_out["val"]) + len(held_out["test"])
    start = [f"--model.init_from={run}/checkpoints/best.safetensors"]
    taught = ["--model.losses+=Distillation", f"--model.losses.teacher={run}"]
    for by in (start, taught):
        other = ferl("fit", *words, *SMALL, *by, "--data.fold=1")
        notes = json.loads((other / "report_val/metrics.json").read_text())["notes"]
        assert any("has seen" in note and "has seen 0" not in note for note in notes)

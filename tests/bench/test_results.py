"""From folders of cells to one csv, and from the csv to results."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from ferlightning.bench.results import Results, collect, read_results
from ferlightning.errors import FerlError
from ferlightning.evaluation.curves import read_curves
from ferlightning.evaluation.report import summarise
from ferlightning.predictions import read_predictions
from tests.bench.written import CLASSES, CONFIG, finish, finish_all, predictions_of, report_of, start, suite_of

LABEL = np.array([0, 1, 2, 2, 1, 0])
RIGHT = np.array([1, 1, 0, 1, 0, 1], bool)


def collected(out: Path) -> Results:
    assert collect(out / "results.csv") == []
    return read_results(out / "results.csv")


def lines(out: Path) -> list[dict[str, str]]:
    with (out / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_written_reports_have_the_keys_of_real_ones() -> None:
    probs = predictions_of(LABEL, RIGHT)
    real, written = summarise(LABEL, probs, CLASSES), report_of(LABEL, probs)
    assert real.keys() < written.keys()
    assert real["metrics"].keys() == written["metrics"].keys()
    assert real["metrics"]["accuracy"] == pytest.approx(written["metrics"]["accuracy"])
    assert real["confusion_matrix"] == written["confusion_matrix"]
    assert list(real["per_class"]) == list(written["per_class"])


def test_the_csv_has_everything_measured(tmp_path: Path) -> None:
    out = tmp_path / "some where"
    (cell,) = start(out, suite_of(["A & B"], ["X"]) | {"seeds": [1]})
    (step,) = cell.steps
    clean = report_of(LABEL[:4], predictions_of(LABEL[:4], RIGHT[:4]))
    root = {"trainer": {"default_root_dir": str(step.folder)}}
    provenance = report_of(LABEL, predictions_of(LABEL, RIGHT))["provenance"] | {"config": CONFIG | root}
    more: dict[str, Any] = {"notes": ["a; b", 'c "d"'], "deduplicated": clean, "provenance": provenance}
    finish(step, LABEL, predictions_of(LABEL, RIGHT), seconds=2.5, **more)
    shutil.copytree(step.folder / "report", step.folder / "report_val")
    collected(out)
    val, val_clean, test, test_clean = lines(out)
    assert [(r["split"], r["images"]) for r in (val, val_clean, test, test_clean)] == [
        ("val", "all"), ("val", "without copies"), ("test", "all"), ("test", "without copies"),
    ]  # fmt: skip
    assert (test["system"], test["data"], test["fold"], test["seed"], test["step"]) == ("A & B", "X", "", "1", "main")
    report = json.loads((step.folder / "report" / "metrics.json").read_text())
    for line, kept in ((test, report), (test_clean, clean)):
        assert int(line["n"]) == kept["n"] and json.loads(line["confusion"]) == kept["confusion_matrix"]
        for name, value in kept["metrics"].items():
            found = [float(line[key]) for key in (name, f"{name}_low", f"{name}_high")]
            assert found == pytest.approx([value["value"], value["low"], value["high"]], abs=1e-8)
    assert json.loads(test["classes"]) == CLASSES and json.loads(test["notes"]) == more["notes"]
    assert json.loads(test["versions"]) == provenance["versions"]
    for name in ("git_revision", "device", "devices", "precision", "parameters", "multiply_adds"):
        assert test[name] == str(provenance[name])
    assert (test["step_seconds"], test["train_items"], test["test_items"]) == ("2.5", "48", "6")
    assert test["command"].startswith("ferl fit") and "'--trainer.default_root_dir={cell}/main'" in test["command"]
    kept = json.loads(val["configuration"])
    assert kept.pop("trainer") == {"default_root_dir": "{cell}/main"} and kept == CONFIG
    assert test["configuration"] == "", "once for each system and data set"


def test_what_is_done_failed_and_planned(tmp_path: Path) -> None:
    suite = suite_of(["A", "B"], []) | {"seeds": [1, 2], "columns": [{"name": "X", "folds": [0, 1]}]}
    made = start(tmp_path, suite)
    by_name = {cell.name: cell for cell in made}
    done, failed, broken = (by_name[f"A/X/fold-{f}/seed-{s}"] for f, s in ((0, 1), (1, 1), (0, 2)))
    finish(done.steps[0], LABEL, predictions_of(LABEL, RIGHT))
    failed.folder.mkdir(parents=True)
    (failed.folder / "failed.txt").write_text("Traceback\nValueError: |no| face\nexit status 1\n")
    finish(broken.steps[0], LABEL, predictions_of(LABEL, RIGHT))
    (broken.steps[0].folder / "step.json").write_text("{}")  # it gets the seconds last: the process died before

    results = collected(tmp_path)
    assert results.rows == ["A", "B"] and results.columns == ["X"]
    assert list(results.of("A", "X")) == [(0, 1)] and results.of("B", "X") == {}
    assert results.planned["A", "X"] == 4 and results.failed["A", "X"] == 1 and results.failed["B", "X"] == 0
    assert results.failures == {"A/X/fold-1/seed-1": "ValueError: |no| face"}
    result = results.of("A", "X")[0, 1]
    assert result.score("accuracy") == pytest.approx(4 / 6)
    assert result.overlap == pytest.approx(1 / 8)
    assert result.confusion.sum() == 6 and result.classes == CLASSES
    assert results.facts("device") == ["cpu (x86_64, 2 threads)"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:100],
        lambda text: "{}",
        lambda text: text.replace('"n": 10', '"n": "ten"'),
        lambda text: "[" * 10**5,
    ],
    ids=["cut", "empty", "type", "deep"],
)
def test_a_file_that_is_damaged_is_named_and_its_step_is_not_done(damage: Callable[[str], str], tmp_path: Path) -> None:
    cells = start(tmp_path, suite_of(["A", "B"], ["X"]))
    finish_all(cells, {"A": 0.5, "B": 0.5}, n=10)
    path = cells[0].steps[0].folder / "report" / "metrics.json"
    path.write_text(damage(path.read_text()))
    (problem,) = collect(tmp_path / "results.csv")
    assert problem.startswith(f"{path} is damaged")
    assert not cells[0].steps[0].done and cells[1].steps[0].done
    results = read_results(tmp_path / "results.csv")
    assert results.of("A", "X") == {} and len(results.of("B", "X")) == 1
    assert results.failures == {"A/X/seed-42": "metrics.json is damaged"}


def test_tests_and_corruptions_are_told_apart_and_pretraining_takes_time(tmp_path: Path) -> None:
    row = {"name": "A", "args": [], "pretrain": ["--x"]}
    tests = [{"name": "X", "args": []}, {"name": "Y", "args": []}]
    (cell,) = start(tmp_path, suite_of([], ["X"]) | {"rows": [row], "tests": tests, "corruptions": ["JPEG"]})
    rng = np.random.default_rng(0)
    for i, step in enumerate(cell.steps):
        right = rng.permutation(6) < i % 6
        finish(step, LABEL, predictions_of(LABEL, right), seconds=10.0 + i)
    results = collected(tmp_path)
    assert [step.folder.name for step in cell.steps[:3]] == ["pretrain", "main", "Y"]
    own, other, damaged = results.of("A", "X"), results.of("A", "X", "Y"), results.of("A", "X", None, ("JPEG", 2))
    assert [r[None, 42].score("accuracy") for r in (own, other, damaged)] == pytest.approx([1 / 6, 2 / 6, 4 / 6])
    assert own[None, 42].seconds == 21 and other[None, 42].seconds == 12
    assert own[None, 42].overlap == 0 and own[None, 42].converged
    finished = json.loads((cell.steps[0].folder / "step.json").read_text()) | {"converged": False}
    (cell.steps[0].folder / "step.json").write_text(json.dumps(finished))
    other = collected(tmp_path).of("A", "X", "Y")
    assert not other[None, 42].converged, "its pre-training was cut short"
    assert len(results.all) == 7


def test_predictions_and_curves(tmp_path: Path) -> None:
    (cell,) = start(tmp_path, suite_of(["A"], ["X"]))
    finish_all([cell], {"A": 0.5}, n=4, curves=True)
    result = collected(tmp_path).of("A", "X")[None, 42]
    predictions = read_predictions(result.folder / "report")
    assert predictions[1].name == "fold None/item 1, of <person>"
    right = [item.label == item.prediction for item in predictions]
    assert np.mean(right) == result.score("accuracy")
    assert all(1 / 3 < item.confidence <= 1 for item in predictions)
    curves = read_curves(result.folder)
    assert curves["val/accuracy"] == pytest.approx({epoch: epoch / 10 for epoch in range(5)})
    assert curves["train/loss"][4] == pytest.approx(1 / 6) and "lr" not in curves
    assert read_predictions(tmp_path) == [] and read_curves(tmp_path) == {}


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FerlError, match="there is no .*results.csv"):
        read_results(tmp_path / "results.csv")
    with pytest.raises(FerlError, match="there is no .*results.yaml"):
        collect(tmp_path / "results.csv")
    start(tmp_path, suite_of(["A"], ["X"]))
    with pytest.raises(FerlError, match="no result yet"):
        collected(tmp_path)
    (tmp_path / "results.csv").write_text("emotion,pixels\n0,1 2 3\n")
    with pytest.raises(FerlError, match=r"results.csv is not a csv of `ferl bench run`: it has no column 'system'"):
        read_results(tmp_path / "results.csv")


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("accuracy", "nan", "its accuracy is nan"),
        ("accuracy", "0.99", r"its accuracy is 0\.99, but by its confusion matrix 0\.6"),
        ("nll_high", "1e400", "its nll_high is 1e400"),
        ("n", "9", "confusion"),
        ("confusion", "[[-6,0,0],[0,0,0],[0,0,12]]", "confusion"),
        ("system", "B", "B/X//42/main is not in .*results.yaml"),
    ],
)
def test_a_line_that_is_not_of_the_suite_is_refused(column: str, value: str, said: str, tmp_path: Path) -> None:
    (cell,) = start(tmp_path, suite_of(["A"], ["X"]))
    finish(cell.steps[0], LABEL, predictions_of(LABEL, RIGHT))
    collect(path := tmp_path / "results.csv")
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    for line in lines:
        line[column] = value
    with path.open("w", newline="", encoding="utf-8-sig") as file:  # as Excel does
        table = csv.DictWriter(file, lines[0])
        table.writeheader()
        table.writerows(lines)
    with pytest.raises(FerlError, match=said):
        read_results(path)


def test_rows_may_lack_their_last_cells(tmp_path: Path) -> None:
    """As those of older versions do, which kept less of each image."""
    (cell,) = start(tmp_path, suite_of(["A"], ["X"]))
    finish(cell.steps[0], LABEL, predictions_of(LABEL, RIGHT))
    collect(path := tmp_path / "results.csv")
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    shortest = header.index("right")
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *(row[:shortest] for row in rows)])
    (result,) = read_results(path).all
    assert result.right is None and result.person is None and result.n == len(LABEL)


@pytest.mark.parametrize("damage", [b"\xff\0", b"epoch,val/loss\n0,0.5\n1,0.\n\0\0", b"epoch,val/loss\nx,y\n"])
def test_a_damaged_log_is_left_out_of_the_curves_and_named(
    damage: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "metrics.001.csv").write_text("epoch,step,val/loss\n0,2,0.5\n")
    (tmp_path / "metrics.csv").write_bytes(damage)
    assert read_curves(tmp_path) == {"val/loss": {0: 0.5}}
    assert f"{tmp_path / 'metrics.csv'} is damaged" in caplog.text


def test_the_suite_is_the_one_that_was_run(tmp_path: Path) -> None:
    suite = suite_of(["A"], ["X"]) | {"budgets": {"cpu": {"seeds": [7]}, "full": {}}, "seeds": [1, 2]}
    (cell,) = start(tmp_path, suite)
    finish_all([cell], {"A": 0.5})
    results = collected(tmp_path)
    assert list(results.of("A", "X")) == [(None, 7)] and results.budget_name == "cpu"
    assert yaml.safe_load((tmp_path / "results.yaml").read_text())["suite"] == suite

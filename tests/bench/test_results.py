"""Reading folders of results, complete ones and others."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from ferlightning.bench.results import read_curves, read_predictions, read_results
from ferlightning.errors import FerlError
from ferlightning.evaluation.report import summarise
from tests.bench.written import CLASSES, finish, finish_all, predictions_of, report_of, start, suite_of

LABEL = np.array([0, 1, 2, 2, 1, 0])
RIGHT = np.array([1, 1, 0, 1, 0, 1], bool)


def test_written_reports_have_the_keys_of_real_ones() -> None:
    probs = predictions_of(LABEL, RIGHT)
    real, written = summarise(LABEL, probs, CLASSES), report_of(LABEL, probs)
    assert real.keys() < written.keys()
    assert real["metrics"].keys() == written["metrics"].keys()
    assert real["metrics"]["accuracy"] == pytest.approx(written["metrics"]["accuracy"])
    assert real["confusion_matrix"] == written["confusion_matrix"]
    assert real["per_class"]["anger"].keys() == written["per_class"]["anger"].keys()


def test_what_is_done_failed_and_planned(tmp_path: Path) -> None:
    suite = suite_of(["A", "B"], []) | {"seeds": [1, 2], "columns": [{"name": "X", "folds": [0, 1]}]}
    made = start(tmp_path, suite)
    by_name = {cell.name: cell for cell in made}
    done, failed, broken = (by_name[f"A/X/fold-{f}/seed-{s}"] for f, s in ((0, 1), (1, 1), (0, 2)))
    finish(done.steps[0], LABEL, predictions_of(LABEL, RIGHT))
    failed.folder.mkdir(parents=True)
    (failed.folder / "failed.txt").write_text("Traceback\nValueError: |no| face\nexit status 1\n")
    finish(broken.steps[0], LABEL, predictions_of(LABEL, RIGHT))
    (broken.steps[0].folder / "step.json").unlink()  # it is written last: the process died before

    results = read_results(tmp_path)
    assert results.rows == ["A", "B"] and results.columns == ["X"]
    assert list(results.of("A", "X")) == [(0, 1)] and results.of("B", "X") == {}
    assert results.planned["A", "X"] == 4 and results.failed["A", "X"] == 1 and results.failed["B", "X"] == 0
    assert results.failures == {"A/X/fold-1/seed-1": "ValueError: |no| face"}
    result = results.of("A", "X")[0, 1]
    assert result.score("accuracy") == pytest.approx(4 / 6)
    assert result.overlap == pytest.approx(1 / 8)
    assert result.confusion.sum() == 6 and result.classes == CLASSES
    assert results.facts("device") == ["cpu (x86_64, 2 threads)"]


def test_tests_and_corruptions_are_told_apart_and_pretraining_takes_time(tmp_path: Path) -> None:
    row = {"name": "A", "args": [], "pretrain": ["--x"]}
    tests = [{"name": "X", "args": []}, {"name": "Y", "args": []}]
    (cell,) = start(tmp_path, suite_of([], ["X"]) | {"rows": [row], "tests": tests, "corruptions": ["JPEG"]})
    rng = np.random.default_rng(0)
    for i, step in enumerate(cell.steps):
        right = rng.permutation(6) < i % 6
        finish(step, LABEL, predictions_of(LABEL, right), seconds=10.0 + i)
    results = read_results(tmp_path)
    assert [step.folder.name for step in cell.steps[:3]] == ["pretrain", "main", "Y"]
    own, other, damaged = results.of("A", "X"), results.of("A", "X", "Y"), results.of("A", "X", None, ("JPEG", 2))
    assert [r[None, 42].score("accuracy") for r in (own, other, damaged)] == pytest.approx([1 / 6, 2 / 6, 4 / 6])
    assert own[None, 42].seconds == 21 and other[None, 42].seconds == 12
    assert own[None, 42].overlap == 0
    assert len(results.all) == 7


def test_predictions_and_curves(tmp_path: Path) -> None:
    (cell,) = start(tmp_path, suite_of(["A"], ["X"]))
    finish_all([cell], {"A": 0.5}, n=4, curves=True)
    result = read_results(tmp_path).of("A", "X")[None, 42]
    predictions = read_predictions(result)
    assert predictions is not None and list(predictions)[1] == "fold None/item 1, of <person>"
    right = [true == predicted for true, predicted, _ in predictions.values()]
    assert np.mean(right) == result.score("accuracy")
    assert all(1 / 3 < confidence <= 1 for *_, confidence in predictions.values())
    curves = read_curves(result)
    assert curves["val/accuracy"] == pytest.approx({epoch: epoch / 10 for epoch in range(5)})
    assert curves["train/loss"][4] == pytest.approx(1 / 6) and "lr" not in curves
    (result.folder / "report" / "predictions.csv").unlink()
    (result.folder / "metrics.csv").unlink()
    assert read_predictions(result) is None and read_curves(result) == {}


def test_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FerlError, match="has no suite.yaml"):
        read_results(tmp_path)
    start(tmp_path, suite_of(["A"], ["X"]))
    with pytest.raises(FerlError, match="no result yet"):
        read_results(tmp_path)


def test_the_suite_is_the_one_that_was_run(tmp_path: Path) -> None:
    suite = suite_of(["A"], ["X"]) | {"budgets": {"cpu": {"seeds": [7]}, "full": {}}, "seeds": [1, 2]}
    (cell,) = start(tmp_path, suite)
    finish_all([cell], {"A": 0.5})
    results = read_results(tmp_path)
    assert list(results.of("A", "X")) == [(None, 7)] and results.budget_name == "cpu"
    assert json.loads((cell.steps[0].folder / "step.json").read_text())["seed"] == 7
    assert yaml.safe_load((tmp_path / "suite.yaml").read_text())["suite"] == suite

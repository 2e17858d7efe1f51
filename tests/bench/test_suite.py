"""A suite file to cells: which commands are run, in which order, into which folders."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from ferlightning.bench.suite import Cell, cells, read_suite
from ferlightning.errors import FerlError
from tests.bench.written import report_of

SUITE: dict[str, Any] = {
    "title": "Two systems",
    "rows": [
        {
            "name": "Whole", "args": ["--config=whole.yaml"], "claimed": {"A": 90.0},
            "also": {"CK+": ["--data.clips=true"]},
        },
        {
            "name": "no attention", "ablates": "Whole", "pretrain": ["--config=first.yaml"],
            "args": ["--config=part.yaml", "--model.init_from={pretrained}/checkpoints/best.ckpt"],
        },
    ],
    "columns": [{"name": "A", "args": ["--data=A"]}, {"name": "CK+", "args": ["--data=CKPlus"], "folds": [0, 1]}],
    "seeds": [1, 2],
    "budgets": {"cpu": {"args": ["--trainer.max_epochs=1"]}, "short": {"seeds": [7], "folds": [1]}},
    "tests": [{"name": "A", "args": ["--data=A"]}, {"name": "B", "args": ["--data=B"]}],
    "corruptions": ["JPEG"],
}  # fmt: skip


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump(SUITE | changes))
    return path


def made(folder: Path, budget: str = "cpu", **changes: Any) -> list[Cell]:
    suite = read_suite(write(folder, **changes))
    return cells(suite, suite.budgets[budget], folder)


def test_one_seed_of_every_row_and_column_comes_before_the_next_seed_fold_by_fold(tmp_path: Path) -> None:
    assert [cell.name for cell in made(tmp_path)] == [
        f"{row}/{place}/seed-{seed}"
        for seed in (1, 2)
        for place in ("A", "CK+/fold-0", "CK+/fold-1")
        for row in ("Whole", "no attention")
    ]
    columns = [{"name": "CK+", "folds": [0, 1, 2]}, {"name": "other", "folds": [5, 6]}, {"name": "whole"}]
    rows = [{"name": "A", "args": []}]
    assert [cell.name for cell in made(tmp_path, columns=columns, rows=rows)][:6] == [
        f"A/{place}/seed-1"
        for place in ("CK+/fold-0", "other/fold-5", "whole", "CK+/fold-1", "other/fold-6", "CK+/fold-2")
    ]  # fmt: skip
    assert [cell.name for cell in made(tmp_path, "short")] == [
        "Whole/A/seed-7", "no attention/A/seed-7", "Whole/CK+/fold-1/seed-7", "no attention/CK+/fold-1/seed-7",
    ]  # fmt: skip


def test_words_go_from_the_row_to_the_budget_and_then_the_fold(tmp_path: Path) -> None:
    cell = next(cell for cell in made(tmp_path) if cell.name == "Whole/CK+/fold-1/seed-2")
    assert cell.folder == tmp_path / "cells" / "Whole" / "CK+" / "fold-1" / "seed-2"
    assert cell.steps[0].folder == cell.folder / "main"
    assert cell.steps[0].words == [
        "fit", "--config=whole.yaml", "--data=CKPlus", "--data.clips=true", "--trainer.max_epochs=1",
        "--seed_everything=2", "--data.fold=1", "--test_after_fit=true", "--trainer.default_root_dir={cell}/main",
    ]  # fmt: skip


def test_a_cell_trains_first_what_its_model_starts_from(tmp_path: Path) -> None:
    cell = next(cell for cell in made(tmp_path) if cell.name == "no attention/A/seed-1")
    first, main = cell.steps[:2]
    assert first.words[:2] == ["fit", "--config=first.yaml"] and "--test_after_fit=true" not in first.words
    assert first.folder == cell.folder / "pretrain"
    assert "--model.init_from={cell}/pretrain/checkpoints/best.ckpt" in main.words


def test_other_tests_are_of_the_best_checkpoint_and_leave_out_the_own_column(tmp_path: Path) -> None:
    by_name = {cell.name: cell for cell in made(tmp_path)}
    _, b, *corrupted = by_name["Whole/A/seed-1"].steps
    assert b.words[:3] == ["test", "--ckpt_path={cell}/main/checkpoints/best.ckpt", "--data=B"]
    assert [step.facts["corruption"] for step in corrupted] == [["JPEG", severity] for severity in range(1, 6)]
    assert corrupted[2].words[2:4] == ["--data.corrupt=JPEG", "--data.corrupt.severity=3"]
    assert [step.facts["test"] for step in by_name["Whole/CK+/fold-0/seed-1"].steps[:3]] == ["CK+", "A", "B"]
    every = [step.folder for cell in by_name.values() for step in cell.steps]
    assert len(set(every)) == len(every)


def test_training_images_are_tested_if_the_suite_asks_for_it(tmp_path: Path) -> None:
    main, training, *_ = made(tmp_path, training=True)[0].steps
    assert training.words[:3] == ["test", "--ckpt_path={cell}/main/checkpoints/best.ckpt", "--data.tested=train"]
    assert training.facts == main.facts | {"test": "training images"}


def test_a_claim_is_the_accuracy_or_several_measures(tmp_path: Path) -> None:
    claimed = {"A": {"accuracy": 79.6, "loss": 0.62}, "CK+": 90}
    row = read_suite(write(tmp_path, rows=[{"name": "R", "args": [], "claimed": claimed}])).rows[0]
    assert row.claims("A") == {"accuracy": 79.6, "loss": 0.62}
    assert row.claims("CK+") == {"accuracy": 90} and row.claims("other") == {}


def test_a_step_is_done_when_its_report_and_its_seconds_are_there(tmp_path: Path) -> None:
    step = made(tmp_path)[0].steps[0]
    (step.folder / "report").mkdir(parents=True)
    report = report_of(np.zeros(4, int), np.eye(3)[[0, 0, 1, 2]])
    (step.folder / "report" / "metrics.json").write_text(json.dumps(report))
    assert not step.done
    (step.folder / "step.json").write_text('{"words": []}')
    assert not step.done
    (step.folder / "step.json").write_text('{"words": [], "seconds": 2.5}')
    assert step.done


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rows": [{"name": "A", "args": []}, {"name": "A", "args": []}]}, "rows: two have the name 'A'"),
        ({"rows": [{"name": "A", "args": [], "ablates": "C"}]}, "row 'A' ablates 'C'"),
        ({"rows": [{"name": "A", "args": [], "claimed": {"FER": 1.0}}]}, "'FER', which is not a column"),
        ({"rows": [{"name": "A", "args": [], "claimed": {"A": {"acuracy": 1.0}}}]}, "acuracy"),
        ({"rows": [{"name": "A", "arguments": []}]}, "arguments"),
        ({"rows": [{"name": "A", "args": [], "claims": {"A": 1.0}}]}, "rows, A: .*'claims'; did you mean claimed"),
        ({"rows": None}, "rows"),
        ({"rows": []}, "rows: there are none"),
        ({"budgets": {}}, "budgets: there are none"),
        ({"columns": [{"name": ".."}]}, r"columns: '\.\.' cannot name a folder"),
        ({"rows": [{"name": "a/b", "args": []}]}, "rows: 'a/b' cannot name a folder"),
        ({"tests": [{"name": "?", "args": []}]}, r"tests: '\?' cannot name a folder"),
        ({"titel": "x"}, "'titel'; did you mean title"),
        ({"seeds": ["one"]}, "one"),
        ({"seeds": []}, "yaml: seeds: the list is empty"),
        ({"seeds": [1, 2, 1]}, "yaml: seeds: 1 is given twice"),
        ({"columns": [{"name": "CK+", "folds": []}]}, "columns, CK.: folds: the list is empty"),
        ({"columns": [{"name": "CK+", "folds": [3, 3]}]}, "columns, CK.: folds: 3 is given twice"),
        ({"budgets": {"cpu": {"seeds": []}}}, "budgets, cpu: seeds: the list is empty"),
        ({"budgets": {"cpu": {"folds": [0, 0]}}}, "budgets, cpu: folds: 0 is given twice"),
        ({"seeds": 3}, r"yaml: the suite: seeds is 3, expected a list, such as \[3\]$"),
        ({"seeds": ["a"]}, "yaml: the suite: seeds has 'a', expected whole numbers$"),
        ({"rows": [{"name": "A", "args": "--x=1"}]}, r"yaml: rows, A: args is '--x=1', expected a list"),
        ({"rows": [{"name": "A", "args": [1]}]}, "yaml: rows, A: args has 1, expected text$"),
        ({"rows": [{"args": []}]}, r"yaml: rows, \?: the key 'name' is missing$"),
        ({"rows": ["A"]}, "yaml: rows: 'A' stands for no keys; the keys are name, args"),
        ({"budgets": ["cpu"]}, r"yaml: the suite: budgets is \['cpu'\], expected names with values"),
        ({"rows": [{"name": "R", "args": [], "claimed": {"A": "high"}}]}, "claimed has 'high', expected percent"),
        ({"rows": [{"name": "R", "args": [], "claimed": {"A": 0.65}}]}, "row 'R' claims 0.65; claims are in percent"),
        ({"rows": [{"name": "R", "args": [], "claimed": {"A": 650}}]}, "row 'R' claims 650; claims are in percent"),
        ({"rows": [{"name": "R", "args": ["--seed_everything=3"]}]}, "rows, R: --seed_everything in args .* by seeds$"),
        ({"budgets": {"b": {"args": ["--trainer.default_root_dir=x"]}}}, "budgets, b: .*default_root_dir .* --out$"),
    ],
)
def test_mistakes_in_a_suite_are_named(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(FerlError, match=said) as error:
        read_suite(write(tmp_path, **changes))
    assert "suite.yaml" in str(error.value)


def test_files_that_are_not_suites(tmp_path: Path) -> None:
    path = tmp_path / "suite.yaml"
    with pytest.raises(FerlError, match="there is no suite .*suite.yaml"):
        read_suite(path)
    for content, said in (
        (b"", "expected the keys"),
        (b"title: gr\xef\n", "is not UTF-8"),
        (b"- a\n", "expected the keys"),
    ):
        path.write_bytes(content)
        with pytest.raises(FerlError, match=f"suite.yaml.*{said}"):
            read_suite(path)


def test_every_suite_of_the_project_can_be_read() -> None:
    paths = sorted(Path(__file__).parents[2].glob("benchmarks/suites/*.yaml"))
    assert paths
    for path in paths:
        suite = read_suite(path)
        assert "full" in suite.budgets
        assert all(cells(suite, budget, Path("out")) for budget in suite.budgets.values())


def test_a_suite_without_budgets_has_one_that_adds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "plain.yaml"
    path.write_text(yaml.safe_dump({name: value for name, value in SUITE.items() if name != "budgets"}))
    (name,) = read_suite(path).budgets
    assert name == "full"
    assert [cell.name for cell in cells(read_suite(path), read_suite(path).budgets[name], tmp_path)] == [
        cell.name for cell in made(tmp_path)
    ]

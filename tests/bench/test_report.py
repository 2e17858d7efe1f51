"""The command, from folders of results to what a reader finds in the files."""

import csv
import json
import os
import resource
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from scipy import stats

from ferlightning.bench.comparison import Counts, accuracy_difference, friedman, mcnemar
from ferlightning.cli.main import main
from ferlightning.evaluation.statistics import wilson_interval
from tests.bench.written import finish, finish_all, picture, predictions_of, start, suite_of


def report(out: Path, *words: str) -> Path:
    main(["bench", "report", str(out), *words])
    return out / "report"


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / "tables" / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    """Three systems, one a part of another, on data with two folds and data with one split, with two seeds."""
    out = tmp_path_factory.mktemp("out")
    suite = suite_of(["whole", "p_art", "other <b>"], [])
    suite |= {"seeds": [1, 2], "columns": [{"name": "Folds", "folds": [0, 1]}, {"name": "Split"}]}
    suite |= {"tests": [{"name": "Split", "args": []}, {"name": "Third", "args": []}], "corruptions": ["JPEG"]}
    suite["rows"][0]["claimed"] = {"Split": 99.5, "Folds": 81.0}
    suite["rows"][1]["ablates"] = "whole"
    finish_all(start(out, suite), {"whole": 0.9, "p_art": 0.8, "other <b>": 0.5}, notes=["Classes <left> out."])
    return out


@pytest.fixture(scope="module")
def made(out: Path) -> Path:
    return report(out)


def scores(out: Path, row: str, column: str) -> np.ndarray:
    """Accuracies in percent, folds 0 and 1 of seed 1, then of seed 2."""
    folders = sorted((out / "cells" / row / column).glob("**/main/report"), key=lambda p: (p.parts[-3], p.parts[-4]))
    return np.array(
        [100 * json.loads((f / "metrics.json").read_text())["metrics"]["accuracy"]["value"] for f in folders]
    )


def test_means_and_intervals(out: Path, made: Path) -> None:
    folds, split = scores(out, "whole", "Folds"), scores(out, "whole", "Split")
    assert (len(folds), len(split)) == (4, 2)
    rows = {(row["system"], row["data"]): row for row in table(made, "intervals")}
    row = rows["whole", "Folds"]
    assert (row["repeats"], row["images"]) == ("4", "240")
    assert float(row["mean"]) == pytest.approx(folds.mean()) and float(row["sd"]) == pytest.approx(folds.std(ddof=1))
    half = stats.t.ppf(0.975, 3) * folds.std(ddof=1) * (1 / 4 + 1 / 8) ** 0.5  # 60 test, 480 training items
    assert float(row["95 % over repeats high"]) == pytest.approx(min(folds.mean() + half, 100))
    pooled = [wilson_interval(round(0.6 * folds[i : i + 2].sum()), 120) for i in (0, 2)]
    assert float(row["95 % over images low"]) == pytest.approx(100 * np.mean([low for low, _ in pooled]))
    half = stats.t.ppf(0.975, 1) * split.std(ddof=1) * (1 / 2) ** 0.5
    assert float(rows["whole", "Split"]["95 % over repeats low"]) == pytest.approx(max(split.mean() - half, 0))
    text = (made / "report.md").read_text()
    assert f"| whole | {folds.mean():.2f} ± {folds.std(ddof=1):.2f} | {split.mean():.2f} ±" in text
    budget, first_table = text.index("Trained by budget cpu: one epoch. 18 of 18 cells"), text.index("| system |")
    assert text[budget:first_table].count("\n\n") == 2, "the budget stands right above the table"


def test_claims(out: Path, made: Path) -> None:
    split, folds = table(made, "claims")[::-1] if table(made, "claims")[0]["data"] == "Folds" else table(made, "claims")
    mean = scores(out, "whole", "Split").mean()
    assert float(split["difference"]) == pytest.approx(mean - 99.5)
    lows = [float(split[f"95 % over {of} low"]) for of in ("repeats", "images")]
    highs = [float(split[f"95 % over {of} high"]) for of in ("repeats", "images")]
    held = any(low <= 99.5 <= high for low, high in zip(lows, highs, strict=True))
    assert split["verdict"] == ("inside the noise" if held else "outside")
    assert folds["verdict"] == "outside" and float(folds["95 % over images low"]) > 81


def test_recall_and_cost(out: Path, made: Path) -> None:
    matrices = [
        np.array(json.loads(path.read_text())["confusion_matrix"])
        for path in (out / "cells" / "p_art" / "Folds").glob("**/main/report/metrics.json")
    ]
    total = sum(matrices)
    row = table(made, "recall-1")[1]
    assert row["system"] == "p_art"
    assert [float(row[name]) for name in ("anger", "<fear>", "happy_1")] == pytest.approx(
        (100 * total.diagonal() / total.sum(1)).tolist()
    )
    cost = table(made, "cost")[0]
    assert float(cost["parameters"]) == 188_527 and float(cost["multiply-adds, million"]) == pytest.approx(29.492992)
    assert float(cost["test images/s"]) == 250 and float(cost["seconds"]) == 2


def test_across_data_sets(out: Path, made: Path) -> None:
    rows = {(row["system"], row["trained on"]): row for row in table(made, "across")}
    assert list(rows["whole", "Split"]) == ["system", "trained on", "Folds", "Split", "Third"]
    assert rows["whole", "Split"]["Folds"] == "", "Folds is no test of the suite"
    found = [
        json.loads(path.read_text())["metrics"]["accuracy"]["value"]
        for path in (out / "cells" / "whole" / "Split").glob("*/tests/Third/report/metrics.json")
    ]
    assert float(rows["whole", "Split"]["Third"]) == pytest.approx(100 * np.mean(found)) and len(found) == 2
    assert float(rows["whole", "Split"]["Split"]) == pytest.approx(scores(out, "whole", "Split").mean())


def test_robustness(out: Path, made: Path) -> None:
    row = next(r for r in table(made, "robustness") if (r["system"], r["data"]) == ("whole", "Split"))
    graded = [float(row[key]) for key in ("severity 0", "1", "2", "3", "4", "5")]
    assert graded[0] == pytest.approx(scores(out, "whole", "Split").mean())
    paths = (out / "cells" / "whole" / "Split").glob("*/tests/JPEG-5/report/metrics.json")
    last = [json.loads(path.read_text())["metrics"]["accuracy"]["value"] for path in paths]
    assert graded[5] == pytest.approx(100 * np.mean(last))
    assert float(row["mean of 1 to 5"]) == pytest.approx(np.mean(graded[1:]))
    assert imread(made / "robustness.png").std() > 0.02


def test_ablations(out: Path, made: Path) -> None:
    row = next(r for r in table(made, "ablations") if r["data"] == "Folds")
    assert (row["system"], row["compared with"], row["repeats"]) == ("p_art", "whole", "4")
    delta = scores(out, "p_art", "Folds") - scores(out, "whole", "Folds")
    half = stats.t.ppf(0.975, 3) * delta.std(ddof=1) * (1 / 4 + 1 / 8) ** 0.5
    assert float(row["difference"]) == pytest.approx(delta.mean())
    assert float(row["95 % over repeats low"]) == pytest.approx(delta.mean() - half)
    counts = pair(out, "whole", "p_art", "Folds", 1)
    low, high = accuracy_difference(counts)[1]
    assert float(row["95 % over images low"]) == pytest.approx(-100 * high)
    assert float(row["95 % over images high"]) == pytest.approx(-100 * low)
    noise = delta.mean() - half <= 0 <= delta.mean() + half or low <= 0 <= high
    assert row["verdict"] == ("inside the noise" if noise else "outside")


def pair(out: Path, a: str, b: str, column: str, seed: int) -> Counts:
    """Counted by a loop over the files."""
    found = {(True, True): 0, (True, False): 0, (False, True): 0, (False, False): 0}
    for path in (out / "cells" / a / column).glob(f"**/seed-{seed}/main/report/predictions.csv"):
        right = []
        for name in (a, b):
            other = out / "cells" / name / path.relative_to(out / "cells" / a)
            with other.open(newline="") as file:
                right.append({row["name"]: row["label"] == row["prediction"] for row in csv.DictReader(file)})
        for item in right[0]:
            found[right[0][item], right[1][item]] += 1
    return Counts(found[True, True], found[True, False], found[False, True], found[False, False])


def test_pairs(out: Path, made: Path) -> None:
    rows = table(made, "mcnemar")
    assert len(rows) == 6
    on_folds = [row for row in rows if row["data"] == "Folds"]
    p = []
    for row in on_folds:
        counts = pair(out, row["a"].replace(" <b>", "_b"), row["b"].replace(" <b>", "_b"), "Folds", 1)
        assert (int(row["only a right"]), int(row["only b right"])) == (counts.only_a, counts.only_b)
        assert (row["seed"], row["images"]) == ("1", "120")
        assert float(row["p"]) == pytest.approx(mcnemar(counts))
        assert float(row["odds ratio"]) == pytest.approx(counts.only_a / counts.only_b)
        p.append(mcnemar(counts))
    corrected, so_far = {}, 0.0
    for rank, value in enumerate(sorted(p)):
        so_far = max(so_far, min(1, value * (len(p) - rank)))
        corrected[value] = so_far
    assert [float(row["p by Holm"]) for row in on_folds] == pytest.approx([corrected[value] for value in p])
    assert [row["verdict"] == "outside" for row in on_folds] == [corrected[value] < 0.05 for value in p]


def test_ranks(out: Path, made: Path) -> None:
    blocks = np.array(
        [np.r_[scores(out, row, "Folds"), scores(out, row, "Split")] for row in ("whole", "p_art", "other_b")]
    )
    found = friedman(blocks.T)
    ranks = {row["system"]: float(row["mean rank"]) for row in table(made, "ranks")}
    assert [ranks[row] for row in ("whole", "p_art", "other <b>")] == pytest.approx(found.ranks.tolist())
    assert (
        f"over 6 blocks (data set, fold and seed that all systems have a result of): χ² = {found.chi2:.2f}"
        in (made / "report.md").read_text()
    )
    assert imread(made / "critical_difference.png").std() > 0.02


def test_another_metric(out: Path, made: Path, tmp_path: Path) -> None:
    shutil.copytree(out, tmp_path / "out", ignore=shutil.ignore_patterns("JPEG*", "Third"))
    folder = report(tmp_path / "out", "--metric=macro_f1")
    paths = (out / "cells" / "whole" / "Split").glob("*/main/report/metrics.json")
    found = [json.loads(path.read_text())["metrics"]["macro_f1"]["value"] for path in paths]
    assert float(table(folder, "results")[0]["Split"]) == pytest.approx(100 * np.mean(found))
    assert table(folder, "claims") == table(made, "claims"), "papers claim accuracy"


def test_made_again_without_predictions(out: Path, made: Path, tmp_path: Path) -> None:
    """One cell was trained anew: what was counted of the old one must not stand beside it, the rest must."""
    copy = tmp_path / "out"
    shutil.copytree(out, copy, ignore=shutil.ignore_patterns("predictions.csv", "JPEG*", "Third", "report.md"))
    shutil.rmtree(copy / "report")
    assert "item" not in (copy / "comparisons.json").read_text()
    (changed,) = (copy / "cells" / "other_b" / "Split").glob("seed-1/main/report/metrics.json")
    values = json.loads(changed.read_text())
    values["confusion_matrix"][0][0] += 1
    changed.write_text(json.dumps(values))

    folder = report(copy)
    assert "Left out: 2 pairs" in (folder / "report.md").read_text()
    keys = ("data", "a", "b", "seed", "images", "only a right", "only b right", "odds ratio", "p")
    before = [[row[key] for key in keys] for row in table(made, "mcnemar")]
    after = [[row[key] for key in keys] for row in table(folder, "mcnemar")]
    assert after == [row for row in before if not (row[0] == "Split" and "other <b>" in row[1:3])] and len(after) == 4
    assert table(folder, "ablations") == table(made, "ablations")
    assert table(folder, "intervals") == table(made, "intervals")


def test_what_was_not_run_is_empty_and_what_failed_says_so(tmp_path: Path, capsys) -> None:
    cells = start(tmp_path, suite_of(["A", "B", "C", "D"], ["X", "Y"]) | {"seeds": [1, 2]})
    by_name = {cell.name: cell for cell in cells}
    finish_all([by_name["A/X/seed-1"], by_name["A/X/seed-2"], by_name["B/X/seed-1"]], {"A": 0.9, "B": 0.5})
    for name in ("B/X/seed-2", "C/Y/seed-1"):
        by_name[name].folder.mkdir(parents=True)
        (by_name[name].folder / "failed.txt").write_text("CUDA out of | memory\nexit status 1\n")
    folder = report(tmp_path)
    text = (folder / "report.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith(("| A", "| B", "| C", "| D"))][:4]
    assert rows[0].startswith("| A | ") and "of" not in rows[0] and rows[0].endswith("|  |")
    assert "(1 of 2, 1 failed) |  |" in rows[1]
    assert rows[2:] == ["| C |  | failed |", "| D |  |  |"]
    assert "3 of 16 cells have a result, 2 failed." in text
    assert "| C/Y/seed-1 | CUDA out of \\| memory |" in text
    assert "Without a result, and left out here: C, D." in text
    assert "0.00" not in "".join(rows)
    shown = capsys.readouterr().out
    assert "failed" in shown and str(folder / "report.html") in shown


def test_without_copies(tmp_path: Path) -> None:
    cells = start(tmp_path, suite_of(["A", "B"], ["X", "Y"]))
    label = np.zeros(10, int)
    for cell in cells:
        clean = {"metrics": {"accuracy": {"value": 0.625}}} if cell.name.startswith("A/X") else None
        finish(cell.steps[0], label, predictions_of(label, np.arange(10) < 7), deduplicated=clean)
    rows = table(report(tmp_path), "results")
    assert list(rows[0]) == ["system", "X", "X without copies", "Y"]
    assert (float(rows[0]["X"]), float(rows[0]["X without copies"])) == (70, 62.5)
    assert rows[1]["X without copies"] == ""


def test_other_folders_are_kept(tmp_path: Path, capsys) -> None:
    finish_all(start(tmp_path, suite_of(["A"], ["X"])), {"A": 0.5})
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "thesis.txt").write_text("mine")
    with pytest.raises(SystemExit):
        report(tmp_path)
    assert "is not a report" in capsys.readouterr().err
    assert (tmp_path / "report" / "thesis.txt").read_text() == "mine"
    (tmp_path / "report" / "report.md").touch()
    report(tmp_path)
    assert not (tmp_path / "report" / "thesis.txt").exists() and not (tmp_path / ".report.tmp").exists()


def test_long_names_leave_room_for_the_pictures(tmp_path: Path) -> None:
    rows = ["a", "a transformer in place of the BiLSTM, which the paper names as its next step", "c"]
    finish_all(start(tmp_path, suite_of(rows, ["X"])), dict.fromkeys(rows, 0.5), curves=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="constrained_layout not applied")
        made = report(tmp_path)
    # What is drawn in colour, the points and intervals, is spread over half of a panel at least.
    picture = imread(made / "scores.png")[..., :3]
    coloured = np.flatnonzero((np.ptp(picture, axis=2) > 0.3).any(axis=0))
    assert np.ptp(coloured) > 100


def test_several_folders(tmp_path: Path) -> None:
    folders = [tmp_path / "a, b", tmp_path / "c"]
    for folder in folders:
        finish_all(start(folder, suite_of(["A"], ["X"])), {"A": 0.5})
    main(["bench", "report", *map(str, folders), "--pictures=false"])
    assert all((folder / "report" / "report.html").exists() for folder in folders)


def test_needs_its_packages(tmp_path: Path) -> None:
    finish_all(start(tmp_path, suite_of(["A"], ["X"])), {"A": 0.5})
    hidden = "import sys; sys.modules['scikit_posthocs'] = None; from ferlightning.cli.main import main; main()"
    command = [sys.executable, "-c", hidden, "bench", "report", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 2 and "pip install 'ferlightning[bench]'" in ended.stderr
    assert not (tmp_path / "report").exists()


@pytest.mark.slow
def test_five_hundred_results_take_less_than_five_seconds(tmp_path: Path) -> None:
    rows = [f"system {i}" for i in range(10)]
    suite = suite_of(rows, []) | {"seeds": [1, 2, 3, 4, 5]}
    suite |= {"columns": [{"name": name, "folds": [0, 1, 2, 3, 4]} for name in ("X", "Y")]}
    cells = start(tmp_path, suite)
    assert len(cells) == 500
    finish_all(cells, {row: 0.9 - 0.02 * i for i, row in enumerate(rows)}, n=300, curves=True)
    picture(tmp_path / "attention.png")
    for cell in cells:
        shutil.copy(tmp_path / "attention.png", cell.folder / "main" / "report")
    command = [sys.executable, "-m", "ferlightning", "bench", "report", str(tmp_path)]
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # Time of the processor, which on one thread is that of the clock on a machine that does nothing else.
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    seconds = min(times)  # other jobs on the machine can only add
    page = (tmp_path / "report" / "report.html").stat().st_size
    print(f"{seconds:.2f} s, {page / 1e6:.2f} MB")
    assert seconds < 5 and page < 5e6

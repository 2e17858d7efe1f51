"""The command, from folders of results to what a reader finds in the files."""

import csv
import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from scipy import stats

from ferlightning.bench import plots
from ferlightning.bench.statistics import Counts, Estimate, Mean, accuracy_difference, friedman, mcnemar
from ferlightning.cli.main import main
from ferlightning.evaluation.statistics import wilson_interval
from tests.bench.written import finish, finish_all, predictions_of, start, suite_of

N = 450
"""Items of every drawn test."""


def report(results: Path, *words: str) -> Path:
    main(["bench", "report", str(results), *words])
    return results / "report"


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / "tables" / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def read(paths: Sequence[Path]) -> list[dict]:
    return [json.loads(path.read_text()) for path in paths]


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    """Three systems, one an ablation of another, on data with two folds and data with one split, with three seeds."""
    out = tmp_path_factory.mktemp("out")
    suite = suite_of(["whole", "p_art", "other <b>"], [])
    suite |= {"seeds": [1, 2, 3], "columns": [{"name": "Folds", "folds": [0, 1]}, {"name": "Split"}]}
    suite |= {"tests": [{"name": "Split", "args": []}, {"name": "Third", "args": []}], "corruptions": ["JPEG"]}
    suite |= {"training": True}
    several = {"accuracy": 99.5, "macro_f1": 99.0, "weighted_recall": 90.0, "loss": 0.61, "latency": 28.0}
    suite["rows"][0]["claimed"] = {"Split": several, "Folds": 90.0}
    suite["rows"][1]["ablates"] = "whole"
    cells, skill = start(out, suite), {"whole": 0.9, "p_art": 0.8, "other <b>": 0.5}
    clean = {"n": 9, "confusion_matrix": [[9]], "metrics": {"accuracy": {"value": 0.625, "low": 0.0, "high": 1.0}}}
    clean["metrics"]["macro_f1"] = {"value": 0.5, "low": 0.0, "high": 1.0}
    for cell in cells:
        copies = {"deduplicated": clean} if cell.name.startswith("whole/Split") else {}
        finish_all([cell], skill, n=N, notes=["Classes <left> out."], **copies)
    return out


@pytest.fixture(scope="module")
def made(out: Path) -> Path:
    return report(out)


def scores(out: Path, row: str, column: str) -> np.ndarray:
    """Accuracies in percent, folds 0 and 1 of seed 1, then of seeds 2 and 3."""
    folders = sorted((out / "cells" / row / column).glob("**/main/report"), key=lambda p: (p.parts[-3], p.parts[-4]))
    return np.array([100 * r["metrics"]["accuracy"]["value"] for r in read([f / "metrics.json" for f in folders])])


def test_means_and_intervals(out: Path, made: Path) -> None:
    folds, split = scores(out, "whole", "Folds"), scores(out, "whole", "Split")
    assert (len(folds), len(split)) == (6, 3)
    rows = {(row["system"], row["data"]): row for row in table(made, "intervals")}
    row = rows["whole", "Folds"]
    assert (row["repeats"], row["images"]) == ("6", f"{6 * N}")
    assert float(row["mean"]) == pytest.approx(folds.mean()) and float(row["sd"]) == pytest.approx(folds.std(ddof=1))
    half = (
        stats.t.ppf(0.975, 5) * folds.std(ddof=1) * (1 / 6 + 1 / 8) ** 0.5
    )  # eight times as many training as test items
    assert float(row["95 % over repeats high"]) == pytest.approx(folds.mean() + half)
    low = np.array([100 * wilson_interval(round(score * N / 100), N)[0] for score in folds])
    of_seeds = [folds[i : i + 2].mean() - np.hypot(*(folds - low)[i : i + 2]) / 2 for i in (0, 2, 4)]
    assert float(row["95 % over images low"]) == pytest.approx(np.mean(of_seeds))
    half = stats.t.ppf(0.975, 2) * split.std(ddof=1) * (1 / 3) ** 0.5
    assert float(rows["whole", "Split"]["95 % over repeats low"]) == pytest.approx(split.mean() - half)
    text = (made / "report.md").read_text()
    assert f"| whole | {folds.mean():.2f} ± {folds.std(ddof=1):.2f} |" in text
    assert f" | {split.mean():.2f} ± {split.std(ddof=1):.2f} |" in text
    budget, first_table = text.index("Trained with budget cpu: one epoch. 27 of 27 cells"), text.index("| system |")
    assert text[budget:first_table].count("\n\n") == 2, "the budget stands right above the table"


def test_without_copies_and_on_training_images(out: Path, made: Path) -> None:
    rows = table(made, "results")
    assert list(rows[0]) == [
        "system", "Folds", "Folds, training", "Split", "Split without copies", "Split, training"
    ]  # fmt: skip
    assert [row["Split without copies"] for row in rows] == ["62.5", "", ""]
    reports = read(list((out / "cells" / "whole" / "Split").glob("*/tests/training_images/report/metrics.json")))
    assert len(reports) == 3
    mean = 100 * np.mean([r["metrics"]["accuracy"]["value"] for r in reports])
    assert float(rows[0]["Split, training"]) == pytest.approx(mean) and mean > 94
    claim = next(row for row in table(made, "claims") if (row["data"], row["measure"]) == ("Split", "accuracy, %"))
    assert float(claim["on training images"]) == pytest.approx(mean)


def test_claims(out: Path, made: Path) -> None:
    rows = {(row["data"], row["measure"]): row for row in table(made, "claims")}
    folds = rows.pop(("Folds", "accuracy, %"))
    low, high = (float(folds[f"95 % over repeats {end}"]) for end in ("low", "high"))
    assert low <= 90 <= high and folds["verdict"] == "inside the noise"
    measures = ("accuracy, %", "macro F1, %", "weighted recall, %", "loss, nats", "latency, ms")
    accuracy, f1, recall, loss, latency = (rows.pop(("Split", measure)) for measure in measures)
    assert not rows
    reports = read(list((out / "cells" / "whole" / "Split").glob("*/main/report/metrics.json")))
    for row, name in ((accuracy, "accuracy"), (f1, "macro_f1"), (recall, "accuracy")):
        mean = 100 * np.mean([r["metrics"][name]["value"] for r in reports])
        assert float(row["measured"]) == pytest.approx(mean)
        assert float(row["difference"]) == pytest.approx(mean - float(row["claimed"]))
    assert float(accuracy["95 % over repeats high"]) < 99.5 and accuracy["verdict"] == "outside"
    assert float(loss["measured"]) == 1 and loss["95 % over images low"] == "0.96" and loss["verdict"] == "outside"
    assert float(latency["measured"]) == 4, "250 images a second"
    assert latency["95 % over images low"] == "" and latency["verdict"] == "outside"


def test_recall_and_cost(out: Path, made: Path) -> None:
    reports = read(list((out / "cells" / "p_art" / "Folds").glob("**/main/report/metrics.json")))
    total = sum(np.array(r["confusion_matrix"]) for r in reports)
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
    reports = read(list((out / "cells" / "whole" / "Split").glob("*/tests/Third/report/metrics.json")))
    found = [r["metrics"]["accuracy"]["value"] for r in reports]
    assert float(rows["whole", "Split"]["Third"]) == pytest.approx(100 * np.mean(found)) and len(found) == 3
    assert float(rows["whole", "Split"]["Split"]) == pytest.approx(scores(out, "whole", "Split").mean())


def test_robustness(out: Path, made: Path) -> None:
    row = next(r for r in table(made, "robustness") if (r["system"], r["data"]) == ("whole", "Split"))
    graded = [float(row[key]) for key in ("severity 0", "1", "2", "3", "4", "5")]
    assert graded[0] == pytest.approx(scores(out, "whole", "Split").mean())
    reports = read(list((out / "cells" / "whole" / "Split").glob("*/tests/JPEG-5/report/metrics.json")))
    assert graded[5] == pytest.approx(100 * np.mean([r["metrics"]["accuracy"]["value"] for r in reports]))
    assert float(row["mean of 1 to 5"]) == pytest.approx(np.mean(graded[1:]))
    assert imread(made / "robustness.png").std() > 0.02


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


def test_ablations(out: Path, made: Path) -> None:
    row = next(r for r in table(made, "ablations") if r["data"] == "Folds")
    assert (row["system"], row["compared with"], row["repeats"]) == ("p_art", "whole", "6")
    delta = scores(out, "p_art", "Folds") - scores(out, "whole", "Folds")
    half = stats.t.ppf(0.975, 5) * delta.std(ddof=1) * (1 / 6 + 1 / 8) ** 0.5
    assert float(row["difference"]) == pytest.approx(delta.mean())
    assert float(row["95 % over repeats low"]) == pytest.approx(delta.mean() - half)
    low, high = accuracy_difference(pair(out, "whole", "p_art", "Folds", 1))[1]
    assert float(row["95 % over images low"]) == pytest.approx(-100 * high)
    assert float(row["95 % over images high"]) == pytest.approx(-100 * low)
    assert row["verdict"] == ("inside the noise" if low <= 0 else "outside") and delta.mean() + half < 0


def test_pairs(out: Path, made: Path) -> None:
    assert "\n## Pairs: two trained networks on the same images\n" in (made / "report.md").read_text()
    rows = table(made, "mcnemar")
    assert len(rows) == 6
    on_folds = [row for row in rows if row["data"] == "Folds"]
    p = []
    for row in on_folds:
        counts = pair(out, row["a"].replace(" <b>", "_b"), row["b"].replace(" <b>", "_b"), "Folds", 1)
        assert (int(row["only a right"]), int(row["only b right"])) == (counts.only_a, counts.only_b)
        assert (row["seed"], row["images"]) == ("1", f"{2 * N}")
        assert float(row["p"]) == pytest.approx(mcnemar(counts))
        assert float(row["odds ratio"]) == pytest.approx(counts.only_a / counts.only_b if counts.only_b else np.inf)
        p.append(mcnemar(counts))
    corrected, so_far = {}, 0.0
    for rank, value in enumerate(sorted(p)):
        so_far = max(so_far, min(1, value * (len(p) - rank)))
        corrected[value] = so_far
    assert [float(row["p by Holm"]) for row in on_folds] == pytest.approx([corrected[value] for value in p])
    assert [row["verdict"] == "outside" for row in on_folds] == [corrected[value] < 0.05 for value in p]


def test_images_of_one_person_are_worth_less_in_a_pair(tmp_path: Path) -> None:
    """Four images of each of 90 people are all right or all wrong: worth those of 89 people, one image each."""
    person = np.repeat(np.arange(90), 4)
    label, hits = np.zeros(360, int), {"A": 81, "B": 67}
    for cell in start(tmp_path, suite_of(["A", "B"], ["X"]) | {"seeds": [1, 2, 3]}):
        right = person < hits[cell.name[0]]
        items = {"right": np.packbits(right).tobytes().hex(), "person": " ".join(map(str, person))}
        finish(cell.steps[0], label, predictions_of(label, right), items=items)
    (row,) = table(report(tmp_path), "mcnemar")
    assert (row["only a right"], row["only b right"]) == (str(4 * 14), "0")
    counts = np.array([67, 14, 0, 9]) * 89 / 90
    assert float(row["p"]) == pytest.approx(stats.binomtest(0, 14).pvalue)
    expected = accuracy_difference(Counts(*counts))[1]
    assert float(row["95 % of difference low"]) == pytest.approx(100 * expected[0])


def test_ranks(out: Path, made: Path) -> None:
    blocks = np.array(
        [np.r_[scores(out, row, "Folds"), scores(out, row, "Split")] for row in ("whole", "p_art", "other_b")]
    )
    found = friedman(blocks.T)
    ranks = {row["system"]: float(row["mean rank"]) for row in table(made, "ranks")}
    assert [ranks[row] for row in ("whole", "p_art", "other <b>")] == pytest.approx(found.ranks.tolist())
    text = (made / "report.md").read_text()
    assert f"over 9 blocks (data set, fold and seed on which all systems have a result): χ² = {found.chi2:.2f}" in text
    assert imread(made / "critical_difference.png").std() > 0.02


def test_made_again_from_the_csv_alone(out: Path, made: Path, tmp_path: Path) -> None:
    """One system was tested on other images in the csv, so its networks cannot be compared with the others."""
    shutil.copy(out / "results.yaml", tmp_path)
    with (out / "results.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    for line in lines:
        if (line["system"], line["data"], line["step"]) == ("other <b>", "Split", "main"):
            line["test_sha256"] = "0b"
    with (tmp_path / "results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)

    folder = report(tmp_path, "--metric=macro_f1")
    assert "Left out: 2 pairs" in (folder / "report.md").read_text()
    keys = ("data", "a", "b", "seed", "images", "only a right", "only b right", "odds ratio", "p")
    before = [[row[key] for key in keys] for row in table(made, "mcnemar")]
    after = [[row[key] for key in keys] for row in table(folder, "mcnemar")]
    assert after == [row for row in before if not (row[0] == "Split" and "other <b>" in row[1:3])] and len(after) == 4
    assert table(folder, "claims") == table(made, "claims"), "papers claim accuracy"
    reports = read(list((out / "cells" / "whole" / "Split").glob("*/main/report/metrics.json")))
    found = [r["metrics"]["macro_f1"]["value"] for r in reports]
    assert float(table(folder, "results")[0]["Split"]) == pytest.approx(100 * np.mean(found))


def test_no_verdict_rank_or_pair_from_two_repeats(tmp_path: Path) -> None:
    suite = suite_of(["A", "B", "C"], ["X"]) | {"seeds": [1, 2]}
    suite["rows"][0]["claimed"] = {"X": 90.0}
    suite["rows"][1]["ablates"] = "A"
    finish_all(start(tmp_path, suite), {"A": 0.9, "B": 0.8, "C": 0.5}, n=N)
    folder = report(tmp_path)
    (claim,), (ablation,) = table(folder, "claims"), table(folder, "ablations")
    for row in (claim, ablation):
        assert row["verdict"] == "too few repeats to tell"
        assert row["95 % over repeats"] == "" and row["95 % over images low"] != ""
    assert not {"ranks.csv", "mcnemar.csv"} & {path.name for path in (folder / "tables").iterdir()}
    text = (folder / "report.md").read_text()
    for section in ("## Ranks", "## Pairs"):
        assert ", ".join(f"{row} on X (too few repeats to tell)" for row in "ABC") in text[text.index(section) :]


def test_no_verdict_rank_or_pair_of_what_leaks_or_was_not_trained_to_the_end(tmp_path: Path) -> None:
    suite = suite_of(["A", "B", "C", "D"], ["X", "Y"]) | {"seeds": [1, 2, 3]}
    suite["columns"][1]["leaking"] = True
    suite["rows"][0]["claimed"] = suite["rows"][3]["claimed"] = {"X": 90.0, "Y": 90.0}
    suite["rows"][3]["ablates"] = "A"
    skill = {"A": 0.9, "B": 0.8, "C": 0.5, "D": 0.7}
    for cell in start(tmp_path, suite):
        cut_short = cell.name.startswith("D/X") and cell.name.endswith("2")
        finish_all([cell], skill, n=N, converged=not cut_short)
    folder = report(tmp_path)
    said = {(row["system"], row["data"]): row["verdict"] for row in table(folder, "claims")}
    leaking, unfinished = "leaking, so nothing to tell", "not trained to the end"
    assert said == {
        ("A", "X"): "inside the noise", ("A", "Y (leaking)"): leaking,
        ("D", "X"): unfinished, ("D", "Y (leaking)"): leaking,
    }  # fmt: skip
    assert [row["verdict"] for row in table(folder, "ablations")] == [unfinished, leaking]
    assert {row["system"] for row in table(folder, "ranks")} == {"A", "B", "C"}
    assert {(row["data"], row["a"], row["b"]) for row in table(folder, "mcnemar")} == {
        ("X", "A", "B"), ("X", "A", "C"), ("X", "B", "C")
    }  # fmt: skip
    text = (folder / "report.md").read_text()
    assert "Friedman's test over 3 blocks" in text and text.count("D on X (not trained to the end)") == 2
    assert f"(if all blocks agreed, p = {stats.chi2.sf(6, 2):.3f})" in text
    assert table(folder, "results")[0]["Y (leaking)"]


def test_what_was_not_run_is_empty_and_what_failed_says_so(tmp_path: Path, capsys) -> None:
    cells = start(tmp_path, suite_of(["A", "B", "C", "D"], ["X", "Y"]) | {"seeds": [1, 2]})
    by_name = {cell.name: cell for cell in cells}
    finish_all([by_name["A/X/seed-1"], by_name["A/X/seed-2"], by_name["B/X/seed-1"]], {"A": 0.9, "B": 0.5})
    for name in ("B/X/seed-2", "C/Y/seed-1"):
        by_name[name].folder.mkdir(parents=True)
        (by_name[name].folder / "failed.txt").write_text("CUDA out of | memory\nexit status 1\n")
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "thesis.txt").write_text("mine")
    with pytest.raises(SystemExit):
        report(tmp_path)
    assert "is not a report" in capsys.readouterr().err
    assert (tmp_path / "report" / "thesis.txt").read_text() == "mine"
    (tmp_path / "report" / "report.md").touch()

    folder = report(tmp_path)
    assert not (folder / "thesis.txt").exists() and not (tmp_path / ".report.tmp").exists()
    text = (folder / "report.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith(("| A", "| B", "| C", "| D"))][:4]
    assert rows[0].startswith("| A | ") and "of" not in rows[0] and rows[0].endswith("|  |")
    assert "(1 of 2, 1 failed) |  |" in rows[1]
    assert rows[2:] == ["| C |  | failed |", "| D |  |  |"]
    assert "3 of 16 cells have a result, 2 failed." in text
    assert "| C/Y/seed-1 | CUDA out of \\| memory |" in text
    assert "Left out, without a result: C, D." in text
    assert " 0.00" not in "".join(rows).replace("± 0.00", "")
    shown = capsys.readouterr().out
    assert "failed" in shown and str(folder / "report.html") in shown


def test_long_names_leave_room_for_the_pictures(tmp_path: Path) -> None:
    rows = ["a", "a transformer in place of the BiLSTM, which the paper names as its next step", "c"]
    found = {(row, "X"): Estimate(Mean(0.5, 0.01, (0.4, 0.6)), (0.45, 0.55), 3) for row in rows}
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="constrained_layout not applied")
        plots.save(plots.scores(found, {}, rows, ["X"], "accuracy"), tmp_path / "scores.png")
    # What is drawn in colour, the points and intervals, is spread over half of a panel at least.
    picture = imread(tmp_path / "scores.png")[..., :3]
    coloured = np.flatnonzero((np.ptp(picture, axis=2) > 0.3).any(axis=0))
    assert np.ptp(coloured) > 40


def test_needs_its_packages(tmp_path: Path) -> None:
    """Without scikit-posthocs the command says what to install; running a suite needs nothing of it."""
    finish_all(start(tmp_path, suite_of(["A"], ["X"])), {"A": 0.5})
    heavy = ("pandas", "matplotlib", "scikit_posthocs", "statsmodels")
    hidden = (
        "import sys; import ferlightning.bench.runner, ferlightning.bench.report;"
        f"assert not {{*sys.modules}} & {{*{heavy}}};"
        f"sys.modules |= dict.fromkeys({heavy});"
        "from ferlightning.bench.results import collect; from pathlib import Path;"
        "assert not collect(Path(sys.argv[-1]));"
        "from ferlightning.cli.main import main; main()"
    )
    command = [sys.executable, "-c", hidden, "bench", "report", str(tmp_path / "results.csv")]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 2 and "pip install 'ferlightning[bench]'" in ended.stderr, ended.stderr
    assert not (tmp_path / "report").exists()

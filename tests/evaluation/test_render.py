"""The files of a report: whatever names the data has, and whoever else writes them."""

import ast
import csv
import re
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

import ferlightning
from ferlightning.errors import FerlError
from ferlightning.evaluation.curves import read_curves
from ferlightning.evaluation.render import print_report, write_report
from ferlightning.evaluation.report import summarise
from ferlightning.predictions import read_predictions, write_predictions
from tests.bench.test_page import CHROMIUM

LABEL, PROBS = np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]], np.float32)
PROVENANCE = {name: 1 for name in ("config", "data", "seconds", "images_per_second", "parameters", "multiply_adds")}


def write(folder: Path, names: tuple[str, ...] = ("a", "b")) -> list[Path]:
    report = {"split": "test", "notes": [], "deduplicated": None, **summarise(LABEL, PROBS, list(names))}
    report["provenance"] = PROVENANCE | {"versions": {}, "data_set": "Grimaces", "network": "ResNet → LinearHead"}
    print_report(report, folder)
    items, wrong = np.array(["x", "y", "ärger/z.png"]), {2: np.full((48, 48), 90, np.uint8)}
    curves = read_curves(folder.parent)
    return write_report(folder, report, items, LABEL, PROBS, list(names), curves, None, None, wrong)


def test_no_cell_is_a_formula(tmp_path: Path) -> None:
    names = np.array(['=HYPERLINK("x").png', "+1.png", "-1", "@a", "\t=1", "a=b.png"])
    label = np.array([0, 1, 0, 1, 0, 1])
    classes = ["=1+1", "joy"]
    write_predictions(tmp_path / "predictions.csv", names, label, np.eye(2)[label], classes)
    with (tmp_path / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ['\'=HYPERLINK("x").png', "'+1.png", "-1", "'@a", "'\t=1", "a=b.png"]
    assert {row["label"] for row in rows} == {row["prediction"] for row in rows} == {"'=1+1", "joy"}
    cells = [cell for row in rows for pair in row.items() for cell in pair]
    assert not [cell for cell in cells if cell.startswith(tuple("=+-@\t\r")) and not re.fullmatch(r"-?[\d.]+", cell)]
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.csv"]


def test_predictions_are_read_as_they_were_written_also_of_items_of_one_name(tmp_path: Path) -> None:
    """Such as two faces of one picture, of which the second must not hide the first."""
    write_predictions(tmp_path / "predictions.csv", np.array(["x.png", "x.png", "y"]), LABEL, PROBS, ["a", "b"])
    expected = [("x.png", "a", "a", 0.9), ("x.png", "b", "b", 0.8), ("y", "b", "a", 0.7)]
    assert [tuple(item) for item in read_predictions(tmp_path)] == expected


def test_class_names_are_shown_as_they_are(tmp_path: Path, capsys) -> None:
    """To matplotlib the first is a formula, to rich the second is the end of bold face: both would stop."""
    write(tmp_path / "report", ("$\\frac{a}$", "[/b]"))
    shown, page = capsys.readouterr().out, (tmp_path / "report" / "report.html").read_text()
    assert all(name in shown and name in page for name in ("$\\frac{a}$", "[/b]"))


def test_the_page_says_of_what_it_is_and_fits_a_phone(tmp_path: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    names = ("sehr angestrengte Überraschung, gespielt", "恐惧")
    (tmp_path / "metrics.csv").write_text("epoch,train/loss,val/accuracy\n0,1.5,0.6\n")
    write(tmp_path / "report", names)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=120_000)
        page = browser.new_page(viewport={"width": 360, "height": 640})
        page.goto((tmp_path / "report" / "report.html").as_uri())
        shown = page.locator("body").inner_text()
        for part in ("Grimaces, test split", "ResNet → LinearHead", "predictions.csv", *names, "70%", "ärger/z.png"):
            assert part in shown
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        sizes = page.eval_on_selector_all("img", "all => all.map(img => [img.alt, img.naturalWidth > 9])")
        assert {"confusion matrix", "precision recall", "learning curves", "ärger/z.png"} <= {alt for alt, _ in sizes}
        assert all(drawn for _, drawn in sizes)
        # What is too wide for the screen is a large picture, which says that it scrolls; tables fit.
        page.set_viewport_size({"width": 390, "height": 844})
        wide = page.eval_on_selector_all("*", "all => all.filter(x => x.scrollWidth > x.clientWidth + 1 && "
                                         "getComputedStyle(x).overflowX === 'auto').map(x => x.className)")  # fmt: skip
        large = page.locator(".large")
        assert wide == ["large"] * large.count() and large.count() >= 1
        hints = page.locator("figure:has(.large) .sideways")
        assert hints.count() == large.count() and all(hint.is_visible() for hint in hints.all())
        page.set_viewport_size({"width": 1280, "height": 800})
        assert not any(hint.is_visible() for hint in hints.all())
        browser.close()


def test_two_processes_write_one_report(tmp_path: Path) -> None:
    context = get_context("fork")
    both = [context.Process(target=write, args=(tmp_path / "report",)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["report"]
    assert (tmp_path / "report" / "report.html").is_file()


def test_a_report_that_cannot_be_written_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "run").touch()  # a file, where a folder has to be
    with pytest.raises(FerlError, match="run/report: cannot write the report: "):
        write(tmp_path / "run" / "report")


def test_libraries_that_take_long_are_imported_when_they_are_needed() -> None:
    heavy = {"albumentations", "captum", "jinja2", "kornia", "matplotlib", "scipy", "sklearn", "timm", "torchvision"}
    for path in Path(ferlightning.__file__).parent.rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:  # what runs on import, types left out
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & heavy, f"{path}, line {node.lineno}"
    code = "import sys, ferlightning.evaluation.statistics; print({'scipy', 'torch'} & sys.modules.keys())"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"

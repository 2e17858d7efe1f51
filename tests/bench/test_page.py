"""The page in a real browser: it shows what it should, sorts, and asks for nothing from outside."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ferlightning.cli.main import main
from tests.bench.written import finish, picture, predictions_of, start, suite_of

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
ROWS = ["b <img src=x onerror=document.title='hit'>", "A & a", "c"]


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("out")
    cells = start(out, suite_of(ROWS, ["X", "Y"]) | {"seeds": [1], "corruptions": ["JPEG"], "title": "Faces <1>"})
    label = np.arange(40) % 3
    for i, cell in enumerate(cells):
        for k, step in enumerate(cell.steps if not cell.name.startswith("c/Y") else []):  # not run
            right = np.random.default_rng([i, k]).random(40) < 0.95 - 0.2 * (i % 3) - 0.05 * k
            finish(step, label, predictions_of(label, right, i), curves=True)
            if k == 0:
                picture(step.folder / "report" / "attention.png", i)
    main(["bench", "report", str(out)])
    return out


@pytest.fixture(scope="module")
def page(out: Path) -> Iterator[tuple[object, list[str], list[str]]]:
    """The page, what it asked for, and its errors."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        # A sandbox cannot be had by root, as in containers; the page is our own.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=120_000)
        page, asked, errors = browser.new_page(), [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: errors.append(message.text))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto((out / "report" / "report.html").as_uri())
        yield page, asked, errors
        browser.close()


def column(page, table: str, i: int) -> list[str]:
    return page.locator(f"#{table} tbody tr td:nth-child({i})").all_inner_texts()


def test_renders(page) -> None:
    page, _, errors = page
    assert page.title() == "Faces <1>" and page.locator("h1").inner_text() == "Faces <1>"
    assert column(page, "results", 1) == ROWS
    headings = page.locator("h2").all_inner_texts()
    for heading in (
        "Recall of each class",
        "Robustness",
        "Ranks",
        "Pairs: two trained networks on the same images",
        "Learning curves",
        "Confusion matrices",
    ):
        assert heading in headings
    sizes = page.eval_on_selector_all("img", "all => all.map(img => [img.naturalWidth, img.clientWidth, img.alt])")
    assert len(sizes) == 3 + 5  # scores, robustness, curves; where three systems looked on X, and two on Y
    assert all(natural > 100 and shown > 100 and alt for natural, shown, alt in sizes)
    assert page.locator("table.confusion").count() == 5
    assert page.locator("table.confusion td").first.evaluate("cell => getComputedStyle(cell).backgroundColor") != (
        "rgba(0, 0, 0, 0)"
    )
    assert len(column(page, "mistakes", 3)) > 5 and "of <person>" in column(page, "mistakes", 3)[0]
    assert errors == []


def test_asks_for_nothing(page, out: Path) -> None:
    page, asked, _ = page
    page.wait_for_load_state("networkidle")
    outside = [url for url in asked if not url.startswith("data:")]
    assert outside == [(out / "report" / "report.html").as_uri()]
    # Neither could it: what is not on the page is refused by its policy.
    blocked = "new Promise(done => { const i = new Image(); i.onerror = () => done(true); i.onload = () => done(false);"
    assert page.evaluate(f"() => {blocked} i.src = 'https://example.org/a.png'; }})")


def test_sorts_numbers_and_words(page) -> None:
    page, *_ = page
    head = page.locator("#intervals thead th")
    means = [float(text) for text in column(page, "intervals", 5)]
    assert means != sorted(means), "or the test could not fail"
    head.nth(4).locator("button").click()
    assert [float(text) for text in column(page, "intervals", 5)] == sorted(means)
    assert head.nth(4).get_attribute("aria-sort") == "ascending"
    head.nth(4).locator("button").press("Enter")
    assert [float(text) for text in column(page, "intervals", 5)] == sorted(means, reverse=True)
    assert head.nth(4).get_attribute("aria-sort") == "descending"
    head.nth(0).locator("button").click()
    assert column(page, "intervals", 1) == [ROWS[1], ROWS[1], ROWS[0], ROWS[0], ROWS[2]]
    assert head.nth(4).get_attribute("aria-sort") is None
    for _ in range(2):  # c was not run on Y: nothing comes last, both ways
        page.locator("#results thead button").nth(2).click()
        assert column(page, "results", 3)[-1] == "" and column(page, "results", 1)[-1] == "c"


def test_without_pictures_nothing_shows_or_names_an_image(out: Path) -> None:
    html = out / "report" / "report.html"
    assert "&lt;person&gt;" in html.read_text() and "image/jpeg" in html.read_text()
    main(["bench", "report", str(out), "--pictures=false"])
    text = html.read_text()
    assert "&lt;person&gt;" not in text and "image/jpeg" not in text and "image/png" in text
    written = "".join(path.read_text() for path in html.parent.rglob("*.*") if path.suffix in (".csv", ".md", ".tex"))
    assert "person>" not in written and "Ranks" in written

"""The page of a report on a suite: all its sections, and what only a page has room for. It needs no other file."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
from PIL import Image

from ferlightning.bench.results import Results, read_predictions
from ferlightning.bench.tables import Entry, Section, Table, number
from ferlightning.evaluation.statistics import Array

MISTAKES = 5
"""Listed for each system on each data set."""
OVERLAYS = 2_500_000
"""Bytes of pictures of where models looked; keeps the page below 5 MB."""
WIDTH = 640
"""Pixels of such a picture."""


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix.

    Attributes:
        title: shown above it.
        classes: K names.
        counts: (K, K), true classes in rows.
        shares: the same, in percent of the true class.
    """

    title: str
    classes: list[str]
    counts: Array
    shares: Array


def make_page(sections: list[Section], results: Results, folder: Path, pictures: bool) -> str:
    """Make the page as HTML.

    Args:
        sections: as ``make_sections`` returns them; the title of the first one is that of the page.
        results: that the sections were made from.
        folder: of the pictures of the sections.
        pictures: whether the page may show and name single images.
    """
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["inline"] = lambda file: base64.b64encode((folder / file).read_bytes()).decode()
    template = environment.from_string(Path(__file__).with_name("page.html.j2").read_text(encoding="utf-8"))
    overlays, left_out = _overlays(results) if pictures else ([], 0)
    return template.render(
        sections=sections,
        confusions=_confusions(results),
        mistakes=_mistakes(results) if pictures else None,
        overlays=overlays,
        left_out=left_out,
        pictures=pictures,
    )


def _confusions(results: Results) -> list[Confusion]:
    made = []
    for column in results.columns:
        for row in results.rows:
            found = list(results.of(row, column).values())
            if found:
                counts = np.sum([result.confusion for result in found], 0)
                shares = np.round(100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)).astype(int)
                made.append(Confusion(f"{row} on {column}", found[0].classes, counts, shares))
    return made


def _mistakes(results: Results) -> Table:
    rows = []
    for column in results.columns:
        for row in results.rows:
            found = results.of(row, column)
            predictions = read_predictions(next(iter(found.values())).folder) if found else None
            wrong = [(name, *rest) for name, rest in (predictions or {}).items() if rest[0] != rest[1]]
            for name, true, predicted, confidence in sorted(wrong, key=lambda item: -item[3])[:MISTAKES]:
                shown = number(100 * confidence, 1)
                rows.append([Entry(row), Entry(column), Entry(name), Entry(true), Entry(predicted), shown])
    head = ["system", "data", "image", "true", "predicted", "confidence, %"]
    return Table("mistakes", "Most confident mistakes", head, rows, "Of the first repeat.")


def _overlays(results: Results) -> tuple[list[tuple[str, str]], int]:
    """Caption and base64 of the pictures of the first repeats, and how many were left out."""
    made, size, left_out = [], 0, 0
    for column in results.columns:
        for row in results.rows:
            found = results.of(row, column)
            path = next(iter(found.values())).folder / "report" / "attention.png" if found else None
            if path is None or not path.is_file():
                continue
            if size < OVERLAYS:
                image = Image.open(path).convert("RGB")
                image.thumbnail((WIDTH, 10 * WIDTH))
                code = io.BytesIO()
                image.save(code, "JPEG", quality=75)
                size += len(code.getvalue())
            if size >= OVERLAYS:
                left_out += 1
                continue
            made.append((f"{row} on {column}", base64.b64encode(code.getvalue()).decode()))
    return made, left_out

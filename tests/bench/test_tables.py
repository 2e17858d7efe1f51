"""Tables, read back from what was written."""

import csv
import io
import re

import pytest
from markdown_it import MarkdownIt

from ferlightning.bench.tables import Entry, Section, Table, interval, latex, markdown, number, p_value, to_csv

ODD = ["a|b", "50 % & $x_1$ #2", r"{\back}", "<b>*bold*</b> `code` ~^", "[x](http://y)", "two\nlines", "±∞χ²", ""]
TABLE = Table(
    "odd", "Odd | names", ["system", "x_1, %"], [[Entry(text), number(i - 1.5)] for i, text in enumerate(ODD)]
)

LATEX = [(r"\textbackslash{}", "\\"), (r"\textasciitilde{}", "~"), (r"\textasciicircum{}", "^")]
LATEX += [("$<$", "<"), ("$>$", ">"), (r"$\pm$", "±"), (r"$\infty$", "∞"), (r"$\chi$", "χ"), ("$^2$", "²")]
LATEX += [("{[}", "["), ("{]}", "]"), ("{*}", "*")] + [(f"\\{c}", c) for c in "{}$&%#_"]


def test_markdown_shows_what_was_meant() -> None:
    text = markdown([Section("Title_1", ["1 < 2 & *not bold*"], [TABLE], [("a.png", "of [x]")])])
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    inline = [token for token in tokens if token.type == "inline"]
    shown = ["".join(child.content for child in token.children or []) for token in inline]
    assert shown[:3] == ["Title_1", "1 < 2 & *not bold*", "Odd | names"]
    cells = shown[3 : 3 + 2 * (1 + len(ODD))]
    assert cells[:2] == TABLE.head
    assert cells[2::2] == [" ".join(text.split()) for text in ODD]
    assert cells[3::2] == [f"{i - 1.5:.2f}" for i in range(len(ODD))]
    kinds = {child.type for token in inline for child in token.children or []}
    assert kinds == {"text", "image", "strong_open", "strong_close"}


def test_latex_is_balanced_and_shows_what_was_meant() -> None:
    text = latex([Section("Title_1", ["100 %"], [TABLE])])
    body = text[text.index(r"\midrule") + 8 : text.index(r"\bottomrule")]
    rows = body.strip().removesuffix(r"\\").split("\\\\\n")
    assert len(rows) == len(ODD)
    for row, meant in zip(rows, ODD, strict=True):
        first, second = re.split(r"(?<!\\)&", row)
        assert not re.search(r"(?<!\\)[%#_]", first)
        assert len(re.findall(r"(?<!\\)\{", first)) == len(re.findall(r"(?<!\\)\}", first))
        assert len(re.findall(r"(?<!\\)\$", first)) % 2 == 0
        assert not first.strip().startswith(("[", "*"))
        plain = first
        for written, character in LATEX:
            plain = plain.replace(written, character)
        assert plain.strip() == " ".join(meant.split())
        assert re.fullmatch(r"(\$-\$)?\d\.\d\d", second.strip())
    for command in (r"\toprule", r"\begin{tabular}{lr}", r"\label{tab:odd}", r"\section*{Title\_1}", r"100 \%"):
        assert command in text


def test_csv_keeps_every_digit() -> None:
    rows = [[Entry("a, b"), number(1 / 3), interval((-1 / 3, 1e-9))], [Entry("c"), number(None), interval(None)]]
    table = Table("t", "T", ["system", "score", "95 %"], rows)
    read = list(csv.reader(io.StringIO(to_csv(table))))
    assert read[0] == ["system", "score", "95 % low", "95 % high"]
    assert read[1][0] == "a, b" and [float(x) for x in read[1][1:]] == [1 / 3, -1 / 3, 1e-9]
    assert read[2] == ["c", "", "", ""]


@pytest.mark.parametrize(
    "entry, text",
    [
        (number(1234567, 0), "1,234,567"),
        (number(0.5, sign=True), "+0.50"),
        (number(-0.5, sign=True), "-0.50"),
        (number(float("inf")), "∞"),
        (number(float("nan")), ""),
        (interval((0, float("inf"))), "[0.00, ∞]"),
        (p_value(0.0004), "<0.001"),
        (p_value(0.0456), "0.046"),
    ],
)
def test_numbers(entry: Entry, text: str) -> None:
    assert entry.text == text

"""Writes the tables of claims and weights into README.md and docs/papers.md: ``python benchmarks/doc_tables.py``.

A table stands between ``<!-- table NAME -->`` and ``<!-- end -->``, where NAME is ``headlines``, a suite of
benchmarks/results, such as ``p1_table1``, or ``weights``. Everything comes from the README, the lab book and deploy.md
there, and from the cards of the weights.
"""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGES = (ROOT / "README.md", ROOT / "docs" / "papers.md")
MARKED = re.compile(r"(<!-- table ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
HEADLINES = (
    ("P1, Singh et al. 2025", "FER2013", "p1_table1", "P1 complete", "FER2013"),
    ("", "CK+, people apart", "ckplus_folds", "P1 complete", "CK+"),
    ("", "CK+, same people on both sides", "p1_columns", "P1 complete", "by image (leaking)"),
    ("P2, Sriranjani et al.", "FER2013", "p2_ablation", "P2 complete", "FER2013"),
    ("P3, Lamichhane and Karn 2024", "CNN-BiLSTM; FER2013", "p3_seven_three", "CNN-BiLSTM", "seven"),
    ("P4, Kurmi et al.", "its CNN; CK+, people apart", "ckplus_folds", "P4 CNN", "CK+"),
    ("", "its BiLSTM; CK+, people apart", "ckplus_folds", "P4 BiLSTM", "CK+"),
)
"""Paper, what is tested, suite, its row and column."""
Row = dict[str, str]


def sections() -> dict[str, str]:
    """The part of the results' README that is about each suite, known by its picture."""
    parts = (RESULTS / "README.md").read_text("utf-8").split("\n## ")[1:]
    named = {match[1]: part for part in parts if (match := re.search(r"\]\(([\w-]+)\.png\)", part))}
    assert len(named) == len(parts), "a suite of the results has no picture"
    return named


def rows(section: str, title: str) -> list[Row]:
    """The first table under a title, by its heads; of two heads that are alike the second gets a star."""
    lines = ("|" + section.partition(title)[2].partition("\n|")[2].split("\n\n")[0]).splitlines()
    cells = [[cell.strip().replace("\\", "") for cell in line.strip()[1:-1].split(" | ")] for line in lines]
    heads = [f"{head}*" if head in cells[0][:i] else head for i, head in enumerate(cells[0])]
    return [dict(zip(heads, row + [""] * len(heads), strict=False)) for row in cells[2:]]


def claims(section: str) -> list[Row]:
    return rows(section, "**Claims of the papers**")


def repeats(section: str, system: str, data: str) -> str:
    """How often a row was measured: over folds, or with seeds."""
    for row in rows(section, "**Test accuracy with intervals, %**"):
        if (row["system"], row["data"]) == (system, data):
            return row["repeats"]
    raise KeyError(system)


def headlines() -> list[list[str]]:
    found = sections()
    table = [["paper", "tested on", "claimed, %", "measured, %", "95 % over images", "trainings"]]
    for paper, tested, suite, system, data in HEADLINES:
        row = next(
            r for r in claims(found[suite]) if (r["system"], r["data"], r["measure"][:8]) == (system, data, "accuracy")
        )
        n = repeats(found[suite], system, data)
        table.append([paper, tested, row["claimed"], row["measured"], row["95 % over images"], n])
    return table


def of_suite(name: str) -> list[list[str]]:
    section = sections()[name]
    table = [["system", "data", "measure", "claimed", "measured", "95 % over images", "trainings"]]
    for row in claims(section):
        n = repeats(section, row["system"], row["data"])
        table.append([*(row[head] for head in table[0][:-1]), n])
    return table


def rounded(text: str) -> str:
    """Figures such as 68.18 (66.57 to 69.74) with one decimal."""
    return re.sub(r"\d+\.\d+", lambda number: f"{float(number[0]):.1f}", text)


def weights() -> list[list[str]]:
    """The weights of every card, as ONNX files, with their speed beside the package fer."""
    deploy = (RESULTS / "deploy.md").read_text("utf-8")
    speed = r"\| a face crop, (.*?)(?: as int8)? \| ([\d.]+) ms .*PublicTest ([\d.]+) %; `fer` ([\d.]+) ms"
    measured = {("int8" in found[0], found[1]): found for found in re.finditer(speed, deploy)}
    heads = ["weights", "FER2013", "balanced", "FER+", "balanced", "all of PublicTest", "MB", "ms a face", "`fer`"]
    table = [heads]
    for card in sorted((ROOT / "ferlightning" / "weights").glob("*.md")):
        for row in rows(card.read_text("utf-8"), "## As an ONNX file"):
            int8 = row["file"].endswith("int8")
            accuracy = [rounded(row[key]) for key in ("FER2013", "balanced", "FER+", "balanced*")]
            found = measured.get((int8, card.stem))
            ours, public, theirs = (found[2], rounded(found[3]), found[4]) if found else ("", "", "")
            table.append([f"`{card.stem}`" + ", int8" * int8, *accuracy, public, row["MB"], ours, theirs])
    fer = re.search(r"`fer` [\d.]+ ms .*, accuracy ([\d.]+) %", deploy)
    assert fer, "deploy.md has no accuracy of fer"
    return [*table, best(), ["the package `fer`", *[""] * 4, rounded(fer[1]), *[""] * 3]]


def best() -> list[str]:
    """The large weights, with mirror images, from their card; they are no ONNX file."""
    card = (ROOT / "weights" / "ferl-best.md").read_text("utf-8")
    found = {row[""]: row for row in rows(card, "## Accuracy")}
    seven, eight = (found[f"{name}, with mirror images"] for name in ("FER2013", "FER+"))
    accuracy = [rounded(row[key]) for row in (seven, eight) for key in ("accuracy*", "balanced*")]
    accuracy[1::2] = [text.split(" (")[0] for text in accuracy[1::2]]
    return ["`ferl-best`, with mirror images", *accuracy, rounded(seven["accuracy"]).split(" (")[0], "30.6", "", ""]


def filled(text: str) -> str:
    """A page with its tables made anew."""

    def made(match: re.Match[str]) -> str:
        made_of = {"headlines": headlines, "weights": weights}
        head, *body = made_of[match[2]]() if match[2] in made_of else of_suite(match[2])
        numbers = [all(re.fullmatch(r"[\d.]*( ± [\d.]+)?", row[i]) for row in body) for i in range(len(head))]
        rule = ["---:" if number else "---" for number in numbers]
        lines = ["| " + " | ".join(row) + " |" for row in (head, rule, *body)]
        return match[1] + "\n".join(lines) + "\n" + match[3]

    return MARKED.sub(made, text)


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(filled(page.read_text("utf-8")), encoding="utf-8")

"""Sections and tables of a report, written as Markdown, LaTeX and CSV; the page draws the same ones."""

import csv
import io
import re
from dataclasses import dataclass, field

from ferlightning.bench.statistics import Mean
from ferlightning.evaluation.statistics import Interval

Value = float | Interval | None


@dataclass(frozen=True)
class Entry:
    """One entry of a table.

    Args:
        text: shown to the reader.
        value: the same in full precision, for sorting and for CSV; a pair is an interval; None for words.
    """

    text: str = ""
    value: Value = None


@dataclass(frozen=True)
class Table:
    """A table.

    Args:
        name: names its file and its label.
        title: shown above it.
        head: title of each column.
        rows: each as long as the head.
        note: shown below it.
    """

    name: str
    title: str
    head: list[str]
    rows: list[list[Entry]]
    note: str = ""

    def numeric(self, column: int) -> bool:
        """Whether a column holds numbers."""
        return any(row[column].value is not None for row in self.rows)


@dataclass(frozen=True)
class Section:
    """A part of a report.

    Args:
        title: shown above it.
        text: paragraphs.
        tables: shown below the text.
        pictures: file and caption of each, shown below the tables.
    """

    title: str
    text: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    pictures: list[tuple[str, str]] = field(default_factory=list)


def number(value: float | None, digits: int = 2, sign: bool = False) -> Entry:
    """Format a number; None and NaN give an empty entry.

    Args:
        value: the number.
        digits: number of digits after the point.
        sign: whether to show a plus.
    """
    if value is None or value != value:
        return Entry()
    if value in (float("inf"), -float("inf")):
        return Entry("∞" if value > 0 else "-∞", value)
    return Entry(f"{value:{'+' if sign else ''},.{digits}f}", value)


def interval(pair: Interval | None, digits: int = 2) -> Entry:
    """Format an interval; None gives an empty entry."""
    if pair is None:
        return Entry()
    return Entry(f"[{number(pair[0], digits).text}, {number(pair[1], digits).text}]", pair)


def p_value(p: float) -> Entry:
    """Format a p; below a thousandth the digits are not shown."""
    return Entry("<0.001" if p < 0.001 else f"{p:.3f}", p)


def mean_score(mean: Mean, scale: float = 100) -> Entry:
    """Format a mean and its standard deviation, by default in percent."""
    spread = "" if mean.sd is None else f" ± {scale * mean.sd:.2f}"
    return Entry(f"{scale * mean.value:.2f}{spread}", scale * mean.value)


def percent(pair: Interval | None, scale: float = 100) -> Interval | None:
    """Turn an interval of shares into percent, or another unit."""
    return None if pair is None else (scale * pair[0], scale * pair[1])


def metric_name(metric: str) -> str:
    """Return the name of a metric as readers know it."""
    return metric.replace("_f1", " F1").replace("_", " ")


def to_csv(table: Table) -> str:
    """Write a table as CSV, numbers in full precision; an interval takes two columns, low and high."""
    paired = [any(isinstance(row[i].value, tuple) for row in table.rows) for i in range(len(table.head))]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    heads = zip(table.head, paired, strict=True)
    writer.writerow([name for head, two in heads for name in ([f"{head} low", f"{head} high"] if two else [head])])
    for row in table.rows:
        values: list[str | float] = []
        for entry, two in zip(row, paired, strict=True):
            if isinstance(entry.value, tuple):
                values += entry.value
            elif two:
                values += [entry.text, ""]
            else:
                values.append(entry.text if entry.value is None else entry.value)
        writer.writerow(values)
    return text.getvalue()


def markdown(sections: list[Section]) -> str:
    """Write a report as Markdown; the title of the first section is that of the report."""
    parts = []
    for i, section in enumerate(sections):
        parts.append(f"{'##' if i else '#'} {_md(section.title)}")
        parts += [_md(text) for text in section.text]
        for table in section.tables:
            parts.append(f"**{_md(table.title)}**")
            parts.append(markdown_table(table))
            parts += [_md(table.note)] if table.note else []
        parts += [f"![{_md(caption)}]({file})" for file, caption in section.pictures]
    return "\n\n".join(parts) + "\n"


def markdown_table(table: Table) -> str:
    """Write the rows of a table as Markdown."""
    lines = [
        [_md(head) for head in table.head],
        ["---:" if table.numeric(i) else "---" for i in range(len(table.head))],
        *([_md(entry.text) for entry in row] for row in table.rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _md(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>|~&$])", r"\\\1", " ".join(text.split()))


LATEX: dict[str, str | int | None] = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "[": "{[}",  # at the start of a row, this and a star would be arguments of the line break before it
    "]": "{]}",
    "*": "{*}",
    "<": r"$<$",
    ">": r"$>$",
    "±": r"$\pm$",
    "∞": r"$\infty$",
    "χ": r"$\chi$",
    "²": r"$^2$",
}
"""Replacements of characters that mean something to LaTeX, or that its fonts lack."""


def latex(sections: list[Section]) -> str:
    r"""Write a report as LaTeX to ``\input``; it needs booktabs and graphicx."""
    parts = [r"% \usepackage{booktabs,graphicx}"]
    for section in sections:
        parts.append(f"\\section*{{{_tex(section.title)}}}")
        parts += [_tex(text) for text in section.text]
        parts += [_latex_table(table) for table in section.tables]
        for file, caption in section.pictures:
            inside = f"\\includegraphics[width=\\linewidth]{{{file}}}\n\\caption{{{_tex(caption)}}}"
            parts.append(f"\\begin{{figure}}\n\\centering\n{inside}\n\\end{{figure}}")
    return "\n\n".join(parts) + "\n"


def _latex_table(table: Table) -> str:
    def shown(entry: Entry) -> str:
        text = _tex(entry.text)
        return text if entry.value is None else text.replace("-", "$-$")

    form = "".join("r" if table.numeric(i) else "l" for i in range(len(table.head)))
    caption = f"{table.title}. {table.note}" if table.note else table.title
    lines = [
        r"\begin{table}",
        r"\centering",
        f"\\caption{{{_tex(caption)}}}",
        f"\\label{{tab:{table.name}}}",
        f"\\begin{{tabular}}{{{form}}}",
        r"\toprule",
        " & ".join(_tex(head) for head in table.head) + r" \\",
        r"\midrule",
        *(" & ".join(shown(entry) for entry in row) + r" \\" for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines)


def _tex(text: str) -> str:
    return " ".join(text.split()).translate(str.maketrans(LATEX))

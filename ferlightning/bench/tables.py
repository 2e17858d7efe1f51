"""One kind of table, written as Markdown, LaTeX and CSV. The page draws the same ones."""

import csv
import io
import re
from dataclasses import dataclass, field

Value = float | tuple[float, float] | None


@dataclass(frozen=True)
class Entry:
    """What stands in one place of a table.

    Args:
        text: as a reader sees it.
        value: the same in full precision, for sorting and for CSV; a pair is an interval; None for words.
    """

    text: str = ""
    value: Value = None


@dataclass(frozen=True)
class Table:
    """A table.

    Args:
        name: of its file and label.
        title: above it.
        head: of each column.
        rows: each as long as the head.
        note: below it.
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
        title: above it.
        text: paragraphs.
        tables: below the text.
        pictures: file and caption of each, below the tables.
    """

    title: str
    text: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    pictures: list[tuple[str, str]] = field(default_factory=list)


def number(value: float | None, digits: int = 2, sign: bool = False) -> Entry:
    """A number with so many digits after the point; nothing for None.

    Args:
        value: the number.
        digits: shown.
        sign: whether a plus is shown too.
    """
    if value is None or value != value:
        return Entry()
    if value in (float("inf"), -float("inf")):
        return Entry("∞" if value > 0 else "-∞", value)
    return Entry(f"{value:{'+' if sign else ''},.{digits}f}", value)


def interval(pair: tuple[float, float] | None, digits: int = 2) -> Entry:
    """An interval; nothing for None."""
    if pair is None:
        return Entry()
    return Entry(f"[{number(pair[0], digits).text}, {number(pair[1], digits).text}]", pair)


def p_value(p: float) -> Entry:
    """A p, which is not told below a thousandth."""
    return Entry("<0.001" if p < 0.001 else f"{p:.3f}", p)


def to_csv(table: Table) -> str:
    """Comma-separated, numbers in full precision; an interval makes two columns, low and high."""
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
    """The whole report as Markdown; the first section's title is that of the report."""
    parts = []
    for i, section in enumerate(sections):
        parts.append(f"{'##' if i else '#'} {_md(section.title)}")
        parts += [_md(text) for text in section.text]
        for table in section.tables:
            parts.append(f"**{_md(table.title)}**")
            parts.append(_markdown_table(table))
            parts += [_md(table.note)] if table.note else []
        parts += [f"![{_md(caption)}]({file})" for file, caption in section.pictures]
    return "\n\n".join(parts) + "\n"


def _markdown_table(table: Table) -> str:
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
    "[": "{[}",  # at the start of a row it would be an argument of the line break before, as would a star
    "]": "{]}",
    "*": "{*}",
    "<": r"$<$",
    ">": r"$>$",
    "±": r"$\pm$",
    "∞": r"$\infty$",
    "χ": r"$\chi$",
    "²": r"$^2$",
}
"""Of characters that mean something to LaTeX, or that its fonts lack."""


def latex(sections: list[Section]) -> str:
    r"""The tables and pictures as LaTeX to ``\input``, with booktabs and graphicx."""
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

"""``ferl components``: every part by slot, and one part with its options, docstring and papers."""

import inspect
import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ferlightning import plugins
from ferlightning.cli import index
from ferlightning.cli.deferred import import_lightning
from ferlightning.cli.messages import meant
from ferlightning.errors import FerlError

FILLED = {"backbone": 1, "recalibration": 1, "sequence, attention": 1, "head": 2, "projection": 2, "loss": 2}
"""How many of the first arguments of a part come from the network and the data."""
WRITTEN = {
    "data": "--data", "sequence, attention": "--model.sequence", "loss": "--model.losses", "projection":
    "--model.head.projection", "recalibration": "--model.backbone.recalibration", "preprocess": "--data.preprocess",
    "augment": "--data.augment", "corrupt": "--data.corrupt", "detector": "--detector",
    "callback": "--trainer.callbacks",
}  # fmt: skip
"""The option that chooses a part, where it is not ``--model.SLOT``."""


KNOWN = ("lightning", "ferlightning", "pytorch_lightning")
"""Packages whose callbacks are read from their source, as far as users may want them."""


@dataclass(frozen=True)
class Argument:
    """An option of a part: what it takes, its default as Python writes it, None without one, and what it does."""

    name: str
    type: str
    default: str | None
    doc: str


@dataclass(frozen=True)
class Component:
    """A part as a user sees it."""

    name: str
    slot: str
    module: str
    line: str
    doc: str = ""
    """The docstring without what it says of arguments."""
    papers: list[str] = field(default_factory=list)
    arguments: list[Argument] = field(default_factory=list)

    @property
    def option(self) -> str:
        """What chooses it on the command line."""
        return WRITTEN.get(self.slot, f"--model.{self.slot}")


def components(name: str | None = None) -> list[Component]:
    """Every part, ours and those of installed plug-ins; or those of one name or slot, with their options.

    Raises:
        FerlError: there is none of this name.
    """
    found: dict[tuple[str, str], Component] = {}
    slots = (*plugins.SLOTS, *plugins.CALLBACK)
    for slot in slots:
        parts = index.parts(slot).values()
        whole = [_of_source(slot, part) for part in parts if name in (None, part.name, *slot.split(", "))]
        found |= {(part.module, part.name): part for part in whole}
    if plugins.installed():
        import_lightning()
        plugins.load_plugins()
        for slot in slots:
            for part in plugins.parts(slot):
                theirs = slot not in plugins.CALLBACK or part.__module__.partition(".")[0] not in KNOWN
                if (
                    theirs
                    and (part.__module__, part.__name__) not in found
                    and (name in (None, part.__name__, *slot.split(", ")))
                ):
                    found[part.__module__, part.__name__] = _of_class(slot, part)
    if not found:
        names = [part for slot in slots for part in (*index.parts(slot), *slot.split(", "))]
        hint = meant(str(name), names)
        hint += "; of an optimizer: ferl fit --model.optimizer.help=NAME" if hint.startswith(" (known") else ""
        raise FerlError(f"there is no part called {name!r}{hint}")
    return sorted(found.values(), key=lambda part: (slots.index(part.slot), part.name))


def show(name: str | None, as_json: bool) -> None:
    """Print all parts, or one of them."""
    parts = components(name)
    if as_json:
        rows: list[dict[str, Any]] = [asdict(part) for part in parts]
        short = ("name", "slot", "module", "line")
        print(json.dumps(rows if name else [{key: row[key] for key in short} for row in rows], indent=2))
    elif name and name not in {slot for part in parts for slot in part.slot.split(", ")}:
        print("\n\n".join(map(describe, parts)))
    else:
        _print_table(parts)


def describe(part: Component) -> str:
    """One part for the terminal."""
    lines = [f"{part.name}: {part.slot}, {part.module}", "", part.doc, ""]
    many = part.slot in ("loss", "preprocess", "augment", "callback")
    lines.append(f"{part.option}{'+' if many else ''}={part.name}")
    for argument in part.arguments:
        default = "" if argument.default is None else f" = {argument.default}"
        lines.append(f"  {part.option}.{argument.name}: {argument.type}{default}")
        if argument.doc:
            lines.append(f"      {argument.doc}")
    return "\n".join(lines)


def _print_table(parts: Sequence[Component]) -> None:
    from rich.console import Console
    from rich.table import Table

    table, before = Table("slot", "name", "what it is", "from", title="Components"), ""
    for part in parts:
        if before and part.slot != before:
            table.add_section()
        table.add_row(part.slot if part.slot != before else "", part.name, part.line, part.module)
        before = part.slot
    Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 1000).print(table)
    print("ferl components NAME shows the options of one.")


def _of_source(slot: str, part: index.Part) -> Component:
    documented = [parameters_in(doc) for doc in index.docs(part)]
    told = {name: text for docs in reversed(documented) for name, text in docs.items()}
    options = index.options(part)
    options = (part.options or {}) if options is None else options
    own = {name: options[name] for name in part.options or {} if name in options}
    return _component(slot, part.name, part.module, part.doc, own | options, told)


def _of_class(slot: str, part: type) -> Component:
    given = [p for p in inspect.signature(part).parameters.values() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    options = {
        p.name: index.Option(
            p.annotation if isinstance(p.annotation, str) else inspect.formatannotation(p.annotation),
            None if p.default is p.empty else repr(p.default),
        )
        for p in given
    }
    doc = inspect.getdoc(part) or ""
    return _component(slot, part.__name__, part.__module__, doc, options, parameters_in(doc))


def _component(
    slot: str, name: str, module: str, doc: str, options: dict[str, index.Option], told: dict[str, str]
) -> Component:
    arguments = [
        Argument(option, known.annotation, known.default, told.get(option, ""))
        for option, known in list(options.items())[FILLED.get(slot, 0) :]
    ]
    text = re.split(r"^Args:$", doc, maxsplit=1, flags=re.MULTILINE)[0].strip()
    papers = [url.rstrip(".,;)") for url in re.findall(r"https?://\S+", doc)]
    return Component(name, slot, module, doc.partition("\n")[0], text, papers, arguments)


def parameters_in(doc: str) -> dict[str, str]:
    """What a docstring says of each argument."""
    section = re.search(r"^Args:\n((?:[ ]{4}.*\n?|\n)+)", doc, re.MULTILINE)
    entries = re.split(r"^ {4}(\w+): ", section[1], flags=re.MULTILINE)[1:] if section else []
    return {name: " ".join(text.split()) for name, text in zip(entries[::2], entries[1::2], strict=True)}

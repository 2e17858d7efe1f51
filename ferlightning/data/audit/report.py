"""The output of an audit: tables on the terminal, a sheet of pairs, and a folder."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ferlightning.errors import FerlError
from ferlightning.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 5  # pairs side by side
SHOWN = 10  # pairs of one check on the sheet
STYLES = {"ok": "green", "LEAK": "bold red", "note": "yellow"}


def check_folder(folder: Path) -> None:
    """Refuse a folder that exists, unless it has an older audit, which may be replaced."""
    if folder.exists() and not (folder / "audit.json").exists():
        raise FerlError(f"{folder} exists and is not an audit of ferlightning. Move it, or set another --output")


def print_audit(found: dict[str, Any], console: Console) -> None:
    """Print a verdict for each check, and the shares of the classes in each split.

    Args:
        found: from ``audit``.
        console: to print to.
    """
    sizes = ", ".join(f"{n:,} {split}" for split, n in found["items"].items())
    table = Table("check", "verdict", "finding", title=f"{found['data']}: {sizes} items", title_justify="left")
    for title, check in found["checks"].items():
        verdict = f"[{STYLES[check['verdict']]}]{check['verdict']}"
        table.add_row(title, verdict, "\n".join(check["findings"]) or "none found")
    console.print(table)
    balance = Table("class", title="Share of each class", title_justify="left")
    counts = {split: found["checks"]["class balance"][split] for split in found["items"]}
    for split in counts:
        balance.add_column(split, justify="right")
    for name in next(iter(counts.values())):
        shares = [own[name] / max(sum(own.values()), 1) for own in counts.values()]
        balance.add_row(escape(name), *(f"{100 * share:.1f} %" for share in shares))
    console.print(balance)
    for note in found["notes"]:
        console.print(f"Note: {note}", style="yellow", markup=False)


def write_audit(folder: Path, found: dict[str, Any], text: str, images: NDArray[np.uint8]) -> list[Path]:
    """Write the folder of an audit; an older audit is replaced, anything else is not.

    Args:
        folder: where to write.
        found: from ``audit``.
        text: what was printed.
        images: (F, H, W) or (F, H, W, C) uint8, the frames of all items.

    Returns:
        The files in the folder.
    """
    check_folder(folder)
    with replacing(folder) as temporary:
        temporary.mkdir()
        (temporary / "audit.json").write_text(json.dumps(found, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        (temporary / "audit.txt").write_text(text, encoding="utf-8")
        if (sheet := draw_pairs(found, images)) is not None:
            sheet.savefig(temporary / "pairs.png", dpi=110)
    return sorted(folder.iterdir())


def draw_pairs(found: dict[str, Any], images: NDArray[np.uint8]) -> "Figure | None":
    """Draw the worst pairs of each check side by side; None if there are none."""
    from matplotlib.figure import Figure  # late: it is slow to import

    listed = {title: _different(check.get("pairs", [])) for title, check in found["checks"].items()}
    rows = {title: -(-len(pairs) // COLUMNS) for title, pairs in listed.items() if pairs}
    if not rows:
        return None
    figure = Figure(figsize=(3.2 * COLUMNS, 2.3 * sum(rows.values()) + 0.4 * len(rows)), layout="constrained")
    sections = figure.subfigures(len(rows), 1, height_ratios=list(rows.values()), squeeze=False)[:, 0]
    for section, (title, n) in zip(sections, rows.items(), strict=True):
        section.suptitle(f"{title}: {found['checks'][title]['verdict']}", x=0.01, ha="left", fontsize=11, weight="bold")
        cells = section.subplots(n, COLUMNS, squeeze=False).ravel()
        for axes in cells:
            axes.set_axis_off()
        for axes, pair in zip(cells, listed[title], strict=False):
            left, right = images[pair["frames"][0]], images[pair["frames"][1]]
            gap = np.full_like(left[:, :2], 255)
            axes.imshow(np.concatenate([left, gap, right], 1), cmap="gray", vmin=0, vmax=255)
            axes.set_title(_caption(pair), fontsize=7, parse_math=False)
    return figure


def _different(pairs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Choose pairs so that no item is in two of them."""
    chosen: list[dict[str, Any]] = []
    seen: set[str] = set()
    for pair in pairs:
        if seen.isdisjoint(pair["names"]) and len(chosen) < SHOWN:
            chosen.append(pair)
            seen |= set(pair["names"])
    return chosen


def _caption(pair: dict[str, Any]) -> str:
    ends = zip(pair["splits"], pair["names"], pair["labels"], strict=True)
    lines = [f"{split} {name[-34:]}: {label}" for split, name, label in ends]
    turn = f"turned {pair['degrees']}°" if pair["degrees"] else ""
    ways = [way for way in ("mirrored" if pair["mirrored"] else "", turn) if way]
    return "\n".join([*lines, ", ".join([*ways, f"similarity {pair['similarity']:.3f}"])])

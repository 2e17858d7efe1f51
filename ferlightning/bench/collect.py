"""Collects what the cells of a suite have left into one csv.

Everything measured goes into it: scores with intervals, confusion counts, and where the numbers come from. The resolved
configuration of a training is given once for each system and data set. Columns with lists or objects are JSON.
"""

import csv
import json
import re
from pathlib import Path
from typing import Any

from ferlightning.bench.results import home_of, key_of, read_lines, read_run
from ferlightning.bench.suite import KEYS, Cell, Key, Step, cells, read_json
from ferlightning.files import replacing

FACTS = ("device", "devices", "precision", "git_revision", "parameters", "multiply_adds")
"""Provenance that is copied to a line as it is."""


def collect(path: Path) -> list[str]:
    """Bring the csv of a suite up to date with what its cells have left.

    Lines of a step whose folder is not here, which another machine has run, stay as they are.

    Args:
        path: of the csv.

    Returns:
        A sentence for each file that cannot be read and was left out.
    """
    suite, _, budget = read_run(path.with_suffix(".yaml"))
    home, kept = home_of(path), dict[Key, list[dict[str, Any]]]()
    for line in read_lines(path):
        if not line.get("error"):
            line.pop("error", None)  # no column for what has not happened
        kept.setdefault(key_of(line), []).append(line)
    lines, problems, configured = list[dict[str, Any]](), list[str](), set[tuple[str, ...]]()
    for cell in cells(suite, budget, home):
        reason = _failure(cell.folder / "failed.txt")
        for step in cell.steps:
            for broken in step.broken:
                problems.append(f"{broken} is cut short, so its step is left out; run the suite again to repeat it")
                reason = f"{broken.name} is cut short"
            made = _lines(cell, step, home) if step.done else kept.get(step.key, [])
            for line in made:
                if line.get("configuration"):  # once for each system and data set
                    what = (step.key[0], step.key[1], step.name)
                    line["configuration"] = "" if what in configured else line["configuration"]
                    configured.add(what)
            lines += made
        if not cell.folder.exists():
            lines += kept.get(cell.key, [])
        elif reason:
            lines.append(dict(zip(KEYS, cell.key, strict=True)) | {"split": "", "images": "", "error": reason})
    write_csv(path, lines)
    return problems


def _lines(cell: Cell, step: Step, home: Path) -> list[dict[str, Any]]:
    """The lines of a step that is done: for each split all images, and those without copies in training."""
    done, lines = read_json(step.folder / "step.json") or {}, list[dict[str, Any]]()
    corruption, severity = step.facts["corruption"] or ("", "")
    for split, path in step.reports.items():
        if (report := read_json(path)) is None:
            continue
        place: dict[str, Any] = dict(zip(KEYS, step.key, strict=True))
        place |= {"test": step.facts["test"], "split": split, "corruption": corruption, "severity": severity}
        facts = report_facts(report) | {"step_seconds": round(done["seconds"], 3)}
        facts |= {"converged": done.get("converged", ""), "command": step.command}
        lines.append(place | {"images": "all"} | report_scores(report) | facts)
        if len(lines) == 1 and step.name in ("pretrain", "main"):
            config = done.get("config") or report["provenance"]["config"]
            lines[0]["configuration"] = _shorten(_json(config), cell, home)
        if report["deduplicated"]:
            classes = {"per_class": report["per_class"]}
            lines.append(place | {"images": "without copies"} | report_scores(classes | report["deduplicated"]))
    return lines


def report_scores(report: dict[str, Any]) -> dict[str, Any]:
    """Flatten the numbers of a metrics.json. Other scores of a class follow from the confusion counts."""
    line = {
        "n": report["n"],
        "classes": _json(list(report["per_class"])),
        "confusion": _json(report["confusion_matrix"]),
    }
    for name, found in report["metrics"].items():
        line[name] = _round(found["value"])
        line |= {f"{name}_{end}": _round(found[end]) for end in ("low", "high")}
    return line


def report_facts(report: dict[str, Any]) -> dict[str, Any]:
    """Flatten the notes and the provenance of a metrics.json, without its command and configuration."""
    made = report["provenance"]
    line: dict[str, Any] = {"notes": _json(report["notes"]), "versions": _json(made["versions"])}
    line |= {name: made[name] for name in FACTS}
    line |= {"evaluation_seconds": round(made["seconds"], 3), "images_per_second": round(made["images_per_second"], 1)}
    for split, found in (made["data"] or {}).items():
        line |= {f"{split}_{name}": value for name, value in found.items()}
    return line


def write_csv(path: Path, lines: list[dict[str, Any]]) -> None:
    """Write lines whose keys may differ; the file appears by rename."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for line in lines for key in line)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def _shorten(text: str, cell: Cell, home: Path) -> str:
    """Replace the folder of a cell, wherever the suite was run, by ``{cell}`` in JSON."""
    return re.sub(rf'(?<=")[^"]*{re.escape(cell.folder.relative_to(home).as_posix())}', "{cell}", text)


def _failure(path: Path) -> str:
    if not path.is_file():
        return ""
    lines = ["no output", *path.read_text("utf-8", errors="replace").splitlines()]  # the last one is the exit status
    return lines[max(len(lines) - 2, 0)]


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 8)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

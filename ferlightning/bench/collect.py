"""Collects what the cells of a suite have left into one csv.

Everything measured goes into it: scores with intervals, confusion counts, and where the numbers come from. The resolved
configuration of a training is given once for each system and data set. Columns with lists or objects are JSON.
"""

import csv
import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

from ferlightning.bench.results import read_run
from ferlightning.bench.suite import Cell, Step, cells, read_json

FACTS = ("device", "devices", "precision", "git_revision", "parameters", "multiply_adds")
"""Provenance that is copied to a line as it is."""


def collect(folder: Path) -> list[str]:
    """Write results.csv of a folder of ``ferl bench run`` from what its cells have left so far.

    Returns:
        A sentence for each file that cannot be read and was left out.
    """
    suite, _, budget = read_run(folder / "results.yaml")
    lines, problems, configured = [], [], set()
    for cell in cells(suite, budget, folder):
        facts = cell.steps[0].facts
        key = {"system": facts["row"], "data": facts["column"], "fold": facts["fold"], "seed": facts["seed"]}
        reason = _failure(cell.folder / "failed.txt")
        for step in cell.steps:
            for path in step.broken:
                problems.append(f"{path} is cut short, so its step is left out; run the suite again to repeat it")
                reason = f"{path.name} is cut short"
            if not step.done:
                continue
            for split, path in step.reports.items():
                if report := read_json(path):
                    made = [key | line for line in _lines(cell, step, split, report, folder)]
                    what = (key["system"], key["data"], made[0]["step"])
                    if what[2] in ("pretrain", "main") and what not in configured:
                        configured.add(what)
                        made[0]["configuration"] = _shorten(_json(report["provenance"]["config"]), cell, folder)
                    lines += made
        if reason:
            lines.append(key | {"error": reason})
    write_csv(folder / "results.csv", lines)
    return problems


def _lines(cell: Cell, step: Step, split: str, report: dict[str, Any], out: Path) -> list[dict[str, Any]]:
    """The lines of one report: all images, and those without copies in training."""
    done = read_json(step.folder / "step.json") or {}
    corruption, severity = step.facts["corruption"] or ("", "")
    place = {"step": step.folder.relative_to(cell.folder).as_posix(), "test": step.facts["test"], "split": split}
    place |= {"corruption": corruption, "severity": severity}
    command = shlex.join(["ferl", *(_shorten(word, cell, out) for word in done["words"])])
    facts = report_facts(report) | {"step_seconds": round(done["seconds"], 3), "command": command}
    made = [place | {"images": "all"} | report_scores(report) | facts]
    if report["deduplicated"]:
        classes = {"per_class": report["per_class"]}
        made.append(place | {"images": "without copies"} | report_scores(classes | report["deduplicated"]))
    return made


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
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")  # two runs may share a folder
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for line in lines for key in line)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    temporary.rename(path)


def _shorten(text: str, cell: Cell, out: Path) -> str:
    """Replace the folder of a cell, wherever the suite was run, by ``{cell}``, in an argument or in JSON."""
    return re.sub(rf'(?<=["=])[^"=]*{re.escape(cell.folder.relative_to(out).as_posix())}', "{cell}", text)


def _failure(path: Path) -> str:
    if not path.is_file():
        return ""
    lines = ["no output", *path.read_text("utf-8", errors="replace").splitlines()]  # the last one is the exit status
    return lines[max(len(lines) - 2, 0)]


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 8)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

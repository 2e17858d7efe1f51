"""Folders of ``ferl bench run`` with drawn results: the same files, made without training."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from ferlightning.bench.suite import TRAINING, Cell, Step, Suite, cells, read_suite
from ferlightning.evaluation.statistics import confusion_scores, per_class_scores, wilson_interval
from ferlightning.predictions import write_predictions

CLASSES = ["anger", "<fear>", "happy_1"]
CONFIG = {f"part_{i}": {"class_path": f"package.Part{i}", "init_args": {"width": i}} for i in range(100)}  # 9 kB


def suite_of(rows: list[str], columns: list[str]) -> dict[str, Any]:
    """A suite as plain values."""
    return {
        "title": "Drawn",
        "rows": [{"name": row, "args": []} for row in rows],
        "columns": [{"name": column} for column in columns],
        "budgets": {"cpu": {"note": "one epoch"}},
    }


def start(out: Path, suite: dict[str, Any]) -> list[Cell]:
    """Write what ``run`` writes before the first cell."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.yaml").write_text(yaml.safe_dump({"budget": "cpu", "suite": suite}))
    (out / "only.yaml").write_text(yaml.safe_dump(suite))
    read: Suite = read_suite(out / "only.yaml")
    (out / "only.yaml").unlink()
    return cells(read, read.budgets["cpu"], out)


def report_of(label: np.ndarray, probs: np.ndarray, classes: list[str] = CLASSES, **more: Any) -> dict[str, Any]:
    """A metrics.json, its intervals but for accuracy's made up since a bootstrap takes long."""
    k = len(classes)
    confusion = np.bincount(label * k + probs.argmax(1), minlength=k * k).reshape(k, k)
    metrics = {
        name: {"value": float(value), "low": float(value) - 0.04, "high": float(value) + 0.04}
        for name, value in (confusion_scores(confusion) | {"calibration_error": 0.1, "nll": 1.0}).items()
    }
    low, high = wilson_interval(np.trace(confusion), len(label))
    metrics["accuracy"] |= {"low": low, "high": high}
    scores, per_class = per_class_scores(confusion), {}
    for i, name in enumerate(classes):
        support = int(confusion[i].sum())
        recall = float(scores["recall"][i]) if support else None
        per_class[name] = {"support": support, "recall": recall, "low": recall, "high": recall}
        per_class[name] |= {"precision": float(scores["precision"][i]), "f1": float(scores["f1"][i])}
    provenance = {
        "command": "ferl",
        "checkpoint": None,
        "seed": 1,
        "versions": {"python": "3.11.7", "torch": "2.15.0"},
        "git_revision": "0123abc",
        "data": {
            "train": {"items": 8 * len(label)},
            "val": {"items": 9},
            "test": {"items": len(label), "sha256": "0a"},
        },
        "device": "cpu (x86_64, 2 threads)",
        "devices": 1,
        "precision": "32-true",
        "seconds": 0.5,
        "images_per_second": 250.0,
        "parameters": 188_527,
        "multiply_adds": 29_492_992,
        "config": CONFIG,
    }
    report = {"split": "test", "n": len(label), "people": None, "metrics": metrics, "per_class": per_class}
    most = max(range(len(CLASSES)), key=label.tolist().count)
    share = label.tolist().count(most) / len(label)
    report["guessing"] = {"chance": 1 / len(CLASSES), "majority": share, "class": CLASSES[most]}
    report["items"] = {"right": np.packbits(label == probs.argmax(1)).tobytes().hex(), "person": None}
    report |= {"confusion_matrix": confusion.tolist(), "deduplicated": None, "notes": [], "provenance": provenance}
    return report | more


def predictions_of(label: np.ndarray, right: np.ndarray, seed: int = 0) -> np.ndarray:
    """Probabilities (N, K) whose largest is the label's where ``right``, else the next class's."""
    predicted = np.where(right, label, (label + 1) % len(CLASSES))
    probs = np.random.default_rng(seed).uniform(0, 0.3, (len(label), len(CLASSES)))
    probs[np.arange(len(label)), predicted] += 0.4
    return probs / probs.sum(1, keepdims=True)


def finish(
    step: Step,
    label: np.ndarray,
    probs: np.ndarray,
    seconds: float = 2.0,
    curves: bool = False,
    converged: bool = True,
    **more: Any,
) -> None:
    """Write what a step leaves."""
    folder = step.folder / ("report" if step.facts["test"] else "report_val")
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(report_of(label, probs, **more), indent=2))
    names = np.array([f"fold {step.facts['fold']}/item {i}, of <person>" for i in range(len(label))])
    write_predictions(folder / "predictions.csv", names, label, probs, CLASSES)
    if curves:
        rows = [f"{e},{e},{1 / (e + 1)},,{e / 10},," for e in range(5)]
        rows += [f"{e},{e},,{1 / (e + 2)},,{e / 9}," for e in range(5)]
        head = "epoch,step,val/loss,train/loss,val/accuracy,train/accuracy,lr"
        (step.folder / "metrics.csv").write_text("\n".join([head, *rows]) + "\n")
    (step.folder / "step.json").write_text(
        json.dumps(step.facts | {"words": step.words, "seconds": seconds} | {"converged": converged})
    )


def finish_all(made: list[Cell], skill: dict[str, float], n: int = 60, **more: Any) -> None:
    """Finish every step of cells; a row is right on the share ``skill`` of items, 0.05 less for each severity,
    0.05 more in training.

    The share varies by at most one item, so that three repeats of 100 items have an interval below ten points.
    """
    for i, cell in enumerate(made):
        for step in cell.steps:
            facts = step.facts
            rng = np.random.default_rng([i, len(step.folder.name)])
            label = np.random.default_rng(facts["fold"] or 0).integers(0, len(CLASSES), n)
            severity = facts["corruption"][1] if facts["corruption"] else 0
            severity = -1 if facts["test"] == TRAINING else severity
            hits = round(n * (skill[facts["row"]] - 0.05 * severity)) + int(rng.integers(-1, 2))
            right = rng.permutation(n) < hits
            finish(step, label, predictions_of(label, right, i), **more)


def picture(path: Path, seed: int = 0) -> None:
    """A picture of noise, in place of that of where a model looked."""
    noise = np.random.default_rng(seed).integers(0, 255, (180, 200), np.uint8)
    Image.fromarray(noise).convert("RGBA").save(path)

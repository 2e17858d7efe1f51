"""The model card beside an export, as the README.md of a repository on the Hugging Face Hub begins."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from ferlightning import weights
from ferlightning.checkpoint import checkpoint_of
from ferlightning.emotions import as_written
from ferlightning.errors import FerlError
from ferlightning.evaluation.statistics import has_width
from ferlightning.files import replacing

BEGIN = "---\nlibrary_name: ferlightning\n"


def refuse_card(path: Path) -> None:
    """Refuse to write a card over a file that is none.

    Raises:
        FerlError: there is one.
    """
    if path.exists() and not (path.is_file() and path.read_text(errors="replace").startswith(BEGIN)):
        raise FerlError(f"{path} is there, and is no model card of an export, which would take its place: move it")


def write_card(
    path: Path, model: Path, sources: Sequence[str], header: dict[str, Any], said: str, pruned: bool = False
) -> None:
    """Write what is known of a model: its network, its figures if its run has a report, what the export measured.

    Args:
        path: of the card.
        model: the file that was exported.
        sources: what was exported: run folders, checkpoints, or names of shipped weights, which have a card already.
        header: of the weights.
        said: what the export has measured.
        pruned: whether the export took channels away, so that no figure of the sources holds any more.
    """
    import jinja2  # late: it takes a tenth of a second

    report = _report(sources[0]) if len(sources) == 1 and not pruned else None
    images = header.get("input", {})
    front: dict[str, Any] = {
        "library_name": "ferlightning",
        "pipeline_tag": "image-classification",
        "tags": ["facial-expression-recognition", "emotion-recognition", model.suffix.removeprefix(".")],
    }
    if report:
        data = (
            (report["provenance"].get("config") or {}).get("data", {}).get("class_path", "unknown").rpartition(".")[2]
        )
        values = [
            {"type": name, "value": round(report["metrics"][name]["value"], 4)}
            for name in ("accuracy", "balanced_accuracy", "macro_f1")
        ]
        dataset = {"type": data.lower(), "name": data, "split": report["split"]}
        result = {"task": {"type": "image-classification"}, "dataset": dataset, "metrics": values}
        front["model-index"] = [{"name": model.stem, "results": [result]}]
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters["percent"] = _percent
    template = environment.from_string(Path(__file__).with_name("card.md.j2").read_text(encoding="utf-8"))
    text = template.render(
        front=yaml.safe_dump(front, sort_keys=False), model=model, report=report,
        source=" and ".join("/".join(Path(source).parts[-2:]) for source in sources),  # it may be for others to read
        class_names=as_written(header["network"]["class_names"], images.get("spelling", {})), views=header["views"],
        input=images,
        said=said, pruned=pruned, shipped=None if pruned else _shipped(sources),
    )  # fmt: skip
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _shipped(sources: Sequence[str]) -> str | None:
    """The card of weights that ship, without its title."""
    if len(sources) > 1 or sources[0] not in weights.REGISTRY:
        return None
    place = Path(weights.__file__).with_name(f"{sources[0]}.md")
    return place.read_text(encoding="utf-8").partition("\n\n")[2] if place.is_file() else None


def _report(source: str) -> dict[str, Any] | None:
    """The report of a run on this checkpoint: that of its test, else that of its validation."""
    path = checkpoint_of(source)
    for name in ("report", "report_val"):
        place = path.parent.parent / name / "metrics.json"
        if place.is_file():
            report: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
            if Path(report["provenance"]["checkpoint"] or "").stem == path.stem:
                return report
    return None


def _percent(entry: dict[str, float], value: str = "value") -> str:
    interval = (
        f" ({100 * entry['low']:.2f} to {100 * entry['high']:.2f})" if has_width(entry["low"], entry["high"]) else ""
    )
    return f"{100 * entry[value]:.2f}{interval}"

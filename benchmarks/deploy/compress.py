"""Accuracy, size and time of exported files beside each other, on PublicTest without copies of training images.

    FERL_DATA=FOLDER python benchmarks/deploy/compress.py [--picture=FRONTIER.svg] A.onnx B.onnx ...

One row a file, as Markdown; the first is the parent, to which the others are compared. Balanced accuracy is the mean
recall of the classes. Times are milliseconds of CPU a face on one thread of ONNX Runtime: medians of runs of all files
in turn, and in brackets their ratio to the first file's, because other processes change the times of all. The picture
has accuracy over time, with the interval, and a dot as large as the file.
"""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ferlightning import FER2013, FERPlus
from ferlightning.deploy.classifier import OnnxModel
from ferlightning.emotions import canonical
from ferlightning.errors import FerlError
from ferlightning.evaluation.metrics import count_items
from ferlightning.evaluation.statistics import scores, wilson_interval
from ferlightning.export.traced import timed
from ferlightning.runtime import open_session

HEADER = """| file | MB | FER2013 | balanced | FER+ | balanced | ms at batch 1 | ms at batch 64 |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"""
REPEATS = {1: 300, 64: 15}


def public_test(data: FER2013 | FERPlus) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 1, 48, 48) and class indices (N,)."""
    data.setup("validate")
    batches = list(data.val_dataloader())
    own = ~data.copied_from_training("val")
    images, labels = (np.concatenate([batch[key].numpy() for batch in batches]) for key in ("image", "label"))
    return images[own][:, 0], (labels if labels.ndim == 1 else labels.argmax(1))[own]


def accuracy(session: Any, output: str, images: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Accuracy with its 95 % interval, and balanced accuracy, in percent."""
    probs = np.concatenate(
        [session.run([output], {"image": batch})[0] for batch in np.array_split(images, len(images) // 64)]
    )
    found, n = scores(count_items(labels, probs)), len(labels)
    low, high = wilson_interval(found["accuracy"] * n, n)
    shares = {"value": found["accuracy"], "low": low, "high": high, "balanced": found["balanced_accuracy"]}
    return {name: 100 * share for name, share in shares.items()}


def measure(paths: list[Path]) -> list[dict[str, Any]]:
    """What is known of each file: ``name``, ``mb``, accuracy on both label sets, and ``ms`` by size of the batch.

    Raises:
        FerlError: a file is no export for grey stills of 48 x 48 pixels and the classes of both label sets.
    """
    faces: dict[str, FER2013 | FERPlus] = {"fer2013": FER2013(), "probabilities": FERPlus()}
    for path in paths:
        for output, data in faces.items():
            model = OnnxModel(path, view=None if output == "probabilities" else output)
            names = [canonical(name) for name in model.class_names]
            if model.clips or model.color or model.size != [48, 48] or names != data.class_names:
                raise FerlError(
                    f"{path} is not for grey stills of 48 x 48 pixels and as {output} the classes "
                    f"{', '.join(data.class_names)} in this order, on which all files are compared"
                )
    sets = {output: public_test(data) for output, data in faces.items()}
    sessions = [open_session(path, threads=1) for path in paths]
    rows = [
        {"name": path.name, "mb": path.stat().st_size / 1e6, "ms": {}}
        | {output: accuracy(session, output, *of) for output, of in sets.items()}
        for path, session in zip(paths, sessions, strict=True)
    ]
    for b, repeats in REPEATS.items():
        batch = {"image": sets["fer2013"][0][:b]}
        seconds = timed([partial(session.run, None, batch) for session in sessions], repeats)
        for row, taken in zip(rows, seconds, strict=True):
            row["ms"][b] = 1000 * taken / b
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """What was measured, as Markdown."""
    lines = [HEADER]
    for row in rows:
        cells = [row["name"], f"{row['mb']:.2f}"]
        for found in (row["fer2013"], row["probabilities"]):
            cells += [f"{found['value']:.2f} ({found['low']:.2f} to {found['high']:.2f})", f"{found['balanced']:.2f}"]
        cells += [f"{ms:.3f} ({ms / rows[0]['ms'][b]:.2f})" for b, ms in row["ms"].items()]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """The frontier: accuracy over the time of one face."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    titles = {"fer2013": "FER2013, 7 classes", "probabilities": "FER+, 8 classes"}
    for axis, (output, title) in zip(axes, titles.items(), strict=True):
        for row in rows:
            ms, found = row["ms"][1], row[output]
            reach = [[found["value"] - found["low"]], [found["high"] - found["value"]]]
            axis.errorbar(ms, found["value"], reach, color="lightgrey", capsize=3, zorder=1)
            axis.scatter(ms, found["value"], s=80 * row["mb"], zorder=2)
            axis.annotate(Path(row["name"]).stem, (ms, found["value"]), (6, 6), textcoords="offset points", fontsize=9)
        axis.set(title=title, xlabel="ms of CPU a face, batch 1, one thread", ylabel="accuracy, %")
        axis.set_xlim(left=0)
    figure.savefig(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="what `ferl export` wrote")
    parser.add_argument("--picture", type=Path, help="where the picture goes: .svg or .png")
    options = parser.parse_args()
    if options.picture and (options.picture.suffix not in (".svg", ".png") or not options.picture.parent.is_dir()):
        parser.error(f"--picture: {options.picture} is no .svg or .png in a folder that is there")
    try:
        measured = measure(options.files)
    except FerlError as error:
        sys.exit(f"compress.py: {error}")
    print(table(measured))
    if options.picture:
        draw(measured, options.picture)

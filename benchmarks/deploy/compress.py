"""Accuracy, size and time of exported files beside each other, on PublicTest without copies of training images.

    FERL_DATA=FOLDER python benchmarks/deploy/compress.py A.onnx B.onnx ...

One row a file, as Markdown. Times are milliseconds of CPU a face on one thread of ONNX Runtime: medians of runs of all
files in turn, and in brackets their ratio to the first file's, because other processes change the times of all.
"""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from ferlightning import FER2013, FERPlus
from ferlightning.evaluation.metrics import count_items
from ferlightning.evaluation.statistics import scores, wilson_interval
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


def accuracy(session: Any, output: str, images: np.ndarray, labels: np.ndarray) -> str:
    probs = np.concatenate(
        [session.run([output], {"image": batch})[0] for batch in np.array_split(images, len(images) // 64)]
    )
    found, n = scores(count_items(labels, probs)), len(labels)
    low, high = wilson_interval(found["accuracy"] * n, n)
    return (
        f"{100 * found['accuracy']:.2f} ({100 * low:.2f} to {100 * high:.2f}) | {100 * found['balanced_accuracy']:.2f}"
    )


def table(paths: list[Path]) -> str:
    """The rows of some files, under a header."""
    sets = {"fer2013": public_test(FER2013()), "probabilities": public_test(FERPlus())}
    sessions = [open_session(path, threads=1) for path in paths]
    rows = [
        [
            path.name,
            f"{path.stat().st_size / 1e6:.2f}",
            *(accuracy(session, *of) for of in ((k, *v) for k, v in sets.items())),
        ]
        for path, session in zip(paths, sessions, strict=True)
    ]
    for b, repeats in REPEATS.items():
        image = sets["fer2013"][0][:b]
        taken: list[list[float]] = [[] for _ in paths]
        for _ in range(repeats):
            for session, times in zip(sessions, taken, strict=True):
                start = time.process_time()
                session.run(None, {"image": image})
                times.append(time.process_time() - start)
        medians = [1000 * float(np.median(times)) / b for times in taken]
        for row, ms in zip(rows, medians, strict=True):
            row.append(f"{ms:.3f} ({ms / medians[0]:.2f})")
    return "\n".join([HEADER, *(f"| {' | '.join(row)} |" for row in rows)])


if __name__ == "__main__":
    print(table([Path(path) for path in sys.argv[1:]]))

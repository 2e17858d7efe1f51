"""Seconds to open FER2013's csv, against torchvision's reader; milliseconds to open it again; memory on the way.

    python benchmarks/data_open.py [--pairs 3]

The first opening parses the csv and writes the store, into an empty cache; the later ones map the store and count the
classes. Torchvision parses the whole csv for each of its two splits, every time; the MD5 sum that it takes before is
left out, in its favour. The three take turns, each in a process of its own, and all must find the same pixels and
labels. Imports are not timed. Memory is the growth of the highest resident set over that after the imports, less the
bytes of images and labels. The csv is that in FERL_DATA, or as many random images. Writes
``runs/data_open.json``.
"""

import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jsonargparse import auto_cli
from lab import ROOT, machine, print_result, result_of, save, spread
from rich.console import Console
from rich.table import Table

USAGES = {"Training": 28709, "PublicTest": 3589, "PrivateTest": 3589}
ARMS = ("torchvision", "first", "later")
Content = tuple[int, int, int]
"""Images, and sums of their pixels and labels."""


def write_csv(path: Path) -> None:
    """As many images as FER2013 has, of random pixels."""
    rng = np.random.default_rng(0)
    with path.open("w") as file:
        file.write("emotion,pixels,Usage\n")
        for usage, n in USAGES.items():
            for i in range(n):
                file.write(f"{i % 7},{' '.join(map(str, rng.integers(0, 256, 48 * 48).tolist()))},{usage}\n")


def find_csv(folder: Path) -> Path:
    """The csv in FERL_DATA, or one written to a folder."""
    if given := os.environ.get("FERL_DATA"):
        for path in (Path(given), Path(given, "fer2013.csv"), Path(given, "fer2013", "fer2013.csv")):
            if path.is_file():
                return path.resolve()
        raise SystemExit(f"there is no fer2013.csv in FERL_DATA, {given}")
    write_csv(folder / "random.csv")
    return folder / "random.csv"


# --- arms -----------------------------------------------------------------------------------------------------------


def torchvision_way(root: Path) -> Callable[[], Callable[[], Content]]:
    """Import, and return what opens both splits, which returns what sums them up."""
    import torchvision

    torchvision.datasets.fer2013.check_integrity = lambda path, md5: True  # it knows the complete file only

    def open_both() -> Callable[[], Content]:
        splits = [torchvision.datasets.FER2013(root, split) for split in ("train", "test")]
        samples = [sample for split in splits for sample in split._samples]
        return lambda: (len(samples), sum(int(image.sum()) for image, _ in samples), sum(label for _, label in samples))

    return open_both


def our_way(root: Path) -> Callable[[], Callable[[], Content]]:
    from ferlightning.data import FER2013

    def open_store() -> Callable[[], Content]:
        data = FER2013(root=str(root))
        store, _ = data.store, data.class_counts
        return lambda: (len(store), int(store.images.sum(dtype=np.int64)), int(store.label.sum()))

    return open_store


def run_arm(arm: str, root: Path) -> None:
    way = (torchvision_way if arm == "torchvision" else our_way)(root)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    sum_up = way()
    seconds = time.perf_counter() - start
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * (1 if sys.platform == "darwin" else 1024)
    print_result({"seconds": seconds, "grown": grown, "content": sum_up()})


# --- turns ----------------------------------------------------------------------------------------------------------


def take_turns(pairs: int) -> tuple[list[dict[str, dict[str, Any]]], dict[str, Any]]:
    """What every arm printed in every turn, and facts of the csv."""
    turns = []
    with tempfile.TemporaryDirectory() as name:
        root = Path(name, "root")
        (root / "fer2013").mkdir(parents=True)
        csv = find_csv(Path(name))
        (root / "fer2013" / "fer2013.csv").symlink_to(csv)
        with csv.open("rb") as file:  # into the page cache, for whoever is first
            while file.read(1 << 20):
                pass
        for pair in range(pairs):
            cache = Path(name, f"cache {pair}")
            turns.append(
                {
                    arm: result_of(
                        [sys.executable, __file__, f"--arm={arm}", f"--root={root}"],
                        env=os.environ | {"FERL_CACHE": str(cache)},
                    )
                    for arm in ARMS
                }
            )
        contents = {tuple(turn[arm]["content"]) for turn in turns for arm in ARMS}
        if len(contents) != 1:
            raise SystemExit(f"the arms disagree on the images, or the sums of pixels or labels: {contents}")
        facts = {"images": contents.pop()[0], "MiB": csv.stat().st_size / 2**20}
    return turns, {"source": "FER2013" if os.environ.get("FERL_DATA") else "random images"} | facts


def data_open(
    pairs: int = 3,
    output: str = "runs/data_open.json",
    arm: Literal["torchvision", "first", "later"] | None = None,
    root: str | None = None,
) -> None:
    """Compare our way of opening FER2013 with torchvision's.

    Args:
        pairs: how often the arms take turns.
        output: where the results go, from the root of the project.
        arm: run one arm in this process; used by the benchmark itself.
        root: folder of the data of that arm.
    """
    if arm:
        run_arm(arm, Path(root or "."))
        return
    turns, csv = take_turns(pairs)
    array_bytes = csv["images"] * (48 * 48 + 8)
    seconds = {kind: spread(turn[kind]["seconds"] for turn in turns) for kind in ARMS}
    memory = {kind: spread((turn[kind]["grown"] - array_bytes) / 2**20 for turn in turns) for kind in ARMS[:2]}
    ratio = {
        kind: spread(turn["torchvision"]["seconds"] / turn[kind]["seconds"] for turn in turns) for kind in ARMS[1:]
    }
    table = Table("opening", "ms", "min", "max", "ratio", "min", "max", "MiB")
    for kind in ARMS:
        row = [f"{1000 * seconds[kind][x]:,.0f}" for x in ("median", "min", "max")]
        row += [f"{ratio[kind][x]:,.1f}" for x in ("median", "min", "max")] if kind in ratio else ["", "", ""]
        table.add_row(kind, *row, f"{memory[kind]['median']:.0f}" if kind in memory else "")
    Console().print(table)

    about = {
        "command": " ".join(["python", str(Path(__file__).resolve().relative_to(ROOT)), *sys.argv[1:]]),
        "machine": machine("numpy", "torch", "torchvision", "ferlightning"),
        "csv": csv,
        "pairs": pairs,
    }
    results = {
        "seconds": seconds,
        "later_milliseconds": spread(1000 * turn["later"]["seconds"] for turn in turns),
        "torchvision_seconds_over_ours": ratio,
        "peak_mib_above_the_arrays": memory,
    }
    save(ROOT / output, about | results)


if __name__ == "__main__":
    auto_cli(data_open)

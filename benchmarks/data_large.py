"""Memory, rate and time to the first batch of a data set as large as AffectNet, cold and cached.

    python benchmarks/data_large.py [--images 29000]

Writes AffectNet's two folders with as many JPEGs of 224x224 pixels: 1,000 drawn ones of 8 classes, linked under other
names, so that they take no room. A process opens them in colour at their own size, and reads batches of 128 for a
minute at most: first with an empty cache (cold), then again (cached). It then trains a ResNet-18 for a minute, by turns
on a batch from the loader and on one that it has kept: their ratio is what the loader leaves of the device's rate.
Memory is the process's own (RssAnon); pages of the mapped cache belong to the system's file cache. The cache takes
150 kB an image. Writes ``runs/data_large.json``.
"""

import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import torch
from jsonargparse import auto_cli
from lab import ROOT, machine, print_result, result_of, save
from rich.console import Console
from rich.table import Table
from torch.nn.functional import cross_entropy

from ferlightning import AffectNet, Network
from ferlightning.contracts.modules import Batch
from ferlightning.parts import LinearHead, ResNet

SIDE, DRAWN, BATCH = 224, 1000, 128
SECONDS = 60.0


def write_faces(root: Path, images: int) -> None:
    """As many images as are asked for, a hundredth of them in ``val_set``."""
    rng = np.random.default_rng(0)
    drawn, numbers = root.with_name("drawn"), root.with_name("numbers")
    drawn.mkdir()
    numbers.mkdir()
    for i in range(DRAWN):
        coarse = rng.integers(0, 256, (14, 14, 3), np.uint8)
        cv2.imwrite(str(drawn / f"{i}.jpg"), cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC))
    for label in range(8):
        np.save(numbers / f"{label}.npy", np.array(str(label)))
    for split in ("train_set", "val_set"):
        for kind in ("images", "annotations"):
            (root / split / kind).mkdir(parents=True)
    for i in range(images):
        folder = root / ("train_set" if i % 100 else "val_set")
        os.link(drawn / f"{i % DRAWN}.jpg", folder / "images" / f"{i}.jpg")
        os.link(numbers / f"{i % 8}.npy", folder / "annotations" / f"{i}_exp.npy")


def own_memory() -> float:
    """Memory of this process that is not a mapped file, GiB."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 2**20 if found else float("nan")


def run_arm(root: Path, train: bool) -> None:
    start = time.perf_counter()
    data = AffectNet(str(root), size=SIDE, batch_size=BATCH)
    data.setup("fit")
    batches: Iterator[Batch] = iter(data.train_dataloader())
    kept = next(batches)
    first = time.perf_counter() - start
    began, n, peak = time.perf_counter(), 0, own_memory()
    while time.perf_counter() - began < SECONDS and (batch := next(batches, None)) is not None:
        n += len(batch["image"])
        peak = max(peak, own_memory())
    rate = n / (time.perf_counter() - began)
    found = {"first_batch_seconds": first, "images_per_second": rate, "own_memory_gib": peak}
    print_result(found | ({"of_the_device": share(data, kept)} if train else {}))


def share(data: AffectNet, kept: Batch) -> float:
    """Rate of a training from the loader, as a share of its rate on one batch that is at hand."""
    network = Network(data.class_names, ResNet, head=LinearHead, pixel_mean=[0.5] * 3, pixel_std=[0.25] * 3).train()
    optimizer = torch.optim.SGD(network.parameters(), 1e-3)
    sources = {"loader": cycle(data.train_dataloader()), "kept": cycle([kept])}
    seconds: dict[str, list[float]] = {name: [] for name in sources}
    began = time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        for name, source in sources.items():
            start = time.perf_counter()
            batch = next(source)
            loss = cross_entropy(network(batch["image"].float() / 255).logits, batch["label"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seconds[name].append(time.perf_counter() - start)
    return median(seconds["kept"]) / median(seconds["loader"])


def data_large(
    images: int = 29000, output: str = "runs/data_large.json", root: str | None = None, train: bool = False
) -> None:
    """Measure a data set as large as AffectNet.

    Args:
        images: how many; AffectNet has 290,000, for which 44 GB of cache are written.
        output: where the results go, from the root of the project.
        root: read the images there in this process; used by the benchmark itself.
        train: train on them, too.
    """
    if root:
        run_arm(Path(root), train)
        return
    results = {}
    with tempfile.TemporaryDirectory() as name:
        write_faces(Path(name, "root"), images)
        for arm in ("cold", "cached"):
            words = [sys.executable, __file__, f"--root={name}/root", f"--train={arm == 'cached'}"]
            results[arm] = result_of(words, env=os.environ | {"FERL_CACHE": f"{name}/cache"})
    table = Table(f"{images:,} images", "first batch, s", "images/s", "own memory, GiB", "of the device's rate")
    for arm, found in results.items():
        numbers = [f"{found['first_batch_seconds']:.1f}", f"{found['images_per_second']:,.0f}"]
        numbers += [f"{found['own_memory_gib']:.2f}", *(f"{x:.2f}" for x in [found.get("of_the_device")] if x)]
        table.add_row(arm, *numbers)
    Console().print(table)
    save(ROOT / output, {"machine": machine("numpy", "torch", "ferlightning"), "images": images} | results)


if __name__ == "__main__":
    auto_cli(data_large)

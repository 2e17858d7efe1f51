"""Time to accuracy on FER2013's PublicTest, from the start of a process: ``ferl fit`` against the usual recipe.

    FERL_DATA=FOLDER python benchmarks/speedrun.py [--recipe=strong/small_quick] [--sides=[ours,usual]]

FOLDER has fer2013.csv and fer2013new.csv. Either side is a process of its own, one after the other or, with
``--together=true``, side by side, so that both meet the same noise. The usual recipe is that of widely used
repositories, written here: images one by one through PIL and torchvision's transforms, SGD, a learning rate that falls
on a plateau, the network of ``--recipe`` with one head and FER2013's labels. Each saves a checkpoint after every epoch,
whose time counts: wall time, and processor time of the process and its workers. Accuracy is computed afterwards, in
fp32: all of PublicTest, and what is left without copies of training images. Writes ``runs/speedrun.json``.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from jsonargparse import auto_cli
from lab import ROOT, machine, save
from rich.console import Console
from rich.table import Table
from torch import nn

from ferlightning import FER2013, load, parts

CONFIGS = ROOT / "configs"
TARGETS = (60, 65, 68, 70)
EVERY = [
    "--trainer.callbacks+=lightning.pytorch.callbacks.ModelCheckpoint", "--trainer.callbacks.every_n_epochs=1",
    "--trainer.callbacks.save_top_k=-1", "--trainer.callbacks.filename=epoch-{epoch}",
    "--trainer.callbacks.save_weights_only=true",
]  # fmt: skip


def faces() -> FER2013:
    """FER2013 of FERL_DATA as arrays."""
    data = FER2013()
    data.setup("validate")
    return data


def network(recipe: str) -> nn.Module:
    """The backbone of a configuration under a mean over its cells, dropout and a linear layer.

    Its batch norms start at 1, as is usual: blocks that start as their shortcut learn nothing at this learning rate
    (26 % after two epochs, 43 % with the usual start).
    """
    backbone = yaml.safe_load((CONFIGS / f"{recipe}.yaml").read_text())["model"]["init_args"]["backbone"]
    arguments = backbone["init_args"] | {"start_as_shortcut": False}
    layers = getattr(parts, backbone["class_path"])(in_channels=1, **arguments)
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(layers.out_features, 7)]
    return nn.Sequential(layers, *head)


def usual(recipe: str, epochs: int, folder: Path) -> None:
    """What the widely used repositories do."""
    from PIL import Image
    from torchvision import transforms

    class Faces(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
        def __init__(self, split: str, transform: Any) -> None:
            items = data.items[split]
            self.images, self.labels, self.transform = data.raw.images[items], data.label[items], transform

        def __len__(self) -> int:
            return len(self.labels)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])

    torch.manual_seed(42)
    data, device = faces(), "cuda" if torch.cuda.is_available() else "cpu"
    model = network(recipe).to(device)
    train = transforms.Compose([
        transforms.RandomResizedCrop(48, scale=(0.8, 1.2)), transforms.RandomHorizontalFlip(),
        transforms.RandomApply([transforms.RandomRotation(10)]),
        transforms.RandomApply([transforms.ColorJitter(0.5, 0.5)]), transforms.ToTensor(), transforms.RandomErasing(),
    ])  # fmt: skip
    loader = torch.utils.data.DataLoader(
        Faces("train", train), 128, shuffle=True, num_workers=2, persistent_workers=True
    )
    held_out = torch.utils.data.DataLoader(Faces("val", transforms.ToTensor()), 256, num_workers=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", factor=0.75, patience=5)
    for epoch in range(epochs):
        model.train()
        for images, labels in loader:
            loss = torch.nn.functional.cross_entropy(model(images.to(device)), labels.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        right = 0
        model.eval()
        with torch.no_grad():
            for images, labels in held_out:
                right += int((model(images.to(device)).argmax(1).cpu() == labels).sum())
        scheduler.step(right / len(data.items["val"]))
        torch.save(model.state_dict(), folder / f"epoch-{epoch}.tmp")
        (folder / f"epoch-{epoch}.tmp").rename(folder / f"epoch-{epoch}.ckpt")


def seconds_of(process: int) -> float:
    """Processor time of a process and of its workers, those that ended included; on Linux."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:  # it has ended
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK") + sum(seconds_of(int(child)) for child in children)


class Side:
    """One process, and when its checkpoints appeared."""

    def __init__(self, name: str, command: Sequence[str], folder: Path) -> None:
        self.name, self.folder = name, folder
        self.found: dict[Path, tuple[float, float]] = {}
        self.begin = time.time()
        self.log = (folder / "log").open("w")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT, start_new_session=True)

    def look(self) -> bool:
        """Note new checkpoints; whether the process still runs."""
        running = self.process.poll() is None
        for path in self.folder.rglob("epoch-*.ckpt"):
            if path not in self.found:
                cpu = seconds_of(self.process.pid) if running else float("nan")
                self.found[path] = (path.stat().st_mtime - self.begin, cpu)
        return running


def accuracies(paths: Sequence[Path], recipe: str, ours: bool) -> list[dict[str, float]]:
    """Accuracy of each checkpoint in percent: by one view and mirrored, of all images and without copies."""
    data = faces()
    items, device = data.items["val"], "cuda" if torch.cuda.is_available() else "cpu"
    fresh = torch.from_numpy(~data.copied_from_training("val"))
    images = torch.from_numpy(np.ascontiguousarray(data.raw.images[items])).float()[:, None] / 255
    labels = torch.from_numpy(np.asarray(data.label[items]))
    logits = attrgetter("logits") if ours else nn.Identity()
    results = []
    for path in paths:
        if ours:
            model: nn.Module = load(path, view=data.class_names)
        else:
            model = network(recipe)
            model.load_state_dict(torch.load(path, weights_only=True))
        model = model.eval().to(device)
        with torch.no_grad():
            views = [
                torch.cat([logits(model(x.to(device))).softmax(1).cpu() for x in view.split(256)])
                for view in (images, images.flip(3))
            ]
        row = {}
        for name, probabilities in {"one view": views[0], "mirrored": views[0] + views[1]}.items():
            right = (probabilities.argmax(1) == labels).float()
            row[name], row[f"{name}, without copies"] = 100 * float(right.mean()), 100 * float(right[fresh].mean())
        results.append(row)
    return results


def speedrun(
    recipe: str = "strong/small_quick",
    words: Sequence[str] = (),
    sides: Sequence[str] = ("ours", "usual"),
    epochs: int = 60,
    minutes: float = 180,
    together: bool = False,
    only: str | None = None,
    keep: str | None = None,
) -> None:
    """Measure time to accuracy.

    Args:
        recipe: of ours, whose backbone both have.
        words: more words for ``ferl fit``.
        sides: ours, usual.
        epochs: of the usual recipe, at most.
        minutes: when a side is stopped.
        together: start both at the same time.
        only: folder of checkpoints of the usual recipe, which is run in this process.
        keep: folder for logs and checkpoints; null: a temporary one.
    """
    if only:
        return usual(recipe, epochs, Path(only))
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(keep or temporary).absolute()
        running, done = [], []
        for name in sides:
            folder = root / name
            folder.mkdir(parents=True)
            command = [sys.executable, "-m", "ferlightning", "fit", f"--config={recipe}", *words, *EVERY,
                       f"--trainer.callbacks.dirpath={folder}", f"--trainer.default_root_dir={folder}/run",
                       "--trainer.enable_progress_bar=false"]  # fmt: skip
            if name == "usual":
                command = [sys.executable, __file__, f"--only={folder}", f"--epochs={epochs}", f"--recipe={recipe}"]
            running.append(Side(name, command, folder))
            while running and (not together or name == sides[-1]):
                time.sleep(0.05)
                for side in list(running):
                    late = time.time() - side.begin > 60 * minutes
                    if not side.look() or late:
                        if late:
                            os.killpg(side.process.pid, signal.SIGKILL)
                        side.process.wait()
                        side.look()
                        running.remove(side)
                        done.append(side)
        results: dict[str, Any] = {
            "machine": machine("torch", "lightning", "timm"),
            "recipe": recipe,
            "words": list(words),
        }
        for side in done:
            paths = sorted(side.found, key=lambda path: side.found[path][0])
            if not paths:
                print((side.folder / "log").read_text()[-3000:])
                continue
            rows = [
                {"seconds": side.found[path][0], "cpu seconds": side.found[path][1]} | row
                for path, row in zip(paths, accuracies(paths, recipe, side.name == "ours"), strict=True)
            ]
            results[side.name] = rows
            show(side.name, rows)
    save(ROOT / "runs" / "speedrun.json", results)


def show(name: str, rows: Sequence[dict[str, float]]) -> None:
    """Print when each accuracy was reached, and where the training ended."""
    kinds = ("one view", "mirrored", "one view, without copies", "mirrored, without copies")
    table = Table(f"{name}: minutes (of all processors)", *kinds)
    for target in TARGETS:
        cells = []
        for kind in kinds:
            first = next((row for row in rows if row[kind] >= target), None)
            cells.append(f"{first['seconds'] / 60:.2f} ({first['cpu seconds'] / 60:.2f})" if first else "-")
        table.add_row(f"{target} %", *cells)
    last = rows[-1]
    table.add_row(f"end, {last['seconds'] / 60:.2f}", *(f"{last[kind]:.2f} %" for kind in kinds))
    Console(width=150).print(table)


if __name__ == "__main__":
    auto_cli(speedrun, as_positional=False)

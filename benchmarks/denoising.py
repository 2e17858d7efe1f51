"""Mean squared error of corrupted faces before and after a trained denoising autoencoder, by kind of corruption.

    ferl fit --config configs/papers/p2_autoencoder.yaml
    python benchmarks/denoising.py RUN/checkpoints/best.ckpt

On the validation split of FER2013 in FERL_DATA (PublicTest), with corruptions drawn by fixed seeds. Writes
``benchmarks/results/denoising.json``.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jsonargparse import auto_cli
from lab import save
from rich.console import Console
from rich.table import Table

from ferlightning.data import FER2013
from ferlightning.checkpoint import load

RESULT = Path(__file__).resolve().parent / "results" / "denoising.json"


def denoising(checkpoint: str, seeds: int = 3) -> None:
    """Measure a trained autoencoder.

    Args:
        checkpoint: of the run of configs/papers/p2_autoencoder.yaml.
        seeds: draws of the corruption.
    """
    faces = torch.cat([batch["image"][:, 0] for batch in FER2013(batch_size=256).val_dataloader()]).float() / 255
    restorer: Any = load(checkpoint).restorer
    trained = restorer.corruption
    kinds = {
        "as trained": trained,
        "all three on each face": replace(trained, p=1.0),
        "light only": replace(trained, p=1.0, noise=0.0, shot_noise=0.0, quality=100),
        "noise only": replace(trained, p=1.0, light=0.0, quality=100),
        "compression only": replace(trained, p=1.0, light=0.0, noise=0.0, shot_noise=0.0),
        "none": replace(trained, p=0.0),
    }
    table = Table("corruption", "before", "after", "lowered by")
    results = {}
    for name, kind in kinds.items():
        errors = []
        for seed in range(seeds):
            generator, before, after = torch.Generator().manual_seed(seed), 0.0, 0.0
            with torch.inference_mode():
                for clean in faces.split(256):
                    corrupted = kind(clean, generator)
                    before += (corrupted - clean).square().sum().item() / faces.numel()
                    after += (restorer.restore(corrupted) - clean).square().sum().item() / faces.numel()
            errors.append((before, after))
        before, after = (sum(column) / seeds for column in zip(*errors, strict=True))
        lowered = f"{100 * (1 - after / before):.1f} %" if before else "-"
        table.add_row(name, f"{before:.5f}", f"{after:.5f}", lowered)
        results[name] = {"before": before, "after": after, "draws": errors}
    Console().print(table)
    save(RESULT, {"faces": len(faces), "mean_squared_error": results})


if __name__ == "__main__":
    auto_cli(denoising)

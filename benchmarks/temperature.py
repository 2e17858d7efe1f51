"""Builds a temperature into weights, and stores them in half precision: how the weights that ship are made.

    FERL_DATA=FOLDER python benchmarks/temperature.py FILE.safetensors NEW.safetensors

The last layers are divided by it (Guo et al. 2017, https://arxiv.org/abs/1706.04599). The temperature of each label
set is fitted on every second image of PublicTest that has no copy among the training images; the figures are of the
others, and go into the header.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from scipy.optimize import minimize_scalar
from torch.nn.functional import cross_entropy

from ferlightning import FER2013, FERPlus, load
from ferlightning.checkpoint import HEADER, digest, read_checkpoint
from ferlightning.evaluation.metrics import count_items
from ferlightning.evaluation.statistics import scores
from ferlightning.files import replacing


@torch.no_grad()
def fitted(path: str, data: FER2013 | FERPlus) -> dict[str, Any]:
    """The temperature for the classes of the data, and the calibration before and after."""
    data.setup("test")
    network = load(path, view=data.class_names)
    batches = list(data.val_dataloader())
    logits = torch.cat([network(batch["image"].float() / 255).logits for batch in batches])
    label = torch.cat([batch["label"] for batch in batches])
    label = label if label.ndim == 1 else label.argmax(1)
    order = [network.class_names.index(name) for name in data.class_names]
    own = torch.from_numpy(~data.copied_from_training("val"))
    logits, label = logits[own][:, order], label[own]
    half = slice(0, None, 2)
    cost = lambda t: float(cross_entropy(logits[half] / t, label[half]))  # noqa: E731
    t = minimize_scalar(cost, bounds=(0.2, 5), method="bounded").x
    others, found = slice(1, None, 2), {}
    for when, divisor in (("before", 1.0), ("after", t)):
        probs = (logits[others] / divisor).softmax(1).numpy().astype(np.float32)
        made = scores(count_items(label[others].numpy(), probs))
        found[when] = {name: round(made[name], 4) for name in ("calibration_error", "nll")}
    return {"temperature": round(float(t), 4), "images": len(label[others]), **found}


def main(path: str, new: str) -> None:
    header = read_checkpoint(path)[HEADER]
    state = load_file(path)
    heads = {"head.classify": fitted(path, FERPlus())}
    heads |= {view["head"]: fitted(path, FER2013()) for view in header["views"].values()}
    for head, found in heads.items():
        print(head, found)
        for end in ("weight", "bias"):
            state[f"{head}.{end}"] = state[f"{head}.{end}"].double() / found["temperature"]
    state = {name: x.half() if x.is_floating_point() else x for name, x in state.items()}
    header |= {"calibration": heads, "sha256": digest(state)}
    with replacing(Path(new)) as temporary:
        save_file(state, temporary, {HEADER: json.dumps(header)})


if __name__ == "__main__":
    main(*sys.argv[1:])

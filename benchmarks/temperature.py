"""Builds a temperature into weights, and stores them in half precision: how the weights that ship are made.

    FERL_DATA=FOLDER python benchmarks/temperature.py FILE.safetensors NEW.safetensors

The last layers are divided by it (Guo et al. 2017, https://arxiv.org/abs/1706.04599). The temperature of each label
set is fitted on every second image of PublicTest that has no copy among the training images; the figures are of the
others, and go into the header.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn.functional import nll_loss

from ferlightning import FER2013, FERPlus, load
from ferlightning.checkpoint import HEADER, digest, read_checkpoint
from ferlightning.contracts.modules import class_index
from ferlightning.evaluation.metrics import count_items
from ferlightning.evaluation.statistics import scores
from ferlightning.files import replacing
from ferlightning.models.network import NetworkEnsemble

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def log_probabilities(logits: Tensor, t: float) -> Tensor:
    """The logarithm of the members' mean probability at a temperature: (N, members, K) -> (N, K)."""
    return (logits / t).log_softmax(2).logsumexp(1) - math.log(logits.shape[1])


@torch.no_grad()
def fitted(path: str, data: FER2013 | FERPlus) -> dict[str, Any]:
    """The temperature for the classes of the data, and the calibration before and after."""
    data.setup("test")
    network = load(path, view=data.class_names).to(DEVICE)
    batches = list(data.val_dataloader())
    outputs = [network(batch["image"].to(DEVICE).float() / 255) for batch in batches]
    # The embedding of an ensemble is the logarithms of its members' probabilities.
    whole = isinstance(network, NetworkEnsemble)
    found = torch.cat([output.embedding if whole else output.logits for output in outputs]).cpu()
    logits = found.reshape(len(found), -1, len(network.class_names))
    label = class_index(torch.cat([batch["label"] for batch in batches]))
    order = [network.class_names.index(name) for name in data.class_names]
    own = torch.from_numpy(~data.copied_from_training("val"))
    logits, label = logits[own][:, :, order], label[own]
    half, others = slice(0, None, 2), slice(1, None, 2)
    cost = lambda t: float(nll_loss(log_probabilities(logits[half], t), label[half]))  # noqa: E731
    t = minimize_scalar(cost, bounds=(0.2, 5), method="bounded").x
    calibration = {}
    for when, divisor in (("before", 1.0), ("after", t)):
        probs = log_probabilities(logits[others], divisor).softmax(1).numpy().astype(np.float32)
        made = scores(count_items(label[others].numpy(), probs))
        calibration[when] = {name: round(made[name], 4) for name in ("calibration_error", "nll")}
    return {"temperature": round(float(t), 4), "images": len(label[others]), **calibration}


def main(path: str, new: str) -> None:
    header = read_checkpoint(path)[HEADER]
    state = load_file(path)
    own, other = fitted(path, FERPlus()), fitted(path, FER2013())
    heads = {}
    for number, member in enumerate(header.get("members", [header])):
        prefix = f"members.{number}." if "members" in header else ""
        heads |= {f"{prefix}head.classify": own, f"{prefix}{member['views']['fer2013']['head']}": other}
    for head, found in heads.items():
        print(head, found)
        for end in ("weight", "bias"):
            state[f"{head}.{end}"] = state[f"{head}.{end}"].double() / found["temperature"]
    state = {name: x.half() if x.is_floating_point() else x for name, x in state.items()}
    header |= {"calibration": {"head.classify": own, "fer2013": other}, "sha256": digest(state)}
    with replacing(Path(new)) as temporary:
        save_file(state, temporary, {HEADER: json.dumps(header)})


if __name__ == "__main__":
    main(*sys.argv[1:])

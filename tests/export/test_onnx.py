"""Exported files under ONNX Runtime alone, against the network under torch."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from ferlightning import load, weights


def run(path: Path, *outputs: str, **inputs: np.ndarray) -> list[np.ndarray]:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(outputs, inputs)


def metadata(path: Path) -> dict:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return json.loads(session.get_modelmeta().custom_metadata_map["ferlightning"])


@torch.no_grad()
@pytest.mark.parametrize("n", [1, 5])
def test_the_shipped_file_gives_the_probabilities_of_the_network(n: int) -> None:
    path = weights.find_weights("ferl-small.onnx")
    pixels = np.random.default_rng(n).integers(0, 256, (n, 1, 48, 48), np.uint8)
    image = torch.from_numpy(pixels / np.float32(255))[:, None]
    eight, seven = run(path, "probabilities", "fer2013", image=pixels)
    for found, network in ((eight, load("ferl-small")), (seven, load("ferl-small", view="fer2013"))):
        np.testing.assert_allclose(found, network(image).logits.softmax(1).numpy(), atol=1e-5)


def test_the_shipped_file_says_how_to_use_it() -> None:
    path, network = weights.find_weights("ferl-small.onnx"), load("ferl-small")
    known = metadata(path)
    assert known["class_names"] == network.class_names
    assert known["views"] == {"fer2013": load("ferl-small", view="fer2013").class_names}
    assert known["input"] == network.input | {"clips": False}
    assert path.stat().st_size + weights.find_weights("ferl-small").stat().st_size < 4e6

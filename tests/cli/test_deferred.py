"""Lightning is imported without what it seldom needs, and all of that works when it is needed."""

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
from ferlightning.cli.deferred import import_lightning

import_lightning()
absent = {"torchvision", "scipy.signal", "scipy.optimize", "matplotlib"}
assert not absent & set(sys.modules), absent & set(sys.modules)

import torch
from torchmetrics.classification import MulticlassAccuracy
from torchmetrics.detection import IntersectionOverUnion
from torchmetrics.functional.audio import permutation_invariant_training, scale_invariant_signal_noise_ratio

box = {"boxes": torch.tensor([[0.0, 0, 2, 2]]), "labels": torch.tensor([1])}
half = {"boxes": torch.tensor([[0.0, 0, 2, 1]]), "labels": torch.tensor([1])}
assert IntersectionOverUnion()([box], [half])["iou"] == 0.5
accuracy = MulticlassAccuracy(3)
accuracy.update(torch.tensor([0, 1]), torch.tensor([0, 1]))
assert type(accuracy.plot()[0]).__name__ == "Figure"
speakers = torch.randn(1, 4, 50)  # of four, scipy assigns the voices
_, order = permutation_invariant_training(speakers, speakers.flip(1), scale_invariant_signal_noise_ratio)
assert order.tolist() == [[3, 2, 1, 0]]

import scipy.signal
import torchvision
from matplotlib import pyplot

arniqa = sys.modules["torchmetrics.functional.image.arniqa"]
assert scipy.signal.windows.hamming(3)[1] == 1
assert arniqa.resnet50.__name__ == torchvision.models.resnet50.__name__
assert arniqa.transforms.Normalize is torchvision.transforms.Normalize
assert pyplot is sys.modules["matplotlib.pyplot"]
"""


def test_what_is_deferred_is_there_when_it_is_used() -> None:
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_a_package_that_torchmetrics_finds_does_not_meet_a_stand_in(tmp_path: Path) -> None:
    """transformers derives classes of its own from SciPy's as it is imported, by way of scikit-learn."""
    there = tmp_path / "transformers"
    there.mkdir()
    (tmp_path / "transformers-5.0.0.dist-info").mkdir()
    (tmp_path / "transformers-5.0.0.dist-info" / "METADATA").write_text("Name: transformers\nVersion: 5.0.0\n")
    (there / "__init__.py").write_text(
        "from scipy.optimize import OptimizeResult\n\nclass AutoModel(OptimizeResult):\n    pass\n\n"
        "AutoTokenizer = AutoModel\n"
    )
    program = "from ferlightning.cli.deferred import import_lightning; import_lightning()"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr

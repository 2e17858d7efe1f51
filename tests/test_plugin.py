"""The example plug-in, installed for real, and what is said of a plug-in that does not fit."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[1] / "examples" / "plugin"
FEW_FACES = ["--data=SyntheticFaces", "--data.items_per_class=6", "--data.subjects=3"]


def install(source: Path, target: Path) -> None:
    """From the sources with the build backend at hand: no network, and this environment stays as it is."""
    # Copied, as building writes into the source tree of some backends.
    copy = target.with_name(f"{target.name}-source")
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__", "runs"))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    command += ["--no-deps", "--no-build-isolation", "--target", str(target), str(copy)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def ferl(words: Sequence[str], paths: Sequence[Path], folder: Path) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, with the given folders of packages before all others."""
    program = "from ferlightning.cli.main import main; main()"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, env=environment, cwd=folder
    )


def write_plugin(folder: Path, name: str, code: str) -> Path:
    """A plug-in of one module as it lies once installed, its entry point included."""
    folder.mkdir()
    (folder / f"{name}.py").write_text(code)
    metadata = folder / f"{name}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[ferlightning.plugins]\n{name} = {name}\n")
    return folder


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("plugin") / "site"
    install(EXAMPLE, target)
    return target


def test_parts_of_an_installed_plugin_are_listed(installed: Path, tmp_path: Path) -> None:
    result = ferl(["components"], [installed], tmp_path)
    assert result.returncode == 0, result.stderr
    rows = {line.split("│")[2].strip(): line for line in result.stdout.splitlines() if line.count("│") >= 4}
    for name, module in (("TinyNet", "backbones"), ("ConfidencePenalty", "losses"), ("GaussianBlur", "restorers")):
        assert f"ferl_example.{module}" in rows[name]
    assert "ferlightning.parts.backbones" in rows["ResNet"]


def test_without_the_plugin_its_parts_are_unknown(tmp_path: Path) -> None:
    result = ferl(["fit", "--trainer.fast_dev_run=1", "--model.backbone=TinyNet", *FEW_FACES], [], tmp_path)
    assert result.returncode == 2
    assert "TinyNet" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_backbone_of_a_plugin_trains_by_its_short_name(installed: Path, tmp_path: Path) -> None:
    words = ["fit", "--trainer.fast_dev_run", "1", "--model.backbone=TinyNet", "--model.backbone.channels=[4,8]"]
    result = ferl([*words, *FEW_FACES], [installed], tmp_path)
    assert result.returncode == 0, result.stderr
    assert "max_steps=1` reached" in result.stdout + result.stderr


def test_the_example_configuration_trains(installed: Path, tmp_path: Path) -> None:
    words = ["fit", "--config", str(EXAMPLE / "config.yaml"), "--trainer.fast_dev_run=1", *FEW_FACES]
    result = ferl(words, [installed], tmp_path)
    assert result.returncode == 0, result.stderr


def test_the_options_of_a_plugin_are_explained(installed: Path, tmp_path: Path) -> None:
    result = ferl(["fit", "--model.backbone.help=TinyNet"], [installed], tmp_path)
    assert result.returncode == 0, result.stderr
    assert "width of each stage; the last one is D" in result.stdout


def test_the_examples_own_tests_pass(installed: Path, tmp_path: Path) -> None:
    tests = EXAMPLE / "tests"
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tests)],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(installed)}, cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout


def test_a_name_that_is_taken_is_refused_with_both_classes_named(installed: Path, tmp_path: Path) -> None:
    """Before anything is configured, even for a run that uses neither: else the built-in name breaks for everyone."""
    code = "from ferl_example import TinyNet\n\n\nclass ResNet(TinyNet):\n    '''Not ours.'''\n"
    other = write_plugin(tmp_path / "other", "ferl_other", code)
    result = ferl(["fit", "--model.backbone=ConvStack"], [installed, other], tmp_path)
    assert result.returncode == 2
    assert "ferl_other.ResNet" in result.stderr
    assert "ferlightning.parts.backbones.ResNet" in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_renamed_copy_with_the_same_names_is_refused(installed: Path, tmp_path: Path) -> None:
    """What happens to someone who copies the example and renames the package alone."""
    source = tmp_path / "mine"
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("__pycache__"))
    (source / "ferl_example").rename(source / "ferl_mine")
    for file in [source / "pyproject.toml", *(source / "ferl_mine").glob("*.py")]:
        text = file.read_text().replace("ferl_example", "ferl_mine").replace("ferl-example", "ferl-mine")
        file.write_text(text)
    install(source, tmp_path / "site")
    result = ferl(["components"], [installed, tmp_path / "site"], tmp_path)
    assert result.returncode == 2
    assert "ferl_example." in result.stderr
    assert "ferl_mine." in result.stderr


@pytest.mark.parametrize(
    ("command", "code", "why"),
    [
        (["components"], "raise RuntimeError('no licence')", "RuntimeError: no licence"),
        (
            ["fit", *FEW_FACES],
            "import a_package_that_is_absent",
            "ModuleNotFoundError: No module named 'a_package_that_",
        ),
        (["components"], "def (", "SyntaxError"),
    ],
)
def test_a_plugin_that_cannot_be_imported_is_named(tmp_path: Path, command: list[str], code: str, why: str) -> None:
    broken = write_plugin(tmp_path / "broken", "ferl_broken", code)
    result = ferl(command, [broken], tmp_path)
    assert result.returncode == 2
    assert f"the plug-in 'ferl_broken' (ferl_broken) cannot be imported: {why}" in result.stderr
    assert "Traceback" not in result.stderr


def test_help_does_not_need_sound_plugins(tmp_path: Path) -> None:
    broken = write_plugin(tmp_path / "broken", "ferl_broken", "raise RuntimeError")
    assert ferl(["--help"], [broken], tmp_path).returncode == 0


def test_a_whole_model_of_a_plugin_is_accepted(tmp_path: Path) -> None:
    """A LightningModule takes from the data what its ``__init__`` names, and gets reports as ours does."""
    code = """
import torch
from lightning.pytorch import LightningModule

class Linear(LightningModule):
    def __init__(self, class_names: list[str], rate: float = 0.1) -> None:
        super().__init__()
        self.class_names, self.rate = class_names, rate
        self.layer = torch.nn.Linear(48 * 48, len(class_names))

    def forward(self, image, mask=None):
        return self.layer(image.flatten(1))

    def _step(self, batch):
        logits = self(batch["image"])
        loss = torch.nn.functional.cross_entropy(logits, batch["label"])
        self.log("val/accuracy", (logits.argmax(1) == batch["label"]).float().mean())
        return {"loss": loss, "logits": logits}

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.cross_entropy(self(batch["image"]), batch["label"])

    def validation_step(self, batch, batch_idx):
        return self._step(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), self.rate)
"""
    site = write_plugin(tmp_path / "site", "whole_model", code)
    words = ["fit", "--model=Linear", "--model.rate=0.01", *FEW_FACES, "--trainer.max_epochs=1"]
    result = ferl(words, [site], tmp_path)
    assert result.returncode == 0, result.stderr
    assert list(tmp_path.glob("runs/default/*/report_val/metrics.json"))

"""The example plug-in, really installed, and the answers to plug-ins that do not fit."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from ferlightning.cli.main import main

EXAMPLE = Path(__file__).parents[1] / "examples" / "plugin"
FEW_FACES = ["--data=SyntheticFaces", "--data.items_per_class=6", "--data.subjects=3"]


def install(source: Path, target: Path) -> None:
    """Install from the sources with the installed build backend: no network, and no change to this environment."""
    # Copied, because some build backends write into the source tree.
    copy = target.with_name(f"{target.name}-source")
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__", "runs"))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    command += ["--no-deps", "--no-build-isolation", "--target", str(target), str(copy)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def ferl(words: Sequence[str], paths: Sequence[Path], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, with the given folders of packages before all others."""
    program = "from ferlightning.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, env=_environment(paths), cwd=folder
    )


def _environment(paths: Sequence[Path]) -> dict[str, str]:
    before = [os.environ["PYTHONPATH"]] if "PYTHONPATH" in os.environ else []
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, paths), *before]), "COLUMNS": "200"}


def write_plugin(folder: Path, name: str, code: str) -> Path:
    """Write a plug-in of one module in its installed form, with its entry point."""
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


def test_what_a_plugin_prints_stays_out_of_json(tmp_path: Path) -> None:
    result = ferl(["components", "--json"], [write_plugin(tmp_path / "loud", "loud", "print('hello')")], tmp_path)
    assert json.loads(result.stdout) and "hello" in result.stderr


def test_without_the_plugin_its_parts_are_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main(["fit", "--trainer.fast_dev_run=1", "--model.backbone=TinyNet", *FEW_FACES])
    assert "there is no part called 'TinyNet'" in capsys.readouterr().err


def test_the_example_configuration_trains_and_a_word_changes_an_option(installed: Path, tmp_path: Path) -> None:
    words = ["fit", "--config", str(EXAMPLE / "config.yaml"), "--model.backbone.channels=[4,8]", *FEW_FACES]
    result = ferl([*words, "--trainer.fast_dev_run=1"], [installed], tmp_path)
    assert result.returncode == 0, result.stderr
    assert "max_steps=1` reached" in result.stdout + result.stderr


MINE = """import torch
from ferlightning.contracts import Backbone


class Mine(Backbone):
    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.conv, self.out_features = torch.nn.Conv2d(in_channels, 4, 3), 5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        {}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("forward", "said"),
    [
        ("raise SystemExit(0)", "ended the process with status 0"),
        ("return self.conv(x)", "as parts of its kind do, but Tensor of the shape (1, 4, 46, 46)"),
        (
            "return None",
            "Mine did not give a tensor of the shape (N, 5, H', W'), as parts of its kind do, but NoneType",
        ),
    ],
)
def test_a_part_that_misbehaves_is_told(forward: str, said: str, tmp_path: Path) -> None:
    other = write_plugin(tmp_path / "other", "ferl_mine", MINE.format(forward))
    result = ferl(["fit", "--model.backbone=Mine", "--trainer.max_epochs=1", *FEW_FACES], [other], tmp_path)
    assert result.returncode == 2 and said in result.stderr and "Traceback" not in result.stderr


def test_a_part_that_tells_no_width_is_named(tmp_path: Path) -> None:
    code = MINE.format("return self.conv(x)").replace("self.conv, self.out_features", "self.conv, self.width")
    other = write_plugin(tmp_path / "other", "ferl_mine", code)
    result = ferl(["fit", "--model.backbone=Mine", "--trainer.max_epochs=1", *FEW_FACES], [other], tmp_path)
    assert result.returncode == 2 and "Mine: out_features is None, expected how many features" in result.stderr


def test_the_examples_own_tests_pass(installed: Path, tmp_path: Path) -> None:
    tests = EXAMPLE / "tests"
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tests)],
        capture_output=True, text=True, env=_environment([installed]), cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout


def test_a_name_that_is_taken_is_refused_with_both_classes_named(installed: Path, tmp_path: Path) -> None:
    """Refused at once, even for a run that uses neither; otherwise the built-in name would break for everyone."""
    code = "from ferl_example import TinyNet\n\n\nclass ResNet(TinyNet):\n    '''Not ours.'''\n"
    other = write_plugin(tmp_path / "other", "ferl_other", code)
    result = ferl(["fit", "--model.backbone=ConvStack"], [installed, other], tmp_path)
    assert result.returncode == 2
    assert "ferl_other.ResNet" in result.stderr
    assert "ferlightning.parts.backbones.resnet.ResNet" in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("command", "code", "why"),
    [
        (["components"], "raise RuntimeError('no licence')", "RuntimeError: no licence"),
        (
            ["fit", *FEW_FACES],
            "import a_package_that_is_absent",
            "ModuleNotFoundError: No module named 'a_package_that_",
        ),
    ],
)
def test_a_plugin_that_cannot_be_imported_is_named_and_help_does_not_need_it(
    tmp_path: Path, command: list[str], code: str, why: str, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.syspath_prepend(str(write_plugin(tmp_path / "broken", "ferl_broken", code)))
    with pytest.raises(SystemExit, match="2"):
        main(command)
    said = capsys.readouterr().err
    assert f"the plug-in 'ferl_broken' (ferl_broken) cannot be imported: {why}" in said and "Traceback" not in said
    main(["--help"])


def test_a_whole_model_of_a_plugin_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """A LightningModule takes from the data what its ``__init__`` names, and gets reports like ours."""
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
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(write_plugin(tmp_path / "site", "whole_model", code)))
    main(["fit", "--model=Linear", "--model.rate=0.01", *FEW_FACES, "--trainer.max_epochs=1"])
    assert list(tmp_path.glob("runs/default/*/report_val/metrics.json"))
    with pytest.raises(SystemExit, match="2"):
        main(["predict", "runs/default/latest"])
    assert "ferl predict: Linear has no predict_step; give it one" in capsys.readouterr().err

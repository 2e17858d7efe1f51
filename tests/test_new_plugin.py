"""``ferl new plugin``: what it writes keeps the contracts and trains; and what checkpoints know of plug-ins."""

import os
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from string import Template

import pytest

from ferlightning.checkpoint import HEADER, read_checkpoint
from ferlightning.cli.main import main
from tests.conftest import NO_REPORT, SMALL, TINY
from tests.test_plugin import _environment, install, write_plugin

PARTS = ("backbone", "attention", "sequence", "head", "loss", "data", "restorer", "callback")
FAST = ("backbone", "data")
"""Those whose tests run each time; what is written for the others differs in the part alone."""


@pytest.mark.parametrize(
    "part", [part if part in FAST else pytest.param(part, marks=pytest.mark.slow) for part in PARTS]
)
def test_a_new_plugin_keeps_the_contract_and_trains(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"drawn_{part}"
    monkeypatch.chdir(tmp_path)
    main(["new", "plugin", name, f"--part={part}"])
    assert f"cd {name}" in capsys.readouterr().out
    monkeypatch.chdir(name)
    monkeypatch.syspath_prepend(str(Path.cwd()))
    monkeypatch.syspath_prepend(str(Path("tests").resolve()))
    tests = import_module(f"test_{name}")
    tests.test_it_keeps_the_contract(*([tmp_path] if part == "data" else []))
    if part == "data":
        tests.draw(Path("faces.npz"))
    main(
        [
            "fit",
            "--config=quickstart",
            "--config=config.yaml",
            "--trainer.fast_dev_run=1",
            *(TINY if part != "data" else []),
            *([] if part == "callback" else NO_REPORT),
        ]
    )
    if part != "callback":  # which the table does not have
        assert f"Drawn{part.capitalize()}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "expected"),
    {
        "here": "is there already",
        "import": "import means something else",
        "none": "None means something else",
        "backbone": "Backbone means something else",
        "resnet": "the part ResNet",
        "timm": "Timm",
        "torch": "torch",
        "Big": "'Big' is no name",
        "linear_head --part=head": "LinearHead",
    }.items(),
)
def test_a_name_that_will_not_do_is_refused(
    words: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("here").mkdir()
    with pytest.raises(SystemExit, match="2"):
        main(["new", "plugin", *words.split()])
    assert expected in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_in_the_middle_leaves_nothing(
    number: signal.Signals, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    monkeypatch.setattr(Template, "substitute", lambda *_: os.kill(os.getpid(), number))
    with pytest.raises(SystemExit, match=str(status)):
        main(["new", "plugin", "a_net"])
    signal.signal(signal.SIGINT, before)
    assert not [*tmp_path.iterdir()]


@pytest.mark.slow
def test_a_new_plugin_can_be_installed_and_its_tests_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    main(["new", "plugin", "drawn_net"])
    install(Path("drawn_net"), tmp_path / "site")
    for words in (["pytest", "-q", "drawn_net"], ["ferlightning", "components", "DrawnNet"]):
        done = subprocess.run(
            [sys.executable, "-m", *words], capture_output=True, text=True, env=_environment([tmp_path / "site"])
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert "--model.backbone.width: int = 32\n      D of the feature map." in done.stdout


def test_a_package_in_the_working_folder_needs_trust_and_is_said_to(tmp_path: Path) -> None:
    def ferl(*words: str, path: str = "") -> subprocess.CompletedProcess[str]:
        """In a process of its own, since classes of a part count as long as their process."""
        python = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH", ""), path]))
        env = os.environ | {
            "PYTHONPATH": python,
            "PYTHONSAFEPATH": "1",
        }  # `python -m` sees the working folder, `ferl` not
        command = [sys.executable, "-m", "ferlightning", *words]
        return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=env)

    folder = tmp_path
    assert not ferl("new", "plugin", "kept_net").returncode
    folder = tmp_path / "kept_net"
    fit = ferl("fit", *TINY, *NO_REPORT, "--config=config.yaml", "--trainer.max_epochs=1", path=str(folder))
    assert not fit.returncode, fit.stderr
    (run,) = (str(path) for path in folder.glob("runs/*/*") if not path.is_symlink())
    refused = ferl("test", run)
    assert refused.returncode == 2 and "--trust" in refused.stderr
    assert "names kept_net.KeptNet, which is no part of ferlightning" in refused.stderr
    done = ferl("export", run, "--trust", "net.onnx")
    assert not done.returncode, done.stderr
    assert (folder / "net.onnx").is_file()


CODE = """
from ferlightning.parts import ConvStack
class Borrowed(ConvStack):
    'Ours.'
    not_exported = "it is borrowed"
"""
NOTE = """
from lightning.pytorch import Callback
class Note(Callback):
    def on_train_end(self, trainer, model):
        print("noted")
"""


def test_a_checkpoint_names_the_plugin_that_it_needs_and_callbacks_of_ones_own_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    site = write_plugin(tmp_path / "site", "borrowed_part", CODE)
    Path("noted.py").write_text(NOTE)
    with monkeypatch.context() as installed:
        installed.syspath_prepend(str(site))
        part = [word.replace("ConvStack", "Borrowed") for word in SMALL]
        main(["fit", *TINY, *part, *NO_REPORT, "--trainer.callbacks+=noted.Note", "--trainer.max_epochs=1"])
        out = capsys.readouterr().out
        assert "noted" in out and "impossible. Borrowed: it is borrowed" in out
        with pytest.raises(SystemExit, match="2"):
            main(["export", "runs/default/latest"])
        assert "cannot be exported, but with --format=safetensors. Borrowed: it is" in capsys.readouterr().err
    last = Path("runs/default/latest/checkpoints/last.ckpt")
    assert read_checkpoint(last, "meta")[HEADER]["plugins"] == {"borrowed_part": "borrowed_part==1.0"}
    run = "runs/default/latest"
    for words in (["test", run], ["export", run], ["fit", *TINY, "--from", run]):
        with pytest.raises(SystemExit, match="2"):
            main(words)
        error = capsys.readouterr().err
        assert "needs the plug-in borrowed_part==1.0, which is not installed" in error and error.count("\n") == 1
        assert "pip install -e FOLDER" in error

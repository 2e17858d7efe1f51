"""What the command says of itself: short help, the options of a part, completions; none of it needs an extra."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ferlightning.cli.main import COMMANDS, main
from ferlightning.parts import ResNet

EXTRAS = ["optuna", "pandas", "pydantic", "scikit_posthocs", "onnx", "onnxscript", "ray", "wandb", "pyarrow", "shtab"]


def shown(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    main(words)
    return capsys.readouterr().out


def test_the_help_of_a_trainers_command_is_short(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("fit", "validate", "test", "predict"):
        text = shown([command, "--help"], capsys)
        assert len(text.splitlines()) < 20 and f"ferl {command} --help all" in text
    text = shown(["fit", "--data=FER2013", "--help"], capsys)
    for option in re.findall(r"--[\w.]+", text):
        assert option.removeprefix("--").split(".")[0] in (
            "config", "from", "model", "data", "trainer", "test_after_fit", "name", "ckpt_path", "open", "quiet",
            "trust", "print_config", "help",
        )  # fmt: skip


def test_the_help_of_a_part_and_its_component_tell_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["fit", "--help", "ResNet"], ["components", "ResNet"]):
        text = shown(words, capsys)
        for name in ResNet.__init__.__annotations__:
            filled = name in ("in_channels", "return")
            assert (f"--model.backbone.{name}:" in text) is not filled
        assert "https://arxiv.org/abs/1512.03385" in text and "width of each stage" in text
    (found,) = json.loads(shown(["components", "ImageFolder", "--json"], capsys))
    told = {argument["name"]: argument["doc"] for argument in found["arguments"]}
    assert "pixels" in told["size"] and "batch" in told["batch_size"], "options of bases, too"
    every = json.loads(shown(["components", "--json"], capsys))
    assert {"name": "FocalLoss", "slot": "loss"}.items() <= next(x for x in every if x["name"] == "FocalLoss").items()
    for words in (["components", "ResNte"], ["fit", "--help", "ResNte"]):
        with pytest.raises(SystemExit, match="2"):
            main(words)
        assert "ResNet" in capsys.readouterr().err


@pytest.mark.slow
def test_help_needs_no_extra(tmp_path: Path) -> None:
    program = f"""
import importlib.machinery, sys
find = importlib.machinery.PathFinder.find_spec
hidden = {EXTRAS!r}
importlib.machinery.PathFinder.find_spec = classmethod(
    lambda cls, name, path=None, target=None: None if name.split(".")[0] in hidden else find(name, path, target))
from ferlightning.cli.main import main
for words in {[[name] for name in COMMANDS if name != "completion"] + [["bench", "run"], ["data", "align"]]!r}:
    try:
        main([*words, "--help"])
    except SystemExit as end:
        assert not end.code, words
main(["fit", "--help", "all"])
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--trainer.max_epochs" in done.stdout, "the whole help of fit is the last"


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not here")
@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["fit", "--model.backbone", "=", "Res"], ["ResNet"]),
        (["fit", "--config", "=", "quickstart", "--model.backbone", "Res"], ["ResNet"]),
        (["recognize", "--anonymize", "="], ["box", "blur", "pixelate"]),
        (["recognize", "--detector-"], ["--detector-path"]),
        (["export", "RUN", "--format", "=", "s"], ["safetensors"]),
        (["data", "audit", "--data", "RAF"], ["RAFDB"]),
        (["data", "align", "--up"], ["--upright"]),
        (["compare", "RUN1", "RUN2", "--sh"], ["--shown"]),
        (["bench", "run", "robust"], ["robustness"]),
        (["new", "plugin", "mine", "--part", "atten"], ["attention"]),
    ],
    ids=" ".join,
)
def test_bash_completes_the_values_of_options(
    typed: list[str], expected: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Words as bash splits them, which is at = too."""
    (tmp_path / "script").write_text(shown(["completion", "bash"], capsys))
    asked = f"COMP_WORDS=(ferl {' '.join(typed)}); COMP_CWORD={len(typed)}"
    call = "$(complete -p ferl | sed 's/.*-F //')"
    program = f'. ./script; {asked}; {call}; printf "%s\\n" "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split() == expected


def test_a_shell_completes_options_and_parts(capsys: pytest.CaptureFixture[str]) -> None:
    script = shown(["completion", "bash"], capsys)
    for word in ("--model.backbone", "ResNet", "quickstart", "--data.items_per_class", "components", "inspect"):
        assert word in script
    with pytest.raises(SystemExit, match="2"):
        main(["completion", "fsh"])
    assert "bash" in capsys.readouterr().err

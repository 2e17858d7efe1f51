"""Configurations by short name, from a clone and from an installed wheel."""

import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from ferlightning.cli import configs
from ferlightning.cli.configs import CONFIGS, SUITES, SWEEPS, expand, find
from ferlightning.errors import FerlError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("name", "folder", "path"),
    [
        ("quickstart", CONFIGS, "configs/quickstart.yaml"),
        ("models/cnn", CONFIGS, "configs/models/cnn.yaml"),
        ("models/cnn.yaml", CONFIGS, "configs/models/cnn.yaml"),
        ("configs/models/cnn.yaml", CONFIGS, "configs/models/cnn.yaml"),
        ("smoke", SUITES, "benchmarks/suites/smoke.yaml"),
        ("p4_random", SWEEPS, "configs/sweeps/p4_random.yaml"),
        ("configs/sweeps/p4_random.yaml", SWEEPS, "configs/sweeps/p4_random.yaml"),
    ],
)
def test_a_short_name_is_one_of_our_files(name: str, folder: str, path: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Path(find(name, folder, "file")).samefile(ROOT / path)


def test_a_file_of_the_working_folder_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("quickstart").write_text("trainer: {}\n")
    Path("configs").mkdir()
    Path("configs/quickstart.yaml").write_text("trainer: {}\n")
    words = ["fit", "--config=quickstart", "--config", "configs/quickstart.yaml", "-c", "models/cnn", "--data=Mine"]
    expanded = expand(words)
    assert expanded[:4] == words[:4]
    assert Path(expanded[5]).samefile(ROOT / "configs/models/cnn.yaml")
    assert expanded[6] == "--data=Mine"


@pytest.mark.parametrize(("name", "close"), [("quickstrat", "quickstart"), ("cnn", "models/cnn"), ("zzz", "Ours are")])
def test_a_wrong_name_is_answered_with_the_close_ones(name: str, close: str) -> None:
    with pytest.raises(FerlError, match=close):
        find(name, CONFIGS, "--config")


def ferl(words: list[str], package: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(package)}
    command = [sys.executable, "-m", "ferlightning", *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)


@pytest.mark.slow
def test_what_help_says_to_try_works_from_a_wheel_in_an_empty_folder(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*build, "--wheel-dir", str(tmp_path), str(ROOT)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    package, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    with ZipFile(wheel) as archive:
        archive.extractall(package)
    for folder in (CONFIGS, SUITES):  # all of them, at the end of the path where the package looks
        ours = configs.shipped(folder)
        inside = package / "ferlightning" / folder.removeprefix("benchmarks/")
        assert {path.relative_to(inside).with_suffix("").as_posix() for path in inside.rglob("*.yaml")} == set(ours)

    shown = ferl(["--help"], package, empty).stdout
    words = shown[shown.index("Try: ferl ") :].split()[2:]
    faces = ["--data.items_per_class=6", "--data.subjects=3", "--trainer.max_epochs=1"]
    result = ferl([*words, *faces], package, empty)
    assert result.returncode == 0, result.stderr
    assert list(empty.glob("runs/quickstart/*/report/metrics.json"))
    cells = ["--only=none of them"]
    result = ferl(["bench", "run", "smoke", *cells], package, empty)
    assert result.returncode == 2 and "smoke.yaml: no cell is called 'none of them'" in result.stderr

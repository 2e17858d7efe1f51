"""What is released: one version, and a wheel and an sdist that have what they need and nothing else."""

import subprocess
import sys
import tarfile
from email import message_from_string
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml

import ferlightning

ROOT = Path(__file__).parent.parent
NEEDED = {
    "ferlightning/py.typed", "ferlightning/configs/quickstart.yaml", "ferlightning/suites/smoke.yaml",
    "ferlightning/weights/ferl-small.safetensors", "ferlightning/weights/ferl-small.onnx",
    "ferlightning/cli/defaults.yaml", "ferlightning/evaluation/report.html.j2",
}  # fmt: skip
"""Files of the wheel that are no modules."""


def test_the_version_to_cite_is_that_of_the_package() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert cited["version"] == ferlightning.__version__
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.stem
)
def test_issue_templates_are_sound(path: Path) -> None:
    form = yaml.safe_load(path.read_text("utf-8"))
    if path.stem != "config":
        assert (
            form["name"] and form["description"] and all(part["type"] and part["attributes"] for part in form["body"])
        )


@pytest.mark.slow
def test_wheel_and_sdist_have_what_they_need(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(tmp_path)], cwd=ROOT, check=True, capture_output=True
    )
    (wheel,), (sdist,) = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")
    with ZipFile(wheel) as file:
        names = set(file.namelist())
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        known = message_from_string(file.read(metadata).decode())
    assert known["Version"] == ferlightning.__version__
    assert names >= NEEDED
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "ferlightning").rglob("*.py")}
    assert modules <= names
    other = {name.split("/")[0] for name in names}
    assert other == {"ferlightning", metadata.split("/")[0]}, "the wheel has what would lie beside the package"
    assert wheel.stat().st_size < 8e6 and sdist.stat().st_size < 12e6
    with tarfile.open(sdist) as file:
        packed = {name.partition("/")[2] for name in file.getnames()}
    assert {"README.md", "LICENSE", "CHANGELOG.md", "tests/conftest.py", "configs/quickstart.yaml"} <= packed
    assert not [name for name in packed if name.startswith(("weights/", "benchmarks/results/", ".ci", "runs/"))]
    if find_spec("twine"):
        subprocess.run([sys.executable, "-m", "twine", "check", "--strict", str(wheel), str(sdist)], check=True)

"""The examples run on drawn faces."""

import re
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from ferlightning import SyntheticFaces
from ferlightning.cli.check import check
from ferlightning.cli.configs import expand

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each of two classes."""
    folder = tmp_path_factory.mktemp("drawn") / "FACES"
    drawn = SyntheticFaces(items_per_class=20, classes=["happiness", "sadness"]).raw
    for i, (image, label) in enumerate(zip(drawn.images, drawn.label, strict=True)):
        path = folder / ("happy", "sad")[label] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image)
    return folder


def run(here: Path, name: str, *words: str) -> str:
    command = [sys.executable, str(EXAMPLES / name), *words]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_scripts_run(faces: Path, tmp_path: Path) -> None:
    face, other = (str(next((faces / name).iterdir())) for name in ("happy", "sad"))
    assert re.search(r"accuracy [01]\S* \(.* images", run(tmp_path, "train_on_folder.py", str(faces), "1"))
    assert "different classes on" in run(tmp_path, "compare_attentions.py", str(faces), "1")
    assert (tmp_path / "differences.csv").exists()
    run(tmp_path, "explain.py", face, "runs/my_faces/latest")
    assert (tmp_path / "explained.png").stat().st_size > 1000
    assert (
        len(
            re.findall(
                r"png: (happy|sad|happiness|sadness), \d+%",
                run(tmp_path, "export_and_run.py", "runs/my_faces/latest", face, other),
            )
        )
        == 2
    )


def test_the_job_of_slurm_has_a_command_that_parses() -> None:
    text = (EXAMPLES / "train.sbatch").read_text("utf-8").replace("\\\n", " ")
    subprocess.run(["bash", "-n", str(EXAMPLES / "train.sbatch")], check=True)
    (line,) = re.findall(r"^srun ferl (.*?)( \"\$@\")$", text, re.MULTILINE)
    words = re.sub(r'"\$SLURM_\w+"', "2", line[0]).split()
    check(expand(words))

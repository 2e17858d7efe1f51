"""Every command in the README does what it says, on small drawn data; tests/test_docs.py runs its Python."""

import os
import shlex
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from ferlightning.cli.main import main
from tests.conftest import SMALL, TINY
from tests.data.ckplus_layouts import write_ck48
from tests.data.fer2013_layouts import draw, write_csv, write_votes
from tests.test_docs import ROOT, commands

README = ROOT / "README.md"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with what the README's commands name: data, photographs, and two runs for seven classes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FERL_DATA", str(tmp_path / "data"))
    for folder in ("data", "data/fer2013"):
        Path(folder).mkdir(exist_ok=True)
        write_csv(Path(folder), draw())
        write_votes(Path(folder), draw())
    write_ck48(Path("ck"))
    write_ck48(Path("data"))
    Path("MORE_FACES").mkdir()
    for i in range(14):
        path = Path("FACES", ("smile", "frown")[i % 2], f"{i}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.random.default_rng(9 + i).integers(0, 256, (60, 60), dtype=np.uint8))
    for i in range(2):
        cv2.imwrite(f"MORE_FACES/{i}.png", np.random.default_rng(i).integers(0, 256, (60, 60), dtype=np.uint8))
    shutil.copytree("MORE_FACES", "PICTURES")
    shutil.copy("PICTURES/0.png", "photo.jpg")
    film = cv2.VideoWriter("film.mp4", cv2.VideoWriter.fourcc(*"mp4v"), 30, (64, 64))
    for _ in range(3):
        film.write(np.zeros((64, 64, 3), np.uint8))
    film.release()
    for run in ("RUN", "RUN1", "RUN2"):
        main(["fit", "--data=FER2013", *SMALL, "--trainer.max_epochs=1", f"--trainer.default_root_dir={run}"])
    return tmp_path


@pytest.mark.slow
def test_every_command_works(home: Path) -> None:
    found = commands(README, in_text=False)
    assert len(found) > 15
    for command in found:
        words = shlex.split(command.replace("runs/fer2013_cnn_bilstm/latest", "RUN").replace("~", os.environ["HOME"]))
        if words[1] == "fit":
            drawn = "quickstart" in words
            once = "max_epochs" if "FACES" in words else "fast_dev_run"  # that run is tested
            words += [f"--trainer.{once}=1", *(TINY if drawn else ["--data.batch_size=4"])]
            if {"data/ferplus", "strong/small"} & {*words}:
                words.append("--data.classes=[anger,happy,neutral]")  # contempt is not drawn
        if words[1] == "bench" and words[2] == "run":
            words += ["--only=CNN-BiLSTM/*/seed-1"]
        if words[1] == "sweep":
            continue  # tests/sweep runs these
        try:
            main(words[1:])
        except SystemExit as stop:
            pytest.fail(f"{command}: exit status {stop.code}") if stop.code else None

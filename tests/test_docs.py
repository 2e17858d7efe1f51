"""The README and the pages of docs/: commands parse, links lead somewhere, Python runs, tables show the results."""

import ast
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from runpy import run_path
from types import ModuleType

import cv2
import numpy as np
import pytest
import yaml

from benchmarks.doc_tables import PAGES, filled
from ferlightning.bench.compare import print_comparison
from ferlightning.bench.report import report
from ferlightning.bench.runner import run
from ferlightning.cli import main as cli
from ferlightning.cli.check import check
from ferlightning.cli.commands import show_components
from ferlightning.cli.configs import SUITES, SWEEPS, expand, find
from ferlightning.cli.new import plugin
from ferlightning.cli.recognize import parser as recognize_parser
from ferlightning.cli.run_folder import go_on
from ferlightning.cli.short import spell_out
from ferlightning.data.commands import audit, inspect, verify
from ferlightning.deploy.align import align
from ferlightning.export.commands import export
from ferlightning.sweep.commands import sweep

ROOT = Path(__file__).parent.parent
DOCS = sorted((ROOT / "docs").glob("*.md"))
WRITTEN = [ROOT / "README.md", *DOCS]
OWN = {"data.md", "browser.md", "python.md"}  # their Python needs more than is drawn here, and has tests of its own
FUNCTIONS = {
    "data inspect": inspect, "data audit": audit, "data verify": verify, "data align": align, "bench run": run,
    "bench report": report, "sweep": sweep, "export": export, "components": show_components,
    "new plugin": plugin, "compare": print_comparison,
}  # fmt: skip


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text("utf-8"), re.DOTALL)


def commands(page: Path, in_text: bool = True) -> list[str]:
    """Commands in shell blocks and in the text, those that go on joined, without comments and what is set before."""
    lines = "".join(blocks(page, "bash") + blocks(page, "sh")).replace("\\\n", " ").splitlines()
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    if in_text:
        lines += [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", text) if not re.search("…|NAME", code)]
    lines = [line for line in lines if len(line.split()) > 2]  # not the mere name of a command
    found = [re.sub(r"\s#.*|\s&$", "", line).strip() for line in lines]
    return [
        re.sub(r"^([A-Z_]+=\S+ |srun )+", "", line) for line in found if re.match(r"([A-Z_]+=\S+ |srun )*ferl ", line)
    ]


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with what the commands name: faces, photographs, runs and data sets, as empty as can be."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("smile", "frown"):
        for i in range(3):
            path = tmp_path / "FACES" / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.full((8, 8), 40 * i + 9 * len(name), np.uint8))
    shutil.copytree("FACES/smile", "MORE_FACES")
    for name in ("RUN", "runs/FACES/latest", "RUN1", "RUN2"):
        Path(name, "checkpoints").mkdir(parents=True)
        for file in ("best", "last"):
            Path(name, "checkpoints", f"{file}.ckpt").touch()
    for name in ("photo.jpg", "film.mp4", "CHECKPOINT", "labels.csv"):
        Path(name).touch()
    for name in ("config.yaml", "half.yaml"):
        Path(name).write_text("trainer: { max_epochs: 1 }")
    for name in ("ck", "DATA", "data/fer2013", "PICTURES"):
        Path(name).mkdir(parents=True)
    yield tmp_path


def parse(command: str, here: Path) -> None:
    """Go as far with a command as can be gone without doing anything."""
    words = shlex.split(command.replace("<time>", "latest").replace("~/", f"{here}/"))[1:]
    name, *rest = words
    if name in cli.TRAINER_COMMANDS:
        if not {"--help", "-h"} & {*rest}:
            shutil.copytree("RUN", "runs/fer2013_cnn_bilstm/latest", dirs_exist_ok=True)
            for place in re.findall(r" --data\.(?:root|images)=(\S+)", command.replace("~/", f"{here}/")):
                path = Path(place)
                (path.parent if path.suffix else path).mkdir(parents=True, exist_ok=True)
                path.touch()
            spelled = spell_out(expand(words))
            check(go_on(spelled.words) or spelled.words, spelled.start is not None)
    elif name == "recognize":
        recognize_parser().parse_args(rest)
    elif name not in ("completion", "--version", "--help"):
        known = next((key for key in FUNCTIONS if f"{' '.join(words)} ".startswith(f"{key} ")), None)
        assert known, f"there is no such command: {command}"
        taken = signature(FUNCTIONS[known]).parameters
        for option in re.findall(r" --([\w-]+)", command):
            assert option.replace("-", "_") in taken, f"--{option} of {command}"
        if known in ("bench run", "sweep") and len(words) > len(known.split()):
            find(words[len(known.split())], SUITES if known == "bench run" else SWEEPS, known)


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.stem)
def test_commands_parse(page: Path, places: Path) -> None:
    for command in commands(page):
        try:
            parse(command, places)
        except (Exception, SystemExit) as error:
            pytest.fail(f"{page.name}: {command}: {error}")


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.stem)
def test_blocks_are_sound(page: Path) -> None:
    for code in blocks(page, "python"):
        ast.parse(code)
    for text in blocks(page, "yaml"):
        yaml.safe_load(text)


def anchors(page: Path) -> set[str]:
    """What headings are called in links, as GitHub and the site make it."""
    heads = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", [*WRITTEN, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"], ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`]*`", "", page.read_text("utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://|mailto:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors(target), f"{page.name}: there is no heading {link}"


def test_every_page_is_in_the_site() -> None:
    pages = " ".join(run_path(str(ROOT / "docs" / "conf.py"))["PAGES"].values()).split()
    assert sorted(["index", *pages]) == [page.stem for page in DOCS]


def test_the_tables_of_claims_are_made_of_the_results() -> None:
    for page in PAGES:
        text = page.read_text("utf-8")
        assert filled(text) == text, f"{page.name}: run python benchmarks/doc_tables.py"


def test_pictures_are_small() -> None:
    pictures = [*(ROOT / "docs" / "images").iterdir()]
    assert pictures and all(path.stat().st_size < 150_000 for path in pictures)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in WRITTEN if page.name not in OWN], ids=lambda page: page.stem)
def test_python_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    image = np.random.default_rng(0).integers(0, 256, (60, 60), dtype=np.uint8)
    cv2.imwrite("photo.jpg", image)
    film = cv2.VideoWriter("film.mp4", cv2.VideoWriter.fourcc(*"mp4v"), 30, (64, 64))
    for _ in range(3):
        film.write(np.zeros((64, 64, 3), np.uint8))
    film.release()
    module = ModuleType(page.stem)
    monkeypatch.setitem(sys.modules, page.stem, module)  # so that its classes can be pickled
    for code in blocks(page, "python"):
        exec(code, vars(module))  # the point of this test


@pytest.mark.slow
@pytest.mark.skipif(find_spec("sphinx") is None, reason="the site needs pip install -e '.[docs]'")
def test_the_site_builds_without_warnings_and_asks_for_nothing_from_outside(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet", str(ROOT / "docs")]
    built = subprocess.run([*words, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0 and not built.stderr, built.stderr
    assert 'id="ferlightning.api.fit"' in (tmp_path / "reference.html").read_text("utf-8")
    for page in tmp_path.rglob("*.html"):
        loaded = re.findall(
            r'<(?:script|img|iframe)[^>]*\ssrc="(https?:[^"]*)|<link[^>]*\shref="(https?:[^"]*)',
            page.read_text("utf-8"),
        )
        assert not loaded, f"{page.name}: {loaded}"

"""The folder that ``ferl export --format web`` writes; tests/export/test_web_browser.py looks at it in a browser."""

import base64
import hashlib
import io
import json
import re
import sys
import tarfile
from pathlib import Path
from typing import Any

import onnx
import pytest

from ferlightning.cli.main import main
from ferlightning.errors import FerlError
from ferlightning.export import web
from ferlightning.export.commands import export
from ferlightning.weights import find_weights

RUNTIME = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    """What stands for the npm package."""
    for name in RUNTIME:
        (tmp_path / "package/dist").mkdir(parents=True, exist_ok=True)
        (tmp_path / "package/dist" / name).write_text(name)
    return tmp_path / "package"


def test_the_folder_has_all_that_the_page_asks_for(
    tmp_path: Path, runtime: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page"
    main(["export", "ferl-small", str(page), "--format=web", "--detector=none", "--ort-dir", str(runtime)])
    assert f"python -m http.server --bind 127.0.0.1 --directory {page}" in capsys.readouterr().out
    there = {path.name for path in page.iterdir()}
    known = json.loads((page / "model.json").read_text())
    assert sorted(there) == known["files"] and known["name"] == "ferl-small"
    assert (page / "model.onnx").read_bytes() == find_weights("ferl-small.onnx").read_bytes()
    assert known["class_names"][1] == "happiness" and known["input"]["size"] == [48, 48]
    assert known["constants"]["SMOOTHED"] == 0.3 and known["detector"]["crop"] == 1
    html = (page / "index.html").read_text()
    policy = re.search('http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    assert policy and "default-src 'self'; script-src 'self' 'wasm-unsafe-eval';" in policy[1]
    assert "unsafe-inline" not in policy[1] and "http" not in policy[1]
    assert not re.search(r"<script(?![^>]* src=)|<style|\son\w+=|\sstyle=", html)
    ours = [path for path in page.iterdir() if path.suffix in (".js", ".html", ".css", ".webmanifest")]
    asked = {
        name for path in ours for name in re.findall(r'(?:from|src=|href=|import\()\s*"([\w./-]+)"', path.read_text())
    }
    assert len(asked) > 8 and {name.removeprefix("./") for name in asked} <= there
    for path in ours:
        assert not re.search(r"https?://(?!localhost)", path.read_text()), path
    kept = json.loads(re.search(r"FILES = (.*);", (page / "sw.js").read_text())[1])
    assert set(kept) == there - {"sw.js"} | {"./"}
    own = sum(path.stat().st_size for path in page.iterdir() if path.name not in RUNTIME)
    assert own + 14_313_000 + 230_000 < 17e6  # with the real runtime and YuNet
    assert "Copyright (c) Microsoft" in (page / "licences.txt").read_text()


def test_only_a_page_of_ours_is_replaced(tmp_path: Path, runtime: Path) -> None:
    page = tmp_path / "page"

    def write() -> None:
        export("ferl-small", str(page), "web", detector="none", ort_dir=str(runtime))

    write()
    assert "http.server" in (tmp_path / "page.md").read_text()
    before = (page / "sw.js").read_text()
    (runtime / "dist" / RUNTIME[0]).write_text("newer")
    write()
    assert (page / RUNTIME[0]).read_text() == "newer" and (page / "sw.js").read_text() != before
    (page / "notes.txt").write_text("mine")
    with pytest.raises(FerlError, match=r"other files \(notes.txt\): give the name of a new folder"):
        write()
    for name in ("empty", "full"):
        page = tmp_path / name
        page.mkdir()
        (page / "a").touch() if name == "full" else None
        with pytest.raises(FerlError, match="is not a page that `ferl export` wrote"):
            write()
        assert [path.name for path in page.iterdir()] == ["a"] * (name == "full")


def test_what_is_missing_or_cannot_be_done_is_said_and_leaves_nothing(
    tmp_path: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def message(model: str = "ferl-small", **options: Any) -> str:
        with pytest.raises(FerlError) as raised:
            export(model, str(tmp_path / "page"), "web", **{"detector": "none", "ort_dir": str(runtime)} | options)
        assert not (tmp_path / "page").exists()
        return str(raised.value)

    assert "there is no model none.onnx" in message("none.onnx")
    assert "yunet.onnx is not YuNet" in message(detector="yunet", detector_path=str(foreign(tmp_path / "yunet.onnx")))
    assert f"no file {tmp_path}/no.onnx" in message(detector="yunet", detector_path=f"{tmp_path}/no.onnx")
    assert "only yunet takes a file, not none" in message(detector_path=f"{tmp_path}/yunet.onnx")
    monkeypatch.setenv("FERL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FERL_WEIGHTS", "file:///nowhere")
    assert "; or give it by --detector-path=FILE" in message(detector="yunet")
    assert "foreign.onnx does not tell its classes" in message(str(foreign(tmp_path / "foreign.onnx")))
    assert "prepared by MedianFilter, which the page cannot do" in message(str(prepared(tmp_path / "prepared.onnx")))
    assert "mine.onnx is exported already: clips, mirror" in message(str(tmp_path / "mine.onnx"), mirror=True)
    (runtime / "dist" / RUNTIME[1]).unlink()
    assert f"{RUNTIME[1]} cannot be read: give the folder of the npm package onnxruntime-web@" in message()
    monkeypatch.setenv("PATH", "")
    assert "there is no npm here to fetch it. Unpack the npm package" in message(ort_dir="")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".lock"]
    with pytest.raises(SystemExit):
        main(["export", str(tmp_path / "foreign.onnx"), str(tmp_path / "page"), "--int8"])
    assert "foreign.onnx is an export already: give the run" in capsys.readouterr().err
    with pytest.raises(FerlError, match="detector: it changes nothing but a page, --format=web"):
        export("ferl-small", str(tmp_path / "page"), detector="none", ort_dir=str(runtime))


def prepared(path: Path) -> Path:
    """A model whose images OpenCV prepares."""
    model = onnx.load(find_weights("ferl-small.onnx"))
    known = json.loads(model.metadata_props[0].value)
    known["input"]["preprocess"] = [{"class_path": "ferlightning.images.MedianFilter"}]
    model.metadata_props[0].value = json.dumps(known)
    onnx.save(model, path)
    return path


def foreign(path: Path) -> Path:
    """An ONNX file of somebody else."""
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "g", [value], [
        onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    ])  # fmt: skip
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@pytest.mark.skipif(sys.platform == "win32", reason="npm is a shell script here")
def test_npm_is_asked_once_and_another_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = io.BytesIO()
    with tarfile.open(fileobj=package, mode="w:gz") as archive:
        for name in RUNTIME:
            entry = tarfile.TarInfo(f"package/dist/{name}")
            entry.size = len(name)
            archive.addfile(entry, io.BytesIO(name.encode()))
    (tmp_path / "package.tgz").write_bytes(package.getvalue())
    npm = tmp_path / "bin/npm"
    npm.parent.mkdir()
    npm.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\ncp {tmp_path}/package.tgz .\n')
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{npm.parent}:/usr/bin:/bin")
    monkeypatch.setenv("FERL_CACHE", str(tmp_path / "cache"))
    with pytest.raises(FerlError, match="its SHA-512 differs"):
        export("ferl-small", str(tmp_path / "page"), "web", detector="none")
    assert not (tmp_path / "page").exists() and not any((tmp_path / "cache").glob("*"))
    monkeypatch.setattr(web, "INTEGRITY", base64.b64encode(hashlib.sha512(package.getvalue()).digest()).decode())
    for _ in range(2):
        export("ferl-small", str(tmp_path / "page"), "web", detector="none")
    assert (tmp_path / "page" / RUNTIME[1]).read_text() == RUNTIME[1]
    assert (tmp_path / "asked").read_text().split() == ["pack", web.RUNTIME] * 2  # once in vain


@pytest.mark.slow
def test_a_checkpoint_becomes_a_page_too(tmp_path: Path, runtime: Path) -> None:
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(find_weights("ferl-small").read_bytes())
    export(str(mine), None, "web", detector="none", ort_dir=str(runtime))
    known = json.loads((tmp_path / "mine.web" / "model.json").read_text())
    assert known["name"] == "mine" and known["views"]["fer2013"][0] == "anger"
    assert (tmp_path / "mine.web" / "model.onnx").stat().st_size > 1e6

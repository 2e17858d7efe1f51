"""Shipped weights by name: those in the package and their accuracy on real faces, and how others are found."""

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from ferlightning import FerlError, load, weights
from tests.conftest import NO_REPORT
from tests.data.fer2013_layouts import draw, write_csv, write_votes
from tests.test_ddp import ferl as new_process

REAL = Path(os.environ["FERL_REAL_DATA"]) if "FERL_REAL_DATA" in os.environ else None


def test_the_small_network_has_the_classes_of_both_label_sets() -> None:
    network, view = load("ferl-small"), load("ferl-small", view="fer2013")
    assert sorted(network.class_names) == sorted([*view.class_names, "contempt"])
    images = torch.rand(2, 1, 1, 48, 48)
    assert network(images).logits.shape == (2, 8) and view(images).logits.shape == (2, 7)
    assert Path(weights.__file__).with_name("ferl-small.safetensors").stat().st_size < 2 << 20


@pytest.mark.slow
@pytest.mark.skipif(REAL is None, reason="needs FERL_REAL_DATA")
@pytest.mark.parametrize(("data", "least"), [("FER2013", 0.675), ("FERPlus", 0.865)])
def test_the_small_network_reaches_its_accuracy_on_public_test(data: str, least: float, tmp_path: Path) -> None:
    """Without the copies of training images; the whole way, as a user tests it."""
    assert REAL is not None
    root = tmp_path / "data"
    layouts = ["--layout", "fer2013-csv", "--layout", "ferplus-csv"]
    subprocess.run([sys.executable, str(REAL / "export.py"), *layouts, str(root)], check=True)
    new_process(
        "test", "--ckpt_path=ferl-small", f"--data={data}", f"--data.root={root}",
        f"--trainer.default_root_dir={tmp_path}/r",
    )  # fmt: skip
    report = json.loads((tmp_path / "r/report/metrics.json").read_text())
    assert report["deduplicated"]["metrics"]["accuracy"]["value"] >= least


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[str, bytes]:
    """A listed file that is not in the package, and its bytes."""
    content = np.random.default_rng(0).bytes(100)
    entry = weights.Weights("other.safetensors", f"{tmp_path.as_uri()}/server/other.safetensors", _sha(content))
    monkeypatch.setitem(weights.REGISTRY, "other", entry)
    monkeypatch.setenv("FERL_CACHE", str(tmp_path / "cache"))
    return "other", content


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _put(folder: Path, content: bytes) -> None:
    folder.mkdir()
    (folder / "other.safetensors").write_bytes(content)


def test_weights_are_fetched_once(listed: tuple[str, bytes], tmp_path: Path) -> None:
    name, content = listed
    _put(tmp_path / "server", content)
    found = weights.find_weights(name)
    assert found.read_bytes() == content and found.parent == tmp_path / "cache/weights"
    (tmp_path / "server/other.safetensors").unlink()
    assert weights.find_weights(name) == found and [*found.parent.iterdir()] == [found]


@pytest.mark.parametrize("url", [False, True], ids=["folder", "mirror"])
def test_weights_are_taken_from_a_folder_or_mirror(
    url: bool, listed: tuple[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, content = listed
    _put(tmp_path / "mine", content)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FERL_WEIGHTS", (tmp_path / "mine").as_uri() if url else "~/mine")
    assert weights.find_weights(name).read_bytes() == content


def test_another_file_or_none_is_refused(
    listed: tuple[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, _ = listed
    with pytest.raises(FerlError, match=r"other: cannot fetch file://.*/server/other.safetensors.*FERL_WEIGHTS"):
        weights.find_weights(name)
    monkeypatch.setenv("FERL_WEIGHTS", str(tmp_path / "mine"))
    with pytest.raises(FerlError, match=f"folder that FERL_WEIGHTS names, which now is {tmp_path}/mine, without it"):
        weights.find_weights(name)
    _put(tmp_path / "mine", b"something else")
    with pytest.raises(FerlError, match="mine/other.safetensors is not the file that it should be"):
        weights.find_weights(name)


def test_a_misspelt_name_is_answered_with_the_close_ones() -> None:
    with pytest.raises(FerlError, match=r"there is no checkpoint ferl-smal; did you mean ferl-small"):
        load("ferl-smal")


def test_the_recipe_trains_the_network_that_ships(ferl: Callable[..., Path]) -> None:
    write_csv(Path(), draw())
    write_votes(Path(), draw())
    words = ["--data.root=.", "--data.classes=[anger,happy,neutral]", "--data.batch_size=8"]
    ferl("fit", "--config=strong/small", *words, "--trainer.max_steps=1", "--trainer.default_root_dir=run", *NO_REPORT)
    trained, shipped = (load(name, view="fer2013").state_dict() for name in ("run/checkpoints/last.ckpt", "ferl-small"))
    assert {name: x.shape for name, x in trained.items()} == {name: x.shape for name, x in shipped.items()}


class Server(BaseHTTPRequestHandler):
    """Serves a file, from where it is asked to go on, and hangs up in the middle of the first answer."""

    content = b""
    asked: list[str] = []

    def do_GET(self) -> None:
        self.asked.append(self.headers.get("Range", ""))
        rest = self.content[int(self.asked[-1].removeprefix("bytes=").rstrip("-") or 0) :]
        self.send_response(206 if self.asked[-1] else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[: len(rest) // 2] if len(self.asked) == 1 else rest)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Server.content, Server.asked = np.random.default_rng(0).bytes(100_000), []
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}/file"
        http.shutdown()


def test_two_processes_that_fetch_one_file_do_not_disturb_each_other(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of a distributed training do at its first start; here they are threads."""
    monkeypatch.setenv("FERL_CACHE", str(tmp_path))

    def slow(handler: Server) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(Server.content)))
        handler.end_headers()
        handler.wfile.write(Server.content[:50_000])
        time.sleep(0.5)
        handler.wfile.write(Server.content[50_000:])

    monkeypatch.setattr(Server, "do_GET", slow)
    entry = weights.Weights("file", server, _sha(Server.content))

    def fetch(seconds: float) -> bytes:
        time.sleep(seconds)
        return weights.find_file(entry, "file").read_bytes()

    with ThreadPoolExecutor() as pool:
        assert [*pool.map(fetch, (0, 0.2))] == [Server.content] * 2


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_broken_download_is_gone_on_with(
    mirrored: bool, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FERL_CACHE", str(tmp_path))
    entry = weights.Weights("file", server, _sha(Server.content), server if mirrored else "")
    if not mirrored:
        with pytest.raises(FerlError, match="broken off after 50000 bytes; try again"):
            weights.find_file(entry, "file")
    assert weights.find_file(entry, "file").read_bytes() == Server.content
    assert Server.asked == ["", "bytes=50000-"]
    assert [*(tmp_path / "weights").iterdir()] == [tmp_path / "weights/file"]


def test_a_mirror_with_another_file_is_refused(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERL_CACHE", str(tmp_path))
    Server.asked.append("")  # whole answers
    with pytest.raises(FerlError, match="not the file that it should be"):
        weights.find_file(weights.Weights("file", server, _sha(b"another")), "file")
    assert not [*(tmp_path / "weights").iterdir()]

"""The page of ``ferl export --format web`` in Chromium, with a camera that plays a film of a photograph.

These tests run where Chromium, YuNet's file and the npm package onnxruntime-web are: the latter unpacked in the folder
that FERL_ORT_DIR names, or in the cache, where ``ferl export`` puts it.
"""

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from ferlightning import Recognizer
from ferlightning.export.commands import export
from ferlightning.export.web import RUNTIME
from tests.bench.test_page import CHROMIUM
from tests.deploy.common import YUNET, hopper, needs_yunet

sync_api = pytest.importorskip("playwright.sync_api")
CACHE = Path(os.environ.get("FERL_CACHE") or "~/.cache/ferlightning").expanduser() / RUNTIME.replace("@", "-")
RUNTIME_DIR = Path(os.environ.get("FERL_ORT_DIR") or CACHE)
pytestmark = [
    needs_yunet,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
    pytest.mark.skipif(not RUNTIME_DIR.is_dir(), reason="the npm package onnxruntime-web is not here"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page, and beside it a photograph of 640 x 480 and a film of it."""
    folder = tmp_path_factory.mktemp("web")
    export("ferl-small", str(folder / "page"), "web", detector_path=str(YUNET), ort_dir=str(RUNTIME_DIR))
    photo = cv2.copyMakeBorder(hopper()[:480, :, ::-1], 0, 0, 64, 64, cv2.BORDER_REPLICATE)
    cv2.imwrite(str(folder / "photo.png"), photo)
    code = cv2.imencode(".jpg", photo)[1].tobytes()
    (folder / "film.mjpeg").write_bytes(code * 30)
    return folder


@contextmanager
def served(folder: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def launch(folder: Path) -> Iterator[Callable[..., Any]]:
    """Starts a browser with further words."""
    with sync_api.sync_playwright() as playwright:

        def start(*words: str) -> Any:
            # A sandbox cannot be had by root, as in containers; the page is our own.
            return playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *words], timeout=120_000)

        yield start


def wait(condition: Callable[[], Any]) -> Any:
    """What the page comes to; its policy forbids Playwright's own way to wait for a function."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("nothing came of it")


def faces(page: Any) -> list[str]:
    return [text.replace("\n", " ") for text in page.locator("#faces li").all_inner_texts()]


def test_a_camera_and_a_picture_are_recognised_as_in_python_and_nothing_is_asked_for_outside(
    folder: Path, launch: Callable[..., Any]
) -> None:
    (expected,) = Recognizer("ferl-small", detector_path=YUNET)(folder / "photo.png")
    asked, said = [], []
    film = f"--use-file-for-fake-video-capture={folder / 'film.mjpeg'}"
    browser = launch("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", film)
    context = browser.new_context(viewport={"width": 390, "height": 844})
    context.on("request", lambda request: asked.append(request.url))  # of the service worker, too
    page = context.new_page()
    page.on(
        "console", lambda message: message.type == "error" and said.append(message.text)
    )  # such as what the policy blocks
    page.on("pageerror", lambda error: said.append(str(error)))
    with served(folder / "page") as url:
        page.goto(url)
        page.get_by_text("Ready.").wait_for()
        page.get_by_role("button", name="Start camera").press("Enter")
        (face,) = wait(lambda: faces(page))
        assert face.startswith(f"Face 1 {expected.label} ")
        wait(lambda: "frames/s" in page.locator("#rate").inner_text())
        wait(lambda: page.locator("#status").inner_text() == f"1 face: {expected.label}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.locator("#file").set_input_files(folder / "photo.png")
        wait(lambda: page.locator("#status").inner_text() == f"photo.png: 1 face: {expected.label}")
        assert page.get_by_role("button", name="Start camera").is_visible()  # it is off
        (shown,) = page.locator("#faces li").evaluate_all("all => all.map(item => ({...item.dataset}))")
        probabilities = [float(p) for p in shown["probabilities"].split(",")]
        np.testing.assert_allclose(probabilities, [*expected.probabilities.values()], atol=1e-3)
        middle = [round((expected.box[i] + expected.box[i + 2]) / 2) for i in (0, 1)]
        pixel = f"document.querySelector('#stage canvas').getContext('2d').getImageData({middle[0]}, {middle[1]}, 1, 1)"
        assert sum(page.evaluate(f"[...{pixel}.data].slice(0, 3)")) > 0
        page.get_by_role("switch", name="Hide faces").press("Space")
        wait(lambda: page.evaluate(f"[...{pixel}.data].slice(0, 3)") == [0, 0, 0])
        page.locator("#views select").select_option("fer2013")
        wait(lambda: page.locator("#bars dt").count() == 7)
        errors = page.context.new_cdp_session(page).send("Page.getInstallabilityErrors")["installabilityErrors"]
        assert [error["errorId"] for error in errors if error["errorId"] != "in-incognito"] == []
        wait(lambda: page.evaluate("caches.keys().then((names) => names.length)"))
        wait(lambda: page.evaluate("navigator.serviceWorker.ready.then((found) => found.active.state)") == "activated")
        assert len(asked) > 15 and all(address.startswith((url, f"blob:{url}")) for address in asked)
        blocked = "fetch('https://example.org').then(() => false, () => true)"
        assert said == [] and page.evaluate(blocked) and "Content Security Policy" in said[0]
    said.clear()
    page.reload()  # there is no server any more
    page.get_by_text("Ready.").wait_for()
    page.locator("#file").set_input_files(folder / "photo.png")
    wait(lambda: page.locator("#status").inner_text() == f"photo.png: 1 face: {expected.label}")
    browser.close()


def test_what_goes_wrong_is_told_in_words(folder: Path, launch: Callable[..., Any], tmp_path: Path) -> None:
    def told(page: Any, text: str) -> None:
        wait(lambda: text in page.get_by_role("alert").inner_text())

    shutil.copytree(folder / "page", tmp_path / "page")
    (tmp_path / "notes.png").write_text("no picture")
    (tmp_path / "film.mp4").write_text("no film")
    browser = launch("--use-fake-device-for-media-stream", "--deny-permission-prompts")
    with served(tmp_path / "page") as url:
        page = browser.new_context(service_workers="block").new_page()
        page.goto(url)
        page.get_by_role("button", name="Start camera").click()
        told(page, "The camera was denied. Allow it for this page")
        for file in ("notes.png", "film.mp4"):
            page.locator("#file").set_input_files(tmp_path / file)
            told(page, f"{file} ")
            assert "browser" in page.get_by_role("alert").inner_text()
        page.locator("#file").set_input_files(folder / "photo.png")
        wait(lambda: page.locator("#status").inner_text().startswith("photo.png: 1 face"))
        assert page.get_by_role("alert").inner_text() == ""
        for file in ("ort-wasm-simd-threaded.wasm", "ort.wasm.bundle.min.mjs", "model.onnx", "model.json"):
            (tmp_path / "page" / file).rename(tmp_path / file)
            page = browser.new_context(service_workers="block").new_page()  # with an empty cache
            page.goto(url)
            told(page, f"The file {file} of this page is missing (404 File not found)")
            assert page.get_by_role("button", name="Start camera").is_disabled()
            (tmp_path / file).rename(tmp_path / "page" / file)
        page.add_init_script("delete globalThis.WebAssembly")
        page.reload()
        told(page, "This browser has no WebAssembly")
    browser.close()


def test_without_a_camera_this_is_told(folder: Path, launch: Callable[..., Any]) -> None:
    browser = launch("--use-fake-device-for-media-stream=device-count=0", "--use-fake-ui-for-media-stream")
    with served(folder / "page") as url:
        page = browser.new_page()
        page.goto(url)
        page.get_by_role("button", name="Start camera").click()
        wait(lambda: "There is no camera here." in page.get_by_role("alert").inner_text())
    browser.close()

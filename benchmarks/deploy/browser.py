"""The page of `ferl export --format web` in headless Chromium beside the Python recogniser, on the same frames.

    FERL_REAL_DATA=... taskset -c 1 python benchmarks/deploy/browser.py [--model=ferl-small] [--ort-dir=FOLDER]

Stills, 640 x 480, three faces of FER2013 each, are chosen in the page as a user does; its labels and probabilities are
compared with those of ``Recognizer``. Then a fake camera plays a stream of three moving faces: frames a second on the
page, and the CPU time that all processes of the browser take for a frame, which other programs on the machine change
less.
"""

import argparse
import json
import os
import shutil
import tempfile
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from frames import RATE, scene
from playwright.sync_api import Page, sync_playwright

from ferlightning.deploy.recognizer import Recognizer
from ferlightning.deploy.tracking import overlap
from ferlightning.export.commands import export


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ferl-small")
    parser.add_argument("--ort-dir")
    parser.add_argument("--stills", type=int, default=120)
    parser.add_argument("--seconds", type=int, default=30)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as work:
        folder, film = Path(work, "page"), Path(work, "film.y4m")
        export(options.model, str(folder), "web", ort_dir=options.ort_dir)
        with film.open("wb") as file:
            file.write(f"YUV4MPEG2 W640 H480 F{RATE}:1 Ip A1:1 C420jpeg\n".encode())
            for frame in scene(10 * RATE).frames:
                file.write(b"FRAME\n" + cv2.cvtColor(frame, cv2.COLOR_RGB2YUV_I420).tobytes())
        words = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        words += [f"--use-file-for-fake-video-capture={film}"]
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=words)
            for measure in (
                partial(stills, work=Path(work), options=options),
                partial(stream, seconds=options.seconds),
            ):
                page = browser.new_page()  # with an empty cache
                start = time.monotonic()
                page.goto(f"http://127.0.0.1:{server.server_port}/")
                page.get_by_text("Ready.").wait_for(timeout=60_000)
                print(f"ready after {time.monotonic() - start:.2f} s")
                measure(page)
                page.close()
            browser.close()
        server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def stills(page: Page, work: Path, options: Any) -> None:
    recognizer = Recognizer("ferl-small" if options.model == "ferl-small" else work / "page" / "model.onnx")
    faces, same, gaps, overlaps, labels = 0, 0, [], [], set()
    for seed in range(options.stills):
        path = work / f"{seed}.png"
        cv2.imwrite(str(path), scene(1, seed).frames[0][:, :, ::-1])
        page.locator("#file").set_input_files(path)
        page.get_by_text(f"{path.name}: ").wait_for()
        found = page.evaluate("[...document.querySelectorAll('#faces li')].map((item) => ({...item.dataset}))")
        rows = [[float(p) for p in face["probabilities"].split(",")] for face in found]
        boxes = np.array([json.loads(face["box"]) for face in found]).reshape(-1, 4)
        expected = recognizer(path)
        shared = overlap(np.array([face.box for face in expected]).reshape(-1, 4), boxes)
        for face, near in zip(expected, shared, strict=True):
            faces += 1
            labels.add(face.label)
            overlaps.append(near.max(initial=0))
            if overlaps[-1] > 0.5:
                row = np.array(rows[near.argmax()])
                same += recognizer.class_names[row.argmax()] == face.label
                gaps.append(np.abs(row - list(face.probabilities.values())).max())
        if len(rows) != len(expected):
            print(f"  still {seed}: {len(rows)} faces on the page, {len(expected)} in Python")
    print(
        f"{same} of {faces} faces ({same / faces:.1%}), of {len(labels)} classes, have the label of Python. "
        f"Largest difference of a probability: {np.mean(gaps):.1e} in the mean of faces, {np.max(gaps):.1e} at most. "
        f"The least overlap of two boxes is {np.min(overlaps):.3f}"
    )


def stream(page: Page, seconds: int) -> None:
    start = time.monotonic()
    page.get_by_role("button", name="Start camera").click()
    page.locator("#faces li").first.wait_for()
    print(f"first label {time.monotonic() - start:.2f} s after the camera was asked for")
    for what in ("", ", faces hidden"):
        time.sleep(3)
        rates, before, count, began = [], cpu(), frames(page), time.monotonic()
        while time.monotonic() - began < seconds:
            time.sleep(1)
            rates.append(int((page.locator("#rate").inner_text() or "0").split()[0]))
        used, shown, passed = cpu() - before, frames(page) - count, time.monotonic() - began
        print(
            f"{shown / passed:.1f} frames/s over {passed:.0f} s ({min(rates)} to {max(rates)}){what}, "
            f"{used / passed:.0%} of the core, {1000 * used / shown:.1f} ms a frame: {shown / used:.1f} frames/s of a "
            f"whole core; {page.locator('#status').inner_text()}"
        )
        page.get_by_role("switch", name="Hide faces").check()


def frames(page: Page) -> int:
    return int(page.locator("#stage").get_attribute("data-frames") or 0)


def cpu() -> float:
    """Seconds of all processes that descend from this one, itself not counted."""
    parents, used = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            number, rest = int(stat.parent.name), stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        parents[number], used[number] = int(rest[1]), (int(rest[11]) + int(rest[12])) / os.sysconf("SC_CLK_TCK")
    below, size = {os.getpid()}, 0
    while size != len(below):
        size = len(below)
        below |= {number for number, parent in parents.items() if parent in below}
    return sum(used.get(number, 0) for number in below - {os.getpid()})


if __name__ == "__main__":
    main()

"""The page's own arithmetic, run by node, beside that of Python: pixels, tracking, smoothing and hiding."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ferlightning import Recognizer
from ferlightning.contracts import Detection, FaceDetector
from ferlightning.deploy.annotate import place_labels
from ferlightning.deploy.anonymise import hide_stream
from ferlightning.deploy.sources import Frame
from ferlightning.export import web
from ferlightning.images.crop import crop_face
from tests.deploy.common import Brightness, Image

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="no node on this machine")


def javascript(folder: Path, code: str, given: Any) -> Any:
    """What a module beside the page's own makes of a value."""
    for path in web.OURS.glob("*.js"):
        shutil.copy(path, folder)
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "given.json").write_text(json.dumps(given))
    read = 'import { readFileSync } from "node:fs";\nconst given = JSON.parse(readFileSync("given.json"));\n'
    (folder / "main.js").write_text(f"{read}{code}\nconsole.log(JSON.stringify(result));")
    done = subprocess.run([NODE, "main.js"], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_labels_of_neighbouring_faces_lie_beside_each_other(tmp_path: Path) -> None:
    """On a phone's 358 x 268 pixels, where a label is wider than most faces."""
    draw, h, width, height = np.random.default_rng(0), 22, 358, 268
    groups = [[(100, 80, 150, 140)], [(100, 5, 150, 60)], [(340, 80, 400, 140)]]
    groups += [[(60 * n, 40, 60 * n + 50, 100) for n in range(6)]]  # a row of people
    for _ in range(50):
        corner, side = draw.uniform(0, (300, 220), (8, 2)), draw.uniform(20, 120, (8, 1))
        groups.append(np.hstack([corner, corner + side]).tolist())
    widths = [100, 130, 110, 90, 120, 105, 95, 115]
    code = """import { placeLabels } from "./drawing.js";
    const result = given.groups.map((boxes) => placeLabels(boxes, given.widths, given.h, given.width, given.height));"""
    given = {"groups": groups, "widths": widths, "h": h, "width": width, "height": height}
    found = javascript(tmp_path, code, given)
    assert [places[0] for places in found[:3]] == [[100, 58], [100, 60], [258, 58]], "alone: above, else below"
    for places in found:
        covered = np.zeros((height + 1, width + 1), int)
        for (x, y), w in zip(places, widths, strict=False):
            assert x >= 0 and y >= 0 and x + w <= width and y + h <= height
            covered[int(np.ceil(y)) : int(y + h), int(np.ceil(x)) : int(x + w)] += 1
        assert covered.max() == 1
    whole = [[[round(v) for v in box] for box in boxes] for boxes in groups]
    found = javascript(tmp_path, code, given | {"groups": whole, "h": 20})  # a whole number of quarters
    expected = [place_labels(boxes, widths[: len(boxes)], 20, width, height) for boxes in whole]
    assert found == [[list(place) for place in places] for places in expected], "as in Python"


def test_faces_are_cut_out_as_by_opencv(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    image = draw.integers(0, 256, (120, 160, 4), np.uint8)
    boxes = [
        (30, 10, 90, 106),
        (20, 20, 60, 53.3),
        (-20, -30, 70, 81),
        (100, 60, 200, 171.5),
        (50, 50, 60, 62),
        (5, 5, 9, 9),
    ]
    boxes.append((40, 12, 88, 60))  # the size that is asked for
    code = """import { cropFace, planes } from "./pixels.js";
    const image = { width: 160, height: 120, data: Uint8ClampedArray.from(given.pixels) };
    const cut = given.boxes.map((box) => cropFace(image, box, 1, 48));
    const result = cut.map((face) => [Array.from(face.data), Array.from(planes(face, [0, 1, 2], true))]);"""
    found = javascript(tmp_path, code, {"pixels": image.flatten().tolist(), "boxes": boxes})
    for box, (pixels, grey) in zip(boxes, found, strict=True):
        expected = crop_face(image[:, :, :3], box, 1, 48)
        gap = np.abs(np.reshape(pixels, (48, 48, 3)).astype(int) - expected)
        shrinks = box[3] - box[1] > 48
        assert gap.max() <= 1 and (gap > 0).mean() < (0.001 if shrinks else 0.2), box  # fixed point
        weighted = np.reshape(pixels, (48, 48, 3)) @ [0.299, 0.587, 0.114]
        assert np.abs(weighted - np.reshape(grey, (48, 48))).max() < 0.51


class Told(FaceDetector):
    """Finds what the film says is in a frame, by the frame's brightness."""

    min_score = 0.8

    def __init__(self, film: list[dict[str, Any]]) -> None:
        super().__init__()
        self.found = {shot["level"]: shot["found"] for shot in film}

    def __call__(self, image: Image, size: int, min_score: float) -> list[Detection]:
        found = self.found[int(image[0, 0, 0])]
        return [Detection(tuple(face["box"]), face["score"]) for face in found if face["score"] >= min_score]


@pytest.fixture
def film() -> list[dict[str, Any]]:
    """Frames of one grey each, first dark, then bright, whose faces move, are missed, unsure, or gone for a while."""
    draw = np.random.default_rng(3)
    levels, time, film = [*draw.permutation(range(1, 125))[:50], *draw.permutation(range(125, 251))[:50]], 0.0, []
    for n in range(100):
        time += float(draw.uniform(0.01, 0.08))
        found = []
        for k in range(3):
            x, y = 20 + 60 * k + 25 * np.sin(time * (k + 1)), 40 + 20 * np.cos(2 * time)
            box = [float(v) for v in (x - 15, y - 18, x + 15, y + 18)]
            if draw.random() > 0.15 and not (k == 1 and 30 < n < 70):
                found.append({"box": box, "score": float(draw.choice([0.95, 0.5, 0.3]))})
        film.append({"level": int(levels[n]), "time": time, "found": found})
    return film


def frames(film: list[dict[str, Any]]) -> Iterator[Frame]:
    for n, shot in enumerate(film):
        yield Frame(np.full((100, 200, 3), shot["level"], np.uint8), n, shot["time"])


@pytest.mark.parametrize("hiding", [False, True])
def test_faces_are_followed_and_hidden_as_by_the_recogniser(
    film: list[dict[str, Any]], hiding: bool, tmp_path: Path
) -> None:
    code = """import { Hider } from "./hiding.js";
    import { Recognizer } from "./recognizer.js";
    class Told extends Recognizer {
      async detect(image, size, least) {
        return given.film.find(({ level }) => level === image.data[0]).found.filter(({ score }) => score >= least);
      }
      async classify(clips) {
        return clips.map(([face]) => Float32Array.from([1 - face[0] / 255, face[0] / 255]));
      }
    }
    const recognizer = new Told();
    Object.assign(recognizer, { known: given.known, k: given.known.constants });
    recognizer.reset();
    const [hider, faces, hidden] = [new Hider(recognizer.k), [], []];
    for (const { level, time } of given.film) {
      const image = { width: 200, height: 100, data: new Uint8ClampedArray(200 * 100 * 4).fill(level) };
      faces.push(await recognizer.frame(image, time, given.hiding));
      if (given.hiding) hidden.push(...hider.push(level, time, faces[faces.length - 1]));
    }
    const result = { faces, hidden };"""
    known = {"constants": web.constants(), "detector": {"crop": 1, "min_score": 0.8}}
    known["input"] = {"size": [8, 8], "color": False, "channels": 1, "margin": 0, "clips": False}
    found = javascript(tmp_path, code, {"film": film, "known": known, "hiding": hiding})

    recognizer = Recognizer(Brightness(), detector=Told(film))
    options = {"detect_every": 1, "size": 640} if hiding else {}
    recognizer.min_score = 0.4 if hiding else 0.8
    stream = list(recognizer.stream(frames(film), **options))
    assert len({face.track for _, faces in stream for face in faces}) > 3
    assert {face.label for _, faces in stream for face in faces} == {"happiness", "sadness"}
    for shown, (_, expected) in zip(found["faces"], stream, strict=True):
        assert [face["track"] for face in shown] == [face.track for face in expected]
        assert [Brightness.class_names[face["label"]] for face in shown] == [face.label for face in expected]
        for face, other in zip(shown, expected, strict=True):
            np.testing.assert_allclose(face["box"], other.box, atol=1e-3)
            np.testing.assert_allclose(face["probabilities"], [*other.probabilities.values()], atol=1e-4)
    if hiding:
        black = [frame.image[:, :, 0] == 0 for frame, _ in hide_stream(stream, "box")]
        assert 60 < len(found["hidden"]) < len(film) and np.mean(black) > 0.1
        for item, expected in zip(found["hidden"], black, strict=False):
            covered = np.zeros_like(expected)
            for left, top, right, bottom in item["boxes"]:
                x, y = 0.15 * (right - left), 0.15 * (bottom - top)
                rows, columns = (
                    slice(max(0, int(a)), max(0, int(np.ceil(b))))
                    for a, b in ((top - y, bottom + y), (left - x, right + x))
                )
                covered[rows, columns] = True
            assert (covered != expected).mean() < 0.002

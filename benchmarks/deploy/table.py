"""The recogniser in use, side by side with `fer`: speed, memory, detection, labels, endurance.

    FERL_REAL_DATA=... python benchmarks/deploy/table.py --fer=FER_PYTHON --photos=FOLDER [--model=FILE ...] \\
        [--video=FILE ...]

FER_PYTHON is the Python of an environment with `fer`; FOLDER has the photographs that ``frames.FACES`` and ``EMPTY``
name. Times are CPU times of one thread; ours and `fer`'s take turns, a process each; medians over the rounds, with the
smallest and largest. The fast variant and int8 are measured where their files are given by --model. How steady labels
are is also seen on films of people, given by --video.
"""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import cv2
import numpy as np
from frames import EMPTY, Image, Scene, photographs, real_faces, scene

from ferlightning.deploy.classifier import OnnxModel
from ferlightning.deploy.recognizer import Recognizer
from ferlightning.deploy.sources import Frame, Video
from ferlightning.deploy.tracking import overlap
from ferlightning.images.detectors import build_detector

HERE = Path(__file__).parent
FERL = [sys.executable, "-m", "ferlightning", "recognize"]
CROPS = 3589
WIDE = 1.5
"""Seconds over which the mean of a face's probabilities is that of its expression, not of a moment."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fer", help="Python of an environment with fer; without it our side alone is measured")
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--video", type=Path, action="append", default=[])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--long", type=int, default=10_000)
    parser.add_argument("--model", action="append", default=[])
    options = parser.parse_args()
    cv2.setNumThreads(1)
    rows: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        seen = scene(options.frames)
        pixels, labels = real_faces()
        np.savez(work / "input.npz", frames=np.stack(seen.frames), crops=pixels[:CROPS], labels=labels[:CROPS])
        cv2.imwrite(str(work / "photo.png"), seen.frames[0][:, :, ::-1])
        models = ["ferl-small", *options.model]
        ours, theirs = [], []
        for _ in range(options.rounds):
            ours.append({name: speed(seen, pixels[:CROPS], labels[:CROPS], name) for name in models})
            if options.fer:
                words = [options.fer, str(HERE / "fer_side.py"), str(work)]
                done = subprocess.run(words, capture_output=True, text=True, check=True)
                theirs.append(json.loads(done.stdout.splitlines()[-1]))
        rows += speed_rows(ours, theirs, models)
        rows += cold_rows(work, options.fer, options.rounds)
        rows += detection_rows(options.photos)
        rows += label_rows(models, options.video)
        rows += long_rows(work, options.long)
    print("| what | measured |\n|---|---|")
    for what, found in rows:
        print(f"| {what} | {found} |")


# --- speed ------------------------------------------------------------------------------------------------------------


def speed(seen: Scene, crops: Image, labels: Image, name: str) -> dict[str, object]:
    """Times of one round, in seconds."""
    recognizer = Recognizer(name)
    recognizer(seen.frames[0])
    frames = [Frame(image, n, n / 30) for n, image in enumerate(seen.frames)]
    stream, hits, tracks, false = [], 0, [set() for _ in seen.labels], 0
    following = recognizer.stream(frames)
    for true in seen.boxes:
        start = time.process_time()
        _, faces = next(following)
        stream.append(time.process_time() - start)
        shared = overlap(true, np.array([face.box for face in faces]).reshape(-1, 4))
        for k, row in enumerate(shared):
            if row.size and row.max() >= 0.5:
                hits += 1
                tracks[k].add(faces[row.argmax()].track)
        false += int((shared.max(0) < 0.5).sum()) if shared.size else 0
    single = []
    for _ in range(10):
        start = time.process_time()
        recognizer(seen.frames[0])
        single.append(time.process_time() - start)
    seven = len(recognizer.class_names) == 7
    model = OnnxModel(name, None if seven else "fer2013")
    rgb = [np.repeat(crop[:, :, None], 3, 2) for crop in crops]
    one, right = [], []
    order = ["anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"]
    for face, label in zip(rgb, labels, strict=True):
        start = time.process_time()
        row = model([[face]])[0]
        one.append(time.process_time() - start)
        right.append(model.class_names[int(row.argmax())] == order[int(label)])
    many = []
    for _ in range(10):
        start = time.process_time()
        model([[face] for face in rgb[:64]])
        many.append((time.process_time() - start) / 64)
    return {
        "stream": stream, "recall": hits / (len(frames) * len(seen.labels)), "false": false / len(frames),
        "switches": sum(len(numbers) - 1 for numbers in tracks if numbers), "single": median(single),
        "crop": median(one), "accuracy": float(np.mean(right)), "batch": median(many),
    }  # fmt: skip


def spread(values: list[float], scale: float = 1e3, unit: str = "ms") -> str:
    found = [scale * value for value in values]
    return f"{median(found):.2f} {unit} ({min(found):.2f} to {max(found):.2f})"


def speed_rows(ours: list[dict], theirs: list[dict], models: list[str]) -> list[tuple[str, str]]:
    rows = []
    small = [each["ferl-small"] for each in ours]
    text = f"mean {spread([float(np.mean(each['stream'])) for each in small])}"
    text += f", p95 {spread([float(np.percentile(each['stream'], 95)) for each in small])}"
    text += f"; recall {small[0]['recall']:.3f}, switches {small[0]['switches']}, false {small[0]['false']:.3f} a frame"
    if theirs:
        text += f"; `fer` mean {spread([float(np.mean(each['stream'])) for each in theirs])}"
        text += f", {theirs[0]['found'] / len(theirs[0]['stream']):.2f} faces a frame"
    rows.append(("stream of 640 x 480, three moving faces, a frame", text))
    for what, key in (
        ("single picture of 640 x 480, three faces", "single"),
        ("a face crop", "crop"),
        ("batch of 64, a face", "batch"),
    ):
        for name in models if key != "single" else models[:1]:
            text = spread([each[name][key] for each in ours])
            if key == "crop":
                text += f", accuracy on PublicTest {100 * ours[0][name]['accuracy']:.2f} %"
            if theirs:
                ratio = median(each[name][key] / other[key] for each, other in zip(ours, theirs, strict=True))
                text += f"; `fer` {spread([other[key] for other in theirs])}, ratio {ratio:.2f}"
            if theirs and key == "crop":
                text += f", accuracy {100 * theirs[0]['accuracy']:.2f} %"
            rows.append((what if key == "single" else f"{what}, {name}", text))
    return rows


def cold_rows(work: Path, fer: str | None, rounds: int) -> list[tuple[str, str]]:
    """A photograph, from the start of the process to the answer."""

    def cost(words: list[str]) -> tuple[float, float]:
        code = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=2); "
        code += "r = resource.getrusage(resource.RUSAGE_CHILDREN); print(r.ru_utime + r.ru_stime, r.ru_maxrss / 1024)"
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
        seconds, mebibytes = map(float, done.stdout.split())
        return seconds, mebibytes

    sides = {"`ferl recognize photo`": [*FERL, str(work / "photo.png")]}
    if fer:
        sides["`fer`"] = [fer, str(HERE / "fer_side.py"), str(work), "photo"]
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, words in sides.items():
            found[name].append(cost(words))
    texts = [
        f"{name} {spread([s for s, _ in costs], 1, 's')} CPU, peak {median(m for _, m in costs):.0f} MiB"
        for name, costs in found.items()
    ]
    return [("cold, 640 x 480, three faces", "; ".join(texts))]


# --- detection --------------------------------------------------------------------------------------------------------


def small(image: Image, factor: float) -> tuple[Image, np.ndarray]:
    size = [max(1, round(side / factor)) for side in image.shape[1::-1]]
    frame = np.full_like(image, 110)
    frame[: size[1], : size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return frame, np.array([[1 / factor, 0, 0], [0, 1 / factor, 0]])


def turned(image: Image, angle: float) -> tuple[Image, np.ndarray]:
    """Turned on a larger canvas, so that nothing is cut off."""
    height, width = image.shape[:2]
    side = round(float(np.hypot(height, width)))
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1)
    turn[:, 2] += (side - width) / 2, (side - height) / 2
    return cv2.warpAffine(image, turn, (side, side), borderValue=(110, 110, 110)), turn


def detection_rows(folder: Path) -> list[tuple[str, str]]:
    """Recall against the faces that YuNet finds in the whole photographs, as many as were counted by eye."""
    photos = photographs(folder)
    reference = build_detector("yunet")
    ways = {
        "as they are": lambda image: (image, np.eye(3)[:2]), "a third of the size": lambda image: small(image, 3),
        "turned 20°": lambda image: turned(image, 20), "turned -20°": lambda image: turned(image, -20),
        "darkened to 15 %": lambda image: ((image * 0.15).astype(np.uint8), np.eye(3)[:2]),
    }  # fmt: skip
    rows = []
    for name in ("yunet", "mtcnn", "haar"):
        detector = build_detector(name)
        texts = []
        for way, change in ways.items():
            hits, total, false = 0, 0, 0
            for image, faces in photos.values():
                true = sorted(reference(image, 1280, 0.8), key=lambda face: -face.score)[:faces]
                assert len(true) == faces, "the reference misses a face"
                shown, matrix = change(image)
                found = detector(shown, 1280, detector.min_score)
                scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
                free = {i: _centre(face.box) for i, face in enumerate(found)}
                for face in true:
                    x, y, height = _centre(face.box)
                    place = matrix @ [x, y, 1]
                    near = [
                        i for i, (u, v, h) in free.items()
                        if np.hypot(u - place[0], v - place[1]) < 0.35 * height * scale
                        and 0.6 < h / (height * scale) < 1.7
                    ]  # fmt: skip
                    hits, total = hits + bool(near), total + 1
                    if near:
                        del free[near[0]]
                false += len(free)
            texts.append(f"{way} {hits}/{total} ({false / len(photos):.3f} false)")
        rows.append(
            (
                f"{name}: recall on {len(photos)} photographs, {sum(n in photos for n in EMPTY)} of them empty",
                ", ".join(texts),
            )
        )
    return rows


def _centre(box: tuple[float, ...]) -> tuple[float, float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[3] - box[1]


# --- labels, endurance ------------------------------------------------------------------------------------------------


@dataclass
class Changes:
    """How often labels change, over all faces of a stream."""

    frames: int
    faces: int
    tracks: int
    minutes: float = 0.0
    raw: int = 0
    shown: int = 0
    real: int = 0
    shortest: float = np.inf


def changes(recognizer: Recognizer, frames: Iterable[Frame]) -> Changes:
    """How often the labels of a stream's faces change; in single frames, as shown, and of a mean over WIDE seconds."""
    rows: dict[int, list[tuple[float, str, np.ndarray]]] = {}
    seen = 0
    for frame, faces in recognizer.stream(frames):
        seen += 1
        probabilities = recognizer.model([[recognizer._crop(frame.image, face)] for face in faces])
        for face, row in zip(faces, probabilities, strict=True):
            rows.setdefault(face.track, []).append((frame.time, face.label, row))
    found = Changes(seen, sum(map(len, rows.values())), len(rows))
    for track in rows.values():
        times, labels, own = (np.array(column) for column in zip(*track, strict=True))
        wide = np.stack([own[np.abs(times - time) <= WIDE / 2].mean(0) for time in times])
        changed = times[1:][labels[1:] != labels[:-1]]
        found.minutes += (times[-1] - times[0]) / 60
        found.raw += int((np.diff(own.argmax(1)) != 0).sum())
        found.shown += len(changed)
        found.real += int((np.diff(wide.argmax(1)) != 0).sum())
        found.shortest = min([found.shortest, *np.diff([times[0], *changed])])
    return found


def label_rows(models: list[str], videos: list[Path]) -> list[tuple[str, str]]:
    """How often labels change: where expressions do not, as each face keeps its picture; and on videos of people."""
    drawn = []
    for seed in range(100, 104):
        frames = [Frame(image, n, n / 30) for n, image in enumerate(scene(300, seed).frames)]
        drawn.append(changes(Recognizer(), frames))
    rows = [("labels of moving, noisy faces", told(drawn))]
    for name in models if videos else []:
        found = {video.name: changes(Recognizer(name), Video(video)) for video in videos}
        each = "; ".join(f"{video} {one.shown} of {one.raw}" for video, one in found.items())
        frames, faces, tracks = (sum(getattr(one, n) for one in found.values()) for n in ("frames", "faces", "tracks"))
        what = f"labels on {len(videos)} videos, {Path(name).stem}"
        how = f"{frames} frames, {faces} faces of {tracks} tracks; {told([*found.values()])}"
        rows.append((what, f"{how}. Shown of raw: {each}"))
    return rows


def told(found: list[Changes]) -> str:
    minutes, raw = sum(one.minutes for one in found), sum(one.raw for one in found)
    shown, real = sum(one.shown for one in found), sum(one.real for one in found)
    text = f"raw {raw / minutes:.1f} changes a minute and face, shown {shown / minutes:.1f} ({shown / max(raw, 1):.2f}"
    text += f" of them), by a mean of {WIDE} s that sees what comes {real / minutes:.1f} ({real / max(raw, 1):.2f})"
    shortest = min(one.shortest for one in found)
    return text + (f"; none shown for less than {shortest:.2f} s" if np.isfinite(shortest) else "")


def long_rows(work: Path, n: int) -> list[tuple[str, str]]:
    """A long video: memory and rate in its second and last fifth; then killed in the middle."""
    seen = scene(300, 1)
    film = work / "film.mkv"
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter.fourcc(*"MJPG"), 30, (640, 480))
    order = [*range(300), *range(299, -1, -1)]
    for i in range(n):
        writer.write(seen.frames[order[i % 600]][:, :, ::-1])
    writer.release()
    words = [*FERL, str(film), "--format=jsonl", f"--save={work / 'out'}"]
    rss, cpu = [], []
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        tick = os.sysconf("SC_CLK_TCK")
        for i, _ in enumerate(process.stdout):
            if i % (n // 10) == 0:
                stat = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
                rss.append(int(stat[21]) * resource.getpagesize() / 2**20)
                cpu.append((int(stat[11]) + int(stat[12])) / tick)
    steps = np.diff(cpu) / (n // 10) * 1e3
    text = f"memory {rss[1]:.0f} MiB after a tenth, {rss[-1]:.0f} at nine tenths (growth {rss[-1] - rss[1]:.1f}); "
    text += f"CPU a frame, decoded and saved, {steps[0]:.1f} ms in the first tenth, {steps[-1]:.1f} in the last but one"
    (work / "out/film.mkv").unlink()
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(n // 2)]
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.read().splitlines(True)
    whole = sum(json.loads(line)["frame"] == i for i, line in enumerate(lines))
    capture, readable = cv2.VideoCapture(str(work / "out/film.partial.mkv")), 0
    while capture.grab():
        readable += 1
    killed = f"{whole} of {len(lines)} lines whole, {100 * readable / len(lines):.0f} % of the video readable"
    return [(f"{n} frames of 640 x 480", text), ("killed in the middle", killed)]


if __name__ == "__main__":
    main()

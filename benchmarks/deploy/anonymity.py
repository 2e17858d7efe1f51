"""Who is still known after ``--anonymize``: rank-1 by dlib's face embedding, and the faces that detectors still find.

    FERL_REAL_DATA=... python benchmarks/deploy/anonymity.py IDENTITY_PYTHON [--people=40]

People of CK+48, one picture each in the gallery, another in the probes, each enlarged to 130 pixels on a photograph of
its own. The boxes are those of YuNet. IDENTITY_PYTHON is the Python of an environment with dlib-bin and
face-recognition-models. An attacker who knows treats the gallery as the probes were treated.
"""

import argparse
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from frames import Image, paste, photograph
from numpy.typing import NDArray

from ferlightning.deploy.anonymise import hide
from ferlightning.images.crop import crop_face
from ferlightning.images.detectors import build_detector

HOWS = ("none", "box", "blur", "pixelate")


def people(n: int) -> tuple[list[Image], list[Image]]:
    """Two frames with a face each of n people: their first picture, and one of their last sequence."""
    stored = np.load(Path(os.environ["FERL_REAL_DATA"], "ckplus48.npz"))
    pixels, subjects, sequences = stored["pixels"], stored["subject"], stored["sequence"]
    one, other = [], []
    for person in np.unique(subjects):
        own = np.flatnonzero(subjects == person)
        if len(np.unique(sequences[own])) > 1 and len(one) < n:
            one.append(_frame(pixels[own[0]]))
            other.append(_frame(pixels[own[-1]]))
    return one, other


def _frame(face: Image) -> Image:
    frame = cv2.resize(photograph(), (320, 240)).astype(np.uint8)
    paste(frame, face, 160, 120, 130)
    return frame


def embed(python: str, faces: list[Image]) -> NDArray[np.float64]:
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/faces.npy", np.stack(faces))
        script = str(Path(__file__).with_name("identity_side.py"))
        subprocess.run([python, script, f"{folder}/faces.npy", f"{folder}/out.npy"], check=True)
        return np.load(f"{folder}/out.npy")


def rank_1(gallery: NDArray[np.float64], probes: NDArray[np.float64]) -> float:
    """Share of the probes whose nearest in the gallery is the same person; among equals, by chance."""
    away = np.linalg.norm(probes[:, None] - gallery, axis=2)
    nearest = np.isclose(away, away.min(1, keepdims=True), atol=1e-9)
    return float((nearest.diagonal() / nearest.sum(1)).mean())


def measure(python: str, n: int) -> list[dict[str, Any]]:
    gallery, probes = people(n)
    detectors = {name: build_detector(name) for name in ("yunet", "mtcnn", "haar")}
    yunet = detectors["yunet"]
    boxes = [
        [max(yunet(frame, 640, 0.3), key=lambda face: face.score).box for frame in side] for side in (gallery, probes)
    ]
    rows, faces = [], []
    for how in HOWS:
        for frames, found in zip((gallery, probes), boxes, strict=True):
            treated = [f if how == "none" else hide(f, [box], how) for f, box in zip(frames, found, strict=True)]
            faces += [crop_face(frame, box, 1.1, 150) for frame, box in zip(treated, found, strict=True)]
        still = {
            name: sum(bool(detector(frame, 640, detector.min_score)) for frame in treated)
            for name, detector in detectors.items()
        }
        rows.append({"how": how, "still": still})
    embedded = embed(python, faces).reshape(len(HOWS), 2, len(gallery), -1)
    for row, (own, others) in zip(rows, embedded, strict=True):
        row |= {"plain": rank_1(embedded[0, 0], others), "alike": rank_1(own, others), "n": len(gallery)}
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python")
    parser.add_argument("--people", type=int, default=40)
    options = parser.parse_args()
    print("| hidden by | people | rank-1 | rank-1, gallery treated alike | chance | a face is still found by |")
    print("|---|---:|---:|---:|---:|---|")
    for row in measure(options.python, options.people):
        still = ", ".join(f"{name} {n}" for name, n in row["still"].items())
        print(f"| {row['how']} | {row['n']} | {row['plain']:.3f} | {row['alike']:.3f} | {1 / row['n']:.3f} | {still} |")

"""Export a network, then run the file by ONNX Runtime alone: ``python export_and_run.py MODEL FACE...``.

What ``run`` needs is NumPy, OpenCV, ONNX Runtime and the file; copy it into a program of your own.
"""

import json
import sys

import cv2
import numpy as np
import onnxruntime


def run(file: str, paths: list[str]) -> list[tuple[str, float]]:
    """The class of each face that was cut out, and its probability."""
    session = onnxruntime.InferenceSession(file)
    known = json.loads(session.get_modelmeta().custom_metadata_map["ferlightning"])
    assert not known["input"]["preprocess"], "prepare the images as `preprocess` says"
    kind = cv2.IMREAD_COLOR_RGB if known["input"]["color"] else cv2.IMREAD_GRAYSCALE
    height, width = known["input"]["size"]
    faces = [cv2.resize(cv2.imread(path, kind), (width, height), interpolation=cv2.INTER_AREA) for path in paths]
    images = np.stack(faces).reshape(len(faces), height, width, -1).transpose(0, 3, 1, 2)
    (probabilities,) = session.run(["probabilities"], {"image": images})
    return [(known["class_names"][row.argmax()], float(row.max())) for row in probabilities]


def main(model: str, *paths: str) -> None:
    from ferlightning.cli.main import main as ferl

    ferl(["export", model, "model.onnx"])
    for path, (label, share) in zip(paths, run("model.onnx", list(paths)), strict=True):
        print(f"{path}: {label}, {share:.0%}")


if __name__ == "__main__":
    main(*sys.argv[1:])

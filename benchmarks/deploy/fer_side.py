"""What `fer` (https://github.com/justinshenk/fer, MIT) takes for the same; run by ``table.py`` in its own environment.

    python fer_side.py WORK [photo]

WORK/input.npz has frames, RGB; three faces in one picture; crops, (N, 48, 48) grey, with FER2013's labels.
"""

import json
import sys
import time
from pathlib import Path
from statistics import median

import cv2
import numpy as np

LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""FER2013's classes in its order, which is `fer`'s as well."""


def measure(work: Path) -> dict:
    import tensorflow as tf
    from fer.fer import FER

    cv2.setNumThreads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    given = np.load(work / "input.npz")
    detector = FER()
    stream, found = [], 0
    frames = [np.ascontiguousarray(frame[:, :, ::-1]) for frame in given["frames"]]
    detector.detect_emotions(frames[0])
    for frame in frames:
        start = time.process_time()
        found += len(detector.detect_emotions(frame))
        stream.append(time.process_time() - start)
    single = []
    for _ in range(10):
        start = time.process_time()
        detector.detect_emotions(frames[0])
        single.append(time.process_time() - start)

    interpreter = FER._tflite_interpreter_cache
    place, out = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    size = place["shape"][1:3]
    faces = [cv2.resize(crop, [int(v) for v in size[::-1]]) for crop in given["crops"]]
    faces = np.stack(faces)[..., None].astype(np.float32) / 127.5 - 1

    def run(batch):
        interpreter.set_tensor(place["index"], batch)
        interpreter.invoke()
        return interpreter.get_tensor(out["index"])

    one, right = [], []
    for face, label in zip(faces, given["labels"], strict=True):
        start = time.process_time()
        probabilities = run(face[None])
        one.append(time.process_time() - start)
        right.append(int(probabilities[0].argmax()) == int(label))
    result = {
        "stream": stream,
        "found": found,
        "single": median(single),
        "crop": median(one),
        "accuracy": np.mean(right),
    }
    interpreter.resize_tensor_input(place["index"], [64, *map(int, place["shape"][1:])])
    interpreter.allocate_tensors()
    many = []
    for _ in range(20):
        start = time.process_time()
        run(faces[:64])
        many.append((time.process_time() - start) / 64)
    return result | {"batch": median(many)}


def photo(work: Path) -> None:
    from fer.fer import FER

    print(FER().detect_emotions(cv2.imread(str(work / "photo.png"))))


if __name__ == "__main__":
    if sys.argv[2:] == ["photo"]:
        photo(Path(sys.argv[1]))
    else:
        print(json.dumps(measure(Path(sys.argv[1])), default=float))

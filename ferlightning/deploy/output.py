"""What was recognised, as text: a table to read, JSON, JSON lines or CSV."""

import csv
import json
from typing import IO, Any, Literal

from ferlightning.deploy.recognizer import Face
from ferlightning.errors import printable
from ferlightning.predictions import plain_text

Format = Literal["table", "jsonl", "csv", "json"]
POINTS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
"""Landmarks, as the picture shows them: the left eye is the one on the left."""


class Output:
    """Writes the faces of one frame or picture after the other, and flushes each.

    Args:
        file: is written to.
        format: ``table`` has a line for each face of a picture; of a video, for each face that appears or changes its
            label. The others have every face of every frame.
        class_names: of the model.
        top: how many classes are told of each face, the most probable first, in csv the others empty; None for all,
            in a table two.
    """

    def __init__(self, file: IO[str], format: Format, class_names: list[str], top: int | None = None) -> None:
        self.file, self.format, self.class_names, self.top = file, format, class_names, top
        self.begun = False
        self.labels: dict[tuple[str, int], str] = {}

    def add(self, source: str, faces: list[Face], frame: int | None = None, time: float | None = None) -> None:
        """Write the faces of a picture, or of a frame at a time in seconds."""
        if self.format == "table":
            self._rows(source, faces, time)
        elif self.format == "csv":
            self._csv(source, faces, frame, time)
        else:
            record = {"source": source, "frame": frame, "time": _rounded(time, 3)}
            line = json.dumps(record | {"faces": [self._face(face) for face in faces]}, ensure_ascii=False)
            start = "" if self.format == "jsonl" else ",\n" if self.begun else "[\n"
            self.file.write(start + line + ("\n" if self.format == "jsonl" else ""))
        self.begun = True
        self.file.flush()

    def close(self) -> None:
        """End what was begun, so that it can be read."""
        if self.format == "json":
            self.file.write("\n]\n" if self.begun else "[]\n")
        elif self.format == "csv" and not self.begun:
            self._heads()
        self.file.flush()

    def _best(self, face: Face) -> dict[str, float]:
        if self.top is None and self.format != "table":
            return face.probabilities
        best = sorted(face.probabilities.items(), key=lambda item: -item[1])
        return dict(best[: self.top or 2])

    def _face(self, face: Face) -> dict[str, Any]:
        points = None
        if face.landmarks is not None:
            points = {name: [_rounded(v, 1) for v in row] for name, row in zip(POINTS, face.landmarks, strict=True)}
        return {
            "track": face.track,
            "box": [_rounded(v, 1) for v in face.box],
            "score": _rounded(face.score, 3),
            "landmarks": points,
            "label": face.label,
            "probabilities": {name: _rounded(p, 4) for name, p in self._best(face).items()},
        }

    def _rows(self, source: str, faces: list[Face], time: float | None) -> None:
        name = printable(source)  # each face has a line of its own
        if not faces and time is None:
            self.file.write(f"{name}  no face\n")
        for n, face in enumerate(faces, 1):
            if face.track is not None and self.labels.get((source, face.track)) == face.label:
                continue
            if face.track is not None:
                self.labels[source, face.track] = face.label
            left, top, right, bottom = (round(v) for v in face.box)
            classes = "  ".join(f"{printable(name):<10}{100 * p:3.0f} %" for name, p in self._best(face).items())
            when = "" if time is None else f"{time:9.2f} s"
            place = f"{left}, {top}, {right - left} x {bottom - top}"
            self.file.write(f"{name}{when}  face {face.track or n:<3} {classes}   at {place}\n")

    def _heads(self) -> None:
        points = [f"{name}_{axis}" for name in POINTS for axis in "xy"]
        heads = ["source", "frame", "time", "track", "left", "top", "right", "bottom", "score", *points, "label"]
        csv.writer(self.file, lineterminator="\n").writerow([*heads, *map(plain_text, self.class_names)])

    def _csv(self, source: str, faces: list[Face], frame: int | None, time: float | None) -> None:
        writer = csv.writer(self.file, lineterminator="\n")
        if not self.begun:
            self._heads()
        place = [plain_text(source), frame, _rounded(time, 3)]
        unknown = [None] * (2 * len(POINTS))
        if not faces:
            writer.writerow([*place, *[None] * 7, *unknown, *[None] * len(self.class_names)])
        for face in faces:
            marks = unknown if face.landmarks is None else [_rounded(v, 1) for v in face.landmarks.flat]
            numbers = [*(_rounded(v, 1) for v in face.box), _rounded(face.score, 3), *marks]
            best = self._best(face)
            probabilities = [_rounded(best.get(name), 4) for name in face.probabilities]
            writer.writerow([*place, face.track, *numbers, plain_text(face.label), *probabilities])


def _rounded(value: Any, digits: int) -> float | None:
    return None if value is None else round(float(value), digits)

"""Drawn sequences written as CK+ lies on users' disks."""

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ferlightning.data.sources.synthetic.datamodule import draw_faces
from ferlightning.data.sources.synthetic.drawing import ROWS, Identity, face_shapes

CODES = ["neutral", "anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise"]
SEVEN = CODES[1:]
CSV_ORDER = ["anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral", "contempt"]
# Of different length and not in order, as the ids of CK+ have gaps.
SUBJECTS = ["S999", "S010", "S005", "S124", "S014", "S130", "S022", "S506", "S042", "S044", "S011", "S035"]


class Truth(NamedTuple):
    """A sequence as it was drawn."""

    subject: str
    number: str
    code: int
    frames: NDArray[np.uint8]  # (T, 48, 48)

    @property
    def name(self) -> str:
        return f"{self.subject}_{self.number}"

    def file(self, t: int) -> str:
        return f"{self.name}_{t + 2:08}.png"  # the first number is not always 1


def draw() -> list[Truth]:
    """About 70 sequences of 12 subjects, by name; not every subject shows every expression."""
    store = draw_faces(SEVEN, len(SUBJECTS), len(SUBJECTS), frames=(4, 9))
    people, drawn = sorted(set(store.subject)), []
    for n in range(len(store)):
        if n % 8 != 1:
            who = SUBJECTS[people.index(store.subject[n])]
            frames = store.images[store.start[n] : store.start[n + 1]]
            drawn.append(Truth(who, f"{store.label[n] + 1:03}", int(store.label[n]) + 1, frames))
    return sorted(drawn)


DRAWN = draw()


def write_original(root: Path, drawn: list[Truth] = DRAWN, emotion: str = "Emotion") -> Path:
    """The original distribution, with the junk that lies about in it."""
    for x in drawn:
        folder, label = (root / part / x.subject / x.number for part in ("cohn-kanade-images", emotion))
        folder.mkdir(parents=True)
        label.mkdir(parents=True)
        for t, frame in enumerate(x.frames):
            cv2.imwrite(str(folder / x.file(t)), frame)
        (folder / ".DS_Store").write_bytes(b"junk")
        (folder.parent / ".DS_Store").write_bytes(b"junk")
        (folder / "._S010_001_00000001.png").write_bytes(b"junk")
        if x.code >= 0:
            (label / f"{x.file(len(x.frames) - 1)[:-4]}_emotion.txt").write_text(f"   {x.code:.7e}\n")
    return root


def write_ck48(root: Path, drawn: list[Truth] = DRAWN) -> Path:
    """CK+48: the last three frames."""
    folders = ["neutral", "anger", "contempt", "disgust", "fear", "happy", "sadness", "surprise"]
    for x in drawn:
        folder = root / "CK+48" / folders[x.code]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".DS_Store").write_bytes(b"junk")
        for t in range(len(x.frames))[-3:]:
            cv2.imwrite(str(folder / x.file(t)), x.frames[t])
    return root


def write_csv(root: Path, drawn: list[Truth] = DRAWN, header: str = "emotion,pixels,Usage") -> Path:
    """ckextended.csv: neutral and apex of each sequence; usages in turn, so subjects are on all sides."""
    rows = [header]
    for n, x in enumerate(drawn):
        usage = ("Training", "Training", "Training", "PublicTest", "PrivateTest")[n % 5]
        for frame, name in ((x.frames[0], "neutral"), (x.frames[-1], CODES[x.code])):
            rows.append(f"{CSV_ORDER.index(name)},{' '.join(map(str, frame.ravel()))},{usage}")
    (root / "ckextended.csv").write_text("\n".join(rows) + "\n")
    return root


# --- faces whose eyes are known -------------------------------------------------------------------------------------


class Face:
    """A drawn person, whose face coordinates x + iy a pose (a, b) takes to pixels a z + b, 0 in the first's middle."""

    def __init__(self, seed: int, surprise: float = 0.0) -> None:
        self.who = Identity(np.random.default_rng(seed))
        self.units = np.zeros((2, ROWS))
        self.units[:, [1, 2, 5, 26]] = surprise

    @property
    def eyes(self) -> tuple[complex, complex]:
        return complex(-self.who.eye_x, self.who.eye_y), complex(self.who.eye_x, self.who.eye_y)

    @property
    def landmarks(self) -> NDArray[np.complex128]:
        """68, of which the jaw, 0 to 16, and the eyes, 36 to 47, are where they belong. The upper lids are raised."""
        points = np.full(68, 0.4j, np.complex128)
        points[:17] = self.who.head_width * np.cos(np.linspace(np.pi, 0, 17)) + 1j * np.sin(np.linspace(0, np.pi, 17))
        points[8] = 1j * (1 + 0.13 * self.units[0, 26])
        for first, eye in zip((36, 42), self.eyes, strict=True):
            w, h = self.who.eye_width, self.who.eye_height
            points[first : first + 6] = eye + np.array([-w, -2j * h - w / 3, -2j * h + w / 3, w, 1j * h, 1j * h])
        return points

    def draw(self, a: complex, b: complex, height: int = 490, width: int = 640) -> NDArray[np.uint8]:
        """Each pixel the mean of 3 x 3 smaller ones."""
        canvas = np.full((3 * height, 3 * width), 128, np.uint8)
        for shape in face_shapes(self.who, self.units):
            z = 3 * (a * (shape.points @ [1, 1j]) + b) + (1 + 1j)  # the middle one of the first nine is the second
            line = np.rint(16 * np.stack([z.real, z.imag], axis=1)).astype(np.int32)
            if shape.width:
                cv2.polylines(
                    canvas, [line], False, shape.grey, max(1, round(3 * shape.width * abs(a))), cv2.LINE_AA, 4
                )
            else:
                cv2.fillPoly(canvas, [line], shape.grey, cv2.LINE_AA, 4)
        return cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)


def write_landmarks(path: Path, points: NDArray[np.complex128]) -> Path:
    """As CK+ writes them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"   {z.real:.7e}   {z.imag:.7e}\n" for z in points))
    return path


def write_posed(root: Path, faces: list[Face], poses: list[tuple[complex, complex]], landmarks: bool = True) -> str:
    """One sequence, S010_004 of surprise, each frame of its own pose, and its landmarks."""
    images, labels, marks = (root / x / "S010" / "004" for x in ("cohn-kanade-images", "Emotion", "Landmarks"))
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    for t, (face, (a, b)) in enumerate(zip(faces, poses, strict=True), 1):
        cv2.imwrite(str(images / f"S010_004_{t:08}.png"), face.draw(a, b))
        if landmarks:
            write_landmarks(marks / f"S010_004_{t:08}_landmarks.txt", a * face.landmarks + b)
    (labels / f"S010_004_{len(faces):08}_emotion.txt").write_text("   7.0000000e+00\n")
    return str(root)

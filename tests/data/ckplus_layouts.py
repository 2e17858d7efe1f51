"""Drawn sequences written as CK+ lies on users' disks."""

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ferlightning.data.synthetic import draw_faces

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

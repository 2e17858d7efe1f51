"""FER2013 (Goodfellow et al. 2013, https://arxiv.org/abs/1307.0414) from the Kaggle csv."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferlightning.data.base import FaceData, Split
from ferlightning.data.store import Store, open_store
from ferlightning.errors import FerlError

HEADER = b"emotion,pixels,Usage"
USAGES = {b"Training": 0, b"PublicTest": 1, b"PrivateTest": 2}
SIDE = 48
PIXELS = SIDE * SIDE
BLOCK = 1 << 20  # bytes parsed at a time: fits the processor's cache with its temporaries
QUOTED = re.compile(rb'(?<![^,\n])"([^",\n]*)"(?![^,\n])')  # a whole column; a stray quote stays, and is refused


class FER2013(FaceData):
    """FER2013, 48x48 grey, 7 classes: Training / PublicTest / PrivateTest as train / validation / test.

    Args:
        root: ``fer2013.csv`` (columns emotion,pixels,Usage), or a folder that has it or a folder ``fer2013`` with it;
            null: the environment variable FERL_DATA.
        options: those of every data set.
    """

    class_names = ["anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"]

    def __init__(self, root: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.root = root

    def read(self) -> Store:
        path = find_source(self.root, ["fer2013.csv", "fer2013/fer2013.csv"], "FER2013")
        stat = path.stat()
        key = {"reader": "FER2013 csv 1", "path": path.resolve(), "size": stat.st_size, "time": stat.st_mtime_ns}
        return open_store(key, lambda: read_csv(path))

    def notes(self, split: Split) -> list[str]:
        if split == "test" and not (self.store.split == 2).any():
            source = "PublicTest" if (self.store.split == 1).any() else "a part of Training"
            return [f"The csv has no PrivateTest rows: this is {source}, on which the epoch was chosen."]
        return []


def find_source(root: str | None, names: Sequence[str], data_set: str) -> Path:
    """The file a data set is read from.

    Args:
        root: the file itself or a folder; None for the environment variable FERL_DATA.
        names: paths to try within the folder.
        data_set: what to call it in the message.

    Raises:
        FerlError: it is nowhere; the message says where was looked.
    """
    folder = root or os.environ.get("FERL_DATA")
    if not folder:
        raise FerlError(f"{data_set}: where is it? Set the environment variable FERL_DATA or --data.root to its folder")
    looked = [Path(folder), *(Path(folder) / name for name in names)]
    for path in looked:
        if path.is_file():
            return path
    raise FerlError(
        f"{data_set}: not found; looked for the files {', '.join(map(str, looked))}. Set the environment variable "
        "FERL_DATA or --data.root to its folder"
    )


def read_csv(path: Path) -> Store:
    """Parse the Kaggle csv, one row an image, with NumPy over blocks of whole lines.

    Raises:
        FerlError: names the row, 1 being the line after the header, and what is wrong with it.
    """
    images, labels, splits = [], [], []
    row = 1
    for block, cut in _line_blocks(path):
        pixels, label, split = _parse(block, path, row, cut)
        images.append(pixels)
        labels.append(label)
        splits.append(split)
        row += len(label)
    if not images:
        raise FerlError(f"{path}: no rows after the header. Fetch the file again")
    label = np.concatenate(labels)
    names = np.array([f"row {i}" for i in range(1, row)])
    return Store.of_stills(np.concatenate(images), label, np.concatenate(splits), names)


def _line_blocks(path: Path) -> Iterator[tuple[bytes, bool]]:
    """Blocks of whole lines after the header, each ended by a newline, and whether the file lacked that newline."""
    with path.open("rb") as file:
        header = file.readline().strip()
        if QUOTED.sub(rb"\1", header) != HEADER:
            raise FerlError(
                f"{path}: the first line is {header[:80].decode(errors='replace')!r}, expected {HEADER.decode()!r}, as "
                "in Kaggle's csv. Fetch the file again"
            )
        while block := file.read(BLOCK):
            block += file.readline()
            cut = not block.endswith(b"\n")
            block = (block + b"\n" if cut else block).replace(b"\r\n", b"\n")
            yield QUOTED.sub(rb"\1", block) if b'"' in block else block, cut


def _parse(
    block: bytes, path: Path, row: int, cut: bool
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int8]]:
    """Images (n, 48, 48), labels (n,) and splits (n,) of the lines of a block.

    Args:
        block: whole lines.
        path: where they are from, for messages.
        row: number of the first.
        cut: the file ends with this block, and not with a newline.
    """
    text = np.frombuffer(block, np.uint8)
    newlines = np.flatnonzero(text == ord("\n"))
    starts = np.concatenate([[0], newlines[:-1] + 1])
    commas = np.flatnonzero(text == ord(","))
    per_line = np.searchsorted(commas, newlines) - np.searchsorted(commas, starts)

    def fail(line: int, what: str) -> FerlError:
        last = " The file ends within this row: is it cut short?" if cut and line == len(newlines) - 1 else ""
        return FerlError(f"{path}, row {row + line}: {what}.{last} Fetch the file again or mend the row")

    if (per_line != 2).any():
        line = int(np.flatnonzero(per_line != 2)[0])
        found = "an empty line" if starts[line] == newlines[line] else f"{per_line[line] + 1} column(s)"
        raise fail(line, f"{found}, expected 3 columns ({HEADER.decode()})")
    first, second = commas[0::2], commas[1::2]

    split = np.empty(len(newlines), np.int8)
    for line, (a, b) in enumerate(zip(second + 1, newlines, strict=True)):
        usage = block[a:b].strip(b" ")
        if usage not in USAGES:
            known = ", ".join(name.decode() for name in USAGES)
            raise fail(line, f"Usage is {usage[:80].decode(errors='replace')!r}, expected one of {known}")
        split[line] = USAGES[usage]

    # A number ends where a digit is followed by something else; its value is read backwards from there.
    digit = text - np.uint8(ord("0"))
    is_digit = digit < 10
    ends = np.flatnonzero(is_digit[:-1] & ~is_digit[1:])
    tens = is_digit[ends - 1]
    hundreds = tens & is_digit[ends - 2]
    value = digit[ends] + np.uint16(10) * (digit[ends - 1] * tens) + np.uint16(100) * (digit[ends - 2] * hundreds)

    # Anything but digits and spaces before the Usage column, a sign or a point for instance.
    odd = np.flatnonzero(~(is_digit | (text == ord(" ")) | (text == ord(",")) | (text == ord("\n"))))
    line_of = np.searchsorted(newlines, odd)
    strange = odd < second[line_of]
    if strange.any():
        where = int(np.flatnonzero(strange)[0])
        raise fail(int(line_of[where]), f"unexpected character {chr(text[odd[where]])!r} among the numbers")

    number_line = np.searchsorted(newlines, ends)
    counts = np.bincount(number_line, minlength=len(newlines))
    emotions = np.searchsorted(ends, first) - np.searchsorted(ends, starts)
    if (emotions != 1).any():
        line = int(np.flatnonzero(emotions != 1)[0])
        raise fail(line, f"emotion is {block[starts[line] : first[line]].decode()!r}, expected one number from 0 to 6")
    if (counts != PIXELS + 1).any():
        line = int(np.flatnonzero(counts != PIXELS + 1)[0])
        raise fail(line, f"{counts[line] - 1} pixels, expected {PIXELS} ({SIDE}x{SIDE})")
    thousands = hundreds & is_digit[ends - 3]
    if ((value > 255) | thousands).any():
        number = int(np.flatnonzero((value > 255) | thousands)[0])
        start = max(block.rfind(mark, 0, ends[number]) for mark in (b" ", b",", b"\n")) + 1
        line, word = int(number_line[number]), block[start : ends[number] + 1].decode()
        what, most = ("emotion is", 6) if ends[number] < first[line] else ("a pixel of", 255)
        raise fail(line, f"{what} {word.strip()[:80]}, expected 0 to {most}")
    numbers = value.astype(np.uint8).reshape(len(newlines), PIXELS + 1)
    label = numbers[:, 0].astype(np.int64)
    if (label > 6).any():
        line = int(np.flatnonzero(label > 6)[0])
        raise fail(line, f"emotion is {label[line]}, expected 0 to 6")
    return numbers[:, 1:].reshape(-1, SIDE, SIDE), label, split

"""Labels in the paths of images, found by a regular expression."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from ferlightning.data.sources.files import Listed
from ferlightning.data.sources.names import no_such, readable, some, split_of, strict_number
from ferlightning.emotions import canonical
from ferlightning.errors import FerlError
from ferlightning.images.decode import image_names, list_images
from ferlightning.signals import at_most

SECONDS = 2
"""Time that a pattern may take on one path; one that goes back and forth for ever is cut short."""
GROUPS = ("label", "split", "subject", "sequence", "frame")
KNOWN = {
    "JAFFE": r"(?:^|/)(?P<subject>[A-Z]{2})\.(?P<label>AN|DI|FE|HA|NE|SA|SU)\d\.(?:\d+\.)?\w+$",
    # AF01ANS.JPG: session A, woman 01, anger, straight; the other session shows the same people.
    "KDEF": r"(?:^|/)[AB](?P<subject>[FM]\d\d)(?P<label>AF|AN|DI|HA|NE|SA|SU)S\.JPG$",
    # From neutral to apex, under one light: --data.last=3 for the usual three frames.
    "Oulu-CASIA": r"(?:^|^Strong/|(?:^|/)VL\w*/Strong/)"
    r"(?P<sequence>(?P<subject>P\d{3})/(?P<label>Anger|Disgust|Fear|Happiness|Sadness|Surprise))/(?P<frame>\d{3})\.",
}
"""Data sets by the paths of their images, as their authors deliver them."""
CODES = {
    "AF": "fear", "AN": "anger", "DI": "disgust", "FE": "fear", "HA": "happiness", "NE": "neutral", "SA": "sadness",
    "SU": "surprise",
}  # fmt: skip
"""Labels of JAFFE and KDEF."""


def list_matching(root: Path, pattern: str, by_hand: Mapping[str, str]) -> tuple[list[Listed], list[str]]:
    """List the images whose paths match a pattern, and remark which do not.

    Args:
        root: the folder that paths are relative to.
        pattern: a regular expression with the groups ``GROUPS``, of which label is needed, or a name of ``KNOWN``.
        by_hand: the splits of what the group split finds, where it has other names than usual.

    Raises:
        FerlError: there is no such folder, or the pattern is wrong or matches no image.
    """
    if not root.is_dir():
        raise FerlError(f"data.root: there is no folder {root}")
    try:
        search = re.compile(KNOWN.get(pattern, pattern), re.IGNORECASE if pattern in KNOWN else 0).search
    except re.error as error:
        raise FerlError(f"data.pattern is {pattern!r}: {error}") from None
    groups = re.compile(KNOWN.get(pattern, pattern)).groupindex
    if "label" not in groups or (odd := [name for name in groups if name not in GROUPS]):
        if "label" in groups:
            what = f"has the group {', '.join(odd)}; groups are {', '.join(GROUPS)}"
        else:
            what = f"has no group (?P<label>...); known data sets are {', '.join(KNOWN)}"
        raise FerlError(f"data.pattern is {pattern!r}, which {what}")
    files, other, values = [], [], set()
    for path in sorted(image_names(root), key=_natural):
        name = Path(path).relative_to(root).as_posix()
        with at_most(SECONDS, FerlError(f"data.pattern is {pattern!r}, which takes for ever on {name}: write it "
                     "without a repeated group, such as (a+)+")):  # fmt: skip
            match = search(name)
        cells = {key: value for key, value in match.groupdict().items() if value} if match else {}
        if "label" not in cells:
            other.append(name)
            continue
        values.add(value := cells.get("split", ""))
        split = (by_hand.get(value) if by_hand else split_of(value)) if value else None
        if split is None and "split" in groups:
            if by_hand:
                other.append(name)
                continue
            raise FerlError(
                f"{path}: the split is {value!r}, expected train, validation or test; or say what it means by "
                f"--data.split='{{test: {value}, ...}}'"
            )
        label = CODES.get(cells["label"].upper(), "") if pattern in KNOWN else ""
        frame = _frame(path, cells.get("frame"))
        files.append(
            Listed(
                path, label or canonical(readable(cells["label"])), split, readable(cells.get("subject", "")), None,
                readable(cells.get("sequence", "")), frame,
            )
        )  # fmt: skip
    for name in by_hand:
        if name not in values:
            raise FerlError(no_such(name, "split found by data.pattern", sorted(filter(None, values))))
    if len(found := {file.name for file in files}) < 2:
        raise FerlError(
            f"{root}: data.pattern {pattern!r} finds {len(files):,} images of {len(files) + len(other):,} with the "
            f"labels {sorted(map(str, found))}, need at least 2 classes"
            + (f". It does not match {some(other, 3)}" if other else "")
        )
    remarks = [f"{len(other):,} images do not match data.pattern and were left out: {some(other)}."] if other else []
    if "split" not in groups and not by_hand and (splits := _splits_of_folders(root, files)):
        files = [file._replace(split=split) for file, split in zip(files, splits, strict=True)]
        remarks.append("data.pattern has no group split: folders named after splits were taken as those.")
    return files, remarks


def _splits_of_folders(root: Path, files: list[Listed]) -> list[str]:
    """The split of each image by the folders it lies in; empty if they are not named after two or more.

    Raises:
        FerlError: some images lie in none of them.
    """
    folders = [os.path.dirname(file.path) for file in files]  # noqa: PTH120 - of many files
    by_folder = {
        folder: next(filter(None, map(split_of, Path(folder).relative_to(root).parts)), None) for folder in {*folders}
    }
    splits = [by_folder[folder] for folder in folders]
    if len({*splits} - {None}) < 2:
        return []
    if None in splits:
        raise FerlError(
            f"{files[splits.index(None)].path}: lies in no split, but others do by the names of their folders. Move "
            "it, or give data.pattern a group split"
        )
    return [split for split in splits if split]


def recognise_pattern(root: Path) -> str | None:
    """Tell which of ``KNOWN`` the images in a folder are of, at least most of them; None for none."""
    if not root.is_dir():
        return None
    names = [path.relative_to(root).as_posix() for path in list_images(root)]
    for data_set, pattern in KNOWN.items():
        found = [match for name in names if (match := re.search(pattern, name, re.IGNORECASE))]
        # KDEF has five views of each face, of which one is frontal.
        if found and len(found) >= 0.15 * len(names) and len({match["label"].upper() for match in found}) > 1:
            return data_set
    return None


def _frame(path: str, text: str | None) -> float:
    try:
        return strict_number(text) if text else 0
    except ValueError as error:
        raise FerlError(f"{path}: the group frame of data.pattern: {error}") from None


def _natural(path: str) -> list[tuple[int, str]]:
    """Sort numbers in names by value: frame 2 before frame 10."""
    return [(int(word), "") if word.isdecimal() and word.isascii() else (-1, word) for word in re.split(r"(\d+)", path)]

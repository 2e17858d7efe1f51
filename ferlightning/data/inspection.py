"""Inspection of data on disk: which data sets there are, in which layouts, what they hold, and what is odd about it."""

import json
import logging
import shlex
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from ferlightning.bounded_yaml import plain
from ferlightning.data.advice import advise, command, look_at
from ferlightning.data.datamodule import FaceData
from ferlightning.data.fingerprints import blank_frames, told_repeats
from ferlightning.data.sources import affectnet, ckplus, fer2013, ferplus, rafdb, table, yolo
from ferlightning.data.sources.affectnet import AffectNet
from ferlightning.data.sources.arrays import Arrays
from ferlightning.data.sources.ckplus import CKPlus
from ferlightning.data.sources.fer2013 import FER2013
from ferlightning.data.sources.ferplus import FERPlus
from ferlightning.data.sources.files import ImageFiles
from ferlightning.data.sources.folder import ImageFolder, list_classes
from ferlightning.data.sources.layouts import find_layouts, unpack, unread_folders
from ferlightning.data.sources.names import readable
from ferlightning.data.sources.patterns import recognise_pattern
from ferlightning.data.sources.rafdb import RAFDB
from ferlightning.data.sources.text_lines import first_line
from ferlightning.data.sources.yolo import YOLO
from ferlightning.data.store import SPLITS, UNDECIDED, UNLABELLED
from ferlightning.errors import FerlError
from ferlightning.images.decode import is_pipe

READERS = {
    FER2013: fer2013, FERPlus: ferplus, CKPlus: ckplus, RAFDB: rafdb, AffectNet: affectnet, YOLO: yolo,
    table.Table: table,
}  # fmt: skip
"""The data sets that are recognised, and the module that has ``find`` and ``LAYOUTS`` for each."""
log = logging.getLogger(__name__)


class Source(NamedTuple):
    """A data set in one layout at one place."""

    data_set: str
    layout: str
    path: Path
    whole: Callable[[], FaceData]
    """Build a data module that reads everything."""
    default: Callable[[], FaceData]
    """Build the data module with its defaults."""
    options: dict[str, Any]
    """What the command line must say to read it."""


def recognise(path: Path) -> list[Source]:
    """Find the data sets in a folder and in the folders directly below it, or the one that a file belongs to.

    Raises:
        FerlError: there is none; the message lists what is recognised.
    """
    if not path.exists():
        raise FerlError(f"there is no file or folder {path}")
    if (path / "config.yaml").is_file() and (path / "checkpoints").is_dir():
        raise FerlError(f"{path} is the run folder of a training, and no data: its data are named in its config.yaml")
    if not path.is_dir() and is_pipe(path):
        raise FerlError(f"{path} is a pipe or device, and no data set")
    if path.suffix.lower() == ".npz" and path.is_file():
        return [
            Source("Arrays", "npz", path, lambda: Arrays(str(path)), lambda: Arrays(str(path)), {"root": str(path)})
        ]
    layouts = [(kind, layout) for kind, module in READERS.items() for layout in find_layouts(module.find, path)]
    # The list of labels in a folder of another data set is no table of its own.
    claimed = {path / name for kind, layout in layouts if kind is not table.Table for name in layout.claims}
    layouts = [(kind, layout) for kind, layout in layouts if kind is not table.Table or layout.path not in claimed]
    found = [_source(kind, layout.name, layout.path, path.is_dir()) for kind, layout in layouts]
    if path.is_file() and any(source.data_set == "Table" for source in found):
        found = [source for source in found if source.data_set == "Table"]  # a csv of paths has no pixels
    if found:
        if set[str].intersection(*({*unread_folders(path, layout)} for _, layout in layouts)):
            with suppress(FerlError):  # then they are named in a remark
                list_classes(path)
                found.append(_class_folders(path))
        return found
    if path.is_file():
        line = first_line(path)  # says what a file is that is no text, as a zip
        raise FerlError(
            f"{path}: is no table of images, which has columns path and label, or pixels and emotion; its first line "
            f"is {line[:80]!r}"
        )
    pattern = recognise_pattern(path)
    try:
        if pattern is None:
            list_classes(path)
    except FerlError as error:
        known = "".join(
            f"\n  {kind.__name__} {name}: {looks}"
            for kind, module in READERS.items()
            for name, looks in module.LAYOUTS.items()
        )
        raise FerlError(
            f"{path}: no data set is recognised there or in the folders directly below.{unpack(path)} {error}\n"
            f"Known layouts:\n  ImageFolder: <class>/*.png or train/<class>/*.png{known}"
        ) from None

    return [_class_folders(path, pattern)]


def first(path: Path) -> FaceData:
    """The first data set of ``recognise``; a warning names the others.

    Raises:
        FerlError: the same as of ``recognise``.
    """
    found = recognise(path)
    tell_others(path, found)
    return found[0].default()


def tell_others(path: Path, found: list[Source]) -> None:
    """Warn that the first data set of a place is taken, and not the others."""
    if others := list(dict.fromkeys(f"{source.data_set}, {source.layout}" for source in found[1:])):
        log.warning("%s: this is about %s, %s; also there: %s. Give one by --data=NAME --data.root=%s", path,
                    found[0].data_set, found[0].layout, "; ".join(others), plain(str(path)))  # fmt: skip


def _class_folders(path: Path, pattern: str | None = None) -> Source:
    def folder() -> FaceData:
        return ImageFolder(str(path), pattern=pattern)

    options = {"root": str(path)} | ({} if pattern is None else {"pattern": pattern})
    return Source("ImageFolder", "folder" if pattern is None else f"pattern={pattern}", path, folder, folder, options)


def _source(kind: type[FaceData], layout: str, path: Path, searched: bool) -> Source:
    """``searched``: the place was found in a folder, and what lies beside it is to be remarked."""
    root = str(path.parent if searched and path.is_file() else path)
    where: dict[str, Any] = {"root": root, "layout": layout}
    told = where if len(READERS[kind].LAYOUTS) > 1 else {"root": root}
    options: dict[str, Any] = {}
    if kind is CKPlus:  # sequences in full length; ckextended.csv has none, and no folds
        options = {"fold": None} if layout == "ckextended" else {"clips": True, "last": None}
    return Source(kind.__name__, layout, path, lambda: kind(**where, **options), lambda: kind(**where), told)


def describe(data: FaceData) -> dict[str, Any]:
    """Describe what a data set holds.

    Returns:
        ``image``, its size and channels; ``names`` of the classes; ``classes``, the items of each split by class;
        ``unlabelled``, those of each split without a label; ``subjects`` and ``sequences``, how many are known;
        ``frames``, fewest, median and most of an item; ``remarks``; ``files``, what they are like as stored;
        ``to_train``, how many items; and ``advice`` for a training.
    """
    store, names = data.raw, data.spelled_names
    labelled = data.label != UNLABELLED
    splits = {name: store.split == i for i, name in enumerate(SPLITS) if (store.split == i).any()}
    if (store.split == UNDECIDED).any():
        splits["not split"] = store.split == UNDECIDED
    counts, unlabelled = {}, {}
    for split, chosen in splits.items():
        items = np.bincount(data.label[chosen & labelled], minlength=len(names)).tolist()
        counts[split] = dict(zip(names, items, strict=True))
        unlabelled[split] = int((chosen & ~labelled).sum())
    lengths, subjects = np.diff(store.start), np.unique(store.subject[store.subject != ""])
    blank = np.unique(np.repeat(np.arange(len(store)), lengths)[blank_frames(store, np.arange(lengths.sum()))])
    remarks = [str(remark) for remark in store.remarks]
    remarks += [f"There are no {name} images." for name in SPLITS if "not split" not in splits and name not in splits]
    for split, own in counts.items():
        where = "" if split == "not split" else f" in {split}"
        remarks += [f"There is no image of {name}{where}." for name, n in own.items() if not n]
        if repeats := told_repeats(store, np.flatnonzero(splits[split])):
            remarks.append(f"{split}: {repeats}")
        if without := unlabelled[split]:
            remarks.append(f"{without:,} of {sum(own.values()) + without:,} items{where} have no label.")
    if len(blank):
        more = " and others" if len(blank) > 5 else ""
        remarks.append(f"{len(blank):,} items have images of one grey value: {', '.join(store.name[blank[:5]])}{more}.")
    if unknown := int((store.subject == "").sum()):
        whom = "any item" if unknown == len(store) else f"{unknown:,} of {len(store):,} items"
        remarks.append(f"It is not known who is shown in {whom}.")
    height, width, *channels = store.images.shape[1:]
    files = look_at(data) if isinstance(data, ImageFiles) else None
    items = sum(sum(own.values()) for split, own in counts.items() if split in ("train", "not split"))
    return {
        "files": files,
        "to_train": items,
        "advice": advise(files, items),
        "image": f"{width} x {height}, {'colour' if channels else 'grey'}",
        "names": names,
        "classes": counts,
        "unlabelled": unlabelled,
        "subjects": len(subjects),
        "sequences": len(np.unique(store.sequence[store.sequence != ""])),
        "frames": [int(lengths.min()), float(np.median(lengths)), int(lengths.max())],
        "remarks": list(dict.fromkeys(remarks)),
    }


def print_description(source: Source, found: dict[str, Any], console: Console) -> None:
    """Print what ``describe`` found about a source."""
    console.print(
        f"\n[bold]{source.data_set}[/bold], layout {source.layout}: {escape(readable(str(source.path)))}",
        soft_wrap=True,
    )
    people = f"{found['subjects']:,} subjects" if found["subjects"] else "subjects unknown"
    facts = [f"images {'read as ' if found['files'] else ''}{found['image']}", people]
    if found["sequences"]:
        facts.append(f"{found['sequences']:,} sequences")
    least, median, most = found["frames"]
    if most > 1:
        facts.append(
            f"{most} frames a clip" if least == most else f"{least} to {most} frames a clip, median {median:g}"
        )
    console.print(", ".join(facts), soft_wrap=True)
    table = Grid("class")
    for split in found["classes"]:
        table.add_column(split, justify="right")
    rows = rows_of(found)
    for name, counts in rows:
        table.add_row(escape(name), *(f"{n:,}" for n in counts))
    table.add_section()
    table.add_row("all", *(f"{sum(counts):,}" for counts in zip(*(counts for _, counts in rows), strict=True)))
    console.print(table)
    for remark in found["remarks"]:
        console.print(f"Note: {remark}", style="yellow", markup=False)
    for line in found["advice"]:
        console.print(line, markup=False, soft_wrap=True)
    if found["to_train"]:
        console.print(f"Train on it: {train_on(source, found)}", markup=False, soft_wrap=True)


def rows_of(found: dict[str, Any]) -> list[tuple[str, list[int]]]:
    """The rows of a table of what ``describe`` found: each class, and what has none, with the items of each split."""
    rows = [(name, [own[name] for own in found["classes"].values()]) for name in found["names"]]
    without = list(found["unlabelled"].values())
    return [*rows, *([("unlabelled", without)] if any(without) else [])]


def train_on(source: Source, found: dict[str, Any]) -> str:
    """The command that trains on a source of which ``describe`` found this."""
    clips = found["frames"][2] > 1
    line = command(source.data_set, source.options, found["files"], found["to_train"], clips)
    here = [own for split, own in found["classes"].items() if split in ("train", "not split")]
    trained = [name for name in found["names"] if any(own[name] for own in here)]
    if len(trained) == len(found["names"]) or len(trained) < 2:
        return line
    return f"{line} {shlex.quote(f'--data.classes={json.dumps(trained, ensure_ascii=False)}')}"

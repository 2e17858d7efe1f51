"""FER+ (Barsoum et al. 2016, https://arxiv.org/abs/1608.01041): the images of FER2013 with ten votes each."""

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path, PureWindowsPath
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ferlightning.contracts.modules import Batch
from ferlightning.data.datamodule import FaceData, Split
from ferlightning.data.fingerprints import blank_frames
from ferlightning.data.sources import fer2013
from ferlightning.data.sources.files import OnBadImage, decode_all
from ferlightning.data.sources.layouts import Layout, choose_layout
from ferlightning.data.sources.names import readable
from ferlightning.data.sources.text_lines import first_line, read_cells
from ferlightning.data.store import SPLITS, UNLABELLED, Store
from ferlightning.errors import FerlError
from ferlightning.images.decode import Box, list_images, read_image

VOTES = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF")
CLASSES = list(VOTES[:8])
VOTES_FILE = "fer2013new.csv"
PNG_FOLDERS = {"FER2013Train": "train", "FER2013Valid": "val", "FER2013Test": "test"}
LAYOUTS = {
    **{name: f"{VOTES_FILE} beside {looks}" for name, looks in fer2013.LAYOUTS.items()},
    "png": "FER2013Train/, FER2013Valid/ and FER2013Test/ with label.csv and the images",
}
BOX = re.compile(r"\( *([0-9]{1,6}), *([0-9]{1,6}), *([0-9]{1,6}), *([0-9]{1,6}) *\)")
SHARE = 0.3  # share of the votes from which an emotion is one of the targets (Barsoum et al. 2016, section 4)


class FERPlus(FaceData):
    """FER+, 48x48 grey, 8 classes, with the official filter; validation and test always have the majority label.

    An image is kept if one of the eight emotions has more than half of the votes, where single votes are dropped, and
    unknown and not-a-face count: 25,060 / 3,199 / 3,153 images.

    Args:
        root: a folder with the data, or the folder above it; null: the environment variable FERL_DATA.
        layout: ``png``, or that of FER2013 beside ``fer2013new.csv``: ``csv``, ``icml``, ``challenge`` or ``folders``;
            null: the first that is there.
        target: the training label: ``majority``, the emotion with most votes; ``probability``, one drawn from the votes
            each time; ``cross_entropy``, the shares of the votes; ``multi_target``, all emotions with at least 30 % of
            the votes, equally, for ``MultiTargetLoss``.
        fer2013_labels: give training images FER2013's own label, too, as ``label_fer2013`` for ``AuxiliaryHead``, and
            keep those that the filter leaves out, but not blank ones: they have no label of FER+ then. Needs
            ``target: cross_entropy``.
        on_bad_image: what to do with image files that are missing or cannot be read: ``raise`` an error that counts and
            names them, or ``skip`` them with a remark in the report.
        options: those of every data set.
    """

    label_names = CLASSES

    def __init__(
        self,
        root: str | None = None,
        layout: str | None = None,
        target: Literal["majority", "probability", "cross_entropy", "multi_target"] = "majority",
        fer2013_labels: bool = False,
        on_bad_image: OnBadImage = "raise",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.root = root
        self.layout = layout
        self.target = target
        self.fer2013_labels = fer2013_labels
        self.on_bad_image = on_bad_image
        if fer2013_labels and target != "cross_entropy":
            raise FerlError(
                f"data.fer2013_labels needs data.target=cross_entropy, not {target}: an image that FER+ leaves out has "
                "no label of any other kind"
            )
        if fer2013_labels and self.balanced_sampling:
            raise FerlError(
                "data.balanced_sampling draws by class, and with data.fer2013_labels some images have none: leave out "
                "one of the two"
            )

    def read(self) -> Store:
        return self._layout.open("FERPlus", on_bad_image=self.on_bad_image)

    @cached_property
    def _layout(self) -> Layout:
        return choose_layout("FER+", partial(find, on_bad_image=self.on_bad_image), LAYOUTS, self.root, self.layout)

    @cached_property
    def items(self) -> dict[Split, NDArray[np.int64]]:
        found = super().items
        if not self.fer2013_labels:
            return found
        labelled = (self.label != UNLABELLED) | self.other_labels()["fer2013"].any(1)
        train = np.flatnonzero((self.split() == SPLITS.index("train")) & labelled)
        return found | {"train": train[~blank_frames(self.raw, train)]}

    def other_labels(self) -> dict[str, NDArray[np.float32]]:
        if not self.fer2013_labels:
            return {}
        layout = self._layout
        if layout.name == "png":
            raise FerlError(f"data.fer2013_labels: {layout.path} has no labels of FER2013; use another layout")
        # Its images, and so their order, are those of FER2013 in the same layout.
        own = fer2013.FER2013(self.root, layout.name, self.on_bad_image).raw.label
        return {"fer2013": np.eye(len(fer2013.CLASSES) + 1, len(fer2013.CLASSES), dtype=np.float32)[own]}

    @property
    def class_counts(self) -> list[int]:
        label = self.label[self.items["train"]]
        counts: list[int] = np.bincount(label[label != UNLABELLED], minlength=len(self.class_names)).tolist()
        return counts

    def training_label(self) -> Tensor:
        if self.target == "majority":
            return super().training_label()
        is_of = np.array([[self.meaning[name] == own for own in self.class_names] for name in CLASSES], np.float32)
        shares = vote_shares(self.raw.votes) @ is_of
        if self.target == "multi_target":
            shares = (shares >= SHARE).astype(np.float32)
        if self.fer2013_labels:
            shares = shares * (self.label != UNLABELLED)[:, None].astype(np.float32)
        # Images left out by the filter or by ``classes`` may have no vote here.
        return torch.from_numpy(shares / np.maximum(shares.sum(1, keepdims=True), 1e-6))

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Draw the labels for ``probability``, then do what every data set does."""
        if self.target == "probability" and batch["label"].ndim == 2:
            batch["label"] = torch.multinomial(batch["label"], 1).squeeze(1)
        return super().on_after_batch_transfer(batch, dataloader_idx)

    def notes(self, split: Split) -> list[str]:
        n = int((self.raw.label == UNLABELLED).sum())
        return [*super().notes(split), f"The official filter of FER+ left out {n:,} of {len(self.raw):,} images."]


def majority_label(votes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Choose the emotion with more than half of the votes that count: an index into ``CLASSES``, or ``UNLABELLED``.

    Args:
        votes: (N, 10), as in fer2013new.csv. A single vote for an emotion does not count.
    """
    counted = _counted(votes)
    best = counted.argmax(1)
    clear = 2 * counted.max(1) > counted.sum(1)
    return np.where(clear & (best < len(CLASSES)), best, UNLABELLED)


def vote_shares(votes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Compute the share of each of the eight emotions in their votes that count, (N, 8); zeros if none does."""
    counted = _counted(votes)[:, : len(CLASSES)]
    shares: NDArray[np.float32] = (counted / np.maximum(counted.sum(1, keepdims=True), 1)).astype(np.float32)
    return shares


def _counted(votes: NDArray[np.uint8]) -> NDArray[np.int64]:
    return np.where(votes > 1, votes, 0).astype(np.int64)


# --- readers --------------------------------------------------------------------------------------------------------


def find(path: Path, on_bad_image: OnBadImage = "raise") -> list[Layout]:
    """Find the layouts of FER+ in a folder."""
    if not path.is_dir():
        return []
    found, votes = [], path / VOTES_FILE
    if votes.is_file():
        found = [_beside(votes, images) for images in fer2013.find(path, on_bad_image)]
    if any((path / name / "label.csv").is_file() for name in PNG_FOLDERS):
        found.append(
            Layout(
                "png",
                path,
                lambda: _png_files(path),
                lambda: _read_png(path, on_bad_image),
                claims=frozenset(PNG_FOLDERS),
            )
        )
    return found


def _beside(votes: Path, images: Layout) -> Layout:
    return Layout(
        images.name,
        votes.parent,
        lambda: [votes, *images.files()],
        lambda: _read_beside(votes, images.name, images.parse()),
        images.version,
        images.claims,
    )


def _read_table(path: Path) -> Iterator[tuple[int, list[str]]]:
    return read_cells(path, max(",;\t", key=first_line(path).count), only_utf8=True)


def _read_row(path: Path, line: int, row: list[str]) -> tuple[str, str, NDArray[np.uint8]]:
    """Read the first two columns of a row, and its ten votes."""
    votes = [int(cell) for cell in row[2:] if re.fullmatch("[0-9]{1,3}", cell) and int(cell) < 256]
    if len(row) != 2 + len(VOTES) or len(votes) != len(VOTES):
        raise FerlError(
            f"{path}, line {line}: expected two columns and ten votes, found {','.join(row)[:80]!r}. Fetch the file "
            "again, or fix the line"
        )
    return row[0], row[1], np.array(votes, np.uint8)


def _is_header(row: list[str]) -> bool:
    return [cell.lower() for cell in row[2:]] == [name.lower() for name in VOTES]


def _read_beside(path: Path, layout: str, store: Store) -> Store:
    """Join the images of FER2013 with the votes of ``fer2013new.csv``, which matches ``fer2013.csv`` row by row.

    Raises:
        FerlError: the file is damaged, or belongs to other images.
    """
    table = _read_table(path)
    _, header = next(table, (1, []))
    if not _is_header(header):
        raise FerlError(
            f"{path}: the first line is {','.join(header)[:120]!r}, expected "
            f"{','.join(['Usage', 'Image name', *VOTES])!r}. Fetch the file again"
        )
    rows, usages = [], []
    for line, cells in table:
        rows.append(row := _read_row(path, line, cells))
        if row[0] not in fer2013.USAGES:
            raise FerlError(f"{path}, line {line}: Usage is {row[0]!r}, expected one of {', '.join(fer2013.USAGES)}")
        usages.append(SPLITS.index(fer2013.USAGES[row[0]]))
    if not rows:
        raise FerlError(f"{path}: no rows after the header. Fetch the file again")
    usage = np.array(usages, np.int8)
    order = _image_rows(path, layout, store, usage)
    votes = np.stack([row[2] for row in rows])[order]
    label = majority_label(votes)
    _check_agreement(path, store.label, label)
    names = [f"{name} {rows[row][1]}".strip() for name, row in zip(store.name, order, strict=True)]
    fields: dict[str, Any] = {
        "label": label,
        "votes": votes,
        "split": usage[order],
        "name": np.array(names),
        "remarks": store.remarks,
    }
    if layout == "challenge":  # its test images have no label of their own, but have votes
        fields["remarks"] = store.remarks[:0]
    return replace(store, **fields)


def _image_rows(path: Path, layout: str, store: Store, usage: NDArray[np.int8]) -> NDArray[np.int64]:
    """Find the row of the votes for every image, (N,)."""
    split, order = store.split, np.arange(len(usage))
    if layout == "challenge":  # first the Training rows, then those of the two test parts
        order = np.argsort(usage > 0, kind="stable")[: len(store)]
        split = np.where(split > 0, usage[order], split) if len(order) == len(store) else split
    elif layout == "folders":
        # The k-th image of a usage, by the number in its name, is the k-th row of that usage.
        paths = [Path(file.path) for file in fer2013.listed_images(path.parent)]  # those that were left out, too
        names = [fer2013.NAMED_BY_USAGE.match(path.name) for path in paths]
        if not all(names):
            raise FerlError(_not_aligned(path, "the images are not named by usage and row, such as Training_123.jpg"))
        own = np.array([SPLITS.index(fer2013.USAGES[name[1]]) for name in names if name])
        by_number = np.lexsort((np.array([int(name[2]) for name in names if name]), own))
        by_usage = np.argsort(usage, kind="stable")
        if len(by_usage) == len(by_number):
            order = np.empty_like(by_usage)
            order[by_number] = by_usage
            there = set(store.name.tolist())
            order = order[[readable(os.path.relpath(x, path.parent)) in there for x in paths]]
    counts = [f"{np.bincount(x[x >= 0], minlength=3).tolist()}" for x in (usage, split)]
    if len(order) != len(store) or not (usage[order] == split).all():
        what = f"Training / PublicTest / PrivateTest are {counts[0]} in it and {counts[1]} among the images"
        raise FerlError(_not_aligned(path, what if counts[0] != counts[1] else "the order of their usages differs"))
    return order


def _not_aligned(path: Path, why: str) -> str:
    return (
        f"{path} is not aligned with the images beside it: {why}. Its rows are those of the complete fer2013.csv: put "
        "it beside that file, or use the folders (FER2013Train/ etc.) that FER+'s own script writes"
    )


def _check_agreement(path: Path, own: NDArray[np.int64], voted: NDArray[np.int64]) -> None:
    """Refuse votes that disagree with the labels: people agree on about two of three images, chance on one of five."""
    both = (own != UNLABELLED) & (voted != UNLABELLED)
    own_names, voted_names = np.array(fer2013.CLASSES)[own[both]], np.array(CLASSES)[voted[both]]
    if both.sum() >= 30 and (share := (own_names == voted_names).mean()) < 0.4:
        raise FerlError(_not_aligned(path, f"its majority votes agree with only {100 * share:.0f} % of their labels"))


def _png_folders(root: Path) -> dict[Path, int]:
    """Map the folders that are there to their splits."""
    return {root / name: SPLITS.index(split) for name, split in PNG_FOLDERS.items() if (root / name).is_dir()}


def _png_files(root: Path) -> list[Path]:
    return [path for folder in _png_folders(root) for path in [*folder.glob("label.csv"), *list_images(folder)]]


def _read_png(root: Path, on_bad_image: OnBadImage) -> Store:
    """Read the folders that FER+'s own script writes: ``label.csv`` has the name, the face box and ten votes."""
    places, votes, split, names, remarks = [], [], [], [], []
    for folder, number in _png_folders(root).items():
        path = folder / "label.csv"
        if not path.is_file():
            raise FerlError(f"{folder}: has no label.csv; copy it from FER+'s data/{folder.name}/")
        listed = set()
        for line, cells in _read_table(path):
            if line == 1 and _is_header(cells):
                continue
            name, box, counts = _read_row(path, line, cells)
            listed.add(Path(name).name)
            if not _is_inside(folder, root, name):
                raise FerlError(
                    f"{path}, line {line}: the image {name[:200]!r} is outside of {folder}: the names in label.csv are "
                    "those of files beside it, which are no links to elsewhere. Move the image there"
                )
            if not (found := BOX.fullmatch(box)):
                raise FerlError(f"{path}, line {line}: the box is {box[:80]!r}, expected one such as (0, 0, 48, 48)")
            left, top, right, bottom = map(int, found.groups())
            places.append((folder / name, (left, top, right, bottom), f"{path}, line {line}"))
            votes.append(counts)
            split.append(number)
            names.append(f"{folder.name}/{name}")
        if extra := {file.name for file in list_images(folder)} - listed:
            remarks.append(f"{len(extra):,} images in {folder.name} have no row in its label.csv and were left out.")
    if not places:
        raise FerlError(f"{root}: no rows in any label.csv. Fetch FER+ again")
    images, good, more = decode_all(
        [image for image, *_ in places],
        lambda n: _read_image(*places[n]),
        fer2013.SIDE, False, on_bad_image, root,
    )  # fmt: skip
    counted = np.stack(votes)[good]
    return Store.of(
        images,
        majority_label(counted),
        np.array(split, np.int8)[good],
        np.array(names)[good],
        votes=counted,
        remarks=[*remarks, *more],
    )


def _read_image(image: Path, box: Box, where: str) -> NDArray[np.uint8]:
    if not os.path.isfile(image):  # noqa: PTH113 (is_file raises for a long name)
        raise FerlError(f"{where}: there is no image {str(image)[:400]}. Write the images again")
    return read_image(image, fer2013.SIDE, False, box)


def _is_inside(folder: Path, root: Path, name: str) -> bool:
    """Tell whether a name is that of a file in a folder; a link may lead to anywhere below the root."""
    path = PureWindowsPath(name)  # knows both kinds of slashes
    real = Path(os.path.realpath(folder / name))
    homes = (os.path.realpath(root), os.path.realpath(folder))
    return not path.anchor and ".." not in path.parts and any(real.is_relative_to(home) for home in homes)

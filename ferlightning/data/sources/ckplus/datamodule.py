"""CK+ (Lucey et al. 2010, https://doi.org/10.1109/CVPRW.2010.5543262), in every layout that users have, in folds."""

import csv
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ferlightning.data.datamodule import FaceData, Split
from ferlightning.data.sources.ckplus.readers import CSV, LAYOUTS, find
from ferlightning.data.sources.ckplus.recordings import CLASSES, Content
from ferlightning.data.sources.files import OnBadImage
from ferlightning.data.sources.layouts import Layout, choose_layout
from ferlightning.data.splits import image_folds, stratified_subject_folds, subject_folds
from ferlightning.data.store import SPLITS, UNDECIDED, UNLABELLED, Store
from ferlightning.errors import FerlError
from ferlightning.files import at_home


class CKPlus(FaceData):
    """CK+, posed expressions of 118 subjects in 327 labelled sequences, 7 classes, with folds by subject.

    One fold tests, the next one validates, the others train. Folds are dealt over all labelled sequences, before
    ``classes`` leaves any out, so a fold has the same subjects whatever else is chosen.

    Args:
        root: a folder with the data, or the folder above it, or ckextended.csv; null: the environment variable
            FERL_DATA.
        layout: ``original``, ``ck48`` or ``ckextended``; null: the first of these that is there.
        fold: number of the test fold, from 0; null: test on everything, for a model trained on other data.
        folds: how many folds there are, at least 3.
        folds_by: ``subject``, the standard: subjects are sorted by id and dealt out one by one; ``stratified_subject``,
            drawn by ``split_seed``, with classes as balanced as whole subjects allow; ``leaky_image``, which
            ignores who is shown and gives results that are too high.
        folds_file: a csv with the columns subject,fold (such as S010,0) in place of ``folds_by``: a published list.
        clips: an item is a sequence; else it is a frame.
        last: how many of the last frames of each sequence to use; null: all, from onset to apex.
        neutral_first: add the first frame of each labelled sequence as an item of class neutral; for stills of the
            layout ``original``.
        size: height and width to which images are resized, pixels.
        color: read RGB instead of grey.
        crop: how to cut out the face, in the layout ``original``. True: the square that OpenCV's frontal-face cascade
            finds in the first frame, grown by a tenth of its side on each side, for all frames of the sequence.
            ``eyes``: rotate, scale and shift so that the eyes are at 35 and 65 % of the width and 30 % of the height;
            each frame by its own landmarks if CK+'s folder Landmarks is there, else all frames of a sequence alike, by
            the eyes that OpenCV's cascade finds in the first one, or like true if it finds none. False: no crop.
        on_bad_image: what to do with images that are missing or cannot be read: ``raise`` an error that counts and
            names them, or ``skip`` them with a remark in the report; a clip goes on without its bad frames.
        options: those of every data set.
    """

    label_names = CLASSES

    def __init__(
        self,
        root: str | None = None,
        layout: str | None = None,
        fold: int | None = 0,
        folds: int = 10,
        folds_by: Literal["subject", "stratified_subject", "leaky_image"] = "subject",
        folds_file: str | None = None,
        clips: bool = False,
        last: int | None = 3,
        neutral_first: bool = False,
        size: int = 48,
        color: bool = False,
        crop: bool | Literal["eyes"] = True,
        on_bad_image: OnBadImage = "raise",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if folds < 3:
            raise FerlError(f"data.folds is {folds}: one fold tests and one validates, so give at least 3")
        if fold is not None and not 0 <= fold < folds:
            raise FerlError(f"data.fold is {fold}: give a number from 0 to {folds - 1}, or null to test on everything")
        if folds_file is not None and folds_by != "subject":
            raise FerlError(
                f"data.folds_file takes the place of data.folds_by: leave out folds_by={folds_by}, or the file"
            )
        if size < 1:
            raise FerlError(f"data.size is {size}: give a number of pixels from 1")
        if last is not None and last < 1:
            raise FerlError(f"data.last is {last}: give a number of frames from 1, or null for all")
        if neutral_first and clips:
            raise FerlError(
                "data.neutral_first is for stills: a clip starts neutral anyway. Leave out it or data.clips"
            )
        self.root = root
        self.layout = layout
        self.fold = fold
        self.folds = folds
        self.folds_by = folds_by
        self.folds_file = folds_file
        self.content = Content(clips, last, neutral_first, size, color, crop, on_bad_image)

    @cached_property
    def source(self) -> Layout:
        """The layout that is read.

        Raises:
            FerlError: there is none, or it lacks what the arguments ask for.
        """
        found = choose_layout("CK+", partial(find, content=self.content), LAYOUTS, self.root, self.layout)
        if self.content.neutral_first and found.name != "original":
            has = "only the last three frames of each sequence" if found.name == "ck48" else "neutral images of its own"
            raise FerlError(f"data.neutral_first needs whole sequences; {found.path} has {has}. Leave it out")
        if found.name != "ckextended":
            return found
        if self.content.clips:
            raise FerlError(f"data.clips needs sequences; {found.path} has stills only. Leave it out")
        if self.fold is not None and (self.folds_by != "leaky_image" or self.folds_file is not None):
            raise FerlError(
                f"{found.path} does not say who is shown, so it cannot be split by subject. Use another layout, or "
                "--data.folds_by=leaky_image for the split in its column Usage, which leaks, or --data.fold=null to "
                "test on everything"
            )
        if self.fold:
            raise FerlError(f"data.fold is {self.fold}: {found.path} has one split and no folds. Leave it at 0")
        return found

    def read(self) -> Store:
        return self.source.open("CKPlus", **self.content._asdict())

    @cached_property
    def class_names(self) -> list[str]:
        """The K classes: by default all that the data has, so neutral only if it is there."""
        names, given = super().class_names, self.classes or {}
        if isinstance(given, dict) and self.source.name != "ckextended" and not self.content.neutral_first:
            return [name for name in names if name != "neutral" or name in given.values()]
        return names

    def split(self) -> NDArray[np.int8]:
        if self.fold is None:
            return np.full(len(self.raw), SPLITS.index("test"), np.int8)
        if self.source.name == "ckextended":
            return super().split()
        number, val = self.fold_numbers, (self.fold + 1) % self.folds
        split = np.where(number >= 0, SPLITS.index("train"), UNDECIDED).astype(np.int8)
        for name, fold in (("test", self.fold), ("val", val)):
            split[number == fold] = SPLITS.index(name)
            if (self.label[number == fold] == UNLABELLED).all():
                raise FerlError(
                    f"{self.source.path}: fold {fold} of {self.folds}, the one for {name}, has no item of "
                    f"{', '.join(self.class_names)}. Choose fewer folds with --data.folds, or more classes"
                )
        return split

    @cached_property
    def fold_numbers(self) -> NDArray[np.int64]:
        """Fold of every item, (N,); -1 if unlabelled.

        Raises:
            FerlError: there are too few items for this many folds, or ``folds_file`` does not match.
        """
        labelled = np.flatnonzero(self.raw.label != UNLABELLED)
        label, subject = self.raw.label[labelled], self.raw.subject[labelled]
        # The apex is last in a sequence, and the last of several assignments stays, so the neutral frame's does not.
        sequences, of = np.unique(self.raw.sequence[labelled], return_inverse=True)
        apex = np.zeros(len(sequences), np.int64)
        apex[of] = np.arange(len(labelled))
        number = np.full(len(self.raw), -1)
        try:
            if self.folds_file is not None:
                number[labelled] = self._listed_folds(at_home(self.folds_file), subject)
            elif self.folds_by == "subject":
                number[labelled] = subject_folds(subject, self.folds)
            elif self.folds_by == "stratified_subject":
                drawn = stratified_subject_folds(label[apex], subject[apex], self.folds, self.split_seed)
                number[labelled] = drawn[of]
            else:
                number[labelled] = image_folds(label, self.folds, self.split_seed)
        except ValueError as error:  # scikit-learn's
            raise FerlError(f"data.folds_by={self.folds_by}: {error} Choose fewer with --data.folds") from None
        return number

    def _listed_folds(self, path: Path, subject: NDArray[np.str_]) -> NDArray[np.int64]:
        listed = read_folds(path, self.folds)
        if missing := sorted(set(subject.tolist()) - set(listed)):
            raise FerlError(
                f"{path}: does not list {', '.join(missing[:5])}, of {len(missing)} subjects; add a line for each"
            )
        return np.array([listed[name] for name in subject.tolist()])

    def notes(self, split: Split) -> list[str]:
        found = super().notes(split)
        if self.folds_by == "leaky_image" and self.fold is not None:
            how = f"the Usage column of {CSV}" if self.source.name == "ckextended" else "chance, item by item"
            found.append(
                f"The split is by {how}, as data.folds_by=leaky_image asks: the same people are in training and in "
                "test. Results are too high, and cannot be compared with those of folds by subject."
            )
        return found

    def check_training(self) -> None:
        if self.fold is None:
            raise FerlError(
                "data.fold is null, so all images are for test and none for training or validation: give a fold from "
                f"0 to {self.folds - 1} with --data.fold"
            )
        super().check_training()

    def setup(self, stage: str) -> None:
        """Refuse a fit or a validation without images for it."""
        if stage == "validate" and self.fold is None:
            self.check_training()
        super().setup(stage)


def read_folds(path: Path, folds: int) -> dict[str, int]:
    """Read the fold of each subject from a csv with the columns subject,fold.

    Raises:
        FerlError: a line is wrong; the message says which and why.
    """
    found: dict[str, tuple[int, int]] = {}
    try:
        file = path.open(newline="", encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise FerlError(f"data.folds_file: cannot read {path}: {error.strerror}") from None
    with file:
        rows = csv.DictReader(file)
        if not {"subject", "fold"} <= set(rows.fieldnames or []):
            raise FerlError(f"{path}: the first line is {','.join(rows.fieldnames or [])!r}, expected subject,fold")
        for row in rows:
            subject, text, line = (row["subject"] or "").strip(), (row["fold"] or "").strip(), rows.line_num
            if text not in map(str, range(folds)):
                raise FerlError(f"{path}, line {line}: the fold is {text!r}, expected a number from 0 to {folds - 1}")
            fold, before = found.setdefault(subject, (int(text), line))
            if fold != int(text):
                raise FerlError(
                    f"{path}, line {line}: subject {subject} is in fold {text}, and in fold {fold} in line {before}. "
                    "Remove one of the lines"
                )
    return {subject: fold for subject, (fold, _) in found.items()}

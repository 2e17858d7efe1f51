"""Frames of recordings as items: what the sources of a user's own images share."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from ferlightning.data.sources.files import ImageFiles, Listed
from ferlightning.data.sources.names import Names, splits_by_hand
from ferlightning.errors import FerlError


class OwnImages(ImageFiles):
    """What ``ImageFolder`` and ``Table`` share: splits by hand, and clips.

    Args:
        root: the folder; null: the environment variable FERL_DATA.
        split: what each split is called in the data, where names do not say it, as ``{train: a, test: [b, c]}``.
        clips: where it is known which recording an image is a frame of, an item is a recording; else it is an image.
        last: how many of the last frames of each recording to use; null: all.
        frames: how many of these to use, evenly spread; null: all. Clips may differ in length.
        options: those of every data set of image files.
    """

    def __init__(
        self,
        root: str | None = None,
        split: dict[str, Names] | None = None,
        clips: bool = True,
        last: int | None = None,
        frames: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(root, **options)
        for name, value in (("last", last), ("frames", frames)):
            if value is not None and value < 1:
                raise FerlError(f"data.{name} is {value}: give a number of frames from 1, or null for all")
        self.by_hand = splits_by_hand(split or {})
        self.clips = clips
        self.last = last
        self.frames = frames
        self.told = {"split": self.by_hand, "clips": clips, "last": last, "frames": frames}

    @abstractmethod
    def listed(self) -> list[Listed]:
        """The images as ``in_order`` returns them; may add to ``remarks``."""

    def in_order(self, files: list[Listed], where: Mapping[str, str]) -> list[Listed]:
        """Put the frames of each recording one after another, and choose among them.

        Args:
            files: all images; names of recordings are of one subject.
            where: the row of each, for a message; its own path where there is none.

        Raises:
            FerlError: the frames of a clip differ in label or split.
        """
        if not any(file.sequence for file in files):
            return files
        recordings: dict[tuple[str, str], list[Listed]] = {}
        for n, file in enumerate(files):
            recordings.setdefault((file.subject, file.sequence or f"\0{n}"), []).append(file)
        subjects = Counter(name for _, name in recordings)
        found = []
        for (subject, name), own in recordings.items():
            for what in ("name", "split") if self.clips else ():
                other = next((file for file in own if getattr(file, what) != getattr(own[0], what)), own[0])
                if other is not own[0]:
                    label = "label" if what == "name" else what
                    raise FerlError(
                        f"the frames of clip {name} have two {label}s: {getattr(own[0], what) or 'none'} in "
                        f"{where.get(own[0].path, own[0].path)}, {getattr(other, what) or 'none'} in "
                        f"{where.get(other.path, other.path)}. Give it one, or another name to one of two clips, or "
                        "read stills by --data.clips=false"
                    )
            if self.clips or self.last or self.frames:
                _refuse_twins(name, own, where)
            chosen = sorted(own, key=lambda file: file.frame)[-(self.last or len(own)) :]
            if self.frames is not None and len(chosen) > self.frames:  # the middles of equal parts
                parts = (np.arange(self.frames) + 0.5) * len(chosen) / self.frames
                chosen = [chosen[n] for n in parts.astype(int)]
            found += [file._replace(sequence=f"{subject}/{name}") for file in chosen] if subjects[name] > 1 else chosen
        return found


def _refuse_twins(name: str, frames: list[Listed], where: Mapping[str, str]) -> None:
    """Refuse a clip of which two frames have one number, where numbers are given: it is probably two clips."""
    first: dict[float, Listed] = {}
    for file in frames if any(file.frame for file in frames) else ():
        other = first.setdefault(file.frame, file)
        if other is not file:
            raise FerlError(
                f"two frames of clip {name} have the number {file.frame:g}: {where.get(other.path, other.path)}, and "
                f"{where.get(file.path, file.path)}. Give each its own number, or another name to one of two clips"
            )

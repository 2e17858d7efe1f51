"""The columns of tables of images."""

import re
from collections.abc import Callable
from typing import NamedTuple

from ferlightning.data.sources.text_lines import decode
from ferlightning.errors import FerlError

COLUMNS = {
    "path": ("path", "file", "filename", "filepath", "image", "imagename", "imagepath", "imagefile", "img", "imgname",
             "imgpath", "framepath", "imageid", "imgid", "pth", "subdirectoryfilepath", "picture", "photo"),
    "label": ("label", "labels", "emotion", "expression", "class", "classname", "classid", "category",
              "target", "y", "emotionlabel", "emotionid", "emotionname", "expressionlabel", "labelname", "labelid",
              "classlabel", "groundtruth", "gt", "annotation", "choice"),
    "split": ("split", "usage", "set", "subset", "partition", "phase"),
    "subject": ("subject", "subjectid", "subjectno", "subjectname", "subj", "subjid", "person", "personid",
                "personname", "identity", "actor", "actorid", "actorname", "user", "userid", "participant",
                "participantid", "patient", "patientid", "speaker", "speakerid"),
    "sequence": ("sequence", "sequenceid", "seq", "seqid", "clip", "clipid", "clipname", "video", "videoid",
                 "videoname", "recording"),
    "frame": ("frame", "frameid", "frameno", "framenumber", "frameindex", "framenum"),
}  # fmt: skip
"""How columns are called, in lower case and without anything but letters."""
BEFORE_NUMBERS = ("classname", "emotionname", "labelname")
"""Labels that are words, where another column has their numbers."""
BOX = {
    "left": ("x", "left", "xmin", "x1"), "top": ("y", "top", "ymin", "y1"), "right": ("right", "xmax", "x2"),
    "bottom": ("bottom", "ymax", "y2"), "width": ("width", "w"), "height": ("height", "h"),
}  # fmt: skip
"""How the sides of a face box are called, also after face, bbox or box; two corners, or one and the size."""


class Row(NamedTuple):
    """A row of a table, by the names of ``COLUMNS``."""

    where: str
    """Its file and line, for a message."""
    cells: dict[str, str]
    content: Callable[[], bytes] | None = None
    """Reads the image, where the table has it inside; ``path`` is a name for it then."""

    def below(self, before: str) -> "Row":
        """The row with its path from what follows a folder on."""
        path = self.cells["path"].replace("\\", "/")
        return self._replace(cells=self.cells | {"path": path.removeprefix(before)})


def kinds(names: list[str]) -> dict[str, int]:
    """The numbers of the columns that are read, by the names of ``COLUMNS``."""
    found = _box(names)
    for number, name in enumerate(names):
        if number in found.values():
            continue
        word = _word(name)
        kind = next((kind for kind, known in COLUMNS.items() if word in known), None)
        if kind is not None and (
            kind not in found or (kind == "label" and _rank(word) > _rank(_word(names[found[kind]])))
        ):
            found[kind] = number
    return found


def _word(name: str) -> str:
    return re.sub(r"[\W\d_]", "", name).lower()


def _rank(word: str) -> tuple[bool, bool, bool]:
    """How sure it is that a column has the labels, where several may: names before numbers, emotions before others."""
    return word in BEFORE_NUMBERS, not word.endswith("id") and word != "y", "emotion" in word or "expression" in word


def _box(names: list[str]) -> dict[str, int]:
    words = [re.sub("^((face|bbox|box)(?=.))+", "", re.sub(r"[\W_]", "", name).lower()) for name in names]
    found = {side: words.index(word) for side, known in BOX.items() for word in known[::-1] if word in words}
    if not {"left", "top"} <= found.keys():
        return {}
    for far in (("right", "bottom"), ("width", "height")):
        if {*far} <= found.keys():
            return {side: found[side] for side in ("left", "top", *far)}
    return {}


def text(value: object, where: str) -> str:
    """A value as a csv would have it; nothing and not-a-number are empty, and bytes are text.

    Raises:
        FerlError: it is a list or an object; the message begins with ``where``.
    """
    if isinstance(value, list | dict):
        raise FerlError(f"{where}: found {str(value)[:80]}, expected one value. Write one label, path, ... a row")
    if isinstance(value, bytes):
        value = decode(value)
    if isinstance(value, str) and re.search("[\0\ud800-\udfff]", value):
        raise FerlError(f"{where}: {value[:80]!r} has a character that is none. Write the row again")
    return "" if value is None or value != value else str(value).strip()

"""A user's own faces: a folder of images, one sub-folder a class."""

import json
import os
import re
import shlex
from collections.abc import Mapping
from mimetypes import guess_type
from pathlib import Path
from typing import Any, NamedTuple

from ferlightning.data.datamodule import FaceData
from ferlightning.data.sources.clips import OwnImages
from ferlightning.data.sources.files import Listed
from ferlightning.data.sources.layouts import place
from ferlightning.data.sources.names import Names, no_such, readable, some, split_of
from ferlightning.data.sources.patterns import list_matching
from ferlightning.data.sources.rows import has_images
from ferlightning.data.sources.text_lines import first_line
from ferlightning.emotions import EMOTIONS, NUMBERINGS, canonical, numbering, probably_meant, spelled
from ferlightning.errors import FerlError
from ferlightning.images.decode import SUFFIXES, image_names, is_image, is_leftover

NO_LABELS = (
    ". Or list the images in a csv with the columns path and label, for --data=Table; or say where their names "
    "have it by --data.pattern='(?P<label>...)'"
)
PACKED = {".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"}
LABEL_FILES = ("_exp.npy", ".csv", ".tsv", ".txt", ".lst", ".json", ".jsonl", ".parquet", ".xlsx", ".npz", ".xml")


class ImageFolder(OwnImages):
    """Images in ``<root>/<class>/`` or ``<root>/<split>/<class>/``; folder names are the class names.

    Split folders are called train, training; val, valid, validation, dev, PublicTest; test, testing, eval, PrivateTest
    and the like. Known aliases become the names of the vocabulary (``happy`` becomes ``happiness``). Without split
    folders, items are split 70 / 15 / 15 %; without a validation folder, a part of train becomes validation.

    Args:
        root: the folder, or one that has nothing but this folder; null: the environment variable FERL_DATA.
        split: the folders of each split, where their names do not say it, as ``{train: a, val: b, test: [c, d]}``.
        pattern: where the label is in the paths of images, in place of class folders: a regular expression that is
            searched in each path from the root on, with the group ``label``, and perhaps ``split``, ``subject``,
            ``sequence`` (the recording of a frame) and ``frame``, as ``(?P<subject>..)\\.(?P<label>..)\\d``. Images
            that it does not match are left out. Or the name of a data set whose paths are known: ``JAFFE``, ``KDEF``
            or ``Oulu-CASIA``.
        options: those of every data set of a user's own images.
    """

    def __init__(
        self,
        root: str | None = None,
        split: dict[str, Names] | None = None,
        pattern: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(root, split, **options)
        if pattern is None:
            self.files, self.remarks = list_classes(self.root, self.by_hand)
        else:
            self.told["pattern"] = pattern
            files, self.remarks = list_matching(self.root, pattern, self.by_hand)
            self.files = self.in_order(files, {})
        self.label_names = sorted({str(file.name) for file in self.files})
        folders = {os.path.dirname(file.path) for file in self.files}  # noqa: PTH120 - of many files
        parts = {part for folder in folders for part in Path(folder).parts}
        written = {class_name(part): spelled(readable(part)) for part in sorted(parts, reverse=True)}
        self.spelling = {name: written[name] for name in self.label_names if written.get(name, name) != name}
        self.remarks += odd_names(self)

    def sources(self) -> list[str]:
        return [file.path for file in self.files]

    def listed(self) -> list[Listed]:
        return self.files


class Folders(NamedTuple):
    """What lies in a folder."""

    folders: list[Path]
    splits: dict[Path, str]
    """Those of the folders that are splits."""
    remarks: list[str]
    """What else lies there and is not read."""

    @classmethod
    def of(cls, root: Path, by_hand: Mapping[str, str] | None = None) -> "Folders":
        """Look into a folder; ``by_hand`` has the splits of folders by name, where other names than usual are meant.

        Raises:
            FerlError: two folders are the same split, or a split lies there as a file that is not unpacked.
        """
        entries = sorted(root.iterdir())
        if lost := [path for path in entries if path.is_symlink() and not path.exists() and not is_image(path)]:
            raise FerlError(f"{lost[0]}: a link that leads nowhere. Bring back what it leads to, or remove it")
        folders = [path for path in entries if path.is_dir() and not is_leftover(path.name)]
        splits = {path: split for path in folders if (split := (by_hand or {}).get(path.name))}
        if not by_hand:
            splits = {path: split for path in folders if (split := split_of(path.name))}
        for split in set(splits.values()):
            if not by_hand and len(same := [path.name for path in splits if splits[path] == split]) > 1:
                raise FerlError(
                    f"{root}: the folders {' and '.join(same)} are both named after {split}. Merge or move one, or "
                    f"say by --data=ImageFolder --data.split='{{{split}: [{', '.join(same)}], ...}}' what each is"
                )
        remarks = [
            f"{path.name} is no data and was not read."
            for path in entries
            if path.is_dir() and path.name.lower() in ("__macosx", ".ipynb_checkpoints", "runs")
        ]
        files = [path for path in entries if path.is_file() and not is_leftover(path.name)]
        for path in files:
            split = split_of(path.name.partition(".")[0])
            if (
                splits
                and not by_hand
                and split
                and split not in splits.values()
                and path.suffix.lower() in (*PACKED, *LABEL_FILES)
            ):
                what = "Unpack" if path.suffix.lower() in PACKED else "Read it as a data set of its own, or move"
                raise FerlError(
                    f"{path}: looks like the {split} split and is not read, since {', '.join(x.name for x in splits)} "
                    f"beside it are folders. {what} it"
                )
        kinds = (*LABEL_FILES, *PACKED)
        other = [path.name for path in files if path.suffix.lower() in kinds and path.stem.lower() != "readme"]
        if other and folders:
            remarks.append(f"Files beside the folders were not read: {some(other)}.")
        if folders and (loose := [path.name for path in files if path.suffix.lower() in SUFFIXES]):
            remarks.append(f"{len(loose):,} images beside the folders of {root.name} were not read: {some(loose)}.")
        return cls(folders, splits, remarks)


def list_classes(root: Path, by_hand: Mapping[str, str] | None = None) -> tuple[list[Listed], list[str]]:
    """List the images in a folder of classes, or of split folders with classes, and remark what is odd.

    Args:
        root: the folder.
        by_hand: the splits of folders by name; empty or None to tell them by their names.

    Raises:
        FerlError: there is no such folder, there are fewer than two classes, a class is empty, or there are other
            folders beside the splits.
    """
    if not root.is_dir():
        what = "this is a file, not a folder of images:" if root.exists() else "there is no folder"
        raise FerlError(f"data.root: {what} {place(root)}")
    inside = Folders.of(root, by_hand)
    while len(inside.folders) == 1 and not inside.splits and (below := Folders.of(inside.folders[0], by_hand)).folders:
        inside, root = below._replace(remarks=inside.remarks + below.remarks), inside.folders[0]
    for name in by_hand or {}:
        if name not in (there := [path.name for path in inside.folders]):
            raise FerlError(no_such(name, f"folder in {root} called", there))
    if not inside.splits:
        return _list_images(root, dict.fromkeys(inside.folders), inside.remarks)
    other = [path.name for path in inside.folders if path not in inside.splits]
    if other and by_hand:
        inside.remarks.append(f"Folders that data.split does not name were not read: {some(other)}.")
    elif other:
        raise FerlError(
            f"{root}: has split folders ({', '.join(path.name for path in inside.splits)}) and others beside them: "
            f"{other}. Move the others, or say which folder is which split by --data.split='{{train: NAME, ...}}'"
        )
    classes: dict[Path, str | None] = {}
    remarks = inside.remarks
    for folder, split in inside.splits.items():
        own = Folders.of(folder)
        while len(own.folders) == 1 and split_of(own.folders[0].name) == split:  # as archives unpack
            own = Folders.of(own.folders[0])
        if not own.folders:
            raise FerlError(
                f"{folder}: is named after the {split} split and has no class folders, such as {folder}/happiness. "
                "Images without labels are for predict, by --data.predict_folder: move them"
                + (label_hint(root) or _names_hint(image_names(root)))
            )
        classes.update(dict.fromkeys(own.folders, split))
        remarks += own.remarks
    return _list_images(root, classes, remarks)


def _list_images(root: Path, classes: dict[Path, str | None], remarks: list[str]) -> tuple[list[Listed], list[str]]:
    names = {path: class_name(path.name) for path in classes}
    if len(set(names.values())) < 2:
        raise FerlError(
            f"{root}: found {len(set(names.values()))} class folders, need at least 2, such as "
            f"{root}/happiness/*.png or {root}/train/happiness/*.png"
            + (label_hint(root) or _names_hint(image_names(root)) or NO_LABELS)
        )
    files, empty, others, inner = [], [], list[str](), list[str]()
    for folder, split in classes.items():
        images = image_names(folder, others)
        folders = sorted({path.rpartition(os.sep)[0] for path in images} - {str(folder)})
        _refuse_inner(folder, folders)
        inner += folders
        files += [Listed(path, names[folder], split) for path in images]
        if not images:
            empty.append(folder)
    for folder in empty:
        if names[folder] not in {file.name for file in files}:
            if films := [path for path in others if (guess_type(path)[0] or "").startswith("video")]:
                raise FerlError(f"{folder}: has videos, such as {films[0]}, not images: write their frames as images")
            raise FerlError(
                f"{folder}: no images in this class folder; add some ({', '.join(sorted(SUFFIXES))}), or remove it"
                + label_hint(root)
            )
        remarks = [*remarks, f"There is no image in {os.path.relpath(folder, root)}."]
    if not {*names.values()} & {*EMOTIONS} and (hint := _names_hint([file.path for file in files])):
        own = [[file.path for file in files if file.path.startswith(f"{folder}{os.sep}")] for folder in classes]
        mixed = [folder for folder, paths in zip(classes, own, strict=True) if _names_hint(paths)]
        if 2 * len(mixed) > len(classes):
            raise FerlError(
                f"{mixed[0]}: has faces of several emotions by their names, so that the folders seem to be people or "
                f"the like, and no classes{hint}. If they are classes, put --data.pattern='"
                f"{'(?P<split>[^/]+)/' if None not in classes.values() else ''}(?P<label>[^/]+)/[^/]+$'"
            )
        remarks = [*remarks, f"No folder is named after an emotion{hint}."]
    if len(inner) > 1 and None in classes.values():
        remarks = [
            *remarks,
            f"Images lie in {len(inner):,} folders below the classes, such as {os.path.relpath(inner[0], root)}. If "
            "each is a recording or a person, say so, else the splits that are drawn share them: --data.pattern="
            "'(?P<sequence>(?P<label>[^/]+)/[^/]+)/(?P<frame>[0-9]*)[^/]*$', or subject in place of sequence.",
        ]
    elif None in classes.values() and (two := _same_start(files)):
        remarks = [
            *remarks,
            f"Files are named in groups, such as {two[0]} and {two[1]}. If each group is a person, a recording or one "
            "picture changed, say so, else the splits that are drawn share them: "
            r"--data.pattern='(?P<label>[^/]+)/(?P<subject>[^/]*\d)\D+\d+\D*$'.",
        ]
    if others:
        named = some([os.path.relpath(path, root) for path in others])
        remarks = [*remarks, f"{len(others):,} files in the class folders are no images and were not read: {named}."]
    return files, remarks


def _same_start(files: list[Listed]) -> list[str]:
    """Two files of one class that differ in the last of several numbers in their names, if most files have such."""
    groups: dict[tuple[str, str], list[str]] = {}
    files = files[:5000]  # each start looks at them
    for file in files:
        name = os.path.basename(file.path)  # noqa: PTH119 - of many files
        if start := re.match(r"(.*\d)\D+\d+\D*$", name):
            groups.setdefault((str(file.name), start[1]), []).append(name)
    several = [names for names in groups.values() if len(names) > 1]
    return sorted(several[0])[:2] if 2 * sum(map(len, several)) > len(files) and len(several) > 3 else []


def _names_hint(paths: list[str]) -> str:
    """Say how to take the label from the names of files, where these are emotions; for a message."""
    words = {word for path in paths[:1000] for word in re.findall(r"[^\W\d_]+", Path(path).stem)}
    found = sorted(word for word in words if canonical(word) in EMOTIONS)
    if len({canonical(word) for word in found}) < 2:
        return ""
    folders = {os.path.relpath(os.path.dirname(path), os.path.commonpath(paths)) for path in paths}  # noqa: PTH120
    splits = sorted({part for folder in folders for part in Path(folder).parts if split_of(part)})
    above = f"(?P<split>{'|'.join(splits)})/.*" if len(splits) > 1 else ""
    option = f"--data.pattern='{above}(?P<label>{'|'.join(found)})'"
    return f". Files are named after emotions, such as {Path(paths[0]).name}: read them by {option}"


def class_name(folder: str) -> str:
    """Canonical name of the class in a folder."""
    return canonical(readable(folder))


def odd_names(data: FaceData) -> list[str]:
    """Remark classes whose names are probably misspelt, strange beside emotions, or numbers that may mean anything."""
    given = (
        None if data.classes is None or isinstance(data.classes, dict) else [canonical(str(x)) for x in data.classes]
    )
    names = [name for name in dict.fromkeys(data.meaning.values()) if name and (given is None or name in given)]
    meant = {name: emotion for name in names if (emotion := probably_meant(name) or _meant_beside_words(name))}
    found = [
        f"The class {name} is no known emotion: did you mean {emotion}? Then rename its folders, or say it by "
        f"--data.classes={_mapped(name, emotion)}."
        for name, emotion in meant.items()
    ]
    numbers = [name for name in names if name.removeprefix("-").isdecimal()]
    strange = [name for name in names if name not in (*EMOTIONS, *meant, *numbers)]
    if strange and (meant or {*names} & {*EMOTIONS}) and data.classes is None:
        found.append(
            f"Beside emotions, there are classes of other names: {some(strange)}. If one is no class, move it, or "
            f"leave it out by --data.classes={_mapped(strange[0], 'null')}."
        )
    if 0 < len(numbers) < len(names):
        found.append(
            f"Some classes are numbers and others are words: {some(numbers)}. Say by data.classes what they are."
        )
    elif numbers:
        found.append(
            "The classes are numbers, which mean something else in every data set. Rename the folders, or say it by "
            f"--data.classes='{{{names[0]}: NAME, ...}}', to compare with models of named classes: "
            f"{'; '.join(map(numbering, NUMBERINGS))}."
        )
    return found


def _mapped(name: str, to: str) -> str:
    """The option that maps one class, as a shell takes it."""
    plain = re.fullmatch(r"\w[\w .-]*", name)
    return shlex.quote(f"{{{name if plain else json.dumps(name, ensure_ascii=False)}: {to}}}")


def _meant_beside_words(name: str) -> str | None:
    """The emotion in a name such as angry_face."""
    words = [word for word in re.split(r"[\W_]+", name) if word not in ("face", "faces", "emotion", "expression")]
    words = [word for word in words if not word.isdecimal()]
    emotion = canonical(" ".join(words))
    return emotion if emotion in EMOTIONS and emotion != canonical(name) else None


def _refuse_inner(folder: Path, inner: list[str]) -> None:
    """Refuse a class folder with splits or other classes in it, at any depth, whose images would be of this class."""
    own = class_name(folder.name)
    for path in inner:
        for part in Path(path).relative_to(folder).parts:
            looks = "split" if split_of(part) else "class" if class_name(part) in EMOTIONS else None
            if looks and class_name(part) != own:
                order = "(?P<label>[^/]+)/(?P<split>[^/]+)" if own in EMOTIONS else "(?P<split>[^/]+)/(?P<label>[^/]+)"
                above = (
                    "Put splits above classes, such as train/happiness, or say which folder is which by "
                    f"--data.pattern='{order}/[^/]+$'"
                    if looks == "split"
                    else "Give its parent folder, by --data.root, or say by --data.pattern what the folders are: "
                    "'(?P<subject>[^/]+)/(?P<label>[^/]+)/[^/]+$' if those above are people"
                )
                raise FerlError(
                    f"{path}: looks like a {looks}, but lies in {folder.name}, which would be a class itself. {above}"
                    + label_hint(folder.parent)
                )


def label_hint(root: Path) -> str:
    """Name the files in a folder, to three levels, that may hold labels, and how to read them; for a message."""
    found: dict[str, Path] = {}
    for here, folders, names in os.walk(root):
        depth = len(Path(here).relative_to(root).parts)
        folders[:] = sorted(name for name in folders if not is_leftover(name)) if depth < 3 else []
        for name in sorted(names[:1000]):
            ending = next((ending for ending in LABEL_FILES if name.lower().endswith(ending)), None)
            if ending and not is_leftover(name) and "readme" not in name.lower():
                found.setdefault(ending, Path(here, name))
    if not found:
        packed = sorted(path.name for path in root.iterdir() if path.suffix.lower() in PACKED)
        return f". Unpack {some(packed)} first" if packed else ""
    path = str(next(found[ending] for ending in LABEL_FILES if ending in found))
    if path.endswith("_exp.npy"):
        return f". There are labels of AffectNet, such as {path}: use --data=AffectNet"
    if path.endswith(".npz"):
        return f". {path} may have the images: use --data=Arrays --data.root={path}"
    if Path(path).parent.name == "labels" or Path(path).parent.parent.name == "labels":
        return f". {path} may be of YOLO, whose images are in a folder images beside labels, by the same names"
    if "patition" in path or "partition" in path:
        return f". {path} is the label list of RAF-DB: use --data=RAFDB"
    try:
        has_images(Path(path))
    except (FerlError, ImportError) as error:
        return f". {error}"
    if path.endswith((".csv", ".tsv", ".txt", ".lst")):
        return (
            f". {path} may hold the labels: name its columns path and label, for --data=Table; its first line is "
            f"{first_line(Path(path))[:80]!r}"
        )
    return (
        f". {path} may hold the labels: write them as a csv with the columns path and label, for --data=Table, or "
        "emotion and pixels, for --data=FER2013"
    )

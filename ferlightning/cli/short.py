"""What people type, such as ``ferl fit FACES`` or ``ferl predict RUN FACES``, as the options that are meant."""

import re
import shlex
from collections.abc import Sequence
from glob import glob
from pathlib import Path
from typing import NamedTuple

from ferlightning.bounded_yaml import plain
from ferlightning.cli import index
from ferlightning.cli.configs import CONFIGS, read, shipped
from ferlightning.cli.messages import meant
from ferlightning.cli.run_folder import LAST, last_checkpoint
from ferlightning.cli.words import values
from ferlightning.errors import NONE_YET, FerlError
from ferlightning.weights import REGISTRY

FLAGS = ("--open", "--quiet", "--trust", "--untrained", "--help", "-h")
"""Options without a value."""
DASHES = "-\u2010\u2011\u2012\u2013\u2014\u2015"
"""A dash, and what pages and chats make of it."""
WEIGHTS = (".ckpt", ".onnx", ".pt", ".pth", ".safetensors")
NO_DATA = (
    "ferl fit: train on what? Without data it would train 30 epochs on drawn faces. Give your own, ferl fit FACES "
    "(a folder for each class, or a copy of FER2013, FER+, CK+, RAF-DB or AffectNet); a configuration, "
    "ferl fit --config quickstart; or --data=SyntheticFaces for drawn faces"
)


MODEL = "where RUN is a run folder, a checkpoint or a name such as ferl-small (or give it by --ckpt_path)"


class Spelled(NamedTuple):
    """A command in long options."""

    words: list[str]
    exports: list[str]
    """An ONNX file and the pictures that it is to predict, if that is what the command asks for."""
    start: str | None = None
    """File whose network is trained on, if ``--from`` names one and no configuration has a model."""


def spell_out(args: Sequence[str]) -> Spelled:
    """Replace what stands for a data set, a model or photographs by the options that are meant.

    Args:
        args: ``fit``, ``validate``, ``test`` or ``predict`` with its words; configurations by their paths.

    Raises:
        FerlError: a word names neither a file nor anything of ours, or there is nothing to train on.
    """
    command = args[0]
    named, words = _apart(args[1:])
    if command == "predict":
        named = [path for word in named for path in _matching(word)]
        for i, word in enumerate(words):
            option, _, value = word.partition("=")
            if option == "--data.predict_folder" and (paths := _matching(value)) != [value]:
                words[i] = f"{option}=[{', '.join(map(_quoted, paths))}]"
    if {"--help", "-h"} & {*words} or any(word.partition("=")[0].endswith(".help") for word in words):
        return Spelled([command, *named, *words], [])
    words = [_model_in_place(word, command) for word in words]
    if command == "fit":
        words = _with_data(command, named, words)
        return _with_start([command, *words])
    if not named and not any(re.match(r"--(ckpt_path|config|model|untrained)\b", word) for word in words):
        what = " FACES" if command == "predict" else ""
        raise FerlError(f"ferl {command} needs a trained model: ferl {command} RUN{what}, {MODEL}")
    runs = [Path(path, "checkpoints").is_dir() or path in REGISTRY for path in named[:2]]
    pictures = bool(named) and Path(named[0]).exists() and Path(named[0]).suffix not in WEIGHTS
    if runs == [False, True] and pictures:
        raise FerlError(f"the model comes first: ferl {command} {named[1]} {named[0]}")
    if command == "predict" and pictures and Path(named[0]).is_file() and not values(words, "ckpt_path"):
        from ferlightning.images.decode import SUFFIXES

        if Path(named[0]).suffix.lower() in SUFFIXES:
            picture = shlex.quote(named[0])
            raise FerlError(
                f"the model comes first: ferl predict ferl-small {picture}, for faces that were cut out; "
                f"ferl recognize {picture} finds those in a photograph"
            )
    if named and not values(words, "ckpt_path"):
        model = checkpoint_in(named.pop(0))
        if model.endswith(".onnx"):
            if command != "predict":
                raise FerlError(f"ferl {command} needs a checkpoint or a run folder; {model} is an export, for predict")
            return Spelled([command, *words], [model, *named])
        if model.endswith(".pt2"):
            raise FerlError(f"{model} is an export, for torch alone; give its run folder, or an export to .onnx")
        words = [f"--ckpt_path={model}", *words]
    if command != "predict":
        return Spelled([command, *_with_data(command, named, words)], [])
    for path in named:
        if not Path(path).exists():
            raise FerlError(f"ferl predict: there is no file or folder {path}")
        if Path(path, "checkpoints").is_dir():
            raise FerlError(f"ferl predict takes one model: {path} is a run folder, and no pictures")
    if named and values(words, "data.predict_folder"):
        raise FerlError(
            f"ferl predict takes pictures by --data.predict_folder or as words, such as {named[0]}, not both"
        )
    photos = f"[{', '.join(map(_quoted, named))}]" if len(named) > 1 else "".join(map(plain, named))
    return Spelled([command, *words, *([f"--data.predict_folder={photos}"] if named else [])], [])


def _matching(word: str) -> list[str]:
    """The files that a pattern such as ``FACES/*.png`` stands for; any other word stays as it is."""
    if Path(word).exists():
        return [word]
    return sorted(glob(word, recursive=True)) or [word]  # noqa: PTH207 - Path's own takes no absolute pattern


def checkpoint_in(model: str) -> str:
    """Resolve the path of a model: of a run folder, its best checkpoint, else its last; other paths stay.

    Raises:
        FerlError: a folder has no checkpoint.
    """
    folder = Path(model)
    folder = folder.parent if folder.name == "checkpoints" else folder
    if folder.name == "config.yaml":
        raise FerlError(f"{model} is a configuration, and no model; give its run folder, {folder.parent}")
    if model in REGISTRY or not folder.is_dir():
        return model
    best = folder / "checkpoints" / "best.ckpt"
    found = best if best.is_file() else last_checkpoint(folder)
    if found is None:
        if (folder / "config.yaml").is_file():
            raise FerlError(f"{model} {NONE_YET}")
        found_in = [path for depth in ("*", "*/*") for path in folder.glob(f"{depth}/checkpoints/*.ckpt")]
        near = {path: path.parents[1] for path in found_in} | {path: path for path in folder.glob("*.ckpt")}
        newest = max(near, key=lambda path: path.stat().st_mtime, default=None)
        hint = f"; did you mean {near[newest]}?" if newest else ""
        raise FerlError(f"{model} is no run folder: it has no checkpoints{hint}")
    return str(found)


def names_data(words: Sequence[str]) -> bool:
    """Whether the words of a command, or a configuration among them, say anything of data."""
    if any(re.match(r"--(data\b|print_config)", word) for word in words):
        return True
    return any("data" in read(Path(path)) for path in values(words, "config", "c") if Path(path).is_file())


def _apart(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """Words that name something, and options with their values."""
    named, words, rest = [], [], list(args)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            named.append(word)
            continue
        if "=" not in word and word not in FLAGS and rest and not rest[0].startswith("--"):
            word = f"{'--config' if word == '-c' else word}={rest.pop(0)}"
        words.append(word)
    return named, words


def _model_in_place(word: str, command: str) -> str:
    """An option with the checkpoint in place of the run folder that it names; a training goes on from the last one."""
    name, given, value = word.partition("=")
    if command == "fit" and name == "--ckpt_path" and value and (last := last_checkpoint(Path(value))):
        return f"{name}={last}"
    if given and name in ("--ckpt_path", "--from", "--model.init_from") and value not in ("", LAST):
        return f"{name}={checkpoint_in(value)}"
    return word


def _with_data(command: str, named: Sequence[str], words: list[str]) -> list[str]:
    """The words of a command with the data set that lies at the place which they name."""
    places = list(named)
    for i, word in enumerate(words):
        name, _, value = word.partition("=")
        other = name == "--data" and value[:1] not in ("", "{") and value not in index.parts("data")
        if other and ("/" in value or Path(value).exists()):
            places.append(value)
            words[i] = ""
    words = [word for word in words if word]
    if not places:
        if not words:  # else mistakes are told first
            raise FerlError(NO_DATA)
        roots = values(words, "data.root")
        return _after_its_data(words, roots[-1]) if command == "fit" and roots else words
    options = [place for place in places if re.match(f"[{DASHES}\\w.]+=", place) and not Path(place).exists()]
    if options:
        hint = meant(options[0].partition("=")[0].lstrip(DASHES), ()).removesuffix(" (known: none)")
        raise FerlError(f"{options[0]!r} is no data set; options begin with two dashes, --{hint}")
    if len(places) > 1:
        raise FerlError(f"ferl {command} takes one data set, not {' and '.join(places)}")
    place = places[0]
    if Path(place, "checkpoints").is_dir() or Path(place).suffix in WEIGHTS:
        if command != "fit":
            raise FerlError(f"ferl {command} takes one model, not {place} too")
        go_on = f"--ckpt_path={shlex.quote(place)}"
        raise FerlError(f"{place} is a model, no data; go on with it by {go_on}, or start from it by --from")
    if not Path(place).exists():
        ours = place.removesuffix(".yaml") in shipped(CONFIGS)
        raise FerlError(
            f"there is no file or folder {place} to {'train' if command == 'fit' else command} on"
            + (f"; did you mean --config {place}?" if ours else "")
        )
    if place.endswith((".yaml", ".yml")):
        raise FerlError(f"{place} is no data; did you mean --config {place}?")
    words = _after_its_data(words, place) if command == "fit" else words
    # After the configurations, whose data would take its place.
    last = max((i + 1 for i, word in enumerate(words) if word.partition("=")[0] in ("--config", "-c")), default=0)
    return [*words[:last], *data_at(place, words), *words[last:]]


def _after_its_data(words: list[str], place: str) -> list[str]:
    """The words of a fit with the name of its data as that of the run, if no other is given."""
    given = values(words, "config", "c", "name", "trainer.default_root_dir", "ckpt_path")
    stem = Path(place).resolve().stem
    return words if given or not stem else [f"--name={stem}", *words]


def data_at(place: str, words: Sequence[str]) -> list[str]:
    """The options of the data set at a place: the words say its reader, or it is what ``ferl data inspect`` shows."""
    told = [kind for kind in values(words, "data") if kind in index.parts("data")]
    if kind := told[-1] if told else "ImageFolder" if values(words, "data.pattern") else None:
        return [f"--data={kind}", f"--data.root={plain(place)}"]
    from ferlightning.cli.deferred import import_lightning

    import_lightning()
    from ferlightning.data.inspection import recognise, tell_others

    try:
        found = recognise(Path(place))
    except FerlError:
        if values(words, "data.split"):  # of folders, which are not told by their names
            return ["--data=ImageFolder", f"--data.root={plain(place)}"]
        raise
    kinds = list(dict.fromkeys(source.data_set for source in found))
    if len(kinds) > 1:
        which = " or ".join(f"--data={kind} --data.root={plain(place)}" for kind in kinds)
        raise FerlError(f"{place} has several data sets; say which to train on: {which}")
    tell_others(Path(place), found)
    more = {} if len(found) > 1 else {key: value for key, value in found[0].options.items() if key == "pattern"}
    return [f"--data={kinds[0]}", f"--data.root={plain(place)}", *(f"--data.{key}={x}" for key, x in more.items())]


def _with_start(args: list[str]) -> Spelled:
    """The words of a fit with ``model.init_from`` in place of ``from``, and whether the weights say the network."""
    if "--from" in args:
        raise FerlError("--from has no value: give a run folder, a checkpoint, or weights by name")
    start = next(reversed(values(args, "from")), None)
    if start is None:
        return Spelled(args, [])
    if values(args, "ckpt_path"):
        raise FerlError("--ckpt_path goes on with a run, and --from starts a new one from weights: give one of them")
    words = [word for word in args if not word.startswith("--from=")]
    configs = [read(Path(path)) for path in values(words, "config", "c") if Path(path).is_file()]
    return Spelled(
        [*words, f"--model.init_from={start}"], [], None if any("model" in config for config in configs) else start
    )


def _quoted(path: str) -> str:
    escaped = plain(path).replace("'", "''")
    return f"'{escaped}'"

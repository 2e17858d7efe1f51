"""Find what is certainly wrong in a command before torch is imported; the parser judges everything else.

Takes in the defaults, the configurations and the words in their order, and keeps account of which part each slot holds.
It looks at names of options and parts, at numbers, lists and paths. Where it is not sure, it says nothing: what it
refuses, the parser would refuse too, seconds later.
"""

import re
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ferlightning.bounded_yaml import load
from ferlightning.cli import index
from ferlightning.cli.configs import read
from ferlightning.cli.index import Option, Part
from ferlightning.cli.messages import meant, slot_of, unknown_part
from ferlightning.cli.recognize import parser as recognize_parser
from ferlightning.cli.run_folder import run_of
from ferlightning.cli.words import in_order, options
from ferlightning.errors import FerlError
from ferlightning.files import at_home
from ferlightning.plugins import SLOTS, installed
from ferlightning.weights import REGISTRY, meant_weights

DEFAULTS = Path(__file__).with_name("defaults.yaml")
ROOTS = ("model", "data")
PLAIN = ("Callable", "Sequence", "list", "tuple", "int", "None")
"""What an annotation may have around the class of a slot."""
LIST = re.compile(r"(Optional\[)?(Sequence|list)\[(str|int|float)( \| (str|int|float))*\]( \| None|\])?")
"""Annotation of an option that takes a list and nothing else."""
SEEDS = 1 << 32
STRAY = "give a configuration by --config FILE, photos by --data.predict_folder FOLDER"
PATHS = ("config", "c", "data.root", "data.predict_folder", "ckpt_path", "model.init_from")


def check(args: Sequence[str], model_unknown: bool = False) -> list[str]:
    """Refuse a command that cannot work.

    Args:
        args: ``fit``, ``validate``, ``test`` or ``predict`` with its options; configurations by their paths.
        model_unknown: weights say which parts there are.

    Returns:
        The arguments; one that asks for help on a slot, such as ``--model.help``, names the part that is in it.

    Raises:
        FerlError: an option, a part, a value or a file is wrong; the message says which, and what is meant perhaps.
    """
    words = list(options(in_order(args[1:])))
    asked = [name for name, _, _ in words if name.split(".")[-1] in ("help", "print_shtab") or name == "h"]
    checked = _Check(args[0])
    checkpoint = next((text for name, _, text in reversed(words) if name == "ckpt_path"), None)
    if checkpoint is None:
        checked.take({key: value for key, value in read(DEFAULTS).items() if key != "model" or not model_unknown})
    else:  # the run says which parts there are; it was checked when it was made
        run = run_of(checkpoint)
        checked.strict = False
        checked.take(read(run / "config.yaml") if run else {})
    checked.strict = not asked
    if "--trust" in args:
        sys.path.append(str(Path.cwd()))
    for name, append, text in words:
        if name in asked:
            continue
        if not name or (not text and name.replace(".init_args", "") in PATHS):
            short = (text or "").lstrip("-").partition("=")[0]
            stray = (
                f"{text!r} is no option; {STRAY}" if short == text else f"there is no option -{short}{meant(short, ())}"
            )
            dashes = "-" if name == "c" else "--"
            checked.fail(f"{dashes}{name} is empty; give a path" if name else stray.removesuffix(" (known: none)"))
        if name in ("config", "c"):
            values = read(Path(text or ""))
            _make_importable(values)
            try:
                checked.take(values)
            except FerlError as error:
                raise FerlError(f"{text}: {error}") from None
        elif text is None:
            checked.put(name.split("."), ..., append)
            if "." in name:  # of a nested option, jsonargparse would name the first part alone
                checked.fail(f"--{name} has no value: give --{name}=VALUE, or --{name}=true if it is a switch")
        else:
            try:
                value = load(text)
            except yaml.YAMLError:
                value = text
            except OverflowError as error:
                raise FerlError(f"--{name}: {error}") from None
            if name.replace(".init_args", "") in PATHS and value is not None and not isinstance(value, list):
                value = text  # a folder may be called 1e3, or a: b
            _make_importable(value)
            checked.put(name.split("."), value, append)
    for key, path in checked.paths.items():
        if not path.exists():
            raise FerlError(_absent(key, path))
    return [
        f"{arg}={checked.part(arg[2:-5])}" if arg.startswith("--") and arg.endswith(".help") else arg for arg in args
    ]


class Slot(NamedTuple):
    """What a parameter that takes a part says."""

    name: str
    """One of ``SLOTS``, or ``model``."""
    many: bool
    """Whether it takes a list of parts."""
    default: str | None
    open: bool = False
    """Whether it takes others than our parts and those of plug-ins."""


class _Check:
    """Tracks what each slot holds."""

    def __init__(self, command: str) -> None:
        self.command = command
        self.strict = True
        self.plugins = bool(installed())
        self.held: dict[str, Part | None] = {}
        """By key: the part in a slot, None for null. A class that the index does not know is not here."""
        self.unknown: set[str] = set()
        """Keys of slots that hold such a class."""
        self.paths: dict[str, Path] = {}
        self.own = {"seed_everything": Option("", ""), "print_config": Option("", "")} | index.command_options(command)

    def fail(self, message: str) -> None:
        if self.strict:
            raise FerlError(message)

    def take(self, values: dict[str, Any]) -> None:
        """Take in a configuration."""
        for key, value in values.items():
            self.put([key], value)

    def put(self, path: Sequence[str], value: Any, append: bool = False) -> None:
        """Take in one value of a configuration or of the command line; ``...`` stands for one that is not given."""
        if "dict_kwargs" in path:
            return
        head, *rest = (str(name).removesuffix("+") for name in path if name not in ("init_args", "class_path"))
        kinds = int | float | str | list | None if head == "trainer" else int | float | None
        if "." in head and (group := head.partition(".")[0]) in ("trainer", *ROOTS):
            self.fail(
                f"{head!r} is one key; write its steps below each other, {group}: {{{head.partition('.')[2]}: ...}}"
            )
        if head in ("trainer", *ROOTS) and not rest and value is not ... and isinstance(value, kinds):
            first = {"trainer": "max_epochs", "model": "backbone", "data": "batch_size"}[head]
            self.fail(f"{head} is {value!r}, expected its options, such as {head}.{first}")
        if head == "trainer":
            below = {rest[0]: value} if rest else value if isinstance(value, dict) else {}
            for name, inside in below.items():
                self.option("trainer", str(name).removesuffix("+"), rest[1:], inside, index.trainer_options(), append)
        elif head in ROOTS:
            self.slot(head, Slot(head, False, None), rest, value, append)
        elif head == "seed_everything" and isinstance(value, int | str) and not _is_seed(value):
            self.fail(f"seed_everything is {value!r}, expected a number from 0 to {SEEDS - 1}, true or false")
        elif head in self.own:
            self.value(head, self.own[head], value)
        else:
            groups = {"trainer": index.trainer_options(), **{root: self.options_of(root) or {} for root in ROOTS}}
            name = head.replace("-", "_")
            elsewhere = [f"--{group}.{name}" for group, options in groups.items() if name in options]
            top = [*groups, "config", *(["from"] if self.command == "fit" else []), *self.own]
            hint = f" (did you mean {' or '.join(elsewhere)}?)" if elsewhere else meant(head, top)
            if rest and re.match("no[-_]", head):
                hint = f" (did you mean --{'.'.join((head[3:], *rest))}=false?)"
            elif head == "from" and self.command != "fit":
                hint = f"; ferl {self.command} takes the model as its first word, or by --ckpt_path"
            elif (
                self.command == "predict"
                and "mean --" not in hint
                and f"--{head}" in recognize_parser()._option_string_actions
            ):
                hint = "; ferl recognize has it, which finds the faces in pictures: ferl predict takes those cut out"
            elif head == self.command and isinstance(value, dict):
                hint = "; it is the command: take this level out of the file"
            self.fail(f"there is no option {head!r}{hint}")

    def option(
        self, key: str, name: str, rest: Sequence[str], value: Any, known: dict[str, Option], append: bool = False
    ) -> None:
        """Take in one option of the trainer or of a part."""
        if name not in known:
            hint = f"; give --{name}" if key == "trainer" and name in self.own else meant(name, known, key)
            own = [part.name for part in index.parts("data").values() if name in (index.options(part) or {})]
            if key == "data" and own:
                first = "ImageFolder" if "ImageFolder" in own else own[0]
                hint = f"; of the data sets, {', '.join(own)} take it: choose one, --data={first}"
            if key == "data" and name == "size":  # of data that come in one size
                hint = "; these images have one of their own: give --data.preprocess+=Resize --data.preprocess.size=N"
            self.fail(f"{key} has no option {name!r}{hint}")
        elif key == "model" and name in index.LINKED:
            self.fail(f"model.{name} comes from the data: choose classes by --data.classes")
        elif slot := _slot(known[name]):
            self.slot(f"{key}.{name}", slot, rest, value, append)
        elif not rest:
            self.value(f"{key}.{name}", known[name], [value] if append and not isinstance(value, list) else value)

    def slot(self, key: str, slot: Slot, rest: Sequence[str], value: Any, append: bool = False) -> None:
        """Take in the part of a slot, or one of its options."""
        if rest:
            self.default(key, slot)
            known = self.options_of(key)
            if key in self.held and self.held[key] is None:
                names = ", ".join(index.parts(slot.name))
                self.fail(f"{key} is null and has no option {rest[0]!r}; choose a part first, --{key}=NAME of {names}")
            elif known is not None:
                self.option(key, rest[0], rest[1:], value, known, append)
        elif isinstance(value, dict):
            self.named(key, value, index.parts(slot.name))
            if "class_path" in value:
                self.hold(key, slot, value["class_path"])
                self.flat(key, value)
            elif len(value) == 1 and (name := next(iter(value))) in index.parts(slot.name):
                self.fail(f"{key}: write the part as class_path: {name}, and its options below init_args")
            inside = value.get("init_args") or {} if {"class_path", "init_args"} & {*value} else value
            for name, below in inside.items() if isinstance(inside, dict) else ():
                self.slot(key, slot, [str(name).removesuffix("+")], below, str(name).endswith("+"))
        elif isinstance(value, list):
            for part in value if slot.many else ():
                self.slot(key, slot._replace(many=False), [], part)
        elif value is None or isinstance(value, str):
            self.hold(key, slot, value)
            if value in index.parts(slot.name) and slot.many and not append:
                self.fail(f"{key} is a list: give --{key}=[{value}], or --{key}+={value} to add to it")

    def flat(self, key: str, value: dict[str, Any]) -> None:
        """Look whether options of a class are beside its name."""
        if stray := {*value} - {"class_path", "init_args", "dict_kwargs"}:
            self.fail(f"{key}: {min(map(str, stray))!r} is beside class_path; options are below init_args")

    def named(self, key: str, value: dict[str, Any], parts: Collection[str] | None = None) -> None:
        """Look whether a class is named as other configurations do, such as Hydra's.

        Args:
            key: where the value is.
            value: without a class_path, if it is.
            parts: names of the classes that are meant then; None for any name.
        """
        for word in ("_target_", "class", "name", "type"):
            made = value.get(word)
            if "class_path" not in value and isinstance(made, str) and (parts is None or made in parts):
                self.fail(
                    f"{key}: a class is named by class_path, not by {word!r}, and its options are below init_args"
                )

    def hold(self, key: str, slot: Slot, name: Any) -> None:
        """Put the part of a name into a slot; None makes it null."""
        before = self.held.pop(key, None)
        self.unknown.discard(key)
        known = index.parts(slot.name)
        short = str(name).rsplit(".", 1)[-1]
        if name is None:
            self.held[key] = None
        elif short in known and (name == short or str(name).startswith("ferlightning.")):
            self.held[key] = known[short]
        else:
            self.unknown.add(key)
            if slot.name == "data" and Path(str(name)).exists():
                self.fail(f"{key} is {name}: give its reader, class_path: ImageFolder and init_args: {{root: {name}}}")
            if name == short != index.base(slot.name) and not (self.plugins or slot.open):  # a plug-in may have it
                self.fail(unknown_part(key, name, slot.name))
        if self.held.get(key) is not before:
            for account in (self.held, self.paths):
                for below in [other for other in account if other.startswith(f"{key}.")]:
                    del account[below]

    def default(self, key: str, slot: Slot) -> None:
        """Fill an empty slot with the default of its signature."""
        if key in self.held or key in self.unknown or slot.default is None:
            return
        names = re.findall(r"\w+", slot.default)
        if names == ["None"]:
            self.held[key] = None
        elif names and names[-1] in index.parts(slot.name):
            self.held[key] = index.parts(slot.name)[names[-1]]

    def part(self, key: str) -> str:
        """The part in a slot, for help on it."""
        self.put([*key.split("."), "help"], ...)
        part = self.held.get(key)
        if part is None:
            slot = slot_of(key)
            raise FerlError(f"give a class: --{key}.help=NAME{meant('', index.parts(slot)) if slot else ''}")
        return f"{part.module}.{part.name}"

    def options_of(self, key: str) -> dict[str, Option] | None:
        """Options of the part in a slot; None if that is unknown."""
        part = self.held.get(key)
        return None if part is None else index.options(part)

    def value(self, key: str, option: Option, value: Any) -> None:
        """Look at a number, a truth value, a list or a path."""
        if value is None or value is ...:
            return
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict) and "class_path" in one:  # such as an optimizer or a callback
                self.flat(key, one)
            elif isinstance(one, dict) and key in ("model.optimizer", "model.scheduler"):
                self.named(key, one)
        words = re.findall(r"\w+", option.annotation)
        if key == "trainer.accumulate_grad_batches" and isinstance(value, dict):
            by_epoch = f"--trainer.callbacks.scheduling='{value}'"
            self.fail(f"{key} is one number; by epoch: --trainer.callbacks+=GradientAccumulationScheduler {by_epoch}")
        if key == "data.split":
            shares = value.values() if isinstance(value, dict) else str(value).split(",")
            if any(re.fullmatch(r"\s*0?\.\d+\s*", str(share)) for share in shares):
                self.fail(
                    f"{key} names folders, tables or values, such as {{train: a, val: b}}; a share of the training "
                    "items becomes validation by --data.val_fraction=0.2"
                )
        kinds = [word for word in words if word not in ("None", "Optional", "Union")]
        if kinds and {*kinds} <= {"int", "float", "bool"}:
            if not _fits(value, kinds):
                self.fail(f"{key} is {value!r}, expected {' or '.join(dict.fromkeys(kinds))}")
        elif LIST.fullmatch(option.annotation):
            if isinstance(value, str | int | float):
                inside = ", ".join(part.strip() for part in str(value).strip("() ").split(","))
                self.fail(f"{key} is {value!r}, expected a list; write [{inside}]")
        elif key in PATHS and self.strict and not (str(value) in REGISTRY or str(value).startswith("hf:")):
            for path in value if isinstance(value, list) else [value]:
                self.paths[f"{key} {path}" if isinstance(value, list) else key] = at_home(str(path))


def _make_importable(value: Any) -> None:
    """Allow imports from the working folder, as ``python`` does, if the user names a class of a module there."""
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            _make_importable(part)
    elif isinstance(value, str) and re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", value):
        module = Path(value.partition(".")[0])
        if module.with_suffix(".py").is_file() or (module / "__init__.py").is_file():
            sys.path.append(str(Path.cwd()))  # at the end, so that no package is hidden


def _is_seed(value: int | str) -> bool:
    try:
        return isinstance(value, bool) or 0 <= int(value) < SEEDS
    except ValueError:
        return False


def _slot(option: Option) -> Slot | None:
    """What a parameter that takes a part, or a list of parts, is a slot for."""
    words = re.findall(r"\w+", option.annotation)
    slots = {index.base(slot): slot for slot in SLOTS}
    name = next((slots[word] for word in words if word in slots), None)
    if name is None:
        return None
    others = {*words} - {index.base(name), *PLAIN}  # such as augmentations of kornia
    return Slot(name, words[0] in ("Sequence", "list", "tuple"), option.default, bool(others))


def _fits(value: Any, kinds: Sequence[str]) -> bool:
    if not isinstance(value, str):
        return isinstance(value, int | float)
    if "bool" in kinds and value.lower() in ("true", "false", "yes", "no", "on", "off"):
        return True
    try:
        float(value)
    except ValueError:
        return False
    return True


def _absent(key: str, path: Path) -> str:
    if key == "data.root":
        where = "" if path.is_absolute() else f", relative to the working folder {Path.cwd()}"
        return (
            f"data.root: looked in {path}{where}, which does not exist. Give the folder of the data by --data.root, or "
            "by the environment variable FERL_DATA"
        )
    if address := re.match(r"(https?|s3|gs):/", str(path)):
        return f"--{key.split()[0]}: {address[0]}/... is an address: fetch the file first, then give its path"
    photos = key.startswith("data.predict_folder")
    close = meant_weights(str(path)) if key in ("ckpt_path", "model.init_from") and path.parent == Path() else ""
    return f"--{key.split()[0]}: there is no {'folder' if photos else 'file'} {path}{close}"

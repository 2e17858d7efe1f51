"""Every part and its options, read from the source: that takes 0.2 seconds, importing the parts takes five."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from ferlightning.plugins import SLOTS

PACKAGE = Path(__file__).parents[1]
FOLDERS = ("contracts", "data", "deploy", "images", "models", "parts")
NOT_HERE = (
    "Callback", "Checkpoint", "ProgressBar", "BasePredictionWriter", "BaseFinetuning", "LambdaCallback",
    "BatchSizeFinder", "LearningRateFinder",
)  # fmt: skip
"""Lightning's callbacks that a command line has no use for."""
OUR_CALLBACKS = ("ferlightning.models.averaging", "ferlightning.evaluation.report", "ferlightning.cli.progress")
LINKED = ("class_names", "class_counts", "pixel_mean", "pixel_std")
"""What a model takes from the data."""
BASES = {**SLOTS, "model": "lightning.pytorch.LightningModule"}


@dataclass(frozen=True)
class Option:
    """A parameter of a function or of a class's ``__init__``."""

    annotation: str
    """Source text, empty without one."""
    default: str | None
    """Source text; None if the option must be given."""


@dataclass
class Part:
    """A class as its source has it."""

    name: str
    module: str
    line: str
    """First line of the docstring."""
    bases: list[str]
    """Full names, re-exports not followed."""
    options: dict[str, Option] | None
    """Those of its own ``__init__``; None without one."""
    open: bool
    """Whether its ``__init__`` takes ``**options`` and hands them to its base."""
    abstract: bool
    doc: str = ""
    """The docstring."""


@dataclass
class _Source:
    parts: dict[str, Part] = field(default_factory=dict)
    """By full name."""
    imported: dict[str, str] = field(default_factory=dict)
    """Full name of what a module imports, to the full name of where it comes from."""


def parts(slot: str) -> dict[str, Part]:
    """Our parts that fit a slot of ``SLOTS``, or ``model``, by short name; as ``callback``, Lightning's, too."""
    if slot == "callback":
        return _callbacks()
    found = [part for part in _source().parts.values() if not part.name.startswith("_") and not part.abstract]
    fit = [part for part in found if _follow(BASES[slot]) in list(_ancestors(part))]
    return {part.name: part for part in sorted(fit, key=lambda part: (part.name, part.module))}


def base(slot: str) -> str:
    """Name of the class whose subclasses fit a slot."""
    return BASES[slot].rsplit(".", 1)[-1]


def options(part: Part) -> dict[str, Option] | None:
    """All options of a part, those of its bases included; None if it takes some that its source does not tell."""
    if part.options is not None and not part.open:
        return part.options
    for name in part.bases:
        above = _source().parts.get(_follow(name))
        if above is None:
            return None if part.options is not None else {}
        inherited = options(above)
        return None if inherited is None else inherited | (part.options or {})
    return None if part.open else {}


def docs(part: Part) -> Iterator[str]:
    """The docstrings of a part and of its bases, its own first."""
    yield part.doc
    for name in _ancestors(part):
        if name in _source().parts:
            yield _source().parts[name].doc


@cache
def trainer_options() -> dict[str, Option]:
    """Options of ``lightning.pytorch.Trainer``."""
    return _trainer()["__init__"]


@cache
def command_options(command: str) -> dict[str, Option]:
    """Options of a command such as ``fit`` other than those of trainer, model and data: the trainer's and ours."""
    given = {
        name: option for name, option in _trainer()[command].items() if not name.endswith(("model", "dataloaders"))
    }
    given.pop("datamodule")
    tree = ast.parse((PACKAGE / "cli" / "trainer.py").read_text("utf-8"))
    for call in ast.walk(tree):
        match call:
            case ast.Call(func=ast.Attribute(attr="add_argument"), args=[ast.Constant(value=str(name)), *_]):
                given[name.lstrip("-")] = Option("", "")
    return given


def function_options(name: str) -> dict[str, Option]:
    """Options of a function of ours, by its full name."""
    module, _, called = name.rpartition(".")
    path = PACKAGE.joinpath(*module.split(".")[1:]).with_suffix(".py")
    tree = ast.parse(path.read_text("utf-8"))
    (function,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == called)
    return _options(function, method=False)[0]


@cache
def _trainer() -> dict[str, dict[str, Option]]:
    """Options of the methods of Lightning's trainer, whose source is found without importing it."""
    spec = find_spec("lightning")
    assert spec and spec.submodule_search_locations
    path = Path(spec.submodule_search_locations[0], "pytorch", "trainer", "trainer.py")
    tree = ast.parse(path.read_text("utf-8"))
    trainer = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Trainer")
    return {node.name: _options(node)[0] for node in trainer.body if isinstance(node, ast.FunctionDef)}


@cache
def _callbacks() -> dict[str, Part]:
    """Lightning's callbacks, of which it exports the names, and ours."""
    spec, source = find_spec("lightning"), _Source()
    assert spec and spec.submodule_search_locations
    home = Path(spec.submodule_search_locations[0], "pytorch", "callbacks")
    for path in sorted(home.rglob("*.py")):
        _read(ast.parse(path.read_text("utf-8")), "lightning.pytorch.callbacks", source)
    public = ast.parse((home / "__init__.py").read_text("utf-8"))
    names = {node.value for node in ast.walk(public) if isinstance(node, ast.Constant)} - {*NOT_HERE}
    for module in OUR_CALLBACKS:
        path = PACKAGE.joinpath(*module.split(".")[1:]).with_suffix(".py")
        _read(ast.parse(path.read_text("utf-8")), module, source)
    found = [part for part in source.parts.values() if part.name in names or part.module in OUR_CALLBACKS]
    return {part.name: part for part in sorted(found, key=lambda part: part.name)}


@cache
def _source() -> _Source:
    source = _Source()
    for folder in FOLDERS:
        for path in sorted((PACKAGE / folder).rglob("*.py")):
            module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
            _read(ast.parse(path.read_text("utf-8")), module, source)
    return source


def _read(tree: ast.Module, module: str, source: _Source) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for name in node.names:
                source.imported[f"{module}.{name.asname or name.name}"] = f"{node.module}.{name.name}"
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            functions = {f.name: f for f in node.body if isinstance(f, ast.FunctionDef)}
            own, passed_on = _options(functions["__init__"]) if "__init__" in functions else (None, False)
            abstract = any("abstractmethod" in ast.unparse(d) for f in functions.values() for d in f.decorator_list)
            doc = ast.get_docstring(node) or ""
            line = doc.partition("\n")[0]
            bases = [f"{module}.{ast.unparse(base)}" for base in node.bases]
            source.parts[f"{module}.{node.name}"] = Part(node.name, module, line, bases, own, passed_on, abstract, doc)


def _options(function: ast.FunctionDef, method: bool = True) -> tuple[dict[str, Option], bool]:
    """The options of a function, or of a method without its ``self``, and whether it takes any others."""
    args = function.args
    named = [*args.posonlyargs, *args.args][method:]
    defaults = [None] * (len(named) - len(args.defaults)) + list(args.defaults[-len(named) :] if named else [])
    found = zip([*named, *args.kwonlyargs], [*defaults, *args.kw_defaults], strict=True)
    described = {
        arg.arg: Option(
            ast.unparse(arg.annotation) if arg.annotation else "", None if default is None else ast.unparse(default)
        )
        for arg, default in found
    }
    return described, args.kwarg is not None


def _follow(name: str) -> str:
    """The full name under which a class is defined, whatever it was imported through."""
    imported = _source().imported
    while name in imported:
        name = imported[name]
    return name


def _ancestors(part: Part) -> Iterator[str]:
    for base in map(_follow, part.bases):
        yield base
        if base in _source().parts:
            yield from _ancestors(_source().parts[base])

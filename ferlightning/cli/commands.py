"""``ferl data``, ``bench``, ``sweep``, ``export`` and ``components``: plain functions behind one parser."""

import json
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, auto_cli

from ferlightning import plugins
from ferlightning.bounded_yaml import load, plain
from ferlightning.cli import configs
from ferlightning.cli.deferred import import_lightning
from ferlightning.cli.messages import RefusedError, Refusing, explain, meant
from ferlightning.cli.short import data_at
from ferlightning.cli.words import values
from ferlightning.errors import FerlError

Function = Callable[..., object]


class _Parser(Refusing, ArgumentParser):
    pass


def data(args: Sequence[str]) -> None:
    """Inspect, audit or verify data, or cut faces out of photographs."""
    words = _checked("data", args, ["inspect", "audit", "verify", "align"])
    if words[0] == "align":  # which needs no torch
        from ferlightning.deploy.align import align

        _run("data", {"align": align}, words)
        return
    if len(words) > 1 and not words[1].startswith("-"):
        if not Path(words[1]).exists():
            raise FerlError(f"there is no file or folder {words[1]}")
        told = [word for word in words[2:] if re.match(r"--data\b", word)]
        if words[0] == "inspect" and told:
            raise FerlError(
                f"ferl data inspect takes no {told[0].partition('=')[0]}: it shows what is found as it is. The audit "
                f"takes options of the data: {shlex.join(['ferl', 'data', 'audit', *words[1:]])}"
            )
        if words[0] == "audit" and told:
            words[1:2] = data_at(words[1], words[2:])
        elif words[0] != "inspect":
            words[1] = f"--path={plain(words[1])}"  # the parser takes as positional only what is required
    import_lightning()
    from ferlightning.data.commands import audit, inspect, verify
    from ferlightning.deploy.align import align

    plugins.load_plugins()
    _run("data", {"inspect": inspect, "audit": audit, "verify": verify, "align": align}, words)


def bench(args: Sequence[str]) -> None:
    """Run a suite, or report on one."""
    from ferlightning.bench.report import report
    from ferlightning.bench.runner import run

    words = _checked("bench", args, ["run", "report"])
    if words[0] == "run" and len(words) > 1 and not words[1].startswith("-"):
        words[1] = configs.find(words[1], configs.SUITES, "suite")
        _check_tests(Path(words[1]))
    _run("bench", {"run": run, "report": report}, words)


def _check_tests(path: Path) -> None:
    """Refuse tests of a suite that cannot work before anything is trained: each cell has them after its training."""
    from ferlightning.bench.suite import read_suite
    from ferlightning.cli.check import check
    from ferlightning.cli.short import spell_out

    suite = read_suite(path)
    tests = [(f"tests, {test.name}", test.args) for test in suite.tests]
    tests += [("corruptions", [f"--data.corrupt={name}"]) for name in suite.corruptions]
    for where, args in tests:
        try:
            check(spell_out(configs.expand(["test", "--untrained", *args])).words, model_unknown=True)
        except FerlError as error:
            raise FerlError(f"{path}: {where}: {error}") from None


def sweep(args: Sequence[str]) -> None:
    """Search for hyper-parameters on this machine."""
    from ferlightning.sweep.commands import sweep

    words = list(args)
    if words and not words[0].startswith("-"):
        words[0] = configs.find(words[0], configs.SWEEPS, "sweep")
    _run("sweep", sweep, words)


def export(args: Sequence[str]) -> None:
    """Write a trained model as a file that others run."""
    switches = ("--clips", "--fp16", "--int8", "--mirror", "--trust")
    words: list[str] = []
    for word in args:
        if words and words[-1] in switches and word in ("true", "false"):
            words[-1] += f"={word}"
        else:
            words.append(word)
    words = [f"{word}=true" if word in switches else word for word in words]
    places, waiting = [], False
    for i, word in enumerate(words):
        if not word.startswith("-") and not waiting:
            places.append(i)
        waiting = word.startswith("--") and "=" not in word and word not in ("--help", "--print_config")
    if len(places) > 1:
        words[places[1]] = f"--out={words[places[1]]}"  # the parser takes as positional only what is required
    if "--trust=true" in words:
        sys.path.append(str(Path.cwd()))  # at the end, so that no package is hidden
    words = [re.sub("^--(ort|detector)-(dir|path)", r"--\1_\2", word) for word in words]  # as in `ferl recognize`
    import_lightning()
    from ferlightning.cli.saved import training_data
    from ferlightning.export.commands import export

    plugins.load_plugins()
    if "--int8=true" in words and not values(words, "data"):
        model = next(iter(values(words, "model")), words[places[0]] if places else "")
        several = load(model) if model.startswith("[") else None
        if model and not model.endswith((".onnx", ".pt2")):  # which is an export already, as export says
            found = training_data(str(several[0]) if several else model, "--trust=true" in words)
            words[:0] = [f"--data={json.dumps(found)}"] if found else []
    _run("export", export, words)


def compare(args: Sequence[str]) -> None:
    """Compare trained models, picture by picture."""
    from ferlightning.bench.compare import print_comparison

    count = next((i for i, word in enumerate(args) if word.startswith("-")), len(args))
    runs, rest = [word.rstrip("/") for word in args[:count]], args[count:]
    if count == 0 and not rest:
        raise FerlError("ferl compare needs at least two run folders: ferl compare RUN1 RUN2")
    _run("compare", print_comparison, [json.dumps(runs), *rest] if runs else rest)


def components(args: Sequence[str]) -> None:
    """Show every part by slot, or one with its options: ours, and those of installed plug-ins."""
    words = [f"{word}=true" if word == "--json" else word for word in args]
    if len(names := [word for word in words if not word.startswith("-")]) > 1 and "--name" not in words:
        raise FerlError(f"ferl components takes one name, not {' and '.join(names)}")
    if words and not words[0].startswith("-"):
        words[0] = f"--name={words[0]}"  # the parser takes as positional only what is required
    _run("components", show_components, words)


def show_components(name: str | None = None, json: bool = False) -> None:
    """Show every part by slot, ours and those of installed plug-ins; or one with its options.

    Args:
        name: of one part, or of a slot; ``ferl components NAME`` will do.
        json: print JSON.
    """
    from ferlightning.cli.components import show

    show(name, json)


def new(args: Sequence[str]) -> None:
    """Write a plug-in package."""
    from ferlightning.cli.new import plugin

    words = _checked("new", args, ["plugin"])
    if len(words) > 2 and not any(word.startswith("-") for word in words[1:3]):
        words[2] = f"--part={words[2]}"  # the parser takes as positional only what is required
    _run("new", {"plugin": plugin}, words)


def completion(args: Sequence[str]) -> None:
    """Print a script by which a shell completes commands."""
    from ferlightning.cli.completion import completion

    completion(args)


def _checked(command: str, args: Sequence[str], names: Sequence[str]) -> list[str]:
    """The words after a command that has commands of its own; the help if there are none."""
    words = list(args) or ["--help"]
    of_all = ("-h", "--help", "--config", "--print_config")
    if words[0].startswith("-") and words[0].partition("=")[0] not in of_all:
        usual = next((word for word in words if word in names), names[0])
        raise FerlError(f"ferl {command}: options come after the command: ferl {command} {usual} ... {words[0]}")
    if not words[0].startswith("-") and words[0] not in names:
        if command == "data" and Path(words[0]).exists():
            raise FerlError(f"ferl data: {words[0]} is no command; did you mean ferl data inspect {words[0]}?")
        if command == "bench" and (Path(words[0]).is_file() or words[0] in configs.shipped(configs.SUITES)):
            raise FerlError(f"ferl bench: {words[0]} is no command; did you mean ferl bench run {words[0]}?")
        if command == "new":
            raise FerlError(f"ferl new: {words[0]!r} is no command; did you mean ferl new plugin {words[0]}?")
        raise FerlError(f"ferl {command}: there is no command {words[0]!r}{meant(words[0], names)}")
    return words


def _run(command: str, functions: Function | dict[str, Any], words: Sequence[str]) -> None:
    """Call a function with the arguments that the words give it."""
    try:
        auto_cli(functions, args=list(words), prog=f"ferl {command}", parser_class=_Parser)
    except RefusedError as error:
        if isinstance(functions, dict):
            functions = next((functions[word] for word in words if word in functions), print)
        text = explain(str(error), [*signature(functions).parameters])
        if missing := re.fullmatch(r"(?:(\w+)\.)?(\w+) is missing", text):
            whole = " ".join(filter(None, ("ferl", command, missing[1])))
            text = f"{whole}: {missing[2]} is missing; {whole} --help shows what it takes"
        raise FerlError(text) from None

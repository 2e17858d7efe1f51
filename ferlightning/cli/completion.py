"""``ferl completion bash``: a script by which a shell completes commands, options and names of parts."""

import ast
from argparse import SUPPRESS, ArgumentParser
from collections.abc import Sequence

from ferlightning.cli import index
from ferlightning.cli.components import FILLED
from ferlightning.cli.configs import CONFIGS, SUITES, SWEEPS, shipped
from ferlightning.cli.main import COMMANDS, TRAINER_COMMANDS
from ferlightning.cli.recognize import parser as recognize_parser
from ferlightning.errors import FerlError
from ferlightning.plugins import SLOTS

FUNCTIONS = {
    "data inspect": "data.commands.inspect", "data audit": "data.commands.audit", "data verify": "data.commands.verify",
    "data align": "deploy.align.align", "bench run": "bench.runner.run", "bench report": "bench.report.report",
    "new plugin": "cli.new.plugin", "compare": "bench.compare.print_comparison", "sweep": "sweep.commands.sweep",
    "export": "export.commands.export", "components": "cli.commands.show_components",
}  # fmt: skip
"""What the commands that are plain functions call."""
SHIPPED = {"bench run": SUITES, "sweep": SWEEPS}
"""Folder of the files that a command knows by name."""
SPLIT_AT_EQUALS = """
# bash takes --option=VALUE for three words, and the completion above for two.
_ferl() {
  local words=() i
  for ((i = 0; i <= COMP_CWORD; i++)); do
    [[ ${COMP_WORDS[i]} == "=" ]] || words+=("${COMP_WORDS[i]}")
  done
  [[ ${COMP_WORDS[COMP_CWORD]} == "=" ]] && words+=("")
  COMP_WORDS=("${words[@]}")
  COMP_CWORD=$((${#words[@]} - 1))
  _shtab_ferl
}
complete -o bashdefault -F _ferl ferl
"""
"""Appended to the script of bash."""
USAGE = 'usage: ferl completion SHELL, such as eval "$(ferl completion bash)"'


def completion(args: Sequence[str]) -> None:
    """Print the script for a shell; ``ferl completion`` names them.

    Raises:
        FerlError: the shell is unknown, or shtab is not installed.
    """
    if {"--help", "-h"} & {*args}:
        print((completion.__doc__ or "").partition("\n")[0] + f"\n\n{USAGE}")
        return
    try:
        import shtab
    except ModuleNotFoundError:
        raise FerlError("shell completion needs shtab: pip install shtab") from None
    shells = ", ".join(shtab.SUPPORTED_SHELLS)
    if len(args) != 1 or args[0] not in shtab.SUPPORTED_SHELLS:
        raise FerlError(f"{USAGE}; SHELL is one of {shells}")
    print(shtab.complete(_parser(), args[0]) + SPLIT_AT_EQUALS * (args[0] == "bash"))


def _parser() -> ArgumentParser:
    """A parser that knows the options, not what they mean."""
    parser = ArgumentParser("ferl")
    commands = parser.add_subparsers()
    for name, line in COMMANDS.items():
        command = commands.add_parser(name, help=line)
        parts = {key.removeprefix(name).strip(): key for key in FUNCTIONS if key.split()[0] == name}
        if name in TRAINER_COMMANDS:
            _add_options(command, name)
        elif name == "recognize":
            for action in recognize_parser()._actions[1:]:  # without its --help, which each parser has
                if action.option_strings:
                    command._add_action(action)
        elif "" in parts:
            _add_function(command, name)
        elif parts:
            below = command.add_subparsers()
            for part, key in parts.items():
                _add_function(below.add_parser(part, help=f"ferl {key}"), key)  # shtab leaves out those without help
    return parser


def _add_function(parser: ArgumentParser, command: str) -> None:
    """Options of a function, of which ``Literal`` tells the values; and the files that it knows by name."""
    for name, option in index.function_options(f"ferlightning.{FUNCTIONS[command]}").items():
        values = option.annotation.removeprefix("Literal")
        several = list(index.parts("data")) if name == "data" else None
        parser.add_argument(f"--{name}", choices=ast.literal_eval(values) if values != option.annotation else several)
    if command in SHIPPED:
        parser.add_argument("file", choices=sorted(shipped(SHIPPED[command])))


def _add_options(parser: ArgumentParser, command: str) -> None:
    """Options of fit, validate, test or predict: the trainer's, the model's, the data's, and the parts of each slot."""
    slots = {"backbone": "backbone", "restorer": "restorer", "sequence": "sequence, attention", "head": "head"}
    slots |= {"attention": "sequence, attention", "losses": "loss"}
    options: dict[str, list[str] | None] = dict.fromkeys(index.command_options(command))
    options |= {"config": sorted(shipped(CONFIGS)), "from": None, "data": list(index.parts("data"))}
    options |= {f"trainer.{name}": None for name in index.trainer_options()}
    known = index.options(index.parts("model")["Classifier"]) or {}
    options |= {f"model.{name}": list(index.parts(slots[name])) if name in slots else None for name in known}
    for root, slot in (("data", "data"), *((f"model.{name}", slot) for name, slot in slots.items())):
        for part in index.parts(slot).values():
            own = list(index.options(part) or {})[FILLED.get(slot, 0) :]
            options |= {f"{root}.{name}": None for name in own if f"{root}.{name}" not in options}
    for name, choices in options.items():
        parser.add_argument(f"--{name}", choices=choices, help=SUPPRESS if name == "help" else None)
    assert set(slots.values()) <= set(SLOTS)

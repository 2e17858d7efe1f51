"""The command ``ferl``. Heavy imports happen inside the branch taken, so that ``ferl --help`` answers at once."""

import sys
from collections.abc import Sequence

from ferlightning import __version__
from ferlightning.errors import FerlError

COMMANDS = {
    "fit": "Train a model, and report on validation with the best checkpoint.",
    "validate": "Evaluate a checkpoint on the validation split.",
    "test": "Evaluate a checkpoint on the test split.",
    "predict": "Write a checkpoint's predictions on images.",
    "data": "Inspect or audit data: what lies on disk, copies, leaks between splits.",
    "bench": "Run many systems on many data sets, and make the tables.",
    "sweep": "Search for hyper-parameters, by a sweep file in W&B's format.",
    "components": "Show every part by slot, those of plug-ins included.",
}
TRAINER_COMMANDS = ("fit", "validate", "test", "predict")


def usage() -> str:
    lines = [f"  {name:<12}{what}" for name, what in COMMANDS.items()]
    return "\n".join(
        [
            "usage: ferl COMMAND [options]",
            "",
            "Train, compare and ship facial-expression recognisers.",
            "",
            "commands:",
            *lines,
            "",
            "ferl COMMAND --help shows the options of a command.",
            "Try: ferl fit --config configs/quickstart.yaml",
        ]
    )


def main(args: Sequence[str] | None = None) -> None:
    """Run a command; a mistake in the user's input ends it with a message and status 2.

    Args:
        args: the words after ``ferl``; None for the command line's.
    """
    args = sys.argv[1:] if args is None else list(args)
    command = args[0] if args else "--help"
    try:
        if command in ("-h", "--help"):
            print(usage())
        elif command == "--version":
            print(f"ferlightning {__version__}")
        elif command in TRAINER_COMMANDS:
            from ferlightning.cli.trainer import FerlCLI
            from ferlightning.plugins import load_plugins

            load_plugins()
            FerlCLI(args)
        elif command == "data":
            from ferlightning.cli.data import run

            run(args[1:])
        elif command == "bench":
            from ferlightning.bench.commands import run as bench

            bench(args[1:])
        elif command == "sweep":
            from ferlightning.sweep.commands import run as sweep

            sweep(args[1:])
        elif command == "components":
            from jsonargparse import auto_cli

            from ferlightning.plugins import components

            auto_cli(components, args=args[1:], prog="ferl components")
        else:
            from difflib import get_close_matches

            close = get_close_matches(command, COMMANDS, 1)
            raise FerlError(
                f"there is no command {command!r}"
                + (f"; did you mean {close[0]}?" if close else f": the commands are {', '.join(COMMANDS)}")
            )
    except Exception as error:
        # The parser wraps what a part raises while it is built.
        mistake: BaseException | None = error
        while mistake is not None and not isinstance(mistake, FerlError):
            mistake = mistake.__cause__ or mistake.__context__
        if mistake is None:
            raise
        print(f"ferl: error: {mistake}", file=sys.stderr)
        raise SystemExit(2) from None

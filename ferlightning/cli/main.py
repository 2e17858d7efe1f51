"""The command ``ferl``. Heavy imports happen inside the branch taken, so that ``ferl --help`` answers at once."""

import locale
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from io import TextIOWrapper
from pathlib import Path
from threading import RLock

from ferlightning import __version__
from ferlightning.cli.mistakes import mistake_of, unforeseen
from ferlightning.errors import FerlError, printable
from ferlightning.signals import HANG_UP, asked_to_end

COMMANDS = {
    "fit": "Train a model, and report on validation with the best checkpoint.",
    "validate": "Evaluate a checkpoint on the validation split.",
    "test": "Evaluate a checkpoint on the test split.",
    "predict": "Write a checkpoint's predictions on images.",
    "recognize": "Find faces in pictures, videos and cameras, and tell what they express.",
    "data": "Inspect, audit or verify data (copies, leaks, damage), or cut faces out of photographs.",
    "compare": "Compare trained models on the same images: difference, test, and the pictures they differ on.",
    "bench": "Run many systems on many data sets, and make the tables.",
    "sweep": "Search for hyper-parameters, by a sweep file in W&B's format.",
    "export": "Write a trained model as a file that runs without ferlightning.",
    "components": "Show every part by slot, those of plug-ins included, or one with its options.",
    "new": "Write a plug-in package with a part of your own, its tests, and what trains it.",
    "completion": 'Print a script by which a shell completes commands: eval "$(ferl completion bash)".',
}
CALLED = {
    "fit": "train trainer training finetune", "test": "eval evaluate evaluation score", "validate": "val valid",
    "predict": "infer inference classify prediction", "recognize": "detect demo recognise webcam camera video photo",
    "data inspect": "inspect info describe dataset", "data align": "align crop", "data audit": "audit",
    "data verify": "verify", "bench": "benchmark suite",
    "sweep": "tune hpo search optimize", "export": "convert onnx", "components": "list models parts show plugins",
    "new plugin": "init create plugin scaffold", "--version": "version -v -V", "--help": "help",
}  # fmt: skip
"""What other programs call a command."""
log = logging.getLogger(__name__)
_ALONE = RLock()
"""Held by the thread that runs one of Lightning's commands: signals, the output and the working folder, which the
parser changes for a while, are the process's."""
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
            "Try: ferl fit --config quickstart",
        ]
    )


def main(args: Sequence[str] | None = None) -> None:
    """Run a command; a mistake in the user's input ends it with a message and status 2.

    Args:
        args: the words after ``ferl``; None for the command line's.
    """
    if args is None:
        _use_utf8()
        most = os.environ.get("FERL_MAX_PIXELS", "")  # OpenCV's own limit, where Pillow is not here to read a size
        os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", most if re.fullmatch("[0-9]+", most) else "64000000")
    args = sys.argv[1:] if args is None else list(args)
    command = args[0] if args else "--help"
    try:
        if command in ("-h", "--help"):
            print(usage())
        elif command == "--version":
            print(f"ferlightning {__version__}")
        elif command in TRAINER_COMMANDS:
            # A training ends at these in its own way; else Lightning waits for the end of all items.
            ends = () if command == "fit" else (signal.SIGTERM, HANG_UP)
            with asked_to_end(_stop, *ends):
                run_trainer([command, *args[1:]])
        elif command == "recognize":
            from ferlightning.cli.recognize import recognize

            recognize(args[1:])
        elif command in COMMANDS:
            from ferlightning.cli import commands

            with asked_to_end(_stop, signal.SIGTERM, HANG_UP):  # else half-written files would stay
                getattr(commands, command)(args[1:])
        else:
            raise _unknown(command)
    except BrokenPipeError:  # who read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:
        mistake = mistake_of(error, command)
        if mistake:
            print("ferl: error:", printable(str(mistake), keep="\n\t"), file=sys.stderr)
            raise SystemExit(2) from None
        if os.environ.get("FERL_TRACEBACK"):
            raise
        print(f"ferl: error: {printable(unforeseen(error))}", file=sys.stderr)
        raise SystemExit(1) from None


def _unknown(command: str) -> FerlError:
    from difflib import get_close_matches

    close = [words for words, called in CALLED.items() if command.lower() in called.split()]
    if command.startswith("-"):
        return FerlError(f"options come after the command: ferl fit ... {command}")
    close += [f"fit {command}"] if command and Path(command).exists() else get_close_matches(command, COMMANDS, 1)
    hint = f"; did you mean ferl {close[0]}?" if close else f": the commands are {', '.join(COMMANDS)}"
    return FerlError(f"there is no command {command!r}{hint}")


def _stop(number: int) -> None:
    raise SystemExit(128 + number)


def _use_utf8() -> None:
    """Start Python anew in its UTF-8 mode where the system's encoding is another one, such as GBK on Windows.

    Files that name no encoding, such as configurations that jsonargparse reads, are in the system's without it.
    """
    if sys.flags.utf8_mode or locale.getencoding().lower() in ("utf-8", "utf8") or os.environ.get("PYTHONUTF8") == "1":
        return
    environment = os.environ | {"PYTHONUTF8": "1"}
    if sys.platform == "win32":  # where a process cannot become another one
        raise SystemExit(subprocess.call([sys.executable, *sys.orig_argv[1:]], env=environment))
    os.execve(sys.executable, sys.orig_argv, environment)


def run_trainer(args: list[str]) -> Path | None:
    """Run one of Lightning's commands, once nothing is found wrong with it that can be seen without torch.

    Threads that call it wait for each other.

    Returns:
        The run folder of a training, the folder of a report, or the file of predictions; None if help was asked for.
    """
    asked = next((i for i, word in enumerate(args) if word in ("--help", "-h")), None)
    if asked is not None:
        from ferlightning.cli.help import show

        if show(args[0], args[asked + 1 :]):
            return None
        args = [args[0], "--help"]
    with _ALONE:
        return _run_alone(args)


def _run_alone(args: list[str]) -> Path:
    from ferlightning.cli.configs import expand
    from ferlightning.cli.run_folder import is_first
    from ferlightning.cli.short import spell_out

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper) and stream.encoding.lower() not in ("utf-8", "utf8"):  # from Python
            stream.reconfigure(errors="replace")  # a table has letters that ASCII lacks
    for word in (*args, os.getcwd()):  # noqa: PTH109 - as text
        if word != word.encode(errors="replace").decode():
            raise FerlError(f"{printable(word)} is not UTF-8, in which configurations and reports are: rename it")
    args, exported, start = spell_out(expand(args))
    quiet = "--quiet" in args
    with redirect_stdout(None) if quiet else nullcontext():  # warnings and errors go elsewhere
        if exported:
            from ferlightning.cli.exported import predict

            written = predict(args, exported[0], exported[1:])
        else:
            written = _run_lightning(args, start, quiet)
    if quiet and is_first():
        print(os.path.relpath(written))
    if "--open" in args and is_first():
        _show(written, args[0])
    return written


def _show(written: Path, command: str) -> None:
    """Open the report of a command in a browser; of a training, that on the test split if it has just made one."""
    import webbrowser

    folders = [written / "report_val", written / "report"] if command == "fit" else [written]
    pages = [page for folder in folders if (page := folder / "report.html").is_file()]
    if not pages:
        return
    page = max(pages, key=lambda page: page.stat().st_mtime_ns)  # an older one is of a test before it was trained on
    if not webbrowser.open(page.resolve().as_uri()):
        log.warning("--open: no browser could be started (BROWSER names one). The report: %s", page)


def _run_lightning(args: list[str], start: str | None, quiet: bool) -> Path:
    from ferlightning.cli.check import check
    from ferlightning.cli.deferred import import_lightning
    from ferlightning.cli.run_folder import go_on
    from ferlightning.plugins import load_plugins

    again = go_on(args)
    args = check(args if again is None else again, start is not None)
    import_lightning()
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING if quiet else logging.INFO)
    load_plugins()
    from ferlightning.cli.trainer import FerlCLI

    return FerlCLI(args, again is not None, start).result

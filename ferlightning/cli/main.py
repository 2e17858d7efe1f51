"""The command ``ferl``. Heavy imports happen inside the branch taken, so that ``ferl --help`` answers at once."""

import errno
import locale
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, redirect_stdout
from importlib.util import find_spec
from pathlib import Path

from ferlightning import __version__
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
    "data inspect": "inspect info describe dataset", "data align": "align crop", "bench": "benchmark suite",
    "sweep": "tune hpo search optimize", "export": "convert onnx", "components": "list models parts show plugins",
    "new plugin": "init create plugin scaffold", "--version": "version -v -V", "--help": "help",
}  # fmt: skip
"""What other programs call a command."""
NAMELESS = {
    errno.ENOSPC: "what is written", errno.EFBIG: "what is written", errno.ENOMEM: "this command",
    errno.EMFILE: "this process (see ulimit -n)", errno.ENFILE: "this machine", errno.ENOENT: "the working folder",
}  # fmt: skip
"""What an error of the system is about that names no file; only the working folder can be gone without a name."""
ISSUES = "https://github.com/ferlightning/ferlightning/issues"
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
            run_trainer([command, *args[1:]])
        elif command == "recognize":
            from ferlightning.cli.recognize import recognize

            recognize(args[1:])
        elif command in COMMANDS:
            from ferlightning.cli import commands

            with asked_to_end(_stop, signal.SIGTERM, HANG_UP):  # else half-written files would stay
                getattr(commands, command)(args[1:])
        else:
            from difflib import get_close_matches

            close = [words for words, called in CALLED.items() if command.lower() in called.split()]
            close += [f"fit {command}"] if Path(command).exists() else get_close_matches(command, COMMANDS, 1)
            hint = f"; did you mean ferl {close[0]}?" if close else f": the commands are {', '.join(COMMANDS)}"
            raise FerlError(f"there is no command {command!r}{hint}")
    except BrokenPipeError:  # who read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:
        chain = list(_chain(error))
        mistake = next((cause for cause in chain if isinstance(cause, FerlError)), None)
        if mistake is None and "Given value" in str(error):  # the parser's account of what a class raised when built
            error = chain[-1] if isinstance(chain[-1], Exception) else error
            if isinstance(error, ModuleNotFoundError):
                mistake = FerlError(f"a package is missing. {error}; install it")
            elif isinstance(error, ValueError):  # how a class says that a value is wrong
                mistake = FerlError(f"{_maker(error)} cannot be made: {error}")
        if mistake is None and type(error).__name__ == "MisconfigurationException":  # Lightning's, within a fit
            mistake = FerlError(f"trainer: {error}")
        if mistake is None and type(error).__module__.startswith("wandb."):
            mistake = FerlError(f"trainer.logger: {error} Or set WANDB_MODE=offline, which keeps all in the run folder")
        if mistake is None and isinstance(error, OSError) and (error.filename or error.errno in NAMELESS):
            name = re.sub(r"\.([^/\\]+)\.[0-9a-f]{32}\.tmp", r"\1", str(error.filename or NAMELESS[error.errno or 0]))
            mistake = FerlError(f"{name}: {error.strerror}")  # a temporary name says nothing
        if mistake is None and re.match(r"DataLoader worker .* is killed", str(error)):
            mistake = FerlError(
                f"{error} Perhaps memory ran out: give fewer --data.workers, or 0. Go on from the last whole epoch by "
                "--ckpt_path=RUN/checkpoints/last.ckpt"
            )
        if mistake is None and (isinstance(error, MemoryError) or "can't allocate memory" in str(error)):
            mistake = FerlError(
                "memory ran out: give a smaller --data.batch_size, a smaller network, or fewer --data.workers"
            )
        if mistake is None and re.search(r"gloo|NCCL|Connection (reset|closed) by peer", str(error)):
            mistake = FerlError(
                "another process of this training has ended, so this one stops, too; the message of that one says "
                f"why. Go on from the last whole epoch by --ckpt_path=RUN/checkpoints/last.ckpt ({str(error)[:200]})"
            )
        if mistake is None and isinstance(error, ModuleNotFoundError) and find_spec("lightning") is None:
            mistake = FerlError(f"ferl {command} needs packages that are not here: pip install ferlightning")
        if mistake is None and os.environ.get("FERL_TRACEBACK"):
            raise
        if mistake is None:
            print(f"ferl: error: {printable(_unforeseen(error))}", file=sys.stderr)
            raise SystemExit(1) from None
        print("ferl: error:", printable(str(mistake), keep="\n\t"), file=sys.stderr)
        raise SystemExit(2) from None


def _stop(number: int) -> None:
    raise SystemExit(128 + number)


def _maker(error: Exception) -> str:
    """The class whose constructor raised an error."""
    import traceback

    makers = [
        type(frame.f_locals["self"]).__name__
        for frame, _ in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_name == "__init__" and "self" in frame.f_locals
    ]
    return makers[-1] if makers else "a part"


def _unforeseen(error: Exception) -> str:
    """What is said of an error that no message was written for: where it happened, and where its traceback is."""
    import tempfile
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    foreign = [frame for frame in frames if "site-packages" not in frame.filename]
    place = (foreign or frames)[-1]
    with tempfile.NamedTemporaryFile(
        "w", prefix="ferl-", suffix=".log", delete=False, encoding="utf-8", errors="backslashreplace"
    ) as file:
        file.write(f"ferlightning {__version__}, ferl {' '.join(sys.argv[1:])}\n")
        traceback.print_exception(error, file=file)
    line = next((line for line in str(error).splitlines() if line.strip()), "no message")
    return (
        f"{type(error).__name__}: {line} ({place.filename}, line {place.lineno}). The traceback is in {file.name}; if "
        f"the code there is not your own, please report it with that file: {ISSUES}"
    )


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


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that led to it, the first cause last."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def run_trainer(args: list[str]) -> Path | None:
    """Run one of Lightning's commands, once nothing is found wrong with it that can be seen without torch.

    Returns:
        The run folder of a training, the folder of a report, or the file of predictions; None if help was asked for.
    """
    from ferlightning.cli.configs import expand
    from ferlightning.cli.run_folder import is_first
    from ferlightning.cli.short import spell_out

    asked = next((i for i, word in enumerate(args) if word in ("--help", "-h")), None)
    if asked is not None:
        from ferlightning.cli.help import show

        if show(args[0], args[asked + 1 :]):
            return None
        args = [args[0], "--help"]
    args, exported, start = spell_out(expand(args))
    quiet = "--quiet" in args
    written: Path | None
    with redirect_stdout(None) if quiet else nullcontext():  # warnings and errors go elsewhere
        if exported:
            from ferlightning.cli.exported import predict

            written = predict(args, exported[0], exported[1:])
        else:
            written = _run_lightning(args, start, quiet)
    if quiet and is_first():
        print(os.path.relpath(written))
    page = (written / "report_val" if args[0] == "fit" else written) / "report.html"
    if "--open" in args and is_first() and page.is_file():
        import webbrowser

        webbrowser.open(page.resolve().as_uri())
    return written


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

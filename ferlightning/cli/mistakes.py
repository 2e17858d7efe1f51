"""What the user is told when a command ends in an error: in words where they are known, else where it happened."""

import errno
import re
import sys
from collections.abc import Iterator
from importlib.util import find_spec

from ferlightning import __version__
from ferlightning.errors import FerlError

NAMELESS = {
    errno.ENOSPC: "what is written", errno.EFBIG: "what is written", errno.ENOMEM: "this command",
    errno.EMFILE: "this process (see ulimit -n)", errno.ENFILE: "this machine", errno.ENOENT: "the working folder",
}  # fmt: skip
"""What an error of the system is about that names no file; only the working folder can be gone without a name."""
UNFINISHED = re.compile(r"\.([^/\\]+)\.[0-9a-f]{32}\.tmp")
"""The temporary name of a file, which says nothing."""
GO_ON = "Go on from the last whole epoch by --ckpt_path=RUN/checkpoints/last.ckpt"
ISSUES = "https://github.com/ferlightning/ferlightning/issues"


def mistake_of(error: Exception, command: str) -> FerlError | None:
    """The error of a command in words; None for one that no message was written for."""
    for cause in _chain(error):
        if isinstance(cause, FerlError):
            return cause
    built, error = error, _told(error)
    if built is not error and isinstance(error, ModuleNotFoundError):
        return FerlError(f"a package is missing. {error}; install it")
    said = re.search(r"Problem with given class_path '\w*(?:\.\w+)*?\.?(\w+)':\s*(.+)", str(built))
    if said and "Got value" in str(error):  # one of a list, for which the parser tried a single one first
        return FerlError(f"{said[1]} cannot be made: {said[2]}")
    if built is not error and isinstance(error, ValueError):  # how a class says that a value is wrong
        return FerlError(f"{_maker(error)} cannot be made: {error}")
    text = str(error)
    if type(error).__name__ == "MisconfigurationException":  # Lightning's, within a fit
        return FerlError(f"trainer: {error}")
    if type(error).__module__.startswith("wandb."):
        return FerlError(f"trainer.logger: {error} Or set WANDB_MODE=offline, which keeps all in the run folder")
    if isinstance(error, OSError) and (error.filename or error.errno in NAMELESS):
        name = UNFINISHED.sub(r"\1", str(error.filename or NAMELESS[error.errno or 0]))
        return FerlError(f"{name}: {error.strerror}")
    if re.match(r"DataLoader worker .* is killed", text):
        return FerlError(f"{error} Perhaps memory ran out: give fewer --data.workers, or 0. {GO_ON}")
    if re.search("Output size is too small|Kernel size can't be greater than actual input size", text):
        return FerlError(
            "the images are too small for this network: give a larger --data.size, or a network that pools less"
        )
    if "`val_check_interval`" in text:
        return FerlError(f"trainer: {text.strip()}")
    if said := re.match(r"Unknown backend type (\S+)", text):
        return FerlError(
            f"trainer.strategy: process_group_backend is {said[1]!r}, expected gloo, or nccl on GPUs; leave it out "
            "for the one that fits"
        )
    if isinstance(error, MemoryError) or "can't allocate memory" in text:
        return FerlError("memory ran out: give a smaller --data.batch_size, a smaller network, or fewer --data.workers")
    if re.search(r"gloo|NCCL|Connection (reset|closed) by peer", text):
        return FerlError(
            "another process of this training has ended, so this one stops, too; the message of that one says why. "
            f"{GO_ON} ({text[:200]})"
        )
    if isinstance(error, ModuleNotFoundError) and find_spec("lightning") is None:
        return FerlError(f"ferl {command} needs packages that are not here: pip install ferlightning")
    missing = error.name if isinstance(error, ModuleNotFoundError) else ""  # None where a library says how to install
    if missing is None or (missing and find_spec(missing.partition(".")[0]) is None):
        return FerlError(f"a package is missing. {text.strip()}; install it")
    return None


def unforeseen(error: Exception) -> str:
    """What is said of an error that no message was written for: where it happened, and where its traceback is."""
    import tempfile
    import traceback

    error = _told(error)
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


def _told(error: Exception) -> Exception:
    """The error itself; of the parser's account of what a class raised when built, what that class raised."""
    first = list(_chain(error))[-1]
    return first if "Given value" in str(error) and isinstance(first, Exception) else error


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that led to it, the first cause last."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _maker(error: Exception) -> str:
    """The class whose constructor raised an error."""
    import traceback

    makers = [
        type(frame.f_locals["self"]).__name__
        for frame, _ in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_name == "__init__" and "self" in frame.f_locals
    ]
    return makers[-1] if makers else "a part"

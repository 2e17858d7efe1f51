"""Files and folders that appear whole: an interruption leaves the old one or the new one, never half of one."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4


def at_home(path: str | Path) -> Path:
    """A path with the person's home for a ``~``; it stays where there is nobody of that name."""
    return Path(os.path.expanduser(path))  # noqa: PTH111  # Path's own raises


def cache_dir() -> Path:
    """Return the folder of all that is kept for later: ``$FERL_CACHE``, or ``~/.cache/ferlightning``."""
    return at_home(os.environ.get("FERL_CACHE") or "~/.cache/ferlightning")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give the block another name in the same folder; what it writes there, a file or a folder, then becomes ``path``.

    Nobody else has that name, so several processes may write one path: the last to end wins. A block that raises leaves
    ``path`` as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, "is a file; give a place in a folder", str(path.parent)) from None
    temporary = _beside(path)
    try:
        yield temporary
        if temporary.is_dir():
            _replace_folder(path, temporary)
        else:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EFBIG):  # which do not tell what they had no room for
            error.filename = error.filename or str(path)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        with suppress(OSError):
            temporary.unlink()


def remove_unfinished(folder: Path) -> None:
    """Remove what a ``replacing`` that was killed left in a folder that nobody else writes to."""
    for left in folder.glob(f".*.{'[0-9a-f]' * 32}.tmp"):
        shutil.rmtree(left, ignore_errors=True)
        with suppress(OSError):
            left.unlink()


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid4().hex}.tmp")


def _replace_folder(folder: Path, new: Path) -> None:
    while True:
        if folder.exists():
            old = _beside(folder)
            with suppress(FileNotFoundError):  # another process has just moved it
                folder.rename(old)
            shutil.rmtree(old, ignore_errors=True)
        try:
            new.rename(folder)
            return
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):  # else another process has just put its own there
                raise

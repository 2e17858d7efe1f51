"""Signals that ask a command to end: SIGINT, SIGTERM, and SIGHUP, which comes when a terminal is closed."""

import errno
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

HANG_UP = getattr(signal, "SIGHUP", None)
"""None on Windows, which has no such signal."""


@contextmanager
def asked_to_end(act: Callable[[int], object], *signals: signal.Signals | None) -> Iterator[list[int]]:
    """Call a function with each signal that comes, in place of what it would do, and yield those that came.

    Under ``nohup`` SIGHUP stays ignored; in a thread other than the main one all of them keep what they do.
    """
    came = list[int]()

    def handle(number: int, _: object) -> None:
        came.append(number)
        if number == HANG_UP:
            _leave_closed_terminal()
        act(number)

    main = threading.current_thread() is threading.main_thread()
    wanted = [number for number in signals if main and number and signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in wanted}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def at_most(seconds: float, error: Exception) -> Iterator[None]:
    """Raise an error in a block that has used too much processor time, where the system has such a clock.

    Not in a thread other than the main one.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise error

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _leave_closed_terminal() -> None:
    """Discard output to a closed terminal, on which a progress bar would fail."""
    for stream in (1, 2):
        try:
            os.ttyname(stream)
        except OSError as error:
            if error.errno != errno.ENOTTY:  # a file or a pipe stays
                with suppress(OSError), Path(os.devnull).open("wb") as nowhere:
                    os.dup2(nowhere.fileno(), stream)

"""``ferl bench``: run a suite, and report on it."""

import json
from collections.abc import Sequence
from itertools import takewhile

from ferlightning.bench.report import report
from ferlightning.bench.runner import run as run_suite


def run(args: Sequence[str]) -> None:
    """Run a command.

    Args:
        args: the words after ``ferl bench``.
    """
    from jsonargparse import auto_cli

    words = list(args) or ["--help"]
    if words[0] == "report":
        folders = list(takewhile(lambda word: not word.startswith("-"), words[1:]))
        if folders:  # one word is all that the parser takes as a list
            words[1 : 1 + len(folders)] = [json.dumps(folders)]
    auto_cli({"run": run_suite, "report": report}, args=words, prog="ferl bench", description=__doc__)

"""The one exception that ends a command with a message instead of a traceback."""

import re

UNSEEN = re.compile("[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, line ends, what turns the direction of writing, and halves of characters."""
NONE_YET = (
    "has no checkpoint yet: its training has just begun, or ended before its first epoch. If it has ended, give its "
    "first command again"
)
"""What is said of the run folder of such a run."""


def printable(text: str, keep: str = "") -> str:
    """Write what would move the cursor of a terminal, or is not seen there, as Python writes it.

    >>> printable("a\x1b[2Jb"), printable("a\\nb", keep="\\n")
    ('a\\\\x1b[2Jb', 'a\\nb')
    """
    return UNSEEN.sub(lambda found: found[0] if found[0] in keep else repr(found[0])[1:-1], text)


class FerlError(Exception):
    """The user's input is wrong: the message names the file, row or key, what was expected, and what to do."""

"""The one exception that ends a command with a message instead of a traceback."""


class FerlError(Exception):
    """The user's input is wrong: the message names the file, row or key, what was expected, and what to do."""

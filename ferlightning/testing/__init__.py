"""Contract checks for parts: the author of a plug-in runs them in a test, and ours run them over every part we ship."""

from ferlightning.testing.checks import *  # noqa: F403

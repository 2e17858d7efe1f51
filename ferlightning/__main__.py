"""``python -m ferlightning``, the same as ``ferl``."""

from ferlightning.cli import main

main()

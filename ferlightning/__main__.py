"""``python -m ferlightning``, the same as ``ferl``."""

from ferlightning.cli.main import main

main()

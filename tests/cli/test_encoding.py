"""The command reads and writes UTF-8 whatever the system's encoding is."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys
from ferlightning.cli.main import main
sys.argv[1:] = ["--version"]
main()
print(open(sys.executable).encoding)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the locale of a process is set otherwise")
def test_the_command_opens_files_as_utf8_in_a_locale_of_ascii() -> None:
    ascii_locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    plain = [sys.executable, "-c", "import sys; print(open(sys.executable).encoding)"]
    for command, utf8 in ((plain, False), ([sys.executable, "-c", PROGRAM], True)):
        shown = subprocess.run(
            command, env=os.environ | ascii_locale, capture_output=True, text=True, check=True
        ).stdout
        assert (shown.split()[-1].lower() == "utf-8") is utf8

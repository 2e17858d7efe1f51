"""The command reads and writes UTF-8 whatever the system's encoding is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ferlightning.cli.main import main

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


def test_python_reads_configurations_as_utf8_in_a_locale_of_ascii(tmp_path: Path) -> None:
    (tmp_path / "set.yaml").write_text("trainer: {fast_dev_run: true} # \u00e9\n", encoding="utf-8")
    program = (
        "import ferlightning as ferl; from functools import partial; from ferlightning.data import SyntheticFaces; "
        "ferl.fit('set.yaml', partial(SyntheticFaces, items_per_class=10, subjects=5), accelerator='cpu')"
    )
    ascii_locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    path = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | ascii_locale | {"PYTHONPATH": path}, cwd=tmp_path, stderr=-1
    )
    assert done.returncode == 0, done.stderr.decode()


def test_a_path_that_is_not_utf8_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["fit", "--data=ImageFolder", "--data.root=r\udceave"])
    assert "r\\udceave is not UTF-8" in capsys.readouterr().err

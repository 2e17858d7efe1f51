"""What a training step frees is there for the next one."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch
from ferlightning.cli.memory import keep_freed_memory
keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    before = faults()
    blocks = [torch.zeros(2**20 * n) for n in (1, 4, 2, 6, 1)]  # 56 MiB, 14,336 pages
    del blocks
print(faults() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_a_step_does_not_ask_the_system_for_pages_that_the_last_one_freed() -> None:
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    # Without the call it is all of them. Where the heap cannot grow in one piece, the largest block is asked for anew.
    assert int(result.stdout) < 8000

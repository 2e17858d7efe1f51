"""How a training on a CPU keeps the memory that its steps free."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Let glibc keep what a step frees for the next one; other C libraries are left alone.

    By default it may give large blocks back to the system, depending on their sizes. The next step then waits for
    thousands of pages to be cleared: a sixth of a step of P5. The peak stays the same.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        _ = mallopt(M_MMAP_THRESHOLD, 1 << 30) or mallopt(M_MMAP_THRESHOLD, 1 << 25)  # the most for older ones
        mallopt(M_TRIM_THRESHOLD, 1 << 30)

"""Memory of a process: what it frees stays with it for the next batch. Loads no torch."""

from __future__ import annotations

import ctypes
import os
import platform
from functools import cache

# Of mallopt(3), as malloc.h numbers them.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


@cache
def keep_freed_memory() -> None:
    """Have the C library keep what is freed, in this process from now on, unless the environment sets it up otherwise.

    GNU's takes each large block from the system and gives it back when it is freed, so that every batch begins with
    thousands of page faults, an eighth of the time where networks are large (docs/measurements.md). Here large blocks
    come from the heap like small ones, and the heap is not cut back. A process then holds what it took at its peak, and
    a few blocks more. Other C libraries have ways of their own, and are left alone.
    """
    if platform.libc_ver()[0] != "glibc" or any(
        name.startswith("MALLOC_") or (name == "GLIBC_TUNABLES" and "malloc" in value)
        for name, value in os.environ.items()
    ):
        return
    library = ctypes.CDLL(None)
    library.mallopt(_M_MMAP_MAX, 0)
    library.mallopt(_M_TRIM_THRESHOLD, -1)

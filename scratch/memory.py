"""Memory: what a step frees the next step needs again, so it is kept instead of handed back to the system.

A training step allocates the same large arrays again and again. glibc returns a large block to the system as soon as
it is free, and the system clears every page of the next one at its first touch: in convolutional networks that costs
more than some of the arithmetic.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

# The parameters of mallopt in glibc's <malloc.h>.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


@cache
def keep_freed_memory() -> bool:
    """Let this process keep what it frees, for the arrays to come: its memory stays at the peak until the end.

    Once for all: blocks up to 32 MB, the most that glibc allows, come from a heap that does not shrink. Returns whether
    it could: elsewhere than on Linux with glibc nothing happens.
    """
    if sys.platform != "linux":
        return False
    try:
        import ctypes

        mallopt = ctypes.CDLL(None).mallopt
    except (ImportError, AttributeError, OSError):  # a Python without ctypes, another C library
        return False
    return mallopt(M_MMAP_THRESHOLD, 2**25) == 1 and mallopt(M_TRIM_THRESHOLD, 2**31 - 1) == 1


def require(size: int, what: str) -> None:
    """Raises MemoryError if `what` takes more bytes than this machine has."""
    total = total_memory()
    if total is not None and size > total:
        raise MemoryError(f"{what} take at least {size / 1e9:,.1f} GB, and this machine has {total / 1e9:,.1f} GB")


@cache
def total_memory() -> int | None:
    """The bytes of memory that this machine or container has; None where the system doesn't tell."""
    found = []
    with suppress(AttributeError, OSError, ValueError):  # no sysconf on Windows
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # no such file, or "max"
            found.append(int(Path(limit).read_text()))
    return min((size for size in found if size > 0), default=None)

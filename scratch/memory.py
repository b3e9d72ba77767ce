"""Memory: what a step frees the next step needs again, so it is kept instead of handed back to the system.

A training step allocates the same large arrays again and again. glibc returns a large block to the system as soon as
it is free, and the system clears every page of the next one at its first touch: in convolutional networks that costs
more than some of the arithmetic.
"""

from __future__ import annotations

import sys
from functools import cache

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

"""Blocks: a large operation done piece by piece, each piece small enough for the processor's cache, on all cores.

A training step is cut into shards, one thread each (parallel.py), and inside a shard an operation has that thread
only. Elsewhere, in evaluation or in a step of one shard, the blocks of one operation share the cores.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

import numpy as np

from scratch.memory import keep_freed_memory
from scratch.parallel import available_blas_threads, blas_threads, cores

Result = TypeVar("Result")

_own = threading.local()
_pool: ThreadPoolExecutor | None = None


def cut(rows: int, most: int) -> list[slice]:
    """The rows 0 … rows − 1 in blocks of nearly equal size, at most `most` rows (at least one) each."""
    count = -(-rows // max(1, most))
    if 1 < count < rows:
        count += count % 2  # two threads get as much as each other
    size = -(-rows // max(1, count))
    return [slice(start, min(start + size, rows)) for start in range(0, rows, max(1, size))]


def over(parts: Sequence[slice], function: Callable[[slice], Result]) -> list[Result]:
    """[function(part) for each part], on as many threads as matrix products may have here.

    That is one in a shard, and where OPENBLAS_NUM_THREADS says so. Each part costs a handing over between threads,
    some 50 µs: few large parts are best.
    """
    if len(parts) < 2 or available_blas_threads() < 2:
        return [function(part) for part in parts]
    keep_freed_memory()
    with blas_threads(1):
        try:
            jobs = [_threads().submit(copy_context().run, function, part) for part in parts[len(parts) // 2 :]]
        except RuntimeError:  # no threads here, as in a browser's Python
            return [function(part) for part in parts]
        first = [function(part) for part in parts[: len(parts) // 2]]
        return first + [job.result() for job in jobs]


def added(parts: Sequence[np.ndarray]) -> np.ndarray:
    """The sum of what `over` returned, in its order, in the first one's memory."""
    total = parts[0]
    for part in parts[1:]:
        total += part
    return total


def _threads() -> ThreadPoolExecutor:
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(max(1, cores() - 1), thread_name_prefix="blocks")
    return _pool


def workspace(name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array for a block's intermediate results, this thread's own, with whatever the last use of `name` left in it.

    Fresh memory costs more than the arithmetic of a block: the system clears each page at its first touch.
    """
    dtype, size = np.dtype(dtype), math.prod(shape)
    arrays: dict[tuple[str, np.dtype], np.ndarray] = _own.__dict__.setdefault("arrays", {})
    kept = arrays.get((name, dtype))
    if kept is None or kept.size < size:
        kept = arrays[name, dtype] = np.empty(size, dtype)
    return kept[:size].reshape(shape)

"""Blocks: a large operation done piece by piece, each piece small enough for the processor's cache, on all cores.

A training step is cut into shards, one thread each (parallel.py), and inside a shard an operation has that thread
only. Elsewhere, in evaluation or in a step of one shard, the blocks of one operation share the cores.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

import numpy as np

from scratch.memory import keep_freed_memory
from scratch.parallel import blas_threads, cores, divides_products, threads

Result = TypeVar("Result")

LARGE = 2**24
"""Multiplications m·k·n from which matrix products are worth waking a thread for.

Float32 on two cores without other programs, medians in µs: one BLAS thread, two, and two blocks on a thread each. Next
to programs that keep both cores busy, a product on two BLAS threads takes 8,000 µs and more, whatever its size.

| m × k × n | multiplications | 1 BLAS thread | 2 BLAS threads | 2 blocks |
|---|---|---|---|---|
| 128 × 64 × 64 | 0.5 million | 14 | 11 | 63 |
| 256 × 128 × 128 | 4.2 | 96 | 57 | 136 |
| 512 × 128 × 128 | 8.4 | 184 | 99 | 197 |
| 128 × 784 × 128 | 12.8 | 314 | 190 | 397 |
| 128 × 784 × 256 | 25.7 | 620 | 333 | 518 |
| 512 × 256 × 256 | 33.6 | 700 | 371 | 483 |
| 1,024 × 96 × 384 | 37.7 | 778 | 409 | 508 |
| 1,000 × 784 × 256 | 200.7 | 4,435 | 2,750 | 2,142 |
| 1,024 × 1,024 × 1,024 | 1,073.7 | 22,571 | 11,446 | 12,448 |
"""

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
    """[function(part) for each part], on as many threads as an operation may have here (`parallel.threads`).

    That is one in a shard, and where OPENBLAS_NUM_THREADS says so. Every thread takes the next part until none is left,
    and the calling thread waits for parts that were begun, but for no thread that has not begun: where other programs
    keep the cores busy, it does all parts itself. Waking a thread costs some 50 µs: few large parts are best.
    """
    helpers = min(threads(), len(parts)) - 1
    if helpers < 1:
        return [function(part) for part in parts]
    keep_freed_memory()
    results: list[Any] = [None] * len(parts)
    left = deque(range(len(parts)))

    def work() -> None:
        while left:
            try:
                i = left.popleft()
            except IndexError:  # another thread was faster
                return
            results[i] = function(parts[i])

    with blas_threads(1):
        jobs = _start(work, helpers)
        try:
            work()
        finally:
            left.clear()
            errors = [job.exception() for job in jobs if not job.cancel()]
    for error in filter(None, errors):
        raise error
    return results


def _start(work: Callable[[], None], count: int) -> list[Future]:
    """`work` on `count` other threads; on none where no thread starts, as in a browser's Python."""
    try:
        return [_helpers().submit(copy_context().run, work) for _ in range(count)]
    except RuntimeError:
        return []


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b of two matrices, on several threads if it is large: `products` of one."""
    return products((a, b))[0]


def products(*pairs: tuple[np.ndarray, np.ndarray]) -> list[np.ndarray]:
    """[a @ b for each pair of matrices]; where they are large together, each thread computes some of them, or blocks.

    Only where a product has one BLAS thread (`parallel.own_threads`). The rule depends on sizes and on the number of
    threads, which a run records, and never on time or load.
    """
    if not divides_products() or sum(a.size * b.shape[1] for a, b in pairs) < LARGE:
        return [a @ b for a, b in pairs]
    each = -(-threads() // len(pairs))
    results, jobs = [], []
    for a, b in pairs:
        m, n = len(a), b.shape[1]
        y = np.empty((m, n), np.result_type(a, b))
        results.append(y)
        if m >= n:
            jobs += [(a[rows], b, y[rows]) for rows in cut(m, -(-m // each))]
        else:
            jobs += [(a, b[:, columns], y[:, columns]) for columns in cut(n, -(-n // each))]
    over(cut(len(jobs), 1), lambda part: np.matmul(*jobs[part.start]))
    return results


def added(parts: Sequence[np.ndarray]) -> np.ndarray:
    """The sum of what `over` returned, in its order, in the first one's memory."""
    total = parts[0]
    for part in parts[1:]:
        total += part
    return total


def _helpers() -> ThreadPoolExecutor:
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

"""Peak memory and time of attention whole and in blocks: `python -m benchmarks.attention_memory`.

Forward and backward of causal self-attention, one sequence, 4 heads of 32, float32. Memory is what NumPy takes beyond
the inputs (tracemalloc's peak); time, taken without tracemalloc, the fastest of the runs.
"""

from __future__ import annotations

import platform
import time
import tracemalloc
from collections.abc import Callable

import numpy as np

from scratch.layers import blocked_attention, scaled_dot_product_attention
from scratch.tensor import Tensor
from scratch.training.progress import say

FORMS: dict[str, Callable[..., Tensor]] = {"whole": scaled_dot_product_attention, "blocks": blocked_attention}
LENGTHS = (256, 512, 1024, 2048)
RUNS = 5


def main() -> None:
    say(f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, NumPy {np.__version__}\n")
    say("| T | " + " | ".join(f"{name}, MB | {name}, ms" for name in FORMS) + " |")
    say("|---:|" + "---:|---:|" * len(FORMS))
    for T in LENGTHS:
        figures = [f"{megabytes(form, T):.1f} | {milliseconds(form, T):.0f}" for form in FORMS.values()]
        say(f"| {T:,} | {' | '.join(figures)} |")


def inputs(T: int) -> tuple[list[Tensor], np.ndarray]:
    rng = np.random.default_rng(0)
    q, k, v, dy = (rng.standard_normal((1, 4, T, 32)).astype(np.float32) for _ in range(4))
    return [Tensor(x, requires_grad=True) for x in (q, k, v)], dy


def megabytes(form: Callable[..., Tensor], T: int) -> float:
    tensors, dy = inputs(T)
    tracemalloc.start()
    form(*tensors, is_causal=True).backward(dy)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak / 1e6


def milliseconds(form: Callable[..., Tensor], T: int) -> float:
    tensors, dy = inputs(T)
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        form(*tensors, is_causal=True).backward(dy)
        times.append(time.perf_counter() - start)
    return 1000 * min(times)


if __name__ == "__main__":
    main()

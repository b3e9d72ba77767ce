"""Time the three tellings of convolution side by side: `python -m benchmarks.convolution_tellings`.

The tellings take turns, and each figure is the fastest of its runs. The loops are timed on the small shape only.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from types import ModuleType

import numpy as np

from scratch.layers.convolution import fast, im2col, plain
from scratch.layers.convolution.geometry import output_sizes
from scratch.training.progress import say

TELLINGS: dict[str, ModuleType] = {"loops": plain, "im2col": im2col, "fast": fast}
# N, C, H, W, out channels; 3 × 3 with padding 1, float32, channels last in memory
SMALL, REAL = (2, 8, 14, 14, 16), (64, 16, 28, 28, 32)
STRIDE, PADDING, DILATION = (1, 1), ((1, 1), (1, 1)), (1, 1)


def main() -> None:
    say(f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, NumPy {np.__version__}\n")
    say("| shape (3 × 3, padding 1) | | " + " | ".join(f"{name}, ms" for name in TELLINGS) + " |")
    say("|---|---|" + "---:|" * len(TELLINGS))
    for shape, tellings, rounds in ((SMALL, list(TELLINGS), 3), (REAL, ["im2col", "fast"], 15)):
        table(shape, tellings, rounds)


def table(shape: tuple[int, int, int, int, int], tellings: list[str], rounds: int) -> None:
    """Print one row for each of forward, input gradient and weight gradient, and their sum."""
    N, C, H, W, O = shape
    best: dict[str, dict[str, float]] = {}
    for _ in range(rounds):
        for name in tellings:
            for part, call in calls(TELLINGS[name], shape).items():
                least = best.setdefault(part, {})
                least[name] = min(least.get(name, np.inf), milliseconds(call, 1 if name == "loops" else 5))
    best["all three"] = {name: sum(times[name] for times in best.values()) for name in tellings}
    for part, times in best.items():
        figures = [shown(times[name]) if name in times else "" for name in TELLINGS]
        say(f"| {N} × {C} × {H} × {W} → {O} | {part} | {' | '.join(figures)} |")


def shown(ms: float) -> str:
    return f"{ms:,.0f}" if ms >= 100 else f"{ms:.3g}"


def calls(telling: ModuleType, shape: tuple[int, int, int, int, int]) -> dict[str, Callable[[], object]]:
    """The three functions of a telling, ready to be called."""
    N, C, H, W, O = shape
    rng = np.random.default_rng(0)
    sizes = output_sizes((H, W), (3, 3), STRIDE, PADDING, DILATION)
    x = rng.standard_normal((N, H, W, C)).astype(np.float32).transpose(0, 3, 1, 2)
    dy = rng.standard_normal((N, *sizes, O)).astype(np.float32).transpose(0, 3, 1, 2)
    weight = rng.standard_normal((O, C, 3, 3)).astype(np.float32)
    arguments = (STRIDE, PADDING, DILATION, 1)
    return {
        "forward": lambda: telling.convolve(x, weight, *arguments),
        "∂L/∂x": lambda: telling.input_gradient(dy, weight, x.shape, *arguments),
        "∂L/∂W": lambda: telling.weight_gradient(x, dy, (3, 3), *arguments),
    }


def milliseconds(call: Callable[[], object], repeats: int) -> float:
    """The fastest of so many calls."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1000 * min(times)


if __name__ == "__main__":
    main()

"""One contender in a process of its own: prepares the step, warms up, times it, prints JSON.

`python -m benchmarks.worker STEP CONTENDER SECONDS`
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import time
from importlib import import_module

from scratch.training.folder import peak_memory


def main(subject: str, contender: str, seconds: float) -> None:
    step = import_module(f"benchmarks.steps.{subject}").CONTENDERS[contender]()
    step()
    imported = peak_memory() or 0.0
    end = time.perf_counter() + seconds / 4
    while time.perf_counter() < end:
        step()
    times: list[float] = []
    gc.disable()  # a collection would fall into one step or another by chance
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        began = time.perf_counter()
        loss = step()
        times.append(time.perf_counter() - began)
    print(json.dumps({
        "median_ms": 1e3 * statistics.median(times),
        "steps": len(times),
        "loss": loss,
        "peak_mb": peak_memory(),
        "first_step_mb": imported,
    }))  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))

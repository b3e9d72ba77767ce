"""Is a run as fast as expected? Steps are timed without evaluation and checkpoints; a slow run is told why, once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from scratch.parallel import cores
from scratch.training.report import differing

SLOW = 0.5  # times the expected steps per second
ENOUGH = 5.0  # seconds in steps, before their rate says something
UNDISTURBED = 0.7  # share of its time that a training thread computes, where no other program wants its core
VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


class Pace:
    """The rate of a run's steps, in steps per second, next to the expected one.

        pace.begin()
        ...                     # a step
        pace.end(counts)        # counts: whether it was nothing but a step

    Args: expected: steps per second, None if unknown, on `machine`. clock: seconds. computing: seconds in which this
        thread computed.
    """

    def __init__(
        self,
        expected: float | None,
        machine: str = "",
        clock: Callable[[], float] = time.monotonic,
        computing: Callable[[], float] = time.thread_time,
    ):
        self.expected, self.machine = expected, machine
        self.steps, self.seconds, self.computed = -1, 0.0, 0.0  # the first step also wakes threads and gets memory
        self._clock, self._computing = clock, computing
        self._told = expected is None

    def begin(self) -> None:
        self._began, self._had = self._clock(), self._computing()

    def end(self, counts: bool = True) -> None:
        if not counts:
            return
        self.steps += 1
        if self.steps > 0:
            self.seconds += self._clock() - self._began
            self.computed += self._computing() - self._had

    @property
    def rate(self) -> float:
        return max(self.steps, 0) / self.seconds if self.seconds else 0.0

    def slow(self) -> bool:
        """True once: as soon as it is certain that the rate is below half of the expected one."""
        if self._told or self.seconds < ENOUGH or self.expected is None or self.rate >= SLOW * self.expected:
            return False
        self._told = True
        return True

    def why(self, threads: int, again: str) -> str:
        """The line for a slow run of so many threads; `again` is the command that goes on with it."""
        rates = f"{per_second(self.rate)} steps/s, expected {per_second(self.expected or 0.0)} on {self.machine}"
        line = f"slow     {rates}: "
        share, limits = self.computed / self.seconds, [name for name in VARIABLES if name in os.environ]
        if share < UNDISTURBED:
            return line + (
                f"this thread had a core for {100 * share:.0f} % of the time, so other programs use the cores; "
                f"close them, or stop with Ctrl-C and go on later: {again}"
            )
        if threads < cores():
            cause = f"{', '.join(limits)} may have limited it" if limits else "it keeps what it began with"
            return line + (
                f"the run has {threads} of {cores()} cores; {cause}; a new run without such limits has all of them"
            )
        return line + "the processor itself is slow: it saves power (battery) or is hot, or it is another one"


def per_second(rate: float) -> str:
    return f"{rate:,.{0 if rate >= 20 else 1}f}"


def expected_rate(settings: Mapping[str, Any], expected: Mapping[str, Any], total: int) -> tuple[float | None, str]:
    """(steps per second, machine) of the runs that expected.json is made from; None where they had other settings.

    From the minutes of the whole run, pictures included, so the loop itself is somewhat faster; None too for runs in
    two stages, whose steps differ.
    """
    if not expected.get("minutes") or settings.get("steps") != total:
        return None, ""
    if set(differing(settings, expected)) - {"steps", "evaluate_every"}:  # which make no step another one
        return None, ""
    return expected["settings"]["steps"] / (60 * expected["minutes"]), expected["machine"]

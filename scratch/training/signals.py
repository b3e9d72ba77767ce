"""Signals that end a run after its current step, with a checkpoint.

    SIGINT    Ctrl-C
    SIGTERM   `kill`, `docker stop`, a cluster's scheduler before it takes the machine away
    SIGHUP    the terminal was closed; left alone where it is ignored, as under nohup
    SIGBREAK  Windows: Ctrl-Break, or the console window was closed

A second SIGINT raises KeyboardInterrupt at once; a second SIGTERM or SIGBREAK ends the process at once.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
HANGUP = getattr(signal, "SIGHUP", None)
# GNU timeout sends SIGTERM to the process and then to its group: within this time two are one.
TWICE_SECONDS = 0.2


class Stop:
    """`number` is that of the first signal that came, 0 before."""

    def __init__(self) -> None:
        self.number = 0
        self._urgent = False  # whether a signal other than SIGHUP came, which may come twice for one closed terminal
        self._time = 0.0

    def handle(self, number: int, frame: Any) -> None:
        self.number = self.number or number
        if number == HANGUP:
            return
        if not self._urgent:
            self._urgent, self._time = True, time.monotonic()
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        elif time.monotonic() - self._time > TWICE_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
            os._exit(128 + number)  # the first process of a container has no default action


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Inside the block, signals are noted in the value it gives. In a thread of a program they stay as they are."""
    stop = Stop()
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (getattr(signal, name) for name in NAMES if hasattr(signal, name)):
            handler = signal.getsignal(number)
            ignored = handler is signal.SIG_IGN and number != signal.SIGINT
            if handler is not None and not ignored:  # None: another language's handler, which could not be put back
                before[number] = signal.signal(number, stop.handle)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

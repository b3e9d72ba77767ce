"""What a run says while it trains: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from scratch.console import fitting, is_terminal, note, say, silence, typed

__all__ = ["Progress", "duration", "say", "typed"]


def duration(seconds: float) -> str:
    """12 s, 3 min 20 s, 2 h 05 min"""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class Progress:
    """Steps done, the loss, the rate and the time left; five times a second on a terminal, else every tenth or 10 s."""

    def __init__(self, total: int, start: int = 0):
        self.total, self.start = total, start
        self.began = self.shown = time.monotonic()
        self.shown_step = start
        self.bar: Any = None
        if is_terminal(sys.stdout) and os.environ.get("TERM") != "dumb":
            self._make_bar()

    def _make_bar(self) -> None:
        try:
            from rich.progress import BarColumn, Progress, TextColumn
            from rich.table import Column
        except ImportError:
            return
        # On a narrow terminal the description gives way, not the count.
        width = Column(min_width=2 * len(f"{self.total:,}") + 1)
        count = TextColumn("{task.completed:,}/{task.total:,}", table_column=width)
        columns = (count, BarColumn(), TextColumn("{task.description}"))
        self.bar = Progress(*columns, auto_refresh=False, transient=True)
        self.bar.start()
        self.task = self.bar.add_task("", total=self.total, completed=self.start)

    def update(self, done: int, loss: float) -> None:
        now = time.monotonic()
        if self.bar is not None:
            if now - self.shown > 0.2 or done == self.total:
                self.shown = now
                self._draw(lambda bar: bar.update(self.task, completed=done, refresh=True,
                                                  description=self.describe(done, loss, now)))  # fmt: skip
        elif now - self.shown > 10 or 10 * (done - self.shown_step) >= self.total or done == self.total:
            self.shown, self.shown_step = now, done
            note(f"step {done:,}/{self.total:,}  {self.describe(done, loss, now)}")

    def describe(self, done: int, loss: float, now: float) -> str:
        rate = (done - self.start) / max(now - self.began, 1e-9)
        left = (self.total - done) / rate if rate else 0.0
        return f"loss {loss:.4f}  {rate:,.{0 if rate >= 20 else 1}f} steps/s  {duration(left)} left"

    def line(self, text: str) -> None:
        """A line that stays, above the bar."""
        if self.bar is not None:
            plain = fitting(text, sys.stdout)
            self._draw(lambda bar: bar.console.print(plain, highlight=False, markup=False))
        else:
            note(text)

    def close(self) -> None:
        if self.bar is not None:
            self._draw(lambda bar: bar.stop())
            self.bar = None

    def _draw(self, action: Callable[[Any], None]) -> None:
        """Where the terminal has gone, the run goes on without a bar."""
        bar = self.bar
        try:
            action(bar)
        except OSError:
            self.bar = None
            with suppress(OSError):
                bar.stop()  # rich puts back the streams that it replaced
            silence("stdout")

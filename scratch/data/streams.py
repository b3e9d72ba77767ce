"""Text in parallel streams: what a network reads that carries its state from one piece to the next."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from scratch.data.order import load_place
from scratch.data.text import _checked_tokens


class TextStreams:
    """Endless iterator over a text cut into `batch_size` streams, `length` tokens of each at a time.

        row b, piece k:   x = t[s_b + kT : s_b + (k+1)T],   y = the same one further,   s_b = b · (N − 1) // batch_size

    Row b of a batch goes on where row b of the batch before ended, so that a state can be carried from one to the
    next, up to the streams' end: there they begin anew, and the state must too. Batch number `step` is piece
    step mod pieces; nothing is drawn at random. Shapes: tokens (N,) → x, y (batch_size, length).
    Attributes: pieces: how many batches a pass over the text has; what is left behind the last one is not read.
    Raises ValueError for a text too short for one piece.
    """

    def __init__(self, tokens: np.ndarray, length: int, batch_size: int):
        self.tokens = _checked_tokens(tokens, length, batch_size, "TextStreams")
        self.length, self.batch_size = int(length), int(batch_size)
        each = (len(self.tokens) - 1) // self.batch_size
        self.pieces = each // self.length
        if self.pieces == 0:
            need = self.batch_size * self.length + 1
            raise ValueError(f"TextStreams: {batch_size} streams of {length} need {need} tokens, got {len(tokens)}")
        self.starts = np.arange(self.batch_size) * each
        self.step = 0

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """The batch of this number, wherever the iterator stands."""
        at = self.starts[:, None] + step % self.pieces * self.length + np.arange(self.length)
        return self.tokens[at], self.tokens[at + 1]

    def begins(self, step: int) -> bool:
        """Whether the streams begin anew with this batch."""
        return step % self.pieces == 0

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return self

    def __next__(self) -> tuple[np.ndarray, np.ndarray]:
        self.step += 1
        return self.batch(self.step - 1)

    def _settings(self) -> dict[str, int | bool]:
        return {"tokens": len(self.tokens), "length": self.length, "batch_size": self.batch_size}

    def state_dict(self) -> dict[str, int | bool]:
        """The place in the text and what it depends on, fit for JSON."""
        return {**self._settings(), "step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue with the batch after the one given last. ValueError for a state of another text or other pieces."""
        (self.step,) = load_place(state, self._settings(), ("step",), "TextStreams")

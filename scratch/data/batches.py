"""Minibatches without end, in an order that depends on the seed and the epoch only, and that can be taken up again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from scratch.data.order import BATCHES, checked_seed, is_whole, load_place, shuffled


class Batches:
    """Endless iterator over tuples of rows: `x, y = next(Batches(inputs, targets, batch_size=32, seed=0))`.

    Every epoch is a new permutation of all rows, a pure function of (seed, epoch). The last batch of an epoch is
    smaller where `batch_size` does not divide the length, or left out with `drop_last`. `shuffle=False` keeps the
    order of the arrays. The rows are copies: writing into a batch changes nothing else.

    Attributes: epoch: how many epochs are complete. position: how many batches of the present one were given.
    Raises ValueError for arrays of unequal lengths or without rows, and for a batch size that gives no batch.
    """

    def __init__(
        self, *arrays: np.ndarray, batch_size: int, seed: int = 0, drop_last: bool = False, shuffle: bool = True
    ):
        self.arrays = tuple(np.asarray(array) for array in arrays)
        self.length = _common_length(self.arrays, "Batches")
        self.batch_size = _checked_size(batch_size, "Batches")
        self.seed = checked_seed(seed)
        self.drop_last = bool(drop_last)
        self.shuffle = bool(shuffle)
        self.epoch = 0
        self.position = 0
        if len(self) == 0:
            raise ValueError(f"Batches: {self.length} rows fill no batch of {batch_size}, and drop_last drops the rest")
        self._order = self._order_of(0)

    def __len__(self) -> int:
        """Batches in an epoch."""
        rest = 0 if self.drop_last else self.batch_size - 1
        return (self.length + rest) // self.batch_size

    def __iter__(self) -> Iterator[tuple[np.ndarray, ...]]:
        return self

    def __next__(self) -> tuple[np.ndarray, ...]:
        start = self.position * self.batch_size
        rows = self._order[start : start + self.batch_size]
        batch = tuple(array[rows] for array in self.arrays)
        self.position += 1
        if self.position == len(self):
            self.epoch, self.position = self.epoch + 1, 0
            self._order = self._order_of(self.epoch)
        return batch

    def _order_of(self, epoch: int) -> np.ndarray:
        return shuffled(self.length, self.seed, epoch, BATCHES) if self.shuffle else np.arange(self.length)

    def _settings(self) -> dict[str, int | bool]:
        names = ("length", "batch_size", "seed", "drop_last", "shuffle")
        return {name: getattr(self, name) for name in names}

    def state_dict(self) -> dict[str, int | bool]:
        """The place in the data and what it depends on, fit for JSON."""
        return {**self._settings(), "epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue with the batch after the one given last when `state` was saved.

        Raises ValueError, before anything is changed, for a state of other data, another batch size or another seed.
        """
        epoch, position = load_place(state, self._settings(), ("epoch", "position"), "Batches")
        if position >= len(self):
            raise ValueError(f"Batches.load_state_dict: an epoch has {len(self)} batches, got position {position}")
        self.epoch, self.position = epoch, position
        self._order = self._order_of(epoch)


def in_order(arrays: Sequence[np.ndarray], batch_size: int) -> Iterator[tuple[np.ndarray, ...]]:
    """All rows once, first to last, in tuples of at most `batch_size` rows; for evaluation.

    The batches are views, not copies. Raises ValueError at the call, as `Batches` does.
    """
    if isinstance(arrays, np.ndarray):
        raise ValueError("in_order expected a sequence of arrays, got one array: write in_order((x,), batch_size)")
    arrays = tuple(np.asarray(array) for array in arrays)
    length = _common_length(arrays, "in_order")
    size = _checked_size(batch_size, "in_order")
    return (tuple(array[i : i + size] for array in arrays) for i in range(0, length, size))


def _common_length(arrays: tuple[np.ndarray, ...], owner: str) -> int:
    if not arrays or any(array.ndim == 0 for array in arrays):
        raise ValueError(f"{owner} expected at least one array with rows, got shapes {[a.shape for a in arrays]}")
    lengths = {len(array) for array in arrays}
    if len(lengths) > 1:
        raise ValueError(f"{owner} expected arrays of one length, got {[len(array) for array in arrays]}")
    (length,) = lengths
    if length == 0:
        raise ValueError(f"{owner} expected at least one row, got arrays of length 0")
    return length


def _checked_size(batch_size: int, owner: str) -> int:
    if not is_whole(batch_size) or batch_size < 1:
        raise ValueError(f"{owner}: batch_size must be a whole number from 1, got {batch_size!r}")
    return int(batch_size)

"""Which position each place of a sequence has."""

from __future__ import annotations

from typing import Any

import numpy as np

from scratch.value import raw


def numbered(
    who: str, positions: Any, offset: int, batch: int | None, T: int, longest: int | None = None
) -> np.ndarray:
    """offset + positions, whole numbers (T,) or (B, T); without positions offset … offset + T − 1.

    Raises ValueError for another shape, for a position below 0, and for one that is not below `longest`.
    """
    given = np.arange(T) if positions is None else np.asarray(raw(positions))
    shapes = [(T,)] if batch is None else [(T,), (batch, T)]
    if given.shape not in shapes or given.dtype.kind not in "iu":
        expected = " or ".join(map(str, shapes))
        raise ValueError(f"{who} expected positions as whole numbers {expected}, got {given.dtype} {given.shape}")
    given = given.astype(np.intp) + int(offset)
    if given.size and given.min() < 0:
        raise ValueError(f"{who} expected positions from 0 up, got {given.min()}")
    if longest is not None and given.size and given.max() >= longest:
        raise ValueError(f"{who} knows the positions 0 to {longest - 1}, got position {given.max()}")
    return given

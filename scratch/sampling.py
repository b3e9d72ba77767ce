"""From scores to tokens: what all samplers and searches share.

    draw           one token a row by its probability
    check_scores   no token can be chosen from scores that are NaN, +∞, or −∞ for every token
    check_finite   the same for images and points

A network with a damaged or overflowed weight gives such scores, and argmax of NaN is 0: without a check it writes token
0 to the end, and nothing says why.
"""

from __future__ import annotations

import numpy as np

from scratch.tensor import Array


def check_scores(logits: Array, step: int | None = None, rows: Array | None = None, width: int = 1) -> None:
    """Raises ValueError, naming step and row, unless the largest score of every row is finite.

    A score of −∞ forbids a token, and a row may have some of them, but not all. Shapes: logits (B, V); rows (B,) bool:
    which rows count, all if not given. width: how many rows (hypotheses of a beam) belong to one that is named.
    """
    best = logits.max(axis=1)  # NaN if any of the row is
    wrong = ~np.isfinite(best)
    if rows is not None:
        wrong &= rows
    if wrong.any():
        row = int(wrong.argmax())
        if best[row] == -np.inf:
            fault = "are -inf for every token, so none can be chosen"
        else:
            token = int((np.isnan(logits[row]) | (logits[row] == np.inf)).argmax())
            fault = f"are not all numbers: token {token} has {logits[row, token]}"
        at = "" if step is None else f"step {step}: "
        raise ValueError(f"{at}the scores of row {row // width} {fault}; a weight of the model may be NaN or too large")


def check_finite(values: Array, what: str) -> None:
    """Raises ValueError, naming what and the row, if a value (B, ...) is NaN or infinite."""
    if not np.isfinite(values).all():
        row = int((~np.isfinite(values)).reshape(len(values), -1).any(axis=1).argmax())
        raise ValueError(f"{what} has NaN or infinite values in row {row}; a weight of the model may be NaN or too "
                         "large")  # fmt: skip


def draw(p: Array, rng: np.random.Generator) -> Array:
    """One token a row by its probability: where the running sum passes a number from U(0, 1).  (B, V) → (B,)

    Raises ValueError for a row whose sum is not a positive number.
    """
    total = np.cumsum(p, axis=1)
    last = total[:, -1:]  # it may miss 1 by a rounding
    if not ((last > 0) & (last < np.inf)).all():
        row = int((~((last > 0) & (last < np.inf))).argmax())
        raise ValueError(f"draw expected probabilities with a positive sum, row {row} has the sum {last[row, 0]}")
    return (total <= rng.random((len(p), 1)) * last).sum(axis=1)

"""Who may look at whom: masks in one form, a bias that is added to the scores.

    bool     True: this key takes part, 0 is added        False: it does not, −∞ is added and its weight is e^−∞ = 0
    float    added as it is
    causal   query t sees the keys 0 … t + offset

That is the meaning of `scaled_dot_product_attention`. Modules turn a bool mask round, as PyTorch's do: there True means
*not* attended.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from scratch.tensor import Array, Tensor, as_tensor


def causal_mask(T: int, S: int | None = None, offset: int = 0) -> Array:
    """Booleans (T, S), True where key s ≤ t + offset: no position sees a later one.

    `offset` is the position of the first query, as in decoding with a cache of `offset` earlier keys (S = offset + T).
    """
    return np.tri(T, T if S is None else S, offset, dtype=bool)


def additive(mask: Array, dtype: Any) -> Array:
    """A bool mask as 0 and −∞; a float mask in `dtype`."""
    if mask.dtype != bool:
        return mask.astype(dtype, copy=False)
    return np.where(mask, np.zeros((), dtype), np.full((), -math.inf, dtype))


@functools.lru_cache(maxsize=8)
def causal_bias(T: int, S: int, dtype: Any) -> Array:
    """The causal mask as 0 and −∞, kept for the next call, and so not to be written into."""
    bias = additive(causal_mask(T, S), dtype)
    bias.flags.writeable = False
    return bias


def bias_of(
    who: str, attn_mask: Any, is_causal: bool, shape: tuple[int, ...], dtype: Any
) -> tuple[Tensor | None, Array | None]:
    """A float mask as the Tensor it is (None otherwise), and what is added to the scores of `shape` (..., T, S).

    Raises ValueError for a mask beside is_causal, of another shape, and of whole numbers.
    """
    if attn_mask is None:
        return None, causal_bias(*shape[-2:], np.dtype(dtype)) if is_causal else None
    if is_causal:
        raise ValueError(f"{who}: is_causal is a mask of its own; give it or attn_mask, not both")
    mask = as_tensor(attn_mask)
    if mask.dtype.kind not in "bf":
        raise ValueError(f"{who} expected attn_mask of bool or floating-point numbers, got dtype {mask.dtype}")
    check_mask(who, "attn_mask", mask.shape, shape)
    return mask if mask.dtype.kind == "f" else None, additive(mask.data, dtype)


def check_mask(who: str, name: str, came: tuple[int, ...], shape: tuple[int, ...]) -> None:
    """Raises ValueError for a shape that does not broadcast to `shape`."""
    sizes = zip(came[::-1], shape[::-1], strict=False)
    if len(came) > len(shape) or any(size not in (1, expected) for size, expected in sizes):
        raise ValueError(f"{who} expected {name} to broadcast to the scores' shape {shape}, got {came}")

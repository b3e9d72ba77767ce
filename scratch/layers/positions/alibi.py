"""ALiBi: attention with linear biases; what is far away is heard less, in every head at another rate."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def alibi_slopes(num_heads: int, dtype: Any = np.float32) -> np.ndarray:
    """m_h = 2^(−8 h / n) for h = 1 … n, n heads a power of two  (Press, Smith and Lewis 2022, §3)

    Otherwise, as in the authors' code: the slopes of the next lower power n, then every second one, from the first, of
    those of 2n. → (num_heads,). Raises ValueError for num_heads below 1.
    """
    if num_heads < 1:
        raise ValueError(f"alibi_slopes expected at least one head, got {num_heads}")
    n = 1 << (num_heads.bit_length() - 1)

    def powers(count: int) -> list[float]:
        return [math.pow(2, -8 * h / count) for h in range(1, count + 1)]

    return np.array(powers(n) + powers(2 * n)[0::2][: num_heads - n], dtype)


def alibi_bias(
    num_heads: int, T: int, S: int | None = None, offset: int = 0, is_causal: bool = True, dtype: Any = np.float32
) -> np.ndarray:
    """bias[h, t, s] = −m_h |t + offset − s|, and −∞ where is_causal and s > t + offset

    The attn_mask (nh, T, S) of an attention whose first query stands at `offset`; it replaces is_causal there.
    """
    distance = np.arange(T)[:, None] + offset - np.arange(T if S is None else S)
    bias = -alibi_slopes(num_heads, np.float64)[:, None, None] * np.abs(distance)
    if is_causal:
        bias[:, distance < 0] = -math.inf
    return bias.astype(dtype)

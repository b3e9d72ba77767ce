"""A number for each channel: added to images, and summed out of them, in whichever order the memory has.

NumPy is slow where the innermost axis is short, and with the channels last in memory that axis has C numbers. So the
bias is repeated along a row of the image, and sums are products with a row of ones.
"""

from __future__ import annotations

import numpy as np

from scratch.sums import column_sums


def add_to_channels(y: np.ndarray, b: np.ndarray) -> None:
    """y += b in place, for y (N, C, H, W) and b (C,)."""
    N, C, H, W = y.shape
    last = y.transpose(0, 2, 3, 1)
    if last.flags.c_contiguous:
        rows = last.reshape(N * H, W * C)  # the same memory
        rows += np.tile(b, W)
    else:
        y += b[:, None, None]


def sum_of_channels(dy: np.ndarray) -> np.ndarray:
    """Σ over N, H and W of dy (N, C, H, W) → (C,), each image first: one long float32 sum would lose digits."""
    N, C, H, W = dy.shape
    last = dy.transpose(0, 2, 3, 1)
    if last.flags.c_contiguous:
        return column_sums(np.ones(H * W, dy.dtype) @ last.reshape(N, H * W, C))
    return column_sums(dy.sum(axis=(2, 3)))

"""Augmentation: changes of an example that leave its class what it was, drawn anew every time."""

from __future__ import annotations

import numpy as np


def random_shift(images: np.ndarray, pixels: int, rng: np.random.Generator) -> np.ndarray:
    """Each image moved by its own whole number of pixels, up to `pixels` in each direction; what enters is 0.

        y[b, i, j] = x[b, i + u_b, j + v_b],   u_b, v_b from {−pixels, …, pixels}

    Shapes: (B, H, W) → (B, H, W). Raises ValueError for other ranks and for a negative number of pixels.
    """
    if images.ndim != 3 or pixels < 0:
        raise ValueError(f"random_shift expected (B, H, W) and pixels of at least 0, got {images.shape} and {pixels}")
    B, H, W = images.shape
    padded = np.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (H, W), axis=(1, 2))  # (B, 2p + 1, 2p + 1, H, W)
    u, v = rng.integers(0, 2 * pixels + 1, (2, B))
    return windows[np.arange(B), u, v]

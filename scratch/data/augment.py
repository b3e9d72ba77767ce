"""Augmentation: changes of an example that leave its class what it was, drawn anew every time.

Each is a pure function of its arguments and the generator: the same generator state moves masks as it moves images.
Images are (B, H, W) or (B, C, H, W); every image of the batch has its own luck.
"""

from __future__ import annotations

import numpy as np


def random_shift(images: np.ndarray, pixels: int, rng: np.random.Generator) -> np.ndarray:
    """Each image moved by its own whole number of pixels, up to `pixels` in each direction; what enters is 0.

        y[b, i, j] = x[b, i + u_b, j + v_b],   u_b, v_b from {−pixels, …, pixels}

    Shapes: (B, H, W) or (B, C, H, W) → the same. Raises ValueError for other ranks and a negative number of pixels.
    """
    if images.ndim not in (3, 4) or pixels < 0:
        expected = "expected (B, H, W) or (B, C, H, W) and pixels of at least 0"
        raise ValueError(f"random_shift {expected}, got {images.shape} and {pixels}")
    B, H, W = len(images), *images.shape[-2:]
    padded = np.pad(images, ((0, 0),) * (images.ndim - 2) + ((pixels, pixels),) * 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (H, W), axis=(-2, -1))  # (B, …, 2p + 1, 2p + 1, H, W)
    u, v = rng.integers(0, 2 * pixels + 1, (2, B))
    return windows[np.arange(B), ..., u, v, :, :]


def random_flip(images: np.ndarray, rng: np.random.Generator, p: float = 0.5) -> np.ndarray:
    """Each image mirrored left to right with probability p:  y[b, i, j] = x[b, i, W − 1 − j]

    Shapes: (B, H, W) or (B, C, H, W) → the same. Raises ValueError for other ranks and for p outside 0 … 1.
    """
    _check("random_flip", images)
    if not 0 <= p <= 1:
        raise ValueError(f"random_flip expected a probability from 0 to 1, got {p}")
    flipped = rng.random(len(images)) < p
    y = images.copy(order="K")
    y[flipped] = images[flipped][..., ::-1]
    return y


def cutout(images: np.ndarray, size: int, rng: np.random.Generator, value: float = 0.0) -> np.ndarray:
    """A square of size × size pixels in each image set to `value`  (DeVries and Taylor 2017)

    Its centre is any pixel, all alike, so that the square may stick out: as in the paper, which found that this helps.
    Shapes: (B, H, W) or (B, C, H, W) → the same. Raises ValueError for other ranks and for a negative size.
    """
    _check("cutout", images)
    if size < 0:
        raise ValueError(f"cutout expected a size of at least 0, got {size}")
    B, H, W = len(images), *images.shape[-2:]
    top, left = rng.integers(0, H, B) - size // 2, rng.integers(0, W, B) - size // 2
    i, j = np.arange(H) - top[:, None], np.arange(W) - left[:, None]  # (B, H) and (B, W), 0 at the square's edge
    cut = ((i >= 0) & (i < size))[:, :, None] & ((j >= 0) & (j < size))[:, None, :]
    y = images.copy(order="K")
    np.copyto(y, value, where=cut if images.ndim == 3 else cut[:, None], casting="unsafe")
    return y


def mixup(
    images: np.ndarray, targets: np.ndarray, classes: int, alpha: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Each example blended with another one of its batch, and its target as well  (Zhang et al. 2018)

        y_b = λ_b x_b + (1 − λ_b) x_π(b),   q_b = λ_b t_b + (1 − λ_b) t_π(b),   λ_b from Beta(α, α), π a permutation

    t are one-hot rows of the labels; q are probabilities, as `cross_entropy` takes them. α = 0 changes no example; the
    larger α, the nearer λ is to ½. (The paper's code draws one λ a batch, its equation, as here, one a pair.)
    Shapes: images (B, *) of floating-point numbers, targets (B,) labels or (B, classes) probabilities → as images,
    (B, classes). Raises ValueError for other targets, labels outside 0 … classes − 1 and a negative α.
    """
    if images.dtype.kind != "f":
        raise ValueError(f"mixup expected images of floating-point numbers, got dtype {images.dtype}")
    if not alpha >= 0:
        raise ValueError(f"mixup expected alpha of at least 0, got {alpha}")
    t = _probabilities(targets, len(images), classes).astype(images.dtype)
    other = rng.permutation(len(images))
    share = (rng.beta(alpha, alpha, len(images)) if alpha > 0 else np.ones(len(images))).astype(images.dtype)
    of_image, of_target = share.reshape(-1, *[1] * (images.ndim - 1)), share[:, None]
    y = images * of_image
    y += images[other] * (1 - of_image)
    return y, t * of_target + t[other] * (1 - of_target)


def _probabilities(targets: np.ndarray, B: int, classes: int) -> np.ndarray:
    if targets.shape == (B, classes) and targets.dtype.kind == "f":
        return targets
    if targets.shape != (B,) or targets.dtype.kind not in "iu":
        expected = f"labels of shape ({B},) or probabilities of shape ({B}, {classes})"
        raise ValueError(f"mixup expected {expected}, got {targets.dtype} of shape {targets.shape}")
    if B and not 0 <= targets.min() <= targets.max() < classes:
        raise ValueError(f"mixup expected labels from 0 to {classes - 1}, got {targets.min()} to {targets.max()}")
    return np.eye(classes)[targets]


def _check(who: str, images: np.ndarray) -> None:
    if images.ndim not in (3, 4):
        raise ValueError(f"{who} expected (B, H, W) or (B, C, H, W), got {images.shape}")

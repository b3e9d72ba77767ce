"""Photographs from files; matplotlib reads PNG by itself and the other formats through Pillow, which it brings."""

from __future__ import annotations

import os

import numpy as np

from scratch.tensor import Array


def read_photo(path: str | os.PathLike) -> Array:
    """An image file as uint8 (H, W, 3): grey repeated over the colours, transparency laid on white.

    A camera's note on how the picture was held (EXIF) is not read.
    Raises FileNotFoundError for a missing file and ValueError for one that holds no image.
    """
    from matplotlib.image import imread

    if not os.path.exists(path):
        raise FileNotFoundError(f"{os.fspath(path)}: expected a photograph (PNG, JPEG ...), but there is no such file")
    try:
        pixels = np.asarray(imread(os.fspath(path)))
    except Exception as error:  # a broken or giant image is a SyntaxError, a struct.error, a class of Pillow's ...
        raise ValueError(f"{os.fspath(path)}: expected a photograph (PNG, JPEG ...): {error}") from None
    if pixels.dtype.kind == "f":  # PNGs come as numbers from 0 to 1
        pixels = np.rint(pixels * 255).astype(np.uint8)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)
    if pixels.ndim != 3 or pixels.shape[2] not in (3, 4) or pixels.dtype != np.uint8:
        raise ValueError(f"{os.fspath(path)}: expected grey, RGB or RGBA pixels, got {pixels.shape} of {pixels.dtype}")
    if pixels.shape[2] == 4:
        opacity = pixels[:, :, 3:] / np.float32(255)
        pixels = np.rint(pixels[:, :, :3] * opacity + 255 * (1 - opacity)).astype(np.uint8)
    return np.ascontiguousarray(pixels)

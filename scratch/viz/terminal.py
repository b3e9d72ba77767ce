"""Images and weights as characters, the darker the larger: for terminals, and without matplotlib."""

from __future__ import annotations

import numpy as np

INK = " .:-=+*#%@"


def shades(values: np.ndarray) -> str:
    """A character for each number of 0 … 1.  Shapes: (N,)"""
    return "".join(INK[min(int(v * len(INK)), len(INK) - 1)] for v in values)


def in_lines(image: np.ndarray) -> list[str]:
    """A grey image, two rows of pixels a line, as characters are twice as high as wide.  Shapes: (H, W)"""
    height, width = image.shape
    return [shades(row) for row in image[: height // 2 * 2].reshape(-1, 2, width).mean(axis=1)]


def in_characters(image: np.ndarray) -> str:
    """The lines of an image as one text, nothing behind their last ink.  Shapes: (H, W)"""
    return "\n".join(line.rstrip() for line in in_lines(image))

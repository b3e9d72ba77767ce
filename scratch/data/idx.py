"""The format of MNIST's files: two zero bytes, the type, the number of axes, their lengths, and the numbers.

    00 00 08 nd | n₁ (4 bytes, big-endian) | … | n_nd | n₁ · … · n_nd bytes, the last axis fastest

08 stands for unsigned bytes, the only type in which images and labels come.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from scratch.data.cache import unpacked


def read_idx(path: str | Path, ndim: int) -> np.ndarray:
    """The array in an idx file, packed by gzip or not: uint8 with `ndim` axes. ValueError if it is anything else."""
    return parse_idx(unpacked(Path(path), limit=2**31), ndim, str(path))


def parse_idx(content: bytes | bytearray, ndim: int, name: str) -> np.ndarray:
    """The same from the unpacked bytes, without copying them; `name` is what errors call the file."""
    head = 4 + 4 * ndim
    if len(content) < head:
        raise ValueError(f"{name}: an idx file of {ndim} axes has at least {head} bytes, got {len(content)}")
    if content[:4] != bytes([0, 0, 8, ndim]):
        raise ValueError(f"{name}: an idx file of bytes with {ndim} axes begins with 00 00 08 {ndim:02x}, "
                         f"got {content[:4].hex(' ')}")  # fmt: skip
    shape = tuple(np.frombuffer(content, ">u4", count=ndim, offset=4).tolist())
    if len(content) != head + math.prod(shape):
        raise ValueError(f"{name}: axes of {' x '.join(map(str, shape))} take {math.prod(shape):,} bytes, "
                         f"got {len(content) - head:,}")  # fmt: skip
    return np.frombuffer(content, np.uint8, offset=head).reshape(shape)

"""GGUF's numbers: weights in blocks of 32 or 256 that share a scale, and the way back to float32.

    Q4_0   18 bytes   d  q₀…q₃₁                   x = d (q − 8)        4 bits a weight and 16 for the block
    Q4_1   20 bytes   d  m  q₀…q₃₁                x = d q + m
    Q5_0   22 bytes   d  h  q₀…q₃₁                x = d (q + 16 h − 16)     h: a fifth bit for each
    Q5_1   24 bytes   d  m  h  q₀…q₃₁             x = d (q + 16 h) + m
    Q8_0   34 bytes   d  q₀…q₃₁                   x = d q, q from −128 to 127
    Q6_K  210 bytes   ql  qh  s₀…s₁₅  d           x = d s (ql + 16 qh − 32), a scale s for every 16 of 256 weights

d and m are float16. Four-bit numbers lie in pairs: byte j holds q_j in its lower half, q_{j + 16} in its upper one.
All is computed in float32, as llama.cpp does. Shapes: bytes (blocks, size) → float32 (blocks, weights of a block).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from scratch.weights.safetensors_file import bfloat16_to_float32

Array = np.ndarray


def plain(dtype: str) -> Callable[[Array], Array]:
    return lambda raw: raw.view(dtype).astype(dtype.replace("<", "="), copy=False)


def halves(raw: Array) -> Array:
    """The float16 in the first two bytes of each block, as a column."""
    return np.ascontiguousarray(raw[:, :2]).view("<f2").astype(np.float32)


def nibbles(raw: Array) -> Array:
    """The lower halves of the bytes, then the upper ones.  Shapes: (n, 16) → (n, 32)"""
    return np.concatenate([raw & 15, raw >> 4], axis=1)


def fifth_bits(raw: Array) -> Array:
    """16 times bit j of the 32 in four bytes.  Shapes: (n, 4) → (n, 32)"""
    return np.unpackbits(raw, axis=1, bitorder="little") << np.uint8(4)


def q4_0(raw: Array) -> Array:
    q = nibbles(raw[:, 2:]).view(np.int8) - np.int8(8)
    return halves(raw) * q


def q4_1(raw: Array) -> Array:
    return halves(raw) * nibbles(raw[:, 4:]) + halves(raw[:, 2:])


def q5_0(raw: Array) -> Array:
    q = (nibbles(raw[:, 6:]) | fifth_bits(raw[:, 2:6])).view(np.int8) - np.int8(16)
    return halves(raw) * q


def q5_1(raw: Array) -> Array:
    return halves(raw) * (nibbles(raw[:, 8:]) | fifth_bits(raw[:, 4:8])) + halves(raw[:, 2:])


def q8_0(raw: Array) -> Array:
    return halves(raw) * np.ascontiguousarray(raw[:, 2:]).view(np.int8)


def q6_k(raw: Array) -> Array:
    """Twice 128 weights: 64 bytes of lower bits, 32 bytes of which each holds two upper bits for four weights."""
    low, high = raw[:, :128].reshape(-1, 2, 1, 64), raw[:, 128:192].reshape(-1, 2, 1, 32)
    four = np.array([0, 4], np.uint8).reshape(1, 1, 2, 1)
    two = np.array([0, 2, 4, 6], np.uint8).reshape(1, 1, 4, 1)
    low = (low >> four & 15).reshape(-1, 2, 4, 32)  # lower halves of 64 bytes, then the upper ones
    q = (low | (high >> two & 3) << np.uint8(4)).view(np.int8) - np.int8(32)
    scales = halves(raw[:, 208:]) * np.ascontiguousarray(raw[:, 192:208]).view(np.int8)  # (n, 16)
    return (scales[:, :, None] * q.reshape(-1, 16, 16)).reshape(-1, 256)


class Kind(NamedTuple):
    """How a tensor's numbers are stored."""

    name: str
    weights: int  # of a block
    size: int  # in bytes
    decode: Callable[[Array], Array]


# By the number that the file has for it; other kinds are refused by name (number).
KINDS = {
    0: Kind("F32", 1, 4, plain("<f4")), 1: Kind("F16", 1, 2, plain("<f2")),
    30: Kind("BF16", 1, 2, lambda raw: bfloat16_to_float32(raw.view("<u2"))), 28: Kind("F64", 1, 8, plain("<f8")),
    2: Kind("Q4_0", 32, 18, q4_0), 3: Kind("Q4_1", 32, 20, q4_1), 6: Kind("Q5_0", 32, 22, q5_0),
    7: Kind("Q5_1", 32, 24, q5_1), 8: Kind("Q8_0", 32, 34, q8_0), 14: Kind("Q6_K", 256, 210, q6_k),
}  # fmt: skip
BLOCKS_AT_ONCE = 8192  # so that the numbers in between stay in the second-level cache


def decode(kind: Kind, raw: Array) -> Array:
    """The numbers of a tensor out of its bytes, one axis: float32, but for what is stored as F16 or F64."""
    if kind.weights == 1:
        return kind.decode(raw)
    blocks = raw.reshape(-1, kind.size)
    numbers = np.empty((len(blocks), kind.weights), np.float32)
    with np.errstate(all="ignore"):  # a damaged scale may be infinite; the numbers are then so, too
        for start in range(0, len(blocks), BLOCKS_AT_ONCE):
            part = slice(start, start + BLOCKS_AT_ONCE)
            numbers[part] = kind.decode(blocks[part])
    return numbers.reshape(-1)

"""Splitting features into attention heads, and merging them again: both are views where memory allows."""

from __future__ import annotations

from scratch.tensor import Tensor


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """Each head gets hd = C / num_heads consecutive features.  Shapes: (B, T, C) → (B, num_heads, T, hd)

    Raises ValueError for other shapes, and for a C that num_heads does not divide.
    """
    if x.ndim != 3 or num_heads < 1 or x.shape[-1] % num_heads:
        raise ValueError(f"split_heads expected (B, T, C) with C a multiple of {num_heads} heads, got {x.shape}")
    B, T, C = x.shape
    return x.reshape(B, T, num_heads, C // num_heads).swapaxes(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """The inverse of `split_heads`: concatenate the heads' features.  Shapes: (B, num_heads, T, hd) → (B, T, C)"""
    B, nh, T, hd = x.shape
    return x.swapaxes(1, 2).reshape(B, T, nh * hd)

"""Attention between projections: heads are cut out of the features as views, and written back beside each other.

A projection gives (B, T, C), and head h owns the columns h · hd … (h + 1) · hd. Seen as (B, nh, T, hd) without a copy,
these are the matrices that `fused.py` multiplies; BLAS takes rows that lie far apart as long as each is contiguous. The
result is written through the same view of a (B, T, C) array, which the next projection reads as it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from scratch.activations.elementwise import floating
from scratch.half import in_float32_like_first
from scratch.layers.attention.fused import arguments, attend, attend_backward
from scratch.layers.attention.masks import bias_of
from scratch.layers.dropout import check_probability
from scratch.tensor import Array, Tensor, record


@in_float32_like_first
def packed_attention(
    *projected: Any,
    num_heads: int,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """`scaled_dot_product_attention` of queries, keys and values as projections leave them, heads merged in and out

    Shapes: `projected` is q (B, T, C), k (B, S, C), v (B, S, C); or q (B, T, C), kv (B, S, 2C), keys first, as for
    attention to another sequence; or qkv (B, T, 3C) → (B, T, C). attn_mask broadcasts to (B, nh, T, S).
    Raises ValueError for widths that are no multiple of the heads, and otherwise as the plain function.
    """
    who = "packed_attention"
    inputs = tuple(floating(who, x) for x in projected)
    _check(who, [x.shape for x in inputs], num_heads)
    q, k, v = _heads([x.data for x in inputs], num_heads)
    *_, scale = arguments(who, q, k, v, scale, False)
    mask, bias = bias_of(who, attn_mask, is_causal, (*q.shape[:-1], k.shape[-2]), q.dtype)
    check_probability(who, dropout_p)
    B, nh, T, hd = q.shape
    y = np.empty((B, T, nh * hd), q.dtype)
    by_head = _split(y, nh)
    saved = attend(q, k, v, bias, dropout_p, scale, by_head)

    def backward(dy):
        gradients = [np.empty(x.shape, x.dtype) if x.requires_grad else None for x in inputs]
        dS = attend_backward(_split(dy, nh), by_head, saved, k, v, scale, *_heads(gradients, nh))
        return (*gradients,) if mask is None else (*gradients, dS if mask.requires_grad else None)

    return record(y, inputs if mask is None else (*inputs, mask), backward)


PARTS = {1: (3,), 2: (1, 2), 3: (1, 1, 1)}  # how many of q, k and v each array holds, for so many arrays


def _heads(arrays: list[Any], num_heads: int) -> list[Any]:
    """Queries, keys and values (B, nh, T, hd) as views of one, two or three arrays; of None, None."""
    found: list[Any] = []
    for array, count in zip(arrays, PARTS[len(arrays)], strict=True):
        pieces = [None] * count if array is None else np.split(array, count, axis=-1)
        found += [None if piece is None else _split(piece, num_heads) for piece in pieces]
    return found


def _check(who: str, shapes: list[tuple[int, ...]], num_heads: int) -> None:
    if len(shapes) not in PARTS or any(len(shape) != 3 for shape in shapes):
        raise ValueError(f"{who} expected qkv (B, T, 3C), q and kv, or q, k and v, got shapes {shapes}")
    C = shapes[0][-1] // PARTS[len(shapes)][0]
    widths = [C * count for count in PARTS[len(shapes)]]
    if [shape[-1] for shape in shapes] != widths or num_heads < 1 or C < 1 or C % num_heads:
        raise ValueError(f"{who} expected last axes {widths} with C = {C} in {num_heads} heads, got shapes {shapes}")


def _split(x: Array, num_heads: int) -> Array:
    """(B, T, C) seen as (B, nh, T, hd)."""
    B, T, C = x.shape
    return x.reshape(B, T, num_heads, C // num_heads).swapaxes(1, 2)

"""Attention for long contexts: block by block, so that the T × S scores never exist at once.

Softmax seems to need a whole row of scores, but its sum can be kept current while blocks of keys come by (Milakov and
Gimelshein 2018; Rabe and Staats 2021). With m the highest score so far, n = Σ e^(S − m) and A = Σ e^(S − m) V so far,
a block with scores S and values V makes

    m′ = max(m, max S)        n′ = n e^(m − m′) + Σ e^(S − m′)        A′ = A e^(m − m′) + e^(S − m′) V

and at the end Y = A / n. Backward keeps of all weights one number a query, L = m + ln n, since P = e^(S − L), and
computes the scores of each block again (Dao et al. 2022, FlashAttention); the rest is as in fused.py:

    dV += Pᵀ dY        dS = P ∘ (dY Vᵀ − δ),  δ = dY · Y        dQ += scale · dS K        dK += dSᵀ (scale · Q)

That is one product more than fused.py has, for memory that grows with T + S instead of T · S. It is a function of its
own, not chosen by itself: benchmarks/attention_memory.py measures both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from scratch.half import in_float32_like_first
from scratch.layers.attention.fused import arguments
from scratch.layers.attention.masks import additive, bias_of, causal_mask
from scratch.tensor import Array, Tensor, record


@in_float32_like_first
def blocked_attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    block_size: int = 256,
) -> Tensor:
    """`scaled_dot_product_attention` without dropout, in blocks of block_size queries and keys.

    Shapes and masks as there; a mask is given as a whole, but may broadcast, and receives no gradient.
    Raises ValueError as there, for a mask that requires a gradient, and for block_size below 1.
    """
    who = "blocked_attention"
    query, key, value, scale = arguments(who, query, key, value, scale, enable_gqa)
    if block_size < 1:
        raise ValueError(f"{who} expected block_size of at least 1, got {block_size}")
    T, S = query.shape[-2], key.shape[-2]
    mask = None
    if attn_mask is not None:
        wanted, mask = bias_of(who, attn_mask, is_causal, (*query.shape[:-1], S), query.dtype)
        if wanted is not None and wanted.requires_grad:
            raise ValueError(f"{who}: the mask's gradient would be T x S; use scaled_dot_product_attention")
    blocks = _Blocks(T, S, block_size, mask, is_causal, query.dtype)
    group = query.shape[-3] // key.shape[-3] if enable_gqa else 1
    rows, k, v = query.data * scale, _repeated(key.data, group), _repeated(value.data, group)
    y, L = _forward(rows, k, v, blocks)

    def backward(dy):
        dq, dk, dv = _backward(dy, y, L, rows, k, v, blocks)
        dq *= scale
        return dq, _summed(dk, group), _summed(dv, group)

    return record(y, (query, key, value), backward)


class _Blocks:
    """Which pairs of blocks have something to see, and what is added to their scores."""

    def __init__(self, T: int, S: int, size: int, mask: Array | None, is_causal: bool, dtype: Any):
        self.T, self.S, self.size, self.mask, self.is_causal, self.dtype = T, S, size, mask, is_causal, dtype

    def queries(self) -> Iterator[slice]:
        for start in range(0, self.T, self.size):
            yield slice(start, min(start + self.size, self.T))

    def keys(self, i: slice) -> Iterator[slice]:
        """Blocks of keys that queries i may see: causal ones leave out what lies wholly in the future."""
        for start in range(0, min(self.S, i.stop) if self.is_causal else self.S, self.size):
            yield slice(start, min(start + self.size, self.S))

    def scores(self, rows: Array, k: Array, i: slice, j: slice) -> Array:
        """S of queries i and keys j."""
        scores = rows[..., i, :] @ k[..., j, :].swapaxes(-1, -2)
        if self.mask is not None:
            mask: Array = self.mask.reshape((1,) * (2 - self.mask.ndim) + self.mask.shape)
            mask = mask[..., i, :] if mask.shape[-2] > 1 else mask
            scores += mask[..., j] if mask.shape[-1] > 1 else mask
        if self.is_causal and i.start == j.start:  # only these lie partly in the future
            scores += additive(causal_mask(i.stop - i.start, j.stop - j.start), self.dtype)
        return scores


def _forward(rows: Array, k: Array, v: Array, blocks: _Blocks) -> tuple[Array, Array]:
    """Y, and L (..., T, 1), which is +∞ for a query that may see no key, so that its P = e^(S − L) are 0."""
    y = np.zeros((*rows.shape[:-1], v.shape[-1]), rows.dtype)
    L = np.full((*rows.shape[:-1], 1), math.inf, rows.dtype)
    for i in blocks.queries():
        A, m, n = y[..., i, :], np.full(L[..., i, :].shape, -math.inf, L.dtype), np.zeros_like(L[..., i, :])
        for j in blocks.keys(i):
            E = blocks.scores(rows, k, i, j)
            highest = np.maximum(m, E.max(axis=-1, keepdims=True))
            c = np.where(highest == -math.inf, 0, highest)  # −∞ − −∞ is no number
            E -= c
            np.exp(E, out=E)
            correction = np.exp(m - c)
            n *= correction
            n += E.sum(axis=-1, keepdims=True)
            A *= correction
            A += E @ v[..., j, :]
            m = highest
        seen = n > 0
        np.divide(A, n, out=A, where=seen)
        np.add(m, np.log(np.where(seen, n, 1)), out=L[..., i, :], where=seen)
    return y, L


def _backward(
    dy: Array, y: Array, L: Array, rows: Array, k: Array, v: Array, blocks: _Blocks
) -> tuple[Array, Array, Array]:
    """dQ without its factor `scale`, dK and dV"""
    dq, dk, dv = (np.zeros(x.shape, x.dtype) for x in (rows, k, v))
    delta = np.vecdot(dy, y)[..., None]
    for i in blocks.queries():
        dy_i = dy[..., i, :]
        for j in blocks.keys(i):
            P = blocks.scores(rows, k, i, j)
            P -= L[..., i, :]
            np.exp(P, out=P)
            dv[..., j, :] += P.swapaxes(-1, -2) @ dy_i
            dS = dy_i @ v[..., j, :].swapaxes(-1, -2)
            dS -= delta[..., i, :]
            dS *= P
            dq[..., i, :] += dS @ k[..., j, :]
            dk[..., j, :] += dS.swapaxes(-1, -2) @ rows[..., i, :]
    return dq, dk, dv


def _repeated(x: Array, group: int) -> Array:
    """Each head of keys or values as often as there are query heads that share it."""
    return x if group == 1 else np.repeat(x, group, axis=-3)


def _summed(dx: Array, group: int) -> Array:
    """The way back from `_repeated`."""
    if group == 1:
        return dx
    return dx.reshape(*dx.shape[:-3], dx.shape[-3] // group, group, *dx.shape[-2:]).sum(axis=-3)

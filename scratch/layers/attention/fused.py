"""Scaled dot-product attention as one operation (Vaswani et al. 2017, eq. 1), and its weights as another.

    S = scale · Q Kᵀ + bias        (T, S)     how well each query fits each key; −∞ where a mask forbids
    P = softmax(S)                 (T, S)     along the keys: the weights of a query sum to 1
    D = P ∘ noise                  (T, S)     dropout: each weight 0 with probability p, the others divided by 1 − p
    Y = D V                        (T, hd)    every query takes a weighted mean of the values

Going back, dX stands for ∂L/∂X. A product Y = D V has dD = dY Vᵀ and dV = Dᵀ dY; so, from the last line to the first:

    dV = Dᵀ dY
    dD = dY Vᵀ
    dP = dD ∘ noise
    dS = P ∘ (dP − δ),   δ_t = Σ_s dP_ts P_ts      softmax: a score that grows takes weight from all others of its row
    dQ = scale · dS K
    dK = scale · dSᵀ Q

Three identities save passes over T × S numbers, of which there are many more than T × hd:

    P = E / n,  E = e^(S − c),  n_t = Σ_s E_ts             Y and dY are divided by n instead of P and dP
    δ_t = Σ_s D_ts dD_ts = Σ_s D_ts (dY_t · V_s) = dY_t · Y_t                              (Dao et al. 2022)
    P ∘ dP = P ∘ noise ∘ dD = D ∘ dD                       backward needs no noise

Below, D is E ∘ noise and dY is dY / n, so that every product of the two is what it was.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from scratch.activations.elementwise import floating
from scratch.half import in_float32_like_first
from scratch.layers.attention.masks import bias_of
from scratch.layers.dropout import check_probability, noise
from scratch.sums import row_sums
from scratch.tensor import Array, Tensor, record


@in_float32_like_first
def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Y = dropout(softmax(scale · Q Kᵀ + mask)) V, PyTorch's function; the derivation stands at the head of this file.

    Shapes: query (..., nh, T, hd), key (..., nh, S, hd), value (..., nh, S, hd_v) → (..., nh, T, hd_v). attn_mask
    broadcasts to (..., nh, T, S): bool, True where a key takes part, or float, added to the scores (one that requires
    a gradient gets it). is_causal: query t sees the keys 0 … t. scale is 1/√hd by default. enable_gqa: key and value
    may have fewer heads, nh a multiple of theirs; neighbouring query heads share one (Ainslie et al. 2023).

    A query that may see no key gives zeros, and sends no gradient. dropout_p holds whenever it is passed; the noise
    comes from `scratch.random.generator()`. Raises ValueError for shapes and dtypes that do not fit together, for
    is_causal beside attn_mask, and for dropout_p outside 0 … 1.
    """
    query, key, value, scale = arguments("scaled_dot_product_attention", query, key, value, scale, enable_gqa)
    shape = (*query.shape[:-1], key.shape[-2])
    mask, bias = bias_of("scaled_dot_product_attention", attn_mask, is_causal, shape, query.dtype)
    check_probability("scaled_dot_product_attention", dropout_p)
    grouped = enable_gqa and query.shape[-3] != key.shape[-3]
    y = _result(query.data, value.shape[-1], grouped)
    saved = attend(query.data, key.data, value.data, bias, dropout_p, scale, y)

    def backward(dy):
        gradients = [_result(x.data, x.shape[-1], grouped) if x.requires_grad else None for x in (query, key, value)]
        dS = attend_backward(dy, y, saved, key.data, value.data, scale, *gradients)
        return (*gradients,) if mask is None else (*gradients, dS.reshape(shape) if mask.requires_grad else None)

    return record(y, (query, key, value) if mask is None else (query, key, value, mask), backward)


def _result(x: Array, width: int, grouped: bool) -> Array:
    """An empty array (..., width) whose axes lie in memory in the order of x's, so that split and merged heads need no
    copies. Heads that share keys and values are reshaped into groups, which needs the usual order."""
    if grouped or x.shape[-1] != width:
        return np.empty((*x.shape[:-1], width), x.dtype)
    return np.empty_like(x)


@in_float32_like_first
def attention_weights(
    query: Any,
    key: Any,
    attn_mask: Any = None,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """P = softmax(scale · Q Kᵀ + mask): what `scaled_dot_product_attention` weighs the values with, before dropout

        dS = P ∘ (dP − Σ_s dP P)        dQ = scale · dS K        dK = scale · dSᵀ Q

    Shapes: query (..., nh, T, hd), key (..., nh, S, hd) → (..., nh, T, S). Otherwise, errors included, as there.
    """
    query, key, _, scale = arguments("attention_weights", query, key, key, scale, enable_gqa)
    shape = (*query.shape[:-1], key.shape[-2])
    mask, bias = bias_of("attention_weights", attn_mask, is_causal, shape, query.dtype)
    rows, P, n = exponentials(query.data, key.data, bias, scale)
    P /= n

    def backward(dy):
        dS = dy.reshape(P.shape) * P
        dS -= P * row_sums(dS)[..., None]
        dq, dk = (np.empty(x.shape, x.dtype) if x.requires_grad else None for x in (query, key))
        _queries_and_keys(dS, rows, key.data, scale, dq, dk)
        return (dq, dk) if mask is None else (dq, dk, dS.reshape(shape) if mask.requires_grad else None)

    return record(P.reshape(shape), (query, key) if mask is None else (query, key, mask), backward)


@dataclass(frozen=True)
class Saved:
    """What forward leaves for backward; g query heads that share a key head are g·T rows of one head."""

    rows: Array  # scale · Q  (..., nh/g, g·T, hd)
    E: Array  # e^(S − c)     (..., nh/g, g·T, S)
    D: Array  # E ∘ noise, E itself without dropout
    n: Array  # Σ_s E         (..., nh/g, g·T, 1)


def attend(q: Array, k: Array, v: Array, bias: Array | None, dropout_p: float, scale: float, y: Array) -> Saved:
    """Y = D V / n, written into y, which may lie in memory in any order (heads beside each other, for one)."""
    rows, E, n = exponentials(q, k, bias, scale)
    D = E
    if dropout_p > 0:
        D = E * noise((*q.shape[:-1], k.shape[-2]), dropout_p, E.dtype).reshape(E.shape)
    out = y.reshape(*rows.shape[:-1], v.shape[-1])  # a view: heads are grouped only where y is contiguous
    np.matmul(D, v, out=out)
    out /= n
    return Saved(rows, E, D, n)


def attend_backward(
    dy: Array,
    y: Array,
    saved: Saved,
    k: Array,
    v: Array,
    scale: float,
    dq: Array | None,
    dk: Array | None,
    dv: Array | None,
) -> Array:
    """dS, and the gradients written into dq, dk and dv, those that are not None; as y, they may lie in any order."""
    shape = (*saved.rows.shape[:-1], v.shape[-1])
    dy, y = dy.reshape(shape) / saved.n, y.reshape(shape)
    if dv is not None:
        np.matmul(saved.D.swapaxes(-1, -2), dy, out=dv)
    delta = np.vecdot(dy, y)[..., None]
    dS = dy @ v.swapaxes(-1, -2)
    if saved.D is saved.E:
        dS -= delta
        dS *= saved.E
    else:
        dS *= saved.D
        dS -= saved.E * delta
    _queries_and_keys(dS, saved.rows, k, scale, dq, dk)
    return dS


def _queries_and_keys(dS: Array, rows: Array, k: Array, scale: float, dq: Array | None, dk: Array | None) -> None:
    """dQ = scale · dS K,  dK = dSᵀ (scale · Q)"""
    if dq is not None:
        out = dq.reshape(rows.shape)
        np.matmul(dS, k, out=out)
        out *= scale
    if dk is not None:
        np.matmul(dS.swapaxes(-1, -2), rows, out=dk)


def exponentials(q: Array, k: Array, bias: Array | None, scale: float) -> tuple[Array, Array, Array]:
    """scale · Q,  E = e^(S − c),  and n = Σ_s E, which is 1 for a query that may see no key (its E are 0).

    Softmax is the same for any c. An upper bound of all scores is the cheapest that cannot overflow; where a row lies
    so far below it that its sum would lose digits, c is each row's own maximum.
    """
    rows = np.multiply(q, scale, out=np.empty(q.shape, q.dtype))
    rows = rows.reshape(*k.shape[:-2], math.prod(q.shape[:-1]) // max(1, math.prod(k.shape[:-2])), q.shape[-1])
    shape = (*q.shape[:-1], k.shape[-2])
    E = rows @ k.swapaxes(-1, -2)
    by_head = E.reshape(shape)  # the same memory
    c = float(E.max()) if E.size else 0.0
    if bias is not None:
        c += max(0.0, float(bias.max(initial=0.0)))
    by_head += -c if bias is None else bias - c
    np.exp(E, out=E)
    n = row_sums(E)[..., None]
    if not (n > 1e-12).all():
        np.matmul(rows, k.swapaxes(-1, -2), out=E)
        if bias is not None:
            by_head += bias
        highest = E.max(axis=-1, keepdims=True, initial=-math.inf)
        E -= np.where(highest == -math.inf, 0, highest)
        np.exp(E, out=E)
        n = row_sums(E)[..., None]
        n[n == 0] = 1
    return rows, E, n


def arguments(
    who: str, query: Any, key: Any, value: Any, scale: float | None, enable_gqa: bool
) -> tuple[Tensor, Tensor, Tensor, float]:
    """The three as Tensors that fit together, and the scale as a Python number."""
    query, key, value = floating(who, query), floating(who, key), floating(who, value)
    q, k, v = query.shape, key.shape, value.shape
    came = f"got query {q}, key {k}, value {v}"
    if min(len(q), len(k), len(v)) < 2 or not len(q) == len(k) == len(v):
        raise ValueError(f"{who} expected query (..., nh, T, hd), key and value (..., nh, S, hd), {came}")
    if q[-1] != k[-1]:
        raise ValueError(f"{who}: query and key need one head size, {came}")
    if k[-2] != v[-2]:
        raise ValueError(f"{who}: key and value need one length S, {came}")
    if not query.dtype == key.dtype == value.dtype:
        raise ValueError(f"{who} expected one dtype, got {query.dtype}, {key.dtype} and {value.dtype}")
    if enable_gqa:
        if len(q) < 3 or q[:-3] != k[:-3] or k[:-2] != v[:-2] or k[-3] < 1 or q[-3] % k[-3]:
            raise ValueError(f"{who}: query's heads must be a multiple of key's and value's, batches equal, {came}")
    elif not q[:-2] == k[:-2] == v[:-2]:
        raise ValueError(f"{who}: query, key and value need the same batch and heads (or enable_gqa), {came}")
    return query, key, value, 1 / math.sqrt(q[-1]) if scale is None else float(scale)

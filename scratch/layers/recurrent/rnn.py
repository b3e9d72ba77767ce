"""The simple recurrence h_t = φ(a_t), φ = tanh or ReLU, in columns."""

from __future__ import annotations

import numpy as np

from scratch.tensor import Array


def forward(P: Array, W: Array, states: tuple[Array, ...], relu: bool) -> tuple[Array, ...]:
    """h_t = φ(P_t + W [h_{t−1}; 1])

    Shapes: P (T, H, B), W (H, H + 1) with the bias as its last column (or (H, H) without), states (h_0 (H, B),)
    → the states from h_0 on, (T + 1, H + 1, B) with their row of ones.
    """
    T, H, B = P.shape
    hs = with_ones(T + 1, H, W.shape[1], B, P.dtype)
    hs[0, :H] = states[0]
    zero = np.zeros((H, B), P.dtype)
    for t in range(T):
        h = hs[t + 1, :H]
        np.matmul(W, hs[t], out=h)
        h += P[t]
        if relu:
            np.maximum(h, zero, out=h)
        else:
            np.tanh(h, out=h)
    return (hs,)


def backward(
    saved: tuple[Array, ...], W: Array, dy: Array, last: Array | None, dc: Array | None, relu: bool
) -> tuple[Array, tuple[Array, ...]]:
    """da_t = dh_t φ'(a_t),  dh_{t−1} = dy_{t−1} + Wᵀ da_t;  φ' is 1 − h² for tanh, 1 where h > 0 for ReLU

    The factors φ' need no loop. Shapes: dy (T, H, B), W (H, H) → da (T, H, B), (∂L/∂h_0,).
    """
    T, H, B = dy.shape
    h = saved[0][1:, :H]
    factors = (h > 0).astype(dy.dtype) if relu else 1 - h * h
    da, dh, transposed = np.empty_like(dy), np.zeros((H, B), dy.dtype), np.ascontiguousarray(W.T)
    for t in reversed(range(T)):
        dh += dy[t]
        np.multiply(factors[t], dh, out=da[t])
        np.matmul(transposed, da[t], out=dh)
    return da, (dh,)


def step(x: Array, states: tuple[Array, ...], *weights: Array, relu: bool) -> tuple[Array, ...]:
    """One step without a tape: x (B, in), h (B, H), W_ih, W_hh and the biases → h'"""
    a = affine(x, *weights[::2])
    a += affine(states[0], *weights[1::2])
    return (np.maximum(a, 0, out=a) if relu else np.tanh(a, out=a),)


def affine(x: Array, W: Array, b: Array | None = None) -> Array:
    """x Wᵀ + b in rows: x (B, in), W (out, in), b (out,) → (B, out)"""
    y = x @ W.T
    if b is not None:
        y += b
    return y


def logistic(a: Array) -> Array:
    """σ(a) = ½ + ½ tanh(a/2), into a copy"""
    y = a * 0.5
    np.tanh(y, out=y)
    y *= 0.5
    y += 0.5
    return y


def with_ones(steps: int, H: int, rows: int, B: int, dtype: np.dtype) -> Array:
    """Room for the states of all steps, (steps, rows, B): H rows to fill, and, beside a bias, one of ones."""
    hs = np.empty((steps, rows, B), dtype)
    hs[:, H:] = 1
    return hs

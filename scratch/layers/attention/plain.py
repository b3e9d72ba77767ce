"""Attention by its definition, one query at a time: read this first. The tests hold the other tellings against it.

    s_j = scale · q · k_j + bias_j        p = softmax(s)        y = Σ_j p_j v_j

A query whose keys are all forbidden (bias −∞) has p = 0 and y = 0. Going back from dy = ∂L/∂y:

    ∂L/∂v_j += p_j dy                               each value entered y with weight p_j
    ∂L/∂p_j  = dy · v_j
    ∂L/∂s_j  = p_j (∂L/∂p_j − Σ_i p_i ∂L/∂p_i)      ∂p_i/∂s_j = p_i ([i = j] − p_j)
    ∂L/∂q    = scale · Σ_j ∂L/∂s_j k_j
    ∂L/∂k_j += scale · ∂L/∂s_j q

Shapes: q (..., T, hd), k (..., S, hd), v (..., S, hd_v), bias (..., T, S), y and dy (..., T, hd_v).
"""

from __future__ import annotations

import math

import numpy as np

from scratch.tensor import Array


def weights(query: Array, keys: Array, bias: Array, scale: float) -> Array:
    """p (S,) of one query (hd,) among keys (S, hd)."""
    scores = np.array([scale * (query @ key) for key in keys]) + bias
    highest = scores.max(initial=-math.inf)
    if highest == -math.inf:
        return np.zeros(len(keys))
    exponentials = np.exp(scores - highest)
    return exponentials / exponentials.sum()


def attend(q: Array, k: Array, v: Array, bias: Array, scale: float) -> Array:
    """y"""
    y = np.zeros((*q.shape[:-1], v.shape[-1]))
    for *head, t in np.ndindex(q.shape[:-1]):
        h = tuple(head)
        for p_j, value in zip(weights(q[h][t], k[h], bias[h][t], scale), v[h], strict=True):
            y[h][t] += p_j * value
    return y


def gradients(dy: Array, q: Array, k: Array, v: Array, bias: Array, scale: float) -> tuple[Array, Array, Array, Array]:
    """∂L/∂q, ∂L/∂k, ∂L/∂v and ∂L/∂s, which is the bias's gradient too"""
    dq, dk, dv, ds = (np.zeros(x.shape) for x in (q, k, v, bias))
    for *head, t in np.ndindex(q.shape[:-1]):
        h = tuple(head)
        p = weights(q[h][t], k[h], bias[h][t], scale)
        dp = np.array([dy[h][t] @ value for value in v[h]])
        ds[h][t] = p * (dp - (p * dp).sum())
        for j, ds_j in enumerate(ds[h][t]):
            dv[h][j] += p[j] * dy[h][t]
            dq[h][t] += scale * ds_j * k[h][j]
            dk[h][j] += scale * ds_j * q[h][t]
    return dq, dk, dv, ds

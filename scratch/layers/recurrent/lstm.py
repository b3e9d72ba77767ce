"""The LSTM in columns, with its derivative.

Forward, gate by gate (σ(a) = 1 − 1/(1 + eᵃ), whose second term is the 1 − σ that the derivative needs):

    i, f, o = σ(a_i), σ(a_f), σ(a_o)     g = tanh a_g     u = i g     v = f c     c' = u + v     h' = o tanh c'

Backward, with dh the whole gradient of h' and dc that of c' but for what comes through h':

    dc  ←  dc + dh · o (1 − tanh² c')                 o (1 − tanh² c') = o − h' tanh c'
    da_i = dc · g i (1 − i) = dc · u (1 − i)          da_f = dc · c f (1 − f) = dc · v (1 − f)
    da_g = dc · i (1 − g²)  = dc · (i − u g)          da_o = dh · tanh c' · o (1 − o) = dh · h' (1 − o)
    dc_{t−1} = dc · f                                 dh_{t−1} = dy_{t−1} + W_hhᵀ [da_i; da_f; da_g; da_o]

All that does not depend on dh and dc is a factor known since the forward: the loop back has one product of matrices and
seven of elements.

Where the time goes (64 steps, 32 sequences, H = 256, two threads): 2 ms before the loop; the loop forward 11, of
which 7 are products; the loop back 8.5, of which 7 are; behind it dx and the gradients of the weights 11.
"""

from __future__ import annotations

import numpy as np

from scratch.layers.recurrent.rnn import affine, logistic, with_ones
from scratch.tensor import Array

ORDER = (0, 1, 3, 2)  # the forward's rows are i, f, o, g, so that one call takes all that is a σ


def forward(P: Array, W: Array, states: tuple[Array, ...], keep: bool) -> tuple[Array, ...]:
    """hs, cs and, if the gradient will be asked for, the factors

    Shapes: P (T, 4H, B), W (4H, H + 1) with the bias as its last column, rows in ORDER, states h_0 and c_0 (H, B)
    → hs (T + 1, H + 1, B), cs (T + 1, H, B), factors of a (T, 4, H, B), order i, f, g, o, of c, and f (T, H, B).
    """
    (T, _, B), H = P.shape, states[1].shape[0]
    hs, cs = with_ones(T + 1, H, W.shape[1], B, P.dtype), np.empty((T + 1, H, B), P.dtype)
    hs[0, :H], cs[0] = states
    of_a = P.reshape(T, 4, H, B)  # a step's place is free once it has been read: what is in the cache stays there
    of_c, forget = (np.empty((T, H, B), P.dtype) if keep else P[:0] for _ in range(2))
    a = np.empty((4, H, B), P.dtype)
    i, f, o, g = a
    u, v, tanh_c, rest = (*np.empty((3, H, B), P.dtype), np.empty((3, H, B), P.dtype))
    for t in range(T):
        h, c = hs[t + 1, :H], cs[t + 1]
        np.matmul(W, hs[t], out=a.reshape(4 * H, B))
        np.add(a, of_a[t], out=a)
        np.exp(a[:3], out=a[:3])
        np.add(a[:3], 1, out=a[:3])
        np.reciprocal(a[:3], out=rest)
        np.subtract(1, rest, out=a[:3])
        np.tanh(g, out=g)
        np.multiply(i, g, out=u)
        np.multiply(f, cs[t], out=v)
        np.add(u, v, out=c)
        np.tanh(c, out=tanh_c)
        np.multiply(o, tanh_c, out=h)
        if keep:
            _factors(a, rest, u, v, tanh_c, h, of_a[t], of_c[t])
            forget[t] = f
    return hs, cs, of_a, of_c, forget


def _factors(a: Array, rest: Array, u: Array, v: Array, tanh_c: Array, h: Array, of_a: Array, of_c: Array) -> None:
    """What dc and dh are multiplied with, see above: into of_a (4, H, B) and of_c (H, B)."""
    i, _, o, g = a
    np.multiply(u, rest[0], out=of_a[0])
    np.multiply(v, rest[1], out=of_a[1])
    np.multiply(u, g, out=of_a[2])
    np.subtract(i, of_a[2], out=of_a[2])
    np.multiply(h, rest[2], out=of_a[3])
    np.multiply(h, tanh_c, out=of_c)
    np.subtract(o, of_c, out=of_c)


def backward(
    saved: tuple[Array, ...], W: Array, dy: Array, last: Array | None, dc_n: Array
) -> tuple[Array, tuple[Array, ...]]:
    """da of all steps, and the gradients of h_0 and c_0

    Shapes: W (4H, H) in PyTorch's order, dy (T, H, B) with the last state's gradient in it, dc_n (H, B), the gradient
    of c after step `last` (B,) of each sequence, None for the last of all → da (T, 4H, B), (dh_0, dc_0) (H, B).
    """
    _, _, of_a, of_c, forget = saved
    T, H, B = dy.shape
    da, dh, transposed = np.empty_like(of_a), np.zeros((H, B), dy.dtype), np.ascontiguousarray(W.T)
    dc, part = dc_n.copy() if last is None else np.zeros_like(dh), np.empty_like(dh)
    for t in reversed(range(T)):
        if last is not None:
            dc += dc_n * (last == t)
        dh += dy[t]
        np.multiply(of_c[t], dh, out=part)
        dc += part
        np.multiply(of_a[t, :3], dc, out=da[t, :3])
        np.multiply(of_a[t, 3], dh, out=da[t, 3])
        dc *= forget[t]
        np.matmul(transposed, da[t].reshape(4 * H, B), out=dh)
    return da.reshape(T, 4 * H, B), (dh, dc)


def step(x: Array, states: tuple[Array, ...], *weights: Array) -> tuple[Array, ...]:
    """One step without a tape: x (B, in), h and c (B, H), W_ih, W_hh and the biases in PyTorch's order → h', c'"""
    h, c = states
    H = h.shape[1]
    a = affine(x, *weights[::2])
    a += affine(h, *weights[1::2])
    g = np.tanh(a[:, 2 * H : 3 * H])
    a = logistic(a)  # of g too, which costs less than three calls
    c = a[:, H : 2 * H] * c
    c += a[:, :H] * g
    return a[:, 3 * H :] * np.tanh(c), c

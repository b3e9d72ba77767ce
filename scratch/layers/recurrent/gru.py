"""The GRU in columns, with its derivative.

Forward, with m = W_hn h + b_hn, what the hidden side proposes (σ(a) = 1 − 1/(1 + eᵃ)):

    r, z = σ(a_r), σ(a_z)        n = tanh(P_n + r m)        h' = n + w,   w = z (h − n)

Backward, with dh the whole gradient of h'. r reaches the output through n only, and m is scaled by it:

    da_n = dh · (1 − z)(1 − n²)                       dm   = da_n · r
    da_r = da_n · m r (1 − r) = dm · m (1 − r)        da_z = dh · (h − n) z (1 − z) = dh · w (1 − z)
    dh_{t−1} = dy_{t−1} + dh · z + W_hhᵀ [da_r; da_z; dm]

Each is dh times a factor known since the forward, so the loop back has one product of matrices and two of elements.
The gradient's rows are dm, da_r, da_z, da_n: the first three are the hidden side's, the last three the input's.
"""

from __future__ import annotations

import numpy as np

from scratch.layers.recurrent.rnn import affine, logistic, with_ones
from scratch.tensor import Array


def forward(P: Array, W: Array, states: tuple[Array, ...], keep: bool) -> tuple[Array, ...]:
    """hs and, if the gradient will be asked for, the factors

    Shapes: P (T, 3H, B), W (3H, H + 1) with the bias as its last column, states (h_0 (H, B),)
    → hs (T + 1, H + 1, B), factors of a (T, 4, H, B), and z (T, H, B).
    """
    (T, _, B), H = P.shape, states[0].shape[0]
    hs = with_ones(T + 1, H, W.shape[1], B, P.dtype)
    hs[0, :H] = states[0]
    of_a = np.empty((T, 4, H, B), P.dtype) if keep else P[:0]
    update = np.empty((T, H, B), P.dtype) if keep else P[:0]
    a = np.empty((3, H, B), P.dtype)
    rz, (r, z, m) = a[:2], a
    n, w, rest = np.empty((H, B), P.dtype), np.empty((H, B), P.dtype), np.empty((2, H, B), P.dtype)
    for t in range(T):
        from_x, h = P[t].reshape(a.shape), hs[t + 1, :H]
        np.matmul(W, hs[t], out=a.reshape(3 * H, B))
        np.add(rz, from_x[:2], out=rz)
        np.exp(rz, out=rz)
        np.add(rz, 1, out=rz)
        np.reciprocal(rz, out=rest)
        np.subtract(1, rest, out=rz)
        np.multiply(r, m, out=n)
        np.add(n, from_x[2], out=n)
        np.tanh(n, out=n)
        np.subtract(hs[t, :H], n, out=w)
        np.multiply(z, w, out=w)
        np.add(n, w, out=h)
        if keep:
            _factors(r, m, n, w, rest, of_a[t])
            update[t] = z
    return hs, of_a, update


def _factors(r: Array, m: Array, n: Array, w: Array, rest: Array, of_a: Array) -> None:
    """What dh is multiplied with, see above: into of_a (4, H, B), in the order dm, da_r, da_z, da_n."""
    np.multiply(n, n, out=of_a[3])
    np.subtract(1, of_a[3], out=of_a[3])
    np.multiply(of_a[3], rest[1], out=of_a[3])
    np.multiply(of_a[3], r, out=of_a[0])
    np.multiply(of_a[0], m, out=of_a[1])
    np.multiply(of_a[1], rest[0], out=of_a[1])
    np.multiply(w, rest[1], out=of_a[2])


def backward(
    saved: tuple[Array, ...], W: Array, dy: Array, last: Array | None, dc: Array | None
) -> tuple[Array, tuple[Array, ...]]:
    """The gradients of all steps' products, and of h_0

    Shapes: W (3H, H), dy (T, H, B) with the last state's gradient in it → (T, 4H, B), (dh_0 (H, B),).
    """
    _, of_a, update = saved
    T, H, B = dy.shape
    da, dh, through = np.empty_like(of_a), np.zeros((H, B), dy.dtype), np.empty((H, B), dy.dtype)
    transposed = np.concatenate([W[2 * H :], W[: 2 * H]]).T.copy()
    for t in reversed(range(T)):
        dh += dy[t]
        np.multiply(of_a[t], dh, out=da[t])
        np.matmul(transposed, da[t, :3].reshape(3 * H, B), out=through)
        dh *= update[t]
        dh += through
    return da.reshape(T, 4 * H, B), (dh,)


def step(x: Array, states: tuple[Array, ...], *weights: Array) -> tuple[Array, ...]:
    """One step without a tape: x (B, in), h (B, H), W_ih, W_hh and the biases in PyTorch's order → h'"""
    (h,) = states
    H = h.shape[1]
    from_x, from_h = affine(x, *weights[::2]), affine(h, *weights[1::2])
    gates = logistic(from_x[:, : 2 * H] + from_h[:, : 2 * H])
    n = gates[:, :H] * from_h[:, 2 * H :]
    n += from_x[:, 2 * H :]
    np.tanh(n, out=n)
    w = h - n
    w *= gates[:, H:]
    w += n
    return (w,)

"""Week 5's blanks, filled in. Look here after you have tried; tests/test_notebooks.py runs them against the checks."""

import numpy as np

from scratch.data.pairs import PAD
from scratch.tensor import record


def my_masks(source, fed):
    B, S = source.shape
    T = fed.shape[1]
    real = (source != PAD)[:, None, :]  # (B, 1, S): keys
    return np.broadcast_to(real, (B, S, S)), np.tri(T, dtype=bool), np.broadcast_to(real, (B, T, S))


def my_add_and_norm(x, f, weight, bias, eps=1e-5):
    s = x.data + f.data
    s = s - s.mean(axis=-1, keepdims=True)
    sigma = np.sqrt((s * s).mean(axis=-1, keepdims=True) + eps)
    s_hat = s / sigma

    def backward(dy):
        g = weight.data * dy
        ds = (g - g.mean(axis=-1, keepdims=True) - s_hat * (g * s_hat).mean(axis=-1, keepdims=True)) / sigma
        return ds, ds, (dy * s_hat).sum(axis=(0, 1)), dy.sum(axis=(0, 1))  # a sum hands dy on to both

    return record(weight.data * s_hat + bias.data, (x, f, weight, bias), backward)

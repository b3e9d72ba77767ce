"""Week 15's blanks, filled in. Look here after you have tried; tests/test_notebooks.py runs them against the checks."""

import numpy as np

from scratch.tensor import record


def my_patch_embedding(x, weight, bias):
    C, c, p, _ = weight.shape
    B, _, H, W = x.shape
    h, w = H // p, W // p
    X = x.data.reshape(B, c, h, p, w, p).transpose(0, 2, 4, 1, 3, 5).reshape(B, h * w, c * p * p)
    rows = weight.data.reshape(C, -1)

    def backward(dy):
        dX = (dy @ rows).reshape(B, h, w, c, p, p).transpose(0, 3, 1, 4, 2, 5)
        dW = np.einsum("bnk,bnj->kj", dy, X)
        return dX.reshape(x.shape), dW.reshape(weight.shape), dy.sum(axis=(0, 1))

    return record(X @ rows.T + bias.data, (x, weight, bias), backward)


def my_rollout(maps):
    A = 0.5 * np.eye(maps.shape[-1]) + 0.5 * maps.mean(axis=2)
    R = A[0]
    for step in A[1:]:
        R = step @ R
    return R

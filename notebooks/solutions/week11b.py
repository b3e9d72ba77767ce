"""Week 11's second notebook's blanks, filled in. Look here after you have tried; tests/test_notebooks.py runs them
against the checks."""

import numpy as np

from scratch.tensor import record


def my_batch_norm(x, weight, bias, eps=1e-5):
    axes = (0, 2, 3)
    w, b = weight.data.reshape(1, -1, 1, 1), bias.data.reshape(1, -1, 1, 1)
    mean = x.data.mean(axis=axes, keepdims=True)
    sigma = np.sqrt(((x.data - mean) ** 2).mean(axis=axes, keepdims=True) + eps)
    x_hat = (x.data - mean) / sigma

    def backward(dy):
        along_mean = dy.mean(axis=axes, keepdims=True)
        along_x = x_hat * (dy * x_hat).mean(axis=axes, keepdims=True)
        return w / sigma * (dy - along_mean - along_x), (dy * x_hat).sum(axis=axes), dy.sum(axis=axes)

    return record(w * x_hat + b, (x, weight, bias), backward)


def my_conv_transpose1d(x, weight, stride):
    n, k = len(x.data), len(weight.data)
    y = np.zeros((n - 1) * stride + k)
    for r in range(n):
        y[r * stride : r * stride + k] += weight.data * x.data[r]

    def backward(dy):
        windows = np.array([dy[r * stride : r * stride + k] for r in range(n)])  # (n, k)
        return windows @ weight.data, x.data @ windows

    return record(y, (x, weight), backward)

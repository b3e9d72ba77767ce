"""Week 11's blanks, filled in. Look here after you have tried; tests/test_notebooks.py runs them against the checks."""

import numpy as np

from scratch.tensor import record


def my_conv1d(x, weight):
    n, k = len(x.data), len(weight.data)
    m = n - k + 1
    y = sum(weight.data[i] * x.data[i : i + m] for i in range(k))

    def backward(dy):
        dx = np.zeros_like(x.data)
        for i in range(k):
            dx[i : i + m] += weight.data[i] * dy
        return dx, np.array([dy @ x.data[i : i + m] for i in range(k)])

    return record(y, (x, weight), backward)


def my_max_pool(x):
    N, C, H, W = x.shape
    windows = x.data.reshape(N, C, H // 2, 2, W // 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(N, C, H // 2, W // 2, 4)
    winner = windows.argmax(axis=-1)[..., None]
    y = np.take_along_axis(windows, winner, axis=-1)[..., 0]

    def backward(dy):
        dx = np.zeros_like(windows)
        np.put_along_axis(dx, winner, dy[..., None], axis=-1)
        return (dx.reshape(N, C, H // 2, W // 2, 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(N, C, H, W),)

    return record(y, (x,), backward)

"""Week 8's blanks, filled in. Look here after you have tried; tests/test_notebooks.py runs them against the checks."""

import numpy as np

from scratch.tensor import record


def my_cosine(T, s=0.008):
    f = np.cos((np.arange(T + 1) / T + s) / (1 + s) * np.pi / 2) ** 2
    beta = np.minimum(1 - f[1:] / f[:-1], 0.999)
    return np.concatenate([[1.0], np.cumprod(1 - beta)])


def my_data_loss(eps_hat, x, x0, alpha_bar):
    a = np.array(alpha_bar)[:, None]
    off = (x.data - np.sqrt(1 - a) * eps_hat.data) / np.sqrt(a) - x0.data

    def backward(dy):
        g = 2 * dy * off / off.size
        return -np.sqrt((1 - a) / a) * g, g / np.sqrt(a), -g

    return record((off**2).mean(), (eps_hat, x, x0), backward)

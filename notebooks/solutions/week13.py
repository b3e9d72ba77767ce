"""Week 13's blanks, filled in. Look here after you have tried; tests/test_notebooks.py runs them against the checks."""

import numpy as np

from scratch.tensor import record


def my_kl(mean, s):
    variance = np.exp(s.data)

    def backward(dy):
        return dy[:, None] * mean.data, dy[:, None] * 0.5 * (variance - 1)

    return record(0.5 * (mean.data**2 + variance - 1 - s.data).sum(axis=1), (mean, s), backward)


def my_draw(mean, s, eps):
    scaled = np.exp(s.data / 2) * np.asarray(eps)

    def backward(dy):
        return dy, dy * 0.5 * scaled

    return record(mean.data + scaled, (mean, s), backward)


def my_nearest(z, codebook):
    return ((codebook**2).sum(axis=1) - 2 * z @ codebook.T).argmin(axis=1)

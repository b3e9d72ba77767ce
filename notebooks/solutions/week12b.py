"""Week 12's second blanks, filled in. Look here after you have tried; tests/test_notebooks.py runs them."""

import numpy as np

from scratch.tensor import record


def my_mix(e, m):
    a = np.exp(e.data - e.data.max())
    a = a / a.sum()

    def backward(dc):
        da = m.data @ dc
        return a * (da - a @ da), np.outer(a, dc)

    return record(a @ m.data, (e, m), backward)


def my_additive_scores(q, m, W, U, v):
    return np.tanh(W @ q + m @ U.T) @ v

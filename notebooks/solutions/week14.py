"""Week 14's blanks, filled in. Look here after you have tried; tests/test_notebooks.py runs them against the checks."""

import numpy as np

from scratch.tensor import record


def my_game(real, fake):
    value = np.logaddexp(0, -real.data) + np.logaddexp(0, fake.data)

    def backward(dy):
        return -dy * np.exp(-np.logaddexp(0, real.data)), dy * np.exp(-np.logaddexp(0, -fake.data))

    return record(value, (real, fake), backward)


def my_slope(x, W1, W2):
    h = np.array(x) @ W1.data.T
    s = np.where(h > 0, 1, 0.2)
    return (W2 * s) @ W1

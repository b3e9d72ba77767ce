"""Week 7's blanks, filled in. Look here after you have tried; tests/test_notebooks.py runs them against the checks."""

import numpy as np

from scratch.tensor import record


def my_posterior(x0, x, t, alpha_bar):
    now, before = alpha_bar[t][:, None], alpha_bar[t - 1][:, None]
    alpha = now / before
    beta = 1 - alpha
    variance = (1 - before) / (1 - now) * beta
    mean = np.sqrt(before) * beta / (1 - now) * x0 + np.sqrt(alpha) * (1 - before) / (1 - now) * x
    return mean, variance


def my_log_density(x, means, variance):
    off = x.data[:, None] - means.data
    powers = -(off**2).sum(axis=2) / (2 * variance)
    largest = powers.max(axis=1, keepdims=True)
    likely = np.exp(powers - largest)
    total = likely.sum(axis=1, keepdims=True)
    value = (largest + np.log(total / len(means.data)))[:, 0] - np.log(2 * np.pi * variance)
    p = likely / total

    def backward(dy):
        pulls = dy[:, None, None] * p[:, :, None] * off / variance
        return -pulls.sum(axis=1), pulls.sum(axis=0)

    return record(value, (x, means), backward)

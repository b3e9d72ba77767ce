"""Week 9's blanks, filled in. Look here after you have tried; tests/test_notebooks.py runs them against the checks."""

import numpy as np

from scratch.tensor import record


def my_group_norm(x, groups, eps=1e-5):
    rows = x.data.reshape(len(x.data), groups, -1)
    sigma = np.sqrt(rows.var(axis=2, keepdims=True) + eps)
    normed = (rows - rows.mean(axis=2, keepdims=True)) / sigma

    def backward(dy):
        g = dy.reshape(rows.shape)
        along = (g * normed).mean(axis=2, keepdims=True)
        return (((g - g.mean(axis=2, keepdims=True) - normed * along) / sigma).reshape(x.shape),)

    return record(normed.reshape(x.shape), (x,), backward)


def my_kl(eps, said, t, schedule):
    weight = schedule.beta[t] / (2 * schedule.alpha[t] * (1 - schedule.alpha_bar[t - 1]))
    return weight * ((eps - said) ** 2).sum(axis=1)

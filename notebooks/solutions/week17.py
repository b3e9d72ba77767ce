"""Week 17's blanks, filled in. Look here after you have tried; tests/test_notebooks.py runs them against the checks."""

import numpy as np

from scratch.tensor import record


def my_turn(x):
    T, half = x.shape[0], x.shape[1] // 2
    theta = np.arange(T)[:, None] * 10000.0 ** (-np.arange(half) / half)

    def turned(u, theta):
        a, b = u[:, :half], u[:, half:]
        return np.concatenate([a * np.cos(theta) - b * np.sin(theta), a * np.sin(theta) + b * np.cos(theta)], axis=1)

    def backward(dy):
        return (turned(dy, -theta),)

    return record(turned(x.data, theta), (x,), backward)


def my_gated(a, b):
    s = 1 / (1 + np.exp(-a.data))
    gate = a.data * s

    def backward(dy):
        return dy * b.data * (s + gate * (1 - s)), dy * gate

    return record(gate * b.data, (a, b), backward)


def my_balance(p, chosen):
    E = p.shape[1]
    f = np.bincount(chosen.reshape(-1), minlength=E) / chosen.size
    return E * (f * p.mean(axis=0)).sum()

"""Week 1's blanks, filled in. Look here after you have tried; tests/test_notebooks.py runs them against the checks."""

import numpy as np

from scratch.tensor import record


def my_sigmoid(x):
    y = 1 / (1 + np.exp(-x.data))

    def backward(dy):
        return (dy * y * (1 - y),)

    return record(y, (x,), backward)


def my_linear(x, weight, bias):
    y = x.data @ weight.data.T + bias.data

    def backward(dy):
        return dy @ weight.data, dy.T @ x.data, dy.sum(axis=0)

    return record(y, (x, weight, bias), backward)

"""Week 3's blanks, filled in. Look here after you have tried; tests/test_notebooks.py runs them against the checks."""

import math

import numpy as np

from scratch.tensor import record


def my_attention(query, key, value, mask):
    scores = np.where(mask, query @ key.T / math.sqrt(query.shape[1]), -np.inf)
    largest = scores.max(axis=1, keepdims=True)
    weights = np.exp(scores - np.where(np.isfinite(largest), largest, 0))
    total = weights.sum(axis=1, keepdims=True)
    P = weights / np.where(total > 0, total, 1)
    return P @ value, P


def my_attention_on_the_tape(query, key, value, mask):
    Y, P = my_attention(query.data, key.data, value.data, mask)
    scale = 1 / math.sqrt(query.shape[1])

    def backward(dy):
        dV = P.T @ dy
        dP = dy @ value.data.T
        dS = P * (dP - (dP * P).sum(axis=1, keepdims=True))
        return scale * dS @ key.data, scale * dS.T @ query.data, dV

    return record(Y, (query, key, value), backward)

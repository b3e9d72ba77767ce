"""Week 6's blanks, filled in. Look here after you have tried; tests/test_notebooks.py runs them against the checks."""

import numpy as np

from scratch.tensor import record


def my_rate(step, d_model, warmup):
    n = step + 1
    return d_model**-0.5 * min(n**-0.5, n * warmup**-1.5)


def my_smoothed_loss(logits, targets, s):
    B, V = logits.shape
    q = np.full((B, V), s / V)
    q[np.arange(B), targets] += 1 - s
    z = logits.data - logits.data.max(axis=1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))

    def backward(dy):
        return (dy * (np.exp(log_p) - q) / B,)

    return record(-(q * log_p).sum() / B, (logits,), backward)


def my_beam_step(log_p, next_log_p):
    W, V = next_log_p.shape
    longer = (log_p[:, None] + next_log_p).reshape(-1)
    best = np.argsort(-longer, kind="stable")[:W]
    return best // V, best % V, longer[best]

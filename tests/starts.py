"""What a language model with weights from N(0, 0.02²) says before training: nearly the same of every token."""

import math

import numpy as np


def assert_nearly_uniform(scores: np.ndarray, C: int, sigma: float = 0.02) -> None:
    """The cross-entropy over all possible targets lies above log V, and by no more than such scores can add.

    Over all targets and not over drawn ones, so that no luck is in it: it is log V plus log(mean eᶻ) − mean z of the
    scores z. Those are products of a vector of C numbers of size 1 with embeddings: V − 1 of N(0, C σ²), which add
    C σ²/2, and the token's own, at most C σ = a where the embeddings are tied, which adds (eᵃ − 1 − a)/V.
    """
    z = scores.reshape(-1, scores.shape[-1]).astype(np.float64)
    surplus = (np.log(np.exp(z).mean(axis=1)) - z.mean(axis=1)).mean()
    a = C * sigma
    assert 0 < surplus < C * sigma**2 / 2 + (math.exp(a) - 1 - a) / z.shape[1], surplus

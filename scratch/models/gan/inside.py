"""What is to be seen in the two networks: functions that return arrays, for any generator and discriminator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from scratch.activations import sigmoid
from scratch.models.gan.penalty import slope
from scratch.module import Module
from scratch.tensor import Tensor, no_grad

BATCH = 500


def critic_values(discriminator: Module, x: np.ndarray, *labels: np.ndarray) -> np.ndarray:
    """D(x), the logits or the critic's numbers, in evaluation.  Shapes: (N, …) → (N,)"""
    return _in_batches(discriminator, lambda *rows: discriminator(*rows).data, x, *labels)


def probabilities(discriminator: Module, x: np.ndarray, *labels: np.ndarray) -> np.ndarray:
    """σ(D(x)): by a discriminator trained on cross-entropies, the probability that x is real.  Shapes: (N, …) → (N,)"""
    return sigmoid(Tensor(critic_values(discriminator, x, *labels))).data


def slopes(discriminator: Any, x: np.ndarray, *labels: np.ndarray) -> np.ndarray:
    """‖∇ₓ D(x)‖: 1 is what the gradient penalty asks for.  Shapes: (N, …) → (N,)"""

    def norms(*rows: np.ndarray) -> np.ndarray:
        return np.linalg.norm(slope(discriminator, *rows).data.reshape(len(rows[0]), -1), axis=1)

    return _in_batches(discriminator, norms, x, *labels)


def best_discriminator(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """D* = p / (p + q), where p and q are the densities of real and fake data  (Goodfellow et al. 2014, proposition 1)

    ½ where neither is (0 / 0): there nothing is known.
    """
    return np.divide(p, p + q, out=np.full(np.broadcast(p, q).shape, 0.5), where=p + q > 0)


def interpolation(
    generator: Module, z_from: np.ndarray, z_to: np.ndarray, steps: int = 8, labels: np.ndarray | None = None
) -> np.ndarray:
    """G along the arc from one noise to another, for each row.  Shapes: (N, noise) twice → (N, steps, …)

    The straight line would pass nearer to 0 than noise of so many numbers ever lies; the arc keeps its length.
    """
    rows = [arc(z_from, z_to, share) for share in np.linspace(0, 1, steps)]
    told = () if labels is None else (labels,)
    return np.stack([_in_batches(generator, lambda *a: generator(*a).data, z, *told) for z in rows], axis=1)


def arc(a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
    """sin((1 − s) θ) / sin θ · a + sin(s θ) / sin θ · b, θ the angle between rows.  Shapes: (N, d) twice → (N, d)"""
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    angle = np.arccos(np.clip((a * b).sum(axis=1) / lengths, -1, 1))[:, None]
    sine = np.sin(angle)
    straight = sine < 1e-6  # the same direction, or the opposite one: the line is as good
    sine = np.where(straight, 1, sine)
    first = np.where(straight, 1 - share, np.sin((1 - share) * angle) / sine)
    second = np.where(straight, share, np.sin(share * angle) / sine)
    return (first * a + second * b).astype(a.dtype)


def _in_batches(module: Module, function: Callable[..., np.ndarray], *arrays: np.ndarray) -> np.ndarray:
    """function of the rows, some at a time, with the module in evaluation and no tape."""
    training = module.training
    module.eval()
    with no_grad():
        parts = [function(*(a[i : i + BATCH] for a in arrays)) for i in range(0, len(arrays[0]), BATCH)]
    module.train(training)
    return np.concatenate(parts)

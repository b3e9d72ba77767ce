"""The same network without the tape: every gradient written out by hand, in NumPy alone.

Read it beside `model.py`. There the tape remembers what was computed and walks back by itself; here the two passes
stand one below the other, and every line of `backward` undoes one line of `forward`. Both give the same gradients.
"""

from __future__ import annotations

import numpy as np

Weights = list[tuple[np.ndarray, np.ndarray]]  # [(W₁, b₁), …, (W_L, b_L)], W of shape (out, in)


def forward(weights: Weights, x: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Logits, and the input of every layer, which `backward` needs.  x (B, in) → logits (B, classes)"""
    inputs = []
    h = x
    for W, b in weights[:-1]:
        inputs.append(h)
        h = np.maximum(h @ W.T + b, 0)  # (B, out): z = h Wᵀ + b, then relu(z)
    inputs.append(h)
    W, b = weights[-1]
    return h @ W.T + b, inputs


def cross_entropy(logits: np.ndarray, targets: np.ndarray) -> tuple[float, np.ndarray]:
    """L = −1/B Σ ln p[target] with p = softmax(logits), and ∂L/∂logits = (p − y) / B, where y is 1 at the target."""
    B = len(targets)
    z = logits - logits.max(axis=1, keepdims=True)  # softmax does not change, and exp can't overflow
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    loss = -log_p[np.arange(B), targets].mean()
    dlogits = np.exp(log_p)
    dlogits[np.arange(B), targets] -= 1
    return float(loss), dlogits / B


def backward(weights: Weights, inputs: list[np.ndarray], dlogits: np.ndarray) -> Weights:
    """[(∂L/∂W₁, ∂L/∂b₁), …], from the last layer to the first."""
    gradients = []
    dz = dlogits  # (B, out): ∂L/∂z of the layer at hand
    for (W, _), h in zip(reversed(weights), reversed(inputs), strict=True):
        gradients.append((dz.T @ h, dz.sum(axis=0)))  # z = h Wᵀ + b
        dh = dz @ W  # (B, in)
        dz = dh * (h > 0)  # h = relu(z of the layer below), whose slope is 1 where h > 0
    return gradients[::-1]


def step(weights: Weights, x: np.ndarray, targets: np.ndarray, lr: float = 0.1) -> float:
    """One step of gradient descent, θ ← θ − lr ∂L/∂θ, in place; returns the loss before it."""
    logits, inputs = forward(weights, x)
    loss, dlogits = cross_entropy(logits, targets)
    for (W, b), (dW, db) in zip(weights, backward(weights, inputs, dlogits), strict=True):
        W -= lr * dW
        b -= lr * db
    return loss

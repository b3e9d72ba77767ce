"""Figures of a classifier, from its logits."""

from __future__ import annotations

import math

import numpy as np

from scratch.losses import cross_entropy
from scratch.module import Module
from scratch.tensor import Tensor, no_grad


def predict(model: Module, inputs: np.ndarray, batch_size: int = 500) -> np.ndarray:
    """The model's outputs for all inputs, in evaluation mode and off the tape."""
    training = model.training
    model.eval()
    try:
        with no_grad():
            parts = [model(Tensor(inputs[i : i + batch_size])).data for i in range(0, len(inputs), batch_size)]
    finally:
        model.train(training)
    if not parts:
        raise ValueError("predict() needs at least one input, got none")
    return np.concatenate(parts)


def evaluate(model: Module, inputs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """{'loss': mean cross-entropy in nats, 'accuracy': share of right classes}"""
    logits = predict(model, inputs)
    return {"loss": cross_entropy(Tensor(logits), targets).item(), "accuracy": accuracy(logits, targets)}


def accuracy(logits: np.ndarray, targets: np.ndarray) -> float:
    """Share of rows whose largest entry stands at the target. Shapes: (N, classes), (N,)."""
    if len(logits) != len(targets) or not len(targets):
        raise ValueError(f"accuracy expected as many rows as targets, got {len(logits)} and {len(targets)}")
    return float((logits.argmax(axis=-1) == targets).mean())


def standard_error(share: float, n: int) -> float:
    """√(p (1 − p) / n): how far a share measured on n independent cases is from the true one, typically."""
    return math.sqrt(share * (1 - share) / n)


def confusion_matrix(targets: np.ndarray, predictions: np.ndarray, classes: int) -> np.ndarray:
    """M[i, j]: how often class i was taken for class j. Shapes: (N,), (N,) → (classes, classes)."""
    return np.bincount(targets * classes + predictions, minlength=classes * classes).reshape(classes, classes)

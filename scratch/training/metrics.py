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
    """Share of targets at which the largest logit stands. Shapes: (N, classes, …), (N, …); the dots are pixels."""
    labels = logits.argmax(axis=1)
    if labels.shape != targets.shape or not len(targets):
        raise ValueError(f"accuracy expected as many rows as targets, got {labels.shape} and {targets.shape}")
    return float((labels == targets).mean())


def standard_error(share: float, n: int) -> float:
    """√(p (1 − p) / n): how far a share measured on n independent cases is from the true one, typically."""
    return math.sqrt(share * (1 - share) / n)


def confusion_matrix(targets: np.ndarray, predictions: np.ndarray, classes: int) -> np.ndarray:
    """M[i, j]: how often class i was taken for class j. Shapes: (N,), (N,) → (classes, classes)."""
    return np.bincount(targets * classes + predictions, minlength=classes * classes).reshape(classes, classes)


def intersection_over_union(targets: np.ndarray, predictions: np.ndarray, classes: int) -> np.ndarray:
    """For each class |A ∩ B| / |A ∪ B|, A the pixels that have it and B those said to; nan for a class in neither.

    Shapes: labels (N, …) and (N, …) → (classes,).
    """
    matrix = confusion_matrix(targets.reshape(-1), predictions.reshape(-1), classes)
    both, either = np.diag(matrix), matrix.sum(axis=0) + matrix.sum(axis=1) - np.diag(matrix)
    return np.divide(both, either, out=np.full(classes, np.nan), where=either > 0)

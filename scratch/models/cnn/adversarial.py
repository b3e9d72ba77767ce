"""Adversarial examples: a change that nobody sees, and the answer is another.

A network that is nearly linear adds up what a change does over all n pixels: with a step of ε each along the sign of
the gradient the loss grows by about ε ‖∇L‖₁, and that grows with n, though the largest change of a pixel stays ε.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from scratch.losses import cross_entropy
from scratch.models.cnn.inside import in_one_pass, looking
from scratch.module import Module
from scratch.tensor import Array, Tensor, no_grad

Limits = tuple[float, float]


def fgsm(model: Module, images: Any, targets: Any, epsilon: float, limits: Limits | None = None) -> Array:
    """The images after one step that raises the loss, the fast gradient sign method:

        x' = x + ε sign(∂L/∂x),        L the cross-entropy of the true targets    (Goodfellow, Shlens, Szegedy 2015)

    Args: epsilon: the change of a pixel, in the images' own unit. limits: the values that a pixel may have, to which
        x' is cut.  Shapes: images (N, C, H, W), targets (N,) → (N, C, H, W).
    Raises ValueError for a negative ε and for numbers of images and targets that differ.
    """
    x, t = _array(images), _array(targets)
    if epsilon < 0:
        raise ValueError(f"fgsm expected an epsilon of at least 0, got {epsilon}")
    if x.ndim != 4 or x.dtype.kind != "f" or t.shape != (len(x),):
        raise ValueError(f"fgsm expected images (N, C, H, W) of floating-point numbers and targets (N,), got {x.dtype} "
                         f"{x.shape} and {t.shape}")  # fmt: skip
    moved = np.empty_like(x)
    with looking(model):
        for part in in_one_pass(x.shape):
            given = Tensor(x[part], requires_grad=True)
            cross_entropy(model(given), Tensor(t[part]), reduction="sum").backward()
            if given.grad is None:
                raise ValueError("fgsm: the loss does not depend on the images")
            moved[part] = x[part] + x.dtype.type(epsilon) * np.sign(given.grad)
    return moved if limits is None else np.clip(moved, *(x.dtype.type(limit) for limit in limits))


def adversarial_accuracy(
    model: Module, images: Any, targets: Any, epsilons: Sequence[float], limits: Limits | None = None
) -> list[float]:
    """The share of images still classified right after `fgsm` with each ε; at 0, the ordinary accuracy."""
    t = _array(targets)
    shares = []
    for epsilon in epsilons:
        moved = fgsm(model, images, t, epsilon, limits)
        with looking(model), no_grad():
            answers = [model(Tensor(moved[part])).data.argmax(axis=1) for part in in_one_pass(moved.shape)]
        shares.append(float((np.concatenate(answers) == t).mean()))
    return shares


def _array(values: Any) -> Array:
    return values.data if isinstance(values, Tensor) else np.asarray(values)

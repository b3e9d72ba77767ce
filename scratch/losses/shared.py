"""What all losses share: the reduction with its derivative, and checks that say what was expected."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from scratch.activations.elementwise import floating
from scratch.tensor import Array, Tensor, as_tensor

REDUCTIONS = ("mean", "sum", "none")


def reduce(
    loss: Array, reduction: str, count: float | None = None, shape: tuple[int, ...] | None = None
) -> tuple[Any, Callable[[Array], Any]]:
    """The reduced loss, and the map from dy = ∂L/∂y to g = ∂L/∂ℓ; the mean is over `count`, by default the elements."""
    if reduction == "none":
        return loss if shape is None else loss.reshape(shape), lambda dy: dy
    total = loss.sum()
    if reduction == "sum":
        return total, lambda dy: dy
    count = loss.size if count is None else count
    if count == 0:
        return total * math.nan, lambda dy: dy  # the weight of every ℓ is 0 already
    return total / count, lambda dy: dy / count


def pair(name: str, input: Any, target: Any, reduction: str, allowed: tuple[str, ...] = REDUCTIONS):
    """Input and target as tensors of one shape and one floating-point dtype."""
    check_reduction(name, reduction, allowed)
    x, t = floating(name, input), as_tensor(target)
    if t.shape != x.shape:
        raise ValueError(f"{name} expected a target of the input's shape {x.shape}, got {t.shape}")
    return x, cast(t, x)


def constant(name: str, what: str, value: Any, x: Tensor, shape: tuple[int, ...] | None = None) -> Array | None:
    """A weight as an array of x's dtype, of the given shape or else one that broadcasts to x's."""
    if value is None:
        return None
    tensor = as_tensor(value)
    if tensor.requires_grad:
        raise ValueError(f"{name}: {what} is a constant and cannot require a gradient")
    fits = tensor.shape == shape
    if shape is None:
        try:
            fits = np.broadcast_shapes(tensor.shape, x.shape) == x.shape
        except ValueError:
            fits = False
    if not fits:
        expected = f"shape {shape}" if shape is not None else f"a shape that broadcasts to {x.shape}"
        raise ValueError(f"{name} expected {what} of {expected}, got {tensor.shape}")
    return tensor.data.astype(x.dtype, copy=False)


def cast(t: Tensor, x: Tensor) -> Tensor:
    if t.dtype == x.dtype:
        return t
    return t.astype(x.dtype) if t.requires_grad else Tensor(t.data.astype(x.dtype))


def check_reduction(name: str, reduction: str, allowed: tuple[str, ...] = REDUCTIONS) -> None:
    if reduction not in allowed:
        raise ValueError(f"{name} expected reduction to be one of {', '.join(allowed)}, got {reduction!r}")

"""Finite differences against `backward()`: the proof that a derivative was derived right.

For L(x) = Σ v · f(x) with a *random* v,

    ∂L/∂xᵢ ≈ ( L(x + ε eᵢ) − L(x − ε eᵢ) ) / 2ε        error O(ε²) from the series, O(1e-16/ε) from rounding

v is random because v = 1 hides faults: a softmax row sums to 1 whatever its derivative is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from scratch.tensor import Tensor, no_grad


class GradcheckError(AssertionError):
    """A gradient differs from the finite difference."""


def gradcheck(
    function: Callable[..., Tensor],
    inputs: Sequence[Any],
    parameters: Mapping[str, Tensor] | None = None,
    eps: float = 1e-6,
    rtol: float = 1e-6,
    atol: float = 1e-7,
    seed: int = 0,
) -> bool:
    """Compare every element of every gradient of `function(*inputs)` with a central difference, in float64.

    Args: inputs: float64 arrays or tensors are checked; everything else is passed on as it is.
        parameters: further tensors that the function reads, by name: `dict(module.named_parameters())`; those that
            require no gradient are left out.
        rtol, atol: a difference passes below atol + rtol · |expected|.
    Raises GradcheckError naming function, argument, index, what came and what was expected; ValueError for float32.
    """
    arguments = [_prepare(value) for value in inputs]
    checked = {f"argument {i}": t for i, t in enumerate(arguments) if isinstance(t, Tensor) and t.requires_grad}
    checked |= {f"parameter {name}": t for name, t in (parameters or {}).items() if t.requires_grad}
    name = getattr(function, "__name__", type(function).__name__)
    for label, tensor in checked.items():
        if tensor.dtype != np.float64:
            raise ValueError(f"gradcheck({name}): {label} must be float64, got {tensor.dtype}")
        tensor.grad = None
    if not checked:
        raise ValueError(f"gradcheck({name}): no float64 input and no parameter to check")

    y = function(*arguments)
    v = np.random.default_rng(seed).standard_normal(y.shape)
    y.backward(v)

    def loss() -> float:
        with no_grad():
            return float((v * function(*arguments).data).sum())

    for label, tensor in checked.items():
        came = np.zeros(tensor.shape) if tensor.grad is None else tensor.grad
        tensor.grad = None
        for index in np.ndindex(tensor.shape):
            expected = _difference(loss, tensor.data, index, eps)
            if not abs(came[index] - expected) <= atol + rtol * abs(expected):
                raise GradcheckError(
                    f"gradient of {name} with respect to {label} of shape {tensor.shape} at index {index}: "
                    f"backward() gave {came[index]:.9g}, the finite difference is {expected:.9g}"
                )
    return True


def _difference(loss: Callable[[], float], x: np.ndarray, index: tuple[int, ...], eps: float) -> float:
    kept = x[index].copy()
    try:
        x[index] = kept + eps
        above = loss()
        x[index] = kept - eps
        below = loss()
    finally:
        x[index] = kept
    return (above - below) / (2 * eps)


def _prepare(value: Any) -> Any:
    """A private, trainable copy of a floating-point argument."""
    data = value.data if isinstance(value, Tensor) else value
    if isinstance(data, np.ndarray) and data.dtype.kind == "f":
        return Tensor(data.copy(), requires_grad=True)
    return value

"""Tensor: one NumPy array on the tape, and the primitive operations, each with its derivative right below it.

Methods follow NumPy (`axis`, `keepdims`); layers, activations and losses follow PyTorch (`dim`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from scratch.half import in_float32
from scratch.sums import average, total
from scratch.tape import Array, Backward, Node, is_grad_enabled, no_grad
from scratch.value import Value, as_index, kept, not_in_place, number, raw, restore

__all__ = [
    "Array", "Buffer", "Parameter", "Tensor", "as_pair", "as_tensor", "is_grad_enabled", "matmul", "no_grad", "record",
]  # fmt: skip

Axis = int | tuple[int, ...] | None


class Tensor(Value):
    """One array, its gradient, and how it was made.

    Args: data: array (kept, not copied: change it only after `backward`; indices, labels and masks are copied),
            number or nested list (a Python float becomes float32; arrays keep their dtype).
        requires_grad: collect ∂L/∂self in `.grad` when `backward()` is called on a later scalar L.
    Raises ValueError for data that are not real numbers, and for a gradient asked of integers.
    `==` compares identity, as Python's default; compare values with `.data`.
    """

    __slots__ = ()

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def detach(self) -> Tensor:
        """The same array as a leaf without history."""
        return Tensor(self.data)

    def __lt__(self, other: Any) -> Tensor:
        return Tensor(self.data < raw(other))

    def __le__(self, other: Any) -> Tensor:
        return Tensor(self.data <= raw(other))

    def __gt__(self, other: Any) -> Tensor:
        return Tensor(self.data > raw(other))

    def __ge__(self, other: Any) -> Tensor:
        return Tensor(self.data >= raw(other))

    # -- arithmetic ---------------------------------------------------------------------------------------------

    def __add__(self, other: Any) -> Tensor:
        """y = a + b"""
        a, b = as_pair(self, other)

        def backward(dy):
            return dy, dy

        return record(a.data + b.data, (a, b), backward)

    def __mul__(self, other: Any) -> Tensor:
        """y = a · b,  ∂y/∂a = b,  ∂y/∂b = a"""
        a, b = as_pair(self, other)

        def backward(dy):
            return dy * b.data if a.requires_grad else None, dy * a.data if b.requires_grad else None

        return record(a.data * b.data, (a, b), backward)

    def __sub__(self, other: Any) -> Tensor:
        """y = a − b"""
        a, b = as_pair(self, other)

        def backward(dy):
            return dy, -dy if b.requires_grad else None

        return record(a.data - b.data, (a, b), backward)

    def __truediv__(self, other: Any) -> Tensor:
        """y = a / b,  ∂y/∂a = 1/b,  ∂y/∂b = −y/b"""
        a, b = as_pair(self, other)
        y = np.true_divide(a.data, b.data)

        def backward(dy):
            da = dy / b.data
            return da, -da * y if b.requires_grad else None

        return record(y, (a, b), backward)

    def __pow__(self, exponent: float) -> Tensor:
        """y = xⁿ for a number n,  dy/dx = n xⁿ⁻¹ (for a tensor in the exponent write exp(n · log x))"""
        if not isinstance(exponent, (int, float, np.integer, np.floating)):
            raise ValueError(f"power: the exponent must be a number, got {type(exponent).__name__}")
        x, n = self.data, number(exponent)
        y = x * x if n == 2 else x**n  # the product is many times faster than the power

        def backward(dy):
            if n == 0:
                return (np.zeros_like(dy),)  # at x = 0 the formula would give 0 · 0⁻¹
            return (dy * (n * (x if n == 2 else x ** (n - 1))),)

        return record(y, (self,), backward)

    def __neg__(self) -> Tensor:
        """y = −x"""

        def backward(dy):
            return (-dy,)

        return record(-self.data, (self,), backward)

    __radd__, __rmul__ = __add__, __mul__

    def __rsub__(self, other: Any) -> Tensor:
        return as_tensor(other, like=self) - self

    def __rtruediv__(self, other: Any) -> Tensor:
        return as_tensor(other, like=self) / self

    def __matmul__(self, other: Any) -> Tensor:
        return matmul(self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return matmul(other, self)

    # -- functions of each element ------------------------------------------------------------------------------

    def exp(self) -> Tensor:
        """y = eˣ,  dy/dx = y"""
        y = np.exp(self.data)

        def backward(dy):
            return (dy * y,)

        return record(y, (self,), backward)

    def log(self) -> Tensor:
        """y = ln x,  dy/dx = 1/x"""

        def backward(dy):
            return (dy / self.data,)

        return record(np.log(self.data), (self,), backward)

    def sqrt(self) -> Tensor:
        """y = √x,  dy/dx = 1/2y"""
        y = np.sqrt(self.data)

        def backward(dy):
            return (dy / (2 * y),)

        return record(y, (self,), backward)

    def tanh(self) -> Tensor:
        """y = tanh x,  dy/dx = 1 − y²"""
        y = np.tanh(self.data)

        def backward(dy):
            return (dy * (1 - y * y),)

        return record(y, (self,), backward)

    def abs(self) -> Tensor:
        """y = |x|,  dy/dx = sign x (0 at 0, as in PyTorch)"""

        def backward(dy):
            return (dy * np.sign(self.data),)

        return record(np.abs(self.data), (self,), backward)

    __abs__ = abs

    def clip(self, min: float | None = None, max: float | None = None) -> Tensor:
        """y = x held between min and max,  dy/dx = 1 where min ≤ x ≤ max, else 0"""
        if min is None and max is None:
            raise ValueError("clip needs min, max or both")
        y = np.clip(self.data, number(min), number(max))

        def backward(dy):
            return (kept(dy, self.data == y),)

        return record(y, (self,), backward)

    # -- reductions ---------------------------------------------------------------------------------------------

    @in_float32
    def sum(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """y = Σ x over `axis`;  every summand receives dy"""

        def backward(dy):
            return (np.broadcast_to(restore(dy, axis, keepdims), self.shape),)

        return record(total(self.data, axis, keepdims), (self,), backward)

    @in_float32
    def mean(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """y = 1/n Σ x over `axis`;  every one of the n summands receives dy/n"""
        y = average(self.data, axis, keepdims)
        n = max(self.size // max(np.size(y), 1), 1)  # 1 where there is nothing to average

        def backward(dy):
            return (np.broadcast_to(restore(dy / n, axis, keepdims), self.shape),)

        return record(y, (self,), backward)

    @in_float32
    def max(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """y = largest x over `axis`;  dy goes there, in equal parts where several are largest (as torch.amax)"""
        y = self.data.max(axis=axis, keepdims=keepdims)

        def backward(dy):
            largest = self.data == restore(y, axis, keepdims)
            ties = largest.sum(axis=axis, keepdims=True, dtype=dy.dtype)
            return (largest * (restore(dy, axis, keepdims) / ties),)

        return record(y, (self,), backward)

    # -- the same elements, arranged otherwise ------------------------------------------------------------------

    def reshape(self, *shape: Any) -> Tensor:
        """The same elements in another shape (one axis may be −1)."""

        def backward(dy):
            return (dy.reshape(self.shape),)

        return record(self.data.reshape(*shape), (self,), backward)

    def transpose(self, *axes: Any) -> Tensor:
        """Axes in another order, reversed if none is given;  the gradient takes the inverse permutation"""
        order = axes[0] if len(axes) == 1 and not isinstance(axes[0], (int, np.integer)) else axes or None
        inverse = None if order is None else np.argsort([axis % self.ndim for axis in order])

        def backward(dy):
            return (dy.transpose(inverse),)

        return record(self.data.transpose(order), (self,), backward)

    @property
    def T(self) -> Tensor:
        return self.transpose()

    def swapaxes(self, axis1: int, axis2: int) -> Tensor:
        """Two axes exchanged;  the gradient exchanges them back"""

        def backward(dy):
            return (dy.swapaxes(axis1, axis2),)

        return record(self.data.swapaxes(axis1, axis2), (self,), backward)

    @in_float32
    def __getitem__(self, index: Any) -> Tensor:
        """y = x[index];  dy is added where y was read, as often as it was read"""
        index, basic = as_index(index)

        def backward(dy):
            dx = np.zeros(self.shape, dy.dtype)
            if basic:
                dx[index] = dy
            else:
                np.add.at(dx, index, dy)  # integer arrays may name an element twice
            return (dx,)

        return record(self.data[index], (self,), backward)

    def astype(self, dtype: Any) -> Tensor:
        """The same values in another type;  the engine casts the gradient back, and integers and bools carry none"""
        y = self.data.astype(dtype)

        def backward(dy):
            return (dy,)

        return record(y, (self,), backward) if y.dtype.kind == "f" else Tensor(y)


class Parameter(Tensor):
    """A tensor that a module trains: `Module.parameters()` finds it, optimisers write into its `data`."""

    __slots__ = ()
    __iadd__ = __isub__ = __imul__ = __itruediv__ = not_in_place

    def __init__(self, data: Any, requires_grad: bool = True, dtype: Any = None):
        super().__init__(data, requires_grad, dtype)


class Buffer(Tensor):
    """An array that belongs to a module's state but is not trained, such as running statistics."""

    __slots__ = ()
    __iadd__ = __isub__ = __imul__ = __itruediv__ = not_in_place


@in_float32
def matmul(a: Any, b: Any) -> Tensor:
    """y = a b over the last two axes, any axes before them broadcast:  ∂L/∂a = dy bᵀ,  ∂L/∂b = aᵀ dy

    Shapes: (..., n, k) and (..., k, m) → (..., n, m); a vector is a row on the left, a column on the right.
    """
    a, b = as_pair(a, b)
    if a.ndim == 0 or b.ndim == 0 or a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0]:
        raise ValueError(f"matmul expected (..., n, k) and (..., k, m), got {a.shape} and {b.shape}")

    def backward(dy):
        A = a.data if a.ndim > 1 else a.data[None, :]
        B = b.data if b.ndim > 1 else b.data[:, None]
        dy = dy if b.ndim > 1 else dy[..., None]
        dy = dy if a.ndim > 1 else dy[..., None, :]
        da = dy @ B.swapaxes(-1, -2) if a.requires_grad else None
        db = A.swapaxes(-1, -2) @ dy if b.requires_grad else None
        return da, db[..., 0] if db is not None and b.ndim == 1 else db

    return record(a.data @ b.data, (a, b), backward)


# -- making tensors ----------------------------------------------------------------------------------------------


def record(y: Any, parents: tuple[Tensor, ...], backward: Backward) -> Tensor:
    """An operation's result as a Tensor that remembers its parents and its derivative."""
    out = Tensor.__new__(Tensor)  # without the checks of what a user gives
    Node.__init__(out, np.asarray(y), False)
    out.made_by(parents, backward)
    return out


def as_tensor(x: Any, like: Tensor | None = None) -> Tensor:
    """`x` itself if it is a Tensor, else a constant.

    Beside a floating-point `like`, numbers, lists and integers take its dtype, so float32 stays float32; an array or
    tensor of another floating-point type keeps its own, and NumPy promotes.
    """
    if like is not None:
        x = number(x)
        if like.data.dtype.kind == "f" and not (isinstance(x, (Tensor, np.ndarray)) and x.dtype.kind == "f"):
            return Tensor(raw(x), dtype=like.data.dtype)
        if isinstance(x, int):
            return Tensor(x, dtype=np.result_type(like.data.dtype, x))
    return x if isinstance(x, Tensor) else Tensor(x)


def as_pair(a: Any, b: Any) -> tuple[Tensor, Tensor]:
    """Both operands as Tensors; numbers and integers take the floating-point type of the other one."""
    b = as_tensor(b, like=a if isinstance(a, Tensor) else None)
    return as_tensor(a, like=b), b

"""Value: what an array on the tape tells about itself, and what may become one."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from scratch.tape import Array, Node

KINDS = "fiub"  # NumPy's letters for floating-point numbers, integers, unsigned integers and booleans


class Value(Node):
    """A node that can be asked: its shape, its numbers, its text. `Tensor` adds the operations."""

    __slots__ = ()
    __array_ufunc__ = None  # `ndarray * Tensor` becomes ours, and np.exp(Tensor) an error instead of a silent detach

    def __init__(self, data: Any, requires_grad: bool = False, dtype: Any = None):
        array = as_array(data, dtype)
        if requires_grad and array.dtype.kind != "f":
            raise ValueError(f"only floating-point tensors can require a gradient, got dtype {array.dtype}")
        super().__init__(array, requires_grad)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def ndim(self) -> int:
        return self.data.ndim

    @property
    def size(self) -> int:
        return self.data.size

    @property
    def dtype(self) -> np.dtype:
        return self.data.dtype

    def __len__(self) -> int:
        return len(self.data)

    __contains__ = None  # `3 in tensor` would compare identities, and always be False

    def __repr__(self) -> str:
        name = type(self).__name__
        numbers = np.array2string(self.data, separator=", ", prefix=f"{name}(", threshold=200, precision=4)
        note = f", op={self.op}" if self.op else (", requires_grad=True" if self.requires_grad else "")
        return f"{name}({numbers}, dtype={self.dtype}{note})"

    def item(self) -> Any:
        """The one number in it, as a Python number."""
        if self.size != 1:
            raise ValueError(f"item() needs a tensor of one element, got shape {self.shape}")
        return self.data.item()

    def numpy(self) -> Array:
        """The array itself; as in PyTorch, only where no gradient would be lost silently."""
        if self.requires_grad:
            raise ValueError("this tensor requires a gradient; use .detach().numpy(), or .data, to leave the tape")
        return self.data

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else repr(self)

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        return bool(self.item())


def as_array(data: Any, dtype: Any) -> Array:
    """An array of real numbers; Python's own numbers become float32. Raises ValueError for anything else."""
    if isinstance(data, Node):
        raise ValueError("Tensor(Tensor) would lose the tape; use the tensor itself, or .detach()")
    array = np.asarray(data)
    if dtype is None and not isinstance(data, (np.ndarray, np.generic)) and array.dtype == np.float64:
        dtype = np.float32  # Python numbers and lists: PyTorch's default dtype
    if dtype is not None and array.dtype.kind in KINDS:  # looked at first: None as float32 would be NaN
        array = np.asarray(data, dtype=dtype)
    if array.dtype.kind not in KINDS:
        raise ValueError(f"a Tensor holds real numbers, got {type(data).__name__} of dtype {array.dtype}")
    return array


def raw(x: Any) -> Any:
    """The array inside a node; everything else as it is."""
    return x.data if isinstance(x, Node) else x


def as_index(index: Any) -> tuple[Any, bool]:
    """An index without Tensors, and whether it is basic: it reads no element twice.

    Arrays and lists in it are copied, since the caller may write into them before `backward` reads them again.
    """
    if isinstance(index, tuple):
        parts = [as_index(part) for part in index]
        return tuple(part for part, _ in parts), all(basic for _, basic in parts)
    if isinstance(index, (int, np.integer, slice, type(None), type(Ellipsis))):
        return index, True
    return copy.deepcopy(index) if isinstance(index, list) else np.array(raw(index)), False


def not_in_place(self: Value, other: Any) -> Any:
    """What `p += step` does to parameters and buffers: raises ValueError."""
    raise ValueError(
        f"`p -= step` on a {type(self).__name__} would bind the name p to a new Tensor and leave the module's array "
        "as it was; write `p.data -= step`"
    )


def number(x: Any) -> Any:
    """NumPy's scalars as Python numbers, which don't promote float32 to float64; everything else as it is."""
    return x.item() if isinstance(x, np.generic) or (isinstance(x, np.ndarray) and x.ndim == 0) else x


def kept(dy: Array, mask: Any) -> Array:
    """dy where the mask holds, else 0, also of ∞ and NaN, whose product with 0 would be NaN.

    The product is one of bits, seen as whole numbers: as fast, and without `np.where`'s branch, 10 to 70 times slower.
    """
    whole = np.dtype(f"i{dy.dtype.itemsize}")
    dx = np.empty_like(dy)
    bits = dx.view(whole)
    bits[...] = mask
    bits *= dy.view(whole)
    return dx


def restore(y: Any, axis: Any, keepdims: bool) -> Any:
    """A reduction's result with the reduced axes put back as ones, so that it broadcasts against the input."""
    return y if keepdims or axis is None else np.expand_dims(y, axis)

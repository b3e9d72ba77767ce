"""Operations on several tensors: join them, stack them, choose between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from scratch.tensor import Tensor, as_pair, as_tensor, record
from scratch.value import raw


def concatenate(tensors: Sequence[Any], axis: int = 0) -> Tensor:
    """Tensors joined along an existing axis;  dy is cut at the same places"""
    parents = tuple(as_tensor(tensor) for tensor in tensors)
    y = np.concatenate([parent.data for parent in parents], axis=axis)
    cuts = np.cumsum([parent.shape[axis] for parent in parents])[:-1]

    def backward(dy):
        return tuple(np.split(dy, cuts, axis=axis))

    return record(y, parents, backward)


def stack(tensors: Sequence[Any], axis: int = 0) -> Tensor:
    """Tensors of one shape joined along a new axis;  each receives its slice of dy"""
    parents = tuple(as_tensor(tensor) for tensor in tensors)

    def backward(dy):
        return tuple(np.moveaxis(dy, axis, 0))

    return record(np.stack([parent.data for parent in parents], axis=axis), parents, backward)


def where(condition: Any, a: Any, b: Any) -> Tensor:
    """y = a where the condition holds, else b;  dy goes to the one that was taken"""
    condition = np.array(raw(condition), dtype=bool)  # copied: the caller may refill it before backward
    a, b = as_pair(a, b)

    def backward(dy):
        da = np.where(condition, dy, 0) if a.requires_grad else None
        return da, np.where(condition, 0, dy) if b.requires_grad else None

    return record(np.where(condition, a.data, b.data), (a, b), backward)

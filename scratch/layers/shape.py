"""Layers that only rearrange, or do nothing: what `Sequential` needs between the others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from scratch.module import Module
from scratch.tensor import Tensor, as_tensor


def flatten(x: Any, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """The axes from `start_dim` to `end_dim`, both included, joined into one.

    Shapes: (a, b, c, d) with 1, 2 → (a, b·c, d). Raises ValueError for axes that x does not have.
    """
    x = as_tensor(x)
    first, last = _axis("Flatten", start_dim, x), _axis("Flatten", end_dim, x)
    if first > last:
        raise ValueError(f"Flatten expected start_dim before end_dim, got {start_dim} and {end_dim} for {x.shape}")
    return x.reshape(*x.shape[:first], math.prod(x.shape[first : last + 1]), *x.shape[last + 1 :])


class Flatten(Module):
    """All axes from `start_dim` to `end_dim` joined into one; the first, the batch, is kept unless asked.

    Shapes: (N, C, H, W) → (N, C·H·W). Raises ValueError for axes that the input does not have.
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1):
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, x: Any) -> Tensor:
        return flatten(x, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """Axis `dim` cut into axes of `unflattened_size`, one of which may be −1; undoes `Flatten`.

    Shapes: (N, C·H·W) with 1, (C, H, W) → (N, C, H, W). Raises ValueError for an axis of another size.
    """

    def __init__(self, dim: int, unflattened_size: Sequence[int]):
        sizes = tuple(unflattened_size)
        if not sizes or sizes.count(-1) > 1 or any(size < 1 and size != -1 for size in sizes):
            raise ValueError(f"Unflatten expected sizes of at least 1 and at most one -1, got {sizes}")
        self.dim = dim
        self.unflattened_size = sizes

    def forward(self, x: Any) -> Tensor:
        x = as_tensor(x)
        axis, sizes = _axis(self, self.dim, x), self.unflattened_size
        known = abs(math.prod(sizes))  # of all but −1, the missing one
        missing, rest = divmod(x.shape[axis], known)
        if rest or (-1 not in sizes and missing != 1):
            raise ValueError(f"{self!r} cannot cut axis {axis} of shape {x.shape} into {sizes}")
        cut = [missing if size == -1 else size for size in sizes]
        return x.reshape(*x.shape[:axis], *cut, *x.shape[axis + 1 :])

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"


class Identity(Module):
    """y = x: the part to put where an ablation takes one out. Arguments are accepted and ignored, as in PyTorch."""

    def __init__(self, *args: Any, **kwargs: Any):
        pass

    def forward(self, x: Any) -> Any:
        return x


def _axis(who: Any, dim: int, x: Tensor) -> int:
    """`dim` counted from the front. Raises ValueError where x has no such axis."""
    if not -x.ndim <= dim < x.ndim:
        raise ValueError(f"{who} expected an input with an axis {dim}, got shape {x.shape}")
    return dim % x.ndim

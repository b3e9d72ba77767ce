"""float16 is for storage: what would lose digits or overflow in it is computed in float32, and rounded once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from scratch.tape import Node

HALF = np.dtype(np.float16)
Operation = TypeVar("Operation", bound=Callable[..., Any])


def in_float32(operation: Operation) -> Operation:
    """An operation that sees its float16 arguments as float32, forward and backward.

    Its result is float16 again, unless a tensor of a wider type took part, as NumPy promotes.
    """

    @functools.wraps(operation)
    def computed(*args: Any, **kwargs: Any) -> Any:
        for x in (*args, *kwargs.values()) if kwargs else args:
            array = x.data if isinstance(x, Node) else x
            if isinstance(array, np.ndarray) and array.dtype == HALF:
                y = operation(*map(_widened, args), **{name: _widened(x) for name, x in kwargs.items()})
                return y if any(map(_is_wider, (*args, *kwargs.values()))) else _rounded(y)
        return operation(*args, **kwargs)

    return computed  # type: ignore[return-value]


def in_float32_like_first(operation: Operation) -> Operation:
    """`in_float32` whose result has the type of the first argument, as a loss has its input's."""
    computed = in_float32(operation)

    @functools.wraps(operation)
    def like_first(*args: Any, **kwargs: Any) -> Any:
        first = args[0] if args else kwargs.get("input", kwargs.get("query"))
        if isinstance(first, ARRAYS) and first.dtype == HALF:
            return _rounded(computed(*args, **kwargs))
        return operation(*args, **kwargs)

    return like_first  # type: ignore[return-value]


ARRAYS: Any = (Node, np.ndarray)


def _widened(x: Any) -> Any:
    if isinstance(x, ARRAYS):
        return x.astype(np.float32) if x.dtype == HALF else x
    return type(x)(map(_widened, x)) if type(x) in (tuple, list) else x


def _is_wider(x: Any) -> bool:
    return isinstance(x, Node) and x.data.dtype.kind == "f" and x.data.dtype != HALF


def _rounded(y: Any) -> Any:
    tensor: Any = y
    if isinstance(y, Node):
        return tensor.astype(HALF) if y.data.dtype == np.float32 else y
    return tuple(map(_rounded, y)) if isinstance(y, tuple) else y

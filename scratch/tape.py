"""The tape: how a computed array remembers where it came from, and the walk back that gives every derivative.

An operation computes with NumPy, defines `backward(dy)` right below the formula, and records its result with the
nodes that went in, its parents. `backward` *returns* the gradients of those parents, in their order; only the engine
(`Node.backward`) adds them up, undoes broadcasting and walks the tape.

    y = f(a, b)      L a later scalar      dy = ∂L/∂y   →   backward(dy) = (∂L/∂a, ∂L/∂b)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import numpy as np

from scratch.scope import Scope
from scratch.sums import column_sums

Array = np.ndarray
Backward = Callable[[Array], tuple]

_recording: ContextVar[bool] = ContextVar("recording", default=True)
_births = itertools.count()


def no_grad() -> Scope:
    """Record nothing inside the `with` block (or the decorated function); holds for the current thread only."""
    return Scope(_recording, lambda: False)


def is_grad_enabled() -> bool:
    """Whether operations are being recorded in this thread."""
    return _recording.get()


class Node:
    """An array on the tape: `data`, the gradient `grad`, and how it was made. `Tensor` adds the operations."""

    __slots__ = ("data", "grad", "requires_grad", "_parents", "_backward", "_birth", "_retains_grad", "__weakref__")

    def __init__(self, data: Array, requires_grad: bool):
        self.data = data
        self.grad: Array | None = None
        self.requires_grad = requires_grad
        self._parents: tuple[Node, ...] = ()
        self._backward: Backward | None = None
        self._birth = next(_births)
        self._retains_grad = False

    @property
    def is_leaf(self) -> bool:
        """Whether it was given rather than computed on the tape."""
        return self._backward is None

    @property
    def op(self) -> str:
        """Name of the operation that made it, '' for a leaf: 'matmul' from `matmul.<locals>.backward`."""
        if self._backward is None:
            return ""
        return self._backward.__qualname__.rsplit(".<locals>", 1)[0].split(".")[-1].strip("_")

    def retain_grad(self) -> None:
        """Keep `.grad` of this computed node too (it is dropped otherwise, to save memory)."""
        self._retains_grad = True

    def made_by(self, parents: tuple[Node, ...], backward: Backward) -> None:
        """Remember how this result came about, if recording is on and any parent requires a gradient."""
        if _recording.get():
            for parent in parents:
                if parent.requires_grad:
                    self.requires_grad, self._parents, self._backward = True, parents, backward
                    return

    def backward(self, gradient: Any = None, retain_graph: bool = False) -> None:
        """Add ∂L/∂leaf to `.grad` of every leaf that requires one, for L = Σ gradient · self.

        The tape is released while it is walked, so that memory falls; `retain_graph=True` keeps it.
        Raises ValueError without a gradient for a non-scalar, and for a tape that was already released.
        """
        if not self.requires_grad:
            raise ValueError("backward() on a tensor that requires no gradient: nothing on its tape is trainable")
        seed = self._seed(gradient)
        tape = ancestors(self)
        pending: dict[int, Array] = {id(self): seed}  # ∂L/∂y of the nodes y still to be visited
        owned: set[int] = set()  # whose pending array the engine allocated, and so may add into
        borrowed: set[int] = {id(self)}  # whose pending array somebody else may hold
        while tape:
            y = tape.pop()  # the youngest: everything computed from it was born later, and is done
            dy = pending.pop(id(y), None)
            if dy is None:
                continue
            if y.is_leaf or y._retains_grad:
                own = dy.copy() if id(y) in borrowed else dy
                y.grad = own if y.grad is None else np.asarray(y.grad + own)
            if y._backward is None:
                continue
            held = {id(dy)}  # arrays that are somebody's pending gradient already
            for position, (x, dx) in enumerate(zip(y._parents, _gradients(y, dy), strict=True)):
                if dx is None or not x.requires_grad:
                    continue
                dx, key = _fit(dx, y, position), id(x)
                if key not in pending:
                    pending[key] = dx
                    if id(dx) in held or dx.base is not None:
                        borrowed.add(key)
                    held.add(id(dx))
                elif key in owned:
                    pending[key] += dx
                else:
                    pending[key] = np.asarray(pending[key] + dx)
                    owned.add(key)
                    borrowed.discard(key)
            if not retain_graph:
                y._parents, y._backward = (), _released

    def _seed(self, gradient: Any) -> Array:
        if gradient is None:
            if self.data.size != 1:
                raise ValueError(f"backward() without a gradient needs one number, got shape {self.data.shape}")
            return np.ones_like(self.data)
        seed = np.asarray(gradient.data if isinstance(gradient, Node) else gradient, dtype=self.data.dtype)
        if seed.shape != self.data.shape:
            raise ValueError(f"backward() expected a gradient of shape {self.data.shape}, got {seed.shape}")
        return seed


def ancestors(root: Node) -> list[Node]:
    """Everything that `root` was computed from and that requires a gradient, root included, oldest first."""
    found, stack = {id(root): root}, [root]
    while stack:
        y = stack.pop()
        if y._backward is _released:
            _released(y.data)
        for parent in y._parents:
            if parent.requires_grad and id(parent) not in found:
                found[id(parent)] = parent
                stack.append(parent)
    return sorted(found.values(), key=lambda node: node._birth)


def unbroadcast(gradient: Array, shape: tuple[int, ...]) -> Array:
    """Sum over the axes along which an operand of `shape` was repeated: the transpose of broadcasting."""
    extra = gradient.ndim - len(shape)
    repeated = tuple(
        axis for axis, n in enumerate(gradient.shape) if axis < extra or (shape[axis - extra] == 1 and n != 1)
    )
    wide = np.float32 if gradient.dtype == np.float16 else None  # in float16 a long sum stops at 2048 times a summand
    if extra > 0 and shape and gradient.shape[extra:] == shape and wide is None:  # such as a bias
        return column_sums(gradient.reshape(math.prod(gradient.shape[:extra]), math.prod(shape))).reshape(shape)
    summed = gradient.sum(axis=repeated, keepdims=True, dtype=wide)
    if extra < 0 or summed.shape[extra:] != shape:
        raise ValueError(f"an operand of shape {shape} does not broadcast to {gradient.shape}")
    return summed.reshape(shape)


def _gradients(y: Node, dy: Array) -> tuple:
    """What the operation's backward returns, one for each parent."""
    gradients = y._backward(dy) if y._backward is not None else ()
    if not isinstance(gradients, (tuple, list)) or len(gradients) != len(y._parents):
        came = len(gradients) if isinstance(gradients, (tuple, list)) else type(gradients).__name__
        raise ValueError(f"backward of {y.op} must return a tuple of {len(y._parents)} gradients, got {came}")
    return gradients


def _fit(dx: Any, y: Node, position: int) -> Array:
    """A returned gradient in its parent's shape and dtype."""
    x, dx = y._parents[position].data, np.asarray(dx)
    if dx.shape != x.shape:
        try:
            dx = unbroadcast(dx, x.shape)
        except ValueError:
            message = f"backward of {y.op} returned shape {dx.shape} for input {position} of shape {x.shape}"
            raise ValueError(message) from None
    return dx if dx.dtype == x.dtype else dx.astype(x.dtype)


def _released(dy: Array) -> tuple:
    raise ValueError("backward() a second time: the tape was released; compute the loss again, or retain_graph=True")

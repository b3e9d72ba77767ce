"""The primitive operations against PyTorch's, ties, bounds and repeated indices included."""

import operator

import numpy as np

from scratch.combine import concatenate, stack, where
from tests.parity import Case

rng = np.random.default_rng(0)


def normal(*shape):
    return rng.standard_normal(shape)


def positive(*shape):
    return rng.uniform(0.5, 2.0, shape)


def torch_function(name):
    import torch

    return getattr(torch, name)


def same(name, function, *inputs):
    """The very same expression on both sides."""
    return Case(name, inputs, function, lambda: function)


def reduction(name, axis, keepdims):
    theirs = "amax" if name == "max" else name
    dim = tuple(range(3)) if axis is None else axis

    def make():
        return lambda x: torch_function(theirs)(x, dim=dim, keepdim=keepdims)

    x = rng.integers(0, 3, (2, 3, 4)).astype(float)  # many ties for max
    ours = operator.methodcaller(name, axis=axis, keepdims=keepdims)
    return Case(f"{name} axis={axis} keepdims={keepdims}", (x,), ours, make)


def indexed(name, index):
    return same(f"getitem {name}", operator.itemgetter(index), normal(2, 3, 4))


MASK = rng.random((3, 4)) < 0.5
TIES = np.array([[-1.5, -1.0, -0.0, 0.0], [0.25, 1.0, 1.5, 0.25], [1.0, -1.0, 0.0, 0.25]])

CASES = [
    same("add", operator.add, normal(2, 3, 1), normal(3, 4)),
    same("sub", operator.sub, normal(2, 3, 1), normal(3, 4)),
    same("mul", operator.mul, normal(2, 3, 1), normal(3, 4)),
    same("div", operator.truediv, normal(2, 3, 1), positive(3, 4)),
    same("x + x", lambda x: x + x, normal(2, 3)),
    same("numbers on both sides", lambda x: 2 - (3 + 2.5 * x - 0.5) / 4 + 1.5 / (x * x + 1), normal(2, 3)),
    same("neg", operator.neg, normal(2, 3)),
    *(same(f"power {n}", lambda x, n=n: x**n, positive(2, 3)) for n in (0, 1, 2, 3, -1, 0.5, -2.5)),
    *(same(f"power {n} of zero", lambda x, n=n: x**n, TIES) for n in (0, 1, 2, 3)),
    *(same(name, operator.methodcaller(name), positive(2, 3)) for name in ("exp", "log", "sqrt", "tanh")),
    same("sqrt far away", lambda x: (x * x + 1e-12).sqrt(), normal(2, 3)),
    same("tanh saturated", lambda x: x.tanh(), 20 * normal(2, 3)),
    same("abs, zeros among them", abs, TIES),
    Case("clip at its bounds", (TIES,), lambda x: x.clip(-1, 1), lambda: lambda x: x.clamp(-1, 1)),
    Case("clip below", (TIES,), lambda x: x.clip(min=0), lambda: lambda x: x.clamp(min=0)),
    Case("clip above", (TIES,), lambda x: x.clip(max=0.25), lambda: lambda x: x.clamp(max=0.25)),
    *(reduction(name, a, k) for name in ("sum", "mean", "max") for a in (None, 1, -1, (0, 2)) for k in (False, True)),
    same("max of everything", lambda x: x.max(), normal(3, 4)),
    same("reshape", lambda x: x.reshape(4, -1), normal(2, 3, 4)),
    Case("transpose", (normal(2, 3, 4),), lambda x: x.transpose(2, 0, 1), lambda: lambda x: x.permute(2, 0, 1)),
    same("T", lambda x: x.T, normal(2, 3)),
    same("swapaxes", lambda x: x.swapaxes(0, -1), normal(2, 3, 4)),
    indexed("row", 1),
    indexed("slices", np.s_[:, 1:, ::2]),
    indexed("new axis and ellipsis", np.s_[1, ..., None, 2:]),
    indexed("repeated rows", [1, 0, 1, 1]),
    indexed("repeated pairs", np.s_[:, [0, 2, 0, 0], [1, 1, 0, 1]]),
    indexed("integers around a slice", np.s_[[0, 1, 1], :, [3, 0, 0]]),
    indexed("column and row of integers", np.s_[[[0], [1]], [2, 2, 0]]),
    *(
        same(f"matmul {a} {b}", operator.matmul, normal(*a), normal(*b))
        for a, b in [
            ((3,), (3,)),
            ((2, 3), (3,)),
            ((2,), (2, 3)),
            ((2, 3), (3, 4)),
            ((5, 2, 3), (3,)),
            ((2,), (5, 2, 3)),
            ((5, 2, 3), (3, 4)),
            ((2, 3), (5, 3, 4)),
            ((6, 1, 2, 3), (5, 3, 4)),
        ]
    ),
    Case(
        "concatenate",
        (normal(2, 3), normal(2, 1), normal(2, 4)),
        lambda *t: concatenate(t, axis=-1),
        lambda: lambda *t: torch_function("cat")(t, dim=-1),
    ),
    Case(
        "stack",
        (normal(2, 3), normal(2, 3)),
        lambda a, b: stack([a, b, a], axis=1),
        lambda: lambda a, b: torch_function("stack")([a, b, a], dim=1),
    ),
    Case(
        "where",
        (MASK, normal(3, 1), normal(4)),
        where,
        lambda: lambda condition, a, b: torch_function("where")(condition, a, b),
    ),
    same("diamonds", lambda x: (x * x + x.exp()) * x + (x * x + x.exp()).tanh() / (x * x + 2), normal(2, 3)),
    same(
        "standardised, then projected",
        lambda x, w: ((x - x.mean(axis=-1, keepdims=True)) / ((x * x).mean(axis=-1, keepdims=True)).sqrt()) @ w,
        normal(2, 3, 4),
        normal(4, 5),
    ),
]

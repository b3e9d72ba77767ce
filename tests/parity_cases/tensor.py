"""The primitive operations against PyTorch's, ties, bounds and repeated indices included."""

import operator

import numpy as np

from scratch.combine import concatenate, stack, where
from tests.parity import Case


def normal(rng, *shape):
    return rng.standard_normal(shape)


def positive(rng, *shape):
    return rng.uniform(0.5, 2.0, shape)


def torch_function(name):
    import torch

    return getattr(torch, name)


def same(name, function, *inputs):
    """The very same expression on both sides."""
    return Case(name, inputs, function, lambda: function)


def reduction(rng, name, axis, keepdims):
    theirs = "amax" if name == "max" else name
    dim = tuple(range(3)) if axis is None else axis

    def make():
        return lambda x: torch_function(theirs)(x, dim=dim, keepdim=keepdims)

    x = rng.integers(0, 3, (2, 3, 4)).astype(float)  # many ties for max
    ours = operator.methodcaller(name, axis=axis, keepdims=keepdims)
    return Case(f"{name} axis={axis} keepdims={keepdims}", (x,), ours, make)


def indexed(rng, name, index):
    return same(f"getitem {name}", operator.itemgetter(index), normal(rng, 2, 3, 4))


TIES = np.array([[-1.5, -1.0, -0.0, 0.0], [0.25, 1.0, 1.5, 0.25], [1.0, -1.0, 0.0, 0.25]])


def cases():
    rng = np.random.default_rng(0)
    mask = rng.random((3, 4)) < 0.5
    return [
        same("add", operator.add, normal(rng, 2, 3, 1), normal(rng, 3, 4)),
        same("sub", operator.sub, normal(rng, 2, 3, 1), normal(rng, 3, 4)),
        same("mul", operator.mul, normal(rng, 2, 3, 1), normal(rng, 3, 4)),
        same("div", operator.truediv, normal(rng, 2, 3, 1), positive(rng, 3, 4)),
        same("x + x", lambda x: x + x, normal(rng, 2, 3)),
        same("numbers on both sides", lambda x: 2 - (3 + 2.5 * x - 0.5) / 4 + 1.5 / (x * x + 1), normal(rng, 2, 3)),
        same("neg", operator.neg, normal(rng, 2, 3)),
        *(same(f"power {n}", lambda x, n=n: x**n, positive(rng, 2, 3)) for n in (0, 1, 2, 3, -1, 0.5, -2.5)),
        *(same(f"power {n} of zero", lambda x, n=n: x**n, TIES) for n in (0, 1, 2, 3)),
        *(same(name, operator.methodcaller(name), positive(rng, 2, 3)) for name in ("exp", "log", "sqrt", "tanh")),
        same("sqrt far away", lambda x: (x * x + 1e-12).sqrt(), normal(rng, 2, 3)),
        same("tanh saturated", lambda x: x.tanh(), 20 * normal(rng, 2, 3)),
        same("abs, zeros among them", abs, TIES),
        Case("clip at its bounds", (TIES,), lambda x: x.clip(-1, 1), lambda: lambda x: x.clamp(-1, 1)),
        Case("clip below", (TIES,), lambda x: x.clip(min=0), lambda: lambda x: x.clamp(min=0)),
        Case("clip above", (TIES,), lambda x: x.clip(max=0.25), lambda: lambda x: x.clamp(max=0.25)),
        *(
            reduction(rng, name, axis, keepdims)
            for name in ("sum", "mean", "max") for axis in (None, 1, -1, (0, 2)) for keepdims in (False, True)
        ),
        same("max of everything", lambda x: x.max(), normal(rng, 3, 4)),
        same("reshape", lambda x: x.reshape(4, -1), normal(rng, 2, 3, 4)),
        Case(
            "transpose", (normal(rng, 2, 3, 4),),
            lambda x: x.transpose(2, 0, 1), lambda: lambda x: x.permute(2, 0, 1),
        ),
        same("T", lambda x: x.T, normal(rng, 2, 3)),
        same("swapaxes", lambda x: x.swapaxes(0, -1), normal(rng, 2, 3, 4)),
        indexed(rng, "row", 1),
        indexed(rng, "slices", np.s_[:, 1:, ::2]),
        indexed(rng, "new axis and ellipsis", np.s_[1, ..., None, 2:]),
        indexed(rng, "repeated rows", [1, 0, 1, 1]),
        indexed(rng, "repeated pairs", np.s_[:, [0, 2, 0, 0], [1, 1, 0, 1]]),
        indexed(rng, "integers around a slice", np.s_[[0, 1, 1], :, [3, 0, 0]]),
        indexed(rng, "column and row of integers", np.s_[[[0], [1]], [2, 2, 0]]),
        *(
            same(f"matmul {a} {b}", operator.matmul, normal(rng, *a), normal(rng, *b))
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
            (normal(rng, 2, 3), normal(rng, 2, 1), normal(rng, 2, 4)),
            lambda *t: concatenate(t, axis=-1),
            lambda: lambda *t: torch_function("cat")(t, dim=-1),
        ),
        Case(
            "stack",
            (normal(rng, 2, 3), normal(rng, 2, 3)),
            lambda a, b: stack([a, b, a], axis=1),
            lambda: lambda a, b: torch_function("stack")([a, b, a], dim=1),
        ),
        Case(
            "where",
            (mask, normal(rng, 3, 1), normal(rng, 4)),
            where,
            lambda: lambda condition, a, b: torch_function("where")(condition, a, b),
        ),
        same("diamonds", lambda x: (x * x + x.exp()) * x + (x * x + x.exp()).tanh() / (x * x + 2), normal(rng, 2, 3)),
        same(
            "standardised, then projected",
            lambda x, w: ((x - x.mean(axis=-1, keepdims=True)) / ((x * x).mean(axis=-1, keepdims=True)).sqrt()) @ w,
            normal(rng, 2, 3, 4),
            normal(rng, 4, 5),
        ),
    ]

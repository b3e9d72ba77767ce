"""Activations over their arguments: random values, exact zeros, the kinks, and the far ends."""

import numpy as np

from scratch import activations
from tests.parity import Case

# The kinks of relu6 and the thresholds of softplus are among them, and both zeros.
SPECIAL = np.array([0.0, -0.0, 6.0, -6.0, 1.0, -1.0, 20.0, 21.0, -30.0, 300.0, -300.0, 1e4, -1e4, 1e-12, -1e-12])


def torch_function(name, **arguments):
    from torch.nn import functional

    return lambda x: getattr(functional, name)(x, **arguments)


def torch_module(name, **arguments):
    from torch import nn

    return getattr(nn, name)(**arguments)


def pair(name, x, label, **arguments):
    ours = getattr(activations, name)
    return Case(
        f"{name} {arguments or ''} {label}",
        (x,),
        lambda x: ours(x, **arguments),
        lambda: torch_function(name, **arguments),
    )


def module(rng, name, **arguments):
    x = 3 * rng.standard_normal((3, 4))
    ours = getattr(activations, name)
    return Case(
        f"{name}({arguments or ''})",
        (x,),
        lambda: ours(**arguments),
        lambda: torch_module(name, **arguments),
        module=True,
    )


ELEMENTWISE = [
    ("relu", {}),
    ("leaky_relu", {}),
    ("leaky_relu", {"negative_slope": 0.3}),
    ("leaky_relu", {"negative_slope": 1.7}),
    ("leaky_relu", {"negative_slope": -0.5}),
    ("leaky_relu", {"negative_slope": 0.0}),
    ("relu6", {}),
    ("hardswish", {}),
    ("elu", {}),
    ("elu", {"alpha": 0.4}),
    ("elu", {"alpha": 2.5}),
    ("sigmoid", {}),
    ("tanh", {}),
    ("silu", {}),
    ("gelu", {}),
    ("gelu", {"approximate": "tanh"}),
    ("softplus", {}),
    ("softplus", {"beta": 0.5}),
    ("softplus", {"beta": 3.0, "threshold": 2.0}),
]


def cases():
    rng = np.random.default_rng(1)
    made = [
        *(pair(name, 3 * rng.standard_normal((2, 3, 4)), "random", **arguments) for name, arguments in ELEMENTWISE),
        *(pair(name, SPECIAL, "special", **arguments) for name, arguments in ELEMENTWISE),
        *(pair(name, np.array(-0.7), "scalar", **arguments) for name, arguments in ELEMENTWISE),
    ]
    for function in ("softmax", "log_softmax"):
        made += [pair(function, 2 * rng.standard_normal((2, 3, 4, 5)), "axes", dim=dim) for dim in (0, 1, 2, 3, -1, -3)]
        made += [pair(function, rng.standard_normal(7), "vector", dim=0)]
        ties = np.array([[2.0, 2.0, -1.0], [0.0, 0.0, 0.0], [1e4, -1e4, 1e4], [-1e4, -1e4, -1e4 + 1]])
        made += [pair(function, ties, "ties and far rows", dim=dim) for dim in (0, 1)]
        masked = np.array([[0.5, -np.inf, 1.5], [-np.inf, -np.inf, 2.0]])
        made += [pair("softmax", masked, "masked", dim=1)] if function == "softmax" else []

    made += [
        module(rng, "ReLU"),
        module(rng, "LeakyReLU"),
        module(rng, "LeakyReLU", negative_slope=0.2),
        module(rng, "ReLU6"),
        module(rng, "Hardswish"),
        pair("hardswish", np.array([-3.0, 3.0, -3.0 - 1e-9, 3.0 - 1e-9]), "kinks"),
        module(rng, "ELU"),
        module(rng, "ELU", alpha=0.5),
        module(rng, "Sigmoid"),
        module(rng, "Tanh"),
        module(rng, "SiLU"),
        module(rng, "GELU"),
        module(rng, "GELU", approximate="tanh"),
        module(rng, "Softplus"),
        module(rng, "Softplus", beta=2.0, threshold=3.0),
        module(rng, "Softmax", dim=0),
        module(rng, "LogSoftmax", dim=1),
    ]
    return made

"""Linear, over its arguments and ranks of input."""

import numpy as np

from scratch.layers.linear import Linear
from tests.parity import Case


def torch_linear(**arguments):
    from torch import nn

    return nn.Linear(**arguments)


def case(rng, name, shape, **arguments):
    x = rng.standard_normal(shape)
    return Case(name, (x,), lambda: Linear(**arguments), lambda: torch_linear(**arguments), module=True)


def cases():
    rng = np.random.default_rng(0)
    return [
        case(rng, "matrix", (5, 3), in_features=3, out_features=4),
        case(rng, "no bias", (5, 3), in_features=3, out_features=4, bias=False),
        case(rng, "one row", (3,), in_features=3, out_features=4),
        case(rng, "three axes", (2, 5, 3), in_features=3, out_features=4),
        case(rng, "one output", (2, 3), in_features=3, out_features=1),
    ]

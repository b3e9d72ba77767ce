"""What dropout must do without luck (evaluation, p of 0 and 1), and the layers that only rearrange."""

import numpy as np

from scratch.layers import Dropout, Dropout2d, Flatten, Identity, Unflatten
from tests.parity import Case


def case(rng, ours, shape, *arguments, training=True):
    title = f"{ours.__name__}({', '.join(map(str, arguments))}) of {shape}{'' if training else ', evaluation'}"

    def theirs():
        from torch import nn

        return getattr(nn, ours.__name__)(*arguments)

    return Case(title, (rng.standard_normal(shape),), lambda: ours(*arguments), theirs, module=True, training=training)


def cases():
    rng = np.random.default_rng(3)
    return [
        case(rng, Dropout, (3, 4), 0.5, training=False),
        case(rng, Dropout, (3, 4), 0.0),
        case(rng, Dropout, (3, 4), 1.0),
        case(rng, Dropout2d, (2, 3, 4, 5), 0.5, training=False),
        case(rng, Dropout2d, (2, 3, 4, 5), 0.0),
        case(rng, Dropout2d, (2, 3, 4, 5), 1.0),
        case(rng, Flatten, (2, 3, 4, 5)),
        case(rng, Flatten, (2, 3)),
        case(rng, Flatten, (2,), 0),
        case(rng, Flatten, (2, 3, 4, 5), 0),
        case(rng, Flatten, (2, 3, 4, 5), 1, 2),
        case(rng, Flatten, (2, 3, 4, 5), -3, -2),
        case(rng, Flatten, (2, 3, 4, 5), 2, 2),
        case(rng, Unflatten, (2, 12), 1, (3, 4)),
        case(rng, Unflatten, (2, 12), -1, (2, -1, 3)),
        case(rng, Unflatten, (12, 2), 0, (3, 4)),
        case(rng, Identity, (2, 3), 54, "ignored"),
    ]

"""Pooling over its arguments: odd sizes, overlap, padding, dilation, ceil mode, what counts, ties, windows of any size.

Ties are made by rounding to few values, so that most windows have several largest.
"""

import numpy as np

from scratch.layers import (
    AdaptiveAvgPool2d,
    AdaptiveMaxPool2d,
    AvgPool1d,
    AvgPool2d,
    MaxPool1d,
    MaxPool2d,
    adaptive_avg_pool2d,
    adaptive_max_pool2d,
    avg_pool1d,
    avg_pool2d,
    max_pool1d,
    max_pool2d,
)
from tests.parity import Case


def channels_last(x):
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def case(rng, ours, shape, *arguments, name="", ties=False, arrange=np.ascontiguousarray, **options):
    x = rng.integers(-1, 2, shape).astype(float) if ties else rng.standard_normal(shape)
    shown = [*map(str, arguments), *(f"{key}={value}" for key, value in options.items())]
    title = f"{ours.__name__}({', '.join(shown)}) of {shape}{' with ties' if ties else ''}{name}"
    module = isinstance(ours, type)

    def theirs():
        from torch import nn

        if module:
            return getattr(nn, ours.__name__)(*arguments, **options)
        return lambda x: getattr(nn.functional, ours.__name__)(x, *arguments, **options)

    made = (lambda: ours(*arguments, **options)) if module else (lambda x: ours(x, *arguments, **options))
    return Case(title, (arrange(x),), made, theirs, module=module)


def places(rng, shape, *arguments, function=max_pool2d, **options):
    """The indices of the winners, as numbers."""

    def theirs():
        from torch.nn import functional as F

        chosen = getattr(F, function.__name__)
        return lambda x: chosen(x.double(), *arguments, return_indices=True, **options)[1].double()

    def ours(x):
        from scratch import Tensor

        return Tensor(function(x.astype(float), *arguments, return_indices=True, **options)[1].astype(float))

    x = rng.integers(-1, 2, shape)  # integers get no gradient
    shown = ", ".join([*map(str, arguments), *(f"{key}={value}" for key, value in options.items())])
    return Case(f"indices of {function.__name__}({shown}) of {shape}", (x,), ours, theirs)


WINDOWS = [  # shape, and the arguments that max and average pooling share
    ((2, 3, 6, 4), (2,), {}),
    ((2, 3, 7, 5), (2,), {}),
    ((2, 3, 7, 5), (2,), {"ceil_mode": True}),
    ((2, 3, 7, 6), (3, 2), {}),
    ((2, 3, 7, 6), (3, 2), {"padding": 1}),
    ((2, 3, 6, 8), (3, 2), {"ceil_mode": True}),
    ((2, 3, 6, 9), (3, 2, 1), {"ceil_mode": True}),
    ((1, 2, 5, 4), (2, 2, 1), {"ceil_mode": True}),  # the last window would start in the padding: dropped
    ((1, 2, 4, 3), (2, 3, 1), {"ceil_mode": True}),
    ((2, 3, 5, 8), ((2, 3),), {}),
    ((2, 3, 5, 8), ((3, 2), (1, 3), (1, 0)), {}),
    ((2, 3, 8, 5), (2, 3), {}),  # gaps between the windows
    ((2, 3, 5, 4), (3, 1, 1), {}),
    ((2, 3, 5, 4), (1, 2), {}),
    ((2, 3, 5, 4), ((5, 4),), {}),
    ((3, 5, 4), (2,), {}),
]
SIZES = (1, 2, 3, (4, 5), (9, 13), (None, 4), (7, None))


def cases():
    rng = np.random.default_rng(11)
    return [
        *(case(rng, max_pool2d, shape, *given, **options) for shape, given, options in WINDOWS),
        *(case(rng, max_pool2d, shape, *given, ties=True, **options) for shape, given, options in WINDOWS),
        *(case(rng, avg_pool2d, shape, *given, **options) for shape, given, options in WINDOWS),
        *(
            case(rng, avg_pool2d, shape, *given, count_include_pad=False, **options)
            for shape, given, options in WINDOWS
            if options or len(given) == 3
        ),
        case(rng, max_pool2d, (2, 3, 9, 7), 3, 2, dilation=2, ties=True),
        case(rng, max_pool2d, (2, 3, 9, 7), (3, 2), 1, 1, (2, 3), ties=True),
        case(rng, max_pool2d, (2, 3, 9, 8), 2, 3, 1, 2, ceil_mode=True, ties=True),
        case(rng, max_pool2d, (2, 3, 6, 4), 2, 2, 0, 2, ceil_mode=True, ties=True),
        case(rng, max_pool2d, (2, 3, 6, 4), 2, ties=True, arrange=channels_last, name=", channels last"),
        case(rng, max_pool2d, (2, 3, 7, 5), 3, 2, 1, ties=True, arrange=channels_last, name=", channels last"),
        case(rng, max_pool2d, (2, 3, 6, 4), 2, ties=True, arrange=lambda x: 0 * x, name=", all equal"),
        case(rng, max_pool2d, (2, 3, 5, 4), 3, 1, 1, arrange=lambda x: 0 * x, name=", all equal"),
        case(rng, avg_pool2d, (2, 3, 6, 4), 2, arrange=channels_last, name=", channels last"),
        case(rng, avg_pool2d, (2, 3, 7, 5), 3, 2, 1, arrange=channels_last, name=", channels last"),
        case(rng, avg_pool2d, (2, 3, 6, 4), 2, divisor_override=3),
        case(rng, avg_pool2d, (2, 3, 7, 5), 3, 2, 1, ceil_mode=True, count_include_pad=False, divisor_override=5),
        case(rng, avg_pool2d, (2, 3, 7, 5), (7, 5), divisor_override=-2),
        *(case(rng, adaptive_avg_pool2d, (2, 3, 7, 6), size) for size in SIZES),
        *(case(rng, adaptive_max_pool2d, (2, 3, 7, 6), size) for size in SIZES),
        case(rng, adaptive_max_pool2d, (2, 3, 7, 6), (4, 5), ties=True),
        case(rng, adaptive_max_pool2d, (2, 3, 7, 6), (9, 13), ties=True),
        case(rng, adaptive_max_pool2d, (3, 8, 6), (4, 3), ties=True),
        case(rng, adaptive_avg_pool2d, (3, 8, 6), (4, 3)),
        case(rng, adaptive_avg_pool2d, (2, 3, 7, 6), 1, arrange=channels_last, name=", channels last"),
        case(rng, adaptive_avg_pool2d, (2, 3, 7, 6), (4, 5), arrange=channels_last, name=", channels last"),
        case(rng, max_pool1d, (2, 3, 9), 2, ties=True),
        case(rng, max_pool1d, (2, 3, 9), 3, 2, 1, 2, ties=True),
        case(rng, max_pool1d, (3, 8), 3, 2, ceil_mode=True, ties=True),
        case(rng, avg_pool1d, (2, 3, 9), 2),
        case(rng, avg_pool1d, (2, 3, 9), 3, 2, 1, count_include_pad=False),
        case(rng, avg_pool1d, (3, 8), 3, 2, 1, ceil_mode=True),
        case(rng, MaxPool1d, (2, 3, 9), 3, 2, 1, 2, False, True),
        case(rng, MaxPool2d, (2, 3, 7, 6), 3),
        case(rng, MaxPool2d, (2, 3, 7, 8), (3, 2), (2, 1), (1, 0), (1, 2), False, True),
        case(rng, AvgPool1d, (2, 3, 9), 4, 3, 2, True, False),
        case(rng, AvgPool2d, (2, 3, 7, 6), 3),
        case(rng, AvgPool2d, (2, 3, 7, 6), 3, 2, 1, True, False, 7),
        case(rng, AvgPool2d, (2, 3, 7, 6), 3, 2, 1, True, False),
        case(rng, AdaptiveMaxPool2d, (2, 3, 7, 6), (3, None)),
        case(rng, AdaptiveAvgPool2d, (2, 3, 7, 6), (None, 5)),
        *(places(rng, shape, *given, **options) for shape, given, options in WINDOWS),
        places(rng, (2, 3, 9, 7), 3, 2, 1, 2),
        places(rng, (2, 3, 9), 3, 2, 1, 2, function=max_pool1d),
        places(rng, (2, 3, 7, 6), (4, 5), function=adaptive_max_pool2d),
    ]

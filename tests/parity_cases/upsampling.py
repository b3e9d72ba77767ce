"""Nearest and bilinear by sizes and factors, whole and not, up and down; channels traded for pixels and back."""

import numpy as np

from scratch.layers import PixelShuffle, PixelUnshuffle, Upsample, interpolate, pixel_shuffle, pixel_unshuffle
from tests.parity import Case


def channels_last(x):
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def case(rng, ours, shape, *arguments, name="", arrange=np.ascontiguousarray, **options):
    shown = [*map(str, arguments), *(f"{key}={value}" for key, value in options.items())]
    title = f"{ours.__name__}({', '.join(shown)}) of {shape}{name}"
    module = isinstance(ours, type)

    def theirs():
        from torch import nn

        if module:
            return getattr(nn, ours.__name__)(*arguments, **options)
        return lambda x: getattr(nn.functional, ours.__name__)(x, *arguments, **options)

    made = (lambda: ours(*arguments, **options)) if module else (lambda x: ours(x, *arguments, **options))
    return Case(title, (arrange(rng.standard_normal(shape)),), made, theirs, module=module)


GRIDS = [
    *({"size": size} for size in (1, 4, 7, (12, 10), (3, 8), (6, 15), (13, 5))),
    # 1.1 and 2.1 give sizes as 1 and 2 do, for which PyTorch takes 1 and 2
    *({"scale_factor": factor} for factor in (2, 3, 0.5, 1.5, 2.7, 0.35, (2, 3), (1.3, 0.7), 1.1, 2.1, 2.0)),
]
SHAPE = (1, 2, 6, 5)


def cases():
    rng = np.random.default_rng(12)
    return [
        *(case(rng, interpolate, SHAPE, **grid) for grid in GRIDS),
        *(case(rng, interpolate, SHAPE, mode="bilinear", **grid) for grid in GRIDS),
        *(case(rng, interpolate, SHAPE, mode="bilinear", align_corners=False, **grid) for grid in GRIDS[:3]),
        *(case(rng, interpolate, SHAPE, mode="bilinear", align_corners=True, **grid) for grid in GRIDS),
        *(
            case(rng, interpolate, SHAPE, arrange=channels_last, name=", channels last", **options)
            for options in (
                {"scale_factor": 2},
                {"scale_factor": (1, 3)},
                {"size": (8, 7)},
                {"scale_factor": 2, "mode": "bilinear"},
                {"size": (4, 9), "mode": "bilinear", "align_corners": True},
            )
        ),
        case(rng, interpolate, (2, 3, 1, 4), size=(3, 1), mode="bilinear", align_corners=True),
        case(rng, interpolate, (2, 1, 3, 1), scale_factor=3, mode="bilinear"),
        case(rng, Upsample, SHAPE, scale_factor=2),
        case(rng, Upsample, SHAPE, (7, 4)),
        case(rng, Upsample, SHAPE, None, 1.7, "bilinear", True),
        case(rng, Upsample, SHAPE, None, (2.0, 1.5), "bilinear"),
        case(rng, pixel_shuffle, (2, 12, 3, 5), 2),
        case(rng, pixel_shuffle, (2, 12, 3, 5), 2, arrange=channels_last, name=", channels last"),
        case(rng, pixel_unshuffle, (2, 3, 4, 6), 2),
        case(rng, pixel_unshuffle, (1, 2, 3, 6), 3, arrange=channels_last, name=", channels last"),
        case(rng, PixelShuffle, (2, 9, 2, 3), 3),
        case(rng, PixelUnshuffle, (2, 1, 6, 9), 3),
    ]

"""Layer, RMS, group and batch norm over their arguments, ranks and modes; running statistics included."""

import numpy as np

from scratch.layers import (
    BatchNorm1d,
    BatchNorm2d,
    GroupNorm,
    InstanceNorm1d,
    InstanceNorm2d,
    LayerNorm,
    RMSNorm,
    batch_norm,
    group_norm,
    instance_norm,
    layer_norm,
    rms_norm,
)
from tests.parity import Case


def values(rng, *shape):
    """Neither centred nor of unit variance, so that every term of the derivative counts."""
    return 1.5 + 0.7 * rng.standard_normal(shape)


def case(rng, ours, shape, *arguments, name="", training=True, scale=1.0, **options):
    shown = [*map(str, arguments), *(f"{key}={value}" for key, value in options.items())]
    title = f"{ours.__name__}({', '.join(shown)}) of {shape}{name}{'' if training else ', evaluation'}"

    def theirs():
        from torch import nn

        return getattr(nn, ours.__name__)(*arguments, **options)

    x = scale * values(rng, *shape)
    return Case(title, (x,), lambda: ours(*arguments, **options), theirs, module=True, training=training)


def function_case(ours, inputs, name="", **options):
    def theirs():
        from torch.nn import functional as F

        return lambda *tensors: getattr(F, ours.__name__)(*tensors, **options)

    return Case(f"{ours.__name__}{name}", inputs, lambda *tensors: ours(*tensors, **options), theirs)


def cases():
    rng = np.random.default_rng(2)
    return [
        case(rng, LayerNorm, (4, 6), 6),
        case(rng, LayerNorm, (6,), 6),
        case(rng, LayerNorm, (2, 4, 3), 3),
        case(rng, LayerNorm, (2, 4, 3), (4, 3)),
        case(rng, LayerNorm, (2, 4, 3), [4, 3], name=" as a list"),
        case(rng, LayerNorm, (4, 6), 6, bias=False),
        case(rng, LayerNorm, (4, 6), 6, elementwise_affine=False),
        case(rng, LayerNorm, (4, 6), 6, eps=0.3),
        case(rng, LayerNorm, (4, 1), 1),
        case(rng, RMSNorm, (4, 6), 6),
        case(rng, RMSNorm, (2, 4, 3), (4, 3)),
        case(rng, RMSNorm, (4, 6), 6, eps=0.3),
        case(rng, RMSNorm, (4, 6), 6, elementwise_affine=False),
        case(rng, RMSNorm, (4, 6), 6, name=" near eps", scale=1e-8),  # the default, machine epsilon, is felt
        case(rng, GroupNorm, (3, 6, 5), 2, 6),
        case(rng, GroupNorm, (3, 6, 5), 1, 6),
        case(rng, GroupNorm, (3, 6, 5), 6, 6),
        case(rng, GroupNorm, (3, 6), 2, 6),
        case(rng, GroupNorm, (2, 4, 3, 5), 2, 4),
        case(rng, GroupNorm, (3, 6, 5), 3, 6, affine=False),
        case(rng, GroupNorm, (3, 6, 5), 3, 6, eps=0.3),
        case(rng, BatchNorm1d, (5, 3), 3),
        case(rng, BatchNorm1d, (5, 3), 3, training=False),
        case(rng, BatchNorm1d, (4, 3, 5), 3),
        case(rng, BatchNorm1d, (4, 3, 5), 3, training=False),
        case(rng, BatchNorm1d, (1, 3, 5), 3),
        case(rng, BatchNorm1d, (1, 3), 3, training=False),
        case(rng, BatchNorm1d, (5, 3), 3, affine=False),
        case(rng, BatchNorm1d, (5, 3), 3, affine=False, training=False),
        case(rng, BatchNorm1d, (5, 3), 3, eps=0.3, momentum=0.7),
        case(rng, BatchNorm1d, (5, 3), 3, momentum=None),
        case(rng, BatchNorm1d, (5, 3), 3, track_running_stats=False),
        case(rng, BatchNorm1d, (5, 3), 3, track_running_stats=False, training=False),
        function_case(layer_norm, (values(rng, 2, 4, 3),), normalized_shape=(4, 3)),
        function_case(rms_norm, (values(rng, 2, 4, 3),), normalized_shape=(4, 3)),
        function_case(group_norm, (values(rng, 2, 6, 3),), num_groups=3),
        function_case(
            batch_norm, (values(rng, 2, 3, 4, 5),), " of images", running_mean=None, running_var=None, training=True
        ),
        case(rng, GroupNorm, (3, 6, 5), 3, 6, bias=False),
        case(rng, BatchNorm1d, (5, 3), 3, bias=False),
        case(rng, BatchNorm1d, (5, 3), 3, bias=False, training=False),
        case(rng, BatchNorm2d, (2, 3, 4, 5), 3),
        case(rng, BatchNorm2d, (2, 3, 4, 5), 3, training=False),
        case(rng, BatchNorm2d, (1, 3, 5, 2), 3, momentum=None),
        case(rng, GroupNorm, (2, 6, 3, 2), 3, 6, eps=0.3),
        case(rng, InstanceNorm1d, (4, 3, 5), 3),
        case(rng, InstanceNorm1d, (3, 5), 3),
        case(rng, InstanceNorm1d, (4, 3, 5), 3, affine=True, bias=False, eps=0.3),
        case(rng, InstanceNorm2d, (2, 3, 4, 5), 3),
        case(rng, InstanceNorm2d, (2, 3, 4, 5), 3, training=False),
        case(rng, InstanceNorm2d, (2, 3, 4, 5), 3, affine=True),
        case(rng, InstanceNorm2d, (3, 4, 5), 3, affine=True),
        case(rng, InstanceNorm2d, (2, 3, 4, 5), 3, affine=True, track_running_stats=True),
        case(rng, InstanceNorm2d, (2, 3, 4, 5), 3, affine=True, track_running_stats=True, training=False),
        case(rng, InstanceNorm2d, (2, 3, 4, 5), 3, momentum=None, track_running_stats=True),
        case(rng, InstanceNorm2d, (2, 3, 4, 5), 3, momentum=0.7, track_running_stats=True),
        function_case(instance_norm, (values(rng, 2, 3, 4, 5),)),
    ]

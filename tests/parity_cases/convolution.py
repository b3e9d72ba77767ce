"""Convolutions and transposed convolutions over stride, padding, dilation, groups and odd sizes."""

import warnings

import numpy as np

from scratch.layers import (
    Conv1d,
    Conv2d,
    ConvTranspose1d,
    ConvTranspose2d,
    conv1d,
    conv2d,
    conv_transpose1d,
    conv_transpose2d,
)
from tests.parity import Case


def layer_case(rng, ours, shape, *arguments, **options):
    shown = [*map(str, arguments), *(f"{key}={value}" for key, value in options.items())]

    def theirs():
        from torch import nn

        class Quiet(getattr(nn, ours.__name__)):
            """Without its remark that an even kernel's "same" padding costs a copy."""

            def forward(self, x):
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", message="Using padding='same' with even kernel")
                    return super().forward(x)

        return Quiet(*arguments, **options)

    title = f"{ours.__name__}({', '.join(shown)}) of {shape}"
    return Case(title, (rng.standard_normal(shape),), lambda: ours(*arguments, **options), theirs, module=True)


def function_case(rng, ours, *shapes, **options):
    def theirs():
        from torch.nn import functional as F

        return lambda *tensors: getattr(F, ours.__name__)(*tensors, **options)

    shown = "".join(f", {key}={value}" for key, value in options.items())
    title = f"{ours.__name__} of {', '.join(map(str, shapes))}{shown}"
    inputs = tuple(rng.standard_normal(shape) for shape in shapes)
    return Case(title, inputs, lambda *tensors: ours(*tensors, **options), theirs)


def asymmetric_case(rng):
    """Padding that differs from side to side: PyTorch pads first."""

    def theirs():
        from torch.nn import functional as F

        return lambda x, w: F.conv2d(F.pad(x, (0, 2, 3, 1)), w, stride=2)

    inputs = (rng.standard_normal((2, 3, 5, 6)), rng.standard_normal((4, 3, 3, 2)))
    return Case(
        "conv2d padded on each side otherwise", inputs,
        lambda x, w: conv2d(x, w, stride=2, padding=((3, 1), (0, 2))), theirs,
    )  # fmt: skip


def output_size_case(rng):
    def theirs():
        from torch import nn

        class Sized(nn.ConvTranspose2d):
            def forward(self, x):
                return super().forward(x, output_size=(8, 9))

        return Sized(4, 3, 3, (2, 3), 1)

    class Sized(ConvTranspose2d):
        def forward(self, x):
            return super().forward(x, output_size=(8, 9))

    x = rng.standard_normal((2, 4, 4, 3))
    return Case("ConvTranspose2d with an output_size", (x,), lambda: Sized(4, 3, 3, (2, 3), 1), theirs, module=True)


def cases():
    rng = np.random.default_rng(11)
    return [
        layer_case(rng, Conv2d, (2, 3, 5, 6), 3, 4, 3),
        layer_case(rng, Conv2d, (2, 3, 5, 6), 3, 4, (3, 2), padding=1),
        layer_case(rng, Conv2d, (2, 3, 5, 6), 3, 4, 3, 2, 1),
        layer_case(rng, Conv2d, (2, 3, 7, 8), 3, 4, 3, (2, 3), (0, 2)),
        layer_case(rng, Conv2d, (2, 3, 9, 8), 3, 4, (3, 2), (1, 2), (2, 1), (2, 3)),
        layer_case(rng, Conv2d, (2, 4, 5, 6), 4, 6, 3, 2, 1, 1, 2),
        layer_case(rng, Conv2d, (2, 5, 6, 4), 5, 5, 3, padding=1, groups=5, bias=False),
        layer_case(rng, Conv2d, (2, 3, 6, 5), 3, 6, 3, 2, 1, groups=3, dilation=2),
        layer_case(rng, Conv2d, (2, 5, 4, 3), 5, 2, 1),
        layer_case(rng, Conv2d, (2, 5, 4, 7), 5, 2, 1, 2, 1),
        layer_case(rng, Conv2d, (2, 3, 5, 4), 3, 2, (5, 4)),
        layer_case(rng, Conv2d, (2, 1, 6, 7), 1, 3, 5, padding=2),
        layer_case(rng, Conv2d, (2, 3, 5, 6), 3, 4, 3, padding="same"),
        layer_case(rng, Conv2d, (2, 3, 5, 6), 3, 4, (4, 3), padding="same", dilation=(1, 2)),
        layer_case(rng, Conv2d, (2, 3, 5, 6), 3, 4, (2, 4), padding="same", dilation=(3, 1)),
        layer_case(rng, Conv2d, (2, 3, 5, 6), 3, 4, 3, 2, padding="valid"),
        layer_case(rng, Conv2d, (2, 2, 3, 4), 2, 3, (2, 3), padding=(3, 5)),
        layer_case(rng, Conv1d, (2, 3, 8), 3, 4, 3),
        layer_case(rng, Conv1d, (2, 4, 9), 4, 6, 3, 2, 2, 2, 2),
        layer_case(rng, Conv1d, (2, 3, 7), 3, 3, 4, padding="same", groups=3, bias=False),
        layer_case(rng, ConvTranspose2d, (2, 3, 4, 5), 3, 4, 3),
        layer_case(rng, ConvTranspose2d, (2, 3, 4, 5), 3, 4, 2, 2),
        layer_case(rng, ConvTranspose2d, (2, 3, 4, 5), 3, 4, 3, 2, 1, 1),
        layer_case(rng, ConvTranspose2d, (2, 4, 3, 5), 4, 6, (3, 2), (3, 2), (1, 2), (2, 0), 2),
        layer_case(rng, ConvTranspose2d, (2, 3, 4, 5), 3, 4, (2, 3), (1, 2), (1, 0), 0, 1, False, (2, 3)),
        layer_case(rng, ConvTranspose2d, (2, 4, 3, 2), 4, 4, 3, 2, padding=1, groups=4),
        layer_case(rng, ConvTranspose2d, (2, 3, 4, 2), 3, 2, 2, dilation=3, output_padding=2),
        layer_case(rng, ConvTranspose2d, (2, 3, 5, 4), 3, 2, 1, 3),
        layer_case(rng, ConvTranspose1d, (2, 3, 5), 3, 4, 3, 2, 1, 1),
        layer_case(rng, ConvTranspose1d, (2, 4, 5), 4, 6, 3, 2, 0, 0, 2, False, 2),
        function_case(
            rng, conv2d, (2, 4, 5, 6), (6, 2, 3, 2), (6,), stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2
        ),
        function_case(rng, conv2d, (1, 3, 4, 5), (2, 3, 2, 3)),
        function_case(rng, conv1d, (2, 4, 7), (6, 2, 3), (6,), stride=2, padding=1, groups=2),
        function_case(
            rng, conv_transpose2d, (2, 4, 3, 5), (4, 3, 3, 2), (6,), stride=2, padding=1, groups=2, dilation=(1, 2)
        ),
        function_case(rng, conv_transpose1d, (2, 3, 5), (3, 2, 4), stride=3, output_padding=2),
        asymmetric_case(rng),
        output_size_case(rng),
    ]

"""The transposed convolution: a convolution's input gradient, used forward. It makes images larger.

As a matrix, a convolution is y = A x and its input gradient dx = Aᵀ dy. Here y = Aᵀ x, so dx = A dy is a convolution.
It undoes a convolution's shape, not its values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from scratch.activations.elementwise import floating
from scratch.half import in_float32
from scratch.layers.convolution import fast
from scratch.layers.convolution.channels import add_to_channels, sum_of_channels
from scratch.layers.convolution.conv import Convolution, with_height, without_height
from scratch.layers.convolution.geometry import (
    check_bias,
    check_groups,
    check_images,
    check_output_padding,
    check_outputs,
    check_weight,
    output_sizes,
    sides,
    sizes,
    transposed_sizes,
)
from scratch.tensor import Tensor, as_tensor, record


@in_float32
def conv_transpose2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """y[o, r · stride + i · dilation − before] += W[c, o, i] · x[c, r], for every c, r and i;  then y[o] += b[o]

    Each number of x stamps the kernel, times itself, into y (r and i stand for a row and a column each). In conv2d's
    words x is dy and y is dx, and its in channels are our out channels: hence the weight (in, out/groups, kh, kw).

        y = conv2d's ∂L/∂x        ∂L/∂x = conv2d of dy with W        ∂L/∂W = conv2d's, of image dy and gradient x

    Shapes: input (N, C, H, W), weight (C, O/groups, kh, kw), bias (O,) → (N, O, H', W'),
        H' = (H − 1) · stride − top − bottom + dilation · (kh − 1) + output_padding + 1
    Args: stride, dilation, output_padding: a number, or (along H, along W). padding: the same, or ((top, bottom),
        (left, right)): what the convolution in reverse would have added is cut off. output_padding: rows and columns
        more at the bottom and right, since with a stride several sizes lead to the same H; below stride or dilation.
    Raises ValueError for another rank or order of axes, channels that the groups do not divide, an empty output, and
    other than floating-point input.
    """
    x, weight = floating("conv_transpose2d", input), as_tensor(weight)
    bias = None if bias is None else as_tensor(bias)
    stride, padding, dilation, shape = _normal(
        "conv_transpose2d", 2, x, weight, bias, stride, padding, output_padding, groups, dilation
    )
    arguments = (stride, padding, dilation, groups)
    rows = output_sizes(shape[2:], weight.shape[2:], stride, padding, dilation)
    y = fast.input_gradient(_extended(x.data, rows), weight.data, shape, *arguments)
    if bias is not None:
        add_to_channels(y, bias.data)

    def backward(dy):
        dx = dW = None
        if x.requires_grad:
            dx = fast.convolve(dy, weight.data, *arguments)[:, :, : x.shape[2], : x.shape[3]]
        if weight.requires_grad:
            dW = fast.weight_gradient(dy, _extended(x.data, rows), weight.shape[2:], *arguments)
        if bias is None:
            return dx, dW
        return dx, dW, sum_of_channels(dy) if bias.requires_grad else None

    return record(y, (x, weight) if bias is None else (x, weight, bias), backward)


def conv_transpose1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """The transposed convolution of sequences: conv_transpose2d of images of height 1, with kernels of height 1

    Shapes: input (N, C, L), weight (C, O/groups, k), bias (O,) → (N, O, L'). Arguments, errors as conv_transpose2d's,
    with one number in place of two; asymmetric padding is ((left, right),).
    """
    x, weight = floating("conv_transpose1d", input), as_tensor(weight)
    bias = None if bias is None else as_tensor(bias)
    more = sizes("conv_transpose1d", "output_padding", output_padding, 1, least=0)
    stride, padding, dilation, _ = _normal(
        "conv_transpose1d", 1, x, weight, bias, stride, padding, more, groups, dilation
    )
    y = conv_transpose2d(
        with_height(x), with_height(weight), bias, (1, *stride), ((0, 0), *padding), (0, *more), groups, (1, *dilation)
    )
    return without_height(y)


def _extended(x: np.ndarray, rows: Sequence[int]) -> np.ndarray:
    """x with zeros at the bottom and right up to so many rows and columns: x itself but where output_padding ≥ stride.

    PyTorch allows that where the dilation is larger still; the convolution in reverse then has more outputs than x.
    """
    if x.shape[2:] == tuple(rows):
        return x
    extended = np.zeros((*x.shape[:2], *rows), x.dtype)
    extended[:, :, : x.shape[2], : x.shape[3]] = x
    return extended


def _normal(
    who: str, axes: int, x: Tensor, weight: Tensor, bias: Tensor | None,
    stride: Any, padding: Any, output_padding: Any, groups: int, dilation: Any,
) -> Any:  # fmt: skip
    """Stride, padding and dilation in normal form, and y's shape. Raises ValueError for what does not fit together."""
    check_weight(who, weight.shape, "in, out/groups, " + ("k" if axes == 1 else "kh, kw"))
    check_groups(who, groups, in_channels=weight.shape[0])
    check_images(who, x.shape, weight.shape[0], axes)
    channels = weight.shape[1] * groups
    if bias is not None:
        check_bias(who, bias.shape, channels)
    kernel = weight.shape[2:]
    stride = sizes(who, "stride", stride, axes)
    dilation = sizes(who, "dilation", dilation, axes)
    padding = sides(who, _numbers_only(who, padding), kernel, stride, dilation)
    more = sizes(who, "output_padding", output_padding, axes, least=0)
    check_output_padding(who, more, stride, dilation)
    outputs = transposed_sizes(x.shape[2:], kernel, stride, padding, dilation, more)
    check_outputs(who, outputs, x.shape[2:])
    return stride, padding, dilation, (x.shape[0], channels, *outputs)


def _numbers_only(who: Any, padding: Any) -> Any:
    """`padding`; ValueError for "same" and "valid", which say something about a convolution's output."""
    if isinstance(padding, str):
        raise ValueError(f"{who} expected padding in numbers, got {padding!r}")
    return padding


class TransposedConvolution(Convolution):
    """What transposed convolutions of one and two axes share."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: str = "zeros",
    ):
        who = type(self).__name__
        padding = _numbers_only(who, padding)
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode
        )
        self.output_padding = sizes(who, "output_padding", output_padding, self.axes, least=0)
        check_output_padding(who, self.output_padding, self.stride, self.dilation)

    def weight_shape(self) -> tuple[int, ...]:
        return self.in_channels, self.out_channels // self.groups, *self.kernel_size

    def more(self, shape: tuple[int, ...], output_size: Sequence[int] | None) -> tuple[int, ...]:
        """output_padding: the layer's own, or what leads to `output_size`. ValueError where nothing does."""
        check_images(self, shape, self.in_channels, self.axes)
        arguments = (shape[2:], self.kernel_size, self.stride, self.sides, self.dilation)
        if output_size is None:
            check_outputs(self, transposed_sizes(*arguments, self.output_padding), shape[2:])
            return self.output_padding
        least = transposed_sizes(*arguments, (0,) * self.axes)
        more = tuple(want - n for want, n in zip(tuple(output_size)[-self.axes :], least, strict=False))
        fits = all(0 <= m < s for m, s in zip(more, self.stride, strict=False))
        if not fits or len(output_size) not in (self.axes, self.axes + 2):
            most = tuple(n + s - 1 for n, s in zip(least, self.stride, strict=True))
            raise ValueError(
                f"{self!r} expected output_size from {least} to {most} for x of shape {shape}, got {tuple(output_size)}"
            )
        return more

    def extra_repr(self) -> str:
        more = f", output_padding={self.output_padding}" if any(self.output_padding) else ""
        return super().extra_repr() + more


class ConvTranspose2d(TransposedConvolution):
    """`conv_transpose2d`; weight and bias drawn from U(−1/√n, 1/√n), n = out_channels/groups · kh · kw, as in PyTorch.

    Shapes: (N, in_channels, H, W) → (N, out_channels, H', W'). Arguments and errors as `conv_transpose2d`'s; a call
    with output_size=(H', W') chooses the output padding, of those that the stride leaves open.
    """

    axes = 2

    def forward(self, x: Any, output_size: Sequence[int] | None = None) -> Tensor:
        more = self.more(np.shape(x), output_size)
        return conv_transpose2d(
            x, self.weight, self.bias, self.stride, self.sides, more, self.groups, self.dilation
        )


class ConvTranspose1d(TransposedConvolution):
    """`conv_transpose1d`; weight and bias drawn from U(−1/√n, 1/√n), n = out_channels/groups · k, as in PyTorch.

    Shapes: (N, in_channels, L) → (N, out_channels, L'). Arguments and errors as `conv_transpose1d`'s; output_size=(L',)
    as for ConvTranspose2d.
    """

    axes = 1

    def forward(self, x: Any, output_size: Sequence[int] | None = None) -> Tensor:
        more = self.more(np.shape(x), output_size)
        return conv_transpose1d(
            x, self.weight, self.bias, self.stride, self.sides, more, self.groups, self.dilation
        )

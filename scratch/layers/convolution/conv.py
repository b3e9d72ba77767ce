"""Convolution: one small kernel of weights laid on every place of an image, so that a pattern is known wherever it is.

The definition as loops is plain.py, the same by a matrix product im2col.py; the layers compute with fast.py.
A worked example, with one image, one channel each, b = 0, and dy as it may come from above:

    x = 1  2  0    W = 1  2    y = 4 −1    dy = 1  0    ∂L/∂x = 1  2  0    ∂L/∂W = 0  1    ∂L/∂b = 2
        0  1  3        0 −1        1  6         2 −1            2  2 −2            3  2
        2  1  1                                                 0 −2  1
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from scratch.activations.elementwise import floating
from scratch.half import in_float32
from scratch.initializers import uniform
from scratch.layers.convolution import fast
from scratch.layers.convolution.channels import add_to_channels, sum_of_channels
from scratch.layers.convolution.geometry import (
    check_bias,
    check_fits,
    check_groups,
    check_images,
    check_weight,
    sides,
    sizes,
)
from scratch.module import Module
from scratch.tensor import Parameter, Tensor, as_tensor, record


@in_float32
def conv2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """y[o, r] = b[o] + Σ over c and i of W[o, c, i] · x[c, r · stride + i · dilation − before]

    Here r and i stand for a row and a column each, and x is 0 outside of the image.

    ∂L/∂x: x[p] entered y[r] through the weight i for which p = r · stride + i · dilation − before. At stride 1 that is
    r = p + before − i · dilation: r falls as i rises, so walking up along dy meets the weights from the last to the
    first,

        ∂L/∂x[c, p] = Σ over o and i of W[o, c, i] · dy[o, p + before − i · dilation]
                    = Σ over o and i' of W[o, c, k − 1 − i'] · dy[o, p + i' · dilation − (dilation · (k − 1) − before)]

    which is a convolution of dy with the flipped kernel, in and out channels exchanged. Its padding completes `before`
    to dilation · (k − 1): without padding in the forward, it is the *full* convolution, in which the kernel meets dy
    even where they share a single number. At a larger stride only every stride-th r exists: dy is spread, with
    stride − 1 zeros between its numbers. The same function is the transposed convolution's forward.

    ∂L/∂W[o, c, i] = Σ over n and r of dy[n, o, r] · x[n, c, r · stride + i · dilation − before], the convolution of x
    with dy as its kernel, stride and dilation exchanged.        ∂L/∂b[o] = Σ over n and r of dy[n, o, r]

    Shapes: input (N, C, H, W), weight (O, C/groups, kh, kw), bias (O,) → (N, O, H', W'),
        H' = ⌊(H + top + bottom − dilation · (kh − 1) − 1) / stride⌋ + 1; with groups, output channels see their group's
        input channels only (groups = C: depthwise).
    Args: stride, dilation: a number, or (along H, along W). padding: the same, or "valid" (none), "same" (H' = H at
        stride 1; the bottom and right get the odd zero), or ((top, bottom), (left, right)), which PyTorch lacks.
    Raises ValueError for another rank or order of axes, channels that the groups do not divide, a kernel larger than
    the padded image, "same" with a stride, and other than floating-point input.
    """
    x, weight = floating("conv2d", input), as_tensor(weight)
    bias = None if bias is None else as_tensor(bias)
    stride, padding, dilation = _normal("conv2d", 2, x, weight, bias, stride, padding, dilation, groups)
    y = fast.convolve(x.data, weight.data, stride, padding, dilation, groups)
    if bias is not None:
        add_to_channels(y, bias.data)

    def backward(dy):
        dx = dW = None
        if x.requires_grad:
            dx = fast.input_gradient(dy, weight.data, x.shape, stride, padding, dilation, groups)
        if weight.requires_grad:
            dW = fast.weight_gradient(x.data, dy, weight.shape[2:], stride, padding, dilation, groups)
        if bias is None:
            return dx, dW
        return dx, dW, sum_of_channels(dy) if bias.requires_grad else None

    return record(y, (x, weight) if bias is None else (x, weight, bias), backward)


def conv1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """The convolution of sequences: conv2d of images of height 1, with kernels of height 1

    Shapes: input (N, C, L), weight (O, C/groups, k), bias (O,) → (N, O, L'). Arguments and errors as conv2d's, with one
    number in place of two; asymmetric padding is ((left, right),).
    """
    x, weight = floating("conv1d", input), as_tensor(weight)
    bias = None if bias is None else as_tensor(bias)
    stride, padding, dilation = _normal("conv1d", 1, x, weight, bias, stride, padding, dilation, groups)
    y = conv2d(
        with_height(x), with_height(weight), bias, (1, *stride), ((0, 0), *padding), (1, *dilation), groups
    )
    return without_height(y)


def with_height(x: Tensor) -> Tensor:
    """(N, C, L) as (N, C, 1, L), over the same memory."""
    return x.reshape(*x.shape[:2], 1, x.shape[2])


def without_height(x: Tensor) -> Tensor:
    """(N, C, 1, L) as (N, C, L), over the same memory."""
    return x.reshape(*x.shape[:2], x.shape[3])


def _normal(
    who: str, axes: int, x: Tensor, weight: Tensor, bias: Tensor | None,
    stride: Any, padding: Any, dilation: Any, groups: int,
) -> Any:  # fmt: skip
    """Stride, padding and dilation in normal form. Raises ValueError for what does not fit together."""
    check_weight(who, weight.shape, "out, in/groups, " + ("k" if axes == 1 else "kh, kw"))
    check_groups(who, groups, out_channels=weight.shape[0])
    check_images(who, x.shape, weight.shape[1] * groups, axes)
    if bias is not None:
        check_bias(who, bias.shape, weight.shape[0])
    kernel = weight.shape[2:]
    stride = sizes(who, "stride", stride, axes)
    dilation = sizes(who, "dilation", dilation, axes)
    padding = sides(who, padding, kernel, stride, dilation)
    check_fits(who, x.shape[2:], kernel, padding, dilation)
    return stride, padding, dilation


class Convolution(Module):
    """What convolutions of one and two axes share: the arguments, brought to tuples, and the first weights."""

    axes = 0

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
    ):
        who, axes = type(self).__name__, self.axes
        check_groups(who, groups, in_channels=in_channels, out_channels=out_channels)
        if padding_mode != "zeros":
            raise ValueError(f"{who} expected padding_mode 'zeros', the only one there is, got {padding_mode!r}")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = sizes(who, "kernel_size", kernel_size, axes)
        self.stride = sizes(who, "stride", stride, axes)
        self.dilation = sizes(who, "dilation", dilation, axes)
        self.sides = sides(who, padding, self.kernel_size, self.stride, self.dilation)
        self.padding = (padding,) * axes if isinstance(padding, (int, np.integer)) else padding
        self.groups = groups
        self.padding_mode = padding_mode
        shape = self.weight_shape()
        bound = 1 / math.sqrt(math.prod(shape[1:]))
        self.weight = Parameter(uniform(shape, -bound, bound))
        self.bias = Parameter(uniform((out_channels,), -bound, bound)) if bias else None

    def weight_shape(self) -> tuple[int, ...]:
        return self.out_channels, self.in_channels // self.groups, *self.kernel_size

    def check(self, shape: tuple[int, ...]) -> None:
        """What `conv2d` would say as well, with the layer's own name."""
        check_images(self, shape, self.in_channels, self.axes)
        check_fits(self, shape[2:], self.kernel_size, self.sides, self.dilation)

    def extra_repr(self) -> str:
        """The arguments that make the layer, as PyTorch shows them."""
        ones = (1,) * self.axes
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"]
        parts += [f"padding={self.padding!r}"] if any(map(any, self.sides)) else []
        parts += [f"dilation={self.dilation}"] if self.dilation != ones else []
        parts += [f"groups={self.groups}"] if self.groups != 1 else []
        return ", ".join(parts + (["bias=False"] if self.bias is None else []))


class Conv2d(Convolution):
    """`conv2d` with a weight and a bias drawn from U(−1/√n, 1/√n), n = in_channels/groups · kh · kw, as in PyTorch.

    Shapes: (N, in_channels, H, W) → (N, out_channels, H', W'). Arguments and errors as `conv2d`'s; kernel_size is a
    number or (height, width).
    """

    axes = 2

    def forward(self, x: Any) -> Tensor:
        self.check(np.shape(x))
        return conv2d(x, self.weight, self.bias, self.stride, self.sides, self.dilation, self.groups)


class Conv1d(Convolution):
    """`conv1d` with a weight and a bias drawn from U(−1/√n, 1/√n), n = in_channels/groups · k, as in PyTorch.

    Shapes: (N, in_channels, L) → (N, out_channels, L'). Arguments and errors as `conv1d`'s.
    """

    axes = 1

    def forward(self, x: Any) -> Tensor:
        self.check(np.shape(x))
        return conv1d(x, self.weight, self.bias, self.stride, self.sides, self.dilation, self.groups)

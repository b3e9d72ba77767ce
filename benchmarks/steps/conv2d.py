"""Single convolutions with a bias: forward, and the gradients of weight, bias and, but for the first layer, images."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np


class Shape(NamedTuple):
    batch: int
    channels: int
    side: int
    out: int
    kernel: int = 3
    stride: int = 1
    groups: int = 1

    def __str__(self) -> str:
        kind = "depthwise " if self.groups > 1 else "stride 2 " if self.stride > 1 else ""
        size = f"{self.batch}×{self.channels}×{self.side}×{self.side}→{self.out}"
        return f"{kind}{self.kernel}×{self.kernel}, {size}"


SHAPES = [
    Shape(64, 16, 28, 32),
    Shape(64, 32, 14, 64),
    Shape(64, 64, 8, 64),
    Shape(32, 64, 32, 64),
    Shape(64, 1, 28, 16, kernel=5),
    Shape(64, 64, 14, 64, groups=64),
    Shape(32, 32, 32, 64, stride=2),
]


def arrays(s: Shape) -> tuple[np.ndarray, ...]:
    """Images, weight, bias and the gradient that comes back, in PyTorch's usual order of memory."""
    rng = np.random.default_rng(0)
    out = (s.side - 1) // s.stride + 1
    shapes = [(s.batch, s.channels, s.side, s.side), (s.out, s.channels // s.groups, s.kernel, s.kernel), (s.out,),
              (s.batch, s.out, out, out)]  # fmt: skip
    return tuple(rng.standard_normal(shape).astype(np.float32) for shape in shapes)


def channels_last(x: np.ndarray) -> np.ndarray:
    """The same images with their channels last in memory, as the layers here hand them on."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def ours(s: Shape) -> Callable[[], object]:
    from scratch import Parameter, Tensor
    from scratch.layers import conv2d

    x, W, b, dy = arrays(s)
    images = Tensor(x if s.channels == 1 else channels_last(x), requires_grad=s.channels > 1)
    weight, bias, dy = Parameter(W), Parameter(b), channels_last(dy)

    def step():
        images.grad = weight.grad = bias.grad = None
        y = conv2d(images, weight, bias, s.stride, s.kernel // 2, groups=s.groups)
        y.backward(dy)
        return float(weight.grad[0, 0, 0, 0])

    return step


def theirs(s: Shape, last: bool) -> Callable[[], object]:
    import torch

    x, W, b, dy = (torch.from_numpy(array) for array in arrays(s))
    if last:
        x, dy = (t.contiguous(memory_format=torch.channels_last) for t in (x, dy))
    images, weight, bias = x.requires_grad_(s.channels > 1), W.requires_grad_(), b.requires_grad_()

    def step():
        images.grad = weight.grad = bias.grad = None
        y = torch.nn.functional.conv2d(images, weight, bias, s.stride, s.kernel // 2, groups=s.groups)
        y.backward(dy)
        return float(weight.grad[0, 0, 0, 0])

    return step


CONTENDERS: dict[str, Callable[[], Callable[[], object]]] = {}
REFERENCE: dict[str, str] = {}  # which contender each is compared with
for _shape in SHAPES:
    _pytorch = f"PyTorch, {_shape}"
    _ours, _last = f"scratch, {_shape}", f"PyTorch, channels last, {_shape}"
    CONTENDERS |= {_ours: partial(ours, _shape), _pytorch: partial(theirs, _shape, False),
                   _last: partial(theirs, _shape, True)}  # fmt: skip
    REFERENCE |= {_ours: _pytorch, _pytorch: _pytorch, _last: _pytorch}

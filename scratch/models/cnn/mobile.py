"""Networks for phones: depthwise convolutions, which look at one channel each, between 1×1 ones, which mix channels.

A 3×3 convolution of C to C channels has 9C² weights; a depthwise 3×3 and a 1×1 have 9C + C², about a ninth.

    inverted residual, C → t·C → D:

        x (N, C, H, W) ─┬─ Conv 1×1 ─ BN ─ ReLU6 ─► (N, tC, H, W)
                        │  ─ depthwise Conv k×k, stride s ─ BN ─ ReLU6 ─► (N, tC, H/s, W/s)
                        │  ─ Conv 1×1 ─ BN ─► (N, D, H/s, W/s) ─ + ─►
                        └─ only where s = 1 and C = D ───────────┘

It is a bottleneck turned over: wide inside, narrow outside, and without a bend behind the last convolution, which would
lose what the narrow end has no room to keep.

    network: x ─ Conv 3×3 ─ BN ─ ReLU6 ─ inverted residuals ─ Conv 1×1 ─ BN ─ ReLU6 ─ mean ─ Dropout ─ Linear ─► logits
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from scratch.activations import ReLU6, relu6
from scratch.layers import AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Dropout, Linear, conv2d, flatten
from scratch.layers.convolution.geometry import check_images
from scratch.models.cnn.parts import expect_images, initialise_convolutions
from scratch.module import Module, Sequential
from scratch.tensor import Tensor

# Rows of (t, channels, blocks, stride of the first block): Table 2 of the paper, and a small network for small images.
Rows = Sequence[tuple[int, int, int, int]]
MOBILENET_V2 = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)
)  # fmt: skip
SMALL = ((1, 16, 1, 1), (4, 24, 2, 2), (4, 40, 2, 2))


def conv_bn_relu6(channels: int, out: int, kernel_size: int = 3, stride: int = 1, groups: int = 1) -> Sequential:
    """(N, channels, H, W) ─ Conv ─ BN ─ ReLU6 ─► (N, out, ⌈H / stride⌉, ⌈W / stride⌉)"""
    conv = Conv2d(channels, out, kernel_size, stride, padding=kernel_size // 2, groups=groups, bias=False)
    return Sequential(conv, BatchNorm2d(out), ReLU6())


class InvertedResidual(Module):
    """Widen by 1×1, look by a depthwise 3×3, narrow by 1×1, and add the input where the shape is kept.

    Args: expand_ratio: t, how many times wider the inside is; at 1 the first 1×1 is left out.
    Shapes: (N, inp, H, W) → (N, oup, ⌈H / stride⌉, ⌈W / stride⌉).
    """

    def __init__(self, inp: int, oup: int, stride: int, expand_ratio: int):
        inside = inp * expand_ratio
        self.use_res_connect = stride == 1 and inp == oup
        widen = [conv_bn_relu6(inp, inside, 1)] if expand_ratio != 1 else []
        look = conv_bn_relu6(inside, inside, 3, stride, groups=inside)
        self.conv = Sequential(*widen, look, Conv2d(inside, oup, 1, bias=False), BatchNorm2d(oup))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.use_res_connect else self.conv(x)


class MobileNet(Module):
    """MobileNetV2  (Sandler et al. 2018)

    State keys are those of torchvision's mobilenet_v2. Convolutions begin with N(0, 2 / fan_out).

    Args: blocks: rows of (t, channels, number of blocks, stride of the first). stem, head: channels of the first and
        the last convolution. stem_stride: 2 for ImageNet. dropout: before the linear map.
    Shapes: (N, in_channels, H, W), of any size → logits (N, num_classes). Raises ValueError for other images.
    """

    def __init__(
        self,
        num_classes: int = 10,
        dropout: float = 0.0,
        *,
        in_channels: int = 1,
        blocks: Rows = SMALL,
        stem: int = 16,
        head: int = 128,
        stem_stride: int = 1,
    ):
        self.in_channels = in_channels
        parts: list[Module] = [conv_bn_relu6(in_channels, stem, stride=stem_stride)]
        channels = stem
        for t, out, count, stride in blocks:
            for i in range(count):
                parts.append(InvertedResidual(channels, out, stride if i == 0 else 1, t))
                channels = out
        self.features = Sequential(*parts, conv_bn_relu6(channels, head, 1))
        self.avgpool = AdaptiveAvgPool2d(1)
        self.classifier = Sequential(Dropout(dropout), Linear(head, num_classes))
        initialise_convolutions(self)

    def forward(self, x: Any) -> Tensor:
        expect_images(self, x, self.in_channels)
        return self.classifier(flatten(self.avgpool(self.features(x)), 1))


def mobilenet_v2(num_classes: int = 1000, dropout: float = 0.2, in_channels: int = 3) -> MobileNet:
    """The paper's network for ImageNet: 3,504,872 parameters, keys and shapes of torchvision's."""
    return MobileNet(
        num_classes, dropout, in_channels=in_channels, blocks=MOBILENET_V2, stem=32, head=1280, stem_stride=2
    )


class SameConv2d(Conv2d):
    """A convolution without bias, padded as TensorFlow's "same": ⌈H / stride⌉ × ⌈W / stride⌉ outputs.

    It takes max((⌈n / s⌉ − 1) · s + k − n, 0) zeros an axis, the odd one at the bottom and the right. With a stride
    that depends on the image, and no symmetric padding equals it: 3×3 with stride 2 on an even side has 0 at the top.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1):
        super().__init__(in_channels, out_channels, kernel_size, stride, groups=groups, bias=False)

    def forward(self, x: Any) -> Tensor:
        check_images(self, np.shape(x), self.in_channels, 2)
        zeros = [
            max((-(-n // s) - 1) * s + k - n, 0)
            for n, s, k in zip(np.shape(x)[2:], self.stride, self.kernel_size, strict=True)
        ]
        sides = tuple((z // 2, z - z // 2) for z in zeros)
        return conv2d(x, self.weight, None, self.stride, sides, self.dilation, self.groups)


class MBConvBlock(Module):
    """The inverted residual of EfficientNet-Lite: kernels of 3×3 or 5×5, TensorFlow's padding.

    Shapes: (N, channels, H, W) → (N, out, ⌈H / stride⌉, ⌈W / stride⌉).
    """

    def __init__(self, channels: int, out: int, kernel_size: int, stride: int, expand_ratio: int):
        inside = channels * expand_ratio
        self.keeps_shape = stride == 1 and channels == out
        self._expand_conv = SameConv2d(channels, inside, 1) if expand_ratio != 1 else None
        self._bn0 = _batch_norm(inside) if expand_ratio != 1 else None
        self._depthwise_conv = SameConv2d(inside, inside, kernel_size, stride, groups=inside)
        self._bn1 = _batch_norm(inside)
        self._project_conv = SameConv2d(inside, out, 1)
        self._bn2 = _batch_norm(out)

    def forward(self, x: Tensor) -> Tensor:
        h = x
        if self._expand_conv is not None and self._bn0 is not None:
            h = relu6(self._bn0(self._expand_conv(h)))
        h = relu6(self._bn1(self._depthwise_conv(h)))
        h = self._bn2(self._project_conv(h))
        return h + x if self.keeps_shape else h


class EfficientNetLite0(Module):
    """EfficientNet-Lite0: the network that a search found, fit for small devices  (Tan and Le 2019; Google 2020)

    Of EfficientNet-B0 it drops squeeze-and-excite, and takes ReLU6 for swish. 4,652,008 parameters for 1,000 classes;
    its authors give 75.1 % of ImageNet. State keys are those of the package efficientnet_lite_pytorch, whose published
    weights load as they are. They expect 224×224 RGB images as (x − 127) / 128, x from 0 to 255 (`image_size`, `mean`,
    `std`). Departure: no blocks are dropped at random in training (there, survival probability 0.8).

    Shapes: (N, in_channels, H, W), of any size → logits (N, num_classes). Raises ValueError for other images.
    """

    image_size, mean, std = 224, 127.0, 128.0
    # Rows of (kernel, stride of the first block, t, channels, blocks).
    rows = (
        (3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3),
        (5, 1, 6, 112, 3), (5, 2, 6, 192, 4), (3, 1, 6, 320, 1),
    )  # fmt: skip

    def __init__(self, num_classes: int = 1000, dropout: float = 0.2, in_channels: int = 3):
        self.in_channels = in_channels
        self._conv_stem = SameConv2d(in_channels, 32, 3, stride=2)
        self._bn0 = _batch_norm(32)
        self._blocks = []
        channels = 32
        for kernel_size, stride, t, out, count in self.rows:
            for i in range(count):
                self._blocks.append(MBConvBlock(channels, out, kernel_size, stride if i == 0 else 1, t))
                channels = out
        self._conv_head = SameConv2d(channels, 1280, 1)
        self._bn1 = _batch_norm(1280)
        self._avg_pooling = AdaptiveAvgPool2d(1)
        self._dropout = Dropout(dropout)
        self._fc = Linear(1280, num_classes)
        initialise_convolutions(self)

    def forward(self, x: Any) -> Tensor:
        expect_images(self, x, self.in_channels)
        h = relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            h = block(h)
        h = relu6(self._bn1(self._conv_head(h)))
        return self._fc(self._dropout(flatten(self._avg_pooling(h), 1)))


def _batch_norm(channels: int) -> BatchNorm2d:
    """TensorFlow's constants: it keeps 0.99 of the running statistics, PyTorch's momentum being the rest."""
    return BatchNorm2d(channels, eps=1e-3, momentum=0.01)

"""ResNet: blocks that learn what to add to their input, so that depth costs no signal.

    BasicBlock     x ─┬─ Conv 3×3 (stride) ─ BN ─ ReLU ─ Conv 3×3 ─ BN ─ + ─ ReLU ─►
                      └─ shortcut ───────────────────────────────────────┘

    Bottleneck     x ─┬─ Conv 1×1 ─ BN ─ ReLU ─ Conv 3×3 (stride) ─ BN ─ ReLU ─ Conv 1×1, to 4 planes ─ BN ─ + ─ ReLU ─►
                      └─ shortcut ───────────────────────────────────────────────────────────────────────────┘

    shortcut       nothing at all; Conv 1×1 (stride) ─ BN where the shape changes

    small images   x (N, 3, 32, 32) ─ Conv 3×3 ─ BN ─ ReLU ─► (N, 32, 32, 32)
                   ─ blocks ─► (N, 32, 32, 32) ─ blocks ─► (N, 64, 16, 16) ─ blocks ─► (N, 128, 8, 8)
                   ─ mean over the places (N, 128) ─ Linear ─► logits (N, 10)

    ImageNet       x (N, 3, 224, 224) ─ Conv 7×7, stride 2 ─ BN ─ ReLU ─ pool 3×3, stride 2 ─► (N, 64, 56, 56)
                   ─ four stages, 56, 28, 14 and 7 wide ─ mean ─ Linear ─► logits (N, 1000)

State keys and shapes are those of torchvision's resnet18, 34, 50: a checkpoint of theirs loads without renaming.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scratch.activations import relu
from scratch.layers import AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Identity, Linear, MaxPool2d, flatten
from scratch.models.cnn.parts import expect_images, initialise_convolutions
from scratch.module import Module, Sequential
from scratch.tensor import Tensor


class BasicBlock(Module):
    """y = relu(x + f(x)), f two 3×3 convolutions, x projected where the shape changes  (He et al. 2016, eq. 2)

    Args: inplanes: channels that come in. planes: width of the convolutions; planes · expansion leave.
    Shapes: (N, inplanes, H, W) → (N, planes, ⌈H / stride⌉, ⌈W / stride⌉).
    """

    expansion = 1

    def __init__(self, inplanes: int, planes: int, stride: int = 1):
        self.conv1 = Conv2d(inplanes, planes, 3, stride, padding=1, bias=False)
        self.bn1 = BatchNorm2d(planes)
        self.conv2 = Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = BatchNorm2d(planes)
        self.downsample = projection(inplanes, planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        h = relu(self.bn1(self.conv1(x)))
        h = self.bn2(self.conv2(h))
        return relu(h + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(Module):
    """y = relu(x + f(x)), f a 3×3 convolution between 1×1 ones that narrow and widen again  (He et al. 2016, fig. 5)

    The stride is in the 3×3 convolution, as torchvision has it; in the paper it is in the first 1×1, which then never
    looks at three quarters of its input.
    Shapes: (N, inplanes, H, W) → (N, 4 · planes, ⌈H / stride⌉, ⌈W / stride⌉).
    """

    expansion = 4

    def __init__(self, inplanes: int, planes: int, stride: int = 1):
        out = planes * self.expansion
        self.conv1 = Conv2d(inplanes, planes, 1, bias=False)
        self.bn1 = BatchNorm2d(planes)
        self.conv2 = Conv2d(planes, planes, 3, stride, padding=1, bias=False)
        self.bn2 = BatchNorm2d(planes)
        self.conv3 = Conv2d(planes, out, 1, bias=False)
        self.bn3 = BatchNorm2d(out)
        self.downsample = projection(inplanes, out, stride)

    def forward(self, x: Tensor) -> Tensor:
        h = relu(self.bn1(self.conv1(x)))
        h = relu(self.bn2(self.conv2(h)))
        h = self.bn3(self.conv3(h))
        return relu(h + (x if self.downsample is None else self.downsample(x)))


def projection(channels: int, out: int, stride: int) -> Sequential | None:
    """The shortcut where the shape changes: (N, channels, H, W) → (N, out, ⌈H / stride⌉, ⌈W / stride⌉); else None."""
    if stride == 1 and channels == out:
        return None
    return Sequential(Conv2d(channels, out, 1, stride, bias=False), BatchNorm2d(out))


class ResNet(Module):
    """A stem, stages of residual blocks, a mean over all places, and one linear map  (He et al. 2016)

    Every stage but the first halves the image. Shortcuts that change shape are 1×1 convolutions everywhere (the paper's
    option B; its small networks pad channels with zeros). Convolutions begin with N(0, 2 / fan_out), as torchvision's.

    Args: block: BasicBlock or Bottleneck. layers: blocks of each stage. widths: `planes` of each stage, the stem having
        the first. imagenet: the stem is 7×7 with stride 2 and a pooling, in place of 3×3.
        zero_init_residual: the last batch norm of each block begins at 0, so that every block begins as its shortcut
        (Goyal et al. 2017).
    Shapes: (N, in_channels, H, W), of any size → logits (N, num_classes). Raises ValueError for other images, and for
        as many widths as there are not stages.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck] = BasicBlock,
        layers: Sequence[int] = (1, 1, 1),
        num_classes: int = 10,
        zero_init_residual: bool = False,
        *,
        in_channels: int = 3,
        widths: Sequence[int] = (32, 64, 128),
        imagenet: bool = False,
    ):
        if len(layers) != len(widths) or min(layers, default=0) < 1:
            raise ValueError(f"ResNet expected a width and at least one block a stage, got {layers=} and {widths=}")
        self.in_channels = in_channels
        kernel, stride, padding = (7, 2, 3) if imagenet else (3, 1, 1)
        self.conv1 = Conv2d(in_channels, widths[0], kernel, stride, padding, bias=False)
        self.bn1 = BatchNorm2d(widths[0])
        self.maxpool = MaxPool2d(3, stride=2, padding=1) if imagenet else Identity()
        channels = widths[0]
        self.stages = [f"layer{i + 1}" for i in range(len(layers))]  # torchvision's names of the attributes
        for i, (name, depth, width) in enumerate(zip(self.stages, layers, widths, strict=True)):
            blocks = []
            for j in range(depth):
                blocks.append(block(channels, width, stride=2 if i > 0 and j == 0 else 1))
                channels = width * block.expansion
            setattr(self, name, Sequential(*blocks))
        self.avgpool = AdaptiveAvgPool2d(1)
        self.fc = Linear(channels, num_classes)

        initialise_convolutions(self)
        if zero_init_residual:
            last = ".bn3.weight" if issubclass(block, Bottleneck) else ".bn2.weight"
            for key, parameter in self.named_parameters():
                if key.endswith(last):
                    parameter.data[...] = 0

    def forward(self, x: Any) -> Tensor:
        expect_images(self, x, self.in_channels)
        x = self.maxpool(relu(self.bn1(self.conv1(x))))
        for name in self.stages:
            x = getattr(self, name)(x)
        return self.fc(flatten(self.avgpool(x), 1))


def resnet_small(n: int = 3, widths: Sequence[int] = (16, 32, 64), num_classes: int = 10, **options: Any) -> ResNet:
    """The paper's network for small images, of 6n + 2 layers in three stages: n = 3 gives ResNet-20  (section 4.2)"""
    return ResNet(BasicBlock, (n,) * len(widths), num_classes, widths=widths, **options)


def resnet18(num_classes: int = 1000, **options: Any) -> ResNet:
    """ResNet-18 for ImageNet, 11,689,512 parameters. Options: `zero_init_residual`, `in_channels`."""
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes, widths=(64, 128, 256, 512), imagenet=True, **options)


def resnet34(num_classes: int = 1000, **options: Any) -> ResNet:
    """ResNet-34 for ImageNet, 21,797,672 parameters. Options as resnet18's."""
    return ResNet(BasicBlock, (3, 4, 6, 3), num_classes, widths=(64, 128, 256, 512), imagenet=True, **options)


def resnet50(num_classes: int = 1000, **options: Any) -> ResNet:
    """ResNet-50 for ImageNet, 25,557,032 parameters. Options as resnet18's."""
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes, widths=(64, 128, 256, 512), imagenet=True, **options)

"""The convolutional network, first as it began (LeNet-5), then deep and plain (VGG).

A convolution looks for the same small patterns everywhere; pooling halves the image, so that the next convolution sees
twice as far; after some rounds, fully connected layers decide from what is left.

    LeNet-5      x (N, 1, 28, 28)
                 ─ Conv 5×5, padded by 2 ─ ReLU ─ pool ─► (N, 6, 14, 14)
                 ─ Conv 5×5 ───────────── ReLU ─ pool ─► (N, 16, 5, 5)
                 ─ flatten (N, 400) ─ Linear 120 ─ ReLU ─ Linear 84 ─ ReLU ─ Linear ─► logits (N, 10)

    VGG          x (N, C, H, W)
                 ─ [Conv 3×3 ─ BatchNorm ─ ReLU] × n ─ pool ─►  one stage: twice the channels, half the size
                 ─ … ─ flatten ─ [Linear ─ ReLU ─ Dropout] × m ─ Linear ─► logits (N, classes)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from scratch.activations import ReLU, relu
from scratch.layers import BatchNorm2d, Conv2d, Dropout, Linear, MaxPool2d, flatten
from scratch.models.cnn.parts import expect_images, image_sides, initialise_convolutions
from scratch.module import Module, Sequential
from scratch.tensor import Tensor


class LeNet5(Module):
    """Convolutions of 5×5 with pooling, then fully connected layers  (LeCun, Bottou, Bengio and Haffner 1998)

    As the name is used today. The paper's network pools by a mean with a weight and a bias for each map, bends by
    1.7159 tanh(2x/3), connects each of its 16 second maps to some of the 6 first only (Table I), ends in distances to
    fixed 7×12 pictures of the characters, and takes 32×32 images without padding. Here: the largest of 2×2, ReLU, all
    connections, a linear map to logits for the cross-entropy, and 28×28 images padded by 2. So it has 61,706 parameters
    in place of about 60,000.

    Args: in_channels, image_size (a number, or height and width): of the images. channels: of each convolution.
        hidden: units of each fully connected layer. padding: of the convolutions, one number or one for each.
    Shapes: (N, in_channels, height, width) → logits (N, num_classes). Raises ValueError for other images, and for
        images too small for so many convolutions.
    """

    def __init__(
        self,
        in_channels: int = 1,
        image_size: int | Sequence[int] = 28,
        channels: Sequence[int] = (6, 16),
        hidden: Sequence[int] = (120, 84),
        num_classes: int = 10,
        kernel_size: int = 5,
        padding: int | Sequence[int] = (2, 0),
    ):
        padding = [padding] * len(channels) if isinstance(padding, int) else list(padding)
        if len(padding) != len(channels):
            raise ValueError(f"LeNet5 expected {len(channels)} paddings, one for each convolution, got {padding}")
        self.in_channels = in_channels
        self.image_size = (height, width) = image_sides(self, image_size)
        for p in padding:
            height, width = ((n + 2 * p - kernel_size + 1) // 2 for n in (height, width))
        if min(height, width) < 1:
            raise ValueError(f"LeNet5 expected larger images for {len(channels)} convolutions, got {self.image_size}")

        ends = zip([in_channels, *channels[:-1]], channels, padding, strict=True)
        self.convolutions = [Conv2d(n, m, kernel_size, padding=p) for n, m, p in ends]
        self.pool = MaxPool2d(2)
        units = [channels[-1] * height * width, *hidden, num_classes]
        self.layers = [Linear(n, m) for n, m in zip(units[:-1], units[1:], strict=True)]

    def forward(self, x: Any) -> Tensor:
        expect_images(self, x, self.in_channels, self.image_size)
        for convolution in self.convolutions:
            x = self.pool(relu(convolution(x)))
        h = flatten(x, 1)
        for layer in self.layers[:-1]:
            h = relu(layer(h))
        return self.layers[-1](h)


class VGG(Module):
    """Stages of 3×3 convolutions, the image halved after each  (Simonyan and Zisserman 2015)

    Two 3×3 convolutions see 5×5 numbers, three see 7×7, with fewer weights and more bends than one large kernel. Batch
    norm behind each is a departure from the paper, which is older; layout and state keys are those of torchvision's
    vgg…_bn, of which stages=((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3), hidden=(4096, 4096),
    image_size=224 is VGG-16. Convolutions begin with He's N(0, 2 / fan_out).

    Args: stages: the channels of each convolution, stage by stage. hidden: units of each fully connected layer.
        dropout: share of the hidden units set to zero in training (0.5 in the paper).
    Shapes: (N, in_channels, height, width) → logits (N, num_classes). Raises ValueError for other images, and for
        images that as many halvings leave nothing of.
    """

    def __init__(
        self,
        in_channels: int = 1,
        image_size: int | Sequence[int] = 28,
        stages: Sequence[Sequence[int]] = ((32, 32), (64, 64), (128, 128)),
        hidden: Sequence[int] = (128,),
        num_classes: int = 10,
        dropout: float = 0.0,
    ):
        self.in_channels = in_channels
        self.image_size = image_sides(self, image_size)
        height, width = (n // 2 ** len(stages) for n in self.image_size)
        if min(height, width) < 1:
            raise ValueError(f"VGG expected larger images for {len(stages)} stages, got {self.image_size}")

        parts: list[Module] = []
        channels = in_channels
        for stage in stages:
            for out in stage:
                parts += [Conv2d(channels, out, 3, padding=1), BatchNorm2d(out), ReLU()]
                channels = out
            parts.append(MaxPool2d(2))
        self.features = Sequential(*parts)

        units = [channels * math.prod((height, width)), *hidden]
        decision: list[Module] = []
        for n, m in zip(units[:-1], units[1:], strict=True):
            decision += [Linear(n, m), ReLU(), Dropout(dropout)]
        self.classifier = Sequential(*decision, Linear(units[-1], num_classes))
        initialise_convolutions(self)

    def forward(self, x: Any) -> Tensor:
        expect_images(self, x, self.in_channels, self.image_size)
        return self.classifier(flatten(self.features(x), 1))

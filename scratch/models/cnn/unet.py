"""U-Net: down to see far, up again to see where, and at every size the way up takes the way down's maps along.

    x (N, C, H, W)                                                        logits (N, classes, H, W)
    │                                                                         ▲  Conv 1×1
    ├─ two Conv 3×3 ─► (N, w, H, W) ─────── copy ────► join (2w) ─ two Conv 3×3 ─► (N, w, H, W)
    │  pool 2×2                                            ▲  transposed Conv 2×2, stride 2
    ├─ two Conv 3×3 ─► (N, 2w, H/2, W/2) ── copy ────► join (4w) ─ two Conv 3×3 ─► (N, 2w, H/2, W/2)
    │  pool 2×2                                            ▲  transposed Conv 2×2, stride 2
    └─ two Conv 3×3 ─► (N, 4w, H/4, W/4) ──────────────────┘

drawn for depth 2; batch norm and ReLU follow every "Conv 3×3".
"""

from __future__ import annotations

from typing import Any

import numpy as np

from scratch import concatenate
from scratch.activations import ReLU
from scratch.layers import BatchNorm2d, Conv2d, ConvTranspose2d, MaxPool2d
from scratch.models.cnn.parts import expect_images, initialise_convolutions
from scratch.module import Module, Sequential
from scratch.tensor import Tensor


def double_conv(channels: int, out: int) -> Sequential:
    """(N, channels, H, W) ─ [Conv 3×3 ─ BN ─ ReLU] × 2 ─► (N, out, H, W)"""
    first, second = Conv2d(channels, out, 3, padding=1, bias=False), Conv2d(out, out, 3, padding=1, bias=False)
    return Sequential(first, BatchNorm2d(out), ReLU(), second, BatchNorm2d(out), ReLU())


class UNet(Module):
    """A label for every pixel  (Ronneberger, Fischer and Brox 2015)

    Departures: the paper's convolutions are not padded, so that its output is smaller than its input and the copies are
    cut to fit; here the size is kept. Batch norm is added, and dropout at the bottom left out. width=64 and depth=4
    are the paper's; convolutions begin with its N(0, 2 / fan_in).

    Args: width: channels at full size, doubled at each of the `depth` halvings.
    Shapes: (N, in_channels, H, W) → logits (N, num_classes, H, W), H and W multiples of 2^depth. Raises ValueError for
        other images.
    """

    def __init__(self, in_channels: int = 1, num_classes: int = 2, width: int = 16, depth: int = 3):
        if depth < 1 or width < 1:
            raise ValueError(f"UNet expected a width and a depth of at least 1, got {width} and {depth}")
        self.in_channels = in_channels
        self.depth = depth
        widths = [width << level for level in range(depth + 1)]
        pairs = list(zip(widths[:-1], widths[1:], strict=True))
        self.down = [double_conv(n, m) for n, m in zip([in_channels, *widths[:-2]], widths[:-1], strict=True)]
        self.pool = MaxPool2d(2)
        self.bottom = double_conv(*pairs[-1])
        self.up = [ConvTranspose2d(wide, narrow, 2, stride=2) for narrow, wide in reversed(pairs)]
        self.join = [double_conv(wide, narrow) for narrow, wide in reversed(pairs)]
        self.head = Conv2d(width, num_classes, 1)
        initialise_convolutions(self, mode="fan_in")

    def forward(self, x: Any) -> Tensor:
        expect_images(self, x, self.in_channels)
        factor = 2**self.depth
        if any(n == 0 or n % factor for n in np.shape(x)[2:]):
            raise ValueError(
                f"UNet of depth {self.depth} expected x of shape (N, C, H, W) with H and W multiples of {factor}, got "
                f"{np.shape(x)}; pad the images with zeros up to the next multiple, and cut the result"
            )
        copies = []
        for down in self.down:
            x = down(x)
            copies.append(x)
            x = self.pool(x)
        x = self.bottom(x)
        for up, join in zip(self.up, self.join, strict=True):
            x = join(concatenate([copies.pop(), up(x)], axis=1))
        return self.head(x)

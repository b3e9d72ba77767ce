"""Encoders and decoders: images to numbers and back. What the models of this folder are put together from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from scratch.activations import ReLU, relu
from scratch.layers import Conv2d, ConvTranspose2d, Flatten, Linear, Unflatten
from scratch.module import Module, Sequential
from scratch.tensor import Tensor

Shape = tuple[int, int, int]  # channels, height, width
HALVING: dict[str, Any] = {"kernel_size": 4, "stride": 2, "padding": 1}  # height and width halved, or doubled


def dense_encoder(shape: Shape, hidden: Sequence[int], outputs: int) -> Sequential:
    """Images → numbers through layers of `hidden` units.  Shapes: (B, C, H, W) → (B, outputs)"""
    sizes = [math.prod(shape), *hidden]
    layers = [layer for n, m in pairwise(sizes) for layer in (Linear(n, m), ReLU())]
    return Sequential(Flatten(), *layers, Linear(sizes[-1], outputs))


def dense_decoder(latent: int, hidden: Sequence[int], shape: Shape) -> Sequential:
    """The same layers the other way round.  Shapes: (B, latent) → (B, C, H, W)"""
    sizes = [latent, *reversed(hidden)]
    layers = [layer for n, m in pairwise(sizes) for layer in (Linear(n, m), ReLU())]
    return Sequential(*layers, Linear(sizes[-1], math.prod(shape)), Unflatten(1, shape))


def conv_encoder(shape: Shape, widths: Sequence[int], outputs: int) -> Sequential:
    """A convolution for each of `widths` halves the image; a linear map reads what is left.

    Shapes: (B, C, H, W) → (B, outputs). Raises ValueError for images that can't be halved so often.
    """
    low = _lowest(shape, widths)
    layers = [layer for n, m in pairwise([shape[0], *widths]) for layer in (Conv2d(n, m, **HALVING), ReLU())]
    return Sequential(*layers, Flatten(), Linear(math.prod(low), outputs))


def conv_decoder(latent: int, widths: Sequence[int], shape: Shape) -> Sequential:
    """A linear map makes a small image, transposed convolutions double it.  Shapes: (B, latent) → (B, C, H, W)"""
    low = _lowest(shape, widths)
    *sizes, last = reversed([shape[0], *widths])
    layers = [layer for n, m in pairwise(sizes) for layer in (ConvTranspose2d(n, m, **HALVING), ReLU())]
    return Sequential(Linear(latent, math.prod(low)), ReLU(), Unflatten(1, low), *layers,
                      ConvTranspose2d(sizes[-1], last, **HALVING))  # fmt: skip


class Residual(Module):
    """y = x + Conv1×1(relu(Conv3×3(relu(x))))  (van den Oord et al. 2017, §4.1).  Shapes: (B, C, H, W) → the same"""

    def __init__(self, channels: int):
        self.look = Conv2d(channels, channels, 3, padding=1)
        self.mix = Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mix(relu(self.look(relu(x))))


def grid_encoder(channels: int, width: int, blocks: int, outputs: int) -> Sequential:
    """Halved twice, then residual blocks: a vector for every 4×4 pixels.  (B, C, H, W) → (B, outputs, H/4, W/4)"""
    return Sequential(
        Conv2d(channels, width // 2, **HALVING), ReLU(), Conv2d(width // 2, width, **HALVING),
        *(Residual(width) for _ in range(blocks)), ReLU(), Conv2d(width, outputs, 1),
    )  # fmt: skip


def grid_decoder(inputs: int, width: int, blocks: int, channels: int) -> Sequential:
    """The mirror image of `grid_encoder`.  Shapes: (B, inputs, H, W) → (B, C, 4H, 4W)"""
    return Sequential(
        Conv2d(inputs, width, 3, padding=1), *(Residual(width) for _ in range(blocks)), ReLU(),
        ConvTranspose2d(width, width // 2, **HALVING), ReLU(), ConvTranspose2d(width // 2, channels, **HALVING),
    )  # fmt: skip


def _lowest(shape: Shape, widths: Sequence[int]) -> Shape:
    """Channels, height and width after all halvings."""
    factor = 2 ** len(widths)
    if not widths or shape[1] % factor or shape[2] % factor:
        raise ValueError(f"{len(widths)} halvings need an image whose sides are multiples of {factor}, got {shape}")
    return widths[-1], shape[1] // factor, shape[2] // factor

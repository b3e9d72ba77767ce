"""What the convolutional networks share: the look at what comes in, and the first weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from scratch.initializers import he_normal
from scratch.layers import Conv2d
from scratch.layers.convolution.geometry import check_images, sizes
from scratch.module import Module


def expect_images(model: Module, x: Any, channels: int, size: tuple[int, int] | None = None) -> None:
    """Raises ValueError unless x is (N, channels, H, W), and (H, W) = `size` where the model has a fixed one."""
    name, shape = type(model).__name__, np.shape(x)
    check_images(name, shape, channels, 2)
    if size is not None and shape[2:] != size:
        raise ValueError(f"{name} expected x of shape (N, {channels}, {size[0]}, {size[1]}), got {shape}")


def image_sides(model: Module, image_size: Any) -> tuple[int, int]:
    """(height, width) from one number or two. Raises ValueError for others."""
    height, width = sizes(type(model).__name__, "image_size", image_size, 2)
    return height, width


def initialise_convolutions(model: Module, mode: str = "fan_out") -> None:
    """Every Conv2d's weight from N(0, 2 / fan) (He et al. 2015, for ReLU), its bias 0.

    A convolution in groups counts the outputs of all of them, as PyTorch does.
    """
    for module in model.modules():
        if isinstance(module, Conv2d):
            module.weight.data[...] = he_normal(module.weight.shape, mode=mode, nonlinearity="relu")
            if module.bias is not None:
                module.bias.data[...] = 0

"""The receptive field: how much of the image a unit of a layer sees, on paper and measured.

    image   · · · · · · · · ·        each output of a 3×3 convolution sees 3 pixels a side,
    conv1       o o o o o            of two 5, of three 7: k − 1 more each time,
    conv2         o o o              and a step of 2 in one layer doubles what each later one adds
    conv3           o

On paper by a recursion over kernels and strides; measured by sending a gradient back from one unit and looking where in
the image it arrives. Not all that a unit *can* see counts alike: the middle of the field is reached by many paths, its
edge by one. So the *effective* field, the size of the gradient, looks like a bell and is much smaller.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from scratch.layers import AvgPool2d, Conv2d, MaxPool2d
from scratch.layers.convolution.fast import exact_zeros
from scratch.models.cnn.inside import check_name, looking
from scratch.module import Module, observe
from scratch.random import generator
from scratch.tensor import Array, Tensor, no_grad

Pair = tuple[int, int]
LOCAL = (Conv2d, MaxPool2d, AvgPool2d)  # the layers whose units see a window


class Box(NamedTuple):
    """A part of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int


class Field(NamedTuple):
    """What a unit behind a layer sees: `size` pixels (height, width); its neighbour sees the same, `jump` pixels on."""

    size: Pair
    jump: Pair


def theoretical_receptive_field(layers: Iterable[Any]) -> list[Field]:
    """The field behind each of the layers of a chain, from the image up:

        r_l = r_(l−1) + d_l (k_l − 1) j_(l−1),        j_l = j_(l−1) s_l,        r_0 = j_0 = 1

    with kernel k, stride s and dilation d (Araujo, Norris and Sim 2019). Padding moves the field and doesn't change its
    size. A chain is meant: of a residual block with a convolution in its shortcut give the longer branch.

    Args: layers: modules in the order of computation (a Sequential, or `in_order(model, shape)`), of which Conv2d,
        MaxPool2d and AvgPool2d count and the others are taken to work pixel by pixel; or triples (k, s, d) of numbers
        or pairs.  → one Field for each that counts.
    """
    fields = [Field((1, 1), (1, 1))]
    for layer in layers:
        if isinstance(layer, Module) and not isinstance(layer, LOCAL):
            continue
        (r, q), (j, i) = fields[-1]
        (k, m), (s, t), (d, e) = map(_pair, _geometry(layer))
        fields.append(Field((r + d * (k - 1) * j, q + e * (m - 1) * i), (j * s, i * t)))
    return fields[1:]


def in_order(model: Module, shape: Sequence[int]) -> list[Module]:
    """The convolutions and poolings of a model as they run, each as often as it does; shape is (C, H, W)."""
    ran: list[Module] = []

    def note(module: Module, inputs: tuple, output: Any) -> None:
        if isinstance(module, LOCAL):
            ran.append(module)

    with looking(model), no_grad(), observe(note):
        model(Tensor(np.zeros((1, *shape), _dtype(model))))
    return ran


def effective_receptive_field(
    model: Module, shape: Sequence[int], layer: str = "", unit: Pair | None = None, samples: int = 32
) -> Array:
    """How much each pixel moves one unit of a layer, over random images x and random directions v of its channels:

        E[i, j] = mean over x, v and the image's channels of |∂ Σ_c v_c A_c[unit] / ∂x[i, j]|, the largest set to 1

    (Luo, Li, Urtasun and Zemel 2016). x and v are N(0, 1): one image would show where *its* ReLUs are open and *its*
    maxima lie, one v where the channels cancel.

    Args: shape: (C, H, W) of the images. layer: name of the module, "" for the model itself; it puts out
        (N, channels, h, w). unit: (row, column), by default the one in the middle, (⌊h/2⌋, ⌊w/2⌋).
    Shapes: → (H, W). Raises ValueError for a name or a unit that is not there.
    """
    wanted = dict(model.named_modules())[check_name(model, layer)]
    outputs: list[Tensor] = []

    def keep(module: Module, inputs: tuple, output: Any) -> None:
        if module is wanted and isinstance(output, Tensor):
            outputs.append(output)

    dtype = _dtype(model)
    x = Tensor(generator().standard_normal((samples, *shape)).astype(dtype), requires_grad=True)
    with looking(model), observe(keep), exact_zeros():
        model(x)
        if not outputs or outputs[-1].ndim != 4:
            came = outputs[-1].shape if outputs else "nothing"
            raise ValueError(f"expected {layer or 'the model'} to put out (N, channels, h, w), got {came}")
        n, channels, height, width = outputs[-1].shape
        row, column = unit or (height // 2, width // 2)
        if not (0 <= row < height and 0 <= column < width):
            raise ValueError(f"expected a unit within {height} rows and {width} columns, got {unit}")
        seed = np.zeros_like(outputs[-1].data)
        seed[:, :, row, column] = generator().standard_normal((n, channels))
        outputs[-1].backward(seed)
    if x.grad is None:
        return np.zeros(tuple(shape[1:]), dtype)
    mean = np.abs(x.grad).mean(axis=(0, 1))
    return mean / (mean.max() or 1)


def receptive_field(
    model: Module, shape: Sequence[int], layer: str = "", unit: Pair | None = None, samples: int = 32
) -> Box:
    """The smallest box of pixels outside of which no gradient of the unit arrives; arguments as above.

    It is cut off at the image's border. Where maxima are taken, a pixel shows only if it wins in one of the samples.
    """
    seen = effective_receptive_field(model, shape, layer, unit, samples) > 0
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    if not len(rows):
        return Box(0, 0, 0, 0)
    top, left = int(rows[0]), int(columns[0])
    return Box(top, left, int(rows[-1]) - top + 1, int(columns[-1]) - left + 1)


def spread(effective: Array) -> float:
    """The side of the square that a uniform field of the same variance would have, as a mean over both axes.

        side = √(12 Var),        Var of the place of a pixel drawn with probability ∝ E

    So for a field that counts all its pixels alike this is about the theoretical size, for a bell much less.
    """
    p = effective / effective.sum()
    sides = []
    for axis in (1, 0):
        q, place = p.sum(axis=axis), np.arange(p.shape[1 - axis])
        sides.append(math.sqrt(12 * float((q * (place - (q * place).sum()) ** 2).sum())))
    return sum(sides) / 2


def _dtype(model: Module) -> np.dtype:
    return next((parameter.dtype for parameter in model.parameters()), np.dtype(np.float32))


def _geometry(layer: Any) -> tuple[Any, Any, Any]:
    """(kernel, stride, dilation)"""
    if isinstance(layer, Module):
        return layer.kernel_size, layer.stride, getattr(layer, "dilation", 1)  # type: ignore[attr-defined]
    if not (isinstance(layer, (tuple, list)) and len(layer) == 3):
        raise ValueError(f"a layer is a module or (kernel, stride, dilation), got {layer!r}")
    return tuple(layer)


def _pair(value: Any) -> Pair:
    return (int(value), int(value)) if np.ndim(value) == 0 else (int(value[0]), int(value[1]))

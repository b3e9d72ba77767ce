"""Geometry of convolutions: arguments brought to one form, sizes, and messages for what does not fit.

Along one axis, a kernel of k weights that stand `dilation` apart spans d = dilation · (k − 1) + 1 numbers, and it is
laid on the input, padded by `before` and `after` zeros, every `stride` numbers as long as it fits:

    outputs = ⌊(inputs + before + after − d) / stride⌋ + 1

Everything below the layers works with the normal form: a number for each axis for stride, dilation and kernel, a pair
(before, after) for each axis for padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]  # ((top, bottom), (left, right))

FIRST = {1: "(N, C, L)", 2: "(N, C, H, W)"}
LAST = {1: "(N, L, C)", 2: "(N, H, W, C)"}  # what the same would be with the channels last
REORDER = {1: "x.transpose(0, 2, 1)", 2: "x.transpose(0, 3, 1, 2)"}


def sizes(who: Any, name: str, value: Any, axes: int, least: int = 1) -> tuple[int, ...]:
    """A number for each axis, from one number or from as many. Raises ValueError for others, and below `least`."""
    values = tuple(value) if isinstance(value, (Sequence, np.ndarray)) else (value,) * axes
    if len(values) != axes or not all(_is_integer(v) and v >= least for v in values):
        many = "an integer" if axes == 1 else f"an integer or {axes} of them"
        raise ValueError(f"{who} expected {name} to be {many}, at least {least}, got {value!r}")
    return tuple(int(v) for v in values)


def sides(
    who: Any, padding: Any, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> tuple[Pair, ...]:
    """(before, after) for each axis.

    From one number; a number an axis; a pair (before, after) an axis, such as ((top, bottom), (left, right)), which
    PyTorch does not take; "valid", no padding; or "same", as many outputs as inputs: dilation · (k − 1) zeros, of which
    the odd one, as with every even kernel at dilation 1, goes to the end (bottom, right), as in PyTorch.
    Raises ValueError for others, negative numbers, and "same" with a stride above 1.
    """
    axes = len(kernel)
    if isinstance(padding, str):
        if padding == "valid":
            return ((0, 0),) * axes
        if padding != "same":
            raise ValueError(f"{who} expected padding to be numbers, 'same' or 'valid', got {padding!r}")
        if any(s != 1 for s in stride):
            raise ValueError(
                f"{who} expected stride 1 with padding='same', got {tuple(stride)}: with a larger stride the output "
                "cannot have the input's size; give the padding in numbers"
            )
        totals = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return tuple((total // 2, total - total // 2) for total in totals)
    if not isinstance(padding, Sequence) or not any(isinstance(side, Sequence) for side in padding):
        return tuple((p, p) for p in sizes(who, "padding", padding, axes, least=0))
    if len(padding) != axes or not all(isinstance(side, Sequence) for side in padding):
        each = ", ".join(["(before, after)"] * axes)
        raise ValueError(f"{who} expected padding in pairs to be ({each}{',' * (axes == 1)}), got {padding!r}")
    pairs = [sizes(who, "each of padding's pairs", side, 2, least=0) for side in padding]
    return tuple((before, after) for before, after in pairs)


def output_sizes(
    inputs: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[Pair],
    dilation: Sequence[int],
) -> tuple[int, ...]:
    """How often the kernel fits along each axis: ⌊(inputs + before + after − dilation · (k − 1) − 1) / stride⌋ + 1"""
    return tuple(
        (n + before + after - d * (k - 1) - 1) // s + 1
        for n, k, s, (before, after), d in zip(inputs, kernel, stride, padding, dilation, strict=True)
    )


def transposed_sizes(
    inputs: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[Pair],
    dilation: Sequence[int],
    output_padding: Sequence[int],
) -> tuple[int, ...]:
    """(inputs − 1) · stride − before − after + dilation · (k − 1) + output_padding + 1 along each axis

    The smallest input of a convolution with so many outputs, and `output_padding` numbers more: with a stride, several
    inputs have as many outputs.
    """
    return tuple(
        (n - 1) * s - before - after + d * (k - 1) + more + 1
        for n, k, s, (before, after), d, more in zip(
            inputs, kernel, stride, padding, dilation, output_padding, strict=True
        )
    )


def check_groups(who: Any, groups: Any, **channels: int) -> None:
    """Raises ValueError unless there is at least one group and they divide each of the numbers of channels."""
    if not _is_integer(groups) or groups < 1:
        raise ValueError(f"{who} expected groups to be an integer of at least 1, got {groups!r}")
    for name, number in channels.items():
        if number < 1 or number % groups:
            raise ValueError(f"{who} expected {name} to be divisible by groups = {groups}, got {number}")


def check_weight(who: Any, weight: tuple[int, ...], order: str) -> None:
    """Raises ValueError for a weight of another rank than `order` names, and for one with an empty axis."""
    if len(weight) != len(order.split(",")) or 0 in weight:
        raise ValueError(f"{who} expected weight of shape ({order}) without empty axes, got {weight}")


def check_bias(who: Any, bias: tuple[int, ...], channels: int) -> None:
    """Raises ValueError unless there is one bias for each output channel."""
    if bias != (channels,):
        raise ValueError(f"{who} expected bias of shape ({channels},), one for each output channel, got {bias}")


def check_images(who: Any, shape: tuple[int, ...], channels: int, axes: int) -> None:
    """Raises ValueError unless these are images (N, C, H, W), or sequences (N, C, L), of so many channels."""
    if len(shape) == axes + 2 and shape[1] == channels:
        return
    hint = ""
    if len(shape) == axes + 1:
        hint = "; a single one needs a batch axis: x[None]"
    elif len(shape) == axes + 2 and shape[-1] == channels:
        hint = f"; this looks like {LAST[axes]}: {REORDER[axes]} brings the channels to the second axis without a copy"
    raise ValueError(f"{who} expected x of shape {FIRST[axes]} with C = {channels}, got {shape}{hint}")


def check_fits(
    who: Any, inputs: Sequence[int], kernel: Sequence[int], padding: Sequence[Pair], dilation: Sequence[int]
) -> None:
    """Raises ValueError for a kernel larger than the padded input."""
    spans = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    padded = tuple(n + before + after for n, (before, after) in zip(inputs, padding, strict=True))
    if any(span > n for span, n in zip(spans, padded, strict=True)):
        spread = "" if all(d == 1 for d in dilation) else f", which spans {spans} with dilation {tuple(dilation)},"
        raise ValueError(
            f"{who} expected a kernel no larger than the padded input: kernel {tuple(kernel)}{spread} on {padded} "
            f"(the input's {tuple(inputs)} and the padding)"
        )


def check_output_padding(who: Any, more: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> None:
    """Raises ValueError unless the rows and columns added are fewer than the stride, or the dilation, as in PyTorch."""
    if any(m >= max(s, d) for m, s, d in zip(more, stride, dilation, strict=True)):
        raise ValueError(
            f"{who} expected output_padding below the stride {tuple(stride)} or the dilation {tuple(dilation)}, "
            f"got {tuple(more)}"
        )


def check_outputs(who: Any, outputs: Sequence[int], inputs: Sequence[int]) -> None:
    """Raises ValueError where a transposed convolution's padding takes everything away."""
    if any(n < 1 for n in outputs):
        raise ValueError(f"{who}: from an input of {tuple(inputs)}, the padding leaves an output of {tuple(outputs)}")


def _is_integer(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.bool_))

"""Convolution, told three times and tested equal:

    plain.py        the definition as loops, read first
    im2col.py       the same as one matrix product
    fast.py         what the layers compute with; it chooses between windows.py, winograd.py and depthwise.py

    geometry.py     arguments in one form, sizes, and what does not fit
    conv.py         conv2d, conv1d and their layers, with the derivation of the gradients
    transposed.py   the transposed convolution: the input gradient as a forward
    channels.py     the bias and its gradient
"""

from scratch.layers.convolution.conv import Conv1d, Conv2d, conv1d, conv2d
from scratch.layers.convolution.transposed import (
    ConvTranspose1d,
    ConvTranspose2d,
    conv_transpose1d,
    conv_transpose2d,
)

__all__ = [
    "Conv1d",
    "Conv2d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "conv1d",
    "conv2d",
    "conv_transpose1d",
    "conv_transpose2d",
]

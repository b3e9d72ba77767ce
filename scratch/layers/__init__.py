"""Layers: each file holds one operation with its derivative, and the class that holds the operation's parameters."""

from scratch.layers.convolution import (
    Conv1d,
    Conv2d,
    ConvTranspose1d,
    ConvTranspose2d,
    conv1d,
    conv2d,
    conv_transpose1d,
    conv_transpose2d,
)
from scratch.layers.dropout import Dropout, dropout
from scratch.layers.embedding import Embedding, embedding
from scratch.layers.linear import Linear, linear
from scratch.layers.normalization import (
    BatchNorm1d,
    BatchNorm2d,
    GroupNorm,
    LayerNorm,
    RMSNorm,
    batch_norm,
    group_norm,
    layer_norm,
    rms_norm,
)
from scratch.layers.shape import Flatten, Identity, Unflatten, flatten

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "Conv1d",
    "Conv2d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "Dropout",
    "Embedding",
    "Flatten",
    "GroupNorm",
    "Identity",
    "LayerNorm",
    "Linear",
    "RMSNorm",
    "Unflatten",
    "batch_norm",
    "conv1d",
    "conv2d",
    "conv_transpose1d",
    "conv_transpose2d",
    "dropout",
    "embedding",
    "flatten",
    "group_norm",
    "layer_norm",
    "linear",
    "rms_norm",
]

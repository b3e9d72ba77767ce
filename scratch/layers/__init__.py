"""Layers: each file holds one operation with its derivative, and the class that holds the operation's parameters."""

from scratch.layers.dropout import Dropout, dropout
from scratch.layers.embedding import Embedding, embedding
from scratch.layers.linear import Linear, linear
from scratch.layers.shape import Flatten, Identity, Unflatten, flatten

__all__ = [
    "Dropout",
    "Embedding",
    "Flatten",
    "Identity",
    "Linear",
    "Unflatten",
    "dropout",
    "embedding",
    "flatten",
    "linear",
]

"""Activations: each is one operation, with its derivative right below the formula.

Plain functions with PyTorch's arguments (`elementwise`, `gaussian`, `distributions`) and, for `Sequential`, classes
of PyTorch's names (`modules`). All keep the input's shape and dtype, and stay finite, without a warning, for inputs
of ±1e4. ValueError for inputs that are not floating-point numbers, where the function needs them.
"""

from scratch.activations.distributions import log_softmax, softmax
from scratch.activations.elementwise import elu, hardswish, leaky_relu, relu, relu6, sigmoid, silu, softplus, tanh
from scratch.activations.gaussian import gelu
from scratch.activations.modules import (
    ELU,
    GELU,
    Hardswish,
    LeakyReLU,
    LogSoftmax,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)

__all__ = [
    "ELU", "GELU", "Hardswish", "LeakyReLU", "LogSoftmax", "ReLU", "ReLU6", "SiLU", "Sigmoid", "Softmax",
    "Softplus", "Tanh",
    "elu", "gelu", "hardswish", "leaky_relu", "log_softmax", "relu", "relu6", "sigmoid", "silu", "softmax",
    "softplus", "tanh",
]  # fmt: skip

"""Deep-learning architectures from scratch: the formula, its derivative, and a model that trains, on NumPy alone."""

from scratch.combine import concatenate, stack, where
from scratch.gradcheck import gradcheck
from scratch.module import Module, Sequential
from scratch.random import manual_seed
from scratch.tensor import Buffer, Parameter, Tensor, matmul, no_grad

__version__ = "0.1.0"

__all__ = [
    "Buffer",
    "Module",
    "Parameter",
    "Sequential",
    "Tensor",
    "concatenate",
    "gradcheck",
    "manual_seed",
    "matmul",
    "no_grad",
    "stack",
    "where",
]

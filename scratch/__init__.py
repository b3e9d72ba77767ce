"""Deep-learning architectures from scratch: the formula, its derivative, and a model that trains, on NumPy alone."""

from scratch.gradcheck import gradcheck
from scratch.module import Module, Sequential
from scratch.random import manual_seed
from scratch.tensor import Buffer, Parameter, Tensor, no_grad

__version__ = "0.1.0"

__all__ = [
    "Buffer",
    "Module",
    "Parameter",
    "Sequential",
    "Tensor",
    "gradcheck",
    "manual_seed",
    "no_grad",
]

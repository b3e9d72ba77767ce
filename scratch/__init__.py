"""Deep-learning architectures from scratch: the formula, its derivative, and a model that trains, on NumPy alone."""

from scratch import interrupt

interrupt.end_at_once()  # before NumPy is loaded

from scratch.combine import concatenate, stack, where  # noqa: E402
from scratch.gradcheck import gradcheck  # noqa: E402
from scratch.module import Module, Sequential  # noqa: E402
from scratch.random import manual_seed  # noqa: E402
from scratch.tensor import Buffer, Parameter, Tensor, matmul, no_grad  # noqa: E402

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

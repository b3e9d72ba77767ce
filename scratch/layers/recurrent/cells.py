"""One step at a time: the modules around the functions of plain.py, for decoders and other loops of one's own."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from scratch.activations.elementwise import floating
from scratch.initializers import uniform
from scratch.layers.recurrent.plain import gru_cell, lstm_cell, rnn_relu_cell, rnn_tanh_cell
from scratch.module import Module
from scratch.tensor import Parameter, Tensor, as_tensor


class _Cell(Module):
    """The weights of one step, drawn from U(−1/√H, 1/√H) as in PyTorch."""

    gates = 1

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True):
        if input_size < 1 or hidden_size < 1:
            raise ValueError(f"{type(self).__name__} expected sizes of at least 1, got {input_size} and {hidden_size}")
        rows, bound = self.gates * hidden_size, 1 / math.sqrt(hidden_size)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.weight_ih = Parameter(uniform((rows, input_size), -bound, bound))
        self.weight_hh = Parameter(uniform((rows, hidden_size), -bound, bound))
        self.bias_ih = Parameter(uniform((rows,), -bound, bound)) if bias else None
        self.bias_hh = Parameter(uniform((rows,), -bound, bound)) if bias else None

    @property
    def weights(self) -> tuple[Parameter, Parameter, Parameter | None, Parameter | None]:
        return self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh

    def _input(self, x: Any) -> tuple[Tensor, bool]:
        """x (B, in), and whether it came without a batch."""
        x = floating(type(self).__name__, x)
        if x.ndim not in (1, 2) or x.shape[-1] != self.input_size:
            expected = f"(B, {self.input_size}) or ({self.input_size},)"
            raise ValueError(f"{self!r} expected shape {expected}, got {x.shape}")
        return (x.reshape(1, -1), True) if x.ndim == 1 else (x, False)

    def _state(self, state: Any, x: Tensor, alone: bool, name: str = "h") -> Tensor:
        """The state before the step (B, H), zeros where none is given."""
        B, H = x.shape[0], self.hidden_size
        if state is None:
            return Tensor(np.zeros((B, H), x.dtype))
        state = as_tensor(state, like=x)
        expected = (H,) if alone else (B, H)
        if state.shape != expected:
            raise ValueError(f"{self!r} expected {name} of shape {expected}, got {state.shape}")
        return state.reshape(1, H) if alone else state

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}, bias={self.bias_ih is not None}"


class RNNCell(_Cell):
    """h' = φ(W_ih x + b_ih + W_hh h + b_hh), φ "tanh" or "relu"

    Shapes: x (B, in), h (B, H), zeros if None → (B, H); or all without B. Raises ValueError for other shapes.
    """

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh"):
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"RNNCell expected nonlinearity 'tanh' or 'relu', got {nonlinearity!r}")
        super().__init__(input_size, hidden_size, bias)
        self.nonlinearity = nonlinearity

    def forward(self, input: Any, hx: Any = None) -> Tensor:
        x, alone = self._input(input)
        step = rnn_relu_cell if self.nonlinearity == "relu" else rnn_tanh_cell
        h = step(x, self._state(hx, x, alone), *self.weights)
        return h.reshape(-1) if alone else h

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, nonlinearity={self.nonlinearity!r}"


class LSTMCell(_Cell):
    """c' = f c + i g,  h' = o tanh c', the gates' rows in the weights in the order i, f, g, o

    Shapes: x (B, in), (h, c) each (B, H), zeros if None → (h', c'); or all without B. Raises ValueError for others.
    """

    gates = 4

    def forward(self, input: Any, hx: Any = None) -> tuple[Tensor, Tensor]:
        x, alone = self._input(input)
        h, c = pair(self, hx)
        h, c = lstm_cell(x, (self._state(h, x, alone), self._state(c, x, alone, "c")), *self.weights)
        return (h.reshape(-1), c.reshape(-1)) if alone else (h, c)


class GRUCell(_Cell):
    """h' = (1 − z) n + z h, the gates' rows in the weights in the order r, z, n

    Shapes: x (B, in), h (B, H), zeros if None → (B, H); or all without B. Raises ValueError for other shapes.
    """

    gates = 3

    def forward(self, input: Any, hx: Any = None) -> Tensor:
        x, alone = self._input(input)
        h = gru_cell(x, self._state(hx, x, alone), *self.weights)
        return h.reshape(-1) if alone else h


def pair(who: Module, state: Any) -> tuple[Any, Any]:
    """An LSTM's state (h, c). Raises ValueError for anything else than two, or None."""
    if state is None:
        return None, None
    if not isinstance(state, (tuple, list)) or len(state) != 2:
        came = f"{len(state)} of them" if isinstance(state, (tuple, list)) else type(state).__name__
        raise ValueError(f"{who!r} expected the state as (h, c), got {came}")
    return state[0], state[1]

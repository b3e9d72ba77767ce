"""RNN, LSTM and GRU: layers of recurrences over whole sequences, with PyTorch's arguments, keys and initial weights."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from scratch.activations.elementwise import floating
from scratch.combine import concatenate
from scratch.initializers import uniform
from scratch.layers.dropout import dropout
from scratch.layers.recurrent.cells import pair
from scratch.layers.recurrent.sequence import KINDS, one_step, recurrence
from scratch.module import Module
from scratch.tensor import Parameter, Tensor, as_tensor, is_grad_enabled
from scratch.value import raw


class _Recurrent(Module):
    """What the three have in common: layer k reads what layer k − 1 wrote, in one direction or in both.

    The weights of layer k are `weight_ih_l{k}`, `weight_hh_l{k}` and, with biases, `bias_ih_l{k}` and `bias_hh_l{k}`,
    those of the reverse direction end in `_reverse`; all are drawn from U(−1/√H, 1/√H).
    """

    def __init__(
        self,
        kind: str,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
    ):
        who = type(self).__name__
        if min(input_size, hidden_size, num_layers) < 1:
            sizes = f"{input_size}, {hidden_size} and {num_layers} layers"
            raise ValueError(f"{who} expected sizes of at least 1, got {sizes}")
        if not 0 <= dropout <= 1:
            raise ValueError(f"{who} expected a dropout probability from 0 to 1, got {dropout}")
        if dropout > 0 and num_layers == 1:
            warnings.warn(f"{who}: dropout={dropout} acts between layers, and there is only one", stacklevel=3)
        self.kind = kind
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        rows, bound = KINDS[kind].gates * hidden_size, 1 / math.sqrt(hidden_size)
        for k in range(num_layers):
            columns = input_size if k == 0 else hidden_size * self.directions
            shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, columns), "weight_hh": (rows, hidden_size)}
            shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)} if bias else {}
            for end in ("", "_reverse")[: self.directions]:
                for name, shape in shapes.items():
                    setattr(self, f"{name}_l{k}{end}", Parameter(uniform(shape, -bound, bound)))

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    def weights(self, layer: int) -> list[Parameter]:
        """W_ih, W_hh, b_ih, b_hh of one layer, then those of its reverse direction."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")[: 4 if self.bias else 2]
        ends = ("", "_reverse")[: self.directions]
        return [getattr(self, f"{name}_l{layer}{end}") for end in ends for name in names]

    def _run(self, input: Any, states: Sequence[Any], lengths: Any) -> tuple[Tensor, list[Tensor]]:
        """y, and the last states of all layers"""
        x, axis = self._time_major(input)
        T, B, _ = x.shape
        lengths = None if lengths is None else self._lengths(lengths, T, B)
        given = [self._state(state, name, x, axis) for state, name in zip(states, "hc", strict=False)]
        D, last = self.directions, []
        for k in range(self.num_layers):
            if k > 0:
                x = dropout(x, self.dropout, self.training)
            before = tuple(state if self.num_layers == 1 else state[k * D : (k + 1) * D] for state in given)
            if T == 1 and not is_grad_enabled():  # as in generation
                x, *after = one_step(KINDS[self.kind], x, before, self.weights(k))
            else:
                x, *after = recurrence(KINDS[self.kind], x, before, self.weights(k), lengths)
            last.append(after)
        finals = [parts[0] if len(last) == 1 else concatenate(parts) for parts in zip(*last, strict=True)]
        if axis is None:
            return x.reshape(T, -1), [final.reshape(-1, self.hidden_size) for final in finals]
        return (x.swapaxes(0, 1) if axis == 0 else x), finals

    def _time_major(self, x: Any) -> tuple[Tensor, int | None]:
        """x (T, B, in), and which axis was the batch, None for a sequence without one."""
        x = floating(type(self).__name__, x)
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_size or 0 in x.shape:
            axes = "B, T" if self.batch_first else "T, B"
            expected = f"({axes}, {self.input_size}) or (T, {self.input_size}) without an axis of 0"
            raise ValueError(f"{self!r} expected shape {expected}, got {x.shape}")
        if x.ndim == 2:
            return x.reshape(len(x), 1, -1), None
        return (x.swapaxes(0, 1), 0) if self.batch_first else (x, 1)

    def _state(self, state: Any, name: str, x: Tensor, axis: int | None) -> Tensor:
        """The states of all layers before the first step, (layers · directions, B, H); zeros where none are given."""
        L, D, B, H = self.num_layers, self.directions, x.shape[1], self.hidden_size
        if state is None:
            return Tensor(np.zeros((L * D, B, H), x.dtype))
        state = as_tensor(state, like=x)
        expected = (L * D, H) if axis is None else (L * D, B, H)
        if state.shape != expected:
            first = f"{L * D} = {L} layers × {D} directions"
            raise ValueError(f"{self!r} expected {name}_0 of shape {expected}, {first}, got {state.shape}")
        return state.reshape(L * D, 1, H) if axis is None else state

    def _lengths(self, lengths: Any, T: int, B: int) -> np.ndarray:
        lengths = np.array(raw(lengths))  # copied: the caller may refill it before backward
        if lengths.shape != (B,) or lengths.dtype.kind not in "iu":
            raise ValueError(
                f"{self!r} expected lengths as {B} whole numbers, one for each sequence, got shape {lengths.shape} of "
                f"dtype {lengths.dtype}"
            )
        if lengths.min() < 1 or lengths.max() > T:
            raise ValueError(f"{self!r} expected lengths from 1 to {T} steps, got {lengths.min()} to {lengths.max()}")
        return lengths.astype(np.int64)

    def extra_repr(self) -> str:
        return (
            f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}, bias={self.bias}, "
            f"batch_first={self.batch_first}, dropout={self.dropout}, bidirectional={self.bidirectional}"
        )


class RNN(_Recurrent):
    """h_t = φ(W_ih x_t + b_ih + W_hh h_{t−1} + b_hh), φ "tanh" or "relu"  (Elman 1990)

    Called as rnn(x, h_0, lengths) → y, h_n: y the last layer's h of every step, h_n every layer's of the last step.
    Shapes: x (T, B, in), or (B, T, in) with batch_first, or (T, in); h_0 and h_n (layers · D, B, H), D directions;
    y as x with D·H for in. lengths (B,): sequences that end earlier; y is 0 behind their ends, and all else as if each
    had been alone. Raises ValueError for other shapes, and for lengths outside 1 … T.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
    ):
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"RNN expected nonlinearity 'tanh' or 'relu', got {nonlinearity!r}")
        super().__init__(nonlinearity, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional)

    def forward(self, input: Any, hx: Any = None, lengths: Any = None) -> tuple[Tensor, Tensor]:
        y, (h,) = self._run(input, (hx,), lengths)
        return y, h

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, nonlinearity={self.kind!r}"


class LSTM(_Recurrent):
    """c_t = f c_{t−1} + i g,  h_t = o tanh c_t;  i, f, o = σ(·), g = tanh(·) of W_ih x_t + b_ih + W_hh h_{t−1} + b_hh

    (Hochreiter and Schmidhuber 1997, the forget gate by Gers et al. 2000.) The gates' rows have the order i, f, g, o.
    Called as lstm(x, (h_0, c_0), lengths) → y, (h_n, c_n). Shapes and errors as `RNN`, c as h. PyTorch's proj_size is
    not built: anything but 0 is a ValueError.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
    ):
        if proj_size != 0:
            raise ValueError(f"LSTM has no projection of h: expected proj_size=0, got {proj_size}")
        super().__init__("lstm", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional)

    def forward(self, input: Any, hx: Any = None, lengths: Any = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        y, (h, c) = self._run(input, pair(self, hx), lengths)
        return y, (h, c)


class GRU(_Recurrent):
    """h_t = (1 − z) n + z h_{t−1};  r, z = σ(·), n = tanh(W_in x_t + b_in + r (W_hn h_{t−1} + b_hn))

    (Cho et al. 2014, with r applied after the product, as in PyTorch and cuDNN.) The gates' rows have the order r, z,
    n. Called as gru(x, h_0, lengths) → y, h_n. Shapes and errors as `RNN`.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
    ):
        super().__init__("gru", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional)

    def forward(self, input: Any, hx: Any = None, lengths: Any = None) -> tuple[Tensor, Tensor]:
        y, (h,) = self._run(input, (hx,), lengths)
        return y, h

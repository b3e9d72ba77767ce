"""Recurrence by its equations, a step at a time: read this first. The tests hold the fast form against it.

The state h (and the LSTM's c) is what the network remembers of all that it has read. A step reads one input x and
writes the next state; the same weights serve every step. Each function below is one step, made of operations whose
derivatives stand elsewhere; `unroll` repeats it over time, so that `backward()` walks back through all the steps:
backpropagation through time, without another line. (sequence.py derives it by hand, and computes it faster.)

Shapes: x (B, in), h and c (B, H); weights (k·H, in) and (k·H, H), biases (k·H,), with the k gates one below another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scratch.activations import relu, sigmoid, tanh
from scratch.combine import stack
from scratch.layers.linear import linear
from scratch.tensor import Tensor

Weight = Tensor | None


def rnn_tanh_cell(x: Any, h: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Weight = None, b_hh: Weight = None) -> Tensor:
    """h' = tanh(W_ih x + b_ih + W_hh h + b_hh)  (Elman 1990)"""
    return tanh(linear(x, w_ih, b_ih) + linear(h, w_hh, b_hh))


def rnn_relu_cell(x: Any, h: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Weight = None, b_hh: Weight = None) -> Tensor:
    """h' = max(W_ih x + b_ih + W_hh h + b_hh, 0)  (Le, Jaitly and Hinton 2015)"""
    return relu(linear(x, w_ih, b_ih) + linear(h, w_hh, b_hh))


def lstm_gates(
    x: Any, h: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Weight = None, b_hh: Weight = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """i, f, g, o: how much to write, how much to keep, what to write, how much to show; each (B, H)"""
    a = linear(x, w_ih, b_ih) + linear(h, w_hh, b_hh)
    H = h.shape[1]
    i, f, g, o = (a[:, k * H : (k + 1) * H] for k in range(4))
    return sigmoid(i), sigmoid(f), tanh(g), sigmoid(o)


def lstm_cell(
    x: Any, state: tuple[Tensor, Tensor], w_ih: Tensor, w_hh: Tensor, b_ih: Weight = None, b_hh: Weight = None
) -> tuple[Tensor, Tensor]:
    """c' = f c + i g,  h' = o tanh c'  (Hochreiter and Schmidhuber 1997, the forget gate by Gers et al. 2000)

    From c' to c leads a product with f alone, no weight and no squashing: where f is near 1 the gradient stays.
    """
    h, c = state
    i, f, g, o = lstm_gates(x, h, w_ih, w_hh, b_ih, b_hh)
    c = f * c + i * g
    return o * tanh(c), c


def gru_gates(
    x: Any, h: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Weight = None, b_hh: Weight = None
) -> tuple[Tensor, Tensor, Tensor]:
    """r, z, n: how much of the past the proposal sees, how much of it stays, the proposal; each (B, H)

    r multiplies W_hn h + b_hn, after the product, as in PyTorch and cuDNN; Cho et al. 2014 have W_hn (r h).
    """
    from_x, from_h = linear(x, w_ih, b_ih), linear(h, w_hh, b_hh)
    H = h.shape[1]
    r = sigmoid(from_x[:, :H] + from_h[:, :H])
    z = sigmoid(from_x[:, H : 2 * H] + from_h[:, H : 2 * H])
    n = tanh(from_x[:, 2 * H :] + r * from_h[:, 2 * H :])
    return r, z, n


def gru_cell(x: Any, h: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Weight = None, b_hh: Weight = None) -> Tensor:
    """h' = (1 − z) n + z h  (Cho et al. 2014)"""
    _, z, n = gru_gates(x, h, w_ih, w_hh, b_ih, b_hh)
    return n + z * (h - n)


# By the names of sequence.KINDS.
STEPS: dict[str, Callable] = {"tanh": rnn_tanh_cell, "relu": rnn_relu_cell, "lstm": lstm_cell, "gru": gru_cell}


def unroll(step: Callable, x: Tensor, state: Any, *weights: Tensor) -> tuple[Tensor, Any]:
    """y_t and state_t from step(x_t, state_{t−1}, *weights): x (T, B, in) → the outputs h (T, B, H), the last state"""
    outputs = []
    for x_t in x:
        state = step(x_t, state, *weights)
        outputs.append(state[0] if isinstance(state, tuple) else state)
    return stack(outputs), state

"""A recurrence over a whole sequence, as one operation, with backpropagation through time derived by hand.

With a_t what the non-linearities of a step are given, in columns (one for each of the B sequences):

    a_t = W_ih x_t + b_ih + W_hh h_{t−1} + b_hh,    h_t = step(a_t, h_{t−1})

    forward    P_t = [W_ih b_ih] [x_t; 1]            for all t, before the loop             (G·H, B)
               a_t = P_t + [W_hh b_hh] [h_{t−1}; 1]  step by step                           (G·H, B)

The weights serve every step, so their gradient is a sum over the steps, and that sum is one product of matrices, the
steps side by side. What a step hands back to the one before it is the only thing that needs a loop:

    backward   dh_t = ∂L/∂y_t + W_hhᵀ da_{t+1}       what the output asks, and the next step     (H, B)
               da_t = dh_t · ∂step/∂a_t              step by step, from the last to the first    (G·H, B)

    after it   [∂L/∂W_hh ∂L/∂b_hh] = Σ_t da_t [h_{t−1}; 1]ᵀ = [da_1 … da_T] [h_0 … h_{T−1}; 1 … 1]ᵀ
               [∂L/∂W_ih ∂L/∂b_ih] = Σ_t da_t [x_t; 1]ᵀ     ∂L/∂x_t = W_ihᵀ da_t

dh_t is a product of W_hhᵀ · ∂step/∂a over all the steps behind t: there stands why gradients vanish, or explode. What
else a step hands on directly, an LSTM's c and the GRU's z h, is in the files of the kinds, and so is the GRU's third
gate, whose da differs between the two sides. ∂L/∂h_n is added to ∂L/∂y_T, for they are the same h.

The reverse direction reads each sequence from its end. A shorter sequence is padded behind its end, where its own
values no longer depend on anything: its outputs there are set to 0, its last state is the one after its last step, and
no gradient comes from behind. So the results are those of each sequence alone.

Columns, because a product (4H, H) (H, B) with both operands as they lie takes 0.6 to 0.8 of the time of (B, H) (H, 4H)
on two threads, and because each gate is then one piece of memory. x and y are (T, B, ·) nevertheless, as everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from scratch.blocks import over
from scratch.half import in_float32
from scratch.layers.recurrent import gru, lstm, rnn
from scratch.memory import keep_freed_memory
from scratch.tensor import Array, Tensor, is_grad_enabled, record


@dataclass(frozen=True)
class Kind:
    """What distinguishes the recurrences; numbers of rows count in blocks of H."""

    gates: int
    states: int  # 1: h, 2: h and c
    forward: Callable[[Array, Array, tuple[Array, ...], bool], tuple[Array, ...]]  # first come the states over time
    backward: Callable[..., tuple[Array, tuple[Array, ...]]]
    order: tuple[int, ...]  # the forward's order of gates
    of_x: slice  # the backward's rows that belong to the products with x, in PyTorch's order
    of_h: slice  # those that belong to the products with h,
    order_h: tuple[int, ...]  # in this order
    step: Callable[..., tuple[Array, ...]]  # one step without a tape, in rows


def _rnn(relu: bool) -> Kind:
    forward = lambda P, W, states, keep: rnn.forward(P, W, states, relu)  # noqa: E731
    return Kind(1, 1, forward, partial(rnn.backward, relu=relu), (0,), slice(0, 1), slice(0, 1), (0,),
                partial(rnn.step, relu=relu))  # fmt: skip


KINDS = {
    "tanh": _rnn(relu=False),
    "relu": _rnn(relu=True),
    "lstm": Kind(4, 2, lstm.forward, lstm.backward, lstm.ORDER, slice(0, 4), slice(0, 4), (0, 1, 2, 3), lstm.step),
    "gru": Kind(3, 1, gru.forward, gru.backward, (0, 1, 2), slice(1, 4), slice(0, 3), (2, 0, 1), gru.step),
}


@in_float32
def recurrence(
    kind: Kind, x: Tensor, states: tuple[Tensor, ...], weights: Sequence[Tensor], lengths: Array | None = None
) -> tuple[Tensor, ...]:
    """y, h_n and for the LSTM c_n, of one layer in D directions: one operation on the tape, then views of its result

    Shapes: x (T, B, in), states h_0 (and c_0) (D, B, H), for each direction W_ih (G·H, in), W_hh (G·H, H) and, with
    biases, b_ih and b_hh (G·H,); lengths (B,) from 1 to T → y (T, B, D·H), last states (D, B, H).
    """
    (T, B, _), (D, _, H) = x.shape, states[0].shape
    each = len(weights) // D
    parents = (x, *states, *weights)
    keep = is_grad_enabled() and any(parent.requires_grad for parent in parents)
    if keep:
        keep_freed_memory()
    out = np.empty((T + kind.states, B, D * H), x.dtype)
    ways = [slice(d, d + 1) for d in range(D)]  # two directions share the cores
    passes = [_Pass(kind, x, weights[d * each : (d + 1) * each], lengths, reverse=d == 1) for d in range(D)]

    def forward(way: slice) -> None:
        d = way.start
        passes[d].forward([state.data[d] for state in states], out[..., d * H : (d + 1) * H], keep)

    over(ways, forward)

    def backward(dout):
        found = over(ways, lambda way: passes[way.start].backward(dout[..., way.start * H : way.stop * H]))
        of_x, of_states, of_weights = zip(*found, strict=True)
        dx = sum(of_x[1:], of_x[0]) if x.requires_grad else None
        gradients = (dx, *map(np.stack, zip(*of_states, strict=True)), *sum(of_weights, ()))
        return tuple(g if parent.requires_grad else None for g, parent in zip(gradients, parents, strict=True))

    both = record(out, parents, backward)
    return both[:T], *(both[T + k].reshape(B, D, H).swapaxes(0, 1) for k in range(kind.states))


@in_float32
def one_step(kind: Kind, x: Tensor, states: tuple[Tensor, ...], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """What `recurrence` gives for T = 1, without a tape: preparing for a sequence would take longer than the step."""
    D, arrays = len(states[0].data), [weight.data for weight in weights]
    each = len(weights) // D
    ends = [
        kind.step(x.data[0], tuple(state.data[d] for state in states), *arrays[d * each : (d + 1) * each])
        for d in range(D)
    ]
    y = ends[0][0] if D == 1 else np.concatenate([end[0] for end in ends], axis=1)
    return Tensor(y[None]), *(Tensor(np.stack(parts)) for parts in zip(*ends, strict=True))


class _Pass:
    """One direction's way over the sequence and back, in its own order of time."""

    def __init__(self, kind: Kind, x: Tensor, weights: Sequence[Tensor], lengths: Array | None, reverse: bool):
        self.kind, self.x, self.weights, self.lengths, self.reverse = kind, x, weights, lengths, reverse
        self.steps, self.hidden = len(x.data), weights[1].shape[1]
        self.behind = None if lengths is None else np.arange(self.steps)[:, None] >= lengths  # (T, B)
        self.inputs: Array = x.data
        self.saved: tuple[Array, ...] = ()

    def forward(self, states: Sequence[Array], out: Array, keep: bool) -> None:
        """y, h_n and c_n into out (T + states, B, H)"""
        W_ih, W_hh = (self._with_bias(side) for side in (0, 1))
        inputs = self._inputs()
        P = np.matmul(W_ih, inputs.swapaxes(1, 2))
        with np.errstate(over="ignore"):  # eᵃ = ∞ gives σ = 1 − 1/∞ = 1, which is right
            saved = self.kind.forward(P, W_hh, tuple(state.T for state in states), keep)
        if keep:
            self.inputs, self.saved = inputs, saved
        T, H, every = self.steps, self.hidden, np.arange(out.shape[1])
        out[:T] = self._turned(saved[0][1:, :H].swapaxes(1, 2))
        if self.behind is not None:
            out[:T][self.behind] = 0
        for k, over_time in enumerate(saved[: self.kind.states]):
            ends = self.steps if self.lengths is None else self.lengths
            out[T + k] = over_time[ends, :H, every]

    def backward(self, dout: Array) -> tuple[Array | None, tuple[Array, ...], tuple[Array | None, ...]]:
        """The gradients of x, of the first states, and of the weights"""
        kind, T, H = self.kind, self.steps, self.hidden
        dy = np.empty((T, H, dout.shape[1]), dout.dtype)
        np.copyto(dy.swapaxes(1, 2), self._turned(dout[:T]))
        last, dc = None, dout[T + 1].T if kind.states == 2 else None
        if self.lengths is None:
            dy[-1] += dout[T].T
        else:
            last = self.lengths - 1
            dy.swapaxes(1, 2)[self.behind] = 0
            dy[last, :, np.arange(len(last))] += dout[T]
        da, of_states = kind.backward(self.saved, self.weights[1].data, dy, last, dc)
        da = np.ascontiguousarray(da.swapaxes(0, 1)).reshape(-1, T * dout.shape[1])  # the steps next to each other
        dx = None
        if self.x.requires_grad:
            dx = _blocks(da, kind.of_x, H).T @ self.weights[0].data
            dx = self._turned(dx.reshape(T, -1, dx.shape[1]))
        return dx, tuple(state.T for state in of_states), self._of_weights(da)

    def _of_weights(self, da: Array) -> tuple[Array | None, ...]:
        """∂L/∂W_ih, ∂L/∂W_hh and of the biases, each side one product; da (k·H, T·B)"""
        kind, rows, H = self.kind, da.shape[1], self.hidden
        of_ih, of_hh = (any(w.requires_grad for w in self.weights[side::2]) for side in (0, 1))
        dW_ih = dW_hh = None
        if of_ih:
            dW_ih = _blocks(da, kind.of_x, H) @ self.inputs.reshape(rows, -1)
        if of_hh:
            before = self.saved[0][:-1].swapaxes(1, 2)  # [h_{t−1}; 1], (T, B, H + 1)
            if self.behind is not None:
                before[self.behind] = 0  # da is 0 there, but h may have become infinite
            dW_hh = _blocks(da, kind.of_h, H) @ before.reshape(rows, -1)
            dW_hh = _reordered(dW_hh, np.argsort(kind.order_h))
        if len(self.weights) == 2:
            return dW_ih, dW_hh
        matrices = tuple(None if dW is None else dW[:, :-1] for dW in (dW_ih, dW_hh))
        return *matrices, *(None if dW is None else dW[:, -1] for dW in (dW_ih, dW_hh))

    def _with_bias(self, side: int) -> Array:
        """[W b] with the gates in the forward's order: (G·H, in + 1), or W alone without biases"""
        W = np.concatenate([weight.data.reshape(len(weight), -1) for weight in self.weights[side::2]], axis=1)
        return _reordered(W, self.kind.order)

    def _inputs(self) -> Array:
        """[x; 1] in this direction's order, 0 behind a sequence's end: (T, B, in + 1), or x alone without biases"""
        x = self._turned(self.x.data)
        inputs = np.ones((*x.shape[:2], x.shape[2] + (len(self.weights) > 2)), x.dtype)
        inputs[..., : x.shape[2]] = x
        if self.behind is not None:
            inputs[self.behind] = 0
        return inputs

    def _turned(self, x: Array) -> Array:
        """Each sequence of x (T, B, ·) from its end to its beginning, in that direction; padding stays where it is."""
        if not self.reverse:
            return x
        if self.lengths is None:
            return x[::-1]
        t = np.arange(self.steps)[:, None]
        from_end = np.where(t < self.lengths, self.lengths - 1 - t, t)
        return np.take_along_axis(x, from_end[:, :, None], axis=0)


def _blocks(da: Array, which: slice, H: int) -> Array:
    """Some of the blocks of H rows of da (k·H, T·B)."""
    return da[which.start * H : which.stop * H]


def _reordered(W: Array, order: Sequence[int] | Array) -> Array:
    """W (k·H, ·) with its k blocks of rows in another order."""
    if list(order) == sorted(order):
        return W
    return W.reshape(len(order), -1, W.shape[1])[list(order)].reshape(W.shape)

"""Recurrent networks for one sequence: what follows, what is it, what is each step.

    language model   tokens → E[tokens] → recurrence → scores of the next token            (B, T) → (B, T, V)
    classifier       x → recurrence → the state behind the last step → scores              (B, T, in) → (B, K)
    tagger           x → recurrence → scores at every step                                 (B, T, in) → (B, T, K)

The recurrence is one of three, all of `scratch/layers/recurrent/`, where their equations and gradients are derived:

    RNN    h' = tanh(W x + U h + b)                       everything passes through U and tanh, at every step
    LSTM   c' = f c + i g,   h' = o tanh c'               what is kept passes through f alone
    GRU    h' = (1 − z) n + z h                           the same with one state and a gate less

A state goes in and comes out of the language model: so a text longer than memory is read piece by piece, and a sampled
character costs one step, whatever came before it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from scratch.combine import concatenate
from scratch.initializers import orthogonal, uniform
from scratch.layers import Dropout, Embedding, Linear
from scratch.layers.recurrent import GRU, LSTM, RNN
from scratch.module import Module
from scratch.tensor import Tensor

KINDS: dict[str, type] = {"rnn": RNN, "lstm": LSTM, "gru": GRU}
State = Any  # h (layers · D, B, H), of the LSTM (h, c)


def recurrence(kind: str, input_size: int, hidden: int, layers: int, dropout: float, bidirectional: bool) -> Any:
    """The layers of this kind, their first weights drawn as below. Raises ValueError for a kind that is none."""
    if kind not in KINDS:
        raise ValueError(f"kind expected one of {', '.join(KINDS)}, got {kind!r}")
    between = dropout if layers > 1 else 0.0  # the layer drops what one layer hands to the next
    layer = KINDS[kind](input_size, hidden, layers, batch_first=True, dropout=between, bidirectional=bidirectional)
    initialise(layer)
    return layer


def initialise(layer: Any) -> None:
    """U orthogonal, gate by gate: it turns h and keeps its length (Saxe et al. 2014). Biases 0, the LSTM's forget
    gate 1: f = σ(1) = 0.73 instead of ½, so that at first c is rather kept (Jozefowicz et al. 2015). W as PyTorch has
    it."""
    H = layer.hidden_size
    for name, parameter in layer.named_parameters():
        if name.startswith("weight_hh"):
            for gate in range(len(parameter) // H):
                parameter.data[gate * H : (gate + 1) * H] = orthogonal((H, H))
        elif name.startswith("bias"):
            parameter.data[...] = 0
            if isinstance(layer, LSTM) and name.startswith("bias_ih"):
                parameter.data[H : 2 * H] = 1


def remember(layer: Any, steps: int) -> None:
    """Gates for a memory of up to `steps` steps: cells that keep 1/u of their content behind u of them, u from
    U(1, steps − 1), since σ(ln u) = 1 − 1/(u + 1)  (Tallec and Ollivier 2018, "chrono initialisation").

        LSTM   b_f = ln u,  b_i = −ln u          GRU   b_z = ln u

    Raises ValueError for a layer without gates, and for fewer than 3 steps.
    """
    if layer.kind not in ("lstm", "gru") or steps < 3:
        raise ValueError(f"remember expected an LSTM or a GRU and at least 3 steps, got {layer.kind} and {steps}")
    H = layer.hidden_size
    for name, bias in layer.named_parameters():
        if name.startswith("bias_ih"):
            bias.data[H : 2 * H] = np.log(uniform((H,), 1, steps - 1))  # the second gate is f, or z
            if layer.kind == "lstm":
                bias.data[:H] = -bias.data[H : 2 * H]


class LanguageModel(Module):
    """Scores for the token that comes next, at every place.

    Args: vocab_size: tokens V. kind: "rnn", "lstm" or "gru". embedding: features of a token. hidden: size H of a state.
        layers: recurrences on top of each other. dropout: share set to zero in training, of what goes into the first
        recurrence and comes out of each.
    Shapes: tokens (B, T), whole numbers, T ≥ 1; state as its layer has it, None for zeros → logits (B, T, V), the state
    behind the last token. Raises ValueError for other shapes, and a token outside 0 … V − 1.
    """

    def __init__(
        self,
        vocab_size: int = 65,
        kind: str = "lstm",
        embedding: int = 64,
        hidden: int = 256,
        layers: int = 1,
        dropout: float = 0.0,
    ):
        self.embedding = Embedding(vocab_size, embedding)
        self.recurrence = recurrence(kind, embedding, hidden, layers, dropout, bidirectional=False)
        self.output = Linear(hidden, vocab_size)
        self.dropout = Dropout(dropout)

    def forward(self, tokens: Any, state: State = None) -> tuple[Tensor, State]:
        h, state = self.features(tokens, state)
        return self.output(h), state

    def features(self, tokens: Any, state: State = None) -> tuple[Tensor, State]:
        """h of the last layer at every place.  Shapes: (B, T) → (B, T, H), state"""
        if len(shape := np.shape(tokens)) != 2 or 0 in shape:
            raise ValueError(f"LanguageModel expected tokens (B, T) of at least one character, got shape {shape}")
        h, state = self.recurrence(self.dropout(self.embedding(tokens)), state)
        return self.dropout(h), state


class SequenceClassifier(Module):
    """One answer for a whole sequence, from the state behind its last step; in both directions, from both states.

    Args: input_size: numbers a step has. outputs: scores K of an answer, or numbers to be estimated. kind, hidden,
        layers, dropout: as in `LanguageModel`. bidirectional: read from both ends.
    Shapes: x (B, T, in), lengths (B,) from 1 to T where sequences end earlier → (B, K).
    Raises ValueError for other shapes and lengths.
    """

    def __init__(
        self,
        input_size: int,
        outputs: int,
        kind: str = "lstm",
        hidden: int = 64,
        layers: int = 1,
        dropout: float = 0.0,
        bidirectional: bool = False,
    ):
        self.recurrence = recurrence(kind, input_size, hidden, layers, dropout, bidirectional)
        self.output = Linear(hidden * (1 + bidirectional), outputs)
        self.dropout = Dropout(dropout)

    def forward(self, x: Any, lengths: Any = None) -> Tensor:
        return self.output(self.dropout(self.summary(x, lengths)))

    def summary(self, x: Any, lengths: Any = None) -> Tensor:
        """The last layer's h behind the last step, of both directions side by side.  (B, T, in) → (B, D·H)"""
        _, state = self.recurrence(x, lengths=lengths)
        h = state[0] if isinstance(state, tuple) else state
        D = self.recurrence.directions
        return concatenate([h[d - D] for d in range(D)], axis=1)


class Tagger(Module):
    """An answer at every step, from what has been read so far; in both directions, from the whole sequence.

    Args and errors: as `SequenceClassifier`.
    Shapes: x (B, T, in), lengths (B,) → (B, T, K); what stands behind a sequence's end is for nobody.
    """

    def __init__(
        self,
        input_size: int,
        outputs: int,
        kind: str = "lstm",
        hidden: int = 64,
        layers: int = 1,
        dropout: float = 0.0,
        bidirectional: bool = False,
    ):
        self.recurrence = recurrence(kind, input_size, hidden, layers, dropout, bidirectional)
        self.output = Linear(hidden * (1 + bidirectional), outputs)
        self.dropout = Dropout(dropout)

    def forward(self, x: Any, lengths: Any = None) -> Tensor:
        h, _ = self.recurrence(x, lengths=lengths)
        return self.output(self.dropout(h))

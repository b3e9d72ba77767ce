"""Looking inside a recurrent network.

    question                                   function              idea
    what do the gates do at each character?    gates                 the layer's equations, step by step
    is there a cell that counts?               correlations          of each cell with a number known from the text
    how far back does the gradient reach?      gradient_by_distance  ‖∂L_T/∂h_{T−k}‖ against k
    where does each written token come from?   alignment             the attention's weights (Bahdanau et al. 2015)
    which way does the state go?               trajectory            its two directions of largest variance

All return arrays; `pictures.py` and the notebooks draw them. The cells that count were found by Karpathy, Johnson and
Li (2016) in larger networks; the decay of gradients was derived by Hochreiter (1991) and Bengio et al. (1994).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from scratch.activations import tanh
from scratch.layers.recurrent.plain import gru_gates, lstm_gates, rnn_tanh_cell
from scratch.models.rnn_lstm_gru.model import LanguageModel
from scratch.models.rnn_lstm_gru.seq2seq import greedy
from scratch.tensor import Array, Tensor, no_grad


def gates(model: LanguageModel, tokens: Array, layer: int = 0) -> dict[str, Array]:
    """Of one layer, while the model reads a text from zero states: every gate and state, each (T, H).

    LSTM: i, f, g, o, c, h.  GRU: r, z, n, h.  RNN: h.  Shapes: tokens (T,).
    Raises ValueError for a text without characters, or with more than one axis, and for a layer that is not there.
    """
    rnn: Any = model.recurrence
    tokens = np.asarray(tokens)
    if tokens.ndim != 1 or not len(tokens):
        raise ValueError(f"gates expected the tokens of one text, (T,), got shape {tokens.shape}")
    if not 0 <= layer < rnn.num_layers:
        raise ValueError(f"gates expected a layer from 0 to {rnn.num_layers - 1}, got {layer}")
    with no_grad():
        found: dict[str, Array] = {}
        xs = [model.embedding(tokens[t : t + 1]) for t in range(len(tokens))]
        for k in range(layer + 1):
            steps = _steps(rnn.kind, xs, rnn.weights(k), rnn.hidden_size)
            found = {name: np.concatenate([step[name].data for step in steps]) for name in steps[0]}
            xs = [step["h"] for step in steps]
    return found


def _steps(kind: str, xs: list[Tensor], weights: list, H: int) -> list[dict[str, Tensor]]:
    """One layer's gates and states at each step, of one sequence: each (1, H)."""
    h = c = Tensor(np.zeros((1, H), xs[0].dtype))
    found: list[dict[str, Tensor]] = []
    for x in xs:
        if kind == "lstm":
            i, f, g, o = lstm_gates(x, h, *weights)
            c = f * c + i * g
            h = o * tanh(c)
            found.append({"i": i, "f": f, "g": g, "o": o, "c": c, "h": h})
        elif kind == "gru":
            r, z, n = gru_gates(x, h, *weights)
            h = n + z * (h - n)
            found.append({"r": r, "z": z, "n": n, "h": h})
        else:
            h = rnn_tanh_cell(x, h, *weights)
            found.append({"h": h})
    return found


# -- cells that count -------------------------------------------------------------------------------------------------


def correlations(values: Array, feature: Array) -> Array:
    """Pearson's r of each column with the feature, 0 for a column that never moves.  Shapes: (T, H), (T,) → (H,)

    Raises ValueError for lengths that differ and a feature that never moves.
    """
    values, feature = np.asarray(values, np.float64), np.asarray(feature, np.float64)
    if values.ndim != 2 or feature.shape != values.shape[:1] or not feature.std():
        raise ValueError(f"correlations expected (T, H) and a feature (T,) that varies, got {values.shape} and "
                         f"{feature.shape}")  # fmt: skip
    a, b = values - values.mean(axis=0), feature - feature.mean()
    size = np.sqrt((a * a).sum(axis=0) * (b * b).sum())
    return np.where(size > 0, a.T @ b / np.maximum(size, 1e-300), 0)


def line_position(text: str) -> Array:
    """How many characters of its line stand before each character."""
    return _counted(text, lambda n, c: 0 if c == "\n" else n + 1)


def word_position(text: str) -> Array:
    """How many letters of its word stand before each character; 0 at everything else than letters."""
    before = _counted(text, lambda n, c: n + 1 if c.isalpha() else 0)
    return np.where([c.isalpha() for c in text], before, 0)


def in_name(text: str) -> Array:
    """1 from a line's beginning to its colon, in lines that name a speaker; 0 elsewhere."""
    lines = text.split("\n")
    marks = [np.full(len(line) + 1, float(line.endswith(":"))) for line in lines]
    return np.concatenate(marks)[: len(text)]


def bracket_depth(text: str) -> Array:
    """How many brackets are open before each character."""
    return _counted(text, lambda n, c: n + (c == "(") - (c == ")"))


def _counted(text: str, after: Callable[[int, str], int]) -> Array:
    counts, n = [], 0
    for c in text:
        counts.append(n)
        n = after(n, c)
    return np.array(counts, np.float64)


# -- gradients through time -------------------------------------------------------------------------------------------


def gradient_by_distance(layer: Any, x: Array, seed: int = 0) -> Array:
    """‖∂L/∂h_{T−k}‖ for k = 0 … T − 1, the mean over the batch, where L = u · h_T with a random u of length 1.

    The layer is one in one direction; of an LSTM c is given too, ‖∂L/∂(h, c)‖: it is the way that the gradient takes.
    A zero is added to each state, whose gradient is that of the state. Shapes: x (T, B, in) → (T,).
    """
    if layer.num_layers != 1 or layer.bidirectional or layer.batch_first:
        raise ValueError("gradient_by_distance expected one layer in one direction, time first")
    x, H = np.asarray(x), layer.hidden_size
    (T, B, _), states = x.shape, 2 if layer.kind == "lstm" else 1
    zeros = [[Tensor(np.zeros((B, H), x.dtype), requires_grad=True) for _ in range(states)] for _ in range(T)]
    state: Any = [Tensor(np.zeros((B, H), x.dtype)) for _ in range(states)]
    for t in range(T):
        after = _step(layer.kind, Tensor(x[t]), state, layer.weights(0))
        state = [value + zero for value, zero in zip(after, zeros[t], strict=True)]
    u = np.random.default_rng(seed).standard_normal((B, H))
    state[0].backward((u / np.linalg.norm(u, axis=1, keepdims=True)).astype(x.dtype))
    found = [np.concatenate([_gradient(zero) for zero in step], axis=1) for step in zeros]
    return np.array([np.linalg.norm(each, axis=1).mean() for each in reversed(found)])


def _step(kind: str, x: Tensor, state: list[Tensor], weights: list) -> list[Tensor]:
    if kind == "lstm":
        i, f, g, o = lstm_gates(x, state[0], *weights)
        c = f * state[1] + i * g
        return [o * tanh(c), c]
    if kind == "gru":
        _, z, n = gru_gates(x, state[0], *weights)
        return [n + z * (state[0] - n)]
    return [rnn_tanh_cell(x, state[0], *weights)]


def _gradient(zero: Tensor) -> Array:
    return np.zeros_like(zero.data) if zero.grad is None else zero.grad


# -- attention and trajectories ---------------------------------------------------------------------------------------


def alignment(model: Any, source: Array) -> tuple[Array, Array]:
    """What the encoder–decoder writes, and where it looks while it writes each token.  (1, S) → (T,), (T, S)

    Raises ValueError for more than one sequence.
    """
    source = np.asarray(source)
    if source.ndim != 2 or len(source) != 1:
        raise ValueError(f"alignment expected the tokens of one sequence, (1, S), got shape {source.shape}")
    tokens, weights = greedy(model, source)
    return tokens[0], weights[0]


def trajectory(states: Array, axes: int = 2) -> tuple[Array, Array]:
    """The states seen along their directions of largest variance, and the share of it that each direction holds.

    Principal components by the singular value decomposition of the centred states; signs are such that the first
    state's coordinates are not negative. Shapes: (T, H) → (T, axes), (axes,). Raises ValueError for fewer than 2 steps.
    """
    states = np.asarray(states, np.float64)
    if states.ndim != 2 or len(states) < 2 or not 1 <= axes <= min(states.shape):
        raise ValueError(f"trajectory expected states (T, H), at least {max(axes, 2)} of them, got {states.shape}")
    centred = states - states.mean(axis=0)
    _, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    seen = centred @ directions[:axes].T
    return seen * np.where(seen[0] < 0, -1, 1), (sizes**2 / (sizes**2).sum())[:axes]

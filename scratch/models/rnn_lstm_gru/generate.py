"""Writing with a language model: read the prompt, then draw, read what was drawn, draw again.

    p = softmax(logits / τ)        τ < 1: the likely becomes likelier; τ → 0: always the likeliest

Everything read so far is in the state, so a token costs one step, however long the text has become.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from scratch.models.rnn_lstm_gru.model import LanguageModel
from scratch.random import generator
from scratch.sampling import check_scores, draw
from scratch.tensor import Array, no_grad


def generate(
    model: LanguageModel,
    prompts: Any,
    count: int,
    *,
    temperature: float = 1.0,
    rng: np.random.Generator | None = None,
) -> Array:
    """The prompts with `count` tokens after them.  Shapes: (B, T) → (B, T + count)

    Raises ValueError for an empty prompt, tokens that the model lacks, a negative count and a temperature below 0; and
    where the model's scores are NaN or infinite, naming the step and the row.
    """
    prompts = np.asarray(prompts)
    new = list(stream(model, prompts, count, temperature=temperature, rng=rng))
    return np.concatenate([prompts, *(token[:, None] for token in new)], axis=1)


def stream(
    model: LanguageModel,
    prompts: Any,
    count: int,
    *,
    temperature: float = 1.0,
    rng: np.random.Generator | None = None,
) -> Iterator[Array]:
    """The same, token by token: yields (B,) as soon as it is drawn; what is wrong is said at the call."""
    if count < 0:
        raise ValueError(f"count must be at least 0, got {count}")
    checked(temperature)
    rng = generator() if rng is None else rng
    logits, state = read(model, prompts)

    def tokens(logits: Array, state: Any) -> Iterator[Array]:
        for step in range(count):
            token = draw(distribution(logits, temperature, step), rng)
            yield token
            if step + 1 < count:
                logits, state = read(model, token[:, None], state)

    return tokens(logits, state)


def read(model: LanguageModel, tokens: Any, state: Any = None) -> tuple[Array, Any]:
    """Scores of the token after these, and the state behind them.  Shapes: (B, T) → (B, V), state"""
    training = model.training
    model.eval()
    try:
        with no_grad():
            h, state = model.features(tokens, state)
            return model.output(h[:, -1]).data, state
    finally:
        model.train(training)


def distribution(logits: Array, temperature: float = 1.0, step: int | None = None) -> Array:
    """softmax(logits / temperature) in float64; at 0 all of it on the first of the likeliest.  (B, V) → (B, V)

    Raises ValueError for scores that `check_scores` refuses, naming the step if it is given.
    """
    checked(temperature)
    logits = np.asarray(logits, np.float64)
    check_scores(logits, step)
    if temperature == 0:
        return np.eye(logits.shape[1])[logits.argmax(axis=1)]
    with np.errstate(over="ignore"):  # of a temperature near 0: −∞, whose exponential is 0
        p = np.exp((logits - logits.max(axis=1, keepdims=True)) / temperature)
    return p / p.sum(axis=1, keepdims=True)


def checked(temperature: float) -> None:
    if not 0 <= temperature < np.inf:
        raise ValueError(f"temperature must be a number of at least 0, got {temperature}")

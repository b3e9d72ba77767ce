"""Looking inside a Llama that reads a text.

    question                                     function           idea
    who looks at whom, in every layer and head?  attention_maps     the weights P of each attention
    how often is each expert chosen?             usage              counts over a text
    what does each expert read?                  read_by            the same for each token of the vocabulary

Each returns arrays, and leaves the model as it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from scratch.layers import attention_weights
from scratch.models.llama.experts import Mixtral, Routing
from scratch.models.llama.model import Attention, Llama
from scratch.module import Module, observe
from scratch.tensor import Array, no_grad


def attention_maps(model: Llama, tokens: Any) -> Array:
    """How place t divides its look among the places up to t; rows sum to 1.  (T,) → (layers, nh, T, T)"""
    tokens = np.asarray(tokens)
    if tokens.ndim != 1 or not len(tokens):
        raise ValueError(f"expected the tokens of one text, (T,), at least one, got shape {tokens.shape}")
    kept: list[Array] = []

    def look(module: Module, inputs: tuple, output: Any) -> None:
        if isinstance(module, Attention):
            q, k, _ = module.heads(inputs[0])
            kept.append(attention_weights(q, k, is_causal=True, enable_gqa=True).data[0])

    with looking(model), observe(look):
        model(tokens[None])
    return np.stack(kept)


def usage(model: Mixtral, tokens: Any, windows: int = 64) -> Array:
    """Which share of all choices falls on each expert, over the first `windows` windows of a text.

    Shapes: (N,) → (layers, E), rows sum to 1.
    """
    counts = read_by(model, tokens, windows).sum(axis=2)
    return counts / counts.sum(axis=1, keepdims=True)


def read_by(model: Mixtral, tokens: Any, windows: int = 64) -> Array:
    """How often each expert was chosen for each token of the vocabulary.  Shapes: (N,) → (layers, E, V)"""
    V, E = len(model.lm_head.weight), model.num_local_experts
    counts = np.zeros((len(model.mixtures()), E, V), np.int64)
    for x in in_windows(np.asarray(tokens), model.max_position_embeddings, windows):
        for layer, routing in enumerate(routings(model, x)):
            np.add.at(counts[layer], (routing.chosen, np.repeat(x.reshape(-1, 1), routing.chosen.shape[1], axis=1)), 1)
    return counts


def routings(model: Mixtral, tokens: Array) -> list[Routing]:
    """What each layer's router decides.  Shapes: (B, T) → for each layer (B·T, E), (B·T, k)"""
    with looking(model):
        model(tokens)
        found = [mixture.routing for mixture in model.mixtures()]
    for mixture in model.mixtures():
        mixture.routing = None
    return [routing for routing in found if routing is not None]


def in_windows(tokens: Array, length: int, windows: int, together: int = 16) -> Iterator[Array]:
    """The beginning of a text in rows of `length`, as many as there are up to `windows`; at least one, shorter."""
    count = min(windows, len(tokens) // length)
    rows = tokens[: count * length].reshape(count, length) if count else tokens[None]
    for start in range(0, len(rows), together):
        yield rows[start : start + together]


@contextmanager
def looking(model: Module) -> Iterator[None]:
    """Off the tape, in evaluation mode; afterwards the model is as it was."""
    training = model.training
    model.eval()
    try:
        with no_grad():
            yield
    finally:
        model.train(training)

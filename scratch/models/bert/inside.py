"""Looking inside a BERT that reads a text.

    question                                         function           idea
    what does it hold possible in a gap?             fill               softmax(logits) where [MASK] stands
    what would it say, were this character hidden?   one_by_one         fill, each place of a text in turn
    who looks at whom, in every layer and head?      attention_maps     the weights P of each attention

Each returns arrays, and leaves the model as it was: evaluation mode inside, off the tape, no gradients.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from scratch.activations import softmax
from scratch.layers import attention_weights
from scratch.models.bert.model import BertForMaskedLM, SelfAttention
from scratch.module import Module, observe
from scratch.tensor import Array, no_grad


def fill(model: BertForMaskedLM, tokens: Any, places: Any) -> Array:
    """P(token) at each of the places (bool), in reading order.  Shapes: tokens, places (B, T) → (n, V)"""
    with looking(model):
        return softmax(model(tokens, places=places), dim=-1).data


def one_by_one(model: BertForMaskedLM, tokens: Any, mask: int) -> Array:
    """P(token) at every place while this place alone is hidden.  Shapes: (T,) → (T, V)"""
    tokens = _one(tokens)
    alone = np.eye(tokens.shape[1], dtype=bool)
    return fill(model, np.where(alone, mask, tokens), alone)


def attention_maps(model: BertForMaskedLM, tokens: Any) -> Array:
    """How each place divides its look among all places; rows sum to 1.  (T,) → (layers, nh, T, T)"""
    kept: list[Array] = []

    def look(module: Module, inputs: tuple, output: Any) -> None:
        if isinstance(module, SelfAttention):
            q, k = (_heads(layer(inputs[0]).data, module.num_heads) for layer in (module.query, module.key))
            kept.append(attention_weights(q, k).data[0])

    tokens = _one(tokens)
    with looking(model), observe(look):
        model(tokens)
    return np.stack(kept)


def _heads(x: Array, heads: int) -> Array:
    B, T, C = x.shape
    return x.reshape(B, T, heads, C // heads).swapaxes(1, 2)


def _one(tokens: Any) -> Array:
    tokens = np.asarray(tokens)
    if tokens.ndim != 1 or not len(tokens):
        raise ValueError(f"expected the tokens of one text, (T,), at least one, got shape {tokens.shape}")
    return tokens[None]


@contextmanager
def looking(model: Module) -> Iterator[None]:
    """Off the tape and without dropout; afterwards the model is as it was."""
    training = model.training
    model.eval()
    try:
        with no_grad():
            yield
    finally:
        model.train(training)

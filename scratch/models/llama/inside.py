"""Looking inside a Llama that reads a text.

    question                                       function                computes
    where does each head of each block attend?     attention_maps          the attention weights P
    how often is each expert selected?             expert_load             counts over a text
    which tokens does each expert process?         expert_token_counts     the same for each token of the vocabulary

Each function returns arrays and leaves the model unchanged: evaluation mode inside, no gradients.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from scratch.layers import attention_weights, split_heads
from scratch.models.llama.experts import Mixtral, Routing
from scratch.models.llama.model import Attention, Llama
from scratch.module import Module, evaluating, observe
from scratch.tensor import Array


def attention_maps(model: Llama, tokens: Any) -> Array:
    """Attention weights of each position t on the positions up to t.  Shapes: (T,) → (num_layers, nh, T, T)"""
    tokens = np.asarray(tokens)
    if tokens.ndim != 1 or not len(tokens):
        raise ValueError(f"expected the tokens of one text, (T,) with T ≥ 1, got shape {tokens.shape}")
    kept: list[Array] = []

    def keep(module: Module, inputs: tuple, output: Any) -> None:
        if isinstance(module, Attention):
            (x,) = inputs
            q = module.rotary(split_heads(module.q_proj(x), module.num_heads))
            k = module.rotary(split_heads(module.k_proj(x), module.num_kv_heads))
            kept.append(attention_weights(q, k, is_causal=True, enable_gqa=True).data[0])

    with evaluating(model), observe(keep):
        model(tokens[None])
    return np.stack(kept)


def expert_load(model: Mixtral, tokens: Any, windows: int = 64) -> Array:
    """Share of all assignments that each expert gets, over the first `windows` windows of a text.

    Shapes: (N,) → (num_layers, E), rows sum to 1.
    """
    counts = expert_token_counts(model, tokens, windows).sum(axis=2)
    return counts / counts.sum(axis=1, keepdims=True)


def expert_token_counts(model: Mixtral, tokens: Any, windows: int = 64) -> Array:
    """How often each expert was selected for each token of the vocabulary.  Shapes: (N,) → (num_layers, E, V)"""
    V, E = len(model.lm_head.weight), model.num_experts
    counts = np.zeros((len(model.blocks), E, V), np.int64)
    for x in first_windows(np.asarray(tokens), model.context_length, windows):
        for layer, routing in enumerate(routings(model, x)):
            read = np.repeat(x.reshape(-1, 1), model.num_experts_per_token, axis=1)  # (B·T, k)
            np.add.at(counts[layer], (routing.selected, read), 1)
    return counts


def routings(model: Mixtral, tokens: Array) -> list[Routing]:
    """The decisions of each block's router.  Shapes: (B, T) → for each block (B·T, E), (B·T, k)"""
    with evaluating(model):
        model(tokens)
        found = [mixture.routing for mixture in model.mixtures()]
    for mixture in model.mixtures():
        mixture.routing = None
    return [routing for routing in found if routing is not None]


def first_windows(tokens: Array, length: int, windows: int, batch_size: int = 16) -> Iterator[Array]:
    """The beginning of a text in rows of `length`, at most `windows` of them; a shorter text is one row."""
    count = min(windows, len(tokens) // length)
    rows = tokens[: count * length].reshape(count, length) if count else tokens[None]
    for start in range(0, len(rows), batch_size):
        yield rows[start : start + batch_size]

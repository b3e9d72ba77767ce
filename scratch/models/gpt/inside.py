"""Looking inside a GPT that reads a text.

    question                                              function         computes
    where does each head of each block attend?            attention_maps   the attention weights P
    which next tokens does the model expect?              next_token       softmax(logits) at every position
    what would each block predict already?                logit_lens       the residual stream after each block, decoded
    which heads attend to the previous token?             head_scores      P[t, t − 1], on repeated random tokens
    which heads attend to the token after an              head_scores      P[t, t − n + 1], n being the period
    earlier copy (induction heads)?

Each function returns arrays and leaves the model unchanged: evaluation mode inside, no gradients.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from scratch.activations import softmax
from scratch.layers import attention_weights, split_heads
from scratch.models.gpt.model import GPT, Attention, Block
from scratch.module import Module, evaluating, observe
from scratch.tensor import Array, Tensor


class HeadScores(NamedTuple):
    """For every head of every block, (num_layers, nh), a mean attention weight from 0 to 1."""

    previous: Array  # on the previous position
    induction: Array  # on the position after the same token, one period earlier


def attention_maps(model: GPT, tokens: Any) -> Array:
    """Attention weights of each position t on the positions up to t.  Shapes: (T,) → (num_layers, nh, T, T)"""
    return _attention_weights(model, _batch_of_one(tokens))[:, 0]


def next_token(model: GPT, tokens: Any) -> Array:
    """P(x_{t+1} | x_1 … x_t) for every t.  Shapes: (T,) → (T, V)"""
    with evaluating(model):
        return softmax(model(_batch_of_one(tokens)), dim=-1).data[0]


def logit_lens(model: GPT, tokens: Any) -> Array:
    """Next-token probabilities decoded from the residual stream after the embedding and after each block:

        softmax(norm(x) · token_embeddingᵀ)        (nostalgebraist 2020)

    All blocks add to the same residual stream, so each state can be decoded as if it were the last one; the last row is
    the model's own prediction.  Shapes: (T,) → (1 + num_layers, T, V)
    """
    states: list[Tensor] = []

    def keep(module: Module, inputs: tuple, output: Any) -> None:
        if isinstance(module, Block):
            states.extend([output] if states else [inputs[0], output])

    with evaluating(model):
        with observe(keep):
            model(_batch_of_one(tokens))
        return np.stack([softmax(model.lm_head(model.norm(x)), dim=-1).data[0] for x in states])


def head_scores(model: GPT, period: int, rows: int = 50, seed: int = 0) -> HeadScores:
    """How much each head attends to the previous position, and how far it is an induction head (Olsson et al. 2022).

        previous[l, h]   mean over t of P[t, t − 1]
        induction[l, h]  mean over the second period of P[t, t − period + 1]

    The input is `period` different random tokens, twice. The token at t was also at t − period, and the token that
    followed it then is at t − period + 1.
    Raises ValueError for a period below 2, above half of the context length, or above the vocabulary size.
    """
    V, longest = len(model.lm_head.weight), model.context_length // 2
    if not 2 <= period <= min(V, longest):
        raise ValueError(f"head_scores expected a period from 2 to {min(V, longest)}, got {period}")
    P = _attention_weights(model, repeated(V, period, rows, seed))  # (num_layers, rows, nh, T, T)
    t = np.arange(1, 2 * period)
    second = np.arange(period, 2 * period)
    return HeadScores(
        P[..., t, t - 1].mean(axis=(1, 3)),
        P[..., second, second - period + 1].mean(axis=(1, 3)),
    )


def repeated(vocab_size: int, period: int, rows: int, seed: int = 0) -> Array:
    """Rows of `period` different random tokens, each row twice in succession.  → (rows, 2 · period)"""
    rng = np.random.default_rng(seed)
    once = rng.permuted(np.tile(np.arange(vocab_size), (rows, 1)), axis=1)[:, :period]
    return np.concatenate([once, once], axis=1)


def _attention_weights(model: GPT, tokens: Array) -> Array:
    """softmax(q kᵀ / √hd + causal mask) of every block, from its input.  Shapes: (B, T) → (num_layers, B, nh, T, T)"""
    kept: list[Array] = []

    def keep(module: Module, inputs: tuple, output: Any) -> None:
        if isinstance(module, Attention):
            (x,) = inputs
            q, k = (split_heads(proj(x), module.num_heads) for proj in (module.q_proj, module.k_proj))
            kept.append(attention_weights(q, k, is_causal=True).data)

    with evaluating(model), observe(keep):
        model(tokens)
    return np.stack(kept)


def _batch_of_one(tokens: Any) -> Array:
    tokens = np.asarray(tokens)
    if tokens.ndim != 1 or not len(tokens):
        raise ValueError(f"expected the tokens of one text, (T,) with T ≥ 1, got shape {tokens.shape}")
    return tokens[None]

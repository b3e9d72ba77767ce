"""Looking inside a GPT that reads a text.

    question                                          function           idea
    who looks at whom, in every block and head?       attention_maps     the weights P of each attention
    what does it hold possible?                       next_token         softmax(logits) at every place
    what would each block say already?                logit_lens         the stream after every block, scored
    which heads look one place back?                  head_scores        P[t, t − 1], on repeated random texts
    which heads look for an earlier copy?             head_scores        P[t, t − n + 1], where n is the period

Each returns arrays, and leaves the model as it was: evaluation mode inside, off the tape, no gradients.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from scratch.activations import softmax
from scratch.layers import attention_weights
from scratch.models.gpt.model import GPT, Block, CausalSelfAttention
from scratch.module import Module, observe
from scratch.tensor import Array, Tensor, no_grad


class HeadScores(NamedTuple):
    """For every head of every block, (n_layer, nh), a share of its weight, from 0 to 1."""

    previous: Array  # on the place before
    induction: Array  # on what came after the same token, one round earlier


def attention_maps(model: GPT, tokens: Any) -> Array:
    """How place t divides its look among the places up to t; rows sum to 1.  (T,) → (n_layer, nh, T, T)"""
    return _maps(model, _one(tokens))[:, 0]


def next_token(model: GPT, tokens: Any) -> Array:
    """P(x_{t+1} | x_1 … x_t) for every t.  Shapes: (T,) → (T, V)"""
    with looking(model):
        return softmax(model(_one(tokens)), dim=-1).data[0]


def logit_lens(model: GPT, tokens: Any) -> Array:
    """The same, read from the stream before the first block and after each: softmax(ln_f(x) wteᵀ)

    All blocks add to one stream, so each state can be scored as if it were the last (nostalgebraist 2020); the last
    one is the model's own answer.  Shapes: (T,) → (1 + n_layer, T, V)
    """
    states: list[Tensor] = []

    def look(module: Module, inputs: tuple, output: Any) -> None:
        if isinstance(module, Block):
            states.extend([output] if states else [inputs[0], output])

    with looking(model):
        with observe(look):
            model(_one(tokens))
        return np.stack([softmax(model.lm_head(model.transformer["ln_f"](x)), dim=-1).data[0] for x in states])


def head_scores(model: GPT, period: int, rows: int = 50, seed: int = 0) -> HeadScores:
    """Where heads look in texts that are `period` different random tokens, twice (Olsson et al. 2022).

        previous[l, h]   mean over t of P[t, t − 1]
        induction[l, h]  mean over the second round of P[t, t − period + 1]

    for the token at t stood at t − period too, and what came after it then stands one further on.
    Raises ValueError for a period below 2, above half of the context, or above the number of tokens.
    """
    V, most = len(model.lm_head.weight), model.block_size // 2
    if not 2 <= period <= min(V, most):
        raise ValueError(f"head_scores expected a period from 2 to {min(V, most)}: different tokens, twice in the "
                         f"context; got {period}")  # fmt: skip
    P = _maps(model, repeated(V, period, rows, seed))  # (n_layer, rows, nh, T, T)
    t = np.arange(1, 2 * period)
    again = np.arange(period, 2 * period)
    return HeadScores(
        P[..., t, t - 1].mean(axis=(1, 3)),
        P[..., again, again - period + 1].mean(axis=(1, 3)),
    )


def repeated(vocab_size: int, period: int, rows: int, seed: int = 0) -> Array:
    """Rows of `period` different random tokens, each row twice over: (rows, 2 · period)"""
    rng = np.random.default_rng(seed)
    once = rng.permuted(np.tile(np.arange(vocab_size), (rows, 1)), axis=1)[:, :period]
    return np.concatenate([once, once], axis=1)


def _maps(model: GPT, tokens: Array) -> Array:
    """(B, T) → (n_layer, B, nh, T, T), from what each c_attn gives out."""
    heads = {id(m.c_attn): m.n_head for m in model.modules() if isinstance(m, CausalSelfAttention)}
    kept: list[Array] = []

    def look(module: Module, inputs: tuple, output: Any) -> None:
        if id(module) in heads:
            B, T, width = output.shape
            q, k, _ = output.data.reshape(B, T, 3, heads[id(module)], -1).transpose(2, 0, 3, 1, 4)
            kept.append(attention_weights(q, k, is_causal=True).data)

    with looking(model), observe(look):
        model(tokens)
    return np.stack(kept)


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

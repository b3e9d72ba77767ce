"""Looking inside a Transformer that reads one sequence and writes another.

    question                                               function                idea
    who looks at whom, in every layer and head?            attention_maps          the weights P of each attention
    where does each written token come from?               alignment               the decoder's looks at the source
    how does a head come to its weights?                   queries_and_keys        Q and K, to be multiplied on paper
    what did it hold possible?                             next_token              softmax(logits) at every place
    what would each layer predict already?                 logit_lens              every layer's output, scored

Each takes one pair, source (1, S) and target (1, T), and returns arrays; the model is left as it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from scratch.activations import softmax
from scratch.layers import MultiheadAttention, linear
from scratch.models.transformer.model import Transformer
from scratch.module import Module, observe
from scratch.tensor import Array, Tensor, no_grad


@dataclass(frozen=True)
class AttentionMaps:
    """Weights of every layer and head; each row sums to 1.

    encoder (layers, nh, S, S), decoder (layers, nh, T, T), 0 above the diagonal, cross (layers, nh, T, S).
    """

    encoder: Array
    decoder: Array
    cross: Array


def attention_maps(model: Transformer, source: Array, target: Array) -> AttentionMaps:
    """Every attention's weights while the model reads `source` and is given `target`."""
    named = {id(module): name for name, module in model.named_modules()}
    kept: dict[str, list[Array]] = {"encoder": [], "decoder": [], "cross": []}

    def look(module: Module, inputs: tuple, output: Any) -> None:
        if isinstance(module, MultiheadAttention):
            name = named[id(module)]
            part = "cross" if name.endswith("multihead_attn") else name.split(".")[0]
            # once more, for layers leave the weights out to be faster
            options: dict[str, Any] = {"average_attn_weights": False, "is_causal": part == "decoder"}
            again = module.forward(*inputs, **options)[1]
            kept[part].append(again.data[0])  # type: ignore[union-attr]

    with _watching(model), observe(look):
        model(_one(source), _one(target))
    return AttentionMaps(*(np.stack(kept[part]) for part in ("encoder", "decoder", "cross")))


def alignment(model: Transformer, source: Array, target: Array, layer: int = -1) -> Array:
    """Where a decoder layer looks in the source at each place, the mean over its heads.  (1, S), (1, T) → (T, S)

    Row t belongs to the token that is written after target[: t + 1].
    """
    cross = attention_maps(model, source, target).cross
    return cross[_one_of(len(cross), layer)].mean(axis=0)


def queries_and_keys(model: Transformer, source: Array, target: Array, layer: int = 0) -> tuple[Array, Array]:
    """Q and K of every head of a decoder layer's self-attention: P = softmax(Q Kᵀ / √hd + mask).

    Shapes: (1, S), (1, T) → two of (nh, T, hd)
    """
    attn = model.decoder[_one_of(len(model.decoder), layer)].self_attn
    kept: list[Array] = []

    def look(module: Module, inputs: tuple, output: Any) -> None:
        if module is attn:
            C, nh = attn.embed_dim, attn.num_heads
            qkv = linear(inputs[0], attn.in_proj_weight, attn.in_proj_bias).data[0]  # (T, 3C)
            kept.extend(qkv[:, i * C : (i + 1) * C].reshape(-1, nh, C // nh).swapaxes(0, 1) for i in range(2))

    with _watching(model), observe(look):
        model(_one(source), _one(target))
    return kept[0], kept[1]


def next_token(model: Transformer, source: Array, target: Array) -> Array:
    """P(y_{t+1} | source, target[: t + 1]) for every t.  Shapes: (1, S), (1, T) → (T, V)"""
    with _watching(model):
        return softmax(model(_one(source), _one(target)), dim=-1).data[0]


def logit_lens(model: Transformer, source: Array, target: Array) -> Array:
    """The same, from the decoder's input and from the output of each of its layers: softmax(scores(norm(x)))

    The last one is the model's own answer  (nostalgebraist 2020).  Shapes: (1, S), (1, T) → (1 + layers, T, V)
    """
    layers = {id(layer): i for i, layer in enumerate(model.decoder)}
    states: list[Tensor] = []

    def look(module: Module, inputs: tuple, output: Any) -> None:
        if id(module) in layers:
            states.extend([inputs[0], output] if layers[id(module)] == 0 else [output])

    with _watching(model):
        with observe(look):
            model(_one(source), _one(target))
        return np.stack([softmax(model.scores(model.decoder_norm(x)), dim=-1).data[0] for x in states])


def _one_of(layers: int, layer: int) -> int:
    if not -layers <= layer < layers:
        raise ValueError(f"the decoder has {layers} layers, got layer {layer}")
    return layer


def _one(tokens: Array) -> Array:
    tokens = np.asarray(tokens)
    if tokens.ndim != 2 or len(tokens) != 1:
        raise ValueError(f"expected the tokens of one sequence, (1, T), got shape {tokens.shape}")
    return tokens


@contextmanager
def _watching(model: Module) -> Iterator[None]:
    """Off the tape and without dropout; afterwards the model is as it was."""
    training = model.training
    model.eval()
    try:
        with no_grad():
            yield
    finally:
        model.train(training)

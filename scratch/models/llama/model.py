"""Llama: a GPT with five parts exchanged, as Touvron et al. (2023) put them together.

    x = embed_tokens[tokens]                                                                     (B, T, C)
    x ← x + self_attn(input_layernorm(x)),   x ← x + mlp(post_attention_layernorm(x))    for each layer
    logits = norm(x) · lm_headᵀ                                                                  (B, T, V)

What is different from the GPT, with where it stands below:

    no row is added for the place: queries and keys are turned by it      Attention.heads: rotary
    the norm only divides by the length, it does not centre               RMSNorm, in Layer and LlamaModel
    two matrices and a product in place of one matrix and GELU            MLP: silu(gate) · up
    several query heads share one head of keys and values                 Attention: num_key_value_heads
    no biases anywhere                                                    Linear(..., bias=False)
    the head may have a matrix of its own                                 Llama: tie_word_embeddings

Names of arguments and of weights are those of the published files (`LlamaForCausalLM` in `transformers`).
"""

from __future__ import annotations

import math
from typing import Any

from scratch.activations import silu
from scratch.initializers import normal
from scratch.layers import Embedding, Linear, RMSNorm, rotary, scaled_dot_product_attention
from scratch.module import Module
from scratch.tensor import Tensor, as_tensor

WRITES = ("o_proj.weight", "down_proj.weight", "w2.weight")  # what adds to the stream


class Attention(Module):
    """Causal attention of nh query heads to nkv heads of keys and values, nh / nkv neighbours sharing one.

        q = turn(x W_qᵀ), k = turn(x W_kᵀ), v = x W_vᵀ      y = concat over heads(softmax(q kᵀ / √hd, j ≤ i) v) W_oᵀ

    `turn` is the rotation by the place (Su et al. 2021), feature i paired with i + hd/2. Shapes: (B, T, C) → the same.
    Raises ValueError unless nh divides C into even heads, and nkv divides nh.
    """

    def __init__(
        self, hidden_size: int, num_attention_heads: int, num_key_value_heads: int, rope_theta: float = 10000.0
    ):
        C, nh, nkv = hidden_size, num_attention_heads, num_key_value_heads
        if min(C, nh, nkv) < 1 or C % (2 * nh) or nh % nkv:
            raise ValueError("Llama expected hidden_size to be an even multiple of num_attention_heads, and these a "
                             f"multiple of num_key_value_heads, got {C}, {nh} and {nkv}")  # fmt: skip
        self.num_heads, self.num_key_value_heads, self.rope_theta = nh, nkv, float(rope_theta)
        self.q_proj = Linear(C, C, bias=False)
        self.k_proj = Linear(C, nkv * (C // nh), bias=False)
        self.v_proj = Linear(C, nkv * (C // nh), bias=False)
        self.o_proj = Linear(C, C, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = scaled_dot_product_attention(*self.heads(x), is_causal=True, enable_gqa=True)
        return self.o_proj(y.swapaxes(1, 2).reshape(x.shape))

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q (B, nh, T, hd), k and v (B, nkv, T, hd), queries and keys turned."""
        q = split(self.q_proj(x), self.num_heads)
        k, v = split(self.k_proj(x), self.num_key_value_heads), split(self.v_proj(x), self.num_key_value_heads)
        return self.turn(q), self.turn(k), v

    def turn(self, x: Tensor) -> Tensor:
        return rotary(x, base=self.rope_theta, pairing="halves")


class MLP(Module):
    """y = (silu(x W_gateᵀ) ∘ x W_upᵀ) W_downᵀ, SwiGLU (Shazeer 2020): one half decides how much of the other passes.

    Shapes: (B, T, C) → the same.
    """

    def __init__(self, hidden_size: int, intermediate_size: int):
        self.gate_proj = Linear(hidden_size, intermediate_size, bias=False)
        self.up_proj = Linear(hidden_size, intermediate_size, bias=False)
        self.down_proj = Linear(intermediate_size, hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(Module):
    """x ← x + self_attn(input_layernorm(x)),  x ← x + mlp(post_attention_layernorm(x)).  (B, T, C) → the same."""

    def __init__(self, attention: Attention, hidden_size: int, intermediate_size: int, rms_norm_eps: float):
        self.self_attn = attention
        self.mlp: Module = MLP(hidden_size, intermediate_size)
        self.input_layernorm = RMSNorm(hidden_size, rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(hidden_size, rms_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x))


class LlamaModel(Module):
    """Everything below the head.  Shapes: tokens (B, T) → (B, T, C)"""

    def __init__(self, vocab_size: int, hidden_size: int, layers: list[Layer], rms_norm_eps: float):
        self.embed_tokens = Embedding(vocab_size, hidden_size)
        self.layers = layers
        self.norm = RMSNorm(hidden_size, rms_norm_eps)

    def forward(self, tokens: Any) -> Tensor:
        x = self.embed_tokens(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


class Llama(Module):
    """A language model: at every place, scores for the token that comes next.

    Args: as in LlamaConfig. vocab_size: tokens. hidden_size: features of a token, C. intermediate_size: inside the
        network. num_hidden_layers. num_attention_heads: of queries. num_key_value_heads: of keys and values.
        max_position_embeddings: the longest sequence it reads; nothing is stored for it. rms_norm_eps. rope_theta: how
        slow the slowest rotation is. tie_word_embeddings: whether the head is the embedding.
    Shapes: tokens (B, T), whole numbers, 1 ≤ T ≤ max_position_embeddings → logits (B, T, vocab_size).
    Raises ValueError for other shapes, a T out of that range, and a token outside 0 … vocab_size − 1.
    """

    def __init__(
        self,
        vocab_size: int = 65,
        hidden_size: int = 128,
        intermediate_size: int = 384,
        num_hidden_layers: int = 4,
        num_attention_heads: int = 4,
        num_key_value_heads: int = 2,
        max_position_embeddings: int = 64,
        rms_norm_eps: float = 1e-5,
        rope_theta: float = 10000.0,
        tie_word_embeddings: bool = True,
    ):
        if min(vocab_size, num_hidden_layers, max_position_embeddings) < 1:
            raise ValueError(f"Llama expected sizes of at least 1, got vocab_size {vocab_size}, num_hidden_layers "
                             f"{num_hidden_layers}, max_position_embeddings {max_position_embeddings}")  # fmt: skip
        self.max_position_embeddings = max_position_embeddings
        C, eps = hidden_size, rms_norm_eps
        layers = [
            self.layer(Attention(C, num_attention_heads, num_key_value_heads, rope_theta), C, intermediate_size, eps)
            for _ in range(num_hidden_layers)
        ]
        self.model = LlamaModel(vocab_size, C, layers, eps)
        self.lm_head = Linear(C, vocab_size, bias=False)
        if tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        self.initialise()

    def layer(self, attention: Attention, hidden_size: int, intermediate_size: int, eps: float) -> Layer:
        """A layer; `experts.py` has another."""
        return Layer(attention, hidden_size, intermediate_size, eps)

    def initialise(self) -> None:
        """As the GPT: matrices from N(0, 0.02²), those that write into x smaller by √(2n) for n layers."""
        n = len(self.model.layers)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                writes = name.endswith(WRITES)
                parameter.data[...] = normal(parameter.shape, std=0.02 / math.sqrt(2 * n) if writes else 0.02)

    def forward(self, tokens: Any) -> Tensor:
        tokens = as_tensor(tokens)
        if tokens.ndim != 2 or not 1 <= tokens.shape[1] <= self.max_position_embeddings:
            raise ValueError(f"Llama expected tokens of shape (B, T) with T from 1 to {self.max_position_embeddings}, "
                             f"its context, got {tokens.shape}")  # fmt: skip
        return self.lm_head(self.model(tokens))


def split(x: Tensor, heads: int) -> Tensor:
    """(B, T, heads · hd) → (B, heads, T, hd)"""
    B, T, width = x.shape
    return x.reshape(B, T, heads, width // heads).swapaxes(1, 2)

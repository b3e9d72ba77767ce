"""Llama: a GPT with five changes (Touvron et al. 2023).

    x = token_embedding[tokens]                                                           (B, T, C)
    x ← x + attention(norm1(x)),   x ← x + feed_forward(norm2(x))       num_layers times  (B, T, C)
    logits = norm(x) · token_embeddingᵀ                                                   (B, T, V)

Changes from the GPT, and where they are:

    rotary position embedding of queries and keys, no position table       Attention.rotary
    grouped-query attention: query heads share keys and values             Attention: num_kv_heads
    RMSNorm instead of layer norm                                          Block, Llama.norm
    SwiGLU instead of GELU                                                 FeedForward
    no biases                                                              bias = False
"""

from __future__ import annotations

import math
from typing import Any

from scratch.activations import silu
from scratch.initializers import normal
from scratch.layers import (
    Dropout,
    Embedding,
    Linear,
    RMSNorm,
    RotaryPositions,
    merge_heads,
    scaled_dot_product_attention,
    split_heads,
)
from scratch.messages import require_positive
from scratch.module import Module
from scratch.tensor import Tensor, as_tensor


class Attention(Module):
    """Causal multi-head self-attention: each token attends to itself and to earlier tokens.

        q, k, v = rotary(x W_qᵀ), rotary(x W_kᵀ), x W_vᵀ
        y = concat over heads(softmax(q kᵀ / √hd + causal mask) v) W_oᵀ

    Shapes: (B, T, C) → (B, T, C), with head size hd = C / num_heads.
    Raises ValueError if 2 · num_heads does not divide embed_dim, or num_kv_heads does not divide num_heads.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        num_kv_heads: int,
        dropout: float = 0.0,
        bias: bool = False,
        rope_base: float = 10000.0,
    ):
        if min(embed_dim, num_heads) < 1 or embed_dim % (2 * num_heads):
            raise ValueError(f"embed_dim must be a multiple of 2 · num_heads, got {embed_dim} and {num_heads}")
        if num_kv_heads < 1 or num_heads % num_kv_heads:
            raise ValueError(f"num_heads must be a multiple of num_kv_heads, got {num_heads} and {num_kv_heads}")
        self.num_heads = num_heads
        self.num_kv_heads = num_kv_heads
        kv_dim = embed_dim // num_heads * num_kv_heads
        self.q_proj = Linear(embed_dim, embed_dim, bias)
        self.k_proj = Linear(embed_dim, kv_dim, bias)
        self.v_proj = Linear(embed_dim, kv_dim, bias)
        self.out_proj = Linear(embed_dim, embed_dim, bias)
        self.attention_dropout = Dropout(dropout)
        self.residual_dropout = Dropout(dropout)
        self.rotary = RotaryPositions(rope_base, pairing="halves")

    def forward(self, x: Tensor) -> Tensor:
        q = self.rotary(split_heads(self.q_proj(x), self.num_heads))  # (B, nh, T, hd)
        k = self.rotary(split_heads(self.k_proj(x), self.num_kv_heads))  # (B, nkv, T, hd)
        v = split_heads(self.v_proj(x), self.num_kv_heads)  # (B, nkv, T, hd)
        p = self.attention_dropout.p if self.training else 0.0
        y = scaled_dot_product_attention(q, k, v, dropout_p=p, is_causal=True, enable_gqa=True)  # (B, nh, T, hd)
        return self.residual_dropout(self.out_proj(merge_heads(y)))  # (B, T, C)


class FeedForward(Module):
    """SwiGLU (Shazeer 2020), applied to each token: y = (silu(x W_gateᵀ) ∘ x W_upᵀ) W_downᵀ

    Shapes: (B, T, C) → (B, T, C).
    """

    def __init__(self, embed_dim: int, ffn_dim: int, dropout: float = 0.0, bias: bool = False):
        self.gate_proj = Linear(embed_dim, ffn_dim, bias)
        self.up_proj = Linear(embed_dim, ffn_dim, bias)
        self.down_proj = Linear(ffn_dim, embed_dim, bias)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = silu(self.gate_proj(x)) * self.up_proj(x)  # (B, T, ffn_dim)
        return self.dropout(self.down_proj(x))  # (B, T, C)


class Block(Module):
    """x ← x + attention(norm1(x)),  x ← x + feed_forward(norm2(x)).  Shapes: (B, T, C) → (B, T, C)"""

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        num_kv_heads: int,
        ffn_dim: int,
        dropout: float = 0.0,
        bias: bool = False,
        norm_eps: float = 1e-5,
        rope_base: float = 10000.0,
    ):
        self.norm1 = RMSNorm(embed_dim, norm_eps)
        self.attention = Attention(embed_dim, num_heads, num_kv_heads, dropout, bias, rope_base)
        self.norm2 = RMSNorm(embed_dim, norm_eps)
        self.feed_forward = FeedForward(embed_dim, ffn_dim, dropout, bias)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.feed_forward(self.norm2(x))


class Llama(Module):
    """A language model: for every position, the logits of the next token.

    Args: vocab_size V. context_length: the longest sequence. embed_dim C. num_layers: blocks.
        num_heads: of each attention.
        num_kv_heads: heads of keys and values, a divisor of num_heads.
        ffn_dim: hidden units of the feed-forward network, 3 · embed_dim by default.
        dropout: probability after the embedding, on attention weights, and on each sublayer's output.
        bias: in linear layers. norm_eps: added to mean squares. rope_base: of the rotary embedding's wavelengths.
    Shapes: token indices (B, T), 1 ≤ T ≤ context_length → logits (B, T, V).
    Raises ValueError for other shapes, sizes below 1, and token indices outside 0 … V − 1.
    """

    def __init__(
        self,
        vocab_size: int = 65,
        context_length: int = 64,
        embed_dim: int = 128,
        num_layers: int = 4,
        num_heads: int = 4,
        num_kv_heads: int = 2,
        ffn_dim: int | None = None,
        dropout: float = 0.0,
        bias: bool = False,
        norm_eps: float = 1e-5,
        rope_base: float = 10000.0,
    ):
        ffn_dim = 3 * embed_dim if ffn_dim is None else ffn_dim
        require_positive("Llama", vocab_size=vocab_size, context_length=context_length, num_layers=num_layers)
        self.context_length = context_length
        self.token_embedding = Embedding(vocab_size, embed_dim)
        self.dropout = Dropout(dropout)
        self.blocks = [
            Block(embed_dim, num_heads, num_kv_heads, ffn_dim, dropout, bias, norm_eps, rope_base)
            for _ in range(num_layers)
        ]
        self.norm = RMSNorm(embed_dim, norm_eps)
        self.lm_head = Linear(embed_dim, vocab_size, bias=False)
        self.lm_head.weight = self.token_embedding.weight  # weight tying
        self.init_weights()

    def init_weights(self) -> None:
        """Weights from N(0, 0.02²), biases 0. The 2n projections that add to x get 0.02 / √(2n), so that the variance
        of x does not grow with the number of layers n (GPT-2, section 2.3)."""
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                residual = name.endswith(("out_proj.weight", "down_proj.weight"))
                std = 0.02 / math.sqrt(2 * len(self.blocks)) if residual else 0.02
                parameter.data[...] = normal(parameter.shape, std=std)
            elif name.endswith("bias"):
                parameter.data[...] = 0

    def forward(self, tokens: Any) -> Tensor:
        x = self.embed(tokens)  # (B, T, C)
        for block in self.blocks:
            x = block(x)
        return self.lm_head(self.norm(x))  # (B, T, V)

    def embed(self, tokens: Any) -> Tensor:
        """Token embedding.  Shapes: (B, T) → (B, T, C)"""
        tokens = as_tensor(tokens)
        if tokens.ndim != 2 or not 1 <= tokens.shape[1] <= self.context_length:
            raise ValueError(f"expected tokens (B, T) with 1 ≤ T ≤ {self.context_length}, got shape {tokens.shape}")
        return self.dropout(self.token_embedding(tokens))

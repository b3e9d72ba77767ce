"""GPT: a decoder-only Transformer language model, as in GPT-2 (Radford et al. 2019).

    x = token_embedding[tokens] + position_embedding[0 … T−1]                             (B, T, C)
    x ← x + attention(norm1(x)),   x ← x + feed_forward(norm2(x))       num_layers times  (B, T, C)
    logits = norm(x) · token_embeddingᵀ                                                   (B, T, V)

Changes from the encoder–decoder of Vaswani et al. (2017), and where they are:

    no encoder and no cross-attention: a block has two sublayers           Block
    layer norm before each sublayer (pre-norm)                             Block.forward
    one more layer norm after the last block                               GPT.norm
    learned position embeddings instead of sinusoidal ones                 GPT.position_embedding
    GELU instead of ReLU                                                   FeedForward
    weights from N(0, 0.02²), smaller for layers that add to x             GPT.init_weights
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from scratch.activations import GELU
from scratch.initializers import normal
from scratch.layers import (
    Dropout,
    Embedding,
    LayerNorm,
    Linear,
    merge_heads,
    scaled_dot_product_attention,
    split_heads,
)
from scratch.messages import require_positive
from scratch.module import Module
from scratch.tensor import Tensor, as_tensor


class Attention(Module):
    """Causal multi-head self-attention: each token attends to itself and to earlier tokens.

        q, k, v = x W_qᵀ, x W_kᵀ, x W_vᵀ
        y = concat over heads(softmax(q kᵀ / √hd + causal mask) v) W_oᵀ

    Shapes: (B, T, C) → (B, T, C), with head size hd = C / num_heads.
    Raises ValueError if num_heads does not divide embed_dim.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
    ):
        if min(embed_dim, num_heads) < 1 or embed_dim % num_heads:
            raise ValueError(f"embed_dim must be a multiple of num_heads, got {embed_dim} and {num_heads}")
        self.num_heads = num_heads
        self.q_proj = Linear(embed_dim, embed_dim, bias)
        self.k_proj = Linear(embed_dim, embed_dim, bias)
        self.v_proj = Linear(embed_dim, embed_dim, bias)
        self.out_proj = Linear(embed_dim, embed_dim, bias)
        self.attention_dropout = Dropout(dropout)
        self.residual_dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        q = split_heads(self.q_proj(x), self.num_heads)  # (B, nh, T, hd)
        k = split_heads(self.k_proj(x), self.num_heads)  # (B, nh, T, hd)
        v = split_heads(self.v_proj(x), self.num_heads)  # (B, nh, T, hd)
        p = self.attention_dropout.p if self.training else 0.0
        y = scaled_dot_product_attention(q, k, v, dropout_p=p, is_causal=True)  # (B, nh, T, hd)
        return self.residual_dropout(self.out_proj(merge_heads(y)))  # (B, T, C)


class FeedForward(Module):
    """Two linear layers with a GELU between them, applied to each token: y = gelu(x W_upᵀ) W_downᵀ

    Shapes: (B, T, C) → (B, T, C).
    """

    def __init__(self, embed_dim: int, ffn_dim: int, dropout: float = 0.0, bias: bool = True):
        self.up_proj = Linear(embed_dim, ffn_dim, bias)
        self.gelu = GELU()
        self.down_proj = Linear(ffn_dim, embed_dim, bias)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.gelu(self.up_proj(x))  # (B, T, ffn_dim)
        return self.dropout(self.down_proj(x))  # (B, T, C)


class Block(Module):
    """x ← x + attention(norm1(x)),  x ← x + feed_forward(norm2(x)).  Shapes: (B, T, C) → (B, T, C)"""

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        ffn_dim: int,
        dropout: float = 0.0,
        bias: bool = True,
        norm_eps: float = 1e-5,
    ):
        self.norm1 = LayerNorm(embed_dim, norm_eps, bias=bias)
        self.attention = Attention(embed_dim, num_heads, dropout, bias)
        self.norm2 = LayerNorm(embed_dim, norm_eps, bias=bias)
        self.feed_forward = FeedForward(embed_dim, ffn_dim, dropout, bias)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.feed_forward(self.norm2(x))


class GPT(Module):
    """A language model: for every position, the logits of the next token.

    Args: vocab_size V. context_length: the longest sequence. embed_dim C. num_layers: blocks.
        num_heads: of each attention.
        ffn_dim: hidden units of the feed-forward network, 4 · embed_dim by default.
        dropout: probability after the embedding, on attention weights, and on each sublayer's output.
        bias: in linear layers and norms. norm_eps: added to variances.
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
        ffn_dim: int | None = None,
        dropout: float = 0.0,
        bias: bool = True,
        norm_eps: float = 1e-5,
    ):
        ffn_dim = 4 * embed_dim if ffn_dim is None else ffn_dim
        require_positive("GPT", vocab_size=vocab_size, context_length=context_length, num_layers=num_layers)
        self.context_length = context_length
        self.token_embedding = Embedding(vocab_size, embed_dim)
        self.position_embedding = Embedding(context_length, embed_dim)
        self.dropout = Dropout(dropout)
        self.blocks = [Block(embed_dim, num_heads, ffn_dim, dropout, bias, norm_eps) for _ in range(num_layers)]
        self.norm = LayerNorm(embed_dim, norm_eps, bias=bias)
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
        """Token embedding plus position embedding.  Shapes: (B, T) → (B, T, C)"""
        tokens = as_tensor(tokens)
        if tokens.ndim != 2 or not 1 <= tokens.shape[1] <= self.context_length:
            raise ValueError(f"expected tokens (B, T) with 1 ≤ T ≤ {self.context_length}, got shape {tokens.shape}")
        positions = np.arange(tokens.shape[1])
        return self.dropout(self.token_embedding(tokens) + self.position_embedding(positions))

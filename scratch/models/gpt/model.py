"""GPT: the decoder of "Attention Is All You Need" alone, as GPT-2 builds it and nanoGPT tells it.

    x = wte[tokens] + wpe[0 … T−1]                                               (B, T, C)
    x ← x + attention(ln_1(x)),   x ← x + mlp(ln_2(x))        n_layer times      (B, T, C)
    logits = ln_f(x) wteᵀ                                                        (B, T, V)

What is different from the encoder–decoder (Vaswani et al. 2017), with where it stands below:

    no encoder, no cross-attention: a block has two parts, not three             Block
    every token sees itself and what came before (also the decoder's rule)       CausalSelfAttention: is_causal=True
    the norm stands before each part, the sum stays untouched (pre-norm)         Block.forward
    so one more norm is needed at the end                                        GPT: ln_f
    positions are learned rows, not sines                                        GPT: wpe
    GELU for ReLU                                                                MLP
    the head is the embedding, transposed; the embedding is not scaled by √C     GPT: lm_head
    weights from N(0, 0.02²), those that write into the sum smaller              GPT.initialise

Source: Radford et al. 2019 (GPT-2), with the state keys of nanoGPT and PyTorch's exact GELU, as nanoGPT has it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from scratch.activations import gelu
from scratch.initializers import normal
from scratch.layers import Dropout, Embedding, LayerNorm, Linear, packed_attention
from scratch.module import Module
from scratch.tensor import Tensor, as_tensor


class CausalSelfAttention(Module):
    """Every token looks at itself and at those before it, n_head times at once.

        q, k, v = x W_qkvᵀ + b        y = concat over heads(softmax(q kᵀ / √hd, j ≤ i) v) W_oᵀ + b

    Shapes: (B, T, C) → the same; a head has hd = C / n_head features. Raises ValueError if n_head does not divide C.
    """

    def __init__(self, n_embd: int, n_head: int, dropout: float = 0.0, bias: bool = True):
        if n_embd < 1 or n_head < 1 or n_embd % n_head:
            raise ValueError(f"GPT expected n_embd to be a multiple of n_head, got {n_embd} and {n_head}")
        self.n_head = n_head
        self.c_attn = Linear(n_embd, 3 * n_embd, bias)
        self.c_proj = Linear(n_embd, n_embd, bias)
        self.attn_dropout = Dropout(dropout)
        self.resid_dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.resid_dropout(self.c_proj(self.attend(self.c_attn(x))))

    def attend(self, qkv: Tensor) -> Tensor:
        """The n_head attentions beside each other: `scaled_dot_product_attention`, heads cut out and merged as views.

        Shapes: (B, T, 3C) → (B, T, C).
        """
        p = self.attn_dropout.p if self.training else 0.0
        return packed_attention(qkv, num_heads=self.n_head, dropout_p=p, is_causal=True)


class MLP(Module):
    """y = GELU(x W₁ᵀ + b₁) W₂ᵀ + b₂: every token for itself, through a layer four times as wide.

    Shapes: (B, T, C) → the same.
    """

    def __init__(self, n_embd: int, dropout: float = 0.0, bias: bool = True):
        self.c_fc = Linear(n_embd, 4 * n_embd, bias)
        self.c_proj = Linear(4 * n_embd, n_embd, bias)
        self.dropout = Dropout(dropout)

    @staticmethod
    def activation(x: Tensor) -> Tensor:
        return gelu(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.c_proj(self.activation(self.c_fc(x))))


class Block(Module):
    """x ← x + attention(ln_1(x)),  x ← x + mlp(ln_2(x)).  Shapes: (B, T, C) → the same."""

    def __init__(self, n_embd: int, n_head: int, dropout: float = 0.0, bias: bool = True):
        self.ln_1 = LayerNorm(n_embd, bias=bias)
        self.attn = CausalSelfAttention(n_embd, n_head, dropout, bias)
        self.ln_2 = LayerNorm(n_embd, bias=bias)
        self.mlp = MLP(n_embd, dropout, bias)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT(Module):
    """A language model: at every place, scores for the token that comes next.

    Args: vocab_size: tokens. block_size: the longest sequence it can read. n_layer: blocks. n_head: heads of each.
        n_embd: features of a token. dropout: share of features set to zero in training, after the embedding, in the
        attention weights, and of what each part adds. bias: whether linear layers and norms have one.
    Shapes: tokens (B, T), whole numbers, 1 ≤ T ≤ block_size → logits (B, T, vocab_size).
    Raises ValueError for other shapes, a T out of that range, and a token outside 0 … vocab_size − 1.
    """

    def __init__(
        self,
        vocab_size: int = 65,
        block_size: int = 64,
        n_layer: int = 4,
        n_head: int = 4,
        n_embd: int = 128,
        dropout: float = 0.0,
        bias: bool = True,
    ):
        if min(vocab_size, block_size, n_layer) < 1:
            raise ValueError(
                f"GPT expected sizes of at least 1, got {vocab_size=}, {block_size=}, {n_layer=}".replace("=", " ")
            )
        self.block_size = block_size
        self.transformer: dict[str, Any] = {
            "wte": Embedding(vocab_size, n_embd),
            "wpe": Embedding(block_size, n_embd),
            "drop": Dropout(dropout),
            "h": [Block(n_embd, n_head, dropout, bias) for _ in range(n_layer)],
            "ln_f": LayerNorm(n_embd, bias=bias),
        }
        self.lm_head = Linear(n_embd, vocab_size, bias=False)
        self.lm_head.weight = self.transformer["wte"].weight  # one matrix reads tokens in and scores them
        self.initialise()

    def initialise(self) -> None:
        """Weights from N(0, 0.02²), biases 0; c_proj's from N(0, 0.02²/2n): 2n of them add to x, which thus keeps
        its size (GPT-2, section 2.3)."""
        n = len(self.transformer["h"])
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                std = 0.02 / math.sqrt(2 * n) if name.endswith("c_proj.weight") else 0.02
                parameter.data[...] = normal(parameter.shape, std=std)
            elif name.endswith("bias"):
                parameter.data[...] = 0

    def forward(self, tokens: Any) -> Tensor:
        return self.lm_head(self.transformer["ln_f"](self.features(tokens)))

    def features(self, tokens: Any) -> Tensor:
        """What the last block leaves, before the final norm.  Shapes: (B, T) → (B, T, C)"""
        x = self.embed(tokens)
        for block in self.transformer["h"]:
            x = block(x)
        return x

    def embed(self, tokens: Any) -> Tensor:
        """Token plus position.  Shapes: (B, T) → (B, T, C)"""
        tokens = as_tensor(tokens)
        if tokens.ndim != 2 or not 1 <= tokens.shape[1] <= self.block_size:
            raise ValueError(f"GPT expected tokens of shape (B, T) with T from 1 to {self.block_size}, its context, "
                             f"got {tokens.shape}")  # fmt: skip
        parts = self.transformer
        return parts["drop"](parts["wte"](tokens) + parts["wpe"](np.arange(tokens.shape[1])))

    def get_num_params(self, non_embedding: bool = True) -> int:
        """How many numbers it trains; as nanoGPT counts, without the positions unless asked for all."""
        return self.count_parameters() - (self.transformer["wpe"].weight.size if non_embedding else 0)

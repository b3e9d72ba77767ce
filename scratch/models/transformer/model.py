"""The Transformer: one sequence read as a whole, another written token by token (Vaswani et al. 2017).

    encoder   x = E[source] √C + positions                                                    (B, S, C)
              x = norm(x + attention(x, x));  x = norm(x + feed_forward(x))                   N times
              memory = x

    decoder   y = E[target] √C + positions                                                    (B, T, C)
              y = norm(y + attention(y, y), no later place);
              y = norm(y + attention(y, memory));  y = norm(y + feed_forward(y))              N times
              logits = y Eᵀ                                                                   (B, T, V)

The sequences share one vocabulary and one matrix E, which also scores the answers (§3.4). Attention and the layers made
of it are `scratch/layers/attention/`; what is left for the model is to put them together and to tell them what is
padding.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from scratch.initializers import normal, xavier_uniform
from scratch.layers import (
    Dropout,
    Embedding,
    Identity,
    LayerNorm,
    SinusoidalPositions,
    TransformerDecoderLayer,
    TransformerEncoderLayer,
    linear,
)
from scratch.module import Module
from scratch.tensor import Tensor
from scratch.value import raw


class Transformer(Module):
    """Encoder and decoder, for pairs of sequences.

    Args: vocab_size: tokens V of both sequences. d_model: features C of a token. nhead: attention heads of each layer,
            a divisor of d_model. num_encoder_layers, num_decoder_layers: how many of each. dim_feedforward: units
            between the two affine maps of a layer. dropout: share set to zero at random in training, after the
            embedding, in the attention weights, and of what each part of a layer adds.
        max_length: the longest sequence. pad: the token that fills up shorter rows, at their ends.
        norm_first: normalise before each part of a layer instead of after the sum (pre-norm; the paper: post-norm),
            which needs one more norm after the last layer.
    Shapes: source (B, S), target (B, T), whole numbers → logits (B, T, V); logits[:, t] depends on target[:, : t + 1].
    Raises ValueError for other shapes, sequences longer than max_length, tokens outside 0 … V − 1, and sizes below 1.
    """

    def __init__(
        self,
        vocab_size: int = 64,
        d_model: int = 128,
        nhead: int = 4,
        num_encoder_layers: int = 2,
        num_decoder_layers: int = 2,
        dim_feedforward: int = 512,
        dropout: float = 0.1,
        max_length: int = 64,
        pad: int = 0,
        norm_first: bool = False,
    ):
        if min(num_encoder_layers, num_decoder_layers, max_length) < 1 or not 0 <= pad < vocab_size:
            raise ValueError(f"Transformer expected at least one layer a side, max_length of at least 1 and pad among "
                             f"{vocab_size} tokens, got {num_encoder_layers} and {num_decoder_layers} layers, "
                             f"max_length {max_length}, pad {pad}")  # fmt: skip
        sizes = (d_model, nhead, dim_feedforward, dropout)
        options: dict[str, Any] = {"batch_first": True, "norm_first": norm_first}
        self.pad, self.max_length = pad, max_length
        self.embedding = Embedding(vocab_size, d_model)
        self.positions = SinusoidalPositions(max_length, d_model)
        self.dropout = Dropout(dropout)
        self.encoder = [TransformerEncoderLayer(*sizes, **options) for _ in range(num_encoder_layers)]
        self.decoder = [TransformerDecoderLayer(*sizes, **options) for _ in range(num_decoder_layers)]
        self.encoder_norm = LayerNorm(d_model) if norm_first else Identity()
        self.decoder_norm = LayerNorm(d_model) if norm_first else Identity()
        self.initialise()

    def initialise(self) -> None:
        """Matrices by Xavier's formula, as PyTorch's nn.Transformer draws them; E from N(0, 1/C).

        So a row of E √C has variance 1, as large as the waves that are added, and a row of E has length 1, so that
        logits start small.
        """
        for parameter in self.parameters():
            if parameter.ndim > 1:
                parameter.data[...] = xavier_uniform(parameter.shape)
        E = self.embedding.weight
        E.data[...] = normal(E.shape, std=1 / math.sqrt(E.shape[1]))

    def forward(self, source: Any, target: Any) -> Tensor:
        return self.decode(target, *self.encode(source))

    def encode(self, source: Any) -> tuple[Tensor, np.ndarray]:
        """What the decoder asks: (memory (B, S, C), padding (B, S), True at places that are not to be asked)."""
        x = self.embed(source)
        padding = np.asarray(raw(source)) == self.pad
        for layer in self.encoder:
            x = layer(x, src_key_padding_mask=padding)
        return self.encoder_norm(x), padding

    def decode(self, target: Any, memory: Tensor, padding: np.ndarray) -> Tensor:
        """Scores for the token that follows each one of target.  Shapes: (B, T), (B, S, C), (B, S) → (B, T, V)

        The target needs no mask for its own padding, which stands at the end: no place sees a later one.
        """
        x = self.embed(target)
        for layer in self.decoder:
            x = layer(x, memory, memory_key_padding_mask=padding, tgt_is_causal=True)
        return self.scores(self.decoder_norm(x))

    def embed(self, tokens: Any, offset: int = 0) -> Tensor:
        """dropout(E[tokens] √C + positions), the first token standing at place `offset`.  (B, T) → (B, T, C)"""
        shape, room = np.shape(tokens), self.max_length - offset
        if len(shape) != 2 or not 1 <= shape[1] <= room:
            told = f"got shape {shape}" + (f" after {offset} places" if offset else "")
            raise ValueError(f"Transformer expected tokens (B, T) with T from 1 to {room}, {told}")
        x = self.embedding(tokens)
        return self.dropout(self.positions(x * math.sqrt(x.shape[-1]), offset))

    def scores(self, x: Tensor) -> Tensor:
        """x Eᵀ: how well each feature row fits each token.  Shapes: (..., C) → (..., V)"""
        return linear(x, self.embedding.weight)

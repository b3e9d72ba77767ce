"""BART: the Transformer as published in 2019 with trained weights, and how little differs (Lewis et al. 2019).

    x = LayerNorm(E[tokens] + P[2 … T + 1])      learned rows for places, and a norm after the sum     Side.embed
        the first two rows of P are never used: a mark of padding once stood there                     OFFSET
    encoder and decoder have a P and a norm each                                                       Bart: sides
    GELU for ReLU                                                                                      Bart: layers
    logits = y Eᵀ + final_logits_bias                                                                  Bart.scores

Post-norm, one matrix E for both sides and for the scores, and the layers are those of the paper of 2017.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from scratch.layers import (
    Dropout,
    Embedding,
    Identity,
    LayerNorm,
    TransformerDecoderLayer,
    TransformerEncoderLayer,
)
from scratch.models.transformer.model import Transformer
from scratch.module import Module
from scratch.tensor import Buffer, Tensor

OFFSET = 2


class Side(Module):
    """What the encoder and the decoder each have for themselves: rows of places, and a norm."""

    def __init__(self, max_length: int, d_model: int):
        self.embed_positions = Embedding(max_length + OFFSET, d_model)
        self.layernorm_embedding = LayerNorm(d_model)

    def forward(self, x: Tensor, offset: int = 0) -> Tensor:
        """LayerNorm(x + P[OFFSET + place]), the first of x standing at `offset`.  Shapes: (B, T, C) → the same"""
        places = np.arange(offset + OFFSET, offset + OFFSET + x.shape[1])
        return self.layernorm_embedding(x + self.embed_positions(places))


class Bart(Transformer):
    """The encoder–decoder whose weights are published as BartForConditionalGeneration.

    Args: encoder_heads, decoder_heads, encoder_feedforward, decoder_feedforward: of each side. scale: by how much rows
            of E are multiplied: 1, or √C as in 2017. begin, end: the tokens that begin and end an answer. The others:
            those of Transformer.
    Shapes and errors: those of Transformer.
    """

    decodes_alike = True  # for CachedDecoder, which asks `embed` and `scores`

    def __init__(
        self, vocab_size: int = 64, d_model: int = 128, encoder_heads: int = 4, decoder_heads: int = 4,
        num_encoder_layers: int = 2, num_decoder_layers: int = 2, encoder_feedforward: int = 512,
        decoder_feedforward: int = 512, dropout: float = 0.1, max_length: int = 64, pad: int = 1, scale: bool = False,
        begin: int = 2, end: int = 2,
    ):  # fmt: skip
        if min(num_encoder_layers, num_decoder_layers, max_length) < 1 or not 0 <= pad < vocab_size:
            raise ValueError(f"Bart expected at least one layer a side, max_length of at least 1 and pad among "
                             f"{vocab_size} tokens, got {num_encoder_layers} and {num_decoder_layers} layers, "
                             f"max_length {max_length}, pad {pad}")  # fmt: skip
        self.pad, self.max_length, self.begin, self.end = pad, max_length, begin, end
        self.factor = math.sqrt(d_model) if scale else 1.0
        self.embedding = Embedding(vocab_size, d_model)
        self.dropout = Dropout(dropout)
        self.encoder_side, self.decoder_side = Side(max_length, d_model), Side(max_length, d_model)
        options: dict[str, Any] = {"dropout": dropout, "activation": "gelu", "batch_first": True}
        self.encoder = [TransformerEncoderLayer(d_model, encoder_heads, encoder_feedforward, **options)
                        for _ in range(num_encoder_layers)]  # fmt: skip
        self.decoder = [TransformerDecoderLayer(d_model, decoder_heads, decoder_feedforward, **options)
                        for _ in range(num_decoder_layers)]  # fmt: skip
        self.encoder_norm, self.decoder_norm = Identity(), Identity()
        self.final_logits_bias = Buffer(np.zeros((1, vocab_size), np.float32))
        self.initialise()

    def encode(self, source: Any) -> tuple[Tensor, np.ndarray]:
        padding = np.asarray(source) == self.pad
        x = self.enter(source, self.encoder_side, 0)
        for layer in self.encoder:
            x = layer(x, src_key_padding_mask=padding)
        return x, padding

    def embed(self, tokens: Any, offset: int = 0) -> Tensor:
        return self.enter(tokens, self.decoder_side, offset)

    def enter(self, tokens: Any, side: Side, offset: int) -> Tensor:
        """dropout(LayerNorm(E[tokens] + P)), the first token standing at place `offset`.  (B, T) → (B, T, C)"""
        shape, room = np.shape(tokens), self.max_length - offset
        if len(shape) != 2 or not 1 <= shape[1] <= room:
            told = f"got shape {shape}" + (f" after {offset} places" if offset else "")
            raise ValueError(f"Bart expected tokens (B, T) with T from 1 to {room}, {told}")
        return self.dropout(side(self.embedding(tokens) * self.factor, offset))

    def scores(self, x: Tensor) -> Tensor:
        return super().scores(x) + self.final_logits_bias

"""The Transformer in PyTorch, told independently, with the same names of parameters."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F


class Transformer(nn.Module):
    def __init__(
        self,
        vocab_size: int,
        d_model: int,
        nhead: int,
        num_encoder_layers: int,
        num_decoder_layers: int,
        dim_feedforward: int,
        dropout: float = 0.0,
        max_length: int = 64,
        pad: int = 0,
        norm_first: bool = False,
    ):
        super().__init__()
        sizes = d_model, nhead, dim_feedforward, dropout
        self.pad = pad
        self.embedding = nn.Embedding(vocab_size, d_model)
        self.encoder = nn.ModuleList(
            nn.TransformerEncoderLayer(*sizes, batch_first=True, norm_first=norm_first)
            for _ in range(num_encoder_layers)
        )
        self.decoder = nn.ModuleList(
            nn.TransformerDecoderLayer(*sizes, batch_first=True, norm_first=norm_first)
            for _ in range(num_decoder_layers)
        )
        self.encoder_norm = nn.LayerNorm(d_model) if norm_first else nn.Identity()
        self.decoder_norm = nn.LayerNorm(d_model) if norm_first else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        place = torch.arange(max_length, dtype=torch.float64)[:, None]
        pair = torch.arange(0, d_model, 2, dtype=torch.float64)
        waves = place / 10000 ** (pair / d_model)
        table = torch.stack([waves.sin(), waves.cos()], dim=-1).reshape(max_length, -1)[:, :d_model]
        self.register_buffer("waves", table, persistent=False)

    def embed(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embedding(tokens) * math.sqrt(self.embedding.embedding_dim)
        return self.dropout(x + self.waves[: tokens.shape[1]].to(x.dtype))

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        hidden = source == self.pad
        x = self.embed(source)
        for layer in self.encoder:
            x = layer(x, src_key_padding_mask=hidden)
        memory = self.encoder_norm(x)
        T = target.shape[1]
        later = torch.ones(T, T, dtype=torch.bool, device=target.device).triu(1)
        y = self.embed(target)
        for layer in self.decoder:
            y = layer(y, memory, tgt_mask=later, memory_key_padding_mask=hidden, tgt_is_causal=True)
        return F.linear(self.decoder_norm(y), self.embedding.weight)

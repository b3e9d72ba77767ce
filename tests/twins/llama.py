"""Llama in PyTorch, written independently, with the same names of parameters."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import nn
from torch.nn import functional as F


@cache
def rotations(T: int, half: int, base: float, dtype: torch.dtype) -> torch.Tensor:
    """e^(i · position · frequency)  (T, half)"""
    frequencies = base ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = torch.outer(torch.arange(T, dtype=torch.float64), frequencies)
    return torch.polar(torch.ones_like(angles), angles).to(dtype)


def rotated(x: torch.Tensor, base: float) -> torch.Tensor:
    """Features i and i + hd/2 as one complex number, times e^(i · position · frequency).  x (B, nh, T, hd)"""
    half = x.shape[3] // 2
    kind = torch.complex128 if x.dtype == torch.float64 else torch.complex64
    z = torch.complex(x[..., :half], x[..., half:]) * rotations(x.shape[2], half, base, kind)
    return torch.cat([z.real, z.imag], dim=-1)


class Attention(nn.Module):
    def __init__(self, C: int, num_heads: int, num_kv_heads: int, base: float):
        super().__init__()
        self.num_heads, self.num_kv_heads, self.base = num_heads, num_kv_heads, base
        self.q_proj = nn.Linear(C, C, bias=False)
        self.k_proj = nn.Linear(C, C // num_heads * num_kv_heads, bias=False)
        self.v_proj = nn.Linear(C, C // num_heads * num_kv_heads, bias=False)
        self.out_proj = nn.Linear(C, C, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q = self.q_proj(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        k, v = (p(x).unflatten(-1, (self.num_kv_heads, -1)).transpose(1, 2) for p in (self.k_proj, self.v_proj))
        q, k = rotated(q, self.base), rotated(k, self.base)
        k, v = (part.repeat_interleave(self.num_heads // self.num_kv_heads, dim=1) for part in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out_proj(y.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    def __init__(self, C: int, width: int):
        super().__init__()
        self.gate_proj = nn.Linear(C, width, bias=False)
        self.up_proj = nn.Linear(C, width, bias=False)
        self.down_proj = nn.Linear(width, C, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    def __init__(self, C: int, num_heads: int, num_kv_heads: int, base: float, eps: float, network: nn.Module):
        super().__init__()
        self.norm1, self.attention = nn.RMSNorm(C, eps), Attention(C, num_heads, num_kv_heads, base)
        self.norm2, self.feed_forward = nn.RMSNorm(C, eps), network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.feed_forward(self.norm2(x))


class Llama(nn.Module):
    def __init__(
        self,
        vocab_size: int,
        context_length: int,
        embed_dim: int,
        num_layers: int,
        num_heads: int,
        num_kv_heads: int,
        ffn_dim: int,
        norm_eps: float = 1e-5,
        rope_base: float = 10000.0,
    ):
        super().__init__()
        C = embed_dim
        self.token_embedding = nn.Embedding(vocab_size, C)
        self.blocks = nn.ModuleList(
            Block(C, num_heads, num_kv_heads, rope_base, norm_eps, self.network(C, ffn_dim)) for _ in range(num_layers)
        )
        self.norm = nn.RMSNorm(C, norm_eps)
        self.lm_head = nn.Linear(C, vocab_size, bias=False)
        self.lm_head.weight = self.token_embedding.weight
        for name, p in self.named_parameters():
            if p.ndim == 2:
                residual = "out_proj" in name or "down_proj" in name
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * num_layers) if residual else 0.02)

    def network(self, C: int, width: int) -> nn.Module:
        return FeedForward(C, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.token_embedding(tokens)
        for block in self.blocks:
            x = block(x)
        return self.lm_head(self.norm(x))


class MixtureOfExperts(nn.Module):
    """Every expert processes every token, and gates of 0 remove those that were not selected."""

    def __init__(self, C: int, width: int, num_experts: int, k: int):
        super().__init__()
        self.router = nn.Linear(C, num_experts, bias=False)
        self.experts = nn.ModuleList(FeedForward(C, width) for _ in range(num_experts))
        self.k = k

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        p = self.router(x).softmax(dim=-1)  # (B, T, E)
        best, selected = p.topk(self.k, dim=-1)
        gates = torch.zeros_like(p).scatter(-1, selected, best / best.sum(dim=-1, keepdim=True))
        share = F.one_hot(selected, p.shape[-1]).to(p.dtype).mean(dim=(0, 1, 2))
        self.load_balancing_loss = p.shape[-1] * (share * p.mean(dim=(0, 1))).sum()
        return sum(gates[..., e, None] * expert(x) for e, expert in enumerate(self.experts))


class Mixtral(Llama):
    def __init__(self, num_experts: int, num_experts_per_token: int, **config):
        self.sizes = (num_experts, num_experts_per_token)
        super().__init__(**config)

    def network(self, C: int, width: int) -> nn.Module:
        return MixtureOfExperts(C, width, *self.sizes)

    def load_balancing_loss(self) -> torch.Tensor:
        return torch.stack([block.feed_forward.load_balancing_loss for block in self.blocks]).mean()

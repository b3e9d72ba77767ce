"""Llama in PyTorch, told independently, with the same names of parameters."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import nn
from torch.nn import functional as F


@cache
def turns(T: int, half: int, theta: float, dtype: torch.dtype) -> torch.Tensor:
    """e^(i · place · speed)  (T, half)"""
    speeds = theta ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = torch.outer(torch.arange(T, dtype=torch.float64), speeds)
    return torch.polar(torch.ones_like(angles), angles).to(dtype)


def turned(x: torch.Tensor, theta: float) -> torch.Tensor:
    """Features i and i + hd/2 as one complex number, times e^(i · place · speed).  x (B, nh, T, hd)"""
    half = x.shape[3] // 2
    kind = torch.complex128 if x.dtype == torch.float64 else torch.complex64
    z = torch.complex(x[..., :half], x[..., half:]) * turns(x.shape[2], half, theta, kind)
    return torch.cat([z.real, z.imag], dim=-1)


class Attention(nn.Module):
    def __init__(self, C: int, heads: int, kv_heads: int, theta: float):
        super().__init__()
        self.heads, self.kv_heads, self.theta = heads, kv_heads, theta
        self.q_proj = nn.Linear(C, C, bias=False)
        self.k_proj = nn.Linear(C, C // heads * kv_heads, bias=False)
        self.v_proj = nn.Linear(C, C // heads * kv_heads, bias=False)
        self.o_proj = nn.Linear(C, C, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q = self.q_proj(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = (p(x).unflatten(-1, (self.kv_heads, -1)).transpose(1, 2) for p in (self.k_proj, self.v_proj))
        q, k = turned(q, self.theta), turned(k, self.theta)
        k, v = (part.repeat_interleave(self.heads // self.kv_heads, dim=1) for part in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(y.transpose(1, 2).flatten(2))


class Perceptron(nn.Module):
    def __init__(self, C: int, width: int):
        super().__init__()
        self.gate_proj = nn.Linear(C, width, bias=False)
        self.up_proj = nn.Linear(C, width, bias=False)
        self.down_proj = nn.Linear(width, C, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, C: int, heads: int, kv_heads: int, theta: float, eps: float, network: nn.Module):
        super().__init__()
        self.self_attn = Attention(C, heads, kv_heads, theta)
        self.mlp = network
        self.input_layernorm, self.post_attention_layernorm = nn.RMSNorm(C, eps), nn.RMSNorm(C, eps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.self_attn(self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    def __init__(
        self,
        vocab_size: int,
        hidden_size: int,
        intermediate_size: int,
        num_hidden_layers: int,
        num_attention_heads: int,
        num_key_value_heads: int,
        max_position_embeddings: int,
        rms_norm_eps: float = 1e-5,
        rope_theta: float = 10000.0,
        tie_word_embeddings: bool = True,
    ):
        super().__init__()
        C = hidden_size
        self.model = nn.ModuleDict({
            "embed_tokens": nn.Embedding(vocab_size, C),
            "layers": nn.ModuleList(
                Layer(C, num_attention_heads, num_key_value_heads, rope_theta, rms_norm_eps,
                      self.network(C, intermediate_size)) for _ in range(num_hidden_layers)),
            "norm": nn.RMSNorm(C, rms_norm_eps),
        })  # fmt: skip
        self.lm_head = nn.Linear(C, vocab_size, bias=False)
        if tie_word_embeddings:
            self.lm_head.weight = self.model["embed_tokens"].weight
        for name, p in self.named_parameters():
            if p.ndim == 2:
                writes = "o_proj" in name or "down_proj" in name or "w2" in name
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * num_hidden_layers) if writes else 0.02)

    def network(self, C: int, width: int) -> nn.Module:
        return Perceptron(C, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.model["embed_tokens"](tokens)
        for layer in self.model["layers"]:
            x = layer(x)
        return self.lm_head(self.model["norm"](x))


class Expert(nn.Module):
    def __init__(self, C: int, width: int):
        super().__init__()
        self.w1 = nn.Linear(C, width, bias=False)
        self.w2 = nn.Linear(width, C, bias=False)
        self.w3 = nn.Linear(C, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class Mixture(nn.Module):
    """Every expert reads every token, and gates of 0 leave out what was not chosen."""

    def __init__(self, C: int, width: int, experts: int, k: int):
        super().__init__()
        self.gate = nn.Linear(C, experts, bias=False)
        self.experts = nn.ModuleList(Expert(C, width) for _ in range(experts))
        self.k = k

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        p = self.gate(x).softmax(dim=-1)  # (B, T, E)
        best, chosen = p.topk(self.k, dim=-1)
        gates = torch.zeros_like(p).scatter(-1, chosen, best / best.sum(dim=-1, keepdim=True))
        share = F.one_hot(chosen, p.shape[-1]).to(p.dtype).mean(dim=(0, 1, 2))
        self.balance = p.shape[-1] * (share * p.mean(dim=(0, 1))).sum()
        return sum(gates[..., e, None] * expert(x) for e, expert in enumerate(self.experts))


class SparseLayer(nn.Module):
    def __init__(self, layer: Layer, mixture: Mixture):
        super().__init__()
        self.self_attn = layer.self_attn
        self.input_layernorm, self.post_attention_layernorm = layer.input_layernorm, layer.post_attention_layernorm
        self.block_sparse_moe = mixture

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.self_attn(self.input_layernorm(x))
        return x + self.block_sparse_moe(self.post_attention_layernorm(x))


class Mixtral(Llama):
    def __init__(self, hidden_size: int, intermediate_size: int, num_local_experts: int, num_experts_per_tok: int,
                 **config):  # fmt: skip
        super().__init__(hidden_size=hidden_size, intermediate_size=1, **config)
        sizes = (hidden_size, intermediate_size, num_local_experts, num_experts_per_tok)
        layers = [SparseLayer(layer, Mixture(*sizes)) for layer in self.model["layers"]]
        self.model["layers"] = nn.ModuleList(layers)

    def balance(self) -> torch.Tensor:
        return torch.stack([layer.block_sparse_moe.balance for layer in self.model["layers"]]).mean()

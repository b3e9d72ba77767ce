"""GPT in PyTorch, told independently, with the same names of parameters."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F


class Attention(nn.Module):
    def __init__(self, C: int, heads: int, bias: bool):
        super().__init__()
        self.c_attn = nn.Linear(C, 3 * C, bias=bias)
        self.c_proj = nn.Linear(C, C, bias=bias)
        self.heads = heads

    def forward(self, x: torch.Tensor, past: list[torch.Tensor] | None = None) -> torch.Tensor:
        """`past` holds keys and values of the tokens before, and is brought up to date."""
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.c_attn(x).chunk(3, dim=-1))
        causal = True
        if past is not None:
            causal = not past
            if past:
                k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
            past[:] = [k, v]
        y = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return self.c_proj(y.transpose(1, 2).flatten(2))


class Perceptron(nn.Module):
    def __init__(self, C: int, bias: bool):
        super().__init__()
        self.c_fc = nn.Linear(C, 4 * C, bias=bias)
        self.c_proj = nn.Linear(4 * C, C, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.c_proj(F.gelu(self.c_fc(x)))


class Layer(nn.Module):
    def __init__(self, C: int, heads: int, bias: bool):
        super().__init__()
        self.ln_1, self.attn = nn.LayerNorm(C, bias=bias), Attention(C, heads, bias)
        self.ln_2, self.mlp = nn.LayerNorm(C, bias=bias), Perceptron(C, bias)

    def forward(self, x: torch.Tensor, past: list[torch.Tensor] | None = None) -> torch.Tensor:
        x = x + self.attn(self.ln_1(x), past)
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    def __init__(self, vocab_size: int, block_size: int, n_layer: int, n_head: int, n_embd: int, bias: bool = True):
        super().__init__()
        self.transformer = nn.ModuleDict({
            "wte": nn.Embedding(vocab_size, n_embd),
            "wpe": nn.Embedding(block_size, n_embd),
            "h": nn.ModuleList(Layer(n_embd, n_head, bias) for _ in range(n_layer)),
            "ln_f": nn.LayerNorm(n_embd, bias=bias),
        })  # fmt: skip
        self.lm_head = nn.Linear(n_embd, vocab_size, bias=False)
        self.lm_head.weight = self.transformer["wte"].weight
        for name, p in self.named_parameters():
            if p.ndim == 2:
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * n_layer) if "c_proj" in name else 0.02)

    def forward(self, tokens: torch.Tensor, caches: list[list[torch.Tensor]] | None = None) -> torch.Tensor:
        t, T = self.transformer, tokens.shape[1]
        start = caches[0][0].shape[2] if caches and caches[0] else 0
        x = t["wte"](tokens) + t["wpe"](torch.arange(start, start + T))
        for i, layer in enumerate(t["h"]):
            x = layer(x, caches[i] if caches is not None else None)
        return self.lm_head(t["ln_f"](x))

    @torch.inference_mode()
    def greedy(self, prompt: torch.Tensor, count: int) -> torch.Tensor:
        """The prompt (B, T) and the likeliest tokens after it, with keys and values kept."""
        caches: list[list[torch.Tensor]] = [[] for _ in self.transformer["h"]]
        text, new = prompt, prompt
        for _ in range(count):
            new = self(new, caches)[:, -1].argmax(dim=-1, keepdim=True)
            text = torch.cat([text, new], dim=1)
        return text

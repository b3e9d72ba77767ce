"""GPT in PyTorch, written independently, with the same names of parameters."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F


class Attention(nn.Module):
    def __init__(self, C: int, num_heads: int, bias: bool):
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(C, C, bias=bias) for _ in range(4))
        self.num_heads = num_heads

    def forward(self, x: torch.Tensor, past: list[torch.Tensor] | None = None) -> torch.Tensor:
        """`past` holds keys and values of earlier tokens, and is updated."""
        projected = (self.q_proj(x), self.k_proj(x), self.v_proj(x))
        q, k, v = (y.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for y in projected)
        causal = True
        if past is not None:
            causal = not past
            if past:
                k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
            past[:] = [k, v]
        y = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return self.out_proj(y.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    def __init__(self, C: int, bias: bool):
        super().__init__()
        self.up_proj = nn.Linear(C, 4 * C, bias=bias)
        self.down_proj = nn.Linear(4 * C, C, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(F.gelu(self.up_proj(x)))


class Block(nn.Module):
    def __init__(self, C: int, num_heads: int, bias: bool):
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(C, bias=bias), Attention(C, num_heads, bias)
        self.norm2, self.feed_forward = nn.LayerNorm(C, bias=bias), FeedForward(C, bias)

    def forward(self, x: torch.Tensor, past: list[torch.Tensor] | None = None) -> torch.Tensor:
        x = x + self.attention(self.norm1(x), past)
        return x + self.feed_forward(self.norm2(x))


class GPT(nn.Module):
    def __init__(
        self, vocab_size: int, context_length: int, embed_dim: int, num_layers: int, num_heads: int, bias: bool = True
    ):
        super().__init__()
        self.token_embedding = nn.Embedding(vocab_size, embed_dim)
        self.position_embedding = nn.Embedding(context_length, embed_dim)
        self.blocks = nn.ModuleList(Block(embed_dim, num_heads, bias) for _ in range(num_layers))
        self.norm = nn.LayerNorm(embed_dim, bias=bias)
        self.lm_head = nn.Linear(embed_dim, vocab_size, bias=False)
        self.lm_head.weight = self.token_embedding.weight
        for name, p in self.named_parameters():
            if p.ndim == 2:
                residual = "out_proj" in name or "down_proj" in name
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * num_layers) if residual else 0.02)

    def forward(self, tokens: torch.Tensor, caches: list[list[torch.Tensor]] | None = None) -> torch.Tensor:
        T = tokens.shape[1]
        start = caches[0][0].shape[2] if caches and caches[0] else 0
        x = self.token_embedding(tokens) + self.position_embedding(torch.arange(start, start + T))
        for i, block in enumerate(self.blocks):
            x = block(x, caches[i] if caches is not None else None)
        return self.lm_head(self.norm(x))

    @torch.inference_mode()
    def greedy(self, prompt: torch.Tensor, count: int) -> torch.Tensor:
        """The prompt (B, T) followed by the most probable tokens, with a KV cache."""
        caches: list[list[torch.Tensor]] = [[] for _ in self.blocks]
        text, new = prompt, prompt
        for _ in range(count):
            new = self(new, caches)[:, -1].argmax(dim=-1, keepdim=True)
            text = torch.cat([text, new], dim=1)
        return text

"""BERT in PyTorch, told independently, with the same names of parameters."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class Sum(nn.Module):
    """LayerNorm(x + dense(y))"""

    def __init__(self, width: int, C: int, eps: float):
        super().__init__()
        self.dense, self.LayerNorm = nn.Linear(width, C), nn.LayerNorm(C, eps)

    def forward(self, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return self.LayerNorm(x + self.dense(y))


class Attention(nn.Module):
    def __init__(self, C: int, heads: int):
        super().__init__()
        self.query, self.key, self.value, self.heads = nn.Linear(C, C), nn.Linear(C, C), nn.Linear(C, C), heads

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        q, k, v = (p(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in (self.query, self.key, self.value))
        seen = None if mask is None else (mask != 0)[:, None, None, :]
        return F.scaled_dot_product_attention(q, k, v, seen).transpose(1, 2).flatten(2)


class Layer(nn.Module):
    def __init__(self, C: int, heads: int, width: int, eps: float):
        super().__init__()
        self.attention = nn.ModuleDict({"self": Attention(C, heads), "output": Sum(C, C, eps)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(C, width)})
        self.output = Sum(width, C, eps)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        x = self.attention["output"](self.attention["self"](x, mask), x)
        return self.output(F.gelu(self.intermediate["dense"](x)), x)


class Embeddings(nn.Module):
    def __init__(self, V: int, C: int, places: int, types: int, eps: float):
        super().__init__()
        self.word_embeddings, self.position_embeddings = nn.Embedding(V, C), nn.Embedding(places, C)
        self.token_type_embeddings, self.LayerNorm = nn.Embedding(types, C), nn.LayerNorm(C, eps)

    def forward(self, tokens: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
        places = self.position_embeddings.weight[: tokens.shape[1]]
        return self.LayerNorm(self.word_embeddings(tokens) + places + self.token_type_embeddings(types))


class Bert(nn.Module):
    def __init__(
        self,
        vocab_size: int,
        hidden_size: int,
        num_hidden_layers: int,
        num_attention_heads: int,
        intermediate_size: int,
        max_position_embeddings: int,
        type_vocab_size: int = 2,
        layer_norm_eps: float = 1e-12,
        add_pooling_layer: bool = True,
    ):
        super().__init__()
        C = hidden_size
        self.embeddings = Embeddings(vocab_size, C, max_position_embeddings, type_vocab_size, layer_norm_eps)
        layers = [Layer(C, num_attention_heads, intermediate_size, layer_norm_eps) for _ in range(num_hidden_layers)]
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(layers)})
        if add_pooling_layer:
            self.pooler = nn.ModuleDict({"dense": nn.Linear(C, C)})

    def forward(self, tokens, mask=None, types=None) -> torch.Tensor:
        x = self.embeddings(tokens, torch.zeros_like(tokens) if types is None else types)
        for layer in self.encoder["layer"]:
            x = layer(x, mask)
        return x

    def pooled(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.pooler["dense"](x[:, 0]))


class Head(nn.Module):
    def __init__(self, V: int, C: int, eps: float):
        super().__init__()
        self.transform = nn.ModuleDict({"dense": nn.Linear(C, C), "LayerNorm": nn.LayerNorm(C, eps)})
        self.decoder = nn.Linear(C, V)
        self.bias = self.decoder.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.transform["LayerNorm"](F.gelu(self.transform["dense"](x))))


class BertForMaskedLM(nn.Module):
    def __init__(self, **config):
        super().__init__()
        self.bert = Bert(**config, add_pooling_layer=False)
        V, C = self.bert.embeddings.word_embeddings.weight.shape
        self.cls = nn.ModuleDict({"predictions": Head(V, C, config.get("layer_norm_eps", 1e-12))})
        self.cls["predictions"].decoder.weight = self.bert.embeddings.word_embeddings.weight
        for name, p in self.named_parameters():
            if p.ndim == 2:
                nn.init.normal_(p, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def forward(self, tokens, mask=None, types=None, places=None) -> torch.Tensor:
        x = self.bert(tokens, mask, types)
        return self.cls["predictions"](x if places is None else x[places])

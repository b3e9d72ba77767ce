"""The decoder token by token: what was computed for earlier places is kept, so that each new token costs one row.

    once for a source     K_m, V_m = memory W_K, memory W_V            of every layer's attention to the memory
    for every token       k, v appended to the keys and values of the layer's self-attention

No place sees a later one, so nothing that is kept ever changes: the results equal those of `Transformer.decode`, which
computes all places anew. Rows are hypotheses: W of each source stand side by side and share its memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from scratch.layers import MultiheadAttention, TransformerDecoderLayer, linear, scaled_dot_product_attention
from scratch.models.transformer.model import Transformer
from scratch.tensor import Tensor, no_grad

REPEATED = (Transformer, TransformerDecoderLayer, MultiheadAttention)


class CachedDecoder:
    """Reads the hypotheses' next tokens and scores what follows.

    Args: model: its weights, in evaluation mode. source: (B, S). width: hypotheses W of each source.
    Raises ValueError for subclasses of the model and of its layers: what they do otherwise is not repeated here, unless
        they say that it is (`decodes_alike`).
    """

    def __init__(self, model: Transformer, source: Any, width: int = 1):
        for part in model.modules():
            kind = next((kind for kind in REPEATED if isinstance(part, kind)), None)
            if kind and type(part) is not kind and not getattr(part, "decodes_alike", False):
                raise ValueError(f"CachedDecoder repeats {kind.__name__}, got {type(part).__name__}: use cache=False")
        with no_grad():
            memory, padding = model.encode(source)
            self.layers = [_CachedLayer(layer, memory, padding, width, model.max_length) for layer in model.decoder]
        self.model, self.length = model, 0
        self.rows, self.width = len(padding) * width, width

    def read(self, tokens: np.ndarray) -> np.ndarray:
        """Logits of the token after these.  Shapes: (B·W,) → (B·W, V)

        Raises ValueError for another number of rows, and beyond the model's max_length.
        """
        if np.shape(tokens) != (self.rows,):
            raise ValueError(f"CachedDecoder expected tokens of shape ({self.rows},), got {np.shape(tokens)}")
        with no_grad():
            x = self.model.embed(tokens[:, None], self.length)
            for layer in self.layers:
                x = layer(x, self.length)
            self.length += 1
            return self.model.scores(self.model.decoder_norm(x)).data[:, 0]

    def keep(self, rows: np.ndarray) -> None:
        """Go on with these hypotheses, (B·W,) row numbers; one may stay several times, among those of its source.

        Raises ValueError for a row that would go on with a hypothesis of another source, whose memory it has not.
        """
        source = np.arange(self.rows) // self.width
        if np.shape(rows) != (self.rows,) or not np.array_equal(np.asarray(rows) // self.width, source):
            raise ValueError(f"CachedDecoder.keep expected {self.rows} row numbers, each among the {self.width} of its "
                             f"source, got {rows}")  # fmt: skip
        for layer in self.layers:
            layer.keep(rows, self.length)


class _CachedLayer:
    """`TransformerDecoderLayer.forward` for one place, x (B·W, 1, C)."""

    def __init__(self, layer: TransformerDecoderLayer, memory: Tensor, padding: np.ndarray, width: int, longest: int):
        (B, _, C), attn = memory.shape, layer.multihead_attn
        self.layer, self.width = layer, width
        kv = linear(memory, *_part(attn, 1, 3))  # (B, S, 2C)
        self.memory = [_heads(kv[:, :, i * C : (i + 1) * C], attn.num_heads) for i in range(2)]
        self.seen = ~padding[:, None, None, :]  # (B, 1, 1, S)
        shape = (B * width, layer.self_attn.num_heads, longest, C // layer.self_attn.num_heads)
        self.keys, self.values = (np.zeros(shape, memory.dtype) for _ in range(2))

    def __call__(self, x: Tensor, at: int) -> Tensor:
        layer = self.layer
        x = self._add(x, layer.norm1, lambda h: self._attend_to_itself(h, at))
        x = self._add(x, layer.norm2, self._attend_to_memory)
        return self._add(x, layer.norm3, lambda h: layer.linear2(layer.activation(layer.linear1(h))))

    def keep(self, rows: np.ndarray, length: int) -> None:
        for kept in (self.keys, self.values):
            kept[:, :, :length] = kept[rows, :, :length]

    def _add(self, x: Tensor, norm: Any, f: Any) -> Tensor:
        return x + f(norm(x)) if self.layer.norm_first else norm(x + f(x))

    def _attend_to_itself(self, x: Tensor, at: int) -> Tensor:
        attn, C = self.layer.self_attn, x.shape[-1]
        qkv = linear(x, attn.in_proj_weight, attn.in_proj_bias)  # (B·W, 1, 3C)
        q, k, v = (_heads(qkv[:, :, i * C : (i + 1) * C], attn.num_heads) for i in range(3))
        self.keys[:, :, at], self.values[:, :, at] = k.data[:, :, 0], v.data[:, :, 0]
        y = scaled_dot_product_attention(q, self.keys[:, :, : at + 1], self.values[:, :, : at + 1])
        return attn.out_proj(y.reshape(*x.shape))

    def _attend_to_memory(self, x: Tensor) -> Tensor:
        """The W hypotheses of a source ask the same keys: they are W queries of one attention."""
        attn = self.layer.multihead_attn
        q = linear(x, *_part(attn, 0, 1)).reshape(-1, self.width, x.shape[-1])  # (B, W, C)
        keys, values = self.memory
        y = scaled_dot_product_attention(_heads(q, attn.num_heads), keys, values, attn_mask=self.seen)
        return attn.out_proj(y.swapaxes(1, 2).reshape(*x.shape))


def _part(attn: MultiheadAttention, first: int, last: int) -> tuple[Tensor, Tensor]:
    """Weight and bias of the projections first … last − 1, of queries, keys and values."""
    rows = slice(first * attn.embed_dim, last * attn.embed_dim)
    assert attn.in_proj_bias is not None  # the model's layers have biases
    return attn.in_proj_weight[rows], attn.in_proj_bias[rows]


def _heads(x: Tensor, num_heads: int) -> Tensor:
    """(B, T, C) → (B, nh, T, hd)"""
    B, T, C = x.shape
    return x.reshape(B, T, num_heads, C // num_heads).swapaxes(1, 2)

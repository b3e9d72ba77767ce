"""Generation token by token: the forward pass of `model.py` on plain arrays, with a KV cache.

Because attention is causal, the keys and values of a position never change when more tokens are read. They are kept,
and a new token costs one row in every matrix product. Keys are stored after their rotation. It depends on the key's own
position, which never changes, and the score

    (R(t) q) · (R(s) k) = q · R(s − t) k

depends on the distance only. The cache has the nkv heads of keys, not the nh heads of queries. The g = nh / nkv query
heads that share keys are g·T rows of one matrix product, so nothing is repeated:

    q (B, nkv, g·T, hd)  ·  keysᵀ (B, nkv, hd, S)  →  scores (B, nkv, g·T, S)

The weights are the model's own arrays, not copies: a token costs one pass over all weights in memory.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from scratch.layers import Dropout, Linear, RMSNorm
from scratch.models.gpt.decoder import unpadded
from scratch.models.llama.model import Block, FeedForward, Llama
from scratch.module import Module, evaluating
from scratch.tensor import Array, Tensor, no_grad


class Decoder:
    """A Llama with a KV cache: reads tokens and returns the logits of the next one.

    Args: model: its weights are used in place; there is no dropout. batch_size: rows B, each one a text of its own
        length. length: of the longest text, context_length by default; the cache is allocated for it at once.
    Attributes: lengths (B,): tokens read so far. blocks: their keys and values (B, nkv, length, hd).
    Raises ValueError for a batch_size or a length below 1, or a length above context_length.
    """

    def __init__(self, model: Llama, batch_size: int = 1, length: int | None = None):
        longest = model.context_length
        self.length = longest if length is None else length
        if batch_size < 1 or not 1 <= self.length <= longest:
            raise ValueError(f"Decoder expected a batch_size of at least 1 and a length from 1 to {longest}, got "
                             f"{batch_size} and {self.length}")  # fmt: skip
        self.lengths = np.zeros(batch_size, np.intp)
        self.token_rows = model.token_embedding.weight.data
        self.blocks = [DecoderBlock(block, batch_size, self.length) for block in model.blocks]
        self.norm = Norm(model.norm)
        self.head = Affine(model.lm_head)
        hd, rope_base = self.blocks[0].keys.shape[3], model.blocks[0].attention.rotary.base
        self.cos, self.sin = rotations(self.length, hd, rope_base, self.token_rows.dtype)

    def reset(self) -> None:
        """Forget what was read; the arrays are kept."""
        self.lengths[:] = 0
        for block in self.blocks:
            block.values[...] = 0  # a weight of 0 hides any number, but not a NaN

    def read(self, tokens: Any, counts: Any = None) -> Array:
        """Read the next tokens of every row, and return the logits of the token after them.

        Rows may continue by different numbers of tokens: row b reads its first counts[b] tokens, the rest is padding.
        A padding position repeats the row's last token, at that token's position, so nothing else is computed or kept.
        Shapes: tokens (B, T), counts (B,) from 1 to T, T by default → logits (B, V).
        Raises ValueError for other shapes, for tokens outside the vocabulary, and for texts longer than `length`.
        """
        tokens, positions, counts = unpadded(tokens, counts, self.lengths, len(self.token_rows))
        T = tokens.shape[1]
        longest = int((self.lengths + counts).max())
        if longest > self.length:
            raise ValueError(f"Decoder: {longest} tokens are more than the length of {self.length}")
        new = NewPositions(positions, self.cos, self.sin)

        x = self.token_rows[tokens.reshape(-1)]  # (B·T, C)
        for block in self.blocks:
            x += block.attend(x, new)
            x += block.feed_forward(x)
        self.lengths += counts
        last = x if T == 1 else x[T - 1 :: T]
        return self.head(self.norm(last))


class NewPositions:
    """Positions of the new tokens (B, T), their rotations, and what they must not attend to; the same in all blocks."""

    def __init__(self, positions: Array, cos: Array, sin: Array):
        self.positions = positions
        self.seen = int(positions.max()) + 1
        aligned = positions.shape[1] == 1 and int(positions.min()) + 1 == self.seen  # no key is later than its query
        self.hidden = None if aligned else np.arange(self.seen) > positions[:, None, None, :, None]
        self.cos, self.sin = cos[positions][:, None], sin[positions][:, None]  # (B, 1, T, hd/2)

    def rotate(self, x: Array) -> Array:
        """Rotary position embedding: features i and i + hd/2 form a pair.  Shapes: (B, heads, T, hd) → the same"""
        half = x.shape[-1] // 2
        a, b = x[..., :half], x[..., half:]
        y = np.empty(x.shape, x.dtype)
        np.multiply(a, self.cos, out=y[..., :half])
        np.multiply(b, self.cos, out=y[..., half:])
        y[..., :half] -= b * self.sin
        y[..., half:] += a * self.sin
        return y


class DecoderBlock:
    """`Block` for new rows x (B·T, C), and the keys and values of all rows so far."""

    def __init__(self, block: Block, batch_size: int, length: int):
        attention = block.attention
        self.num_heads, self.num_kv_heads = attention.num_heads, attention.num_kv_heads
        self.q, self.k, self.v = Affine(attention.q_proj), Affine(attention.k_proj), Affine(attention.v_proj)
        self.out = Affine(attention.out_proj)
        self.norm1, self.norm2 = Norm(block.norm1), Norm(block.norm2)
        self.network = network_of(block.feed_forward)
        shape = (batch_size, self.num_kv_heads, length, attention.q_proj.out_features // self.num_heads)
        self.keys, self.values = (np.zeros(shape, self.q.weight.dtype) for _ in range(2))

    def attend(self, x: Array, new: NewPositions) -> Array:
        """attention(norm1(x)), storing the new keys and values at their positions"""
        (B, T), nkv, hd, seen = new.positions.shape, self.num_kv_heads, self.keys.shape[-1], new.seen
        x = self.norm1(x)
        q, k, v = (proj(x).reshape(B, T, -1, hd).swapaxes(1, 2) for proj in (self.q, self.k, self.v))
        self.store(new, new.rotate(k), v)
        q = new.rotate(q).reshape(B, nkv, -1, hd)  # the g heads that share keys are rows of one product
        q *= 1 / math.sqrt(hd)
        weights = q @ self.keys[:, :, :seen].swapaxes(2, 3)  # (B, nkv, g·T, seen)
        if new.hidden is not None:
            by_head = weights.reshape(B, nkv, -1, T, seen)
            np.copyto(by_head, -np.inf, where=new.hidden)
        weights -= np.maximum.reduce(weights, axis=3, keepdims=True)
        np.exp(weights, out=weights)
        y = weights @ self.values[:, :, :seen]
        y /= np.add.reduce(weights, axis=3, keepdims=True)
        return self.out(y.reshape(B, self.num_heads, T, hd).swapaxes(1, 2).reshape(B * T, -1))

    def store(self, new: NewPositions, k: Array, v: Array) -> None:
        """Write keys and values (B, nkv, T, hd) at the positions of their tokens."""
        if new.hidden is None:
            self.keys[:, :, new.seen - 1], self.values[:, :, new.seen - 1] = k[:, :, 0], v[:, :, 0]
            return
        row = np.arange(len(k))[:, None]
        self.keys[row, :, new.positions] = k.swapaxes(1, 2)
        self.values[row, :, new.positions] = v.swapaxes(1, 2)

    def feed_forward(self, x: Array) -> Array:
        """feed_forward(norm2(x))"""
        return self.network(self.norm2(x))


class Affine:
    """x Wᵀ + b, with the layer's own arrays."""

    def __init__(self, layer: Linear):
        self.weight, self.bias = layer.weight.data, None if layer.bias is None else layer.bias.data

    def __call__(self, x: Array) -> Array:
        y = x @ self.weight.T
        if self.bias is not None:
            y += self.bias
        return y


class Norm:
    """w x / √(mean x² + eps)"""

    def __init__(self, norm: RMSNorm):
        assert norm.weight is not None
        self.weight = norm.weight.data
        self.eps = float(np.finfo(self.weight.dtype).eps if norm.eps is None else norm.eps)

    def __call__(self, x: Array) -> Array:
        rho = np.vecdot(x, x)
        rho /= x.shape[1]
        rho += self.eps
        y = x / np.sqrt(rho, out=rho)[:, None]
        y *= self.weight
        return y


class SwiGLU:
    """(silu(x W_gateᵀ) ∘ x W_upᵀ) W_downᵀ"""

    def __init__(self, network: FeedForward):
        self.gate, self.up = Affine(network.gate_proj), Affine(network.up_proj)
        self.down = Affine(network.down_proj)

    def __call__(self, x: Array) -> Array:
        gate = self.gate(x)
        sigmoid = np.negative(gate)
        with np.errstate(over="ignore"):  # e^x = ∞ gives 0
            np.exp(sigmoid, out=sigmoid)
        sigmoid += 1
        gate /= sigmoid
        gate *= self.up(x)
        return self.down(gate)


class NotRecorded:
    """Any other network, such as a mixture of experts: the module itself, without gradients or dropout."""

    def __init__(self, network: Module):
        self.network = network
        self.has_dropout = any(isinstance(part, Dropout) and part.p for part in network.modules())

    def __call__(self, x: Array) -> Array:
        with evaluating(self.network) if self.has_dropout else no_grad():  # setting modes costs more than an expert
            return self.network(Tensor(x)).data


def network_of(network: Module) -> SwiGLU | NotRecorded:
    return SwiGLU(network) if type(network) is FeedForward else NotRecorded(network)


def rotations(length: int, hd: int, base: float, dtype: np.dtype) -> tuple[Array, Array]:
    """cos and sin of position / base^(2i/hd)  (length, hd/2)"""
    angles = np.arange(length)[:, None] * np.exp(np.arange(0, hd, 2) * (-math.log(base) / hd))
    return np.cos(angles).astype(dtype), np.sin(angles).astype(dtype)

"""Generation token by token: the forward pass of `model.py` on plain arrays, with a KV cache.

Because attention is causal, the keys and values of a position never change when more tokens are read. They are kept,
and a new token costs one row in every matrix product:

    without a cache   T rows for every new token     O(T²) attention scores
    with a cache      1 row                          O(T) attention scores

For a single row the overhead of a NumPy call exceeds the arithmetic. So nothing is recorded, and constants are folded
into the weights when a Decoder is made. Layer norm subtracts the mean of x. If everything that adds to x (embeddings,
out_proj, down_proj) is centred beforehand, the mean of x stays 0, and the norm only divides by the length:

    norm(x) Wᵀ + b = x/ρ W′ᵀ + b′        ρ = √(x·x + C ε),  W′ = √C W · w_norm,  b′ = b + W b_norm

The queries' scale 1/√hd is folded into W_q, and GELU is read from a table. Tests compare everything with `GPT.forward`.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from scratch.activations import gelu
from scratch.layers import LayerNorm, Linear
from scratch.models.gpt.model import GPT, Block
from scratch.tensor import Array, as_tensor, no_grad


class Decoder:
    """A GPT with a KV cache: reads tokens and returns the logits of the next one.

    Args: model: its weights are copied as they are now; there is no dropout. batch_size: rows B, each one a text of
        its own length.
    Attributes: lengths (B,): tokens read so far. blocks: their keys and values (B, nh, context_length, hd), made once.
    """

    def __init__(self, model: GPT, batch_size: int = 1):
        if batch_size < 1:
            raise ValueError(f"Decoder expected a batch_size of at least 1, got {batch_size}")
        self.context_length = model.context_length
        self.lengths = np.zeros(batch_size, np.intp)
        self.token_rows = centred(model.token_embedding.weight.data)
        self.position_rows = centred(model.position_embedding.weight.data)
        self.blocks = [DecoderBlock(block, batch_size, model.context_length) for block in model.blocks]
        self.head = Affine([model.lm_head], model.norm)

    def reset(self) -> None:
        """Forget what was read; the arrays are kept."""
        self.lengths[:] = 0
        for block in self.blocks:
            block.values[...] = 0  # a weight of 0 hides any number, but not a NaN

    def read(self, tokens: Any, counts: Any = None) -> Array:
        """Read the next tokens of every row, and score what comes after them.

        Rows may go on by different numbers of tokens: the first counts[b] of row b count, what is right of them is
        padding and is not read: the last token that counts stands in for it, at its own place and with its own values.
        Shapes: tokens (B, T), counts (B,) from 1 to T, T where it is not given → logits (B, V).
        Raises ValueError for other shapes, for tokens outside the vocabulary, and beyond the context.
        """
        tokens, positions, counts = unpadded(tokens, counts, self.lengths, len(self.token_rows))
        T = tokens.shape[1]
        longest = int((self.lengths + counts).max())
        if longest > self.context_length:
            raise ValueError(f"Decoder: {longest} tokens are more than the context of {self.context_length}")
        seen = int(positions.max()) + 1
        together = T == 1 and int(positions.min()) + 1 == seen  # a token a row, at one place: nothing is later
        hidden = None if together else np.arange(seen) > positions[:, None, :, None]  # (B, 1, T, seen)

        x = self.token_rows[tokens.reshape(-1)] + self.position_rows[positions.reshape(-1)]  # (B·T, C)
        for block in self.blocks:
            x += block.attend(x, positions, seen, hidden)
            x += block.feed_forward(x)
        self.lengths += counts
        return self.head(x if T == 1 else x[T - 1 :: T])


def unpadded(tokens: Any, counts: Any, lengths: Array, vocab_size: int) -> tuple[Array, Array, Array]:
    """The tokens with padding replaced by each row's last token that counts, where all of them stand, and the counts.

    What is computed for padding then equals what is computed for that token, and is kept in the same place, so that no
    other place is written: the cache may be full, and a row that is behind needs no room for the padding.
    Shapes: tokens (B, T), counts (B,) or None for T each, lengths (B,) → (B, T), (B, T), (B,).
    Raises ValueError for other shapes, counts not from 1 to T, and tokens outside the vocabulary that are no padding.
    """
    tokens, B, V = np.asarray(tokens), len(lengths), vocab_size
    if tokens.ndim != 2 or len(tokens) != B or tokens.shape[1] < 1 or tokens.dtype.kind not in "iu":
        raise ValueError(f"Decoder expected whole numbers of shape ({B}, T), T at least 1, got {tokens.dtype} "
                         f"{tokens.shape}")  # fmt: skip
    T = tokens.shape[1]
    padded = counts is not None
    counts = np.asarray(counts) if padded else np.full(B, T)
    if counts.shape != (B,) or counts.dtype.kind not in "iu" or counts.min() < 1 or counts.max() > T:
        raise ValueError(f"Decoder expected counts of shape ({B},) from 1 to {T}, got {counts}")
    counts = counts.astype(np.intp)
    column = np.arange(T)[None]
    if padded:
        column = np.minimum(column, counts[:, None] - 1)
        tokens = np.take_along_axis(tokens, column, axis=1)
    low, high = int(tokens.min()), int(tokens.max())
    if low < 0 or high >= V:
        raise ValueError(f"Decoder expected tokens from 0 to {V - 1}, got {low} to {high}")
    return tokens, lengths[:, None] + column, counts


class DecoderBlock:
    """`Block` for new rows x (B·T, C), and the keys and values of all rows so far."""

    def __init__(self, block: Block, batch_size: int, context_length: int):
        attention, feed_forward = block.attention, block.feed_forward
        C, nh = attention.out_proj.weight.shape[0], attention.num_heads
        hd = C // nh
        self.qkv = Affine([attention.q_proj, attention.k_proj, attention.v_proj], block.norm1)
        self.qkv.weight[:C] /= math.sqrt(hd)
        self.qkv.bias[:C] /= math.sqrt(hd)
        self.out = Affine([attention.out_proj], centre=True)
        self.up, self.down = Affine([feed_forward.up_proj], block.norm2), Affine([feed_forward.down_proj], centre=True)
        self.gelu = feed_forward.gelu
        shape = (batch_size, nh, context_length, hd)
        self.keys, self.values = (np.zeros(shape, self.qkv.weight.dtype) for _ in range(2))

    def attend(self, x: Array, positions: Array, seen: int, hidden: Array | None) -> Array:
        """attention(norm1(x)), storing the new keys and values at `positions` (B, T) among the first `seen`"""
        (B, T), (nh, _, hd) = positions.shape, self.keys.shape[1:]
        qkv = self.qkv(x).reshape(B, T, 3, nh, hd)
        if hidden is None:
            self.keys[:, :, seen - 1], self.values[:, :, seen - 1] = qkv[:, 0, 1], qkv[:, 0, 2]
        else:
            row = np.arange(B)[:, None]
            self.keys[row, :, positions], self.values[row, :, positions] = qkv[:, :, 1], qkv[:, :, 2]
        q = qkv[:, :, 0].swapaxes(1, 2)  # (B, nh, T, hd)
        weights = q @ self.keys[:, :, :seen].swapaxes(2, 3)  # (B, nh, T, seen)
        if hidden is not None:
            np.copyto(weights, -np.inf, where=hidden)
        weights -= np.maximum.reduce(weights, axis=3, keepdims=True)
        np.exp(weights, out=weights)
        y = weights @ self.values[:, :, :seen]
        y /= np.add.reduce(weights, axis=3, keepdims=True)
        return self.out(y.swapaxes(1, 2).reshape(B * T, nh * hd))

    def feed_forward(self, x: Array) -> Array:
        """feed_forward(norm2(x))"""
        return self.down(gelu_from_table(self.up(x), self.gelu.approximate))


class Affine:
    """x W′ᵀ + b′: linear layers with one input as one matrix, the norm before them folded in.

    `centre` subtracts the mean of the output from it: W′ and b′ less their means over the outputs.
    """

    def __init__(self, layers: list[Linear], norm: LayerNorm | None = None, centre: bool = False):
        W = np.concatenate([layer.weight.data for layer in layers])  # (out, in)
        b = np.concatenate([np.zeros(layer.out_features, W.dtype) if layer.bias is None else layer.bias.data
                            for layer in layers])  # fmt: skip
        self.eps: Array | None = None
        if norm is not None:
            b = b if norm.bias is None else b + W @ norm.bias.data
            W = W * (as_tensor(norm.weight).data * math.sqrt(W.shape[1]))
            self.eps = np.array(W.shape[1] * norm.eps, W.dtype)
        self.weight = W - W.mean(axis=0) if centre else W
        self.bias = b - b.mean() if centre else b

    def __call__(self, x: Array) -> Array:
        if self.eps is not None:
            rho = np.vecdot(x, x)
            rho += self.eps
            x = x / np.sqrt(rho, out=rho)[:, None]
        y = x @ self.weight.T
        y += self.bias
        return y


def centred(rows: Array) -> Array:
    """Each row less its mean."""
    return rows - rows.mean(axis=-1, keepdims=True)


@cache
def gelu_table(dtype: np.dtype, approximate: str = "none") -> tuple[Array, Array]:
    """GELU as PIECES straight pieces a + s x from −REACH to REACH: all a, all s.

    A chord is off by at most h²/8 max |gelu″| = (16 / 32768)²/8 · 2 φ(0) = 2.4e-8. Beyond the ends the outermost
    pieces go on, 0 and x to the last digit.
    """
    x = np.linspace(-REACH, REACH, PIECES + 1)
    with no_grad():
        y = gelu(x, approximate).data
    slope = np.diff(y) / np.diff(x)
    slope[0], slope[-1] = 0, 1
    start = y[:-1] - slope * x[:-1]
    start[0] = start[-1] = 0
    return start.astype(dtype), slope.astype(dtype)


REACH, PIECES = 8, 32768


def gelu_from_table(x: Array, approximate: str = "none") -> Array:
    """GELU in seven calls of NumPy; the formula needs some thirty, which a single row feels."""
    start, slope = gelu_table(x.dtype, approximate)
    place = x * (PIECES / (2 * REACH))
    place += PIECES // 2
    piece = place.astype(np.intp)
    y = slope.take(piece, mode="clip")
    y *= x
    y += start.take(piece, mode="clip")
    return y

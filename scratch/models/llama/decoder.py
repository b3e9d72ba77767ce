"""Reading token by token: the forward pass of `model.py` on plain arrays, with a cache of keys and values.

A token's keys and values depend on what stands before it alone, so they are kept, and one more token costs one row in
every matrix product. Keys are kept turned: the turn belongs to the key's own place, which never changes, and the score

    (R(t) q) · (R(s) k) = q · R(s − t) k

depends on the distance only. So a text may be longer than anything a table of positions holds; the GPT must read its
window anew, this one need not. The cache has the nkv heads of keys, not the nh of queries: g = nh / nkv query heads are
g rows of the same product,

    q (B, nkv, g·T, hd)  ·  keysᵀ (B, nkv, hd, S)  →  scores (B, nkv, g·T, S)

and nothing is repeated. The weights are the model's own arrays, not copied: a large model is read once for every token,
and that is what a token costs.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from scratch.layers import RMSNorm
from scratch.models.gpt.decoder import unpadded
from scratch.models.llama.experts import SparseLayer
from scratch.models.llama.model import MLP, Layer, Llama
from scratch.module import Module
from scratch.tensor import Array, Tensor, no_grad


class Decoder:
    """A Llama that reads, keeps what it needs of the past, and scores the next token.

    Args: model: its weights are used in place. batch_size: rows B, each a text of its own, with a length of its own.
        length: the longest text, max_position_embeddings if not given; the cache is made for it at once.
    Attributes: lengths (B,): tokens read so far.
    Raises ValueError for a batch_size or a length below 1, or a length above max_position_embeddings.
    """

    def __init__(self, model: Llama, batch_size: int = 1, length: int | None = None):
        longest = model.max_position_embeddings
        self.length = longest if length is None else length
        if batch_size < 1 or not 1 <= self.length <= longest:
            raise ValueError(f"Decoder expected a batch_size of at least 1 and a length from 1 to {longest}, got "
                             f"{batch_size} and {self.length}")  # fmt: skip
        self.lengths = np.zeros(batch_size, np.intp)
        self.embedding = model.model.embed_tokens.weight.data
        self.layers = [DecoderLayer(layer, batch_size, self.length) for layer in model.model.layers]
        self.norm = Norm(model.model.norm)
        self.head = model.lm_head.weight.data
        first = model.model.layers[0].self_attn
        self.cos, self.sin = turns(self.length, first.q_proj.in_features // first.num_heads, first.rope_theta,
                                   self.embedding.dtype)  # fmt: skip

    def reset(self) -> None:
        """Forget what was read; the arrays are kept."""
        self.lengths[:] = 0
        for layer in self.layers:
            layer.values[...] = 0  # a weight of 0 hides any number, but not a NaN

    def read(self, tokens: Any, counts: Any = None) -> Array:
        """Read the next tokens of every row, and score what comes after them.

        Rows may go on by different numbers of tokens: the first counts[b] of row b count, what is right of them is
        padding and is not read: the last token that counts stands in for it, at its own place and with its own values.
        Shapes: tokens (B, T), counts (B,) from 1 to T, T where it is not given → logits (B, V).
        Raises ValueError for other shapes, for tokens outside the vocabulary, and beyond the length.
        """
        tokens, positions, counts = unpadded(tokens, counts, self.lengths, len(self.embedding))
        T = tokens.shape[1]
        longest = int((self.lengths + counts).max())
        if longest > self.length:
            raise ValueError(f"Decoder: {longest} tokens are more than the length of {self.length}")
        places = Places(positions, self.cos, self.sin)

        x = self.embedding[tokens.reshape(-1)]  # (B·T, C)
        for layer in self.layers:
            x += layer.attend(x, places)
            x += layer.think(x)
        self.lengths += counts
        last = x if T == 1 else x[T - 1 :: T]
        return self.norm(last) @ self.head.T


class Places:
    """Where the new tokens stand (B, T), their turns, and what they must not see; the same for all layers."""

    def __init__(self, positions: Array, cos: Array, sin: Array):
        self.positions = positions
        self.seen = int(positions.max()) + 1
        together = positions.shape[1] == 1 and int(positions.min()) + 1 == self.seen  # nothing is later
        self.hidden = None if together else np.arange(self.seen) > positions[:, None, None, :, None]
        self.cos, self.sin = cos[positions][:, None], sin[positions][:, None]  # (B, 1, T, hd/2)

    def turn(self, x: Array) -> Array:
        """Feature i turned against feature i + hd/2.  Shapes: (B, heads, T, hd) → the same"""
        half = x.shape[-1] // 2
        a, b = x[..., :half], x[..., half:]
        y = np.empty(x.shape, x.dtype)
        np.multiply(a, self.cos, out=y[..., :half])
        np.multiply(b, self.cos, out=y[..., half:])
        y[..., :half] -= b * self.sin
        y[..., half:] += a * self.sin
        return y


class DecoderLayer:
    """The two parts of `Layer` for new rows x (B·T, C), and the keys and values of all rows so far."""

    def __init__(self, layer: Layer, batch_size: int, length: int):
        attention = layer.self_attn
        self.nh, self.nkv = attention.num_heads, attention.num_key_value_heads
        self.q, self.k, self.v, self.o = (
            linear.weight.data for linear in (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj)
        )
        self.before, self.between = Norm(layer.input_layernorm), Norm(layer.post_attention_layernorm)
        self.network = network_of(layer)
        shape = (batch_size, self.nkv, length, len(self.q) // self.nh)
        self.keys, self.values = np.zeros(shape, self.q.dtype), np.zeros(shape, self.q.dtype)

    def attend(self, x: Array, places: Places) -> Array:
        """self_attn(input_layernorm(x)), keeping the new keys and values at their places"""
        (B, T), nkv, hd, seen = places.positions.shape, self.nkv, self.keys.shape[-1], places.seen
        x = self.before(x)
        q, k, v = ((x @ w.T).reshape(B, T, -1, hd).swapaxes(1, 2) for w in (self.q, self.k, self.v))
        self.keep(places, places.turn(k), v)
        q = places.turn(q).reshape(B, nkv, -1, hd)  # the g heads that share keys are rows of one product
        q *= 1 / math.sqrt(hd)
        weights = q @ self.keys[:, :, :seen].swapaxes(2, 3)  # (B, nkv, g·T, seen)
        if places.hidden is not None:
            by_head = weights.reshape(B, nkv, -1, T, seen)
            np.copyto(by_head, -np.inf, where=places.hidden)
        weights -= np.maximum.reduce(weights, axis=3, keepdims=True)
        np.exp(weights, out=weights)
        y = weights @ self.values[:, :, :seen]
        y /= np.add.reduce(weights, axis=3, keepdims=True)
        return y.reshape(B, self.nh, T, hd).swapaxes(1, 2).reshape(B * T, self.nh * hd) @ self.o.T

    def keep(self, places: Places, k: Array, v: Array) -> None:
        """Write keys and values (B, nkv, T, hd) where their tokens stand."""
        if places.hidden is None:
            self.keys[:, :, places.seen - 1], self.values[:, :, places.seen - 1] = k[:, :, 0], v[:, :, 0]
            return
        row = np.arange(len(k))[:, None]
        self.keys[row, :, places.positions] = k.swapaxes(1, 2)
        self.values[row, :, places.positions] = v.swapaxes(1, 2)

    def think(self, x: Array) -> Array:
        """mlp(post_attention_layernorm(x))"""
        return self.network(self.between(x))


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


class Gated:
    """(silu(x W_gateᵀ) ∘ x W_upᵀ) W_downᵀ"""

    def __init__(self, mlp: MLP):
        self.gate, self.up, self.down = (part.weight.data for part in (mlp.gate_proj, mlp.up_proj, mlp.down_proj))

    def __call__(self, x: Array) -> Array:
        gate = x @ self.gate.T
        sigmoid = np.negative(gate)
        with np.errstate(over="ignore"):  # e^x = ∞ gives 0
            np.exp(sigmoid, out=sigmoid)
        sigmoid += 1
        gate /= sigmoid
        gate *= x @ self.up.T
        return gate @ self.down.T


class OffTheTape:
    """A mixture of experts, called as it is: of few tokens, few experts are computed."""

    def __init__(self, network: Module):
        self.network = network

    def __call__(self, x: Array) -> Array:
        with no_grad():
            return self.network(Tensor(x)).data


def network_of(layer: Layer) -> Gated | OffTheTape:
    if isinstance(layer, SparseLayer):
        return OffTheTape(layer.block_sparse_moe)
    return Gated(layer.mlp) if isinstance(layer.mlp, MLP) else OffTheTape(layer.mlp)


def turns(length: int, hd: int, theta: float, dtype: np.dtype) -> tuple[Array, Array]:
    """cos and sin of place / theta^(2i/hd)  (length, hd/2)"""
    angles = np.arange(length)[:, None] * np.exp(np.arange(0, hd, 2) * (-math.log(theta) / hd))
    return np.cos(angles).astype(dtype), np.sin(angles).astype(dtype)

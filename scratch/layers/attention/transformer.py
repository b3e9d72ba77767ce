"""The two layers of "Attention Is All You Need" and their stacks, with PyTorch's arguments and state keys.

    post-norm (the paper)         x = norm(x + f(x))
    pre-norm (norm_first=True)    x = x + f(norm(x))     the sum runs through all layers unnormed  (Xiong et al. 2020)

with f = self-attention, in the decoder then attention to the encoder's output, then the feed-forward network
W₂ dropout(act(W₁ x)). Dropout falls on the output of each f.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from scratch.activations import gelu, relu
from scratch.activations.elementwise import floating
from scratch.layers.attention.multihead import MultiheadAttention
from scratch.layers.dropout import Dropout
from scratch.layers.linear import Linear
from scratch.layers.normalization import LayerNorm
from scratch.module import Module
from scratch.tensor import Tensor

Activation = str | Callable[[Tensor], Tensor]


class _Layer(Module):
    """What both layers share: the feed-forward network, and where the norm stands."""

    self_attn: MultiheadAttention
    linear1: Linear
    linear2: Linear
    dropout: Dropout
    activation: Callable[[Tensor], Tensor]
    norm_first: bool

    def _checked(self, x: Any) -> Tensor:
        x, width = floating(type(self).__name__, x), self.linear1.in_features
        if x.ndim not in (2, 3) or x.shape[-1] != width:
            order = "B, T" if self.self_attn.batch_first else "T, B"
            raise ValueError(f"{type(self).__name__} expected ({order}, {width}) or (T, {width}), got {x.shape}")
        return x

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.linear2(self.dropout(self.activation(self.linear1(x))))

    def _residual(self, x: Tensor, norm: Module, dropout: Module, f: Callable[[Tensor], Tensor]) -> Tensor:
        if self.norm_first:
            return x + dropout(f(norm(x)))
        return norm(x + dropout(f(x)))


class TransformerEncoderLayer(_Layer):
    """Self-attention, then the feed-forward network.

    Shapes, with batch_first: (B, T, d_model) → the same; without it (PyTorch's default) (T, B, d_model).
    Raises ValueError for other shapes, and for an activation that is neither "relu", "gelu" nor a function.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
    ):
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first)
        self.linear1 = Linear(d_model, dim_feedforward, bias)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias)
        self.norm_first = norm_first
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias)
        self.dropout1 = Dropout(dropout)
        self.dropout2 = Dropout(dropout)
        self.activation = _activation(type(self).__name__, activation)

    def forward(
        self, src: Any, src_mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool = False
    ) -> Tensor:
        """Masks as in MultiheadAttention: True where a key is *not* attended."""

        def self_attention(x):
            return self.self_attn(
                x, x, x, src_key_padding_mask, need_weights=False, attn_mask=src_mask, is_causal=is_causal
            )[0]

        x = self._checked(src)
        x = self._residual(x, self.norm1, self.dropout1, self_attention)
        return self._residual(x, self.norm2, self.dropout2, self._feed_forward)


class TransformerDecoderLayer(_Layer):
    """Self-attention, attention to the encoder's output (`memory`), then the feed-forward network.

    Shapes, with batch_first: tgt (B, T, d_model), memory (B, S, d_model) → as tgt; without it the first two axes are
    exchanged. Raises ValueError for other shapes, and for an unknown activation.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
    ):
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first)
        self.multihead_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first)
        self.linear1 = Linear(d_model, dim_feedforward, bias)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias)
        self.norm_first = norm_first
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias)
        self.norm3 = LayerNorm(d_model, layer_norm_eps, bias=bias)
        self.dropout1 = Dropout(dropout)
        self.dropout2 = Dropout(dropout)
        self.dropout3 = Dropout(dropout)
        self.activation = _activation(type(self).__name__, activation)

    def forward(
        self,
        tgt: Any,
        memory: Any,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """Masks as in MultiheadAttention: True where a key is *not* attended."""

        def self_attention(x):
            return self.self_attn(
                x, x, x, tgt_key_padding_mask, need_weights=False, attn_mask=tgt_mask, is_causal=tgt_is_causal
            )[0]

        def cross_attention(x):
            return self.multihead_attn(
                x, memory, memory, memory_key_padding_mask, need_weights=False, attn_mask=memory_mask,
                is_causal=memory_is_causal,
            )[0]  # fmt: skip

        x, memory = self._checked(tgt), self._checked(memory)
        batch = 0 if self.self_attn.batch_first else 1
        if x.ndim != memory.ndim or x.ndim == 3 and x.shape[batch] != memory.shape[batch]:
            raise ValueError(f"TransformerDecoderLayer: batches of tgt {x.shape} and memory {memory.shape} differ")
        x = self._residual(x, self.norm1, self.dropout1, self_attention)
        x = self._residual(x, self.norm2, self.dropout2, cross_attention)
        return self._residual(x, self.norm3, self.dropout3, self._feed_forward)


class TransformerEncoder(Module):
    """Copies of a layer one after the other, each with its own parameters that start alike, then `norm` if given.

    PyTorch's enable_nested_tensor and mask_check choose between equal ways of computing, and do nothing here.
    """

    def __init__(
        self,
        encoder_layer: TransformerEncoderLayer,
        num_layers: int,
        norm: Module | None = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ):
        self.layers = _copies("TransformerEncoder", encoder_layer, num_layers)
        self.norm = norm

    def forward(
        self, src: Any, mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool | None = None
    ) -> Tensor:
        x = src
        for layer in self.layers:
            x = layer(x, mask, src_key_padding_mask, bool(is_causal))
        return x if self.norm is None else self.norm(x)


class TransformerDecoder(Module):
    """Copies of a layer one after the other, each with its own parameters that start alike, then `norm` if given."""

    def __init__(self, decoder_layer: TransformerDecoderLayer, num_layers: int, norm: Module | None = None):
        self.layers = _copies("TransformerDecoder", decoder_layer, num_layers)
        self.norm = norm

    def forward(
        self,
        tgt: Any,
        memory: Any,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        x = tgt
        for layer in self.layers:
            x = layer(
                x, memory, tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask,
                bool(tgt_is_causal), memory_is_causal,
            )  # fmt: skip
        return x if self.norm is None else self.norm(x)


def _copies(who: str, layer: Module, num_layers: int) -> list[Module]:
    if num_layers < 1:
        raise ValueError(f"{who} expected at least one layer, got {num_layers}")
    return [copy.deepcopy(layer) for _ in range(num_layers)]


def _activation(who: str, activation: Activation) -> Callable[[Tensor], Tensor]:
    functions: dict[Any, Callable[[Tensor], Tensor]] = {"relu": relu, "gelu": gelu}
    if callable(activation):
        return activation
    if activation not in functions:
        raise ValueError(f"{who} expected activation 'relu', 'gelu' or a function, got {activation!r}")
    return functions[activation]

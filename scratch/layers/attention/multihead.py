"""Multi-head attention: several attentions side by side, each between its own projections of the same positions."""

from __future__ import annotations

from typing import Any

import numpy as np

from scratch.activations.elementwise import floating
from scratch.initializers import xavier_uniform
from scratch.layers.attention.fused import attention_weights
from scratch.layers.attention.masks import additive, causal_mask
from scratch.layers.attention.packed import packed_attention
from scratch.layers.dropout import check_probability, dropout
from scratch.layers.linear import Linear, linear
from scratch.module import Module
from scratch.tensor import Parameter, Tensor, as_tensor


class MultiheadAttention(Module):
    """Y = Concat(head₁ … head_nh) W_O,  headᵢ = Attention(Q W_Qᵢ, K W_Kᵢ, V W_Vᵢ)  (Vaswani et al. 2017, §3.2.2)

    The matrices of all heads are stacked: in_proj_weight (3C, C) holds W_Q over W_K over W_V, drawn by xavier_uniform
    as one; where kdim or vdim is not C, q_proj_weight (C, C), k_proj_weight (C, kdim) and v_proj_weight (C, vdim) do.
    Biases start at 0. Dropout falls on the weights, while training.

    Shapes, with batch_first: query (B, T, C), key (B, S, kdim), value (B, S, vdim) → (B, T, C) and the weights; without
    it (PyTorch's default) (T, B, C) and so on; without a batch (T, C). Raises ValueError for sizes that do not fit,
    for masks of other shapes, and for add_bias_kv and add_zero_attn, which are not built here.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
    ):
        if embed_dim < 1 or num_heads < 1 or embed_dim % num_heads:
            raise ValueError(
                f"MultiheadAttention expected embed_dim to be a multiple of num_heads, got {embed_dim} and {num_heads}"
            )
        if add_bias_kv or add_zero_attn:
            raise ValueError("MultiheadAttention: add_bias_kv and add_zero_attn are not supported")
        check_probability("MultiheadAttention", dropout)
        self.embed_dim, self.num_heads, self.dropout, self.batch_first = embed_dim, num_heads, dropout, batch_first
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self.same = self.kdim == embed_dim == self.vdim
        if self.same:
            self.in_proj_weight = Parameter(xavier_uniform((3 * embed_dim, embed_dim)))
        else:
            self.q_proj_weight = Parameter(xavier_uniform((embed_dim, embed_dim)))
            self.k_proj_weight = Parameter(xavier_uniform((embed_dim, self.kdim)))
            self.v_proj_weight = Parameter(xavier_uniform((embed_dim, self.vdim)))
        self.in_proj_bias = Parameter(np.zeros(3 * embed_dim, np.float32)) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias)
        if self.out_proj.bias is not None:
            self.out_proj.bias.data[...] = 0

    def forward(
        self,
        query: Any,
        key: Any,
        value: Any,
        key_padding_mask: Any = None,
        need_weights: bool = True,
        attn_mask: Any = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """The output, and the weights (B, T, S), or (B, nh, T, S) unless averaged, or None unless needed (faster).

        A bool mask is True where a key is *not* attended, a float mask is added to the scores: key_padding_mask
        (B, S), attn_mask (T, S) or (B · nh, T, S). is_causal: query t sees the keys 0 … t; an attn_mask beside it
        must say the same.
        """
        query, key, value = self._checked(query, key, value)
        q, *kv = self._project(query, key, value)
        if query.ndim == 3 and not self.batch_first:
            q, *kv = (x.swapaxes(0, 1) for x in (q, *kv))
        elif query.ndim == 2:
            q, *kv = (x.reshape(1, *x.shape) for x in (q, *kv))
        B, T = q.shape[:2]
        mask = self._mask(attn_mask, key_padding_mask, is_causal, (B, self.num_heads, T, (kv or [q])[-1].shape[1]))
        causal = is_causal and mask is None
        p = self.dropout if self.training else 0.0
        if need_weights:
            y, weights = self._attend_showing(q, kv, mask, p, causal)
            weights = weights.mean(axis=1) if average_attn_weights else weights
        else:
            y = packed_attention(q, *kv, num_heads=self.num_heads, attn_mask=mask, dropout_p=p, is_causal=causal)
            weights = None
        if query.ndim == 2:
            y, weights = y.reshape(*y.shape[1:]), weights if weights is None else weights.reshape(*weights.shape[1:])
        elif not self.batch_first:
            y = y.swapaxes(0, 1)
        return self.out_proj(y), weights

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, ...]:
        """qkv in one product where all three are one tensor, q and kv where key and value are, else q, k and v."""
        C, bias = self.embed_dim, self.in_proj_bias

        def part(x: Tensor, weight: Tensor, first: int, last: int) -> Tensor:
            return linear(x, weight, None if bias is None else bias[first * C : last * C])

        if not self.same:
            inputs = (query, self.q_proj_weight), (key, self.k_proj_weight), (value, self.v_proj_weight)
            return tuple(part(x, weight, i, i + 1) for i, (x, weight) in enumerate(inputs))
        W = self.in_proj_weight
        if query is key is value:
            return (linear(query, W, bias),)
        if key is value:
            return part(query, W[:C], 0, 1), part(key, W[C:], 1, 3)
        return tuple(part(x, W[i * C : (i + 1) * C], i, i + 1) for i, x in enumerate((query, key, value)))

    def _attend_showing(self, q: Tensor, kv: list[Tensor], mask: Any, p: float, causal: bool) -> tuple[Tensor, Tensor]:
        """The same in steps, with the weights in between: heads apart, weights, dropout, values, heads merged."""
        C = self.embed_dim
        whole = (q, *kv) if len(kv) == 2 else (
            (q, kv[0][..., :C], kv[0][..., C:]) if kv else tuple(q[..., i * C : (i + 1) * C] for i in range(3))
        )
        q, k, v = (
            x.reshape(*x.shape[:2], self.num_heads, C // self.num_heads).swapaxes(1, 2) for x in whole
        )
        weights = dropout(attention_weights(q, k, mask, causal), p)
        y = (weights @ v).swapaxes(1, 2)
        return y.reshape(*y.shape[:2], C), weights

    def _mask(self, attn_mask: Any, key_padding_mask: Any, is_causal: bool, shape: tuple[int, ...]) -> Tensor | None:
        """Both masks as one, in the meaning of `scaled_dot_product_attention`."""
        B, nh, T, S = shape
        mask: Any = None
        if attn_mask is not None:
            mask = self._one_mask("attn_mask", attn_mask, ((T, S), (B * nh, T, S)))
            if is_causal:
                allowed = mask.data if mask.dtype == bool else mask.data == 0
                if mask.ndim != 2 or not np.array_equal(allowed, causal_mask(T, S)):
                    raise ValueError("MultiheadAttention: is_causal beside an attn_mask that is not the causal mask")
            mask = mask if mask.ndim == 2 else mask.reshape(shape)
        if key_padding_mask is None:
            return mask
        if is_causal and mask is None:
            mask = Tensor(causal_mask(T, S))
        padding = self._one_mask("key_padding_mask", key_padding_mask, ((B, S), (S,) if B == 1 else (B, S)))
        padding = padding.reshape(B, 1, 1, S)
        if mask is None:
            return padding
        if mask.dtype == padding.dtype == bool:
            return Tensor(mask.data & padding.data)
        dtype = self.out_proj.weight.dtype
        both = [x if x.dtype.kind == "f" else Tensor(additive(x.data, dtype)) for x in (mask, padding)]
        return both[0] + both[1]

    def _one_mask(self, name: str, mask: Any, shapes: tuple[tuple[int, ...], ...]) -> Tensor:
        """One mask, a bool one turned round: True where a key is attended."""
        mask = as_tensor(mask)
        if mask.shape not in shapes:
            expected = " or ".join(map(str, dict.fromkeys(shapes)))
            raise ValueError(f"MultiheadAttention expected {name} of shape {expected}, got {mask.shape}")
        if mask.dtype.kind not in "bf":
            raise ValueError(f"MultiheadAttention expected {name} of bool or floating-point numbers, got {mask.dtype}")
        return Tensor(~mask.data) if mask.dtype == bool else mask

    def _checked(self, query: Any, key: Any, value: Any) -> tuple[Tensor, Tensor, Tensor]:
        """The three as Tensors; one object given twice stays one."""
        who = "MultiheadAttention"
        given = query
        query = floating(who, query)
        key, given_key = query if key is given else floating(who, key), key
        value = query if value is given else key if value is given_key else floating(who, value)
        shapes = query.shape, key.shape, value.shape
        order = "(B, T, C)" if self.batch_first else "(T, B, C)"
        if query.ndim not in (2, 3) or not query.ndim == key.ndim == value.ndim:
            raise ValueError(f"{who} expected query, key and value {order} or (T, C), got {shapes}")
        for name, shape, width in zip(
            ("query", "key", "value"), shapes, (self.embed_dim, self.kdim, self.vdim), strict=True
        ):
            if shape[-1] != width:
                raise ValueError(f"{who} expected {name} of shape (..., {width}), got {shape}")
        batch = 0 if self.batch_first else 1
        if key.shape[:-1] != value.shape[:-1]:
            raise ValueError(f"{who}: key and value need one batch and one length, got {shapes}")
        if query.ndim == 3 and query.shape[batch] != key.shape[batch]:
            raise ValueError(f"{who}: batches of query, key and value differ in {order}, got {shapes}")
        return query, key, value

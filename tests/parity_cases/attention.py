"""Attention over masks, lengths, heads and arguments; PyTorch's function, module, layers and stacks."""

import numpy as np

from scratch.layers import (
    MultiheadAttention,
    TransformerDecoder,
    TransformerDecoderLayer,
    TransformerEncoder,
    TransformerEncoderLayer,
    scaled_dot_product_attention,
)
from tests.parity import Case

T, S = 4, 5
VISIBLE = np.array([[1, 0, 1, 1, 0], [1, 1, 1, 1, 1], [0, 0, 0, 1, 0], [0, 1, 0, 0, 1]], bool)  # (T, S)
HIDDEN = ~VISIBLE
CAUSAL = ~np.tri(T, dtype=bool)
PADDED = np.array([[0, 0, 0, 1, 1], [0, 0, 0, 0, 1]], bool)  # (B, S)
PADDED_T = np.array([[0, 0, 0, 1], [0, 0, 0, 0]], bool)  # (B, T)


def values(rng, *shape):
    return rng.standard_normal(shape)


def function(rng, name, q, k, v, mask=None, **options):
    inputs = tuple(values(rng, *shape) for shape in (q, k, v))

    def theirs():
        from torch.nn import functional as F

        return lambda *tensors: F.scaled_dot_product_attention(*tensors, **options)

    inputs = inputs if mask is None else (*inputs, mask)
    return Case(f"attention{name}", inputs, lambda *t: scaled_dot_product_attention(*t, **options), theirs)


def module(ours, arguments, inputs, name="", call=None, training=True, **options):
    """`call` are keyword arguments of forward; of a tuple that comes out, a case compares the first, or its `part`."""
    call = dict(call or {})
    part = call.pop("part", 0)
    shown = [*map(str, arguments), *(f"{key}={value}" for key, value in options.items())]

    def theirs():
        return _torch_module(ours.__name__, arguments, options, call, part)

    title = f"{ours.__name__}({', '.join(shown)}){name}{'' if training else ', evaluation'}"
    return Case(title, inputs, lambda: _ours(ours, arguments, options, call, part), theirs, True, training)


def _ours(kind, arguments, options, call, part):
    class Called(kind):
        def forward(self, *inputs):
            y = super().forward(*_expanded(inputs, self), **call)
            return y[part] if isinstance(y, tuple) else y

    return Called(*_layers(arguments, None), **options)


def _torch_module(name, arguments, options, call, part):
    import torch
    from torch import nn

    def tensor(value):
        return torch.tensor(value) if isinstance(value, np.ndarray) else value

    class Called(getattr(nn, name)):
        def forward(self, *inputs):
            y = super().forward(*_expanded(inputs, self), **{key: tensor(value) for key, value in call.items()})
            return y[part] if isinstance(y, tuple) else y

    return Called(*_layers(arguments, nn), **options)


def _expanded(inputs, module):
    """Self-attention is one tensor three times."""
    return inputs * 3 if len(inputs) == 1 and hasattr(module, "out_proj") else inputs


def _layers(arguments, nn):
    """A layer inside a stack is given as (class, arguments, options)."""
    def made(argument):
        if not isinstance(argument, tuple):
            return argument
        kind, given, options = argument
        return (kind if nn is None else getattr(nn, kind.__name__))(*given, **options)

    return [made(argument) for argument in arguments]


def mha(inputs, name="", call=None, arguments=(6, 2), training=True, **options):
    """Weights are asked for only where a case compares them."""
    call = {"need_weights": "part" in (call or {}), **(call or {})}
    return module(MultiheadAttention, arguments, inputs, name, call, training, batch_first=True, **options)


Q, K, V = (2, 3, T, 6), (2, 3, S, 6), (2, 3, S, 2)
ENCODER, DECODER = TransformerEncoderLayer, TransformerDecoderLayer
SMALL = {"dropout": 0.0, "batch_first": True}


def cases():
    rng = np.random.default_rng(4)
    x, memory = values(rng, 2, T, 6), values(rng, 2, S, 6)
    return [
        function(rng, "", Q, K, V),
        function(rng, " of matrices", (T, 6), (S, 6), (S, 2)),
        function(rng, " without heads", (3, T, 6), (3, S, 6), (3, S, 2)),
        function(rng, ", three batch axes", (2, 1, 3, T, 6), (2, 1, 3, S, 6), (2, 1, 3, S, 2)),
        function(rng, ", one query, one key", (2, 3, 1, 6), (2, 3, 1, 6), (2, 3, 1, 2)),
        function(rng, ", scale", Q, K, V, scale=0.3),
        function(rng, ", causal", Q, (2, 3, T, 6), (2, 3, T, 2), is_causal=True),
        function(rng, ", causal, more keys", Q, K, V, is_causal=True),
        function(rng, ", causal, fewer keys", K, (2, 3, T, 6), (2, 3, T, 2), is_causal=True),
        function(rng, ", bool mask", Q, K, V, VISIBLE),
        function(rng, ", bool mask of each batch", Q, K, V, ~PADDED[:, None, None, :]),
        function(rng, ", bool mask with a row of False", Q, K, V, VISIBLE & np.array([[1], [1], [0], [1]], bool)),
        function(rng, ", float mask", Q, K, V, values(rng, T, S)),
        function(rng, ", float mask of each head", Q, K, V, values(rng, 3, 1, S)),
        function(rng, ", float mask of all", Q, K, V, values(rng, 2, 3, T, S)),
        function(rng, ", large float mask", Q, K, V, 300 * values(rng, 2, 1, T, S)),
        function(rng, ", grouped heads", (2, 6, T, 4), (2, 3, S, 4), (2, 3, S, 2), enable_gqa=True),
        function(rng, ", one key head", (2, 3, T, 4), (2, 1, S, 4), (2, 1, S, 2), enable_gqa=True),
        function(rng, ", grouped, causal", (2, 4, T, 4), (2, 2, S, 4), (2, 2, S, 2), is_causal=True, enable_gqa=True),
        function(
            rng, ", grouped, mask", (2, 4, T, 4), (2, 2, S, 4), (2, 2, S, 2), values(rng, 2, 4, T, S), enable_gqa=True,
        ),
        function(rng, ", everything dropped", Q, K, V, dropout_p=1.0),
        mha((x,)),
        mha((x,), " with weights", {"part": 1}),
        mha((x,), " with every head's weights", {"part": 1, "average_attn_weights": False}),
        mha((x,), " with weights, the output", {"part": 0}),
        mha((x, memory, memory.copy()), " to another sequence"),
        mha((x, memory, memory.copy()), " to another sequence, masked", {"attn_mask": HIDDEN}),
        mha((x, memory, memory.copy()), ", float mask", {"attn_mask": values(rng, T, S)}),
        mha((x, memory, memory.copy()), ", mask of every head", {"attn_mask": values(rng, 4, T, S)}),
        mha((x, memory, memory.copy()), ", padding", {"key_padding_mask": PADDED}),
        mha((x, memory, memory.copy()), ", float padding", {"key_padding_mask": values(rng, 2, S)}),
        mha((x, memory, memory.copy()), ", mask and padding, weights",
            {"attn_mask": HIDDEN & (np.arange(S) != 3), "key_padding_mask": PADDED & (np.arange(S) == 4), "part": 1}),
        mha((x,), ", causal", {"attn_mask": CAUSAL, "is_causal": True}),
        mha((x,), ", causal and padding", {"attn_mask": CAUSAL, "key_padding_mask": PADDED_T, "is_causal": True}),
        mha((x,), bias=False),
        mha((x, values(rng, 2, S, 3), values(rng, 2, S, 4)), kdim=3, vdim=4),
        mha((x, memory, values(rng, 2, S, 4)), vdim=4, bias=False),
        mha((x, memory, memory.copy()), dropout=0.5, training=False),
        mha((x,), ", evaluation without noise, weights", {"part": 1}, dropout=0.5, training=False),
        module(
            MultiheadAttention, (6, 3), (values(rng, T, 2, 6), values(rng, S, 2, 6), values(rng, S, 2, 6)),
            ", time first",
        ),
        module(MultiheadAttention, (6, 3), (values(rng, T, 2, 6),), ", time first, weights", {"part": 1}),
        module(MultiheadAttention, (6, 3), (values(rng, T, 6), values(rng, S, 6), values(rng, S, 6)), ", no batch"),
        module(MultiheadAttention, (6, 3), (values(rng, T, 6),), ", no batch, weights", {"part": 1}),
        module(ENCODER, (6, 2, 4), (x,), **SMALL),
        module(ENCODER, (6, 2, 4), (x,), **SMALL, norm_first=True),
        module(ENCODER, (6, 2, 4), (x,), **SMALL, activation="gelu", layer_norm_eps=0.3),
        module(ENCODER, (6, 2, 4), (x,), **SMALL, bias=False),
        module(ENCODER, (6, 2, 4), (x,), ", masks", {"src_mask": CAUSAL, "src_key_padding_mask": PADDED_T}, **SMALL),
        module(ENCODER, (6, 2, 4), (values(rng, T, 2, 6),), ", time first", dropout=0.0),
        module(ENCODER, (6, 2, 4), (x,), training=False, batch_first=True),
        module(DECODER, (6, 2, 4), (x, memory), **SMALL),
        module(DECODER, (6, 2, 4), (x, memory), **SMALL, norm_first=True),
        module(DECODER, (6, 2, 4), (x, memory), ", masks", {
            "tgt_mask": CAUSAL, "memory_mask": HIDDEN & (np.arange(S) != 2), "tgt_key_padding_mask": PADDED_T,
            "memory_key_padding_mask": PADDED & (np.arange(S) >= 3),
        }, **SMALL),
        module(
            DECODER, (6, 2, 4), (values(rng, T, 2, 6), values(rng, S, 2, 6)), ", time first", dropout=0.0, bias=False,
        ),
        module(TransformerEncoder, ((ENCODER, (6, 2, 4), SMALL), 2), (x,), enable_nested_tensor=False),
        module(TransformerDecoder, ((DECODER, (6, 2, 4), {**SMALL, "bias": False}), 2), (x, memory)),
    ]  # fmt: skip

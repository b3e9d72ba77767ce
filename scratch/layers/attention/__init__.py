"""Attention, the operation and the layers made of it:

    plain.py         the definition as loops, read first
    masks.py         who may look at whom
    fused.py         scaled_dot_product_attention, one operation, with the derivation of its gradients
    heads.py         features split into heads, and merged
    packed.py        the same between projections, without copies
    blocked.py       the same for long contexts, without the T × S matrix
    multihead.py     MultiheadAttention
    transformer.py   the encoder's and the decoder's layer, and their stacks
"""

from scratch.layers.attention.blocked import blocked_attention
from scratch.layers.attention.fused import attention_weights, scaled_dot_product_attention
from scratch.layers.attention.heads import merge_heads, split_heads
from scratch.layers.attention.masks import causal_mask
from scratch.layers.attention.multihead import MultiheadAttention
from scratch.layers.attention.packed import packed_attention
from scratch.layers.attention.transformer import (
    TransformerDecoder,
    TransformerDecoderLayer,
    TransformerEncoder,
    TransformerEncoderLayer,
)

__all__ = [
    "MultiheadAttention",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
    "attention_weights",
    "blocked_attention",
    "causal_mask",
    "merge_heads",
    "packed_attention",
    "scaled_dot_product_attention",
    "split_heads",
]

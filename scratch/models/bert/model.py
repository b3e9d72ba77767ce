"""BERT: the encoder of "Attention Is All You Need" alone, trained to fill gaps (Devlin et al. 2019).

    x = LayerNorm(word[tokens] + position[0 … T−1] + token_type[types])                          (B, T, C)
    x ← LayerNorm(x + attention(x)),   x ← LayerNorm(x + network(x))        for each layer       (B, T, C)
    logits = LayerNorm(gelu(x W + b)) word_embeddingsᵀ + bias                                    (B, T, V)

What is different from the GPT, with where it stands below:

    every token sees all others, before and after it; only padding is hidden      SelfAttention: attn_mask
    so what comes next can't be asked: some tokens are hidden and asked for       masking.py
    the norm stands in the stream, after each sum, as in 2017 (post-norm)         Output
    and after the embeddings, so that none is needed at the end                   Embeddings
    two kinds of text, each with a row that is added                              Embeddings: token_type_embeddings
    the head has a layer of its own before the embedding, transposed              MaskedLMHead
    a first token that stands for the whole text                                  Pooler

Names of arguments and of weights are those of the published files (`BertModel` and `BertForMaskedLM` in `transformers`;
files of 2018 call the norms' weights gamma and beta).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from scratch.activations import gelu, tanh
from scratch.initializers import normal
from scratch.layers import Dropout, Embedding, LayerNorm, Linear, packed_attention
from scratch.module import Module
from scratch.tensor import Parameter, Tensor, as_tensor


class Embeddings(Module):
    """LayerNorm(word + position + token type).  Shapes: tokens and types (B, T), places (T,) or (B, T) → (B, T, C)"""

    def __init__(self, vocab_size: int, C: int, places: int, types: int, eps: float, dropout: float):
        self.word_embeddings = Embedding(vocab_size, C)
        self.position_embeddings = Embedding(places, C)
        self.token_type_embeddings = Embedding(types, C)
        self.LayerNorm = LayerNorm(C, eps)
        self.dropout = Dropout(dropout)

    def forward(self, tokens: Tensor, types: Any, places: Any) -> Tensor:
        x = self.word_embeddings(tokens) + self.position_embeddings(places)
        return self.dropout(self.LayerNorm(x + self.token_type_embeddings(types)))


class SelfAttention(Module):
    """Every token looks at all others, nh heads beside each other.  Shapes: (B, T, C), mask (B, 1, 1, T) → (B, T, C)"""

    def __init__(self, C: int, num_heads: int, dropout: float):
        self.num_heads = num_heads
        self.query, self.key, self.value = Linear(C, C), Linear(C, C), Linear(C, C)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: np.ndarray | None) -> Tensor:
        p = self.dropout.p if self.training else 0.0
        q, k, v = self.query(x), self.key(x), self.value(x)
        return packed_attention(q, k, v, num_heads=self.num_heads, attn_mask=mask, dropout_p=p)


class Output(Module):
    """LayerNorm(x + dense(y)): what a part has found is added, then the sum is normed (post-norm)."""

    def __init__(self, width: int, C: int, eps: float, dropout: float):
        self.dense = Linear(width, C)
        self.LayerNorm = LayerNorm(C, eps)
        self.dropout = Dropout(dropout)

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        return self.LayerNorm(x + self.dropout(self.dense(y)))


class Layer(Module):
    """x ← LayerNorm(x + attention(x)),  x ← LayerNorm(x + W₂ gelu(W₁ x)).  Shapes: (B, T, C) → the same."""

    def __init__(self, C: int, num_heads: int, width: int, eps: float, dropout: float, attention_dropout: float):
        self.attention = {
            "self": SelfAttention(C, num_heads, attention_dropout),
            "output": Output(C, C, eps, dropout),
        }
        self.intermediate = {"dense": Linear(C, width)}
        self.output = Output(width, C, eps, dropout)

    def forward(self, x: Tensor, mask: np.ndarray | None) -> Tensor:
        x = self.attention["output"](self.attention["self"](x, mask), x)
        return self.output(gelu(self.intermediate["dense"](x)), x)


class Bert(Module):
    """An encoder: for every token, features that know the whole text.

    Args: as in BertConfig. vocab_size: tokens. hidden_size: features of a token, C. num_hidden_layers.
        num_attention_heads. intermediate_size: inside the network. max_position_embeddings: the longest text.
        type_vocab_size: kinds of text. layer_norm_eps. hidden_dropout_prob, attention_probs_dropout_prob: shares set to
        zero in training. initializer_range: standard deviation of the matrices at the start. add_pooling_layer: whether
        `pooled` has its weights.
    Shapes: input_ids (B, T), whole numbers, 1 ≤ T ≤ max_position_embeddings; attention_mask (B, T), 1 for tokens and 0
        for padding; token_type_ids (B, T), 0 if not given; position_ids (B, T), 0 … T − 1 if not given → (B, T, C).
    Raises ValueError for other shapes, a T out of that range, and a token outside 0 … vocab_size − 1.
    """

    def __init__(
        self,
        vocab_size: int = 65,
        hidden_size: int = 96,
        num_hidden_layers: int = 4,
        num_attention_heads: int = 4,
        intermediate_size: int = 384,
        max_position_embeddings: int = 64,
        type_vocab_size: int = 2,
        layer_norm_eps: float = 1e-12,
        hidden_dropout_prob: float = 0.0,
        attention_probs_dropout_prob: float = 0.0,
        initializer_range: float = 0.02,
        add_pooling_layer: bool = True,
    ):
        C = hidden_size
        if min(vocab_size, num_hidden_layers, max_position_embeddings, type_vocab_size, intermediate_size) < 1:
            raise ValueError(f"Bert expected sizes of at least 1, got vocab_size {vocab_size}, num_hidden_layers "
                             f"{num_hidden_layers}, max_position_embeddings {max_position_embeddings}, "
                             f"type_vocab_size {type_vocab_size}, intermediate_size {intermediate_size}")  # fmt: skip
        if min(C, num_attention_heads) < 1 or C % num_attention_heads:
            raise ValueError("Bert expected hidden_size to be a multiple of num_attention_heads, got "
                             f"{C} and {num_attention_heads}")  # fmt: skip
        self.max_position_embeddings = max_position_embeddings
        p = hidden_dropout_prob
        self.embeddings = Embeddings(vocab_size, C, max_position_embeddings, type_vocab_size, layer_norm_eps, p)
        self.encoder = {
            "layer": [
                Layer(C, num_attention_heads, intermediate_size, layer_norm_eps, p, attention_probs_dropout_prob)
                for _ in range(num_hidden_layers)
            ]
        }
        self.pooler = {"dense": Linear(C, C)} if add_pooling_layer else {}
        initialise(self, initializer_range)

    def forward(
        self, input_ids: Any, attention_mask: Any = None, token_type_ids: Any = None, position_ids: Any = None
    ) -> Tensor:
        tokens = as_tensor(input_ids)
        if tokens.ndim != 2 or not 1 <= tokens.shape[1] <= self.max_position_embeddings:
            raise ValueError("Bert expected input_ids of shape (B, T) with T from 1 to "
                             f"{self.max_position_embeddings}, got {tokens.shape}")  # fmt: skip
        types = np.zeros(tokens.shape, np.int64) if token_type_ids is None else np.asarray(token_type_ids)
        places = np.arange(tokens.shape[1]) if position_ids is None else np.asarray(position_ids)
        for name, given, ids in (("token_type", True, types), ("position", position_ids is not None, places)):
            if given and ids.shape != tokens.shape:
                raise ValueError(f"Bert expected {name}_ids of shape {tokens.shape}, got {ids.shape}")
        x, mask = self.embeddings(tokens, types, places), keys_that_count(attention_mask, tokens.shape)
        for layer in self.encoder["layer"]:
            x = layer(x, mask)
        return x

    def pooled(self, features: Tensor) -> Tensor:
        """tanh(W x₀ + b) of the first token, which stands for the text.  Shapes: (B, T, C) → (B, C)"""
        if not self.pooler:
            raise ValueError("this Bert was made without a pooling layer (add_pooling_layer=False)")
        return tanh(self.pooler["dense"](features[:, 0]))


class MaskedLMHead(Module):
    """logits = LayerNorm(gelu(x W + b)) Eᵀ + bias, E the word embedding.  Shapes: (..., C) → (..., V)"""

    def __init__(self, vocab_size: int, C: int, eps: float):
        self.transform = {"dense": Linear(C, C), "LayerNorm": LayerNorm(C, eps)}
        self.decoder = Linear(C, vocab_size)
        self.bias: Parameter | None = self.decoder.bias  # the published files list it under both names

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.transform["LayerNorm"](gelu(self.transform["dense"](x))))


class BertForMaskedLM(Module):
    """A Bert that says, for every place, which token stands there, or stood there before it was hidden.

    Args and shapes as `Bert`, which has no pooling layer here; → logits (B, T, vocab_size), or (n, vocab_size) of n
    places only, see forward.
    """

    def __init__(self, *, initializer_range: float = 0.02, **config: Any):
        self.bert = Bert(**{**config, "add_pooling_layer": False})
        V, C = self.bert.embeddings.word_embeddings.weight.shape
        self.cls = {"predictions": MaskedLMHead(V, C, self.bert.embeddings.LayerNorm.eps)}
        self.cls["predictions"].decoder.weight = self.bert.embeddings.word_embeddings.weight
        initialise(self, initializer_range)

    def forward(
        self, input_ids: Any, attention_mask: Any = None, token_type_ids: Any = None, position_ids: Any = None,
        places: Any = None,
    ) -> Tensor:  # fmt: skip
        """places (B, T) bool: score these only, in reading order; a head for many tokens is most of the work."""
        x = self.bert(input_ids, attention_mask, token_type_ids, position_ids)
        return self.cls["predictions"](x if places is None else x[np.asarray(places, bool)])


def initialise(model: Module, std: float) -> None:
    """Matrices from N(0, std²), biases 0, norms 1 and 0, as BERT starts with std 0.02."""
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            parameter.data[...] = normal(parameter.shape, std=std)
        elif name.endswith("bias"):
            parameter.data[...] = 0


def keys_that_count(attention_mask: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    """The mask as attention takes it, True where a key takes part: (B, T) → (B, 1, 1, T); None where all do.

    Raises ValueError for another shape, for other values than 0 and 1, and for a text that is padding alone.
    """
    if attention_mask is None:
        return None
    mask = np.asarray(attention_mask)
    if mask.shape != shape or not np.isin(mask, (0, 1)).all():
        raise ValueError(f"Bert expected attention_mask of shape {shape} with 1 for tokens and 0 for padding, got "
                         f"{mask.shape}")  # fmt: skip
    if not mask.any(axis=1).all():
        raise ValueError("Bert: attention_mask leaves a text without tokens")
    return None if mask.all() else (mask == 1)[:, None, None, :]

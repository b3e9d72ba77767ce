"""The Transformer of "Attention Is All You Need": an encoder, a decoder, and attention between them."""

from scratch.models.transformer.decoding import beam_search, greedy
from scratch.models.transformer.model import Transformer

__all__ = ["Transformer", "beam_search", "greedy"]

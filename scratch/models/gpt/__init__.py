"""GPT: a decoder-only Transformer, trained to predict the next token."""

from scratch.models.gpt.model import GPT

__all__ = ["GPT"]

"""GPT: a Transformer's decoder alone, trained to say what comes next."""

from scratch.models.gpt.model import GPT

__all__ = ["GPT"]

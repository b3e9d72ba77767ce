"""Llama: a GPT with rotary embeddings, RMSNorm, SwiGLU, shared key-value heads and no biases; Mixtral has experts."""

from scratch.models.llama.experts import Mixtral
from scratch.models.llama.model import Llama

__all__ = ["Llama", "Mixtral"]

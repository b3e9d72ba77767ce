"""Llama: the GPT with turned queries and keys, RMS norm, a gated network and shared heads; with experts, Mixtral."""

from scratch.models.llama.experts import Mixtral
from scratch.models.llama.model import Llama

__all__ = ["Llama", "Mixtral"]

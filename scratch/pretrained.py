"""Networks with published weights, whichever architecture they are of: from_pretrained(folder).

    config.json says                                  which is                          made by
    BertModel, BertForMaskedLM, BertForPreTraining    Bert, BertForMaskedLM             models/bert/published.py
    GPT2LMHeadModel                                   GPT                               models/gpt/published.py
    LlamaForCausalLM, or a GGUF file of llama         Llama                             models/llama/published.py
    MixtralForCausalLM                                Mixtral, a Llama with experts     models/llama/published.py
    BartForConditionalGeneration                      Bart, a Transformer               models/transformer/published.py
    ViTModel, Dinov2Model ...                         VisionTransformer, Dinov2         models/vit/published.py
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any

from scratch.module import Module
from scratch.weights.published import Config, told

MODELS = {"bert": "bert", "gpt2": "gpt", "llama": "llama", "mixtral": "llama", "bart": "transformer",
          "vit": "vit", "dinov2": "vit", "vit_mae": "vit"}  # fmt: skip


def from_pretrained(path: str | os.PathLike) -> Any:
    """The network in a folder of published weights, or in a GGUF file, in evaluation mode.

    Raises FileNotFoundError for missing files, ValueError naming the fault for another architecture or variant, and for
    arrays that are missing, left over or shaped otherwise.
    """
    path = Path(path)
    if not path.is_dir():
        return part("llama").from_pretrained(path)
    config = Config.of(path)
    kind = config.text("model_type", "")
    if kind not in MODELS:
        given = told(config.fields.get("model_type"))
        raise ValueError(f"{config.where}: model_type is {given}; {', '.join(MODELS)} are read")
    module = part(MODELS[kind])
    return module.load_pretrained(path) if MODELS[kind] == "vit" else module.from_pretrained(path)


def save_pretrained(model: Module, folder: str | os.PathLike) -> None:
    """Write a network in the layout in which `transformers` reads it. Raises ValueError for one that has none."""
    package = type(model).__module__.split(".")
    name = package[2] if package[:2] == ["scratch", "models"] and len(package) > 2 else ""
    if name not in ("bert", "gpt", "llama", "transformer"):
        raise ValueError(f"{type(model).__name__} has no published layout here; Bert, GPT, Llama and Bart have")
    part(name).save_pretrained(model, folder)


def part(name: str) -> Any:
    return import_module(f"scratch.models.{name}.published")

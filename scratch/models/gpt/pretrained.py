"""GPT-2 as published: GPT2LMHeadModel as `transformers` keeps it, read and written.

Three things differ from the model that is trained here.

    matrices stand as (in, out), y = x W + b (OpenAI's Conv1D)      transposed when they are read and written
    GELU is its approximation by tanh, which TensorFlow had         GPT2MLP
    names may lack transformer. in front                            RULES
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from scratch.activations import gelu
from scratch.layers import LayerNorm
from scratch.messages import shown
from scratch.models.gpt.model import GPT, MLP
from scratch.tensor import Tensor
from scratch.weights import load_folder, save_folder
from scratch.weights.published import Config, build, fill, renamed, tie

RULES = [(r"^(wte|wpe|h|ln_f)\.", r"transformer.\1.")]
UNUSED = r"\.attn\.(bias|masked_bias)$"  # the triangle of what may be seen, which early files carry along
TRANSPOSED = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
EMBEDDING, HEAD = "transformer.wte.weight", "lm_head.weight"
KINDS = ("GPT2LMHeadModel", "gpt2")
TANH = ("gelu_new", "gelu_pytorch_tanh")


class GPT2MLP(MLP):
    """y = W₂ gelu(W₁ x), gelu(x) ≈ x/2 (1 + tanh(√(2/π) (x + 0.044715 x³))), off by at most 5e-4."""

    @staticmethod
    def activation(x: Tensor) -> Tensor:
        return gelu(x, approximate="tanh")


class GPT2(GPT):
    """The GPT with GPT-2's GELU and an eps of its own.  Args: layer_norm_epsilon, and the others: those of GPT."""

    def __init__(self, *, n_embd: int = 128, dropout: float = 0.0, layer_norm_epsilon: float = 1e-5, **sizes: Any):
        super().__init__(n_embd=n_embd, dropout=dropout, **sizes)
        for block in self.transformer["h"]:
            block.mlp = GPT2MLP(n_embd, dropout)
        for module in self.modules():
            if isinstance(module, LayerNorm):
                module.eps = layer_norm_epsilon
        self.initialise()


def from_pretrained(folder: str | os.PathLike) -> GPT2:
    """The GPT-2 of a folder, in evaluation mode.

    Raises FileNotFoundError for missing files, ValueError naming the fault for another architecture or variant, and for
    arrays that are missing, left over or shaped otherwise.
    """
    folder, config = Path(folder), Config.of(Path(folder))
    if config.kind() not in KINDS:
        raise ValueError(f"{folder}: config.json describes {shown(config.kind()) or 'nothing'}; {KINDS[0]} is read")
    state = renamed(load_folder(folder), RULES, UNUSED, folder)
    tie(state, EMBEDDING, [HEAD], str(folder))
    sizes = arguments(config)
    model = build(config, state, lambda: GPT2(**sizes), n_layer=sizes["n_layer"])
    fill(model, {name: transposed(name, array) for name, array in state.items()}, str(folder))
    return model


def arguments(config: Config) -> dict[str, Any]:
    """The constructor's arguments. Raises ValueError for a variant that this model is not."""
    n_embd = config.count("n_embd", 768)
    config.only("GPT2", model_type=("gpt2",), activation_function=TANH, n_inner=(4 * n_embd,),
                scale_attn_weights=(True,), scale_attn_by_inverse_layer_idx=(False,), reorder_and_upcast_attn=(False,),
                add_cross_attention=(False,), tie_word_embeddings=(True,), rotary_dim=())  # fmt: skip
    return {
        "vocab_size": config.count("vocab_size", 50257), "n_layer": config.count("n_layer", 12),
        "block_size": config.count("n_positions", config.count("n_ctx", 1024)),
        "n_head": config.count("n_head", 12), "n_embd": n_embd, "dropout": config.number("resid_pdrop", 0.1),
        "layer_norm_epsilon": config.number("layer_norm_epsilon", 1e-5),
    }  # fmt: skip


def save_pretrained(model: GPT2, folder: str | os.PathLike) -> None:
    """Write config.json and model.safetensors, which `transformers` loads as GPT2LMHeadModel.

    Raises ValueError for a GPT with exact GELU or without biases, for which there is no such layout.
    """
    parts = model.transformer
    if not isinstance(model, GPT2) or parts["ln_f"].bias is None:
        raise ValueError(f"save_pretrained expected a GPT2 with biases, got {type(model).__name__}, whose GELU differs")
    vocab_size, n_embd = parts["wte"].weight.shape
    p = parts["drop"].p
    config = {
        "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": vocab_size, "n_embd": n_embd,
        "n_positions": model.block_size, "n_layer": len(parts["h"]), "n_head": parts["h"][0].attn.n_head,
        "activation_function": "gelu_new", "layer_norm_epsilon": parts["ln_f"].eps, "resid_pdrop": p, "embd_pdrop": p,
        "attn_pdrop": p, "tie_word_embeddings": True,
    }  # fmt: skip
    state = {name: transposed(name, array) for name, array in model.state_dict().items() if name != HEAD}
    save_folder(folder, config, state)


def transposed(name: str, array: np.ndarray) -> np.ndarray:
    return array.T if name.endswith(TRANSPOSED) else array

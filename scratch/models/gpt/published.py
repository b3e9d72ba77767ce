"""GPT-2 as published: GPT2LMHeadModel as `transformers` stores it, read and written.

    name in the file, also without `transformer.`    name here
    transformer.wte, wpe                             token_embedding, position_embedding
    transformer.h.0.ln_1, ln_2                       blocks.0.norm1, norm2
    transformer.h.0.attn.c_attn                      blocks.0.attention.q_proj, k_proj, v_proj: columns side by side
    transformer.h.0.attn.c_proj                      blocks.0.attention.out_proj
    transformer.h.0.mlp.c_fc, c_proj                 blocks.0.feed_forward.up_proj, down_proj
    transformer.ln_f                                 norm

Matrices are stored transposed, (in, out), y = x W + b. GELU is its tanh approximation.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from scratch.activations import GELU
from scratch.messages import shown
from scratch.models.gpt.model import GPT
from scratch.weights import load_folder, save_folder
from scratch.weights.published import Arrays, Config, build, fill, renamed, tie

# (theirs, ours) below transformer.
NAMES = [
    ("wte.", "token_embedding."), ("wpe.", "position_embedding."), ("h.", "blocks."), (".ln_1.", ".norm1."),
    (".ln_2.", ".norm2."), (".attn.c_attn.", ".attention.qkv_proj."), (".attn.c_proj.", ".attention.out_proj."),
    (".mlp.c_fc.", ".feed_forward.up_proj."), (".mlp.c_proj.", ".feed_forward.down_proj."), ("ln_f.", "norm."),
]  # fmt: skip
UNUSED = r"\.attn\.(bias|masked_bias)$"  # the causal mask, which early files contain
EMBEDDING, HEAD = "token_embedding.weight", "lm_head.weight"
KINDS = ("GPT2LMHeadModel", "gpt2")
TANH = ("gelu_new", "gelu_pytorch_tanh")


def from_pretrained(folder: str | os.PathLike) -> GPT:
    """The GPT-2 of a folder, in evaluation mode.

    Raises FileNotFoundError for missing files, ValueError naming the fault for another architecture or variant, and for
    arrays that are missing, left over or shaped otherwise.
    """
    folder, config = Path(folder), Config.of(Path(folder))
    if config.kind() not in KINDS:
        raise ValueError(f"{folder}: config.json describes {shown(config.kind()) or 'nothing'}; {KINDS[0]} is read")
    rules = [(r"^transformer\.", ""), *((_pattern(theirs), ours) for theirs, ours in NAMES)]
    state = renamed(load_folder(folder), rules, UNUSED, folder)
    tie(state, EMBEDDING, [HEAD], str(folder))
    sizes = arguments(config)
    model = build(config, state, lambda: with_tanh_gelu(GPT(**sizes)), n_layer=sizes["num_layers"])
    fill(model, split(state), str(folder))
    return model


def arguments(config: Config) -> dict[str, Any]:
    """The constructor's arguments. Raises ValueError for a variant that this model is not."""
    embed_dim = config.count("n_embd", 768)
    ffn_dim = 4 * embed_dim if config.fields.get("n_inner") is None else config.count("n_inner")
    config.only("GPT2", model_type=("gpt2",), activation_function=TANH, scale_attn_weights=(True,),
                scale_attn_by_inverse_layer_idx=(False,), reorder_and_upcast_attn=(False,), rotary_dim=(),
                add_cross_attention=(False,), tie_word_embeddings=(True,))  # fmt: skip
    return {
        "vocab_size": config.count("vocab_size", 50257), "context_length": config.count("n_positions",
        config.count("n_ctx", 1024)), "embed_dim": embed_dim, "num_layers": config.count("n_layer", 12),
        "num_heads": config.count("n_head", 12), "ffn_dim": ffn_dim,
        "dropout": config.number("resid_pdrop", 0.1), "norm_eps": config.number("layer_norm_epsilon", 1e-5),
    }  # fmt: skip


def save_pretrained(model: GPT, folder: str | os.PathLike) -> None:
    """Write config.json and model.safetensors, which `transformers` loads as GPT2LMHeadModel.

    Raises ValueError for a GPT with exact GELU or without biases, for which there is no such layout.
    """
    if not isinstance(model, GPT) or model.norm.bias is None or model.blocks[0].feed_forward.gelu.approximate != "tanh":
        raise ValueError("save_pretrained expected a GPT with biases and the tanh approximation of GELU "
                         f"(with_tanh_gelu), got {type(model).__name__}")  # fmt: skip
    vocab_size, embed_dim = model.token_embedding.weight.shape
    attention, p = model.blocks[0].attention, model.dropout.p
    ffn_dim = model.blocks[0].feed_forward.up_proj.out_features
    config = {
        "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": vocab_size, "n_embd": embed_dim,
        "n_positions": model.context_length, "n_layer": len(model.blocks), "n_head": attention.num_heads,
        "n_inner": None if ffn_dim == 4 * embed_dim else ffn_dim, "activation_function": "gelu_new",
        "layer_norm_epsilon": model.norm.eps, "resid_pdrop": p, "embd_pdrop": p, "attn_pdrop": p,
        "tie_word_embeddings": True,
    }  # fmt: skip
    state = {name: array for name, array in model.state_dict().items() if name != HEAD}
    back = [*((_pattern(ours), theirs) for theirs, ours in NAMES), (r"^", "transformer.")]
    save_folder(folder, config, renamed(joined(state), back))


def with_tanh_gelu(model: GPT) -> GPT:
    """The model with GELU's tanh approximation, off by at most 5e-4: x/2 (1 + tanh(√(2/π) (x + 0.044715 x³)))"""
    for block in model.blocks:
        block.feed_forward.gelu = GELU(approximate="tanh")
    return model


def split(state: Arrays) -> Arrays:
    """Matrices transposed to (out, in), and c_attn split into the projections of queries, keys and values."""
    found: Arrays = {}
    for name, array in state.items():
        if name.startswith("blocks.") and ".norm" not in name:
            array = array.T
        before, packed, kind = name.partition("qkv_proj.")
        if packed and array.ndim and len(array) % 3 == 0:
            found |= {f"{before}{x}_proj.{kind}": part for x, part in zip("qkv", np.split(array, 3), strict=True)}
        else:
            found[name] = array
    return found


def joined(state: Arrays) -> Arrays:
    """The inverse of `split`."""
    found: Arrays = {}
    for name, array in state.items():
        if ".q_proj." in name:
            parts = [state[name.replace(".q_proj.", f".{x}_proj.")] for x in "qkv"]
            name, array = name.replace(".q_proj.", ".qkv_proj."), np.concatenate(parts)
        elif ".k_proj." in name or ".v_proj." in name:
            continue
        found[name] = array.T if name.startswith("blocks.") and ".norm" not in name else array
    return found


def _pattern(name: str) -> str:
    """A regular expression for a part of a dotted name; one without a dot in front begins the name."""
    escaped = name.replace(".", r"\.")
    return escaped if name.startswith(".") else "^" + escaped

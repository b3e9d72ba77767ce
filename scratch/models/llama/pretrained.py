"""Published Llamas: LlamaForCausalLM and MixtralForCausalLM as `transformers` keeps them, read and written, and
llama.cpp's GGUF of a Llama, read.

Names of arrays are ours. Two things differ in a GGUF: names are short (blk.0.attn_q), and the rows of queries and keys
stand in another order. Both turn features in pairs; `transformers` pairs i with i + hd/2, llama.cpp 2i with 2i + 1, so
that whoever made the file moved row i of each head to 2i, and row i + hd/2 to 2i + 1. Here they are moved back.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from scratch.models.llama.experts import Mixtral
from scratch.models.llama.model import Llama
from scratch.weights import load_folder, open_gguf, save_folder
from scratch.weights.gguf_file import Waiting
from scratch.weights.published import Config, build, fill, renamed, tie

UNUSED = r"\.rotary_emb\.inv_freq$"
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
KINDS = ("LlamaForCausalLM", "MixtralForCausalLM", "llama", "mixtral")

GGUF_NAMES = [
    (r"^token_embd\.", "model.embed_tokens."), (r"^output_norm\.", "model.norm."), (r"^output\.", "lm_head."),
    (r"^blk\.(\d+)\.", r"model.layers.\1."),
    (r"\.attn_norm\.", ".input_layernorm."), (r"\.ffn_norm\.", ".post_attention_layernorm."),
    (r"\.attn_output\.", ".self_attn.o_proj."), (r"\.attn_([qkv])\.", r".self_attn.\1_proj."),
    (r"\.ffn_(gate|up|down)\.", r".mlp.\1_proj."),
]  # fmt: skip


def from_pretrained(path: str | os.PathLike) -> Llama:
    """The Llama of a folder or of a GGUF file, in evaluation mode; a Mixtral where there are experts.

    Raises FileNotFoundError for missing files, ValueError naming the fault for another architecture or variant, and for
    arrays that are missing, left over or shaped otherwise.
    """
    path = Path(path)
    if not path.is_dir():
        return load_llama_gguf(path)
    config = Config.of(path)
    if config.kind() not in KINDS:
        kinds = " and ".join(KINDS[:2])
        raise ValueError(f"{path}: config.json describes {config.kind() or 'nothing'}; {kinds} are read")
    return filled(config, arguments(config), renamed(load_folder(path), [], UNUSED), str(path))


def filled(config: Config, sizes: dict[str, Any], state: dict[str, Any], where: str) -> Llama:
    """A Llama of these sizes with these weights, its head the embedding where it has none of its own."""
    if sizes["tie_word_embeddings"]:
        tie(state, EMBEDDING, [HEAD], where)
    model = build(config, lambda: (Mixtral if "num_local_experts" in sizes else Llama)(**sizes))
    fill(model, state, where)
    return model


def arguments(config: Config) -> dict[str, Any]:
    """The constructor's arguments. Raises ValueError for a variant that this model is not."""
    config.only("Llama", model_type=("llama", "mixtral"), hidden_act=("silu",), attention_bias=(False,),
                mlp_bias=(False,), sliding_window=("null",))  # fmt: skip
    heads = config.count("num_attention_heads", 32)
    hidden_size = config.count("hidden_size", 4096)
    config.only("Llama", head_dim=(hidden_size // heads,))
    experts = {}
    if config.fields.get("model_type") == "mixtral":
        experts = {"num_local_experts": config.count("num_local_experts", 8),
                   "num_experts_per_tok": config.count("num_experts_per_tok", 2)}  # fmt: skip
    return {
        **experts, "vocab_size": config.count("vocab_size", 32000), "hidden_size": hidden_size,
        "intermediate_size": config.count("intermediate_size", 11008),
        "num_hidden_layers": config.count("num_hidden_layers", 32), "num_attention_heads": heads,
        "num_key_value_heads": config.count("num_key_value_heads", 8 if experts else heads),
        "max_position_embeddings": config.count("max_position_embeddings", 2048),
        "rms_norm_eps": config.number("rms_norm_eps", 1e-6), "rope_theta": rope_theta(config, 1e6 if experts else 1e4),
        "tie_word_embeddings": bool(config.fields.get("tie_word_embeddings", False)),
    }  # fmt: skip


def rope_theta(config: Config, default: float) -> float:
    """The base of the turns; where they are stretched for long texts (rope_scaling), ValueError."""
    rope = config.fields.get("rope_parameters") or config.fields.get("rope_scaling") or {}
    if not isinstance(rope, dict):
        raise ValueError(f"{config.where}: expected rope_parameters to be an object, got {str(rope)[:100]}")
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default" or rope.get("partial_rotary_factor", 1) != 1:
        raise ValueError(f"{config.where}: rope_scaling is {str(rope)[:100]}, Llama turns by the place as it is")
    return Config({"rope_theta": rope.get("rope_theta", config.fields.get("rope_theta"))}, config.where).number(
        "rope_theta", default, low=1.0
    )


def save_pretrained(model: Llama, folder: str | os.PathLike) -> None:
    """Write config.json and model.safetensors, which `transformers` loads as LlamaForCausalLM or MixtralForCausalLM."""
    if type(model) not in (Llama, Mixtral):
        raise ValueError(f"save_pretrained expected a Llama, got {type(model).__name__}, for which there is no layout")
    layers = model.model.layers
    attention, norm = layers[0].self_attn, model.model.norm
    vocab_size, hidden_size = model.model.embed_tokens.weight.shape
    tied = model.lm_head.weight is model.model.embed_tokens.weight
    config = {
        **kind_of(model), "vocab_size": vocab_size, "hidden_size": hidden_size,
        "num_hidden_layers": len(layers), "num_attention_heads": attention.num_heads,
        "num_key_value_heads": attention.num_key_value_heads, "hidden_act": "silu", "rms_norm_eps": norm.eps,
        "max_position_embeddings": model.max_position_embeddings, "rope_theta": attention.rope_theta,
        "tie_word_embeddings": tied,
    }  # fmt: skip
    save_folder(folder, config, {name: a for name, a in model.state_dict().items() if not (tied and name == HEAD)})


def kind_of(model: Llama) -> dict[str, Any]:
    """The fields in which a Mixtral differs."""
    layer: Any = model.model.layers[0]
    if isinstance(model, Mixtral):
        return {"model_type": "mixtral", "architectures": ["MixtralForCausalLM"],
                "num_local_experts": model.num_local_experts, "num_experts_per_tok": model.num_experts_per_tok,
                "intermediate_size": layer.block_sparse_moe.experts[0].w1.out_features}  # fmt: skip
    return {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "attention_bias": False, "mlp_bias": False,
            "intermediate_size": layer.mlp.gate_proj.out_features}  # fmt: skip


# -- GGUF -------------------------------------------------------------------------------------------------------


def load_llama_gguf(path: str | os.PathLike) -> Llama:
    """The Llama of a GGUF file, its weights in 32 bits. Raises as from_pretrained does."""
    facts, tensors = open_gguf(path)
    config = gguf_config(facts, str(path))
    state = renamed(tensors, GGUF_NAMES)
    config.fields["tie_word_embeddings"] = HEAD not in state  # type: ignore[index]
    sizes = arguments(config)
    for name in [name for name in state if name.endswith(("q_proj.weight", "k_proj.weight"))]:
        heads = sizes["num_attention_heads" if "q_proj" in name else "num_key_value_heads"]
        state[name] = state[name]._replace(read=partial(halved_later, state[name], heads, path))
    return filled(config, sizes, state, str(path))


def gguf_config(facts: Mapping[str, Any], where: str) -> Config:
    """The facts of a GGUF file under the names of a config.json. Raises ValueError for another architecture."""
    if facts.get("general.architecture") != "llama":
        raise ValueError(f"{where}: it holds {str(facts.get('general.architecture'))[:100]!r}; 'llama' is read")
    scaling = facts.get("llama.rope.scaling.type", "none")
    if scaling != "none" or facts.get("llama.expert_count"):
        raise ValueError(f"{where}: rope_scaling {scaling!r:.50} or experts, which Llama has not")
    names = {
        "hidden_size": "embedding_length", "intermediate_size": "feed_forward_length",
        "num_hidden_layers": "block_count", "num_attention_heads": "attention.head_count",
        "num_key_value_heads": "attention.head_count_kv", "max_position_embeddings": "context_length",
        "rms_norm_eps": "attention.layer_norm_rms_epsilon", "rope_theta": "rope.freq_base",
        "head_dim": "rope.dimension_count", "vocab_size": "vocab_size",
    }  # fmt: skip
    fields = {name: facts.get(f"llama.{theirs}") for name, theirs in names.items()}
    if fields["vocab_size"] is None:
        fields["vocab_size"] = len(facts.get("tokenizer.ggml.tokens") or [])
    return Config(fields, where)


def halved_later(waiting: Waiting, heads: int, where: Any) -> np.ndarray:
    return halved(waiting(), heads, where)


def halved(weight: np.ndarray, heads: int, where: Any) -> np.ndarray:
    """Rows 2i and 2i + 1 of each head back to i and i + hd/2.  Shapes: (nh · hd, C) → the same"""
    rows, width = weight.shape if weight.ndim == 2 else (1, 0)
    if rows % (2 * heads):
        raise ValueError(f"{where}: expected rows for {heads} heads of even size, got an array of {weight.shape}")
    return weight.reshape(heads, rows // heads // 2, 2, width).swapaxes(1, 2).reshape(rows, width)

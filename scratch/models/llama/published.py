"""Published Llamas: LlamaForCausalLM and MixtralForCausalLM as `transformers` keeps them, read and written, and
llama.cpp's GGUF of a Llama, read.

Names of arrays are ours. Two things differ in a GGUF: names are short (blk.0.attn_q), and the rows of queries and keys
stand in another order. Both turn features in pairs; `transformers` pairs i with i + hd/2, llama.cpp 2i with 2i + 1, so
that whoever made the file moved row i of each head to 2i, and row i + hd/2 to 2i + 1. Here they are moved back.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from scratch.messages import shown
from scratch.models.llama.experts import Mixtral
from scratch.models.llama.model import Llama
from scratch.weights import load_folder, open_gguf, save_folder
from scratch.weights.gguf_file import Waiting
from scratch.weights.published import Config, build, fill, renamed, same, tie, told

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
        raise ValueError(f"{path}: config.json describes {shown(config.kind()) or 'nothing'}; {kinds} are read")
    return filled(config, arguments(config), renamed(load_folder(path), [], UNUSED, path), str(path))


def filled(config: Config, sizes: dict[str, Any], state: dict[str, Any], where: str) -> Llama:
    """A Llama of these sizes with these weights, its head the embedding where it has none of its own."""
    if sizes["tie_word_embeddings"]:
        tie(state, EMBEDDING, [HEAD], where)
    parts, experts = {"num_hidden_layers": sizes["num_hidden_layers"]}, sizes.get("num_local_experts")
    if experts:
        parts["num_hidden_layers × num_local_experts"] = parts["num_hidden_layers"] * experts
    model = build(config, state, lambda: (Mixtral if experts else Llama)(**sizes), **parts)
    fill(model, state, where)
    return model


# What LlamaConfig and MixtralConfig of `transformers` take for a field that is left out; None: as many as heads.
DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {
        "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": None, "max_position_embeddings": 2048, "rms_norm_eps": 1e-6,
        "rope_theta": 1e4,
    },
    "mixtral": {
        "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5,
        "rope_theta": 1e6, "num_local_experts": 8, "num_experts_per_tok": 2,
    },
}  # fmt: skip


def arguments(config: Config) -> dict[str, Any]:
    """The constructor's arguments. Raises ValueError for a variant that this model is not."""
    kind = "mixtral" if config.kind().lower().startswith("mixtral") else "llama"
    defaults = DEFAULTS[kind]
    config.only("Llama", model_type=(kind,), hidden_act=("silu",), attention_bias=(False,), mlp_bias=(False,))
    heads = config.count("num_attention_heads", defaults["num_attention_heads"])
    sizes = {name: config.count(name, default or heads) for name, default in defaults.items()
             if not isinstance(default, float)}  # fmt: skip
    config.only("Llama", head_dim=(sizes["hidden_size"] // heads,),
                original_max_position_embeddings=(sizes["max_position_embeddings"],))  # fmt: skip
    full = config.fields.get("layer_types")
    if full is not None and not (isinstance(full, list) and all(each == "full_attention" for each in full)):
        raise config.fault("layer_types", full, "full_attention in every layer")
    return {
        **sizes, "rms_norm_eps": config.number("rms_norm_eps", defaults["rms_norm_eps"]),
        "rope_theta": rope_theta(config, defaults["rope_theta"]),
        "tie_word_embeddings": config.flag("tie_word_embeddings", False),
    }  # fmt: skip


# Of positions that are scaled or otherwise turned, with the values that mean: as they are.
ROPE = ("rope_parameters", "rope_scaling")
UNSCALED: dict[str, tuple[Any, ...]] = {
    "rope_type": ("default",), "type": ("default",), "factor": (1,), "attention_factor": (1,),
    "partial_rotary_factor": (1,),
}  # fmt: skip


def rope_theta(config: Config, default: float) -> float:
    """The base of the rotation; ValueError where the positions are scaled for long texts, however that is spelled.

    A field whose name says that it is about the rotation, and which is not known here, is refused as well.
    """
    theta = config.number("rope_theta", default, low=1.0)
    for name, value in config.fields.items():
        rotates = re.search("rope|rotary|yarn", name) and name not in ("rope_theta", "rope_interleaved", *ROPE)
        if rotates and value is not None and not any(same(value, each) for each in (False, 1, "default", "none")):
            raise ValueError(f"{config.where}: {shown(name)} is {told(value)}, Llama turns by the position as it is")
    for field in reversed(ROPE):  # rope_parameters, which is newer, has the last word
        rope = config.fields.get(field)
        if rope is not None and not isinstance(rope, dict):
            raise config.fault(field, rope, "an object")
        for name, value in (rope or {}).items():
            if name != "rope_theta" and value is not None and not any(same(value, e) for e in UNSCALED.get(name, ())):
                raise ValueError(f"{config.where}: {field} is {told(rope)}, of which Llama has no {shown(name)} "
                                 f"{told(value)}: it turns by the position as it is")  # fmt: skip
        inner = Config({"rope_theta": (rope or {}).get("rope_theta")}, config.where)
        theta = inner.number("rope_theta", theta, low=1.0)
    return theta


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
    state = renamed(tensors, GGUF_NAMES, where=path)
    config.fields["tie_word_embeddings"] = HEAD not in state
    sizes = arguments(config)
    for name in [name for name in state if name.endswith(("q_proj.weight", "k_proj.weight"))]:
        heads = sizes["num_attention_heads" if "q_proj" in name else "num_key_value_heads"]
        state[name] = state[name]._replace(read=partial(halved_later, state[name], heads, path))
    return filled(config, sizes, state, str(path))


# What the facts of a GGUF file are called in a config.json. llama.cpp demands the first row, too.
GGUF_FIELDS = {
    "hidden_size": "embedding_length", "intermediate_size": "feed_forward_length", "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count", "max_position_embeddings": "context_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "num_key_value_heads": "attention.head_count_kv", "rope_theta": "rope.freq_base", "vocab_size": "vocab_size",
}  # fmt: skip
GGUF_NEEDED = list(GGUF_FIELDS)[:6]
HEAD_SIZES = ("rope.dimension_count", "attention.key_length", "attention.value_length")
# Facts that change what is computed, with the values for which they do not; any other fact of llama is refused.
GGUF_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "rope.scaling.type": ("none",), "rope.scaling.factor": (0, 1), "rope.scale_linear": (0, 1),
    "rope.scaling.attn_factor": (0, 1), "rope.scaling.yarn_log_multiplier": (0,),
    "expert_count": (0,), "expert_used_count": (0,), "attention.causal": (True,), "use_parallel_residual": (False,),
    "logit_scale": (0, 1), "embedding_scale": (0, 1), "residual_scale": (0, 1), "attention.scale": (0,),
    "attention.sliding_window": (0,), "attention.clamp_kqv": (0,), "attention.max_alibi_bias": (0,),
    "attn_logit_softcapping": (0,), "final_logit_softcapping": (0,),
}  # fmt: skip
GGUF_IGNORED = ("rope.scaling.original_context_length", "rope.scaling.finetuned", "tensor_data_layout", "pooling_type")


def gguf_config(facts: Mapping[str, Any], where: str) -> Config:
    """The facts of a GGUF file under the names of a config.json. Raises ValueError for another architecture, for facts
    that are missing, and for those that this model does not have."""
    if facts.get("general.architecture") != "llama":
        raise ValueError(f"{where}: it holds {told(facts.get('general.architecture'))}; 'llama' is read")
    mine = {name.removeprefix("llama."): value for name, value in facts.items() if name.startswith("llama.")}
    for name, value in mine.items():
        neutral = any(same(value, each) for each in GGUF_NEUTRAL.get(name, ()))
        if not neutral and name not in (*GGUF_FIELDS.values(), *HEAD_SIZES, *GGUF_IGNORED):
            raise ValueError(f"{where}: llama.{shown(name)} is {told(value)}, which Llama does not have")
    missing = [f"llama.{GGUF_FIELDS[name]}" for name in GGUF_NEEDED if GGUF_FIELDS[name] not in mine]
    if missing:
        raise ValueError(f"{where}: expected the facts {', '.join(missing)}, which are not there")
    fields = {name: mine.get(theirs) for name, theirs in GGUF_FIELDS.items()}
    config = Config(fields, where, {name: f"llama.{theirs}" for name, theirs in GGUF_FIELDS.items()})
    head_dim = config.count("hidden_size") // config.count("num_attention_heads")
    for name in HEAD_SIZES:
        if mine.get(name, head_dim) != head_dim:
            raise ValueError(f"{where}: llama.{name} is {told(mine[name])}, Llama has {head_dim}, that of a head")
    if fields["vocab_size"] is None:
        tokens = facts.get("tokenizer.ggml.tokens")
        fields["vocab_size"] = len(tokens) if isinstance(tokens, list) else None
        config.count("vocab_size")
    return config


def halved_later(waiting: Waiting, heads: int, where: Any) -> np.ndarray:
    return halved(waiting(), heads, where)


def halved(weight: np.ndarray, heads: int, where: Any) -> np.ndarray:
    """Rows 2i and 2i + 1 of each head back to i and i + hd/2.  Shapes: (nh · hd, C) → the same"""
    rows, width = weight.shape if weight.ndim == 2 else (1, 0)
    if rows % (2 * heads):
        raise ValueError(f"{where}: expected rows for {heads} heads of even size, got an array of {weight.shape}")
    return weight.reshape(heads, rows // heads // 2, 2, width).swapaxes(1, 2).reshape(rows, width)

"""Llama and Mixtral as published: LlamaForCausalLM and MixtralForCausalLM as `transformers` stores them, read and
written, and llama.cpp's GGUF file of a Llama, read.

    name in the folder                      in a GGUF file             name here
    model.embed_tokens                      token_embd                 token_embedding
    model.layers.0                          blk.0                      blocks.0
      .input_layernorm                        .attn_norm                 .norm1
      .self_attn.{q,k,v}_proj                 .attn_{q,k,v}              .attention.{q,k,v}_proj
      .self_attn.o_proj                       .attn_output               .attention.out_proj
      .post_attention_layernorm               .ffn_norm                  .norm2
      .mlp.{gate,up,down}_proj                .ffn_{gate,up,down}        .feed_forward.{gate,up,down}_proj
      .block_sparse_moe.gate                                             .feed_forward.router
      .block_sparse_moe.experts.0.{w1,w3,w2}                             .feed_forward.experts.0.{gate,up,down}_proj
    model.norm                              output_norm                norm

The output layer has weights of its own unless tie_word_embeddings is true; then it is given to the model here.
Rotary pairs: `transformers` pairs features i and i + hd/2, llama.cpp 2i and 2i + 1. So a GGUF file has row i of each
head of queries and keys in row 2i, and row i + hd/2 in row 2i + 1. They are moved back when read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from scratch.initializers import normal
from scratch.messages import shown
from scratch.models.llama.experts import Mixtral
from scratch.models.llama.model import Llama
from scratch.tensor import Parameter
from scratch.weights import load_folder, open_gguf, save_folder
from scratch.weights.gguf_file import Waiting
from scratch.weights.published import Config, build, fill, renamed, same, tie, told

# (theirs, ours)
NAMES = [
    ("model.embed_tokens.", "token_embedding."), ("model.norm.", "norm."), ("model.layers.", "blocks."),
    (".input_layernorm.", ".norm1."), (".post_attention_layernorm.", ".norm2."),
    (".self_attn.o_proj.", ".attention.out_proj."), (".self_attn.", ".attention."),
]  # fmt: skip
LLAMA_NAMES = [*NAMES, (".mlp.", ".feed_forward.")]
MIXTRAL_NAMES = [
    *NAMES, (".block_sparse_moe.gate.", ".feed_forward.router."), (".block_sparse_moe.", ".feed_forward."),
    (".w1.", ".gate_proj."), (".w2.", ".down_proj."), (".w3.", ".up_proj."),
]  # fmt: skip
UNUSED = r"\.rotary_emb\.inv_freq$"
EMBEDDING, HEAD = "token_embedding.weight", "lm_head.weight"
KINDS = ("LlamaForCausalLM", "MixtralForCausalLM", "llama", "mixtral")

GGUF_NAMES = [
    (r"^token_embd\.", "token_embedding."), (r"^output_norm\.", "norm."), (r"^output\.", "lm_head."),
    (r"^blk\.(\d+)\.", r"blocks.\1."), (r"\.attn_norm\.", ".norm1."), (r"\.ffn_norm\.", ".norm2."),
    (r"\.attn_output\.", ".attention.out_proj."), (r"\.attn_([qkv])\.", r".attention.\1_proj."),
    (r"\.ffn_(gate|up|down)\.", r".feed_forward.\1_proj."),
]  # fmt: skip


def from_pretrained(path: str | os.PathLike) -> Llama:
    """The Llama of a folder or of a GGUF file, in evaluation mode; a Mixtral if it has experts.

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
    sizes = arguments(config)
    names = MIXTRAL_NAMES if "num_experts" in sizes else LLAMA_NAMES
    state = renamed(load_folder(path), [(pattern(theirs), ours) for theirs, ours in names], UNUSED, path)
    return filled(config, sizes, config.flag("tie_word_embeddings", False), state, str(path))


def filled(config: Config, sizes: dict[str, Any], tied: bool, state: dict[str, Any], where: str) -> Llama:
    """A Llama of these sizes with these weights, its output layer tied to the embedding or not."""
    if tied:
        tie(state, EMBEDDING, [HEAD], where)
    parts, experts = {"num_hidden_layers": sizes["num_layers"]}, sizes.get("num_experts")
    if experts:
        parts["num_hidden_layers × num_local_experts"] = sizes["num_layers"] * experts

    def make() -> Llama:
        model = (Mixtral if experts else Llama)(**sizes)
        return model if tied else with_untied_output(model)

    model = build(config, state, make, **parts)
    fill(model, state, where)
    return model


def with_untied_output(model: Llama) -> Llama:
    """The model with an output layer of its own weights, as in the large Llamas."""
    model.lm_head.weight = Parameter(normal(model.lm_head.weight.shape, std=0.02))
    return model


# The constructor's arguments for which `transformers` has other names.
FIELDS = {
    "context_length": "max_position_embeddings", "embed_dim": "hidden_size", "ffn_dim": "intermediate_size",
    "num_layers": "num_hidden_layers", "num_heads": "num_attention_heads", "num_kv_heads": "num_key_value_heads",
    "num_experts": "num_local_experts", "num_experts_per_token": "num_experts_per_tok",
}  # fmt: skip
# LlamaConfig's and MixtralConfig's values for missing fields; None: as many as num_heads.
DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {
        "vocab_size": 32000, "context_length": 2048, "embed_dim": 4096, "num_layers": 32, "num_heads": 32,
        "num_kv_heads": None, "ffn_dim": 11008, "norm_eps": 1e-6, "rope_base": 1e4,
    },
    "mixtral": {
        "vocab_size": 32000, "context_length": 131072, "embed_dim": 4096, "num_layers": 32, "num_heads": 32,
        "num_kv_heads": 8, "ffn_dim": 14336, "norm_eps": 1e-5, "rope_base": 1e6, "num_experts": 8,
        "num_experts_per_token": 2,
    },
}  # fmt: skip


def arguments(config: Config) -> dict[str, Any]:
    """The constructor's arguments. Raises ValueError for a variant that this model is not."""
    kind = "mixtral" if config.kind().lower().startswith("mixtral") else "llama"
    defaults = DEFAULTS[kind]
    config.only("Llama", model_type=(kind,), hidden_act=("silu",), attention_bias=(False,), mlp_bias=(False,))
    heads = config.count("num_attention_heads", defaults["num_heads"])
    sizes = {name: config.count(FIELDS.get(name, name), default or heads) for name, default in defaults.items()
             if not isinstance(default, float)}  # fmt: skip
    config.only("Llama", head_dim=(sizes["embed_dim"] // heads,),
                original_max_position_embeddings=(sizes["context_length"],))  # fmt: skip
    full = config.fields.get("layer_types")
    if full is not None and not (isinstance(full, list) and all(each == "full_attention" for each in full)):
        raise config.fault("layer_types", full, "full_attention in every layer")
    return {
        **sizes, "norm_eps": config.number("rms_norm_eps", defaults["norm_eps"]),
        "rope_base": rope_base(config, defaults["rope_base"]),
    }  # fmt: skip


# Fields of a rotary embedding with scaled positions, with the values that leave positions unscaled.
ROPE = ("rope_parameters", "rope_scaling")
UNSCALED: dict[str, tuple[Any, ...]] = {
    "rope_type": ("default",), "type": ("default",), "factor": (1,), "attention_factor": (1,),
    "partial_rotary_factor": (1,),
}  # fmt: skip


def rope_base(config: Config, default: float) -> float:
    """The base of the rotary embedding. Raises ValueError if positions are scaled for long texts, however that is
    spelled, and for an unknown field whose name contains rope, rotary or yarn."""
    theta = config.number("rope_theta", default, low=1.0)
    for name, value in config.fields.items():
        rotates = re.search("rope|rotary|yarn", name) and name not in ("rope_theta", "rope_interleaved", *ROPE)
        if rotates and value is not None and not any(same(value, each) for each in (False, 1, "default", "none")):
            raise ValueError(f"{config.where}: {shown(name)} is {told(value)}, Llama rotates by unscaled positions")
    for field in reversed(ROPE):  # rope_parameters, which is newer, wins
        rope = config.fields.get(field)
        if rope is not None and not isinstance(rope, dict):
            raise config.fault(field, rope, "an object")
        for name, value in (rope or {}).items():
            if name != "rope_theta" and value is not None and not any(same(value, e) for e in UNSCALED.get(name, ())):
                raise ValueError(f"{config.where}: {field} is {told(rope)}, of which Llama has no {shown(name)} "
                                 f"{told(value)}: it rotates by unscaled positions")  # fmt: skip
        inner = Config({"rope_theta": (rope or {}).get("rope_theta")}, config.where)
        theta = inner.number("rope_theta", theta, low=1.0)
    return theta


def save_pretrained(model: Llama, folder: str | os.PathLike) -> None:
    """Write config.json and model.safetensors, which `transformers` loads as LlamaForCausalLM or MixtralForCausalLM."""
    if type(model) not in (Llama, Mixtral) or model.blocks[0].attention.q_proj.bias is not None:
        raise ValueError("save_pretrained expected a Llama or Mixtral without biases, for which there is a layout, got "
                         f"{type(model).__name__}")  # fmt: skip
    attention, tied = model.blocks[0].attention, model.lm_head.weight is model.token_embedding.weight
    vocab_size, embed_dim = model.token_embedding.weight.shape
    config = {
        **kind_of(model), "vocab_size": vocab_size, "hidden_size": embed_dim, "num_hidden_layers": len(model.blocks),
        "num_attention_heads": attention.num_heads, "num_key_value_heads": attention.num_kv_heads,
        "hidden_act": "silu", "rms_norm_eps": model.norm.eps, "max_position_embeddings": model.context_length,
        "rope_theta": attention.rotary.base, "tie_word_embeddings": tied,
    }  # fmt: skip
    names = MIXTRAL_NAMES if isinstance(model, Mixtral) else LLAMA_NAMES
    state = {name: array for name, array in model.state_dict().items() if not (tied and name == HEAD)}
    save_folder(folder, config, renamed(state, [(pattern(ours), theirs) for theirs, ours in names]))


def kind_of(model: Llama) -> dict[str, Any]:
    """The fields that a Llama and a Mixtral have apart."""
    feed_forward: Any = model.blocks[0].feed_forward
    if isinstance(model, Mixtral):
        return {"model_type": "mixtral", "architectures": ["MixtralForCausalLM"],
                "num_local_experts": model.num_experts, "num_experts_per_tok": model.num_experts_per_token,
                "intermediate_size": feed_forward.experts[0].gate_proj.out_features}  # fmt: skip
    return {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "attention_bias": False, "mlp_bias": False,
            "intermediate_size": feed_forward.gate_proj.out_features}  # fmt: skip


def pattern(name: str) -> str:
    """A regular expression for a part of a dotted name; one without a dot in front begins the name."""
    escaped = name.replace(".", r"\.")
    return escaped if name.startswith(".") else "^" + escaped


# -- GGUF -------------------------------------------------------------------------------------------------------


def load_llama_gguf(path: str | os.PathLike) -> Llama:
    """The Llama of a GGUF file, with weights in float32. Raises the same errors as from_pretrained."""
    facts, tensors = open_gguf(path)
    config = gguf_config(facts, str(path))
    state = renamed(tensors, GGUF_NAMES, where=path)
    sizes = arguments(config)
    for name in [name for name in state if name.endswith(("q_proj.weight", "k_proj.weight"))]:
        heads = sizes["num_heads" if "q_proj" in name else "num_kv_heads"]
        state[name] = state[name]._replace(read=partial(halved_later, state[name], heads, path))
    return filled(config, sizes, HEAD not in state, state, str(path))


# Fields of config.json and the metadata keys of a GGUF file. llama.cpp requires the first six, too.
GGUF_FIELDS = {
    "hidden_size": "embedding_length", "intermediate_size": "feed_forward_length", "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count", "max_position_embeddings": "context_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "num_key_value_heads": "attention.head_count_kv", "rope_theta": "rope.freq_base", "vocab_size": "vocab_size",
}  # fmt: skip
GGUF_NEEDED = list(GGUF_FIELDS)[:6]
HEAD_SIZES = ("rope.dimension_count", "attention.key_length", "attention.value_length")
# Keys that change the computation, with the values for which they do not; all other keys of llama are refused.
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
    """The metadata of a GGUF file under the names of config.json. Raises ValueError for another architecture, for
    missing keys, and for features that this model does not have."""
    if facts.get("general.architecture") != "llama":
        raise ValueError(f"{where}: its architecture is {told(facts.get('general.architecture'))}; 'llama' is read")
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

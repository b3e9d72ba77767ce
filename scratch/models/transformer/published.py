"""Published BARTs: BartForConditionalGeneration as `transformers` keeps it, read and written.

    names in the file                                        here
    model.shared.weight, and under up to three other names   embedding.weight
    model.encoder.embed_positions.weight                     encoder_side.embed_positions.weight, of max_length + 2 rows
    ...self_attn.q_proj, k_proj, v_proj                      ...self_attn.in_proj_weight: the three on top of each other
    ...encoder_attn                                          ...multihead_attn
    ...fc1, fc2                                              ...linear1, linear2
    ...self_attn_layer_norm, final_layer_norm                ...norm1, norm2 in the encoder
    ...self_attn_, encoder_attn_layer_norm, final_...        ...norm1, norm2, norm3 in the decoder
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from scratch.messages import shown
from scratch.models.transformer.bart import Bart
from scratch.weights import load_folder, save_folder
from scratch.weights.published import Arrays, Config, build, fill, renamed, tie

# (theirs, ours) as patterns of each other; the other way round for saving
LAYER = [
    (r"encoder_attn_layer_norm.", r"norm2."), (r"self_attn_layer_norm.", r"norm1."),
    (r"encoder_attn.", r"multihead_attn."), (r"fc1.", r"linear1."), (r"fc2.", r"linear2."),
]  # fmt: skip
RULES = [
    (r"^model\.(encoder|decoder)\.(embed_positions|layernorm_embedding)\.", r"\1_side.\2."),
    (r"^model\.(encoder|decoder)\.layers\.", r"\1."), (r"^model\.shared\.", "embedding."),
    (r"^(encoder\.\d+)\.final_layer_norm\.", r"\1.norm2."), (r"^(decoder\.\d+)\.final_layer_norm\.", r"\1.norm3."),
    *((rf"^((?:en|de)coder\.\d+)\.{theirs}", rf"\1.{ours}") for theirs, ours in LAYER),
]  # fmt: skip
BACK = [
    (r"^(encoder|decoder)_side\.", r"model.\1."), (r"^embedding\.", "model.shared."),
    (r"^(encoder\.\d+)\.norm2\.", r"\1.final_layer_norm."), (r"^(decoder\.\d+)\.norm3\.", r"\1.final_layer_norm."),
    *((rf"^((?:en|de)coder\.\d+)\.{ours}", rf"\1.{theirs}") for theirs, ours in LAYER),
    (r"^(encoder|decoder)\.(\d)", r"model.\1.layers.\2"),
]  # fmt: skip
SHARED = "model.shared.weight"
ALSO = ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight")
KINDS = ("BartForConditionalGeneration", "bart")
PARTS = ("q_proj", "k_proj", "v_proj")


def from_pretrained(folder: str | os.PathLike) -> Bart:
    """The Bart of a folder, in evaluation mode.

    Raises FileNotFoundError for missing files, ValueError naming the fault for another architecture or variant, and for
    arrays that are missing, left over or shaped otherwise.
    """
    folder, config = Path(folder), Config.of(Path(folder))
    if config.kind() not in KINDS:
        raise ValueError(f"{folder}: config.json describes {shown(config.kind()) or 'nothing'}; {KINDS[0]} is read")
    state = load_folder(folder)
    tie(state, SHARED, [name for name in ALSO if name in state], str(folder))
    for name in ALSO:
        state.pop(name, None)
    state, sizes = joined(renamed(state, RULES, where=folder)), arguments(config)
    layers = {"encoder_layers": sizes["num_encoder_layers"], "decoder_layers": sizes["num_decoder_layers"]}
    model = build(config, state, lambda: Bart(**sizes), **layers)
    state.setdefault("final_logits_bias", model.final_logits_bias.data)
    fill(model, state, str(folder))
    return model


def arguments(config: Config) -> dict[str, Any]:
    """The constructor's arguments. Raises ValueError for a variant that this model is not."""
    config.only("Bart", model_type=("bart",), activation_function=("gelu",), tie_word_embeddings=(True,),
                normalize_before=(False,), normalize_embedding=(True,), add_final_layer_norm=(False,),
                static_position_embeddings=(False,), add_bias_logits=(False,), extra_pos_embeddings=(2,))  # fmt: skip
    sides, vocab_size = ("encoder", "decoder"), config.count("vocab_size", 50265)
    tokens = {"pad": ("pad_token_id", 1), "end": ("eos_token_id", 2), "begin": ("decoder_start_token_id", 2)}
    return {
        "vocab_size": vocab_size, "d_model": config.count("d_model", 1024),
        **{f"{side}_heads": config.count(f"{side}_attention_heads", 16) for side in sides},
        **{f"num_{side}_layers": config.count(f"{side}_layers", 12) for side in sides},
        **{f"{side}_feedforward": config.count(f"{side}_ffn_dim", 4096) for side in sides},
        "dropout": config.number("dropout", 0.1), "max_length": config.count("max_position_embeddings", 1024),
        "scale": config.flag("scale_embedding", False),
        **{name: config.token(field, default, vocab_size) for name, (field, default) in tokens.items()},
    }  # fmt: skip


def save_pretrained(model: Bart, folder: str | os.PathLike) -> None:
    """Write config.json and model.safetensors, which `transformers` loads as BartForConditionalGeneration."""
    if not isinstance(model, Bart):
        raise ValueError(f"save_pretrained expected a Bart, got {type(model).__name__}, for which there is no layout")
    vocab_size, d_model = model.embedding.weight.shape
    encoder, decoder = model.encoder[0], model.decoder[0]
    config = {
        "model_type": "bart", "architectures": ["BartForConditionalGeneration"], "vocab_size": vocab_size,
        "d_model": d_model, "encoder_layers": len(model.encoder), "decoder_layers": len(model.decoder),
        "encoder_attention_heads": encoder.self_attn.num_heads, "decoder_attention_heads": decoder.self_attn.num_heads,
        "encoder_ffn_dim": encoder.linear1.out_features, "decoder_ffn_dim": decoder.linear1.out_features,
        "activation_function": "gelu", "dropout": model.dropout.p, "max_position_embeddings": model.max_length,
        "scale_embedding": model.factor != 1, "pad_token_id": model.pad, "eos_token_id": model.end,
        "decoder_start_token_id": model.begin, "is_encoder_decoder": True, "tie_word_embeddings": True,
    }  # fmt: skip
    save_folder(folder, config, renamed(parted(model.state_dict()), BACK))


def joined(state: Arrays) -> Arrays:
    """Queries', keys' and values' weights on top of each other, as one attention layer has them."""
    for name in [name for name in state if ".q_proj." in name]:
        before, _, kind = name.partition("q_proj.")
        names = [f"{before}{part}.{kind}" for part in PARTS]
        if all(each in state and state[each].shape[:1] and state[each].shape == state[name].shape for each in names):
            state[f"{before}in_proj_{kind}"] = np.concatenate([state.pop(each) for each in names])
    return state


def parted(state: Arrays) -> Arrays:
    """And back: three arrays of each."""
    found: Arrays = {}
    for name, array in state.items():
        before, joint, kind = name.partition("in_proj_")
        if joint:
            thirds = zip(PARTS, np.split(array, 3), strict=True)
            found |= {f"{before}{part}.{kind}": third for part, third in thirds}
        else:
            found[name] = array
    return found

"""Configs of published networks: defaults, fields that change the result, wrong types, sizes that no array has."""

from __future__ import annotations

import json
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scratch.initializers import normal, truncated_normal, undrawn
from scratch.models.bert import published as bert
from scratch.models.gpt import published as gpt
from scratch.models.llama import published as llama
from scratch.models.transformer import published as bart
from scratch.models.vit import VisionTransformer
from scratch.models.vit import published as vit
from scratch.pretrained import from_pretrained
from scratch.weights import load_folder, save_file
from scratch.weights.published import Config, renamed
from tests.test_pretrained import NAMES, arrays_of, as_gguf, folder_of

# -- defaults ---------------------------------------------------------------------------------------------------

# The values of transformers 5.24: BertConfig(), GPT2Config(), ... with no argument, under our arguments' names.
DEFAULTS: list[tuple[Any, str, dict[str, Any]]] = [
    (bert, "bert", {
        "vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
        "intermediate_size": 3072, "max_position_embeddings": 512, "type_vocab_size": 2, "layer_norm_eps": 1e-12,
        "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}),
    (gpt, "gpt2", {
        "vocab_size": 50257, "context_length": 1024, "embed_dim": 768, "num_layers": 12, "num_heads": 12,
        "ffn_dim": 3072, "dropout": 0.1, "norm_eps": 1e-5}),
    (llama, "llama", {
        "vocab_size": 32000, "context_length": 2048, "embed_dim": 4096, "num_layers": 32, "num_heads": 32,
        "num_kv_heads": 32, "ffn_dim": 11008, "norm_eps": 1e-6, "rope_base": 10000.0}),
    (llama, "mixtral", {
        "vocab_size": 32000, "context_length": 131072, "embed_dim": 4096, "num_layers": 32, "num_heads": 32,
        "num_kv_heads": 8, "ffn_dim": 14336, "norm_eps": 1e-5, "rope_base": 1000000.0, "num_experts": 8,
        "num_experts_per_token": 2}),
    (bart, "bart", {
        "vocab_size": 50265, "d_model": 1024, "encoder_heads": 16, "decoder_heads": 16, "num_encoder_layers": 12,
        "num_decoder_layers": 12, "encoder_feedforward": 4096, "decoder_feedforward": 4096, "dropout": 0.1,
        "max_length": 1024, "scale": False, "pad": 1, "begin": 2, "end": 2}),
]  # fmt: skip


@pytest.mark.parametrize(("module", "kind", "expected"), DEFAULTS, ids=[kind for _, kind, _ in DEFAULTS])
def test_a_field_that_is_left_out_has_the_value_of_transformers(module, kind, expected):
    theirs = ("n_positions", "n_ctx", "n_embd", "n_layer", "n_head", "n_inner", "resid_pdrop", "layer_norm_epsilon",
              "encoder_layers", "decoder_ffn_dim", "encoder_attention_heads", "scale_embedding", "pad_token_id",
              "eos_token_id", "decoder_start_token_id", "rope_parameters", "head_dim", "hidden_act", "sliding_window",
              "max_position_embeddings", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
              "num_key_value_heads", "rms_norm_eps", "rope_theta", "num_local_experts", "num_experts_per_tok",
              "tie_word_embeddings")  # fmt: skip
    for absent in ({}, dict.fromkeys((*expected, *theirs))):  # left out, and null
        fields = {"model_type": kind} | absent
        assert module.arguments(Config(fields, "f")) == expected


def test_keys_and_values_have_as_many_heads_as_queries_if_they_have_none():
    sizes = llama.arguments(Config({"model_type": "llama", "num_attention_heads": 8}, "f"))
    assert sizes["num_kv_heads"] == 8
    sizes = llama.arguments(Config({"architectures": ["MixtralForCausalLM"], "num_attention_heads": 16}, "f"))
    assert sizes["num_kv_heads"] == 8 and sizes["num_experts"] == 8


@pytest.mark.parametrize(("kind", "eps"), [("vit", 1e-12), ("vit_mae", 1e-12), ("dinov2", 1e-6)])
def test_heads_and_eps_of_a_vision_transformer(tmp_path, kind, eps):
    model = VisionTransformer(image_size=8, patch_size=4, channels=1, num_classes=0, dim=24, depth=2, heads=12)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind, "image_size": [8, 8]}))
    read = from_pretrained(tmp_path)
    assert read.blocks[1].attn.heads == 12 and {read.norm.eps, read.blocks[0].norm1.eps} == {eps}
    assert vit.load_pretrained(tmp_path, heads=6).blocks[0].attn.heads == 6
    assert vit.load_pretrained(tmp_path / "model.safetensors").blocks[0].attn.heads == 1  # a file alone: 64 features


def test_a_hidden_size_that_a_division_would_round_down():
    dim, hidden = next((d, h) for d in range(2, 99) for h in range(2, 99) if int(d * (h / d)) != h)
    model = VisionTransformer(4, 2, 1, 0, dim=dim, depth=1, heads=1, mlp_ratio=(hidden + 0.5) / dim)
    assert len(vit.load_pretrained(model.state_dict()).blocks[0].mlp.fc1.weight) == hidden


# -- fields that change the result ------------------------------------------------------------------------------

SCALED: list[dict[str, Any]] = [
    {"rope_scaling": {"type": "linear", "factor": 4.0}}, {"rope_scaling": {"factor": 4.0}},
    {"rope_scaling": {"rope_type": "default", "type": "dynamic"}}, {"rope_scaling": {"rope_type": "longrope"}},
    {"rope_parameters": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}},
    {"rope_parameters": {"rope_theta": 1e4}, "rope_scaling": {"rope_type": "yarn", "factor": 2.0}},
    {"rope_parameters": {"beta_fast": 32}}, {"rope_parameters": {"attention_factor": 0.7}},
    {"rope_parameters": {"full_attention": {"rope_theta": 1e4}}}, {"rope_parameters": {"partial_rotary_factor": 0.5}},
    {"rope_scaling": {"mrope_section": [16, 24, 24]}}, {"rope_parameters": {"long_factor": [1.0]}},
    {"rope_type": "yarn"}, {"rope_scaling_factor": 2.0}, {"yarn_factor": 4.0}, {"rotary_pct": 0.25},
    {"original_max_position_embeddings": 7}, {"rope_ratio": 2}, {"rope_interleaved": True}, {"rotary_dim": 2},
    {"rope_scaling": "linear"}, {"rope_parameters": 4.0},
]  # fmt: skip


@pytest.mark.parametrize("fields", SCALED)
def test_scaled_positions_are_refused_by_name(tmp_path, fields):
    folder = folder_of(tmp_path, "llama", **({"rope_parameters": ..., "rope_theta": 500.0} | fields))
    with pytest.raises(ValueError, match=rf"config\.json: .*{list(fields)[-1]}"):
        from_pretrained(folder)


@pytest.mark.parametrize("fields", [
    {"rope_scaling": {}}, {"rope_scaling": None}, {"rope_scaling": {"type": "default"}}, {"rope_interleaved": False},
    {"rope_scaling": {"rope_type": "default", "factor": 1.0, "partial_rotary_factor": 1.0, "rope_theta": 500}},
    {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0, "factor": None}, "rope_theta": 7.0},
    {"original_max_position_embeddings": 11}, {"layer_types": ["full_attention", "full_attention"]},
    {"sliding_window": 0, "use_sliding_window": False, "logits_scaling": 1.0, "pruned_heads": {}, "is_causal": True},
])  # fmt: skip
def test_positions_as_they_are_in_any_spelling(tmp_path, fields):
    model = from_pretrained(folder_of(tmp_path, "llama", **({"rope_parameters": ..., "rope_theta": 500.0} | fields)))
    assert model.blocks[0].attention.rotary.base == 500


OTHERS: list[tuple[str, str, Any]] = [
    *((name, "quantization_config", {"quant_method": "gptq"}) for name in NAMES),
    *((name, "pruned_heads", {"0": [1]}) for name in NAMES),
    *((name, field, value) for name in ("gpt2", "llama", "mixtral") for field, value in (
        ("attn_logit_softcapping", 50.0), ("final_logit_softcapping", 30.0), ("qk_norm", True), ("sliding_window", 4),
        ("use_qk_norm", True), ("clip_qkv", 8.0), ("logit_scale", 0.06), ("logits_scaling", 8.0), ("alibi", True),
        ("attention_multiplier", 0.1), ("residual_multiplier", 0.2), ("embedding_multiplier", 12), ("is_causal", False),
        ("query_pre_attn_scalar", 224), ("partial_rotary_factor", 0.5), ("attention_chunk_size", 8192))),
    ("llama", "layer_types", ["sliding_attention", "full_attention"]), ("llama", "head_dim", 3),
    ("gpt2", "rotary_dim", 4), ("gpt2", "n_ctx", "x"), ("gpt2", "scale_attn_by_inverse_layer_idx", 1),
    ("mixtral", "model_type", "llama"), ("llama", "architectures", ["MixtralForCausalLM"]),
    ("bert", "is_decoder", 1), ("bart", "normalize_embedding", False), ("bart", "extra_pos_embeddings", 0),
]  # fmt: skip


@pytest.mark.parametrize(("name", "field", "value"), OTHERS)
def test_what_other_networks_have_is_refused_by_name(tmp_path, name, field, value):
    changes = {field: value} | ({"n_positions": ...} if field == "n_ctx" else {})
    with pytest.raises(ValueError, match=r"config\.json: .*" + ("model_type" if field == "architectures" else field)):
        from_pretrained(folder_of(tmp_path, name, **changes))


@pytest.mark.parametrize(("field", "value"), [
    ("hidden_size", 12), ("num_hidden_layers", 1), ("patch_size", 2), ("patch_size", [4, 2]), ("num_channels", 3),
    ("intermediate_size", 47), ("qkv_bias", False), ("image_size", 12), ("image_size", "8"), ("image_size", [8, 8, 8]),
    ("image_size", True), ("num_attention_heads", 5), ("num_attention_heads", 0), ("num_attention_heads", "12"),
    ("layer_norm_eps", "small"), ("layer_norm_eps", None),
])  # fmt: skip
def test_a_vision_transformers_config_agrees_with_its_arrays(tmp_path, field, value):
    model = VisionTransformer(8, 4, channels=1, num_classes=0, dim=24, depth=2, heads=4, mlp_ratio=2)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    fields = {"model_type": "vit", "hidden_size": 24, "num_hidden_layers": 2, "patch_size": [4, 4], "num_channels": 1,
              "intermediate_size": 48, "qkv_bias": True, "image_size": 8, "num_attention_heads": 4}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(fields))
    assert from_pretrained(tmp_path).blocks[0].attn.heads == 4
    (tmp_path / "config.json").write_text(json.dumps(fields | {field: value}))
    if value is None:
        assert from_pretrained(tmp_path).norm.eps == 1e-12
        return
    with pytest.raises(ValueError) as caught:
        from_pretrained(tmp_path)
    told = {"num_attention_heads": "heads"}.get(field, "pos_embed" if value == 12 and "image" in field else field)
    assert told in str(caught.value) and str(tmp_path) in str(caught.value)


GGUF_FACTS: list[tuple[str, Any]] = [
    ("llama.rope.scale_linear", 4.0), ("llama.rope.scaling.type", "linear"), ("llama.rope.scaling.factor", 2.0),
    ("llama.rope.scaling.attn_factor", 0.5), ("llama.rope.scaling.yarn_log_multiplier", 0.1),
    ("llama.rope.scaling.yarn_beta_fast", 32.0), ("llama.expert_count", 8), ("llama.attention.causal", False),
    ("llama.attention.key_length", 8), ("llama.attention.value_length", 2), ("llama.attention.scale", 0.5),
    ("llama.attention.sliding_window", 4), ("llama.attn_logit_softcapping", 50.0), ("llama.logit_scale", 0.5),
    ("llama.attention.head_count_kv", [2, 2]), ("llama.feed_forward_length", [20, 20]), ("llama.something.new", 1),
    ("llama.block_count", True), ("llama.rope.freq_base", 0.5), ("llama.context_length", "11"),
    ("llama.block_count", None), ("llama.attention.layer_norm_rms_epsilon", None), ("llama.context_length", None),
]  # fmt: skip


@pytest.mark.parametrize(("fact", "value"), GGUF_FACTS)
def test_facts_of_a_gguf_are_used_or_refused_by_name(tmp_path, fact, value):
    with pytest.raises(ValueError, match=r"a\.gguf: .*" + fact):
        from_pretrained(as_gguf(tmp_path / "a.gguf", **{fact: value}))


def test_facts_of_a_gguf_that_change_nothing(tmp_path):
    same = {"llama.rope.scaling.type": "none", "llama.rope.scaling.factor": 1.0, "llama.rope.scale_linear": 1.0,
            "llama.expert_count": 0, "llama.attention.key_length": 4, "llama.attention.causal": True,
            "llama.rope.scaling.original_context_length": 11}  # fmt: skip
    model = from_pretrained(as_gguf(tmp_path / "a.gguf", **same))
    assert model.blocks[0].attention.rotary.base == 500
    model = from_pretrained(as_gguf(tmp_path / "b.gguf", **{"llama.rope.freq_base": None}))
    assert model.blocks[0].attention.rotary.base == 10000


# -- types ------------------------------------------------------------------------------------------------------

COUNTS = {"bert": ("vocab_size", "num_hidden_layers", "type_vocab_size"), "gpt2": ("n_embd", "n_positions"),
          "llama": ("hidden_size", "num_key_value_heads"), "mixtral": ("num_local_experts", "num_experts_per_tok"),
          "bart": ("d_model", "encoder_layers", "pad_token_id", "decoder_start_token_id")}  # fmt: skip
NUMBERS = {"bert": ("layer_norm_eps", "hidden_dropout_prob"), "gpt2": ("layer_norm_epsilon", "resid_pdrop"),
           "llama": ("rms_norm_eps",), "bart": ("dropout",)}  # fmt: skip
NO_COUNTS = ["true", "false", "1.0", "1.5", "-1", '"3"', "[3]", "{}", "NaN", "1e400", "-Infinity", "1" + "0" * 400]
NO_NUMBERS = ["true", "-1", '"0.1"', "[0.1]", "NaN", "Infinity", "1e400", "1" + "0" * 400,
              '"\\u001b[31m' + "x" * 999 + '"']  # fmt: skip


@pytest.mark.parametrize(("names", "values"), [(COUNTS, NO_COUNTS), (NUMBERS, NO_NUMBERS)])
def test_fields_of_another_type_name_file_and_field(tmp_path, names, values):
    for name, fields in names.items():
        text = (folder_of(tmp_path, name) / "config.json").read_text()
        for field in fields:
            for value in values:
                raw = json.dumps(json.loads(text) | {field: "HERE"}).replace('"HERE"', value)
                (tmp_path / "config.json").write_text(raw)
                with pytest.raises(ValueError, match=rf"config\.json: expected {field} to be ") as caught:
                    from_pretrained(tmp_path)
                assert len(str(caught.value)) < len(str(tmp_path)) + 200 and "\x1b" not in str(caught.value)


@pytest.mark.parametrize("value", [["bert"], {"a": 1}, 7, True, 1.5])
def test_names_and_flags_of_another_type(tmp_path, value):
    for name, field in (("bert", "model_type"), ("bert", "architectures"), ("bart", "scale_embedding"),
                        ("llama", "tie_word_embeddings")):  # fmt: skip
        if (field, value) in (("architectures", ["bert"]), ("scale_embedding", True), ("tie_word_embeddings", True)):
            continue
        with pytest.raises(ValueError, match=rf"config\.json: expected {field} to be "):
            from_pretrained(folder_of(tmp_path, name, **{field: value}))
    for field in ("hidden_act", "position_embedding_type", "is_decoder", "tie_word_embeddings"):
        if (field, value) != ("tie_word_embeddings", True):
            with pytest.raises(ValueError, match=rf"config\.json: {field} is "):
                from_pretrained(folder_of(tmp_path, "bert", **{field: value}))


# -- sizes ------------------------------------------------------------------------------------------------------

MANY = 10**8
HUGE: list[tuple[str, dict[str, Any]]] = [
    ("gpt2", {"n_layer": MANY}), ("gpt2", {"vocab_size": MANY, "n_embd": MANY, "n_inner": None}),
    ("gpt2", {"n_positions": MANY, "n_embd": 4000, "n_inner": None}),
    ("bert", {"num_hidden_layers": MANY}),
    ("bert", {"vocab_size": MANY, "hidden_size": MANY, "num_attention_heads": 1}),
    ("bert", {"intermediate_size": MANY}), ("bert", {"type_vocab_size": MANY}), ("bert_mlm", {"vocab_size": MANY}),
    ("llama", {"num_hidden_layers": MANY}), ("llama", {"intermediate_size": MANY}),
    ("llama", {"hidden_size": MANY, "num_attention_heads": 2, "head_dim": None}),
    ("mixtral", {"num_local_experts": MANY}), ("mixtral", {"num_local_experts": 5000, "num_hidden_layers": 5000}),
    ("bart", {"encoder_layers": MANY}), ("bart", {"decoder_layers": MANY}), ("bart", {"encoder_ffn_dim": MANY}),
    ("bart", {"max_position_embeddings": MANY}), ("bart", {"vocab_size": MANY}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "fields"), HUGE)
def test_a_network_that_the_arrays_cannot_fill_is_not_built(tmp_path, name, fields):
    """At once, and in little memory, where the largest would take 10¹⁶ numbers."""
    folder, start = folder_of(tmp_path, name, **fields), time.monotonic()
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"config\.json: .*(arrays|larger than its weights)") as caught:
            from_pretrained(folder)
        assert "layer" not in list(fields)[0] or f"{list(fields)[0]} is {MANY}" in str(caught.value)
        assert tracemalloc.get_traced_memory()[1] < 64e6 and time.monotonic() - start < 5
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("fact", ["block_count", "embedding_length", "feed_forward_length", "vocab_size"])
def test_a_gguf_that_its_arrays_cannot_fill(tmp_path, fact):
    more = {"llama.rope.dimension_count": None, "llama.attention.head_count": 2}
    with pytest.raises(ValueError, match=r"a\.gguf: .*(arrays|larger than its weights|rows for 2 heads)"):
        from_pretrained(as_gguf(tmp_path / "a.gguf", **more, **{f"llama.{fact}": MANY}))


def test_initializers_stop_at_so_many_numbers():
    for draw in (normal, truncated_normal):
        with undrawn(10):
            assert draw((2, 3)).tolist() == [[0, 0, 0], [0, 0, 0]]
            with pytest.raises(ValueError, match=r"\(1, 5\) .* at most 10 numbers"):
                draw((1, 5))
        assert np.abs(draw((2, 3))).min() > 0


ODD = [(), (0,), (0, 4), (1,), (2, 3, 4), (4, 0)]


@pytest.mark.parametrize("name", NAMES)
def test_arrays_of_odd_shapes(tmp_path, name, rng):
    """Each array in turn without axes, empty, of one number: an error that names it or its place, never a crash."""
    arrays = arrays_of(name)
    for key in rng.permutation(sorted(arrays))[:12]:
        for shape in ODD:
            if shape == arrays[key].shape:
                continue
            folder = folder_of(tmp_path, name, arrays | {str(key): np.zeros(shape, np.float32)})
            with pytest.raises(ValueError, match="weights of|differ|larger than") as caught:
                from_pretrained(folder)
            assert str(tmp_path) in str(caught.value)


def test_names_of_layers_that_are_not_there(tmp_path):
    for name, key in (("gpt2", "transformer.h.99999999.x"), ("llama", "model.layers.99999999.x"),
                      ("bert", "encoder.layer." + "9" * 5000 + ".x")):  # fmt: skip
        with pytest.raises(ValueError, match="left over: ") as caught:
            from_pretrained(folder_of(tmp_path, name, arrays_of(name) | {key: np.zeros(1, np.float32)}))
        assert len(str(caught.value)) < 1000
    state = VisionTransformer(8, 4, 1, 0, dim=8, depth=1, heads=1).state_dict()
    for number in ("99999999", "9" * 5000, "2"):
        with pytest.raises(ValueError, match="found no block 1, but a block [29]") as caught:
            vit.load_pretrained(dict(state) | {f"blocks.{number}.x": np.zeros(1)})
        assert len(str(caught.value)) < 300


def test_two_arrays_of_one_name(tmp_path):
    with pytest.raises(ValueError, match=r"f: two of its arrays are both a\.b here"):
        renamed({"a.b": 1, "x.b": 2}, [("^x", "a")], where="f")
    arrays = arrays_of("bert_mlm") | {"embeddings.LayerNorm.bias": np.zeros(12, np.float32)}
    with pytest.raises(ValueError, match=r"both embeddings\.LayerNorm\.bias here"):
        bert.load_bert(folder_of(tmp_path, "bert_mlm", arrays))


def shards_of(folder: Path, count: int) -> None:
    names = {f"array {i}": f"{i}.safetensors" for i in range(count)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


def test_an_index_of_many_shards_is_compared_before_any_is_read(tmp_path):
    shards_of(tmp_path, 5000)
    (tmp_path / "0.safetensors").write_bytes(b"no weights")  # would be named, if it were read first
    with pytest.raises(ValueError, match=r"names the shard 1\.safetensors, which is not there"):
        load_folder(tmp_path)

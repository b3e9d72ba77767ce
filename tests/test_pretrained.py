"""Published layouts: small random networks of `transformers`, number for number; what is refused; the way back."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scratch import no_grad
from scratch.layers import Linear
from scratch.models.bert import Bert, BertForMaskedLM
from scratch.models.bert.published import load_bert, load_masked_lm
from scratch.models.gpt import GPT
from scratch.models.gpt import published as gpt_published
from scratch.models.gpt.decoder import Decoder as GPTDecoder
from scratch.models.llama import Llama, Mixtral
from scratch.models.llama.decoder import Decoder as LlamaDecoder
from scratch.models.llama.published import halved, with_untied_output
from scratch.models.mlp import MLP
from scratch.models.transformer import Transformer, bart, beam_search, greedy
from scratch.models.transformer.cache import CachedDecoder
from scratch.pretrained import from_pretrained, save_pretrained
from scratch.weights import load_file, load_folder, read_json, save_file
from tests.gguf import gguf_bytes

with np.load(Path(__file__).parent / "reference" / "pretrained.npz") as _file:
    FROZEN = dict(_file)
TOKENS, MASK, TYPES = FROZEN["tokens"], FROZEN["mask"], FROZEN["types"]
NAMES = ("bert", "bert_mlm", "gpt2", "llama", "llama_tied", "mixtral", "bart")
HAVE_TRANSFORMERS = importlib.util.find_spec("transformers") is not None


def arrays_of(name: str) -> dict[str, np.ndarray]:
    start = f"{name}/file/"
    return {key.removeprefix(start): array for key, array in FROZEN.items() if key.startswith(start)}


def config_of(name: str) -> dict[str, Any]:
    return json.loads(str(FROZEN[f"{name}/config"]))


def folder_of(path: Path, name: str, arrays: dict[str, np.ndarray] | None = None, **fields: Any) -> Path:
    """The folder that `transformers` wrote, with other arrays or fields."""
    path.mkdir(exist_ok=True)
    config = config_of(name) | fields
    config = {key: value for key, value in config.items() if value is not ...}
    (path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file(arrays_of(name) if arrays is None else arrays, path / "model.safetensors", {"format": "pt"})
    return path


def outputs(name: str, model: Any) -> np.ndarray:
    """Hidden states or logits at every place that isn't padding, one row each."""
    with no_grad():
        if name == "bart":
            return model(FROZEN["bart/source"], TOKENS[:, :5]).data.reshape(10, -1)
        y = model(TOKENS, MASK, TYPES) if name.startswith("bert") else model(TOKENS)
    return y.data[MASK == 1]


def expected(name: str) -> np.ndarray:
    y = FROZEN[f"{name}/states" if name == "bert" else f"{name}/logits"]
    return y.reshape(10, -1) if name == "bart" else y[MASK == 1]


def close(found: np.ndarray, wanted: np.ndarray) -> bool:
    return found.shape == wanted.shape and bool(np.abs(found - wanted).max() < 2e-5)


# -- values -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_numbers_are_transformers(tmp_path, name):
    model = from_pretrained(folder_of(tmp_path, name))
    assert not any(module.training for module in model.modules())
    assert np.ptp(expected(name)) > 1
    assert close(outputs(name, model), expected(name))


def test_the_pooler_and_bert_without_it(tmp_path):
    model = from_pretrained(folder_of(tmp_path, "bert"))
    with no_grad():
        pooled = model.pooled(model(TOKENS, MASK, TYPES)).data
    assert close(pooled, FROZEN["bert/pooled"])
    without = {name: array for name, array in arrays_of("bert").items() if not name.startswith("pooler.")}
    bare = from_pretrained(folder_of(tmp_path, "bert", without))
    assert not bare.pooler and close(outputs("bert", bare), expected("bert"))


def test_bert_below_a_head_and_names_of_2018(tmp_path):
    base = load_bert(folder_of(tmp_path, "bert_mlm"))
    assert type(base) is Bert
    with no_grad():
        states = base(TOKENS, MASK, TYPES)
        model = from_pretrained(tmp_path)
        logits = model.cls["predictions"](states).data
    assert type(model) is BertForMaskedLM and close(logits[MASK == 1], expected("bert_mlm"))
    old = {name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): array
           for name, array in arrays_of("bert_mlm").items()}  # fmt: skip
    old |= {"bert.embeddings.position_ids": np.arange(11)[None], "cls.seq_relationship.bias": np.zeros(2, np.float32)}
    old["cls.predictions.decoder.weight"] = old["bert.embeddings.word_embeddings.weight"]
    assert any("gamma" in name for name in old)
    model = from_pretrained(folder_of(tmp_path, "bert_mlm", old, architectures=["BertForPreTraining"]))
    assert close(outputs("bert_mlm", model), expected("bert_mlm"))


def test_gpt2_without_its_prefix_and_with_its_triangles(tmp_path):
    bare = {name.removeprefix("transformer."): array for name, array in arrays_of("gpt2").items()}
    bare["h.0.attn.bias"] = np.tril(np.ones((1, 1, 11, 11), np.float32))
    bare["h.0.attn.masked_bias"] = np.array(-1e4, np.float32)
    assert close(outputs("gpt2", from_pretrained(folder_of(tmp_path, "gpt2", bare))), expected("gpt2"))


def test_older_fields_of_llama(tmp_path):
    old = folder_of(tmp_path, "llama", rope_parameters=..., rope_theta=500.0, head_dim=..., architectures=...)
    assert close(outputs("llama", from_pretrained(old)), expected("llama"))
    other = from_pretrained(folder_of(tmp_path, "llama", rope_parameters={"rope_theta": 501.0}))
    assert not close(outputs("llama", other), expected("llama"))


@pytest.mark.parametrize("dtype", [np.float16, "bfloat16"])
def test_weights_of_16_bits(tmp_path, dtype):
    arrays = arrays_of("gpt2")
    if dtype == "bfloat16":
        arrays = {name: (array.view(np.uint32) & 0xFFFF0000).view(np.float32) for name, array in arrays.items()}
    else:
        arrays = {name: array.astype(dtype) for name, array in arrays.items()}
    model = from_pretrained(folder_of(tmp_path, "gpt2", arrays))
    assert all(parameter.dtype == np.float32 for parameter in model.parameters())
    assert 1e-5 < np.abs(outputs("gpt2", model) - expected("gpt2")).max() < 0.2


def test_shards(tmp_path):
    folder, arrays = folder_of(tmp_path, "llama"), arrays_of("llama")
    (folder / "model.safetensors").unlink()
    shard = {name: f"{i % 3}.safetensors" for i, name in enumerate(arrays)}
    for i in range(3):
        save_file({name: arrays[name] for name in arrays if shard[name][0] == str(i)}, folder / f"{i}.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shard}))
    assert close(outputs("llama", from_pretrained(folder)), expected("llama"))


# -- with the cache ---------------------------------------------------------------------------------------------


DECODERS = [("gpt2", GPTDecoder), ("llama", LlamaDecoder), ("llama_tied", LlamaDecoder), ("mixtral", LlamaDecoder)]


@pytest.mark.parametrize(("name", "decoder"), DECODERS)
def test_token_by_token(tmp_path, name, decoder):
    """Rows of different lengths read together: two tokens of each, then the rest one by one."""
    reader = decoder(from_pretrained(folder_of(tmp_path, name)), 2)
    wanted = FROZEN[f"{name}/logits"]
    assert close(reader.read(TOKENS[:, :2]), wanted[:, 1])
    for t in range(2, 4):
        assert close(reader.read(TOKENS[:, t : t + 1]), wanted[:, t])
    reader.reset()
    assert close(reader.read(TOKENS, counts=[7, 4]), wanted[[0, 1], [6, 3]])


def test_bart_token_by_token_and_what_it_writes(tmp_path):
    model = from_pretrained(folder_of(tmp_path, "bart"))
    source, wanted = FROZEN["bart/source"], FROZEN["bart/logits"]
    reader = CachedDecoder(model, source)
    for t in range(5):
        assert close(reader.read(TOKENS[:, t]), wanted[:, t])
    written = FROZEN["bart/written"][:, 1:]
    assert len(set(written[0])) > 2
    for cache in (True, False):
        np.testing.assert_array_equal(greedy(model, source, 8, cache=cache), written)
    one = beam_search(model, source, width=1, max_length=8).tokens[:, 0]
    np.testing.assert_array_equal(one, written)


# -- every difference matters -----------------------------------------------------------------------------------


def exact_gelu(monkeypatch):
    monkeypatch.setattr(gpt_published, "with_tanh_gelu", lambda model: model)


def other_places(monkeypatch):
    monkeypatch.setattr(bart, "OFFSET", 1)


def unsplit(monkeypatch):
    joined = gpt_published.split

    def split(state):
        return {name: array.T if "out_proj.weight" in name else array for name, array in joined(state).items()}

    monkeypatch.setattr(gpt_published, "split", split)


def no_final_bias(monkeypatch):
    monkeypatch.setattr(bart.Bart, "scores", Transformer.scores)


def no_scale(monkeypatch):
    monkeypatch.setattr("scratch.models.transformer.bart.math.sqrt", lambda _: 1.0)


def swapped_parts(monkeypatch):
    monkeypatch.setattr("scratch.models.transformer.published.PARTS", ("k_proj", "q_proj", "v_proj"))


PLANTED = [("gpt2", exact_gelu), ("gpt2", unsplit), ("bart", no_final_bias), ("bart", no_scale),
           ("bart", swapped_parts)]  # fmt: skip


@pytest.mark.parametrize(("name", "plant"), PLANTED)
def test_a_planted_fault_shows(tmp_path, monkeypatch, name, plant):
    plant(monkeypatch)
    assert not close(outputs(name, from_pretrained(folder_of(tmp_path, name))), expected(name))


def test_positions_off_by_one_show(tmp_path, monkeypatch):
    model = from_pretrained(folder_of(tmp_path, "bart"))
    other_places(monkeypatch)
    assert not close(outputs("bart", model), expected("bart"))


@pytest.mark.parametrize(("name", "field", "value"), [
    ("bert", "layer_norm_eps", 1e-2), ("gpt2", "layer_norm_epsilon", 1e-2), ("llama", "rms_norm_eps", 1e-2),
    ("llama", "num_attention_heads", 2), ("bert", "num_attention_heads", 2), ("gpt2", "n_head", 2),
    ("bart", "encoder_attention_heads", 2), ("bart", "decoder_attention_heads", 3), ("bart", "scale_embedding", False),
    ("bart", "pad_token_id", 4), ("mixtral", "num_experts_per_tok", 1),
])  # fmt: skip
def test_every_field_that_leaves_no_trace_in_the_arrays_counts(tmp_path, name, field, value):
    extra = {"head_dim": ..., "num_key_value_heads": 1} if field == "num_attention_heads" and name == "llama" else {}
    arrays = arrays_of(name)
    folder = folder_of(tmp_path, name, arrays, **{field: value}, **extra)
    if extra:  # 2 heads of 8 features, 1 of keys
        assert type(from_pretrained(folder)) is Llama
    assert not close(outputs(name, from_pretrained(folder)), expected(name))


# -- what is refused --------------------------------------------------------------------------------------------

REFUSED = [
    ("bert", "hidden_act", "relu", "hidden_act is 'relu', Bert has 'gelu'"),
    ("bert", "hidden_act", "gelu_new", "hidden_act is 'gelu_new'"),
    ("bert", "position_embedding_type", "relative_key", "embedding_type is 'relative_key', Bert has 'absolute'"),
    ("bert", "is_decoder", True, "is_decoder is True"), ("bert", "add_cross_attention", True, "add_cross_attention"),
    ("bert", "embedding_size", 6, "embedding_size is 6"), ("bert", "hidden_size", 0, "hidden_size to be a size, got 0"),
    ("bert", "hidden_size", 13, "hidden_size to be a multiple"), ("bert", "hidden_size", True, "got True"),
    ("bert", "hidden_size", 10**12, "to be a size"), ("bert", "layer_norm_eps", -1, "a number from 0 up, got -1"),
    ("bert", "layer_norm_eps", "x", "got 'x'"), ("bert", "num_hidden_layers", 2.0, "got 2.0"),
    ("bert", "architectures", ["BertForQuestionAnswering"], "describes BertForQuestionAnswering; BertModel"),
    ("bert", "model_type", "roberta", "model_type is 'roberta'"), ("bert", "model_type", None, "model_type is None"),
    ("bert_mlm", "tie_word_embeddings", False, "tie_word_embeddings is False"),
    ("gpt2", "activation_function", "gelu", "is 'gelu', GPT2 has 'gelu_new' or 'gelu_pytorch_tanh'"),
    ("gpt2", "n_inner", 5, "of another shape"), ("gpt2", "scale_attn_weights", False, "scale_attn_weights"),
    ("gpt2", "scale_attn_by_inverse_layer_idx", True, "scale_attn_by_inverse"),
    ("gpt2", "architectures", ["GPT2ForSequenceClassification"], "describes GPT2ForSequenceClassification"),
    ("llama", "hidden_act", "gelu", "hidden_act is 'gelu', Llama has 'silu'"),
    ("mixtral", "sliding_window", 4, "sliding_window is 4"),
    ("mixtral", "num_local_experts", 2, r"left over: blocks\.0\.feed_forward\.experts\.2|of another shape"),
    ("llama", "attention_bias", True, "attention_bias is True"), ("llama", "mlp_bias", True, "mlp_bias is True"),
    ("llama", "rope_parameters", {"rope_type": "llama3", "factor": 8.0}, "rope_parameters is .* no rope_type 'llama3'"),
    ("llama", "rope_parameters", {"type": "linear"}, "no type 'linear'"),
    ("llama", "rope_parameters", [1], "an object"),
    ("llama", "rope_parameters", {"partial_rotary_factor": 0.5}, "partial_rotary"),
    ("llama", "rope_parameters", {"rope_theta": 0}, "from 1 up"), ("llama", "head_dim", 8, "head_dim is 8"),
    ("llama", "num_key_value_heads", 3, "num_heads.*num_kv_heads.*4.*3"),
    ("llama", "architectures", ["LlamaForSequenceClassification"], "describes LlamaForSequenceClassification"),
    ("bart", "activation_function", "relu", "activation_function is 'relu'"),
    ("bart", "normalize_before", True, "normalize_before is True"),
    ("bart", "pad_token_id", 99, "pad_token_id to be a token from 0 to 22, got 99"),
    ("bart", "d_model", 13, "multiple|embed_dim|divisible"),
    ("bart", "architectures", ["BartModel"], "describes BartModel"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "field", "value", "words"), REFUSED)
def test_a_variant_that_the_model_is_not(tmp_path, name, field, value, words):
    folder = folder_of(tmp_path, name, **{field: value})
    with pytest.raises(ValueError, match=words) as caught:
        from_pretrained(folder)
    assert str(tmp_path) in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.parametrize("name", NAMES)
def test_arrays_that_are_not_these(tmp_path, name):
    arrays = arrays_of(name)
    first = sorted(arrays)[3]
    with pytest.raises(ValueError, match="these are not the weights of .*: missing: ") as caught:
        from_pretrained(folder_of(tmp_path, name, {key: a for key, a in arrays.items() if key != first}))
    assert str(tmp_path) in str(caught.value)
    with pytest.raises(ValueError, match="left over: another.weight"):
        from_pretrained(folder_of(tmp_path, name, arrays | {"another.weight": np.zeros(2, np.float32)}))
    flat = arrays | {first: np.zeros((arrays[first].shape[0] + 1, *arrays[first].shape[1:]), np.float32)}
    with pytest.raises(ValueError, match="of another shape: |left over|differ"):
        from_pretrained(folder_of(tmp_path, name, flat))
    whole = arrays | {first: np.zeros(arrays[first].shape, np.int32)}
    with pytest.raises(ValueError, match="no floating-point numbers: |differ"):
        from_pretrained(folder_of(tmp_path, name, whole))


def test_weights_of_another_architecture_are_named_briefly(tmp_path):
    with pytest.raises(ValueError, match=r"missing: embeddings\.word.* and \d+ more; left over: lm_head") as caught:
        from_pretrained(folder_of(tmp_path, "bert", arrays_of("llama")))
    assert len(str(caught.value)) < 1000


def test_shared_arrays_that_differ(tmp_path):
    arrays = arrays_of("llama_tied")
    arrays["lm_head.weight"] = arrays["model.embed_tokens.weight"] + 1
    with pytest.raises(ValueError, match=r"token_embedding\.weight.*lm_head\.weight"):
        from_pretrained(folder_of(tmp_path, "llama_tied", arrays))


def test_a_folder_without_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        from_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"none\.gguf"):
        from_pretrained(tmp_path / "none.gguf")
    (tmp_path / "config.json").write_text(json.dumps(config_of("bert")))
    with pytest.raises(FileNotFoundError, match=r"expected one of model\.safetensors"):
        from_pretrained(tmp_path)


# -- the way back -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_what_is_saved_is_what_transformers_saves(tmp_path, name):
    model = from_pretrained(folder_of(tmp_path / "theirs", name))
    save_pretrained(model, tmp_path / "ours")
    theirs, ours = arrays_of(name), load_folder(tmp_path / "ours")
    assert ours.keys() == theirs.keys()
    for key, array in theirs.items():
        np.testing.assert_array_equal(ours[key], array)
    config, written = config_of(name), read_json(tmp_path / "ours" / "config.json")
    config["rope_theta"] = config.get("rope_parameters", {}).get("rope_theta")
    odd = {key: (value, config.get(key)) for key, value in written.items() if config.get(key) != value}
    odd = {key: pair for key, pair in odd.items() if "dropout" not in key and "pdrop" not in key}
    assert not odd
    again = from_pretrained(tmp_path / "ours")
    assert close(outputs(name, again), expected(name))


@pytest.mark.parametrize("make", [MLP, GPT, lambda: Linear(2, 2), Transformer])
def test_models_without_a_published_layout(tmp_path, make):
    with pytest.raises(ValueError, match="no published layout|no layout|expected a GPT"):
        save_pretrained(make(), tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.torch
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.skipif(not HAVE_TRANSFORMERS, reason="transformers is not installed")
@pytest.mark.filterwarnings("ignore")
def test_transformers_loads_what_is_saved(tmp_path, name):
    import torch
    import transformers

    save_pretrained(from_pretrained(folder_of(tmp_path / "theirs", name)), tmp_path / "ours")
    kind = config_of(name)["architectures"][0]
    model, told = getattr(transformers, kind).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"] and not told["mismatched_keys"]
    tokens, mask = torch.tensor(TOKENS), torch.tensor(MASK)
    with torch.no_grad():
        if name == "bart":
            y = model.eval()(torch.tensor(FROZEN["bart/source"]), mask, decoder_input_ids=tokens[:, :5]).logits
            found = y.numpy().reshape(10, -1)
        else:
            types = {"token_type_ids": torch.tensor(TYPES)} if name.startswith("bert") else {}
            y = model.eval()(tokens, attention_mask=mask, **types)
            found = (y.last_hidden_state if name == "bert" else y.logits).numpy()[MASK == 1]
    assert close(found, expected(name))


# -- GGUF -------------------------------------------------------------------------------------------------------

LLAMA_FACTS = {
    "general.architecture": "llama", "llama.block_count": 2, "llama.context_length": 11, "llama.embedding_length": 16,
    "llama.feed_forward_length": 20, "llama.attention.head_count": 4, "llama.attention.head_count_kv": 2,
    "llama.attention.layer_norm_rms_epsilon": 1e-5, "llama.rope.freq_base": 500.0, "llama.rope.dimension_count": 4,
    "llama.vocab_size": 23,
}  # fmt: skip
SHORT = {"model.embed_tokens.": "token_embd.", "model.norm.": "output_norm.", "lm_head.": "output.",
         "model.layers.": "blk.", "input_layernorm.": "attn_norm.", "post_attention_layernorm.": "ffn_norm.",
         "self_attn.o_proj.": "attn_output.", "self_attn.q_proj.": "attn_q.", "self_attn.k_proj.": "attn_k.",
         "self_attn.v_proj.": "attn_v.", "mlp.gate_proj.": "ffn_gate.", "mlp.up_proj.": "ffn_up.",
         "mlp.down_proj.": "ffn_down."}  # fmt: skip


def as_gguf(path: Path, name: str = "llama", **changes: Any) -> Path:
    """The small Llama as llama.cpp's converter would write it, in 32 bits."""
    tensors = {}
    for key, array in arrays_of(name).items():
        if key.endswith(("q_proj.weight", "k_proj.weight")):  # row i to 2i, i + hd/2 to 2i + 1
            heads = 4 if "q_proj" in key else 2
            array = array.reshape(heads, 2, 2, 16).swapaxes(1, 2).reshape(array.shape)
        for long, short in SHORT.items():
            key = key.replace(long, short)
        tensors[key] = (0, array.shape, np.ascontiguousarray(array).tobytes())
    facts = {key: value for key, value in (LLAMA_FACTS | changes).items() if value is not None}
    path.write_bytes(gguf_bytes(facts, tensors))
    return path


def test_a_gguf_is_the_same_network(tmp_path):
    model = from_pretrained(as_gguf(tmp_path / "a.gguf"))
    assert close(outputs("llama", model), expected("llama"))
    tied = from_pretrained(as_gguf(tmp_path / "b.gguf", "llama_tied", **{"llama.rope.freq_base": 10000.0}))
    assert tied.lm_head.weight is tied.token_embedding.weight
    assert close(outputs("llama_tied", tied), expected("llama_tied"))


def test_rows_go_back_to_halves():
    rows = np.arange(8)[:, None]  # a head of 8: pairs 0 1, 2 3 … become i and i + 4
    assert halved(rows, 1, "f")[:, 0].tolist() == [0, 2, 4, 6, 1, 3, 5, 7]
    assert halved(rows, 2, "f")[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    with pytest.raises(ValueError, match="f: expected rows for 3 heads"):
        halved(rows, 3, "f")


@pytest.mark.parametrize(("changes", "words"), [
    ({"general.architecture": "qwen2"}, "'qwen2'.*'llama'"),
    ({"general.architecture": None}, "None.*'llama'"), ({"llama.expert_count": 8}, r"llama\.expert_count is 8"),
    ({"llama.rope.scaling.type": "yarn"}, r"llama\.rope\.scaling\.type is 'yarn'"),
    ({"llama.block_count": 1}, r"left over: blocks\.1"),
    ({"llama.rope.dimension_count": 2}, r"llama\.rope\.dimension_count is 2, Llama has 4"),
    ({"llama.vocab_size": 22}, "of another shape"),
    ({"llama.attention.head_count": 3}, r"llama\.rope\.dimension_count is 4, Llama has 5"),
])  # fmt: skip
def test_a_gguf_that_is_refused(tmp_path, changes, words):
    with pytest.raises(ValueError, match=rf"a\.gguf: .*{words}"):
        from_pretrained(as_gguf(tmp_path / "a.gguf", **changes))


def test_a_file_that_is_no_gguf(tmp_path):
    save_file(arrays_of("llama"), tmp_path / "model.safetensors")
    assert load_file(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="expected a GGUF file"):
        from_pretrained(tmp_path / "model.safetensors")


def test_a_gpt_with_gpt_2s_gelu_and_eps():
    model = GPT(vocab_size=7, context_length=5, num_layers=2, num_heads=2, embed_dim=8, norm_eps=0.1)
    assert {block.feed_forward.gelu.approximate for block in model.blocks} == {"none"}
    assert {block.feed_forward.gelu.approximate for block in gpt_published.with_tanh_gelu(model).blocks} == {"tanh"}
    assert {norm.eps for norm in (model.norm, *(n for b in model.blocks for n in (b.norm1, b.norm2)))} == {0.1}
    assert load_masked_lm.__doc__


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", [Llama, Mixtral])
def test_a_llama_keeps_its_output_layer_in_a_folder(tmp_path, kind, tied):
    """Saved and read again: the same logits, and weights of the output layer that are shared only if they were."""
    model = kind(23, 11, 16, 2, 4, 2, 20, norm_eps=1e-3, rope_base=50.0)
    model = model if tied else with_untied_output(model)
    save_pretrained(model, tmp_path / "folder")
    config = json.loads((tmp_path / "folder" / "config.json").read_text())
    assert config["tie_word_embeddings"] is tied
    assert ("lm_head.weight" in load_file(tmp_path / "folder" / "model.safetensors")) is not tied
    again = from_pretrained(tmp_path / "folder")
    assert (again.lm_head.weight is again.token_embedding.weight) is tied
    assert type(again) is kind and again.count_parameters() == model.count_parameters()
    np.testing.assert_array_equal(outputs("llama", again), outputs("llama", model.eval()))


def test_a_llama_with_biases_has_no_published_layout(tmp_path):
    with pytest.raises(ValueError, match="Llama"):
        save_pretrained(Llama(23, 11, 16, 1, 4, 2, bias=True), tmp_path / "folder")
    assert not (tmp_path / "folder").exists()

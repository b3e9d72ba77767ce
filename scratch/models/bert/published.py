"""Published BERTs: BertModel and BertForMaskedLM, as `transformers` keeps them, read and written.

names in the file                                                             here
bert.encoder.layer.0.attention.self.query.weight, of every model with a head  the same, without bert. in a Bert
encoder.layer.0.attention.self.query.weight, of a BertModel                   the same
...LayerNorm.gamma, ...LayerNorm.beta, in files of 2018                       ...LayerNorm.weight, ...bias
cls.predictions.decoder.weight, which may be left out                         the word embedding
embeddings.position_ids, cls.seq_relationship                                 not needed
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from scratch.messages import shown
from scratch.models.bert.model import Bert, BertForMaskedLM
from scratch.weights import load_folder, save_folder
from scratch.weights.published import Arrays, Config, build, fill, renamed, tie

RULES = [(r"\.gamma$", ".weight"), (r"\.beta$", ".bias")]
UNUSED = r"embeddings\.position_ids$|^cls\.seq_relationship\."
WORDS, DECODER = "bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"
BIAS, DECODER_BIAS = "cls.predictions.bias", "cls.predictions.decoder.bias"
KINDS = ("BertModel", "BertForMaskedLM", "BertForPreTraining", "bert")


def from_pretrained(folder: str | os.PathLike) -> Bert | BertForMaskedLM:
    """What config.json says the folder holds, in evaluation mode: a Bert, or one with the head for masked tokens.

    Raises FileNotFoundError for missing files, ValueError naming the fault for another architecture or variant, and for
    arrays that are missing, left over or shaped otherwise.
    """
    folder = Path(folder)
    kind = Config.of(folder).kind()
    if kind not in KINDS:
        raise ValueError(f"{folder}: config.json describes {shown(kind) or 'nothing'}; {', '.join(KINDS[:3])} are read")
    return load_bert(folder) if kind in ("BertModel", "bert") else load_masked_lm(folder)


def load_bert(folder: str | os.PathLike) -> Bert:
    """The Bert of a folder, without the head for masked tokens that there may be. Raises as from_pretrained does."""
    folder, config = Path(folder), Config.of(Path(folder))
    state = renamed(load_folder(folder), [*RULES, (r"^bert\.", "")], rf"{UNUSED}|^cls\.", folder)
    pooler = any(name.startswith("pooler.") for name in state)
    sizes = arguments(config)
    layers = sizes["num_hidden_layers"]
    model = build(config, state, lambda: Bert(**sizes, add_pooling_layer=pooler), num_hidden_layers=layers)
    fill(model, state, str(folder))
    return model


def load_masked_lm(folder: str | os.PathLike) -> BertForMaskedLM:
    """The Bert of a folder with the head for masked tokens. Raises as from_pretrained does."""
    folder, config = Path(folder), Config.of(Path(folder))
    state = renamed(load_folder(folder), RULES, rf"{UNUSED}|^bert\.pooler\.", folder)
    tie(state, WORDS, [DECODER], str(folder))
    tie(state, BIAS, [DECODER_BIAS], str(folder))
    sizes = arguments(config)
    model = build(config, state, lambda: BertForMaskedLM(**sizes), num_hidden_layers=sizes["num_hidden_layers"])
    fill(model, state, str(folder))
    return model


def arguments(config: Config) -> dict[str, Any]:
    """The constructor's arguments. Raises ValueError for a variant that this model is not."""
    config.only("Bert", model_type=("bert",), hidden_act=("gelu",), position_embedding_type=("absolute",),
                is_decoder=(False,), add_cross_attention=(False,), tie_word_embeddings=(True,),
                embedding_size=(config.fields.get("hidden_size"),))  # fmt: skip
    sizes = {"vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
             "intermediate_size": 3072, "max_position_embeddings": 512, "type_vocab_size": 2}  # fmt: skip
    return {
        **{name: config.count(name, default) for name, default in sizes.items()},
        "layer_norm_eps": config.number("layer_norm_eps", 1e-12),
        "hidden_dropout_prob": config.number("hidden_dropout_prob", 0.1),
        "attention_probs_dropout_prob": config.number("attention_probs_dropout_prob", 0.1),
    }


def save_pretrained(model: Bert | BertForMaskedLM, folder: str | os.PathLike) -> None:
    """Write config.json and model.safetensors, which `transformers` loads as BertModel or BertForMaskedLM."""
    bert = model.bert if isinstance(model, BertForMaskedLM) else model
    layers, embeddings = bert.encoder["layer"], bert.embeddings
    attention: Any = layers[0].attention["self"]
    vocab_size, hidden_size = embeddings.word_embeddings.weight.shape
    config = {
        "model_type": "bert", "architectures": ["BertForMaskedLM" if bert is not model else "BertModel"],
        "vocab_size": vocab_size, "hidden_size": hidden_size, "num_hidden_layers": len(layers),
        "num_attention_heads": attention.num_heads, "intermediate_size": layers[0].intermediate["dense"].out_features,
        "max_position_embeddings": len(embeddings.position_embeddings.weight),
        "type_vocab_size": len(embeddings.token_type_embeddings.weight), "layer_norm_eps": embeddings.LayerNorm.eps,
        "hidden_act": "gelu", "hidden_dropout_prob": embeddings.dropout.p,
        "attention_probs_dropout_prob": attention.dropout.p, "pad_token_id": 0, "tie_word_embeddings": True,
    }  # fmt: skip
    state: Arrays = model.state_dict()
    state = {name: array for name, array in state.items() if name not in (DECODER, DECODER_BIAS)}
    save_folder(folder, config, state)

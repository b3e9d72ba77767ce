"""What `transformers` computes with small random networks: python -m tests.reference.make_pretrained

transformers==5.24.0 and torch==2.13.0. For each network its files (arrays and config.json), tokens with padding, and
what comes out at every place: hidden states of BertModel, logits of the others; what Bart writes greedily.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).parent / "pretrained.npz"
BERT = {"vocab_size": 23, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20,
        "max_position_embeddings": 11}  # fmt: skip
LLAMA = {"vocab_size": 23, "hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "max_position_embeddings": 11, "rms_norm_eps": 1e-5}  # fmt: skip
TOKENS = np.array([[5, 9, 3, 17, 4, 8, 22], [6, 7, 19, 2, 0, 0, 0]])
MASK = np.array([[1] * 7, [1, 1, 1, 1, 0, 0, 0]])
TYPES = np.array([[0, 0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 0, 0, 0]])


def models() -> dict[str, Any]:
    import transformers as t

    theta = {"rope_theta": 500.0, "rope_type": "default"}
    return {
        "bert": t.BertModel(t.BertConfig(**BERT)),
        "bert_mlm": t.BertForMaskedLM(t.BertConfig(**BERT)),
        "gpt2": t.GPT2LMHeadModel(t.GPT2Config(vocab_size=23, n_positions=11, n_embd=12, n_layer=2, n_head=3)),
        "llama": t.LlamaForCausalLM(t.LlamaConfig(**LLAMA, rope_parameters=theta)),
        "llama_tied": t.LlamaForCausalLM(t.LlamaConfig(**LLAMA, tie_word_embeddings=True)),
        "bart": t.BartForConditionalGeneration(t.BartConfig(
            vocab_size=23, d_model=12, encoder_layers=2, decoder_layers=1, encoder_attention_heads=3,
            decoder_attention_heads=2, encoder_ffn_dim=20, decoder_ffn_dim=16, max_position_embeddings=11,
            scale_embedding=True, forced_eos_token_id=None)),
    }  # fmt: skip


def networks() -> Iterator[tuple[str, Any]]:
    """Those, and what was added later, drawn after them so that they stay as they are."""
    import transformers as t

    yield from models().items()
    yield "mixtral", t.MixtralForCausalLM(t.MixtralConfig(**LLAMA, num_local_experts=3, num_experts_per_tok=2))


def outputs(name: str, model: Any) -> dict[str, np.ndarray]:
    import torch

    tokens, mask, types = (torch.tensor(a) for a in (TOKENS, MASK, TYPES))
    if name.startswith("bert"):
        y = model(tokens, attention_mask=mask, token_type_ids=types)
        if name == "bert_mlm":
            return {"logits": y.logits.numpy()}
        return {"states": y.last_hidden_state.numpy(), "pooled": y.pooler_output.numpy()}
    if name != "bart":
        return {"logits": model(tokens, attention_mask=mask).logits.numpy()}
    source = torch.where(mask == 1, tokens, 1)
    written = model.generate(source, attention_mask=mask, num_beams=1, do_sample=False, max_new_tokens=8)
    logits = model(source, attention_mask=mask, decoder_input_ids=tokens[:, :5]).logits
    return {"source": source.numpy(), "logits": logits.numpy(), "written": written.numpy()}


def main() -> None:
    import torch
    from safetensors.numpy import load_file

    torch.manual_seed(2)
    frozen: dict[str, np.ndarray] = {"tokens": TOKENS, "mask": MASK, "types": TYPES}
    for name, model in networks():
        with torch.no_grad():  # so that every part matters
            for parameter in model.parameters():
                parameter.copy_(0.5 * torch.randn(parameter.shape) + (parameter.ndim == 1) * 0.5)
            if name == "bart":  # places that matter, so that it doesn't write one token again and again
                model.model.decoder.embed_positions.weight.mul_(4)
                for key, parameter in model.model.decoder.named_parameters():
                    if key.endswith("bias"):
                        parameter.mul_(0.2)
                model.final_logits_bias.copy_(0.3 * torch.randn(model.final_logits_bias.shape))
            with tempfile.TemporaryDirectory() as folder:
                model.eval().save_pretrained(folder)
                arrays = load_file(Path(folder) / "model.safetensors")
                frozen |= {f"{name}/file/{key}": a for key, a in arrays.items()}
                frozen[f"{name}/config"] = np.array((Path(folder) / "config.json").read_text(encoding="utf-8"))
            frozen |= {f"{name}/{key}": a for key, a in outputs(name, model).items()}
    np.savez_compressed(FILE, **frozen)
    print(f"{FILE.name}: {len(frozen)} arrays, {FILE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()

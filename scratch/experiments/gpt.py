"""GPT: what each part contributes. The quick run with one part removed or replaced.

`python -m scratch.experiments.gpt` trains all variants and prints the table of the model's page.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from scratch.activations import ReLU
from scratch.experiments.swap import swapped
from scratch.initializers import normal
from scratch.layers import Identity
from scratch.models.gpt import model as gpt
from scratch.models.gpt import train as training
from scratch.models.gpt.tasks import Text
from scratch.models.gpt.train import PRESETS, Settings, build, evaluate, load_task, summed_loss
from scratch.parallel import ShardedLoss
from scratch.tensor import Parameter, Tensor
from scratch.training import Run
from scratch.training.ablation import command_line, figures_of, head, row
from scratch.training.progress import say


class NoPositions(gpt.GPT):
    """Without position embeddings only the causal mask tells the order of tokens."""

    def embed(self, tokens: Any) -> Tensor:
        return self.dropout(self.token_embedding(tokens))


def bidirectional_attention(*args: Any, **options: Any) -> Tensor:
    """Without the causal mask each position reads the token that it should predict."""
    return scaled_dot_product_attention(*args, **{**options, "is_causal": False})


class ValueOnlyAttention(gpt.Attention):
    """Each token gets its own value only: predictions depend on the last token and its position."""

    def forward(self, x: Tensor) -> Tensor:
        return self.residual_dropout(self.out_proj(self.v_proj(x)))


class NoResidual(gpt.Block):
    """f(x) instead of x + f(x)."""

    def forward(self, x: Tensor) -> Tensor:
        return self.feed_forward(self.norm2(self.attention(self.norm1(x))))


class PostNorm(gpt.Block):
    """norm(x + f(x)), as in 2017."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self.attention(x))
        return self.norm2(x + self.feed_forward(x))


class NoFeedForward(gpt.Block):
    """Attention only."""

    def forward(self, x: Tensor) -> Tensor:
        return x + self.attention(self.norm1(x))


class NoNorm(Identity):
    """The identity, with LayerNorm's arguments."""

    def __init__(self, *args: Any, **options: Any):
        pass


class Untied(gpt.GPT):
    """An output layer with weights of its own."""

    def init_weights(self) -> None:
        super().init_weights()
        self.lm_head.weight = Parameter(normal(self.lm_head.weight.shape, std=0.02))


class WideEmbedding(gpt.GPT):
    """Token embedding, and with it the output layer, from N(0, 1), PyTorch's default."""

    def init_weights(self) -> None:
        super().init_weights()
        self.token_embedding.weight.data[...] = normal(self.lm_head.weight.shape)


scaled_dot_product_attention: Callable[..., Tensor] = gpt.scaled_dot_product_attention

# name: (settings, what is swapped in the model's module)
ABLATIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "baseline": ({}, {}),
    "no causal mask": ({}, {"scaled_dot_product_attention": bidirectional_attention}),
    "no position embedding": ({}, {"GPT": NoPositions}),
    "no attention": ({}, {"Attention": ValueOnlyAttention}),
    "no feed-forward network": ({}, {"Block": NoFeedForward}),
    "one head": ({"num_heads": 1}, {}),
    "no residual connections": ({}, {"Block": NoResidual}),
    "no norms": ({}, {"LayerNorm": NoNorm}),
    "post-norm": ({}, {"Block": PostNorm}),
    "ReLU instead of GELU": ({}, {"GELU": ReLU}),
    "untied output layer": ({}, {"GPT": Untied}),
    "embedding from N(0, 1)": ({}, {"GPT": WideEmbedding}),
    "no warm-up": ({"warmup_steps": 0}, {}),
}
BASE: dict[str, Any] = PRESETS["quick"]
COLUMNS = ("loss at step 0", "final loss", "test loss", "test loss with the causal mask")


def measure(
    name: str, changes: dict[str, Any], swaps: dict[str, Any], seed: int, steps: int, parent: Path
) -> dict[str, float]:
    """The metrics of one variant; those of a run that was stopped are missing."""
    settings = Settings(**{**BASE, "steps": steps, "seed": seed, **changes})
    best: dict[str, np.ndarray] = {}

    def train(settings: Settings, run: Run) -> None:
        training.train(settings, run)
        best.update(run.best)

    with swapped(gpt, training, **swaps):
        metrics = figures_of("gpt", name, settings, parent, train)
    if name == "no causal mask" and best:
        metrics[COLUMNS[3]] = test_loss(settings, best)
    return metrics


def test_loss(settings: Settings, weights: dict[str, np.ndarray]) -> float:
    """The test loss of the unchanged model with these weights: its causal mask hides the future, as in generation."""
    task = load_task(settings)
    assert isinstance(task, Text)
    model = build(settings, len(task.tokenizer))
    model.load_state_dict(weights)
    return evaluate(model, ShardedLoss(model, summed_loss, settings.shards), task, task.test)["loss"]


def main() -> None:
    p = command_line(__doc__)
    p.add_argument("--steps", type=int, default=BASE["steps"])
    a = p.parse_args()
    rows = [head(COLUMNS)]
    for name, (changes, swaps) in ABLATIONS.items():
        rows.append(row(name, COLUMNS, measure(name, changes, swaps, a.seed, a.steps, a.parent)))
    say("\n" + "\n".join(rows))


if __name__ == "__main__":
    main()

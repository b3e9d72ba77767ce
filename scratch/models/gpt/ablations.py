"""What each part is there for: the quick run with one part of the model taken away or put in another way.

`python -m scratch.models.gpt.ablations` trains them all and prints the table of the README.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from scratch.activations import relu
from scratch.initializers import normal
from scratch.layers import packed_attention
from scratch.models.gpt.model import GPT, MLP, Block, CausalSelfAttention
from scratch.models.gpt.tasks import Text
from scratch.models.gpt.train import PRESETS, Settings, build, evaluate, load_task, summed_loss, train
from scratch.module import Module
from scratch.parallel import ShardedLoss
from scratch.tensor import Parameter, Tensor
from scratch.training import Run
from scratch.training.ablation import command_line, exchanging, figures_of, head, row
from scratch.training.progress import say

Make = Callable[[Settings, int], GPT]


class Same(Module):
    """Hands on what it gets, in place of a norm."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class WithoutPositions(GPT):
    """Only the causal mask still says what comes first."""

    def embed(self, tokens: Any) -> Tensor:
        return self.transformer["drop"](self.transformer["wte"](tokens))


class SeesTheFuture(CausalSelfAttention):
    """Without its mask, each place reads the character that it is asked for."""

    def attend(self, qkv: Tensor) -> Tensor:
        return packed_attention(qkv, num_heads=self.n_head)


class SeesItself(CausalSelfAttention):
    """A token takes its own value: nothing is known but the last character and its place."""

    def attend(self, qkv: Tensor) -> Tensor:
        return qkv[..., 2 * qkv.shape[-1] // 3 :]


class WithReLU(MLP):
    """As in 2017."""

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.c_proj(relu(self.c_fc(x))))


class WithoutResidual(Block):
    """f(x) in place of x + f(x)."""

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(self.ln_2(self.attn(self.ln_1(x))))


class PostNorm(Block):
    """As in 2017: the norm stands in the stream."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.ln_1(x + self.attn(x))
        return self.ln_2(x + self.mlp(x))


class WithoutNetwork(Block):
    """Attention alone."""

    def forward(self, x: Tensor) -> Tensor:
        return x + self.attn(self.ln_1(x))


def without_norms(settings: Settings, vocab_size: int) -> GPT:
    model = build(settings, vocab_size)
    for block in model.transformer["h"]:
        block.ln_1, block.ln_2 = Same(), Same()
    model.transformer["ln_f"] = Same()
    return model


def untied(settings: Settings, vocab_size: int) -> GPT:
    """A head with weights of its own."""
    model = build(settings, vocab_size)
    model.lm_head.weight = Parameter(normal(model.lm_head.weight.shape, std=0.02))
    return model


def embedding_from_wide(settings: Settings, vocab_size: int) -> GPT:
    """The embedding from N(0, 1), PyTorch's default, and with it the head."""
    model = build(settings, vocab_size)
    model.transformer["wte"].weight.data[...] = normal(model.lm_head.weight.shape)
    return model


ABLATIONS: dict[str, tuple[dict[str, Any], Make]] = {
    "as it is": ({}, build),
    "no mask": ({}, exchanging(build, CausalSelfAttention, SeesTheFuture)),
    "no positions": ({}, exchanging(build, GPT, WithoutPositions)),
    "no attention": ({}, exchanging(build, CausalSelfAttention, SeesItself)),
    "no network between attentions": ({}, exchanging(build, Block, WithoutNetwork)),
    "one head": ({"n_head": 1}, build),
    "no residual": ({}, exchanging(build, Block, WithoutResidual)),
    "no norms": ({}, without_norms),
    "post-norm": ({}, exchanging(build, Block, PostNorm)),
    "ReLU for GELU": ({}, exchanging(build, MLP, WithReLU)),
    "head of its own": ({}, untied),
    "embedding from N(0, 1)": ({}, embedding_from_wide),
    "no warm-up": ({"warmup": 0}, build),
}
BASE: dict[str, Any] = PRESETS["quick"]
COLUMNS = ("loss at step 0", "final loss", "test loss", "test loss, token by token")


def measure(name: str, changes: dict[str, Any], make: Make, seed: int, steps: int, parent: Path) -> dict[str, float]:
    """The figures of one run; those of a run that broke off are missing."""
    settings = Settings(**{**BASE, "steps": steps, "seed": seed, **changes})
    kept: dict[str, Any] = {}

    def fit(settings: Settings, run: Run) -> None:
        train(settings, run, make)
        kept["best"] = run.best

    figures = figures_of("gpt", name, settings, parent, fit)
    return figures | {COLUMNS[3]: as_it_writes(settings, kept["best"])} if name == "no mask" and kept else figures


def as_it_writes(settings: Settings, weights: dict[str, np.ndarray]) -> float:
    """The test loss when the future is not there to be seen, as in writing."""
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
    for name, (changes, make) in ABLATIONS.items():
        figures = measure(name, changes, make, a.seed, a.steps, a.parent)
        rows.append(row(name, COLUMNS, figures))
    say("\n" + "\n".join(rows))


if __name__ == "__main__":
    main()

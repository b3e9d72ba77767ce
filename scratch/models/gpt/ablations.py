"""What each part is there for: the quick run with one part of the model taken away or put in another way.

`python -m scratch.models.gpt.ablations` trains them all and prints the table of the README.
"""

from __future__ import annotations

import argparse
import json
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
from scratch.training import Run, RunStopped
from scratch.training.progress import say
from scratch.training.report import RESULTS, number

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


def exchanging(old: type[Module], new: type[Module]) -> Make:
    """A maker of the model in which every part of one class has become one of another."""

    def make(settings: Settings, vocab_size: int) -> GPT:
        model = build(settings, vocab_size)
        for module in model.modules():
            if type(module) is old:
                module.__class__ = new
        return model

    return make


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
    "no mask": ({}, exchanging(CausalSelfAttention, SeesTheFuture)),
    "no positions": ({}, exchanging(GPT, WithoutPositions)),
    "no attention": ({}, exchanging(CausalSelfAttention, SeesItself)),
    "no network between attentions": ({}, exchanging(Block, WithoutNetwork)),
    "one head": ({"n_head": 1}, build),
    "no residual": ({}, exchanging(Block, WithoutResidual)),
    "no norms": ({}, without_norms),
    "post-norm": ({}, exchanging(Block, PostNorm)),
    "ReLU for GELU": ({}, exchanging(MLP, WithReLU)),
    "head of its own": ({}, untied),
    "embedding from N(0, 1)": ({}, embedding_from_wide),
    "no warm-up": ({"warmup": 0}, build),
}
BASE: dict[str, Any] = PRESETS["quick"]
COLUMNS = ("loss at step 0", "final loss", "test loss", "test loss, token by token")


def measure(name: str, changes: dict[str, Any], make: Make, seed: int, steps: int, parent: Path) -> dict[str, float]:
    """The figures of one run; those of a run that broke off are missing."""
    settings = Settings(**{**BASE, "steps": steps, "seed": seed, **changes})
    run = Run.create("gpt", settings, name, parent=parent)
    try:
        train(settings, run, make)
        figures = json.loads((run.folder / RESULTS).read_text(encoding="utf-8"))["figures"]
        return figures | {COLUMNS[3]: as_it_writes(settings, run.best)} if name == "no mask" else figures
    except RunStopped as stop:
        say(str(stop))
        return {}
    finally:
        run.close()


def as_it_writes(settings: Settings, weights: dict[str, np.ndarray]) -> float:
    """The test loss when the future is not there to be seen, as in writing."""
    task = load_task(settings)
    assert isinstance(task, Text)
    model = build(settings, len(task.tokenizer))
    model.load_state_dict(weights)
    return evaluate(model, ShardedLoss(model, summed_loss, settings.shards), task, task.test)["loss"]


def main() -> None:
    p = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    p.add_argument("--parent", type=Path, default=Path("runs/ablations"), help="where the run folders go")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--steps", type=int, default=BASE["steps"])
    a = p.parse_args()
    rows = [f"| what | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, (changes, make) in ABLATIONS.items():
        figures = measure(name, changes, make, a.seed, a.steps, a.parent)
        rows.append(f"| {name} | " + " | ".join(number(c, figures.get(c, np.nan)) for c in COLUMNS) + " |")
    say("\n" + "\n".join(rows))


if __name__ == "__main__":
    main()

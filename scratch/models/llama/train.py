"""Train a Llama to continue a text, character by character, optionally with a mixture of experts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from scratch.data import TextWindows
from scratch.losses import cross_entropy
from scratch.models.gpt.tasks import Text, text
from scratch.models.llama import pictures
from scratch.models.llama.experts import Mixtral
from scratch.models.llama.inside import expert_load
from scratch.models.llama.model import Llama
from scratch.module import evaluating
from scratch.optim import AdamW, clip_grad_norm_, weight_decay_groups
from scratch.parallel import ShardedLoss
from scratch.random import manual_seed
from scratch.schedules import cosine
from scratch.tensor import Tensor
from scratch.training import Run, command
from scratch.training.progress import typed


@dataclass
class Settings:
    """What the run depends on; `scratch train llama --FIELD VALUE` changes a field."""

    data: Literal["shakespeare", "tiny_shakespeare"] = "shakespeare"
    """Text (the plays are bundled; tiny_shakespeare is downloaded)."""
    num_layers: int = 4
    """Blocks."""
    num_heads: int = 4
    """Attention heads of each block."""
    num_kv_heads: int = 2
    """Heads of keys and values, a divisor of num_heads."""
    embed_dim: int = 96
    """Embedding dimension, a multiple of 2 · num_heads."""
    ffn_dim: int = 288
    """Hidden units of the feed-forward network, or of each expert."""
    context_length: int = 64
    """Tokens that the model sees at a time."""
    rope_base: float = 10000.0
    """The rotary embedding's slowest pair of features rotates by about 1 / rope_base radians per position."""
    num_experts: int = 0
    """Experts in each block; 0: a single feed-forward network."""
    num_experts_per_token: int = 2
    """Experts that the router selects for each token."""
    load_balancing_weight: float = 0.01
    """Weight of the load-balancing loss, if there are experts."""
    steps: int = 2000
    """Updates of the weights."""
    batch_size: int = 16
    """Sequences per step."""
    lr: float = 3e-3
    """Highest learning rate, reached after the warm-up."""
    final_lr: float = 1e-4
    """Learning rate at the end of the cosine decay."""
    warmup_steps: int = 100
    """Steps in which the learning rate rises linearly from 0; at most half of all steps."""
    beta2: float = 0.99
    """AdamW's decay rate for squared gradients."""
    weight_decay: float = 0.1
    """Weight decay of matrices; norms have none."""
    clip_norm: float = 1.0
    """Clip the global gradient norm to this."""
    eval_every: int = 500
    """Validate every this many steps."""
    save_every: int = 250
    """Save a checkpoint every this many steps."""
    seed: int = 0
    """Random seed."""
    shards: int = 2
    """Parts that each batch is split into, one thread each."""

    def __post_init__(self) -> None:
        for name, low in LOWEST.items():
            if not getattr(self, name) >= low:
                raise ValueError(f"{name} must be at least {low}, got {getattr(self, name)}")
        if not 0 <= self.beta2 < 1:
            raise ValueError(f"beta2 must be from 0 to below 1, got {self.beta2}")
        if math.isinf(self.lr) or not self.final_lr <= self.lr:
            raise ValueError(f"lr must be a number of at least final_lr, got {self.lr} and {self.final_lr}")
        if self.num_experts and not self.num_experts_per_token <= self.num_experts:
            raise ValueError("num_experts_per_token must be at most num_experts, got "
                             f"{self.num_experts_per_token} and {self.num_experts}")  # fmt: skip
        for name, divisor, factor in (("embed_dim", "num_heads", 2), ("num_heads", "num_kv_heads", 1)):
            size, parts = getattr(self, name), getattr(self, divisor)
            if size % (factor * parts):
                multiple = f"{factor} · {divisor}" if factor > 1 else divisor
                raise ValueError(f"{name} must be a multiple of {multiple}, got {size} and {parts}")


LOWEST = {"num_layers": 1, "num_heads": 1, "num_kv_heads": 1, "embed_dim": 1, "ffn_dim": 1, "context_length": 1,
          "rope_base": 1, "num_experts": 0, "num_experts_per_token": 1, "load_balancing_weight": 0, "steps": 1,
          "batch_size": 1, "eval_every": 1, "save_every": 1, "shards": 1, "lr": 0, "final_lr": 0, "warmup_steps": 0,
          "weight_decay": 0, "clip_norm": 0, "seed": 0}  # fmt: skip

PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "quick": {"num_layers": 3, "embed_dim": 64, "ffn_dim": 192, "steps": 800, "batch_size": 12, "lr": 4e-3,
              "eval_every": 400},
    "tiny_shakespeare": {"data": "tiny_shakespeare", "embed_dim": 128, "ffn_dim": 384, "batch_size": 12},
    "experts": {"embed_dim": 64, "ffn_dim": 64, "num_experts": 8},
}  # fmt: skip


def build(settings: Settings, vocab_size: int) -> Llama:
    """The model that the settings describe."""
    s = settings
    sizes: dict[str, Any] = {
        "vocab_size": vocab_size, "context_length": s.context_length, "embed_dim": s.embed_dim,
        "num_layers": s.num_layers, "num_heads": s.num_heads, "num_kv_heads": s.num_kv_heads, "ffn_dim": s.ffn_dim,
        "rope_base": s.rope_base,
    }  # fmt: skip
    if s.num_experts:
        return Mixtral(**sizes, num_experts=s.num_experts, num_experts_per_token=s.num_experts_per_token)
    return Llama(**sizes)


def summed_loss(
    model: Llama, x: np.ndarray, y: np.ndarray, load_balancing_weight: float = 0.0
) -> tuple[Tensor, float]:
    """(sum of the cross-entropies, number of targets): ShardedLoss adds both over the shards.  Shapes: x, y (B, T)

    The load-balancing loss is added once per target, so that the quotient is cross-entropy + weight · balancing loss.
    """
    logits = model(x)  # (B, T, V)
    loss = cross_entropy(logits.reshape(y.size, -1), y.reshape(-1), reduction="sum")
    if load_balancing_weight and isinstance(model, Mixtral):
        loss = loss + model.load_balancing_loss() * (load_balancing_weight * y.size)
    return loss, y.size


def train(settings: Settings, run: Run) -> None:
    """The whole run, from the data to the report."""
    manual_seed(settings.seed)
    task = load_task(settings)
    V = len(task.tokenizer)

    model = build(settings, V)
    optimizer = AdamW(weight_decay_groups(model, settings.weight_decay), betas=(0.9, settings.beta2))
    warmup_steps = min(settings.warmup_steps, settings.steps // 2)
    schedule = cosine(settings.lr, settings.steps, warmup=warmup_steps, final=settings.final_lr)
    batches = TextWindows(task.train, settings.context_length, settings.batch_size, settings.seed)
    weight = settings.load_balancing_weight
    loss_of = ShardedLoss(model, lambda m, x, y: summed_loss(m, x, y, weight), settings.shards)
    cross_entropy_of = ShardedLoss(model, summed_loss, settings.shards)  # without the load-balancing loss

    run.track(model=model, optimizer=optimizer, batches=batches)
    run.introduce(f"{settings.data}: {task}", model, first_loss=(f"ln {V}", math.log(V)))

    for step in run.steps(settings.steps, settings.save_every):
        x, y = next(batches)
        loss = loss_of(x, y)
        run.require_finite(loss, model, x)

        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), settings.clip_norm)
        optimizer.lr = schedule(step)
        optimizer.step()

        run.log(step, loss=loss.item(), lr=optimizer.lr)
        if (step + 1) % settings.eval_every == 0 or step + 1 == settings.steps:
            run.evaluated(step, model, evaluate(model, cross_entropy_of, task, task.validation))

    model.load_state_dict(run.best)  # lowest validation loss; the test set is used only now
    results = report(model, cross_entropy_of, task)
    drawn = pictures.draw_all(run.folder, run.history(), model, task)
    run.finish(results, drawn, then=f"scratch sample llama --run {typed(run.folder)}")


def load_task(settings: Settings) -> Text:
    """The text that the settings name."""
    return text(settings.data)


def evaluate(model: Llama, loss_of: ShardedLoss, task: Text, part: np.ndarray) -> float:
    """The mean cross-entropy over a part of the text, in nats per character."""
    with evaluating(model):
        losses = [(loss_of(x, y).item(), y.size) for x, y in task.pairs(part, model.context_length)]
    return sum(mean * n for mean, n in losses) / sum(n for _, n in losses)


def report(model: Llama, loss_of: ShardedLoss, task: Text) -> dict[str, float]:
    """Metrics on the test set, or on the validation set where there is no test set; how unevenly experts are used."""
    name, part = ("test loss", task.test) if len(task.test) else ("validation loss", task.validation)
    results = {name: evaluate(model, loss_of, task, part)}
    if isinstance(model, Mixtral):
        results["busiest expert's load"] = float(expert_load(model, task.validation).max() * model.num_experts)
    return results


if __name__ == "__main__":
    command.main("llama")

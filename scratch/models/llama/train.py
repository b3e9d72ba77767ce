"""Train a Llama to go on with a text, character by character; with experts if asked."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from scratch.data import TextWindows
from scratch.losses import cross_entropy
from scratch.models.gpt.tasks import Text, text
from scratch.models.llama import pictures
from scratch.models.llama.experts import Mixtral
from scratch.models.llama.inside import usage
from scratch.models.llama.model import Llama
from scratch.optim import AdamW, clip_grad_norm_
from scratch.parallel import ShardedLoss
from scratch.random import manual_seed
from scratch.schedules import cosine
from scratch.tensor import Tensor, no_grad
from scratch.training import Run, command
from scratch.training.progress import typed


@dataclass
class Settings:
    """What the run depends on; `scratch train llama --FIELD VALUE` changes a field."""

    data: Literal["shakespeare", "tiny_shakespeare"] = "shakespeare"
    """Text (the plays ship; tiny_shakespeare is downloaded)."""
    hidden_size: int = 96
    """Features of a token, an even multiple of num_attention_heads."""
    intermediate_size: int = 288
    """Features inside the network, or inside each expert."""
    num_hidden_layers: int = 4
    """Layers."""
    num_attention_heads: int = 4
    """Heads of queries."""
    num_key_value_heads: int = 2
    """Heads of keys and values, which the heads of queries share."""
    max_position_embeddings: int = 64
    """The context: how many tokens the model sees at a time."""
    rope_theta: float = 10000.0
    """The slowest pair of features turns by 1 over about this at each place."""
    experts: int = 0
    """Experts in each layer, two or more; 0: one network for all tokens."""
    chosen: int = 2
    """How many experts a token goes through."""
    balance: float = 0.01
    """Weight of the balancing loss, where there are experts."""
    steps: int = 2000
    """Updates of the weights."""
    batch_size: int = 16
    """Windows in each step."""
    lr: float = 3e-3
    """Learning rate at its highest, after the warm-up."""
    final_lr: float = 1e-4
    """Learning rate at the end of the cosine along which it falls."""
    warmup: int = 100
    """Steps in which the learning rate rises from 0, at most half of all."""
    beta2: float = 0.99
    """How long AdamW remembers the size of gradients."""
    weight_decay: float = 0.1
    """Decay of matrices in AdamW, multiplied by the learning rate; norms have none."""
    clip: float = 1.0
    """Longest gradient, over all parameters together, that is not shortened."""
    evaluate_every: int = 500
    """Steps between two looks at the validation set."""
    save_every: int = 250
    """Steps between two checkpoints."""
    seed: int = 0
    """Where all randomness starts."""
    shards: int = 2
    """Parts that each batch is cut into, one thread each."""

    def __post_init__(self) -> None:
        for name, low in LOWEST.items():
            if not getattr(self, name) >= low:
                raise ValueError(f"{name} must be at least {low}, got {getattr(self, name)}")
        if not 0 <= self.beta2 < 1:
            raise ValueError(f"beta2 must be from 0 to below 1, got {self.beta2}")
        if math.isinf(self.lr) or not self.final_lr <= self.lr:
            raise ValueError(f"lr must be a number of at least final_lr, got {self.lr} and {self.final_lr}")
        if self.experts and not self.chosen <= self.experts:
            raise ValueError(f"chosen must be at most experts, got {self.chosen} of {self.experts}")
        if self.hidden_size % (2 * self.num_attention_heads) or self.num_attention_heads % self.num_key_value_heads:
            raise ValueError("hidden_size must be an even multiple of num_attention_heads, and these a multiple of "
                             "num_key_value_heads")  # fmt: skip


LOWEST = {"hidden_size": 1, "intermediate_size": 1, "num_hidden_layers": 1, "num_attention_heads": 1,
          "num_key_value_heads": 1, "max_position_embeddings": 1, "steps": 1, "batch_size": 1, "evaluate_every": 1,
          "save_every": 1, "shards": 1, "chosen": 1, "rope_theta": 1, "experts": 0, "balance": 0, "lr": 0,
          "final_lr": 0, "warmup": 0, "weight_decay": 0, "clip": 0, "seed": 0}  # fmt: skip

PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "quick": {"hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 3, "steps": 800, "batch_size": 12,
              "lr": 4e-3, "evaluate_every": 400},
    "tiny_shakespeare": {"data": "tiny_shakespeare", "hidden_size": 128, "intermediate_size": 384, "batch_size": 12},
    "experts": {"hidden_size": 64, "intermediate_size": 64, "experts": 8},
}  # fmt: skip


def build(settings: Settings, vocab_size: int) -> Llama:
    """The model that the settings describe, for so many tokens."""
    s = settings
    config: dict[str, Any] = {
        "vocab_size": vocab_size, "hidden_size": s.hidden_size, "intermediate_size": s.intermediate_size,
        "num_hidden_layers": s.num_hidden_layers, "num_attention_heads": s.num_attention_heads,
        "num_key_value_heads": s.num_key_value_heads, "max_position_embeddings": s.max_position_embeddings,
        "rope_theta": s.rope_theta,
    }  # fmt: skip
    if s.experts:
        return Mixtral(**config, num_local_experts=s.experts, num_experts_per_tok=s.chosen)
    return Llama(**config)


def decayed_apart(model: Llama, weight_decay: float) -> list[dict]:
    """Two groups for AdamW: matrices, which decay, and the norms' scales, which don't."""
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.ndim == 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


def summed_loss(model: Llama, x: np.ndarray, y: np.ndarray, balance: float = 0.0) -> tuple[Tensor, float]:
    """(sum of the cross-entropies, how many), as ShardedLoss wants it; with the balancing loss, once for each target.

    Shapes: x, y (B, T)
    """
    logits = model(x)
    loss = cross_entropy(logits.reshape(y.size, -1), y.reshape(-1), reduction="sum")
    if balance and isinstance(model, Mixtral):
        loss = loss + model.balance() * (balance * y.size)
    return loss, y.size


def train(settings: Settings, run: Run, make: Callable[[Settings, int], Llama] = build) -> None:
    """The whole run, from the data to the report; `make` lets `ablations.py` put another model in its place."""
    manual_seed(settings.seed)
    task = load_task(settings)
    V = len(task.tokenizer)

    model = make(settings, V)
    optimizer = AdamW(decayed_apart(model, settings.weight_decay), betas=(0.9, settings.beta2))
    warmup = min(settings.warmup, settings.steps // 2)
    schedule = cosine(settings.lr, settings.steps, warmup=warmup, final=settings.final_lr)
    batches = TextWindows(task.train, settings.max_position_embeddings, settings.batch_size, settings.seed)
    loss_of = ShardedLoss(model, lambda m, x, y: summed_loss(m, x, y, settings.balance), settings.shards)
    surprise_of = ShardedLoss(model, summed_loss, settings.shards)  # the cross-entropy alone

    run.track(model=model, optimizer=optimizer, batches=batches)
    run.introduce(f"{settings.data}: {task}", model, first_loss=(f"ln {V}", math.log(V)))

    for step in run.steps(settings.steps, settings.save_every):
        x, y = next(batches)
        loss = loss_of(x, y)
        run.require_finite(loss, model, x)

        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), settings.clip)
        optimizer.lr = schedule(step)
        optimizer.step()

        run.log(step, loss=loss.item(), lr=optimizer.lr)
        if (step + 1) % settings.evaluate_every == 0 or step + 1 == settings.steps:
            run.evaluated(step, model, evaluate(model, surprise_of, task, task.validation))

    model.load_state_dict(run.best)  # the weights with the lowest validation loss; only now the test set is read
    results = report(model, surprise_of, task)
    drawn = pictures.draw_all(run.folder, run.history(), model, task)
    run.finish(results, drawn, then=f"scratch sample llama --run {typed(run.folder)}")


def load_task(settings: Settings) -> Text:
    """The text that the settings name."""
    return text(settings.data)


def evaluate(model: Llama, loss_of: ShardedLoss, task: Text, part: np.ndarray) -> float:
    """The mean cross-entropy over a part, in nats a character."""
    model.eval()
    with no_grad():
        size = model.max_position_embeddings
        losses = [(loss_of(x, y).item(), y.size) for x, y in task.pairs(part, size)]
    model.train()
    return sum(mean * n for mean, n in losses) / sum(n for _, n in losses)


def report(model: Llama, loss_of: ShardedLoss, task: Text) -> dict[str, float]:
    """The loss on the test part, or on the validation part where there is no other; how unevenly experts are used."""
    name, part = ("test loss", task.test) if len(task.test) else ("validation loss", task.validation)
    results = {name: evaluate(model, loss_of, task, part)}
    if isinstance(model, Mixtral):
        results["busiest expert's load"] = float(usage(model, task.validation).max() * model.num_local_experts)
    return results


if __name__ == "__main__":
    command.main("llama")

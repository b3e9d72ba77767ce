"""Train a GPT to continue a text, character by character, to sort digits or to add numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from scratch.data import Batches, TextWindows
from scratch.losses import cross_entropy
from scratch.models.gpt import pictures
from scratch.models.gpt.generate import generate
from scratch.models.gpt.model import GPT
from scratch.models.gpt.tasks import IGNORED, TASKS, Questions, Text
from scratch.module import evaluating
from scratch.optim import AdamW, clip_grad_norm_, weight_decay_groups
from scratch.parallel import ShardedLoss
from scratch.random import manual_seed, stream
from scratch.schedules import cosine
from scratch.tensor import Tensor
from scratch.training import Run, command, standard_error
from scratch.training.progress import typed


@dataclass
class Settings:
    """What the run depends on; `scratch train gpt --FIELD VALUE` changes a field."""

    data: Literal["shakespeare", "tiny_shakespeare", "sort", "add", "repeat"] = "shakespeare"
    """Text (the plays are bundled; tiny_shakespeare is downloaded), or generated questions: tasks.py."""
    num_layers: int = 4
    """Blocks."""
    num_heads: int = 4
    """Attention heads of each block."""
    embed_dim: int = 96
    """Embedding dimension, a multiple of num_heads."""
    context_length: int = 64
    """Tokens that the model sees at a time."""
    dropout: float = 0.0
    """Dropout probability of embeddings, attention weights and sublayer outputs."""
    bias: bool = False
    """Whether linear layers and norms have biases."""
    steps: int = 2000
    """Updates of the weights."""
    batch_size: int = 16
    """Sequences per step."""
    lr: float = 2e-3
    """Highest learning rate, reached after the warm-up."""
    final_lr: float = 1e-4
    """Learning rate at the end of the cosine decay."""
    warmup_steps: int = 100
    """Steps in which the learning rate rises linearly from 0; at most half of all steps."""
    beta2: float = 0.99
    """AdamW's decay rate for squared gradients."""
    weight_decay: float = 0.1
    """Weight decay of matrices; biases and norms have none."""
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
        for name in ("dropout", "beta2"):
            if not 0 <= getattr(self, name) <= 1 or (name == "beta2" and self.beta2 == 1):
                raise ValueError(f"{name} must be from 0 to {'below ' * (name == 'beta2')}1, got {getattr(self, name)}")
        if math.isinf(self.lr) or not self.final_lr <= self.lr:
            raise ValueError(f"lr must be a number of at least final_lr, got {self.lr} and {self.final_lr}")
        if self.embed_dim % self.num_heads:
            raise ValueError(f"embed_dim must be a multiple of num_heads, got {self.embed_dim} and {self.num_heads}")


LOWEST = {"num_layers": 1, "num_heads": 1, "embed_dim": 1, "context_length": 1, "steps": 1, "batch_size": 1,
          "eval_every": 1, "save_every": 1, "shards": 1, "lr": 0, "final_lr": 0, "warmup_steps": 0, "weight_decay": 0,
          "clip_norm": 0, "seed": 0}  # fmt: skip

PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "quick": {"num_layers": 3, "embed_dim": 64, "steps": 800, "batch_size": 12, "lr": 4e-3, "eval_every": 400},
    "tiny_shakespeare": {"data": "tiny_shakespeare", "embed_dim": 128, "batch_size": 12},
    "sort": {"data": "sort", "num_layers": 3, "embed_dim": 64, "context_length": 12, "batch_size": 64, "steps": 3000},
    "add": {"data": "add", "num_layers": 3, "embed_dim": 64, "context_length": 8, "batch_size": 128, "steps": 4000},
    "induction": {"data": "repeat", "num_layers": 2, "embed_dim": 64, "context_length": 32, "batch_size": 32,
                  "steps": 600, "lr": 3e-3, "final_lr": 3e-4},
}  # fmt: skip


def build(settings: Settings, vocab_size: int) -> GPT:
    """The model that the settings describe."""
    s = settings
    return GPT(vocab_size, s.context_length, s.embed_dim, s.num_layers, s.num_heads, dropout=s.dropout, bias=s.bias)


def summed_loss(model: GPT, x: np.ndarray, y: np.ndarray) -> tuple[Tensor, float]:
    """(sum of the cross-entropies, number of targets): ShardedLoss adds both over the shards.  Shapes: x, y (B, T)"""
    logits = model(x)  # (B, T, V)
    loss = cross_entropy(logits.reshape(y.size, -1), y.reshape(-1), ignore_index=IGNORED, reduction="sum")
    return loss, int((y != IGNORED).sum())


def train(settings: Settings, run: Run) -> None:
    """The whole run, from the data to the report."""
    manual_seed(settings.seed)
    task = load_task(settings)
    V = len(task.tokenizer)

    model = build(settings, V)
    optimizer = AdamW(weight_decay_groups(model, settings.weight_decay), betas=(0.9, settings.beta2))
    warmup_steps = min(settings.warmup_steps, settings.steps // 2)
    schedule = cosine(settings.lr, settings.steps, warmup=warmup_steps, final=settings.final_lr)
    batches = load_batches(settings, task)
    loss_of = ShardedLoss(model, summed_loss, settings.shards)

    run.track(model=model, optimizer=optimizer, batches=batches)
    run.introduce(f"{settings.data}: {task}", model, first_loss=(f"ln {V}", math.log(V)))

    for step in run.steps(settings.steps, settings.save_every):
        x, y = next(batches)
        with stream(settings.seed, step):  # the dropout noise depends on seed and step only
            loss = loss_of(x, y)
        run.require_finite(loss, model, x)

        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), settings.clip_norm)
        optimizer.lr = schedule(step)
        optimizer.step()

        run.log(step, loss=loss.item(), lr=optimizer.lr)
        if (step + 1) % settings.eval_every == 0 or step + 1 == settings.steps:
            run.evaluated(step, model, **evaluate(model, loss_of, task, task.validation))

    model.load_state_dict(run.best)  # lowest validation loss; the test set is used only now
    results = report(model, loss_of, task)
    drawn = pictures.draw_all(run.folder, run.history(), model, task)
    run.finish(results, drawn, then=f"scratch sample gpt --run {typed(run.folder)}")


def load_task(settings: Settings) -> Text | Questions:
    """The data that the settings name. Raises ValueError for questions longer than the context."""
    task = TASKS[settings.data]()
    if isinstance(task, Questions) and task.train.shape[1] - 1 > settings.context_length:
        longest = task.train.shape[1] - 1
        got = settings.context_length
        raise ValueError(f"context_length must be at least {longest} for {settings.data}, got {got}")
    return task


def load_batches(settings: Settings, task: Text | Questions) -> TextWindows | Batches:
    """Random windows of the text, or questions in random order."""
    if isinstance(task, Text):
        return TextWindows(task.train, settings.context_length, settings.batch_size, settings.seed)
    return Batches(*task.shifted(task.train), batch_size=settings.batch_size, seed=settings.seed)


def evaluate(model: GPT, loss_of: ShardedLoss, task: Text | Questions, part: np.ndarray) -> dict[str, float]:
    """{'loss': mean cross-entropy per target, in nats} and, for questions, the share of exact matches."""
    with evaluating(model):
        losses = [(loss_of(x, y).item(), int((y != IGNORED).sum())) for x, y in task.pairs(part, model.context_length)]
    figures = {"loss": sum(mean * n for mean, n in losses) / sum(n for _, n in losses)}
    return figures if isinstance(task, Text) else figures | {"exact_match": exact_match(model, task, part)}


def exact_match(model: GPT, task: Questions, rows: np.ndarray, batch_size: int = 500) -> float:
    """The share of questions whose greedy answer is right in every character."""
    right = 0
    for i in range(0, len(rows), batch_size):
        part, n = rows[i : i + batch_size], rows.shape[1] - task.given
        answers = np.stack(generate(model, part[:, : task.given], n, temperature=0))
        right += int((answers == part).all(axis=1).sum())
    return right / len(rows)


def report(model: GPT, loss_of: ShardedLoss, task: Text | Questions) -> dict[str, float]:
    """Metrics on the test set, or on the validation set where there is no test set."""
    if not len(task.test):
        return {"validation loss": evaluate(model, loss_of, task, task.validation)["loss"]}
    figures = evaluate(model, loss_of, task, task.test)
    results = {"test loss": figures["loss"]}
    if isinstance(task, Questions):
        share = figures["exact_match"]
        results |= {"test exact match": share, "standard error": standard_error(share, len(task.test))}
    return results


if __name__ == "__main__":
    command.main("gpt")
